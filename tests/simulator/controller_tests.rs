//! The simulated controllers alone, one rule of Kubernetes a test.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use crate::simulator::{
    conditions::{
        DEPLOYMENT_PAUSED, DEPLOYMENT_RESUMED, NEW_REPLICA_SET_AVAILABLE, NEW_REPLICA_SET_CREATED,
        PROGRESS_DEADLINE_EXCEEDED, REPLICA_SET_UPDATED,
    },
    deployment_controller::{next_deadline, resolve_limits, sync_deployment},
    objects::{Deployment, DeploymentSpec, Pod, ReplicaSet, Template, Workload},
    replica_set_controller::{
        delete_deployment, next_availability, orphan, remove_deleted_pods, sync_replica_sets,
    },
    simple_kubelet::{run_to_rest, start_pods},
};

fn template(version: &str) -> Template {
    Template::new(json!({
        "metadata": {"labels": {"app": "fraud"}},
        "spec": {"containers": [{"name": "model", "image": format!("fraud:{version}")}]},
    }))
}

/// Its pods stay unscheduled.
fn homeless(version: &str) -> Template {
    let mut value = (*template(version).value).clone();
    value["spec"]["nodeSelector"] = json!({"disk": "none"});
    Template::new(value)
}

/// A Deployment of version 1 with so many replicas, surge 1 and unavailable 0, before any sync.
fn new_workload(replicas: i32) -> Workload {
    let spec = DeploymentSpec {
        replicas,
        paused: false,
        max_surge: IntOrString::Int(1),
        max_unavailable: IntOrString::Int(0),
        min_ready_seconds: 0,
        progress_deadline_seconds: 600,
        revision_history_limit: 10,
        template: template("1"),
    };
    let deployment = Deployment {
        name: "fraud".into(),
        generation: 1,
        created: 0,
        spec,
        revision: 0,
        status: Default::default(),
    };
    Workload { deployment: Some(deployment), ..Workload::default() }
}

fn settled_workload(replicas: i32) -> Workload {
    let mut workload = new_workload(replicas);
    run_to_rest(&mut workload, 0);
    workload
}

fn change_spec(workload: &mut Workload, change: impl FnOnce(&mut DeploymentSpec)) {
    let deployment = workload.deployment.as_mut().unwrap();
    change(&mut deployment.spec);
    deployment.generation += 1;
}

fn set_limits(workload: &mut Workload, surge: IntOrString, unavailable: IntOrString) {
    change_spec(workload, |spec| (spec.max_surge, spec.max_unavailable) = (surge, unavailable));
}

fn find_set<'a>(workload: &'a Workload, template: &Template) -> Option<&'a ReplicaSet> {
    workload.replica_sets.iter().find(|set| set.template == *template)
}

/// `spec.replicas` of the ReplicaSet of a template; None where there is none.
fn size_of(workload: &Workload, template: &Template) -> Option<i32> {
    find_set(workload, template).map(|set| set.replicas)
}

fn progress_reason(workload: &Workload) -> &'static str {
    let status = &workload.deployment.as_ref().unwrap().status;
    status.progressing.as_ref().unwrap().reason
}

fn percent(value: &str) -> IntOrString {
    IntOrString::String(value.into())
}

#[test]
fn surge_rounds_up_and_unavailable_rounds_down() {
    let cases = [
        (percent("25%"), percent("25%"), 3, (1, 0)),
        (percent("25%"), percent("25%"), 4, (1, 1)),
        (percent("25%"), percent("25%"), 5, (2, 1)),
        (percent("100%"), percent("0%"), 3, (3, 0)),
        (percent("1%"), percent("99%"), 2, (1, 1)),
        (IntOrString::Int(2), IntOrString::Int(9), 3, (2, 3)),
        (IntOrString::Int(1), IntOrString::Int(1), 0, (1, 0)),
    ];
    for (surge, unavailable, replicas, expected) in cases {
        let mut workload = new_workload(replicas);
        set_limits(&mut workload, surge.clone(), unavailable.clone());
        let limits = resolve_limits(workload.deployment.as_ref().unwrap());
        assert_eq!(limits, expected, "{surge:?} and {unavailable:?} of {replicas}");
    }
}

