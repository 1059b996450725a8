//! The planner: pure, synchronous and total. Nothing here is async, does I/O, reads a clock or
//! draws a random number.
//!
//! Read [`plan`] first. The stages, each a folder, in which arrows point down only:
//!
//! 1. [`observed`]: plain data, what the caches show of one ModelDeployment name.
//! 2. [`facts`]: everything that follows from it, before anything is decided; [`make`] renders the
//!    pod template of a revision.
//! 3. [`decide`]: at most one decision, as a value.
//! 4. [`strategy`]: how a rollout is carried out on its Deployment.
//! 5. [`writes`]: the actions.
//! 6. [`status`]: what people and tools read.
//!
//! | to change | open |
//! |---|---|
//! | what counts as a failure, as complete, and as the environment's trouble | [`facts::health`] |
//! | which versions may serve | [`facts::admit`] |
//! | what an artifact has to be before it is rendered | [`facts::delivery`] |
//! | where going back leads, what is rejected | [`facts::history`] |
//! | whose write that was | [`facts::attribution`] |
//! | a verb of a RolloutRequest | [`decide::requests`] |
//! | a verb of plain kubectl | [`decide::kubectl`] |
//! | what an open rollout is left for | [`decide::trouble`] |
//! | what a changed spec does | [`decide::spec`] |
//! | the order of decisions | [`decide`] |
//! | which Deployments there are, and when one is paused | [`strategy`] |
//! | the state word, its sentence, and the conditions | [`status`] |
//! | what makes a pod of a version | [`make`] |
//! | when an artifact is verified, and what follows | [`verify`] |
//! | what is kept | [`writes::prune`] |
//! | what happens after a deletion | [`deleted`] |
//! | what a refused write delays | [`refused_writes`] |
//! | a ModelRegistry's importer | [`registry`] |

pub mod action;
#[cfg(test)]
mod arbitrary;
pub mod decide;
pub mod deleted;
pub mod drift;
pub mod facts;
pub mod make;
pub mod observed;
pub mod patch;
pub mod redact;
pub mod refused_writes;
pub mod registry;
pub mod status;
pub mod strategy;
pub mod text;
pub mod verify;
pub mod version;
pub mod writes;

pub use action::{Action, Lookup, Plan, Prunable, Waiting};
pub use observed::Observed;

use std::{borrow::Cow, sync::Arc};

use crate::api::{ModelRolloutSpec, rollout::Trigger};
use decide::{
    Decided, Decision, decide,
    endings::{close_finished_rollouts, may_be_promoted},
};
use facts::{Facts, history::History};
use jiff::Timestamp;
use observed::{KnownRevision, ObservedModelDeployment, Record};
use refused_writes::{find_refused, is_amendment_refused};
use writes::{Outgoing, prune::prune_unneeded, write_children, write_records};

/// Plans for one ModelDeployment: a decision becomes a record, and all writes follow from the
/// records.
#[must_use]
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = match observed.model_deployment.as_ref().filter(|d| !d.deleting) {
        Some(wanted) => plan_existing(observed, wanted, now),
        None => deleted::plan_deleted(observed, now),
    };
    refused_writes::leave_out_refused(observed, &mut plan);
    plan
}

fn plan_existing(observed: &Observed, wanted: &ObservedModelDeployment, now: Timestamp) -> Plan {
    let facts = Facts::new(observed, wanted, now);
    if !facts.lookups.is_empty() {
        return look_up(facts.lookups);
    }
    // The records of the deleted ModelDeployment end first. The new spec is decided once that is
    // written.
    let endings = if facts.was_recreated() {
        deleted::close_records(observed, Some(&wanted.uid), now)
    } else {
        deleted::close_other_models(observed, wanted, now)
    };
    let unended = find_refused(observed, &endings);
    if !endings.is_empty() && unended.iter().all(|r| r.due) {
        return Plan {
            actions: endings,
            requeue_after_seconds: Some(0),
            waiting: Waiting::on_operator(
                "Ends the records of the ModelDeployment that was deleted.",
            ),
            ..Plan::default()
        };
    }
    let (decided, mut refused) = decide_recordable(&facts);
    if !decided.lookups.is_empty() {
        return look_up(decided.lookups);
    }
    let is_held_up = unended.iter().any(|r| r.deciding && !r.due);
    refused.extend(unended);
    if is_held_up {
        // The records of another ModelDeployment have to end before anything is decided.
        let undecided = Decided { problem: decided.problem, ..Decided::default() };
        return write_down(&facts, undecided, refused);
    }
    write_down(&facts, decided, refused)
}

/// The first decision that can be recorded. One whose record the API server refuses is not made, as
/// long as it is not tried again, and keeps nothing else from being decided.
fn decide_recordable<'a>(facts: &Facts<'a>) -> (Decided, Vec<&'a observed::RefusedWrite>) {
    let mut refused: Vec<&observed::RefusedWrite> = Vec::new();
    let mut passed_over = Vec::new();
    loop {
        let mut decided = decide(facts, &passed_over);
        if !decided.lookups.is_empty() || facts.observed.memory.refused.is_empty() {
            return (decided, refused);
        }
        let history = decided.apply_to(&facts.history);
        let found = find_refused(facts.observed, &write_records(facts, &decided, &history));
        let is_refused = found.iter().any(|r| r.deciding && !r.due);
        refused.extend(found.into_iter().filter(|r| r.deciding));
        match decided.source.filter(|_| is_refused) {
            Some(source) => passed_over.push(source),
            None => {
                decided.passed_over = passed_over;
                return (decided, refused);
            }
        }
    }
}

