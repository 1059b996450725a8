//! The served version changes where the version was changed, and never by a restart, a label, a
//! slow environment, pods that come and go, or a name that is used again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use crate::harness::{
    levers,
    operator::PRUNE_AT_ONCE,
    rest::{Rest, runtime},
    story::{Story, condition, deployment, version_of},
};

/// Version 6 serves, and its pods crash once they are restarted.
fn serving_fragile(hint: &str) -> Story {
    let story = Story::begin(hint);
    story.version("5", "5");
    story.version("6", "restarted-crash-loop");
    story.deploy("5");
    story.serves("5");
    story.want("6");
    story.serves("6");
    story
}

#[test]
fn a_restart_whose_pod_crashes_keeps_the_version_and_its_abort_keeps_the_pods() {
    let story = serving_fragile("crashingrestart");
    let pods = story.pods_of("restarted-crash-loop");
    assert_eq!(story.ask("Restart")["status"]["result"], "Done");
    let mdep = story.settles("Waiting", "6");
    assert_eq!(condition(&mdep, "Stalled")["status"], "True");
    let message = mdep["status"]["message"].as_str().unwrap();
    assert!(message.contains("crashed 3 times") && message.contains("Abort"), "{message}");
    assert_eq!((story.newest(), story.record(3).get("outcome")), (3, None));
    assert_eq!(story.ask("Abort")["status"]["result"], "Done");
    story.settles("Serving", "6");
    let back = story.record(4);
    assert_eq!(
        (back["direction"].as_str(), back["outcome"].as_str(), back.get("rejects")),
        (Some("Back"), Some("Promoted"), None)
    );
    assert_eq!(story.pods_of("restarted-crash-loop"), pods, "no healthy pod was replaced");
}

#[test]
fn from_7_to_8_half_way_and_back_to_7_replaces_no_healthy_pod_of_7() {
    let story = Story::begin("halfway");
    story.version("7", "7");
    story.version("8", "behave-image-pull");
    story.apply(&deployment(
        "fraud",
        json!({"model": "fraud", "version": "7", "replicas": 4,
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}),
    ));
    story.serves("7");
    story.want("8");
    story.until_true("a pod of 8", || story.pods_of("behave-image-pull").len() == 1);
    levers::heal(story.cluster, &story.namespace, "fraud");
    story.until_true("a pod of 7 is replaced", || {
        story.pods_of("7").len() == 3 && story.pods_of("behave-image-pull").len() == 2
    });
    let healthy = story.pods_of("7");
    story.want("7");
    story.settles("Serving", "7");
    let pods = story.pods_of("7");
    assert_eq!(pods.len(), 4);
    assert!(healthy.iter().all(|uid| pods.contains(uid)), "{healthy:?} {pods:?}");
    let back = story.record(3);
    assert_eq!((back["direction"].as_str(), back.get("rejects")), (Some("Back"), None));
    assert_eq!(story.record(2)["outcome"], "Superseded");
}

#[test]
fn a_mistaken_undo_is_taken_back_by_a_retry_a_moment_later_and_no_healthy_pod_is_replaced() {
    let story = Story::serving_seven_after_slow_six("mistake");
    let pods = story.pods_of("7");
    assert_eq!(story.ask("Undo")["status"]["result"], "Done");
    assert_eq!(story.ask("Retry")["status"]["result"], "Done");
    story.settles("Serving", "7");
    let retry = story.record(4);
    assert_eq!(
        (retry["trigger"].as_str(), retry["direction"].as_str(), retry["outcome"].as_str()),
        (Some("Retry"), Some("Forward"), Some("Promoted"))
    );
    assert_eq!(story.pods_of("7"), pods);
    assert_eq!(story.newest(), 4);
}

