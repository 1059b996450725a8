//! Writes that the API server refused: each is reported as long as it is still to be done, and left
//! out until it is tried again.
//!
//! A refused write is known by what is written: a corrected value is another write, and is tried at
//! once.

use super::{
    action::{
        Action, NEW_DEPLOYMENT, Plan, TEMPLATE, amendment_prefix, decision_prefix,
        promotion_prefix, settings_prefix,
    },
    observed::{Observed, RefusedWrite},
};
use crate::api::{names::record_name, reason::Reason};

/// The refused writes among what is to be done, whether they are tried again now or not.
pub fn find_refused<'a>(observed: &'a Observed, actions: &[Action]) -> Vec<&'a RefusedWrite> {
    if observed.memory.refused.is_empty() {
        return Vec::new();
    }
    let writes: Vec<String> = actions.iter().filter_map(Action::identify_write).collect();
    observed.memory.refused.iter().filter(|refused| writes.contains(&refused.write)).collect()
}

/// Leaves out every refused write that is not due again yet. If no other write is left, the next
/// plan is not due at once, because it would leave out the same writes again.
pub fn leave_out_refused(observed: &Observed, plan: &mut Plan) {
    let waiting: Vec<&str> =
        (observed.memory.refused.iter().filter(|r| !r.due)).map(|r| r.write.as_str()).collect();
    if waiting.is_empty() {
        return;
    }
    let all = plan.actions.len();
    let waits = |action: &Action| {
        action.identify_write().is_some_and(|write| waiting.contains(&write.as_str()))
    };
    plan.actions.retain(|action| !waits(action));
    let writes_nothing = plan.actions.iter().all(|action| action.identify_write().is_none());
    if plan.actions.len() < all && writes_nothing {
        plan.requeue_after_seconds = plan.requeue_after_seconds.filter(|seconds| *seconds > 0);
    }
}

/// The refused write that carries a rollout out, if it was refused.
#[must_use]
pub fn find_decision(observed: &Observed, rollout: i64) -> Option<&RefusedWrite> {
    find_by_prefix(observed, || decision_prefix(rollout))
}

/// The refused write of a Deployment's settings, if it was refused.
#[must_use]
pub fn find_settings<'a>(
    observed: &'a Observed,
    deployment_name: &str,
) -> Option<&'a RefusedWrite> {
    find_by_prefix(observed, || settings_prefix(deployment_name))
}

/// The refused write that says in a record that its rollout serves, if it was refused.
#[must_use]
pub fn find_promotion(observed: &Observed, rollout: i64) -> Option<&RefusedWrite> {
    find_by_prefix(observed, || promotion_prefix(&record_name(&observed.name, rollout)))
}

/// True if something that is to be added to the record of a rollout was refused.
#[must_use]
pub fn is_amendment_refused(observed: &Observed, rollout: i64) -> bool {
    let amendment = || amendment_prefix(&record_name(&observed.name, rollout));
    find_promotion(observed, rollout).is_some() || find_by_prefix(observed, amendment).is_some()
}

/// Finds the refused write whose identity begins so; nearly always nothing was refused.
fn find_by_prefix(observed: &Observed, prefix: impl FnOnce() -> String) -> Option<&RefusedWrite> {
    if observed.memory.refused.is_empty() {
        return None;
    }
    let prefix = prefix();
    observed.memory.refused.iter().find(|r| r.write.starts_with(&prefix))
}

/// True if the template of a refused decision is at fault. A patch changes little else. A new
/// Deployment also has settings, and a webhook may refuse it for its name or its labels; then the
/// API server has to name a field of the template.
#[must_use]
pub fn is_template_at_fault(refused: &RefusedWrite) -> bool {
    let is_whole = refused.write.contains(NEW_DEPLOYMENT);
    !refused.forbidden && (refused.write.contains(TEMPLATE) || (is_whole && refused.names_template))
}

/// The sentence about a refused write.
#[must_use]
pub fn describe_refused(refused: &RefusedWrite) -> String {
    format!("Cannot {}. It is tried again.", refused.message.trim_end_matches('.'))
}

/// The reason of a condition about a refused write.
#[must_use]
pub fn find_reason(refused: &RefusedWrite) -> Reason {
    if refused.forbidden { Reason::Forbidden } else { Reason::Refused }
}