fn look_up(lookups: Vec<Lookup>) -> Plan {
    let waiting = Waiting::on_operator("Reads live before it decides.");
    Plan { lookups, waiting, ..Plan::default() }
}

/// Returns the revision that the spec names, to be remembered with the generation of the spec.
fn remember_desired(facts: &Facts<'_>) -> Option<Arc<KnownRevision>> {
    let content = facts.desired.as_ref().ok()?;
    let (uid, generation) = (facts.wanted.uid.clone(), facts.wanted.generation);
    let same = |k: &&Arc<KnownRevision>| k.generation == generation && k.content == *content;
    if let Some(known) = facts.observed.memory.desired.as_ref().filter(same) {
        return Some(known.clone());
    }
    Some(Arc::new(KnownRevision { uid, generation, content: content.clone() }))
}

/// True if a promotion makes another step due: a pause is set, another port serves, or the reason
/// that kept the spec from being rolled out may have ended.
fn changes_more(facts: &Facts<'_>, before: &History, after: &History, is_refused: bool) -> bool {
    let (left, serving) = (before.serving(), after.serving());
    let Some(serving) = serving.filter(|s| left.is_none_or(|l| l.number != s.number)) else {
        return false;
    };
    let moves = |left: &ModelRolloutSpec| facts.find_port(left) != facts.find_port(serving);
    is_refused || facts.should_pause(after) || left.is_some_and(moves)
}

/// True if a rollout waits only for the cache of pods: the Deployment's own status says that only
/// available pods of its template are left.
fn is_settled_by_numbers(facts: &Facts<'_>, history: &History) -> bool {
    let Some(open) = history.in_progress() else { return false };
    let live = facts.deployment_if_up_to_date(open, history);
    may_be_promoted(facts, history, open)
        && live.is_some_and(|live| {
            let (want, status) = (live.spec.replicas, &live.status);
            want > 0
                && facts::health::observed_generation_is_current(live)
                && [status.replicas, status.updated_replicas, status.available_replicas]
                    == [want; 3]
        })
}

/// The history without what the API server refuses to add to records: that is told nowhere.
fn leave_out_unrecorded<'a>(facts: &Facts<'_>, history: &'a History) -> Cow<'a, History> {
    let observed = facts.observed;
    let is_refused = |r: &&Record| is_amendment_refused(observed, r.spec.number);
    let stored: Vec<&Record> = observed.records.iter().filter(is_refused).collect();
    let mut told = Cow::Borrowed(history);
    if !stored.is_empty() {
        told.to_mut().restore_records(&stored);
    }
    told
}

/// Turns the decision into the plan: the history as it will be, the writes, and the status.
fn write_down(
    facts: &Facts<'_>,
    mut decided: Decided,
    refused: Vec<&observed::RefusedWrite>,
) -> Plan {
    let before = match decided.decision {
        Some(_) => Cow::Owned(decided.apply_to(&facts.history)),
        None => Cow::Borrowed(&facts.history),
    };
    let mut history = Cow::Borrowed(&*before);
    close_finished_rollouts(facts, &mut history, &mut decided);
    let mut out = Outgoing::default();
    let by_spec = matches!(&decided.decision, Some(Decision::Roll(new))
        if new.record.trigger == Trigger::SpecChanged);
    let leaves_more = decided.decision.is_some() && !by_spec;
    if leaves_more || changes_more(facts, &before, &history, decided.problem.is_some()) {
        // A decision by a person or by a failure, or a promotion, can make another decision due
        // without any watch event. Kubernetes itself reacts to a change that the spec asks for.
        out.requeue_at_once();
    }
    if is_settled_by_numbers(facts, &history) {
        // The Deployment's status counts its pods before the cache of pods shows them.
        out.requeue_in(1);
    }
    let mut actions = write_records(facts, &decided, &history);
    // The consequences of a promotion wait until it is stored.
    actions.extend(write_children(facts, &decided, &before, &mut out));
    if !out.lookups.is_empty() {
        return look_up(out.lookups);
    }
    actions.append(&mut decided.answers);
    let told = leave_out_unrecorded(facts, &history);
    let mut unneeded = Vec::new();
    if facts.missing.is_none() {
        let limit = facts.wanted.spec.history_limit();
        let pruned = prune_unneeded(facts.observed, &told, limit, facts.now);
        actions.extend(pruned.deletions);
        unneeded = pruned.unneeded;
        if let Some(seconds) = pruned.requeue_after {
            out.requeue_in(seconds);
        }
    }
    let mut standing = refused;
    for other in find_refused(facts.observed, &actions) {
        if !standing.iter().any(|r| r.write == other.write) {
            standing.push(other);
        }
    }
    let (status, waiting) = status::write_status(facts, &decided, &told, &standing, &mut out);
    actions.append(&mut decided.events);
    actions.append(&mut out.events);
    Plan {
        lookups: Vec::new(),
        actions,
        status,
        requeue_after_seconds: out.requeue_after,
        unneeded,
        desired: remember_desired(facts),
        waiting,
    }
}
