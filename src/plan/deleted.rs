//! A name without a ModelDeployment: its open records end, its requests are refused, and its
//! objects are kept by age.

use jiff::Timestamp;

use super::{
    action::{Action, Plan, Waiting},
    decide::requests,
    facts::history::{Ending, History},
    observed::{Observed, ObservedModelDeployment, Record},
    writes::{amend_records, prune},
};
use crate::api::{ModelRolloutSpec, names, request::RequestResult, rollout::Outcome};

/// The plan for a ModelDeployment that is deleted, or was never there.
#[must_use]
pub fn plan_deleted(observed: &Observed, now: Timestamp) -> Plan {
    // A Deployment without an owner that carries a decision continues to serve: a restore is in
    // progress, or it was orphaned. No rollout has ended.
    let serves_on = observed.tracks.values().any(|deployment| {
        let meta = &deployment.meta;
        meta.controller.is_none() && meta.labels.contains_key(names::DECISION)
    });
    // While it is being deleted, nobody knows whether its Deployment will be orphaned.
    let is_leaving = observed.model_deployment.is_some();
    let mut actions =
        if serves_on || is_leaving { Vec::new() } else { close_records(observed, None, now) };
    for asked in requests::sort_unanswered(&observed.requests) {
        let message = format!(
            "There is no ModelDeployment {} in namespace {}: ask again with a name that `kubectl \
             get mdep` lists.",
            observed.name, observed.namespace
        );
        let status = requests::make_status(asked, RequestResult::Refused, &message, None, now);
        let (name, status) = (asked.name.clone(), Box::new(status));
        actions.push(Action::AnswerRequest { name, status });
    }
    let pruned = prune::prune_deleted(observed, now);
    let waits = pruned.requeue_after;
    actions.extend(pruned.deletions);
    let sentence = format!("There is no ModelDeployment {}.", observed.name);
    let waiting = Waiting { sentence, ..Waiting::default() };
    let requeue_after_seconds = if actions.is_empty() { waits } else { Some(0) };
    Plan { actions, requeue_after_seconds, unneeded: pruned.unneeded, waiting, ..Plan::default() }
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
    let mut history = History::new(observed, model);
    let standing = [history.in_progress().cloned(), history.serving().cloned()];
    let other =
        |r: &ModelRolloutSpec| except.is_none() || r.model_deployment_ref.uid.as_deref() != except;
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
