//! A HorizontalPodAutoscaler, by Kubernetes' own controller, on the ModelDeployment and on the wrong object.

use serde_json::{Value, json};

use crate::harness::story::{Story, condition};

fn autoscaler(name: &str, target: &Value, min: u32, max: u32) -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {"scaleTargetRef": target, "minReplicas": min, "maxReplicas": max}})
}

#[test]
fn an_autoscaler_on_the_model_deployment_scales_it_up_and_down_and_rolls_nothing() {
    let story = Story::serving_six("hpa");
    let target = json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelDeployment", "name": "fraud"});
    let has = |n: u64| {
        let (mdep, child) = (story.mdep(), story.get("deployment", "fraud"));
        mdep["spec"]["replicas"] == n
            && mdep["status"]["replicas"] == n
            && child["spec"]["replicas"] == n
            && child["status"]["availableReplicas"] == n
    };
    // Its bounds alone move it: no metric is needed for that. Kubernetes' controller learns of a new CRD once in 30 s only.
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

#[test]
fn an_autoscaler_on_the_child_deployment_is_a_condition_that_names_it() {
    let story = Story::serving_six("hpachild");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"});
    story.apply(&autoscaler("wrong", &target, 1, 5));
    let mdep = story.until("it is a condition", |o| condition(o, "AutoscaledChild")["status"] == "True");
    for text in [&condition(&mdep, "AutoscaledChild")["message"], &mdep["status"]["message"]] {
        assert!(text.as_str().unwrap().contains("wrong"), "{text}");
    }
    assert_eq!(condition(&mdep, "Ready")["status"], "True");
    story.kubectl(&["delete", "hpa", "wrong"]);
    story.until("it is over", |o| condition(o, "AutoscaledChild").is_null() && o["status"]["message"] == "Serving version 6.");
    assert_eq!(story.newest(), 1);
}
