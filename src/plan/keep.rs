//! What is kept: contents by `revisionHistoryLimit`, records by age, requests for a day after they
//! were answered.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{
    action::{Action, Prunable},
    history::{History, covers},
    observed::{Memory, Observed, Record},
    request,
};
use crate::api::{condition::holds, rollout::Outcome};

/// How long an answered request is kept.
const REQUEST_SECONDS: i64 = 24 * 3600;
/// How long records are kept when nothing says otherwise.
const RECORD_DAYS: i64 = 400;
/// The most deletions of one plan, so that a long absence does not end in a storm.
const AT_ONCE: usize = 8;

/// What may be deleted now, and in how many seconds the next thing may be.
#[must_use]
pub fn prune(
    seen: &Observed,
    history: &History,
    limit: usize,
    now: Timestamp,
) -> (Vec<Action>, Option<i64>) {
    let mut due = Vec::new();
    let mut next: Option<i64> = None;
    for request in &seen.requests {
        let Some(left) = request_seconds_left(request, now) else { continue };
        if left <= 0 {
            due.push(delete(
                Prunable::RolloutRequest,
                &request.name,
                &request.uid,
                &request.resource_version,
            ));
        } else {
            next = Some(next.map_or(left, |n| n.min(left)));
        }
    }
    let kept = kept_contents(history, limit);
    let old = old_records(seen, history, &kept, now);
    for record in &old {
        let name = crate::api::names::record_name(&seen.name, record.spec.number);
        due.push(delete(Prunable::ModelRollout, &name, &record.uid, &record.resource_version));
    }
    for content in seen.contents.iter().filter(|c| !kept.contains(c.name.as_str())) {
        due.push(delete(
            Prunable::ControllerRevision,
            &content.name,
            &content.uid,
            &content.resource_version,
        ));
    }
    if due.len() > AT_ONCE {
        due.truncate(AT_ONCE);
        next = Some(1);
    }
    (due, next)
}

fn delete(kind: Prunable, name: &str, uid: &str, resource_version: &str) -> Action {
    Action::Delete {
        kind,
        name: name.into(),
        uid: uid.into(),
        resource_version: resource_version.into(),
    }
}

/// Seconds until an answered request may go; None for one that was not answered.
fn request_seconds_left(request: &super::observed::Request, now: Timestamp) -> Option<i64> {
    let status = request.status.as_ref()?;
    let answered = holds(&status.conditions, "Handled")?.last_transition_time.0;
    Some(answered.as_second() + REQUEST_SECONDS - now.as_second())
}

/// The contents of the serving, the newest and the open records, and of the newest `limit` distinct
/// promoted ones.
fn kept_contents(history: &History, limit: usize) -> HashSet<String> {
    let standing = [history.serving(), history.newest(), history.open()];
    let mut kept: HashSet<String> =
        standing.into_iter().flatten().map(|r| r.revision_name.clone()).collect();
    let mut promoted = HashSet::new();
    for record in history
        .records()
        .iter()
        .rev()
        .map(|r| &r.spec)
        .filter(|r| r.outcome == Some(Outcome::Promoted))
    {
        // The newest promoted one serves, and does not count against what can be gone back to.
        if promoted.len() <= limit || promoted.contains(&record.revision_name) {
            promoted.insert(record.revision_name.clone());
        }
    }
    kept.extend(promoted);
    kept
}

/// Records past their age that nothing needs: not the newest, the serving or an open one, not one
/// whose content is kept, none that carries a standing rejection or pause.
fn old_records<'a>(
    seen: &'a Observed,
    history: &History,
    kept: &HashSet<String>,
    now: Timestamp,
) -> Vec<&'a Record> {
    let horizon = now.as_second() - retention_days(&seen.memory) * 24 * 3600;
    let standing: HashSet<i64> =
        history.rejections().into_iter().map(|(_, by)| by.number).collect();
    let paused = history
        .records()
        .iter()
        .rev()
        .find(|r| !r.spec.decisions.is_empty())
        .map(|r| r.spec.number);
    let newest = history.number();
    let serving = history.served_last().map(|r| r.number);
    let needed = |r: &Record| {
        let n = r.spec.number;
        n == newest
            || Some(n) == serving
            || Some(n) == paused
            || r.spec.outcome.is_none()
            || kept.contains(&r.spec.revision_name)
            || standing.contains(&n)
    };
    let mut old: Vec<&Record> = seen
        .records
        .iter()
        .filter(|r| r.spec.start_time.0.as_second() < horizon && !needed(r))
        .collect();
    old.retain(|r| !clears(history, &r.spec));
    old
}

/// A Retry whose clearing still matters: an older rejection that it covers is still recorded.
fn clears(history: &History, record: &crate::api::ModelRolloutSpec) -> bool {
    record.trigger == crate::api::rollout::Trigger::Retry
        && history.records().iter().any(|r| {
            r.spec.number < record.number
                && r.spec.rejects.as_ref().is_some_and(|x| covers(x, record))
        })
}

fn retention_days(memory: &Memory) -> i64 {
    if memory.record_retention_days > 0 { memory.record_retention_days } else { RECORD_DAYS }
}

/// What a name without a ModelDeployment leaves: records by age alone, contents with the last
/// record that names them.
#[must_use]
pub fn prune_gone(seen: &Observed, now: Timestamp) -> Vec<Action> {
    let horizon = now.as_second() - retention_days(&seen.memory) * 24 * 3600;
    let mut due = Vec::new();
    let mut left = HashSet::new();
    for record in &seen.records {
        if record.spec.start_time.0.as_second() < horizon {
            let name = crate::api::names::record_name(&seen.name, record.spec.number);
            due.push(delete(Prunable::ModelRollout, &name, &record.uid, &record.resource_version));
        } else {
            left.insert(record.spec.revision_name.as_str());
        }
    }
    for content in seen.contents.iter().filter(|c| !left.contains(c.name.as_str())) {
        due.push(delete(
            Prunable::ControllerRevision,
            &content.name,
            &content.uid,
            &content.resource_version,
        ));
    }
    for request in &seen.requests {
        if request_seconds_left(request, now).is_some_and(|left| left <= 0) {
            due.push(delete(
                Prunable::RolloutRequest,
                &request.name,
                &request.uid,
                &request.resource_version,
            ));
        }
    }
    due.truncate(AT_ONCE);
    due
}

/// Whether anything is waiting for an answer.
#[must_use]
pub fn asks(seen: &Observed) -> bool {
    !request::unanswered(&seen.requests).is_empty()
}
