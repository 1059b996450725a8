//! A name without a ModelDeployment: its open records end, its requests are refused, and its
//! objects are kept by age.

use jiff::Timestamp;

use super::{
    action::{Action, Plan, Waiting, requeue_sooner},
    decide::requests,
    facts::history::{Ending, History},
    observed::{Observed, ObservedModelDeployment, Record},
    writes::{amend_records, prune},
};
use crate::api::{
    ModelDeploymentStatus, ModelRolloutSpec, condition::build_condition, deployment::State, names,
    reason::Reason, request::RequestResult, rollout::Outcome,
};

/// The plan for a ModelDeployment that is deleted, or was never there.
#[must_use]
pub fn plan_deleted(observed: &Observed, now: Timestamp) -> Plan {
    // While it is being deleted, nobody knows whether its Deployment will be orphaned.
    let leaving = observed.model_deployment.as_ref();
    let mut actions = match leaving {
        Some(_) => Vec::new(),
        None => close_records(observed, None, now),
    };
    for asked in requests::sort_unanswered(&observed.requests) {
        let message = match leaving {
            Some(_) => describe_leaving(observed),
            None => format!(
                "There is no ModelDeployment {} in namespace {}: ask again with a name that \
                 `kubectl get mdep` lists.",
                observed.name, observed.namespace
            ),
        };
        let status = requests::make_status(asked, RequestResult::Refused, &message, None, now);
        let (name, status) = (asked.name.clone(), Box::new(status));
        actions.push(Action::AnswerRequest { name, status });
    }
    let pruned = prune::prune_deleted(observed, now);
    let restored = observed.records.iter().filter_map(|r| r.restore_seconds_left(now)).min();
    let waits = restored
        .map_or(pruned.requeue_after, |seconds| requeue_sooner(pruned.requeue_after, seconds));
    actions.extend(pruned.deletions);
    let status = leaving.and_then(|leaving| write_leaving_status(observed, leaving, now));
    let sentence = match leaving {
        Some(_) => describe_leaving(observed),
        None => format!("There is no ModelDeployment {}.", observed.name),
    };
    let waiting = Waiting { sentence, ..Waiting::default() };
    let requeue_after_seconds = if actions.is_empty() { waits } else { Some(0) };
    let unneeded = pruned.unneeded;
    Plan { actions, status, requeue_after_seconds, unneeded, waiting, ..Plan::default() }
}

fn describe_leaving(observed: &Observed) -> String {
    format!(
        "ModelDeployment {} is being deleted, and nothing is rolled out: its finalizers, or its \
         children, keep it until they are gone.",
        observed.name
    )
}

/// The status of a ModelDeployment that is being deleted, where it still says that it is ready. Its
/// pods may be gone at any moment, and nothing brings them back.
fn write_leaving_status(
    observed: &Observed,
    leaving: &ObservedModelDeployment,
    now: Timestamp,
) -> Option<ModelDeploymentStatus> {
    let old = leaving.status.as_ref()?;
    let message = describe_leaving(observed);
    let ready = build_condition(
        &old.conditions,
        "Ready",
        false,
        Reason::Deleting,
        &message,
        leaving.generation,
        now,
    );
    let new = ModelDeploymentStatus {
        state: Some(State::Waiting),
        message: Some(message),
        conditions: vec![ready],
        ..old.clone()
    };
    (new != *old).then_some(new)
}

/// True if a Deployment without an owner carries a decision about a model: it continues to serve,
/// because a restore is in progress, or because it was orphaned. No rollout has ended.
fn serves_without_owner(observed: &Observed, model: &str) -> bool {
    observed.tracks.values().any(|deployment| {
        let meta = &deployment.meta;
        let is_of_model = meta.labels.get(names::MODEL).is_none_or(|label| label == model);
        meta.controller.is_none() && meta.labels.contains_key(names::DECISION) && is_of_model
    })
}

/// The writes that end the open record and the serving one of each model, except those of the
/// ModelDeployment with the uid `except`.
#[must_use]
pub fn close_records(observed: &Observed, except: Option<&str>, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    for model in list_models(&observed.records) {
        actions.extend(close_records_of(observed, &model, except, now));
    }
    actions
}

/// The writes that end the records of models that the name was given to before: the model of a
/// ModelDeployment is immutable, so that one with another model was deleted.
#[must_use]
pub fn close_other_models(
    observed: &Observed,
    wanted: &ObservedModelDeployment,
    now: Timestamp,
) -> Vec<Action> {
    let others = list_models(&observed.records).into_iter().filter(|m| *m != wanted.spec.model);
    others.flat_map(|model| close_records_of(observed, &model, Some(&wanted.uid), now)).collect()
}

fn close_records_of(
    observed: &Observed,
    model: &str,
    except: Option<&str>,
    now: Timestamp,
) -> Vec<Action> {
    if serves_without_owner(observed, model) {
        return Vec::new();
    }
    let mut history = History::new(observed, model);
    let standing = [history.in_progress().cloned(), history.serving().cloned()];
    let other = |r: &ModelRolloutSpec| {
        let is_other = except.is_none() || r.model_deployment_ref.uid.as_deref() != except;
        is_other && !observed.is_being_restored(r, now)
    };
    for record in standing.into_iter().flatten().filter(other) {
        let message = "Its ModelDeployment was deleted.".to_owned();
        let mut ending = Ending::new(Outcome::Deleted, now, message);
        ending.outcome = ending.outcome.filter(|_| record.is_open());
        ending.until = true;
        history.record_outcome(record.number, ending);
    }
    amend_records(observed, &history)
}

/// Every model among records of one name: it may have been given to another model.
fn list_models(records: &[Record]) -> Vec<String> {
    let mut models: Vec<String> = records.iter().map(|r| r.spec.model.clone()).collect();
    models.sort();
    models.dedup();
    models
}
