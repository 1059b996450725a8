//! The ReplicaSet controller of Kubernetes 1.37, one sync of every ReplicaSet at a time, with the
//! quota admission that can refuse its pods, and the garbage collector's cascade.
//!
//! A status is computed from the pods as they were before the sync created and deleted some, as in
//! the real controller: the next sync sees them.

use std::cmp::Reverse;

use super::objects::{Pod, PodState, ReplicaSet, Seconds, Workload};

/// Name of the quota in messages.
pub const QUOTA: &str = "pods";

/// Kubernetes creates and deletes at most so many pods of one ReplicaSet in one sync.
const BURST_REPLICAS: usize = 500;

/// Runs one sync of every ReplicaSet, oldest first, and returns whether it changed anything.
pub fn sync_replica_sets(workload: &mut Workload, now: Seconds) -> bool {
    let mut changed = false;
    for index in 0..workload.replica_sets.len() {
        changed |= sync_replica_set(workload, index, now);
    }
    changed
}

/// Deleting pods go, as when the kubelet has stopped their containers. Returns whether there were
/// any.
pub fn remove_deleted_pods(workload: &mut Workload) -> bool {
    let count = workload.pods.len();
    workload.pods.retain(|pod| !pod.deleting);
    workload.pods.len() < count
}

/// Deletes the Deployment and, as the garbage collector does in the background, all that it owns.
pub fn delete_deployment(workload: &mut Workload) {
    workload.deployment = None;
    workload.replica_sets.clear();
    for pod in &mut workload.pods {
        pod.deleting = true;
    }
}

/// Deletes the Deployment and leaves its ReplicaSets, with their pods. A new Deployment adopts
/// them, as its selector matches their labels.
pub fn orphan(workload: &mut Workload) {
    workload.deployment = None;
}

/// When the next ready pod becomes available only because time passes. None if there is none.
pub fn next_availability(workload: &Workload, now: Seconds) -> Option<Seconds> {
    let at = |set: &ReplicaSet| {
        let seconds = i64::from(set.min_ready_seconds);
        let active = workload.pods.iter().filter(|pod| pod.is_ready());
        let own = active.filter(|pod| pod.replica_set == set.name);
        own.filter_map(|pod| Some(pod.state.ready_since? + seconds)).filter(|at| *at > now).min()
    };
    workload.replica_sets.iter().filter_map(at).min()
}

#[derive(Default)]
struct Counts {
    active: usize,
    replicas: i32,
    ready: i32,
    available: i32,
}

fn count_pods(pods: &[Pod], set: &ReplicaSet, now: Seconds) -> Counts {
    let mut counts = Counts::default();
    for pod in pods.iter().filter(|pod| pod.is_active() && pod.replica_set == set.name) {
        counts.active += 1;
        counts.replicas += 1;
        counts.ready += i32::from(pod.is_ready());
        counts.available += i32::from(pod.is_available(set.min_ready_seconds, now));
    }
    counts
}

/// Runs one sync of one ReplicaSet, and returns whether it changed anything.
pub fn sync_replica_set(workload: &mut Workload, index: usize, now: Seconds) -> bool {
    let set = &workload.replica_sets[index];
    let counts = count_pods(&workload.pods, set, now);
    let desired = usize::try_from(set.replicas).unwrap_or(0);
    let (mut changed, mut is_refused) = (false, false);
    if counts.active < desired {
        let missing = (desired - counts.active).min(BURST_REPLICAS);
        let created = missing.min(find_quota_room(workload));
        create_pods(workload, index, created, now);
        changed = created > 0;
        is_refused = created < missing;
    } else if counts.active > desired {
        let surplus = (counts.active - desired).min(BURST_REPLICAS);
        let name = &workload.replica_sets[index].name;
        delete_pods(&mut workload.pods, name, counts.active, surplus);
        changed = true;
    }
    // The message of the first failure stays until no pod is refused any more.
    let has_failed = workload.replica_sets[index].failure.is_some();
    let failure = (is_refused && !has_failed).then(|| write_refusal(workload, index));
    let set = &mut workload.replica_sets[index];
    if let Some(message) = failure {
        set.failure = Some(message);
        changed = true;
    } else if !is_refused && has_failed {
        set.failure = None;
        changed = true;
    }
    write_status(set, &counts) || changed
}

fn write_status(set: &mut ReplicaSet, counts: &Counts) -> bool {
    let new = (counts.replicas, counts.ready, counts.available, true);
    let old = (set.status_replicas, set.ready_replicas, set.available_replicas, set.observed);
    (set.status_replicas, set.ready_replicas, set.available_replicas, set.observed) = new;
    new != old
}

/// Deleting pods take room in a quota until they are gone; finished ones do not.
fn count_quota_use(workload: &Workload) -> usize {
    workload.pods.iter().filter(|pod| !pod.state.finished).count()
}

fn find_quota_room(workload: &Workload) -> usize {
    workload.quota.map_or(usize::MAX, |limit| limit.saturating_sub(count_quota_use(workload)))
}

fn write_refusal(workload: &Workload, index: usize) -> String {
    let (used, limit) = (count_quota_use(workload), workload.quota.unwrap_or(usize::MAX));
    format!(
        "pods {:?} is forbidden: exceeded quota: {QUOTA}, requested: pods=1, used: pods={used}, \
         limited: pods={limit}",
        format!("{}-{}", workload.replica_sets[index].name, workload.made)
    )
}

fn create_pods(workload: &mut Workload, index: usize, count: usize, now: Seconds) {
    let set = &workload.replica_sets[index];
    for _ in 0..count {
        workload.pods.push(Pod {
            name: format!("{}-{}", set.name, workload.made),
            replica_set: set.name.clone(),
            template: set.template.clone(),
            created: now,
            deleting: false,
            state: PodState::default(),
        });
        workload.made += 1;
    }
}

/// Deletes the pods that are least useful.
fn delete_pods(pods: &mut [Pod], set: &str, active: usize, count: usize) {
    let mut own = Vec::with_capacity(active);
    let is_own = |pod: &Pod| pod.is_active() && pod.replica_set == set;
    own.extend((0..pods.len()).filter(|index| is_own(&pods[*index])));
    if count < own.len() {
        own.sort_by_key(|index| rank_for_deletion(&pods[*index]));
    }
    for index in own.into_iter().take(count) {
        pods[index].deleting = true;
    }
}

/// Lowest first: unscheduled, pending, not ready, ready for the shortest time, most restarts,
/// newest.
///
/// Kubernetes compares the two times by their binary logarithm, and pods of about the same age by
/// their random UIDs. Here the younger pod always goes first, which is one of the orders that
/// Kubernetes can choose.
fn rank_for_deletion(pod: &Pod) -> impl Ord + use<> {
    let state = &pod.state;
    let is_running = state.started.is_some() || state.restarts > 0;
    let ready_since = state.ready_since.unwrap_or(Seconds::MIN);
    (
        state.scheduled,
        is_running,
        state.ready_since.is_some(),
        Reverse(ready_since),
        Reverse(state.restarts),
        Reverse(pod.created),
    )
}
