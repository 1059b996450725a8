//! The spec: what it names beyond the newest rollout is rolled out, and a rollout that it names no
//! longer is left.

use super::{
    Decided,
    rollout::{Cause, NewRollout, SPEC, Target, Unready, decided_by, prepare_desired},
};
use crate::{
    api::{
        ModelRolloutSpec,
        rollout::{Direction, Trigger},
    },
    plan::facts::{Facts, history::is_yanked, problem::Problem},
};

/// Rolls out the revision that the spec names, unless it is rejected, paused, or cannot be served.
pub fn follow_spec(facts: &Facts<'_>, decided: &mut Decided) {
    // An older CRD prunes what is read of a version, so that its digest says nothing.
    if facts.observed.memory.crds_older {
        return;
    }
    let newest = facts.history.newest();
    let desired = match &facts.desired {
        Ok(desired) => desired,
        // Nothing is there that could be paused: without its Deployment the rollout is left.
        Err(Problem::Pending(..)) if facts.tracks.is_empty() => {
            return leave_rollout(facts, decided);
        }
        Err(Problem::Pending(..)) => return,
        Err(Problem::Invalid(..)) => return leave_rollout(facts, decided),
    };
    if newest.is_some_and(|r| r.revision_hash == desired.revision_hash) {
        return;
    }
    if facts.history.find_rejection(desired).is_some() {
        return match newest {
            Some(_) => leave_rollout(facts, decided),
            None => serve_last_again(facts, decided),
        };
    }
    if facts.should_pause(&facts.history) {
        if newest.is_none() {
            serve_last_again(facts, decided);
        }
        return;
    }
    match prepare_desired(facts) {
        Ok(target) => roll_out_desired(facts, target, decided),
        Err(Unready::Lookup(lookup)) => decided.lookups.push(lookup),
        Err(Unready::Problem(problem)) => {
            if matches!(problem, Problem::Invalid(..)) {
                leave_rollout(facts, decided);
            }
            decided.problem = Some(problem);
        }
    }
}

fn roll_out_desired(facts: &Facts<'_>, target: Target, decided: &mut Decided) {
    // A spec that returns to what serves goes back: its pods are there already.
    let desired = facts.desired.as_ref();
    let returns = desired.is_ok_and(|d| facts.find_good_rollout_of(&d.revision_hash).is_some());
    let direction = if returns { Direction::Back } else { Direction::Forward };
    let cause = Cause::new(Trigger::SpecChanged, direction, decided_by(SPEC, None));
    decided.decide_rollout(NewRollout::new(facts, target, cause));
}

/// Goes back from a rollout in progress that the spec no longer names, if the revision that it does
/// name cannot be rolled out. Otherwise a revision that no spec names would be promoted.
fn leave_rollout(facts: &Facts<'_>, decided: &mut Decided) {
    if !is_left_behind(facts) {
        return;
    }
    let Some(target) = decided.find_rollback_target(facts) else { return };
    let by = decided_by(SPEC, Some("the spec no longer names the rollout in progress"));
    let cause = Cause::new(Trigger::SpecChanged, Direction::Back, by);
    decided.decide_rollout(NewRollout::new(facts, target, cause));
}

/// True if the rollout in progress goes forward to something new that the spec no longer names.
#[must_use]
pub fn is_left_behind(facts: &Facts<'_>) -> bool {
    let Some(open) = facts.history.in_progress() else { return false };
    let desired = facts.desired.as_ref();
    let named = desired.is_ok_and(|desired| desired.revision_hash == open.revision_hash);
    let compared = !facts.observed.memory.crds_older;
    compared && !open.goes_back() && !facts.has_serving_content(open) && !named
}

/// True if a rollout in progress gets no more pods: nobody names it, or it may not serve, and there
/// is nothing to go back to.
#[must_use]
pub fn stays_where_it_is(facts: &Facts<'_>, newest: &ModelRolloutSpec) -> bool {
    let is_old = facts.history.newest().is_some_and(|r| r.number == newest.number);
    let is_banned = !facts.has_serving_content(newest) && is_yanked(facts.observed, newest);
    let goes_forward = newest.is_open() && !newest.goes_back();
    goes_forward && is_old && (is_left_behind(facts) || is_banned)
}

/// Serves the last served revision again, if a ModelDeployment was created again on a rejected
/// revision or while a pause stands. The spec does not name that revision, so it goes back.
fn serve_last_again(facts: &Facts<'_>, decided: &mut Decided) {
    let history = &facts.history;
    let eligible =
        |r: &&ModelRolloutSpec| history.explain_ineligibility(facts.observed, r).is_none();
    let last = facts.last_good().filter(eligible);
    let Some(target) = last.or_else(|| history.find_rollback_target(facts.observed)) else {
        return;
    };
    let target = Target::of_record(facts, target).restarted(None);
    let cause = Cause::new(Trigger::Recreated, Direction::Back, decided_by(SPEC, None));
    decided.decide_rollout(NewRollout::new(facts, target, cause));
}
