//! Pods that no ReplicaSet of the Deployment controls.

use super::*;
use crate::plan::arbitrary::main_track;

#[test]
fn a_pod_that_people_took_out_of_its_replica_set_keeps_no_rollout_from_being_complete() {
    let taken_out = Pod {
        name: "q".into(),
        hash: "bbbbbbbbbbbbbbbb".into(),
        replica_set: None,
        template_hash: String::new(),
        ..ready_pod()
    };
    let pods = || vec![ready_pod(), ready_pod()];
    assert!(completes([pods(), vec![taken_out.clone()]].concat(), &workload(2, 2, 0)));
    let mine = vec![ready_pod(), Pod { hash: ready_pod().hash, ..taken_out.clone() }];
    assert!(!completes(mine, &workload(2, 2, 0)), "it counts as none of its rollout either");
    let mut live = workload(2, 2, 0);
    live.meta.name = record().deployment_name;
    let all = [pods(), vec![taken_out]].concat();
    let tracks = main_track(live);
    let observed = Observed { pods: all, tracks, ..Observed::default() };
    assert_eq!(list_strays(&observed).map(|p| p.name.as_str()).collect::<Vec<_>>(), ["q"]);
}