#[test]
fn a_name_used_again_for_another_model_never_serves_the_model_before() {
    let story = Story::serving_seven("reused");
    story.apply(&version_of(
        "churn",
        "1",
        json!({"image": "registry.example.com/churn:behave-crash-loop"}),
    ));
    story.apply(&version_of("churn", "2", json!({"image": "registry.example.com/churn:2"})));
    story.kubectl(&["delete", "mdep", "fraud", "--wait=true"]);
    story.until_true("its Deployment is gone", || story.find("deployment", "fraud").is_none());
    let churn = |version: &str| {
        let spec = json!({"model": "churn", "version": version, "replicas": 2});
        story.apply(&deployment("fraud", spec));
    };
    churn("1");
    let mdep = story.state("Waiting");
    assert_eq!(mdep["status"].get("serving"), None);
    let answer = story.ask("Undo");
    assert_eq!(answer["status"]["result"], "Refused", "{answer}");
    assert!(story.image().contains("churn:"), "{}", story.image());
    assert_eq!((story.newest(), story.record(3)["model"].as_str()), (3, Some("churn")));
    churn("2");
    story.serves("2");
    assert!(story.image().ends_with("churn:2"));
    let (old, new) = (story.record(2), story.record(4));
    assert!(old.get("servedUntil").is_some() && new["outcome"] == "Promoted", "{old} {new}");
}

#[test]
fn eleven_commits_that_change_a_label_leave_the_way_back_to_the_version_before() {
    let mut story = Story::serving_seven("commits");
    story.start_operator_with(&[PRUNE_AT_ONCE]);
    for commit in 1..=11 {
        story.patch(
            &json!({"template": {"metadata": {"labels": {"commit": format!("c{commit}")}}}}),
        );
        story.until(&format!("commit {commit} serves"), |o| {
            o["status"]["serving"]["rollout"] == 2 + commit
        });
    }
    let answer = story.ask("Undo");
    assert_eq!(answer["status"]["result"], "Done", "{answer}");
    story.settles("Held", "6");
    assert!(story.image().ends_with(":6"));
    assert_eq!(story.record(14)["rejects"]["scope"], "Version");
}

#[test]
fn an_init_container_that_waits_longer_than_the_deadline_is_not_the_versions_failure() {
    let story = Story::serving_six("initwaits");
    let template = json!({
        "metadata": {"annotations": {"test.rollmodel.dev/behave": "init-waits"}},
        "spec": {"initContainers": [{"name": "wait-for-db", "image": "registry.example.com/wait:1"}]},
    });
    story.patch(&json!({"version": "7", "progressDeadlineSeconds": 3, "template": template}));
    let mdep = story.settles("Waiting", "6");
    let message = mdep["status"]["message"].as_str().unwrap();
    assert!(message.contains("init container wait-for-db of pod fraud-"), "{message}");
    assert_eq!(story.newest(), 2);
    story.until_true("it serves 7", || {
        levers::heal(story.cluster, &story.namespace, "fraud");
        story.mdep()["status"]["serving"]["version"] == "7"
    });
    assert_eq!(story.newest(), 2);
}

#[test]
fn a_node_later_than_the_deadline_leaves_the_model_its_whole_time_to_load() {
    let story = Story::serving_six("latenode");
    story.version("8", "behave-never-ready");
    let label = format!("test.rollmodel.dev/{}", story.namespace);
    story.patch(&json!({"version": "8", "progressDeadlineSeconds": 8,
        "template": {"spec": {"nodeSelector": {&label: "yes"}}}}));
    story.settles("Waiting", "6");
    story.cluster.kubectl(&["label", "node", "node-0", &format!("{label}=yes")]);
    let runs = |story: &Story| {
        let running =
            |pod: &Value| pod["status"]["containerStatuses"][0]["state"].get("running").is_some();
        let tagged = |pod: &&Value| pod["spec"]["nodeSelector"].get(&label).is_some();
        story.list("pod").iter().filter(tagged).any(running)
    };
    // Its model is loading, for longer than the deadline since the pod was created.
    story.until_true("the pod runs", || runs(&story));
    story.until_true("it serves 8", || {
        levers::heal(story.cluster, &story.namespace, "fraud");
        story.mdep()["status"]["serving"]["version"] == "8"
    });
    assert_eq!((story.newest(), story.record(2)["outcome"].as_str()), (2, Some("Promoted")));
}

