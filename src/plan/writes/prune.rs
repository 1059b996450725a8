//! Pruning. Stored revisions are kept by `revisionHistoryLimit`, records by age, and requests for a
//! day after they were answered. An object is deleted only after it was unneeded for a grace
//! period, counted from the time at which that was first observed: during a restore, the object
//! that needs it may appear later.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::{
    api::{ModelRolloutSpec, condition::find_true_condition, names},
    plan::{
        action::{Action, Prunable, requeue_sooner},
        facts::history::{History, lifts_rejections, rejection_covers},
        observed::{Memory, Observed, Record, Request},
    },
};

/// Seconds for which an answered request is kept.
const REQUEST_SECONDS: i64 = 24 * 3600;
/// Days for which records are kept by default.
const RECORD_DAYS: i64 = 400;
/// Seconds for which an unneeded object is kept.
const GRACE_SECONDS: i64 = 3600;
/// Maximum number of deletions in one plan, so that a long downtime does not end in a burst.
const AT_ONCE: usize = 8;

/// Deletions that are due, and objects that are deleted later.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The deletions that are due now.
    pub deletions: Vec<Action>,
    /// Names of all unneeded objects, whether or not their deletion is due.
    pub unneeded: Vec<String>,
    /// Seconds until the next deletion may be due.
    pub requeue_after: Option<i64>,
}

impl Pruned {
    fn requeue_in(&mut self, seconds: i64) {
        self.requeue_after = requeue_sooner(self.requeue_after, seconds);
    }

    /// Deletes an unneeded object once its grace period is over.
    fn prune_after_grace(&mut self, memory: &Memory, now: Timestamp, deletion: Action) {
        let Action::Delete { name, .. } = &deletion else { return };
        self.unneeded.push(name.clone());
        let grace = memory.prune_grace_seconds.unwrap_or(GRACE_SECONDS);
        let since = memory.unneeded_since.get(name).copied().unwrap_or(now);
        let left = since.as_second() + grace - now.as_second();
        if left <= 0 {
            self.deletions.push(deletion);
        } else {
            self.requeue_in(left);
        }
    }

    fn limit_deletions(mut self) -> Self {
        if self.deletions.len() > AT_ONCE {
            self.deletions.truncate(AT_ONCE);
            self.requeue_after = Some(1);
        }
        self
    }
}

/// Prunes the objects that one ModelDeployment no longer needs.
#[must_use]
pub fn prune_unneeded(
    observed: &Observed,
    history: &History,
    limit: usize,
    now: Timestamp,
) -> Pruned {
    let mut pruned = Pruned::default();
    prune_requests(observed, now, &mut pruned);
    let kept = find_kept_revisions(history, limit);
    for record in find_old_records(observed, history, &kept, now) {
        pruned.prune_after_grace(&observed.memory, now, build_record_deletion(observed, record));
    }
    prune_revisions(observed, |name| kept.contains(name), now, &mut pruned);
    pruned.limit_deletions()
}

/// Prunes the objects of a deleted ModelDeployment: records by age alone, stored revisions with the
/// last record that names them.
#[must_use]
pub fn prune_deleted(observed: &Observed, now: Timestamp) -> Pruned {
    let mut pruned = Pruned::default();
    let horizon = now.as_second() - retention_days(&observed.memory) * 24 * 3600;
    let mut named = HashSet::new();
    for record in &observed.records {
        if record.spec.start_time.0.as_second() < horizon {
            pruned.prune_after_grace(
                &observed.memory,
                now,
                build_record_deletion(observed, record),
            );
        } else {
            named.insert(record.spec.revision_name.as_str());
        }
    }
    prune_revisions(observed, |name| named.contains(name), now, &mut pruned);
    prune_requests(observed, now, &mut pruned);
    pruned.limit_deletions()
}

fn prune_revisions(
    observed: &Observed,
    is_kept: impl Fn(&str) -> bool,
    now: Timestamp,
    pruned: &mut Pruned,
) {
    for stored in observed.revisions.iter().filter(|c| !is_kept(&c.name)) {
        let kind = Prunable::ControllerRevision;
        let deletion = build_deletion(kind, &stored.name, &stored.uid, &stored.resource_version);
        pruned.prune_after_grace(&observed.memory, now, deletion);
    }
}

fn prune_requests(observed: &Observed, now: Timestamp, pruned: &mut Pruned) {
    for request in &observed.requests {
        let Some(left) = seconds_left_of_request(request, now) else { continue };
        if left <= 0 {
            let kind = Prunable::RolloutRequest;
            let (name, uid) = (&request.name, &request.uid);
            pruned.deletions.push(build_deletion(kind, name, uid, &request.resource_version));
        } else {
            pruned.requeue_in(left);
        }
    }
}

