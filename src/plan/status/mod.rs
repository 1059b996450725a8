//! Status: one state word, one sentence, and conditions that tell tools the truth. The table of
//! states in README.md as code.
//!
//! | to change | open |
//! |---|---|
//! | the state word and its sentence | [`phase`] |
//! | the sentence where no rollout is in progress | [`settled`] |
//! | what a state consists of | [`state`] |
//! | the conditions | [`conditions`] |

mod conditions;
mod phase;
mod settled;
mod state;

use self::{phase::find_phase, state::Phase};
use super::{
    action::Waiting,
    decide::{Decided, requests::describe_decision},
    facts::{Facts, health, history::History, track::TrackFacts},
    observed::{Deployment, RefusedWrite},
    writes::Outgoing,
};
use crate::api::{
    ModelDeploymentStatus, ModelRolloutSpec,
    condition::{MESSAGE_MAX, Time, truncate_text},
    deployment::{Desired, HistoryEntry, Hold, Rejected, RevisionStatus},
    names,
    rollout::StrategyKind,
};

/// The number of rollouts that the status shows.
const HISTORY: usize = 5;
/// Seconds between two writes of counters alone.
const COUNTER_SECONDS: i64 = 30;
/// The same while a rollout is in progress: they change with every pod, and the Deployment shows
/// them.
const ROLLING_COUNTER_SECONDS: i64 = 120;

/// The status to write, if it differs from what is written, and what is waited for.
#[must_use]
pub fn write_status(
    facts: &Facts<'_>,
    decided: &Decided,
    history: &History,
    refused: &[&RefusedWrite],
    out: &mut Outgoing,
) -> (Option<ModelDeploymentStatus>, Waiting) {
    let hold = find_hold(facts, decided, history);
    let view = View { facts, decided, history, refused, hold: hold.as_ref() };
    let phase = find_phase(&view, out.revision_lost);
    phase::tell_refused(&view, out);
    let old = facts.wanted.status.clone().unwrap_or_default();
    let conditions = conditions::build_conditions(&view, &phase, &old.conditions, out);
    let new = build_status(&view, &phase, conditions);
    let waiting = phase.into_waiting();
    if new == old {
        return (None, waiting);
    }
    if without_counters(&new) == without_counters(&old)
        && let Some(written) = facts.observed.memory.status_written
    {
        let interval = match history.in_progress() {
            Some(_) => ROLLING_COUNTER_SECONDS,
            None => COUNTER_SECONDS,
        };
        let left = written.as_second() + interval - facts.now.as_second();
        if left > 0 {
            out.requeue_in(left);
            return (None, waiting);
        }
    }
    (Some(new), waiting)
}

/// Everything that a status is made of.
struct View<'a> {
    facts: &'a Facts<'a>,
    decided: &'a Decided,
    /// The history with the decision of this pass.
    history: &'a History,
    refused: &'a [&'a RefusedWrite],
    hold: Option<&'a Hold>,
}

impl<'a> View<'a> {
    /// The Deployment of a rollout, where it carries the newest decision on it, that of this pass
    /// included.
    fn find_carried_out(&self, record: &ModelRolloutSpec) -> Option<&'a Deployment> {
        self.facts.deployment_if_up_to_date(record, self.history)
    }
}

/// A status without the numbers that change with every pod.
fn without_counters(status: &ModelDeploymentStatus) -> ModelDeploymentStatus {
    let still = |r: &RevisionStatus| RevisionStatus { replicas: 0, ready: 0, ..r.clone() };
    ModelDeploymentStatus {
        replicas: 0,
        serving: status.serving.as_ref().map(still),
        candidate: status.candidate.as_ref().map(still),
        ..status.clone()
    }
}

