//! The status of a Deployment: counters, and the conditions Available, Progressing and
//! ReplicaFailure.

use super::objects::{Condition, Deployment, DeploymentStatus, ReplicaSet, Seconds};

pub const TRUE: &str = "True";
pub const FALSE: &str = "False";
pub const UNKNOWN: &str = "Unknown";

pub const REPLICA_SET_UPDATED: &str = "ReplicaSetUpdated";
pub const NEW_REPLICA_SET_CREATED: &str = "NewReplicaSetCreated";
pub const FOUND_NEW_REPLICA_SET: &str = "FoundNewReplicaSet";
pub const NEW_REPLICA_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
pub const DEPLOYMENT_PAUSED: &str = "DeploymentPaused";
pub const DEPLOYMENT_RESUMED: &str = "DeploymentResumed";
pub const MINIMUM_REPLICAS_AVAILABLE: &str = "MinimumReplicasAvailable";
pub const MINIMUM_REPLICAS_UNAVAILABLE: &str = "MinimumReplicasUnavailable";
pub const FAILED_CREATE: &str = "FailedCreate";

/// The counters of a Deployment's status.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    pub replicas: i32,
    pub updated: i32,
    pub ready: i32,
    pub available: i32,
}

impl Counters {
    /// Sums the status of all ReplicaSets; `new` is the index of the newest one.
    pub fn sum_sets(sets: &[ReplicaSet], new: Option<usize>) -> Self {
        let mut sum = Self { replicas: 0, updated: 0, ready: 0, available: 0 };
        for set in sets {
            sum.replicas += set.status_replicas;
            sum.ready += set.ready_replicas;
            sum.available += set.available_replicas;
        }
        sum.updated = new.map_or(0, |index| sets[index].status_replicas);
        sum
    }

    pub fn from_status(status: &DeploymentStatus) -> Self {
        Self {
            replicas: status.replicas,
            updated: status.updated_replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
        }
    }

    /// All desired replicas are updated and available, and no old pod is left.
    pub fn is_complete(self, desired: i32) -> bool {
        self.updated == desired && self.replicas == desired && self.available == desired
    }

    /// More updated, ready or available pods than before, or fewer old pods.
    pub fn shows_progress_since(self, before: Self) -> bool {
        self.updated > before.updated
            || self.replicas - self.updated < before.replicas - before.updated
            || self.ready > before.ready
            || self.available > before.available
    }
}

/// What a sync does to one condition.
pub enum Change {
    Keep,
    Remove,
    Write(Condition),
}

impl Change {
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    pub fn apply_to(self, condition: &mut Option<Condition>) {
        match self {
            Self::Keep => {}
            Self::Remove => *condition = None,
            Self::Write(new) => *condition = Some(new),
        }
    }
}

/// Kubernetes rewrites a condition only if its status or its reason changes. A new message alone
/// is dropped.
pub fn set_condition(
    current: Option<&Condition>,
    status: &'static str,
    reason: &'static str,
    now: Seconds,
    message: impl FnOnce() -> String,
) -> Change {
    match current {
        Some(old) if old.status == status && old.reason == reason => Change::Keep,
        _ => Change::Write(new_condition(current, status, reason, now, message())),
    }
}

/// The time of the last transition stays while the status stays.
pub fn new_condition(
    current: Option<&Condition>,
    status: &'static str,
    reason: &'static str,
    now: Seconds,
    message: String,
) -> Condition {
    let kept = current.filter(|old| old.status == status).map(|old| old.last_transition);
    let last_transition = kept.unwrap_or(now);
    Condition { status, reason, message, last_update: now, last_transition }
}

/// 2147483647 means no deadline, as in Kubernetes.
pub fn has_progress_deadline(deployment: &Deployment) -> bool {
    deployment.spec.progress_deadline_seconds != i32::MAX
}

