//! Forward on a real control plane: first rollouts, the spec, pauses, scaling, restarts.

use serde_json::json;

use crate::harness::{
    audit, levers,
    story::{Story, condition, deployment, observed, version_of},
};

#[test]
fn a_first_rollout_serves_behind_a_deployment_and_a_service() {
    let story = Story::serving_six("first");
    let mdep = story.mdep();
    assert_eq!(condition(&mdep, "Ready")["status"], "True");
    assert_eq!(story.message(), "Serving version 6.");
    assert_eq!(
        story.get("service", "fraud")["spec"]["selector"],
        json!({"rollmodel.dev/model-deployment": "fraud", "rollmodel.dev/track": "main"})
    );
    let record = story.record(1);
    assert_eq!(
        (record["trigger"].as_str(), record["outcome"].as_str(), record["direction"].as_str()),
        (Some("SpecChanged"), Some("Promoted"), Some("Forward"))
    );
    assert!(record["observedImages"][0].as_str().unwrap().contains("@sha256:"), "{record}");
    story.until_true("version 6 says where it serves", || {
        story.get("mv", "fraud-6")["status"]["message"]
            .as_str()
            .is_some_and(|m| m.starts_with("Serving in fraud since"))
    });
}

#[test]
fn forward_and_back_by_spec_are_numbered_rollouts_and_going_back_reuses_the_content() {
    let story = Story::serving_seven("spec");
    story.want("6");
    story.serves("6");
    assert_eq!(story.record(3)["revisionName"], story.record(1)["revisionName"]);
    assert_eq!(story.list("controllerrevisions").len(), 2);
    assert_eq!(story.list("replicasets").len(), 2);
}

#[test]
fn a_rollout_costs_nine_requests_and_a_settled_object_none() {
    let story = Story::serving_six("cost");
    story.until_true("version 6 is used", || {
        story.get("mv", "fraud-6")["status"]["usedByCount"] == 1
    });
    let mark = audit::mark(story.cluster);
    story.want("7");
    story.serves("7");
    story.until_true("version 7 is used", || {
        story.get("mv", "fraud-7")["status"]["usedByCount"] == 1
            && story.get("mv", "fraud-6")["status"]["usedByCount"] == 0
    });
    let counts = mark.count("rollmodel", Some(&story.namespace));
    assert!(audit::total(&counts) <= 10, "{counts:?}");
    // Whatever is triggered without a change is no request: labels of ours untouched, an annotation
    // of someone else's added.
    let settled = audit::mark(story.cluster);
    story.kubectl(&["annotate", "mdep", "fraud", "example.com/note=hello"]);
    story.kubectl(&["annotate", "deployment", "fraud", "example.com/note=hello"]);
    story.kubectl(&["annotate", "deployment", "fraud", "example.com/note=again", "--overwrite"]);
    story.cluster.until("the annotations are in the audit log", || {
        audit::total(&settled.count("kubectl", Some(&story.namespace))) >= 3
    });
    let counts = settled.count("rollmodel", Some(&story.namespace));
    assert!(counts.is_empty(), "{counts:?}");
}

#[test]
fn a_version_that_appears_after_the_deployment_heals_it() {
    let story = Story::begin("late");
    story.deploy("6");
    let pending = story.state("Pending");
    assert_eq!(
        (
            condition(&pending, "Ready")["status"].as_str(),
            condition(&pending, "Reconciling")["status"].as_str()
        ),
        (Some("False"), Some("True"))
    );
    story.version("6", "6");
    story.serves("6");
}

#[test]
fn a_version_deleted_while_it_serves_changes_nothing_and_the_message_says_so() {
    let story = Story::serving_six("gone");
    story.kubectl(&["delete", "mv", "fraud-6"]);
    let mdep = story.until("the message says so", |o| {
        o["status"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("ModelVersion fraud-6 was deleted"))
    });
    assert_eq!(condition(&mdep, "Ready")["status"], "True");
    assert_eq!(story.rollouts(), 1);
}

#[test]
fn yanked_while_serving_stays_with_a_message_and_yanked_in_the_spec_is_not_served() {
    let story = Story::serving_six("yank");
    let yank = |version: &str| {
        story.kubectl(&[
            "patch",
            "mv",
            version,
            "--type=merge",
            "-p",
            r#"{"spec":{"lifecycle":{"state":"Yanked","reason":"Leaks the label"}}}"#,
        ])
    };
    yank("fraud-6");
    story.until("the message says so", |o| {
        o["status"]["message"].as_str().is_some_and(|m| m.contains("yanked: Leaks the label"))
    });
    assert_eq!(story.mdep()["status"]["state"], "Serving");
    yank("fraud-7");
    story.want("7");
    let mdep = story.settles("Invalid", "6");
    assert_eq!(
        (
            condition(&mdep, "Stalled")["status"].as_str(),
            condition(&mdep, "Stalled")["reason"].as_str()
        ),
        (Some("True"), Some("VersionYanked"))
    );
}

