//! The least of a scheduler and a kubelet, for tests of the controllers alone: a pod is ready at
//! once, or stays unscheduled because no node has the label that its template asks for.

use serde_json::Value;

use super::{
    deployment_controller::sync_deployment,
    objects::{PodState, Seconds, Workload},
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
    let mut changed = false;
    for pod in workload.pods.iter_mut().filter(|pod| !pod.state.scheduled && pod.is_active()) {
        if pod.template.value["spec"]["nodeSelector"] == Value::Null {
            let (ready_since, started) = (Some(now), Some(now));
            let initialized = Some(now);
            pod.state =
                PodState { scheduled: true, ready_since, started, initialized, ..pod.state };
            changed = true;
        }
    }
    changed
}