pub fn judge_availability(
    deployment: &Deployment,
    counters: Counters,
    max_unavailable: i32,
    now: Seconds,
) -> Change {
    let current = deployment.status.available.as_ref();
    if counters.available >= deployment.spec.replicas - max_unavailable {
        set_condition(current, TRUE, MINIMUM_REPLICAS_AVAILABLE, now, || {
            "Deployment has minimum availability.".into()
        })
    } else {
        set_condition(current, FALSE, MINIMUM_REPLICAS_UNAVAILABLE, now, || {
            "Deployment does not have minimum availability.".into()
        })
    }
}

/// The condition Progressing in a rollout. `new` is the newest ReplicaSet.
pub fn judge_progress(
    deployment: &Deployment,
    counters: Counters,
    new: &ReplicaSet,
    now: Seconds,
) -> Change {
    let current = deployment.status.progressing.as_ref();
    if !has_progress_deadline(deployment) {
        return if current.is_some() { Change::Remove } else { Change::Keep };
    }
    let was_complete = counters.replicas == counters.updated
        && current.is_some_and(|c| c.reason == NEW_REPLICA_SET_AVAILABLE);
    if was_complete {
        return Change::Keep;
    }
    let message = |event: &str| format!("ReplicaSet {:?} {event}.", new.name);
    if counters.is_complete(deployment.spec.replicas) {
        let message = || message("has successfully progressed");
        set_condition(current, TRUE, NEW_REPLICA_SET_AVAILABLE, now, message)
    } else if counters.shows_progress_since(Counters::from_status(&deployment.status)) {
        // Unlike any other condition, this one is rewritten with the same reason, because the
        // deadline counts from the last progress.
        let message = message("is progressing");
        Change::Write(new_condition(current, TRUE, REPLICA_SET_UPDATED, now, message))
    } else if has_timed_out(deployment, now) {
        let message = || message("has timed out progressing");
        set_condition(current, FALSE, PROGRESS_DEADLINE_EXCEEDED, now, message)
    } else {
        Change::Keep
    }
}

/// The condition ReplicaFailure: the failure of the newest ReplicaSet, or else of the oldest one
/// that has a failure.
pub fn judge_failure(
    deployment: &Deployment,
    sets: &[ReplicaSet],
    new: usize,
    now: Seconds,
) -> Change {
    let current = deployment.status.replica_failure.as_ref();
    let of_new = sets[new].failure.as_ref();
    match of_new.or_else(|| sets.iter().find_map(|set| set.failure.as_ref())) {
        Some(message) => set_condition(current, TRUE, FAILED_CREATE, now, || message.clone()),
        None if current.is_some() => Change::Remove,
        None => Change::Keep,
    }
}

fn has_timed_out(deployment: &Deployment, now: Seconds) -> bool {
    find_last_progress(deployment).is_some_and(|since| since + deadline_seconds(deployment) < now)
}

/// When a sync has to look at the progress deadline again. None if no deadline runs. The result is
/// `now` if the deadline has passed already.
pub fn next_deadline(deployment: &Deployment, now: Seconds) -> Option<Seconds> {
    let runs = !deployment.spec.paused
        && has_progress_deadline(deployment)
        && !Counters::from_status(&deployment.status).is_complete(deployment.spec.replicas);
    let since = find_last_progress(deployment).filter(|_| runs)?;
    // Kubernetes compares "before now", so the first whole second is one after the deadline.
    Some((since + deadline_seconds(deployment) + 1).max(now))
}

/// The time from which the deadline counts; None after a complete rollout and after a timeout.
fn find_last_progress(deployment: &Deployment) -> Option<Seconds> {
    let current = deployment.status.progressing.as_ref()?;
    let over = [NEW_REPLICA_SET_AVAILABLE, PROGRESS_DEADLINE_EXCEEDED].contains(&current.reason);
    (!over).then_some(current.last_update)
}

fn deadline_seconds(deployment: &Deployment) -> Seconds {
    i64::from(deployment.spec.progress_deadline_seconds)
}