#[test]
fn yanked_mid_rollout_goes_back_and_rejects_nothing() {
    let story = Story::serving_six("yankmid");
    story.version("8", "behave-image-pull");
    story.want("8");
    story.until("version 8 is on its way", |o| o["status"]["candidate"]["version"] == "8");
    story.kubectl(&[
        "patch",
        "mv",
        "fraud-8",
        "--type=merge",
        "-p",
        r#"{"spec":{"lifecycle":{"state":"Yanked"}}}"#,
    ]);
    story.settles("Invalid", "6");
    let record = story.record(3);
    assert_eq!((record["trigger"].as_str(), record.get("rejects")), (Some("Yanked"), None));
}

#[test]
fn a_pause_holds_the_rollout_that_goes_on_and_resume_lets_it_go() {
    let story = Story::serving_six("pause");
    story.version("8", "behave-image-pull");
    story.want("8");
    story.until("version 8 is on its way", |o| o["status"]["candidate"]["version"] == "8");
    assert_eq!(story.ask("Pause")["status"]["result"], "Done");
    let paused = story.state("Paused");
    assert_eq!(
        (
            condition(&paused, "Paused")["status"].as_str(),
            condition(&paused, "Ready")["status"].as_str()
        ),
        (Some("True"), Some("False"))
    );
    assert_eq!(story.get("deployment", "fraud")["spec"]["paused"], true);
    assert_eq!(story.ask("Resume")["status"]["result"], "Done");
    story.state("Rolling");
    levers::heal(story.cluster, &story.namespace, "fraud");
    // The pod that was healed is the first of two; the second is made then, and healed too.
    story.until_true("it serves 8", || {
        levers::heal(story.cluster, &story.namespace, "fraud");
        story.mdep()["status"]["serving"]["version"] == "8"
    });
}

#[test]
fn a_pause_while_settled_holds_the_next_change() {
    let story = Story::serving_six("pausenext");
    story.patch(&json!({"paused": true}));
    story.state("Serving");
    story.want("7");
    story.settles("Paused", "6");
    assert_eq!(story.rollouts(), 1);
    story.patch(&json!({"paused": false}));
    story.serves("7");
}

#[test]
fn kubectl_rollout_pause_resume_restart_status_and_history_work_on_the_deployment() {
    let story = Story::serving_seven("plain");
    story.kubectl(&["rollout", "pause", "deployment/fraud"]);
    story
        .until_true("the pause is recorded", || story.record(2)["decisions"][0]["verb"] == "Pause");
    story.want("6");
    story.settles("Paused", "7");
    story.kubectl(&["rollout", "resume", "deployment/fraud"]);
    story.serves("6");
    assert_eq!(story.record(2)["decisions"][1]["verb"], "Resume");
    story.kubectl(&["rollout", "restart", "deployment/fraud"]);
    story.until_true("the restart is a rollout", || story.newest() == 4);
    story.kubectl(&["rollout", "status", "deployment/fraud", "--timeout=60s"]);
    story.serves("6");
    assert_eq!(
        (story.record(4)["trigger"].as_str(), story.record(4)["decidedBy"]["name"].as_str()),
        (Some("Restart"), Some("kubectl (unverified)"))
    );
    let history = story.kubectl(&["rollout", "history", "deployment/fraud"]);
    assert!(history.contains("rollout 4: version 6"), "{history}");
}

#[test]
fn kubectl_scale_works_on_the_model_deployment_also_during_a_rollout() {
    let story = Story::serving_six("scale");
    story.version("8", "behave-image-pull");
    story.want("8");
    story.until("version 8 is on its way", |o| o["status"]["candidate"]["version"] == "8");
    story.kubectl(&["scale", "mdep/fraud", "--replicas=4"]);
    story.until_true("the Deployment is scaled", || {
        story.get("deployment", "fraud")["spec"]["replicas"] == 4
    });
    assert_eq!(story.newest(), 2);
    story.want("6");
    let mdep = story.serves("6");
    assert_eq!(mdep["spec"]["replicas"], 4);
}