fn build_deletion(kind: Prunable, name: &str, uid: &str, resource_version: &str) -> Action {
    let (name, uid) = (name.to_owned(), uid.to_owned());
    Action::Delete { kind, name, uid, resource_version: resource_version.to_owned() }
}

fn build_record_deletion(observed: &Observed, record: &Record) -> Action {
    let name = names::record_name(&observed.name, record.spec.number);
    build_deletion(Prunable::ModelRollout, &name, &record.uid, &record.resource_version)
}

/// Returns the seconds until an answered request is deleted; None if it was not answered.
fn seconds_left_of_request(request: &Request, now: Timestamp) -> Option<i64> {
    let status = request.status.as_ref()?;
    let answered = find_true_condition(&status.conditions, "Handled")?.last_transition_time.0;
    Some(answered.as_second() + REQUEST_SECONDS - now.as_second())
}

/// Finds the stored revisions that are kept: those of the serving, the newest and the open records,
/// of those that go back from what serves, of the newest `limit` distinct contents that were
/// promoted, and of as many distinct promoted revisions, so that commits which only change labels
/// do not displace any content.
fn find_kept_revisions(history: &History, limit: usize) -> HashSet<String> {
    let standing = [history.serving(), history.newest(), history.in_progress()];
    let mut kept: HashSet<String> =
        standing.into_iter().flatten().map(|r| r.revision_name.clone()).collect();
    let back = history.list_since_serving().filter(|r| r.goes_back());
    kept.extend(back.map(|r| r.revision_name.clone()));
    let (mut contents, mut revisions) = (HashSet::new(), HashSet::new());
    for record in history.records().rev().filter(|r| r.is_promoted()) {
        // The newest of each is the serving one, and does not count against the possible rollback
        // targets.
        let new_content = !contents.contains(&record.content_hash) && contents.len() <= limit;
        let new_revision = !revisions.contains(&record.revision_name) && revisions.len() <= limit;
        if new_content || new_revision {
            kept.insert(record.revision_name.clone());
        }
        if new_content {
            contents.insert(record.content_hash.clone());
        }
        if new_revision {
            revisions.insert(record.revision_name.clone());
        }
    }
    kept
}

/// Finds the records past their age that nothing needs: not the newest, the serving or an open one,
/// nor one whose revision is kept, that carries a standing rejection or pause, or that the newest
/// one depends on.
fn find_old_records<'a>(
    observed: &'a Observed,
    history: &History,
    kept: &HashSet<String>,
    now: Timestamp,
) -> Vec<&'a Record> {
    let horizon = now.as_second() - retention_days(&observed.memory) * 24 * 3600;
    let is_old = |r: &&Record| r.spec.start_time.0.as_second() < horizon;
    if !observed.records.iter().any(|r| is_old(&r)) {
        return Vec::new();
    }
    let mut needed = history.needed_foundations();
    needed.extend(history.find_foundations());
    needed.insert(history.latest_number());
    let is_needed = |r: &Record| {
        needed.contains(&r.spec.number)
            || r.spec.is_open()
            || kept.contains(&r.spec.revision_name)
            || clears_kept_rejection(history, &r.spec)
    };
    observed.records.iter().filter(is_old).filter(|r| !is_needed(r)).collect()
}

/// True if a rollout still matters, because an older rejection that it lifts is still recorded.
fn clears_kept_rejection(history: &History, record: &ModelRolloutSpec) -> bool {
    let covered = |r: &ModelRolloutSpec| {
        let rejects = r.rejects.as_ref();
        r.number < record.number && rejects.is_some_and(|x| rejection_covers(x, record))
    };
    lifts_rejections(record) && history.records().any(covered)
}

fn retention_days(memory: &Memory) -> i64 {
    if memory.record_retention_days > 0 { memory.record_retention_days } else { RECORD_DAYS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::rollout::Direction,
        plan::arbitrary::{observed, promoted, record},
    };

    #[test]
    fn the_revision_that_is_gone_back_to_is_kept_until_that_is_complete() {
        let served = ["5", "6", "7"].into_iter().zip(1..).map(|(v, n)| promoted(n, v));
        let back = ModelRolloutSpec { direction: Direction::Back, ..record(4, "5") };
        let keeps = |open: ModelRolloutSpec, limit| {
            let records = served.clone().chain([open, record(5, "8")]).collect();
            let history = History::new(&observed("8", records), "fraud");
            find_kept_revisions(&history, limit).contains("fraud-5")
        };
        assert!(keeps(back.clone(), 1), "a failure of version 8 goes back to it");
        assert!(keeps(record(4, "6"), 2), "it is within the limit");
        assert!(!keeps(record(4, "6"), 1));
        assert!(!keeps(record(4, "5"), 1), "nobody went back to it");
    }
}
