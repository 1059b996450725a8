//! ModelDeployments that are deleted, created again, or restored.

use serde_json::{Value, json};

use crate::harness::story::{Story, condition};
use crate::restore::stripped;

#[test]
fn a_pause_that_outlives_its_model_deployment_is_lifted_by_a_resume() {
    let story = Story::begin("outlives");
    story.version("6", "behave-crash-loop");
    story.version("7", "7");
    story.deploy("6");
    story.state("Waiting");
    assert_eq!(story.ask("Pause")["status"]["result"], "Done");
    story.kubectl(&["delete", "mdep", "fraud", "--wait=true"]);
    story.until_true("its record ended", || story.record(1)["outcome"] == "Deleted");
    story.until_true("its Deployment is gone", || story.find("deployment", "fraud").is_none());
    story.deploy("7");
    story.state("Paused");
    assert_eq!(story.ask("Resume")["status"]["result"], "Done");
    story.serves("7");
}

#[test]
fn a_model_deployment_that_a_finalizer_keeps_is_not_ready_and_refuses_requests() {
    let story = Story::serving_seven("finalizer");
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}}).to_string();
    let patch = |list: Value| {
        story.kubectl(&["patch", "mdep", "fraud", "--type=merge", "-p", &finalizers(list)]);
    };
    patch(json!(["example.com/keep"]));
    story.kubectl(&["delete", "mdep", "fraud", "--wait=false"]);
    let mdep = story.until("it is not ready", |o| condition(o, "Ready")["reason"] == "Deleting");
    assert_eq!(condition(&mdep, "Ready")["status"], "False");
    let answer = story.ask("Undo");
    assert_eq!(answer["status"]["result"], "Refused");
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("ModelDeployment fraud is being deleted"), "{message}");
    patch(json!(null));
    story.until_true("its serving ended", || story.record(2).get("servedUntil").is_some());
}

#[test]
fn a_port_without_tcp_is_invalid_and_what_serves_keeps_its_clients() {
    let story = Story::serving_six("udp");
    let ports = json!([{"name": "model", "containerPort": 8080, "protocol": "UDP"}]);
    story
        .patch(&json!({"template": {"spec": {"containers": [{"name": "model", "ports": ports}]}}}));
    let mdep = story.settles("Invalid", "6");
    let message = mdep["status"]["message"].as_str().unwrap();
    assert!(message.contains("has no port with protocol TCP"), "{message}");
    assert_eq!((story.newest(), story.image().ends_with(":6")), (1, true));
}

/// Restores an old backup, the records first, while the operator runs.
#[test]
fn restored_with_the_records_first_a_paused_deployment_gets_pods_and_no_record_ends() {
    let story = Story::serving_seven("recordsfirst");
    story.ask("Undo");
    story.settles("Held", "6");
    assert_eq!(story.ask("Pause")["status"]["result"], "Done");
    story.until_true("the Deployment is paused", || {
        story.get("deployment", "fraud")["spec"]["paused"] == true
    });
    let kinds = ["mro", "controllerrevisions", "mv", "deployment", "service", "mdep"];
    let backup: Vec<Value> = kinds.iter().flat_map(|kind| story.list(kind)).map(stripped).collect();
    story.kubectl(&["delete", "mdep", "fraud", "--wait=true"]);
    for kind in ["mro", "rreq", "mv", "controllerrevisions"] {
        story.kubectl(&["delete", kind, "--all", "--wait=true"]);
    }
    story.until_true("all of it is gone", || {
        kinds.iter().chain(&["pod"]).all(|kind| story.list(kind).is_empty())
    });
    for mut object in backup {
        if object["kind"] == "ModelRollout" {
            object["spec"]["startTime"] = json!("2026-01-01T00:00:00Z");
        }
        let namespace = ["-n", story.namespace.as_str(), "create", "-f", "-"];
        story.cluster.kubectl_in(&namespace, &object.to_string());
    }
    let mdep = story.until("it serves what it served, paused", |o| {
        o["status"]["state"] == "Held"
            && condition(o, "Paused")["status"] == "True"
            && condition(o, "Ready")["status"] == "True"
    });
    assert_eq!(mdep["status"]["serving"]["version"], "6");
    assert_eq!((story.rollouts(), story.record(3).get("servedUntil")), (3, None));
    story.until_true("it has its pods", || story.list("pod").len() == 2);
    assert_eq!(story.ask("Resume")["status"]["result"], "Done");
}
