//! The least of a scheduler and a kubelet, for tests of the controllers alone. A pod is ready at
//! once, except in two cases: it asks for a label that no node has and stays unscheduled, or its
//! image contains `behave-never-ready` and it runs without becoming ready.

use serde_json::Value;

use super::{
    deployment_controller::sync_deployment,
    objects::{Pod, PodState, Seconds, Workload},
    replica_set_controller::{remove_deleted_pods, sync_replica_sets},
};

/// Runs every controller until none of them changes anything.
pub fn run_to_rest(workload: &mut Workload, now: Seconds) {
    for _ in 0..1000 {
        let mut changed = sync_deployment(workload, now);
        changed |= sync_replica_sets(workload, now);
        changed |= start_pods(workload, now);
        changed |= remove_deleted_pods(workload);
        if !changed {
            return;
        }
    }
    panic!("the controllers do not come to rest: {workload:#?}");
}

/// Starts every new pod that a node fits, and returns whether there was one.
pub fn start_pods(workload: &mut Workload, now: Seconds) -> bool {
    workload.pods.iter_mut().fold(false, |changed, pod| start_pod(pod, now) | changed)
}

/// Starts a pod if it is new and a node fits it. Returns whether it was started.
pub fn start_pod(pod: &mut Pod, now: Seconds) -> bool {
    let spec = &pod.template.value["spec"];
    if pod.state.scheduled || !pod.is_active() || spec["nodeSelector"] != Value::Null {
        return false;
    }
    let image = spec["containers"][0]["image"].as_str().unwrap_or_default();
    let ready_since = (!image.contains("behave-never-ready")).then_some(now);
    pod.state = PodState {
        scheduled: true,
        ready_since,
        started: Some(now),
        initialized: Some(now),
        ..PodState::default()
    };
    true
}
