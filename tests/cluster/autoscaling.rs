//! A HorizontalPodAutoscaler, by Kubernetes' own controller, on the ModelDeployment and on the
//! wrong object.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::story::{Story, condition};

/// How long two who fight are watched: shorter than the first wait of the operator.
const FIGHT: Duration = Duration::from_secs(25);

fn autoscaler(name: &str, target: &Value, min: u32, max: u32) -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {"scaleTargetRef": target, "minReplicas": min, "maxReplicas": max}})
}

#[test]
fn an_autoscaler_on_the_model_deployment_scales_it_up_and_down_and_rolls_nothing() {
    let story = Story::serving_six("hpa");
    let target =
        json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelDeployment", "name": "fraud"});
    let has = |n: u64| {
        let (mdep, child) = (story.mdep(), story.get("deployment", "fraud"));
        mdep["spec"]["replicas"] == n
            && mdep["status"]["replicas"] == n
            && child["spec"]["replicas"] == n
            && child["status"]["availableReplicas"] == n
    };
    // Its bounds alone move it: no metric is needed for that. Kubernetes' controller learns of a
    // new CRD once in 30 s only.
    story.apply(&autoscaler("fraud", &target, 3, 5));
    story.cluster.until("it is scaled up", || has(3));
    story.apply(&autoscaler("fraud", &target, 1, 1));
    story.until_true("it is scaled down", || has(1));
    let told = story.get("hpa", "fraud");
    assert_eq!(condition(&told, "AbleToScale")["status"], "True", "{told}");
    assert_eq!((story.newest(), condition(&story.mdep(), "AutoscaledChild")), (1, Value::Null));
    // It goes on scaling what goes on rolling.
    story.apply(&autoscaler("fraud", &target, 4, 5));
    story.want("7");
    story.serves("7");
    story.until_true("it is scaled up", || has(4));
    assert_eq!(story.newest(), 2);
}

/// The metrics API as a CRD: the autoscaler asks the API server for PodMetrics, and does not mind
/// who keeps them.
fn metrics_api() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "pods.metrics.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, of a test"}},
        "spec": {"group": "metrics.k8s.io", "scope": "Namespaced", "names": {"plural": "pods", "singular": "pod", "kind": "PodMetrics", "listKind": "PodMetricsList"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": schema}]}})
}

/// Says what each pod uses.
fn all_use(story: &Story, memory: &str) {
    for pod in story.list("pod") {
        let metadata =
            json!({"name": pod["metadata"]["name"], "labels": pod["metadata"]["labels"]});
        story.apply(&json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": metadata,
            "timestamp": "2099-01-01T00:00:00Z", "window": "1s", "containers": [{"name": "model", "usage": {"memory": memory}}]}));
    }
}

#[test]
fn an_autoscaler_scales_the_model_deployment_by_what_its_pods_use() {
    let story = Story::serving_six("hpametric");
    story.apply(&metrics_api());
    story.kubectl(&[
        "wait",
        "crd/pods.metrics.k8s.io",
        "--for=condition=Established",
        "--timeout=60s",
    ]);
    story.patch(&json!({"template": {"spec": {"containers": [{"name": "model", "resources": {"requests": {"memory": "100Mi"}}}]}}}));
    story.until("its pods ask for memory", |o| {
        o["status"]["rollout"] == 2 && o["status"]["state"] == "Serving"
    });
    let pods = |n: usize| {
        story.list("pod").iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null()).count()
            == n
    };
    story.until_true("the old pods are gone", || pods(2) && story.list("pod").len() == 2);
    all_use(&story, "200Mi");
    let target =
        json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelDeployment", "name": "fraud"});
    let mut scaler = autoscaler("fraud", &target, 2, 5);
    scaler["spec"]["metrics"] = json!([{"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 100}}}]);
    scaler["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 0}});
    story.apply(&scaler);
    // Kubernetes' controller learns of new APIs once in 30 s only.
    story.cluster.until("twice the memory, twice the pods", || {
        story.mdep()["spec"]["replicas"] == 4 && pods(4)
    });
    all_use(&story, "20Mi");
    story.until_true("the pods that are not needed go", || {
        story.mdep()["spec"]["replicas"] == 2 && pods(2)
    });
    assert_eq!(
        (story.newest(), story.mdep()["status"]["serving"]["version"].as_str()),
        (2, Some("6"))
    );
}

#[test]
fn an_autoscaler_on_the_child_deployment_is_a_condition_that_names_it() {
    let story = Story::serving_six("hpachild");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"});
    // It wants more than the ModelDeployment, once in 2 s.
    story.apply(&autoscaler("wrong", &target, 3, 5));
    let mdep =
        story.until("it is a condition", |o| condition(o, "AutoscaledChild")["status"] == "True");
    for text in [&condition(&mdep, "AutoscaledChild")["message"], &mdep["status"]["message"]] {
        assert!(text.as_str().unwrap().contains("wrong"), "{text}");
    }
    assert_eq!(condition(&mdep, "Ready")["status"], "True");
    let note = story.event("RevertIneffective");
    assert!(note.contains("another value of replicas again"), "{note}");
    let child = || story.get("deployment", "fraud");
    let generation = || child()["metadata"]["generation"].as_i64().unwrap();
    let before = generation();
    std::thread::park_timeout(FIGHT);
    let writes = generation() - before;
    assert!(writes <= 2, "{writes} writes of two who fight, in {FIGHT:?}");
    let has = |replicas: u32| child()["spec"]["replicas"] == replicas;
    let began = Instant::now();
    story.kubectl(&["scale", "mdep/fraud", "--replicas=4"]);
    story.until_true("another number is set at once", || has(4));
    story.kubectl(&["scale", "mdep/fraud", "--replicas=2"]);
    let told = |o: &Value| o["status"]["observedGeneration"] == o["metadata"]["generation"];
    story.until("the number of before is seen", told);
    story.until_true("the autoscaler fights that too", || has(3));
    story.kubectl(&["delete", "hpa", "wrong"]);
    story.until_true("without it, the number is set at once", || has(2));
    assert!(began.elapsed() < FIGHT, "{:?}", began.elapsed());
    story.until("it is over", |o| {
        condition(o, "AutoscaledChild").is_null() && o["status"]["message"] == "Serving version 6."
    });
    assert_eq!(story.newest(), 1);
}