#[test]
fn limits_that_both_round_to_zero_allow_one_unavailable_pod() {
    let mut workload = new_workload(1);
    set_limits(&mut workload, percent("0%"), percent("50%"));
    assert_eq!(resolve_limits(workload.deployment.as_ref().unwrap()), (0, 1));
}

#[test]
fn a_new_deployment_gets_a_replica_set_named_by_its_template() {
    let workload = settled_workload(3);
    let set = &workload.replica_sets[0];
    assert_eq!(set.name, format!("fraud-{}", template("1").pod_template_hash()));
    assert_eq!((set.replicas, set.revision, set.desired_replicas, set.max_replicas), (3, 1, 3, 4));
    let deployment = workload.deployment.as_ref().unwrap();
    assert_eq!((deployment.revision, deployment.status.observed_generation), (1, 1));
    assert_eq!(deployment.status.available_replicas, 3);
    assert_eq!(progress_reason(&workload), NEW_REPLICA_SET_AVAILABLE);
}

#[test]
fn the_sync_that_creates_a_replica_set_leaves_the_status_to_the_next_one() {
    let mut workload = new_workload(3);
    assert!(sync_deployment(&mut workload, 0));
    assert_eq!(progress_reason(&workload), NEW_REPLICA_SET_CREATED);
    assert_eq!(workload.deployment.as_ref().unwrap().status.observed_generation, 0);
    assert!(sync_deployment(&mut workload, 0));
    assert_eq!(workload.deployment.as_ref().unwrap().status.observed_generation, 1);
    assert!(!sync_deployment(&mut workload, 0));
}

#[test]
fn a_rollout_replaces_one_pod_a_step_and_never_serves_less_than_desired() {
    let mut workload = settled_workload(3);
    change_spec(&mut workload, |spec| spec.template = template("2"));
    let mut sizes = Vec::new();
    loop {
        let mut changed = sync_deployment(&mut workload, 1);
        changed |= sync_replica_sets(&mut workload, 1);
        changed |= start_pods(&mut workload, 1);
        changed |= remove_deleted_pods(&mut workload);
        assert!(workload.pods.iter().filter(|pod| pod.is_ready()).count() >= 3);
        assert!(workload.pods.len() <= 4);
        let size = [size_of(&workload, &template("1")), size_of(&workload, &template("2"))];
        if sizes.last() != Some(&size.map(Option::unwrap)) {
            sizes.push(size.map(Option::unwrap));
        }
        if !changed {
            break;
        }
    }
    assert_eq!(sizes, [[3, 1], [2, 1], [2, 2], [1, 2], [1, 3], [0, 3]]);
    assert_eq!(progress_reason(&workload), NEW_REPLICA_SET_AVAILABLE);
}

#[test]
fn a_rollout_that_never_becomes_ready_keeps_the_old_pods() {
    let mut workload = settled_workload(4);
    set_limits(&mut workload, IntOrString::Int(1), IntOrString::Int(1));
    change_spec(&mut workload, |spec| spec.template = homeless("2"));
    run_to_rest(&mut workload, 1);
    assert_eq!(size_of(&workload, &template("1")), Some(3));
    assert_eq!(size_of(&workload, &homeless("2")), Some(2));
    assert_eq!(progress_reason(&workload), REPLICA_SET_UPDATED);
}

#[test]
fn going_back_reuses_the_replica_set_and_gives_it_the_next_revision() {
    let mut workload = settled_workload(2);
    change_spec(&mut workload, |spec| spec.template = template("2"));
    run_to_rest(&mut workload, 1);
    change_spec(&mut workload, |spec| spec.template = template("1"));
    run_to_rest(&mut workload, 2);
    assert_eq!(workload.replica_sets.len(), 2);
    let set = find_set(&workload, &template("1")).unwrap();
    assert_eq!((set.replicas, set.revision, set.created), (2, 3, 0));
    assert_eq!(workload.deployment.as_ref().unwrap().revision, 3);
}

