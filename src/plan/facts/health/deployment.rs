//! What the status of a Deployment says about a rollout.

use super::to_one_line;
use crate::plan::observed::{Deployment, DeploymentCondition};

/// Computes maxUnavailable of the Deployment's strategy as Kubernetes rounds it: down, and to 1 if
/// maxSurge is 0 too.
pub(super) fn max_unavailable(live: &Deployment) -> i32 {
    let replicas = i64::from(live.spec.replicas);
    let bounds = &live.spec.strategy["rollingUpdate"];
    let resolve = |name: &str, round_up: i64| {
        let value = &bounds[name];
        let percent = value.as_str().and_then(|s| s.strip_suffix('%'));
        match percent.and_then(|p| p.parse::<i64>().ok()) {
            Some(percent) => (replicas * percent + round_up) / 100,
            None => value.as_i64().unwrap_or(0),
        }
    };
    let unavailable = resolve("maxUnavailable", 0);
    let neither = unavailable == 0 && resolve("maxSurge", 99) == 0 && bounds.is_object();
    i32::try_from(if neither { 1 } else { unavailable }).unwrap_or(0)
}

/// True if as many pods are available as the Deployment's own strategy requires.
#[must_use]
pub fn has_minimum_available(live: &Deployment) -> bool {
    live.status.available_replicas >= (live.spec.replicas - max_unavailable(live)).max(0)
}

/// True if the Deployment controller observed the newest spec.
#[must_use]
pub fn observed_generation_is_current(live: &Deployment) -> bool {
    live.status.observed_generation >= live.generation
}

/// True if the Deployment controller reports that the progress deadline passed.
#[must_use]
pub fn progress_deadline_exceeded(live: &Deployment) -> bool {
    observed_generation_is_current(live)
        && live.status.conditions.iter().any(|c| {
            c.type_ == "Progressing"
                && c.status == "False"
                && c.reason == "ProgressDeadlineExceeded"
        })
}

/// The parts of a Deployment's status that can change the state of a rollout, without the counters
/// that change with every pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutSignals {
    settled: bool,
    only_updated: bool,
    overdue: bool,
    down: bool,
    enough: bool,
    missing_pods: Option<String>,
}

impl RolloutSignals {
    /// Reads the signals from a Deployment.
    #[must_use]
    pub fn new(live: &Deployment) -> Self {
        let (want, status) = (live.spec.replicas, &live.status);
        let only_updated = status.counts_only_updated();
        let current = observed_generation_is_current(live);
        Self {
            settled: current && only_updated && status.available_replicas == want,
            only_updated: current && only_updated,
            overdue: progress_deadline_exceeded(live),
            down: status.available_replicas == 0,
            enough: has_minimum_available(live),
            missing_pods: describe_missing_pods(live),
        }
    }
}

/// Describes why pods could not be created: a quota, or admission.
pub(super) fn describe_missing_pods(live: &Deployment) -> Option<String> {
    let failed = |c: &&DeploymentCondition| c.type_ == "ReplicaFailure" && c.status == "True";
    let failure = live.status.conditions.iter().find(failed)?;
    Some(format!("pods cannot be created: {}", to_one_line(&failure.message)))
}