#[test]
fn a_pause_outlives_pods_that_become_unready() {
    let story = Story::serving_six("pauseoutlives");
    assert_eq!(story.ask("Pause")["status"]["result"], "Done");
    let child = || story.get("deployment", "fraud");
    story.until_true("it is paused", || child()["spec"]["paused"] == true);
    let generation = child()["metadata"]["generation"].clone();
    levers::make_unready(story.cluster, &story.namespace, "fraud");
    let mdep = story.until("it is not ready", |o| condition(o, "Ready")["status"] == "False");
    assert_eq!(condition(&mdep, "Available")["status"], "False");
    assert_eq!(condition(&mdep, "Paused")["status"], "True");
    story.want("7");
    story.settles("Paused", "6");
    levers::heal(story.cluster, &story.namespace, "fraud");
    story.until("it is available", |o| condition(o, "Available")["status"] == "True");
    assert_eq!(child()["metadata"]["generation"], generation, "it was paused all the time");
    assert_eq!(story.ask("Resume")["status"]["result"], "Done");
    story.serves("7");
}

/// The Service's endpoints that can answer, as they come and go.
struct Endpoints {
    /// The fewest ready endpoints with a port since there was one.
    fewest: Arc<AtomicUsize>,
    now: Arc<AtomicUsize>,
    watch: tokio::task::JoinHandle<()>,
}

impl Endpoints {
    fn watch(story: &Story) -> Self {
        let (fewest, now) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
        let api =
            Api::namespaced(Rest::new(story.cluster, &story.namespace).client(), &story.namespace);
        let watch = runtime().spawn(follow(api, fewest.clone(), now.clone()));
        Self { fewest, now, watch }
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn count_ready(slice: &EndpointSlice) -> usize {
    let has_port = slice.ports.iter().flatten().any(|port| port.port.is_some());
    let is_ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
        e.conditions.as_ref().and_then(|c| c.ready) == Some(true)
    };
    if has_port { slice.endpoints.iter().flatten().filter(is_ready).count() } else { 0 }
}

async fn follow(api: Api<EndpointSlice>, fewest: Arc<AtomicUsize>, now: Arc<AtomicUsize>) {
    let slices = Mutex::new(BTreeMap::new());
    let params = WatchParams::default().labels("kubernetes.io/service-name=fraud");
    let mut version = "0".to_owned();
    loop {
        let Ok(events) = api.watch(&params, &version).await else { continue };
        let mut events = events.boxed();
        while let Ok(Some(event)) = events.try_next().await {
            let (WatchEvent::Added(slice)
            | WatchEvent::Modified(slice)
            | WatchEvent::Deleted(slice)) = &event
            else {
                continue;
            };
            version = slice.metadata.resource_version.clone().unwrap_or_default();
            let name = slice.metadata.name.clone().unwrap_or_default();
            let ready =
                if matches!(event, WatchEvent::Deleted(_)) { 0 } else { count_ready(slice) };
            let mut slices = slices.lock().unwrap();
            slices.insert(name, ready);
            let total = slices.values().sum();
            now.store(total, Ordering::Relaxed);
            if total > 0 || fewest.load(Ordering::Relaxed) < usize::MAX {
                fewest.fetch_min(total, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn a_sidecar_with_a_port_named_http_and_a_changed_protocol_leave_the_service_its_endpoints() {
    let story = Story::serving_six("ports");
    let endpoints = Endpoints::watch(&story);
    story.until_true("both pods answer", || endpoints.now.load(Ordering::Relaxed) == 2);
    let serves = |rollout: i64| {
        story.until(&format!("rollout {rollout} serves"), |o| {
            o["status"]["serving"]["rollout"] == rollout
        });
    };
    let proxy = json!({"name": "proxy", "image": "registry.example.com/proxy:1",
        "ports": [{"name": "http", "containerPort": 9091}]});
    story.patch(&json!({"template": {"spec": {"containers": [{"name": "model"}, proxy]}}}));
    serves(2);
    for (rollout, protocol) in [(3, "GRPC"), (4, "HTTP")] {
        story.patch(&json!({"protocol": protocol}));
        serves(rollout);
    }
    story.until_true("both pods answer", || endpoints.now.load(Ordering::Relaxed) == 2);
    assert!(endpoints.fewest.load(Ordering::Relaxed) > 0, "clients found nobody for a moment");
    assert_eq!(story.get("service", "fraud")["spec"]["ports"][0]["targetPort"], "model");
}