#[test]
fn unhealthy_old_pods_go_before_healthy_ones() {
    let mut workload = settled_workload(3);
    change_spec(&mut workload, |spec| spec.template = homeless("2"));
    run_to_rest(&mut workload, 1);
    change_spec(&mut workload, |spec| spec.template = homeless("3"));
    run_to_rest(&mut workload, 2);
    let templates = [template("1"), homeless("2"), homeless("3")];
    let sizes = templates.map(|template| size_of(&workload, &template).unwrap());
    assert_eq!(sizes, [3, 0, 1]);
}

#[test]
fn a_paused_deployment_makes_no_replica_set_and_still_scales() {
    let mut workload = settled_workload(2);
    change_spec(&mut workload, |spec| {
        (spec.paused, spec.template, spec.replicas) = (true, template("2"), 5);
    });
    run_to_rest(&mut workload, 1);
    assert_eq!(size_of(&workload, &template("1")), Some(5));
    assert_eq!(size_of(&workload, &template("2")), None);
    assert_eq!(progress_reason(&workload), DEPLOYMENT_PAUSED);
    assert_eq!(workload.deployment.as_ref().unwrap().status.updated_replicas, 0);
    change_spec(&mut workload, |spec| spec.paused = false);
    assert!(sync_deployment(&mut workload, 2));
    assert_eq!(progress_reason(&workload), DEPLOYMENT_RESUMED);
    run_to_rest(&mut workload, 2);
    assert_eq!(size_of(&workload, &template("2")), Some(5));
    assert_eq!(progress_reason(&workload), NEW_REPLICA_SET_AVAILABLE);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let mut workload = settled_workload(10);
    set_limits(&mut workload, IntOrString::Int(3), IntOrString::Int(2));
    change_spec(&mut workload, |spec| spec.template = homeless("2"));
    run_to_rest(&mut workload, 1);
    let sizes = |workload: &Workload| {
        [size_of(workload, &template("1")), size_of(workload, &homeless("2"))].map(Option::unwrap)
    };
    assert_eq!(sizes(&workload), [8, 5]);
    // The example of Kubernetes' documentation.
    change_spec(&mut workload, |spec| spec.replicas = 15);
    assert!(sync_deployment(&mut workload, 2));
    assert_eq!(sizes(&workload), [11, 7]);
    change_spec(&mut workload, |spec| spec.replicas = 0);
    run_to_rest(&mut workload, 3);
    assert_eq!(sizes(&workload), [0, 0]);
}

#[test]
fn old_replica_sets_beyond_the_history_limit_are_deleted_after_a_complete_rollout() {
    let mut workload = settled_workload(1);
    change_spec(&mut workload, |spec| spec.revision_history_limit = 1);
    for version in ["2", "3"] {
        change_spec(&mut workload, |spec| spec.template = template(version));
        run_to_rest(&mut workload, 1);
    }
    assert_eq!(workload.replica_sets.len(), 2);
    assert!(find_set(&workload, &template("1")).is_none());
    assert_eq!(workload.deployment.as_ref().unwrap().revision, 3);
}

#[test]
fn a_rollout_without_progress_times_out_one_second_after_its_deadline() {
    let mut workload = settled_workload(1);
    change_spec(&mut workload, |spec| {
        (spec.template, spec.progress_deadline_seconds) = (homeless("2"), 60);
    });
    run_to_rest(&mut workload, 100);
    assert_eq!(next_deadline(&workload, 100), Some(161));
    assert!(!sync_deployment(&mut workload, 160));
    assert!(sync_deployment(&mut workload, 161));
    assert_eq!(progress_reason(&workload), PROGRESS_DEADLINE_EXCEEDED);
    assert_eq!(next_deadline(&workload, 161), None);
    change_spec(&mut workload, |spec| spec.paused = true);
    run_to_rest(&mut workload, 162);
    assert_eq!(progress_reason(&workload), PROGRESS_DEADLINE_EXCEEDED);
}

