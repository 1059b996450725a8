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
    let hidden = Pod { name: "r".into(), unselected: true, ..taken_out.clone() };
    let all = [pods(), vec![taken_out, hidden]].concat();
    let tracks = main_track(live);
    let observed = Observed { pods: all, tracks, ..Observed::default() };
    assert_eq!(list_strays(&observed).map(|p| p.name.as_str()).collect::<Vec<_>>(), ["q"]);
}

#[test]
fn a_rollout_is_not_complete_while_one_of_its_pods_crashes() {
    let waiting = why("CrashLoopBackOff", "back-off", None);
    let crashing = Container { waiting, running: false, restarts: 1, ..running(2) };
    let pods = |more: Pod| vec![ready_pod(), ready_pod(), more];
    let mut live = workload(3, 3, 1);
    live.status.available_replicas = 2;
    assert!(!completes(pods(pod(vec![crashing.clone()])), &live));
    let waits = Container { waiting: why("ImagePullBackOff", "", None), ..crashing };
    assert!(completes(pods(pod(vec![waits])), &live), "an image is the environment's");
}

#[test]
fn a_container_that_the_template_does_not_name_is_never_the_contents_failure() {
    let waiting = why("CrashLoopBackOff", "back-off", None);
    let crashing = |name: &str| Container {
        name: name.into(),
        waiting: waiting.clone(),
        running: false,
        restarts: 3,
        ..running(2)
    };
    let judge = |name: &str| {
        let pods = vec![pod(vec![crashing(name)])];
        let observed = Observed { pods, ..Observed::default() };
        let mut live = workload(1, 1, 0);
        let containers = json!([{"name": "model"}, {"name": "tokens"}]);
        live.spec.template = json!({"spec": {"containers": containers}}).into();
        judge_rollout(&observed, &live, &record(), patience(10))
    };
    assert!(matches!(judge("model"), Health::Failed(_)));
    assert!(matches!(judge("tokens"), Health::Failed(_)), "a sidecar of the spec");
    let Health::Blocked(sentence) = judge("istio-proxy") else { panic!("it is injected") };
    assert!(sentence.starts_with("container istio-proxy of pod p waits: CrashLoopBackOff"));
}

#[test]
fn the_cause_of_an_outage_is_read_from_pods_that_live_and_are_not_ready() {
    let trouble =
        || pod(vec![Container { waiting: why("ErrImagePull", "no", None), ..running(2) }]);
    let find = |pod: Pod| {
        find_cause_of_outage(&Observed { pods: vec![pod], ..Observed::default() }).is_some()
    };
    assert!(find(trouble()));
    assert!(!find(Pod { deleting: true, ..trouble() }), "it is going away");
    assert!(!find(Pod { ready: true, ..trouble() }), "it answers");
}