#[test]
fn a_rollout_at_no_replicas_stays_open_and_is_promoted_once_it_is_scaled() {
    let story = Story::begin("zero");
    story.version("6", "6");
    story.apply(&deployment("fraud", json!({"model": "fraud", "version": "6", "replicas": 0})));
    let mdep = story.state("Serving");
    let ready = condition(&mdep, "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("ScaledToZero")));
    assert_eq!(story.record(1).get("outcome"), None);
    story.kubectl(&["scale", "mdep/fraud", "--replicas=2"]);
    story.serves("6");
    assert_eq!(story.record(1)["outcome"], "Promoted");
}

#[test]
fn a_restart_by_request_gives_new_pods_of_the_same_content() {
    let story = Story::serving_six("restart");
    let before = story.kubectl(&["get", "pod", "-o", "name"]);
    assert_eq!(story.ask("Restart")["status"]["result"], "Done");
    story.until_true("rollout 2 serves", || story.mdep()["status"]["serving"]["rollout"] == 2);
    assert_ne!(before, story.kubectl(&["get", "pod", "-o", "name"]));
    assert_eq!(story.record(2)["revisionHash"], story.record(1)["revisionHash"]);
}

#[test]
fn what_someone_else_does_to_a_child_is_put_back() {
    let story = Story::serving_six("drift");
    story.kubectl(&["set", "image", "deployment/fraud", "model=evil:1"]);
    story.until_true("the image is put back", || story.image() == "registry.example.com/fraud:6");
    assert!(story.event("DriftCorrected").contains("containers[name=model].image"));
    story.kubectl(&["set", "env", "deployment/fraud", "EVIL=1"]);
    story.until_true("the variable is taken away", || {
        !story.kubectl(&["get", "deployment", "fraud", "-o", "yaml"]).contains("EVIL")
    });
    story.kubectl(&["delete", "service", "fraud"]);
    story.until_true("the Service is back", || story.find("service", "fraud").is_some());
    story.kubectl(&[
        "patch",
        "service",
        "fraud",
        "--type=merge",
        "-p",
        r#"{"spec":{"selector":{"app":"evil"}}}"#,
    ]);
    story.until_true("the selector is back", || {
        story.get("service", "fraud")["spec"]["selector"].get("rollmodel.dev/track").is_some()
    });
    story.kubectl(&[
        "label",
        "deployment",
        "fraud",
        "rollmodel.dev/model-deployment-",
        "app.kubernetes.io/managed-by-",
        "rollmodel.dev/model-",
        "rollmodel.dev/decision-",
    ]);
    story.until_true("the labels are back", || {
        story.get("deployment", "fraud")["metadata"]["labels"]["rollmodel.dev/decision"] == "1.0"
    });
    let uid = story.get("deployment", "fraud")["metadata"]["uid"].clone();
    story.kubectl(&["delete", "deployment", "fraud"]);
    story.until_true("the Deployment is back", || {
        story.find("deployment", "fraud").is_some_and(|d| d["metadata"]["uid"] != uid)
    });
    story.serves("6");
    assert_eq!(story.rollouts(), 1);
}

#[test]
fn an_object_of_a_childs_name_that_is_not_ours_is_never_touched() {
    let story = Story::begin("conflict");
    story.version("6", "6");
    story.kubectl(&["create", "deployment", "fraud", "--image=someone:1"]);
    let before = story.get("deployment", "fraud")["metadata"]["generation"].clone();
    story.deploy("6");
    let mdep = story.state("Invalid");
    assert_eq!(condition(&mdep, "Stalled")["reason"], "Conflict");
    assert!(
        story.message().contains("Deployment fraud exists and is not ours"),
        "{}",
        story.message()
    );
    assert_eq!(story.get("deployment", "fraud")["metadata"]["generation"], before);
    story.kubectl(&["delete", "deployment", "fraud"]);
    story.kubectl(&["annotate", "mdep", "fraud", "example.com/look=again"]);
    story.serves("6");
}

#[test]
fn an_empty_status_is_never_read_as_settled_and_ready_means_that_it_serves() {
    let mut story = Story::begin("kstatus");
    story.cluster.kubectl_in(
        &["-n", &story.namespace, "apply", "-f", "-"],
        &version_of("fraud", "6", json!({"image": "x:6"})).to_string(),
    );
    story.kill_operator();
    story.deploy("6");
    assert_eq!(
        story.mdep()["status"]["observedGeneration"],
        -1,
        "nothing reads an empty status as settled"
    );
    assert!(!observed(&story.mdep()));
    story.start_operator();
    story.kubectl(&["wait", "mdep/fraud", "--for=condition=Ready", "--timeout=60s"]);
    assert_eq!(story.mdep()["status"]["serving"]["version"], "6");
}

#[test]
fn an_erased_status_is_rebuilt_with_every_decision() {
    let story = Story::serving_seven("erase");
    story.ask("Undo");
    story.settles("Held", "6");
    story.kubectl(&[
        "patch",
        "mdep",
        "fraud",
        "--subresource=status",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/status"}]"#,
    ]);
    let mdep = story.settles("Held", "6");
    assert_eq!(mdep["status"]["hold"]["rejected"]["version"], "7");
    assert_eq!(mdep["status"]["history"].as_array().unwrap().len(), 3);
}
