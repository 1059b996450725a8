//! A stored revision that was lost before it was carried out: neither is it stored, nor has the
//! Deployment its template. What can be found or rendered again is rolled out again.

use super::{
    Decided,
    rollout::{NewRollout, OPERATOR, Target, Unready, decided_by, prepare_desired},
};
use crate::{
    api::{ModelRolloutSpec, rollout::Trigger},
    plan::facts::{Facts, find_live_template},
};

/// Rolls out the newest revision again if nothing holds its template any more: from a ReplicaSet
/// that still has it, or rendered again if the spec names it.
pub fn repeat_if_lost(facts: &Facts<'_>, decided: &mut Decided) {
    let Some(newest) = facts.history.newest().filter(|newest| facts.is_nowhere(newest)) else {
        return;
    };
    if let Err(lookup) = facts.require_templates(true) {
        return decided.lookups.push(lookup);
    }
    if find_live_template(facts.observed, newest).is_some() {
        return repeat(facts, newest, Target::of_record(facts, newest), decided);
    }
    let desired = facts.desired.as_ref();
    if !desired.is_ok_and(|desired| desired.revision_hash == newest.revision_hash)
        || facts.observed.memory.crds_older
    {
        return;
    }
    match prepare_desired(facts) {
        Ok(target) => repeat(facts, newest, target, decided),
        Err(Unready::Lookup(lookup)) => decided.lookups.push(lookup),
        Err(Unready::Problem(problem)) => decided.problem = Some(problem),
    }
}

/// Rolls out a target that has the revision of the newest rollout.
fn repeat(facts: &Facts<'_>, newest: &ModelRolloutSpec, target: Target, decided: &mut Decided) {
    let by = decided_by(OPERATOR, Some("its stored revision was deleted"));
    let target = target.restarted(newest.restarted_at.clone());
    decided.decide_rollout(NewRollout::repeat(facts, target, Trigger::Recreated, by));
}
