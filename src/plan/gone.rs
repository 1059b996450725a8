//! A name without a ModelDeployment: its records end, its requests are refused, and what it leaves
//! is kept by age.

use jiff::Timestamp;

use super::{
    action::{Action, Plan},
    converge,
    decide::Ending,
    history::History,
    keep,
    observed::Observed,
    request,
};
use crate::api::{condition::Time, request::RequestResult, rollout::Outcome};

/// What is to be done about a ModelDeployment that is gone, or was never there.
#[must_use]
pub fn plan(seen: &Observed, now: Timestamp) -> Plan {
    let mut actions = end(seen, None, now);
    for asked in request::unanswered(&seen.requests) {
        let message = format!(
            "There is no ModelDeployment {} in namespace {}: ask again with a name that `kubectl get mdep` lists.",
            seen.name, seen.namespace
        );
        let status = request::status(asked, RequestResult::Refused, &message, None, now);
        actions.push(Action::AnswerRequest { name: asked.name.clone(), status: Box::new(status) });
    }
    actions.extend(keep::prune_gone(seen, now));
    let why = format!("There is no ModelDeployment {}.", seen.name);
    let requeue_after_seconds = (!actions.is_empty()).then_some(0);
    Plan { actions, requeue_after_seconds, why, ..Plan::default() }
}

/// The writes that end the open record and the serving one, but for those of the ModelDeployment
/// with the uid `but`.
#[must_use]
pub fn end(seen: &Observed, but: Option<&str>, now: Timestamp) -> Vec<Action> {
    let mut history = History::of(seen);
    let (open, serving) = (history.open().cloned(), history.serving().cloned());
    for record in open
        .iter()
        .chain(&serving)
        .filter(|r| but.is_none() || r.model_deployment_ref.uid.as_deref() != but)
    {
        let outcome = record.outcome.is_none().then_some(Outcome::Superseded);
        let message = "Its ModelDeployment was deleted.".to_owned();
        let ending = Ending {
            outcome,
            at: Time(now),
            message,
            serves: false,
            available: false,
            images: Vec::new(),
            until: true,
        };
        history.end(record.number, ending);
    }
    converge::amendments(seen, &history)
}