/// The rejection that covers what the spec names, if what serves is something else.
fn find_hold(facts: &Facts<'_>, decided: &Decided, history: &History) -> Option<Hold> {
    let desired = facts.desired.as_ref().ok()?;
    if history.newest().is_some_and(|r| r.revision_hash == desired.revision_hash) {
        return None;
    }
    let (rejection, by) = history.find_rejection(desired)?;
    let rejected = history.get(rejection.rollout);
    let old = facts.wanted.status.as_ref().and_then(|s| s.hold.as_ref());
    // The words of a container are in no record: they are kept from the status that first had them.
    let quoted = decided.failure.as_ref().map(health::Failure::to_sentence).or_else(|| {
        let same = old.filter(|h| h.rejected.rollout == rejection.rollout && h.at == by.start_time);
        same.and_then(|h| h.reason.clone())
    });
    let reason = quoted.or_else(|| by.decided_by.reason.clone());
    Some(Hold {
        rejected: Rejected {
            version: rejected.map(|r| r.version.clone()),
            record_digest: rejected.map(|r| r.record_digest.clone()),
            revision_hash: rejected.map(|r| names::short_hash(&r.revision_hash).to_owned()),
            rollout: rejection.rollout,
        },
        scope: rejection.scope,
        trigger: by.trigger,
        reason: reason.map(|r| truncate_text(&r, MESSAGE_MAX)),
        decided_by: by.decided_by.name.clone(),
        at: by.start_time.clone(),
    })
}

fn build_status(
    view: &View<'_>,
    phase: &Phase,
    conditions: Vec<crate::api::condition::Condition>,
) -> ModelDeploymentStatus {
    let (facts, history) = (view.facts, view.history);
    let open = history.in_progress();
    let latest = history.all_records().last().map(|r| r.spec.number);
    ModelDeploymentStatus {
        observed_generation: Some(facts.wanted.generation),
        state: Some(phase.state),
        message: Some(truncate_text(&phase.message, MESSAGE_MAX)),
        replicas: facts.deployment().map_or(0, |live| live.status.replicas),
        selector: Some(format!(
            "{}={},{}={}",
            names::MODEL_DEPLOYMENT,
            facts.observed.name,
            names::TRACK,
            names::TRACK_MAIN
        )),
        conditions,
        strategy: Some(StrategyKind::RollingUpdate),
        rollout: facts.missing.map(|label| label.rollout).or(latest),
        decision: Some(describe_decision(history, facts.missing)),
        desired: facts.desired.as_ref().ok().map(|d| Desired {
            version: d.version.clone(),
            record_digest: d.record_digest.clone(),
            revision_hash: names::short_hash(&d.revision_hash).into(),
        }),
        serving: history
            .serving()
            .map(|r| describe_revision(facts, r, r.served_from.as_ref(), open.is_some())),
        candidate: open.map(|r| describe_revision(facts, r, Some(&r.start_time), false)),
        hold: view.hold.cloned(),
        history: history.records().rev().take(HISTORY).map(describe_entry).collect(),
    }
}

fn describe_revision(
    facts: &Facts<'_>,
    record: &ModelRolloutSpec,
    since: Option<&Time>,
    is_replaced: bool,
) -> RevisionStatus {
    let ready = health::pods_of(facts.observed, record).filter(|p| p.ready && !p.deleting).count();
    let track = facts.find_track(&record.deployment_name).and_then(TrackFacts::deployment);
    let status = track.map(|live| live.status.clone()).unwrap_or_default();
    let replicas = if is_replaced {
        status.replicas - status.updated_replicas
    } else {
        status.updated_replicas
    };
    RevisionStatus {
        version: record.version.clone(),
        record_digest: record.record_digest.clone(),
        revision_hash: names::short_hash(&record.revision_hash).into(),
        rollout: record.number,
        deployment: record.deployment_name.clone(),
        replicas: replicas.max(0),
        ready: i32::try_from(ready).unwrap_or(i32::MAX),
        since: since.cloned().unwrap_or(Time(facts.now)),
    }
}

fn describe_entry(record: &ModelRolloutSpec) -> HistoryEntry {
    HistoryEntry {
        rollout: record.number,
        version: record.version.clone(),
        previous_rollout: record.previous_rollout,
        trigger: record.trigger,
        outcome: record.outcome,
        start_time: record.start_time.clone(),
        end_time: record.end_time.clone(),
    }
}
