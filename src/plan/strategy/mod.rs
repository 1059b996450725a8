//! Strategies: which Deployments a history asks for, and what each carries out. Today there is one,
//! RollingUpdate: one Deployment, in which Kubernetes replaces pod by pod and only the pause is
//! ours.

use super::{
    decide::spec::stays_where_it_is,
    facts::{Facts, attribution::read_decision_label, health, history::History, track::TrackFacts},
};
use crate::api::{ModelRolloutSpec, names};

/// A Deployment as a strategy wants it.
#[derive(Clone, Copy, Debug)]
pub struct TrackTarget<'a> {
    /// Name of the track.
    pub track: &'a str,
    /// Name of the Deployment.
    pub deployment_name: &'a str,
    /// The rollout that it carries out; None before the first.
    pub record: Option<&'a ModelRolloutSpec>,
}

/// The Deployments that a history asks for.
#[must_use]
pub fn list_targets<'a>(facts: &'a Facts<'_>, history: &'a History) -> Vec<TrackTarget<'a>> {
    let record = history.newest();
    let deployment_name = record.map_or(facts.observed.name.as_str(), |r| &r.deployment_name);
    vec![TrackTarget { track: names::TRACK_MAIN, deployment_name, record }]
}

/// True if the Deployment should be paused now. It is created unpaused, because a paused one gets
/// no pods, and is paused at its first available pod. Once set, a pause stays on that Deployment,
/// whatever happens to its pods; a rollback lifts it until the rollback is complete. A Deployment
/// that was restored paused is a new one: it is paused again at its first available pod.
#[must_use]
pub fn should_be_paused(facts: &Facts<'_>, history: &History, newest: &ModelRolloutSpec) -> bool {
    if newest.goes_back() && newest.is_open() {
        return false;
    }
    let track = facts.find_track(&newest.deployment_name);
    let Some(live) = track.and_then(TrackFacts::deployment) else { return false };
    if stays_where_it_is(facts, newest) {
        return true;
    }
    let is_on = live.spec.paused
        && read_decision_label(live).is_some_and(|label| label.paused)
        && !facts.is_restored_paused(live);
    let is_empty = live.spec.replicas == 0
        && health::observed_generation_is_current(live)
        && facts.deployment_if_up_to_date(newest, history).is_some();
    let has_pods = live.status.available_replicas > 0;
    facts.should_pause(history) && (is_on || has_pods || is_empty)
}