#[test]
fn a_ready_pod_is_available_after_min_ready_seconds() {
    let mut workload = new_workload(1);
    change_spec(&mut workload, |spec| spec.min_ready_seconds = 10);
    run_to_rest(&mut workload, 5);
    let status = |workload: &Workload| workload.deployment.as_ref().unwrap().status.clone();
    assert_eq!((status(&workload).ready_replicas, status(&workload).available_replicas), (1, 0));
    assert_eq!(next_availability(&workload, 5), Some(15));
    run_to_rest(&mut workload, 15);
    assert_eq!(status(&workload).available_replicas, 1);
    assert_eq!(next_availability(&workload, 15), None);
}

#[test]
fn a_quota_that_refuses_pods_is_a_replica_failure_until_it_grows() {
    let mut workload = new_workload(3);
    workload.quota = Some(2);
    run_to_rest(&mut workload, 0);
    let failure = workload.deployment.as_ref().unwrap().status.replica_failure.clone().unwrap();
    assert_eq!(failure.reason, "FailedCreate");
    let expected = "exceeded quota: pods, requested: pods=1, used: pods=2, limited: pods=2";
    assert!(failure.message.ends_with(expected), "{}", failure.message);
    workload.quota = Some(3);
    run_to_rest(&mut workload, 1);
    let status = &workload.deployment.as_ref().unwrap().status;
    assert_eq!((status.replica_failure.as_ref(), status.available_replicas), (None, 3));
}

#[test]
fn surplus_pods_go_in_kubernetes_order() {
    let mut workload = settled_workload(6);
    let edit = |pod: &mut Pod, change: fn(&mut Pod)| change(pod);
    edit(&mut workload.pods[5], |pod| pod.state = Default::default());
    edit(&mut workload.pods[4], |pod| {
        (pod.state.ready_since, pod.state.started) = (None, None);
    });
    edit(&mut workload.pods[3], |pod| pod.state.ready_since = None);
    edit(&mut workload.pods[2], |pod| pod.state.ready_since = Some(9));
    edit(&mut workload.pods[1], |pod| pod.state.restarts = 1);
    let mut order = Vec::new();
    for replicas in (0..6).rev() {
        let name = |pod: &&Pod| pod.deleting && !order.contains(&pod.name);
        workload.replica_sets[0].replicas = replicas;
        sync_replica_sets(&mut workload, 10);
        let gone: Vec<_> = workload.pods.iter().filter(name).map(|p| p.name.clone()).collect();
        order.extend(gone);
    }
    let expected: Vec<_> = workload.pods.iter().rev().map(|pod| pod.name.clone()).collect();
    assert_eq!(order, expected);
}

#[test]
fn finished_and_deleting_pods_are_replaced() {
    let mut workload = settled_workload(2);
    workload.pods[0].state.finished = true;
    workload.pods[1].deleting = true;
    run_to_rest(&mut workload, 1);
    assert_eq!(workload.pods.iter().filter(|pod| pod.is_ready()).count(), 2);
    assert_eq!(workload.deployment.as_ref().unwrap().status.replicas, 2);
}

#[test]
fn deletion_takes_everything_and_orphaning_leaves_it_to_the_next_deployment() {
    let mut workload = settled_workload(2);
    let deployment = new_workload(2).deployment;
    orphan(&mut workload);
    run_to_rest(&mut workload, 1);
    assert_eq!(workload.pods.len(), 2);
    workload.deployment = deployment;
    run_to_rest(&mut workload, 2);
    assert_eq!((workload.replica_sets.len(), workload.pods.len()), (1, 2));
    assert_eq!(workload.deployment.as_ref().unwrap().revision, 1);
    delete_deployment(&mut workload);
    run_to_rest(&mut workload, 3);
    assert_eq!((workload.replica_sets.len(), workload.pods.len()), (0, 0));
}
