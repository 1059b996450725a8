//! A name without a ModelDeployment: its records end, its requests are refused, and what it leaves is kept by age.

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
use crate::api::{
    condition::Time,
    names,
    request::RequestResult,
    rollout::Outcome,
};

/// What is to be done about a ModelDeployment that is gone, or was never there.
#[must_use]
pub fn plan(seen: &Observed, now: Timestamp) -> Plan {
    let mut actions = end(seen, now);
    for asked in request::unanswered(&seen.requests) {
        let message = format!("There is no ModelDeployment {} in namespace {}.", seen.name, seen.namespace);
        let status = request::status(asked, RequestResult::Refused, &message, None, now);
        actions.push(Action::AnswerRequest { name: asked.name.clone(), status: Box::new(status) });
    }
    actions.extend(keep::prune_gone(seen, now));
    let why = format!("There is no ModelDeployment {}.", seen.name);
    Plan { actions, why, ..Plan::default() }
}

/// The writes that end the open record and the serving one.
fn end(seen: &Observed, now: Timestamp) -> Vec<Action> {
    let mut history = History::of(seen);
    end_by_deletion(&mut history, now);
    let before = |uid: &str| seen.records.iter().find(|r| r.uid == uid);
    history
        .records()
        .iter()
        .filter_map(|record| {
            let ops = converge::amend(record, &before(&record.uid)?.spec)?;
            Some(Action::AmendRecord { name: names::record_name(&seen.name, record.spec.number), ops })
        })
        .collect()
}

/// Writes into the history that the deletion of the ModelDeployment ended what went on and what served.
pub fn end_by_deletion(history: &mut History, now: Timestamp) {
    let open = history.open().map(|r| r.number);
    let serving = history.serving().map(|r| r.number);
    for number in open.into_iter().chain(serving) {
        let outcome = (Some(number) == open).then_some(Outcome::Superseded);
        let message = "Its ModelDeployment was deleted.".to_owned();
        history.end(number, Ending { outcome, at: Time(now), message, serves: false, available: false, images: Vec::new(), until: true });
    }
}
