//! Back on a real control plane: undo, abort, failures, holds, retry.

use serde_json::json;

use crate::harness::{
    levers,
    story::{Story, condition},
};

#[test]
fn undo_serves_the_version_before_and_holds_the_one_left() {
    let story = Story::serving_seven("undo");
    let answer = story.ask("Undo");
    assert_eq!(
        answer["status"]["message"],
        "Recorded as rollout 3: going back to version 6 (rollout 1); version 7 is not served again until a Retry."
    );
    let mdep = story.settles("Held", "6");
    assert_eq!(
        (
            condition(&mdep, "Ready")["status"].as_str(),
            condition(&mdep, "Ready")["reason"].as_str()
        ),
        (Some("True"), Some("Held"))
    );
    assert_eq!(story.record(3)["decidedBy"]["name"], "alice");
    assert!(story.image().ends_with(":6"));
}

#[test]
fn edits_while_held_never_bring_the_rejected_version_back() {
    let story = Story::serving_seven("held");
    story.ask("Undo");
    story.settles("Held", "6");
    story
        .patch(&json!({"replicas": 3, "template": {"metadata": {"labels": {"commit": "abc"}}, "spec": {"serviceAccountName": "default"}}}));
    story.settles("Held", "6");
    story.until_true("it is scaled", || story.get("deployment", "fraud")["spec"]["replicas"] == 3);
    assert_eq!(story.newest(), 3);
}

#[test]
fn undo_twice_goes_one_further_back() {
    let story = Story::serving_seven("twice");
    story.version("8", "8");
    story.want("8");
    story.serves("8");
    story.ask("Undo");
    story.settles("Held", "7");
    story.ask("Undo");
    story.settles("Held", "6");
}

#[test]
fn undo_to_a_number_and_undo_after_a_restart_lead_where_they_say() {
    let story = Story::serving_seven("number");
    story.ask("Restart");
    story.until_true("restarted", || story.mdep()["status"]["serving"]["rollout"] == 3);
    story.ask("Undo");
    story.settles("Held", "6");
    story.version("8", "8");
    story.want("8");
    story.serves("8");
    let answer =
        story.ask_with(json!({"verb": "Undo", "toRollout": 2, "ifDecision": story.decision()}));
    assert_eq!(answer["status"]["result"], "Refused", "rollout 2 was rejected: {answer}");
    let answer =
        story.ask_with(json!({"verb": "Undo", "toRollout": 1, "ifDecision": story.decision()}));
    assert_eq!(answer["status"]["result"], "Done");
    story.settles("Held", "6");
}

#[test]
fn undo_by_kubectl_is_taken_as_undo_and_a_second_one_is_put_back() {
    let story = Story::serving_seven("kundo");
    story.kubectl(&["rollout", "undo", "deployment/fraud"]);
    story.settles("Held", "6");
    assert_eq!(
        (story.record(3)["trigger"].as_str(), story.record(3)["decidedBy"]["name"].as_str()),
        (Some("Undo"), Some("kubectl (unverified)"))
    );
    story.kubectl(&["rollout", "undo", "deployment/fraud"]);
    let told = story.event("UndoRefused");
    assert!(told.contains("was reverted: it was rejected by rollout 3"), "{told}");
    assert!(told.contains("one with verb Retry serves what the spec names"), "{told}");
    story.until_true("it is put back", || story.image().ends_with(":6"));
    story.settles("Held", "6");
    assert_eq!(story.newest(), 3);
}

#[test]
fn of_two_people_who_undo_at_once_one_is_refused() {
    let story = Story::serving_seven("both");
    let decision = story.decision();
    let names: Vec<String> =
        (0..2).map(|_| story.request(json!({"verb": "Undo", "ifDecision": decision}))).collect();
    let result = |name: &String| {
        story.get("rreq", name)["status"]["result"].as_str().unwrap_or_default().to_owned()
    };
    story.until_true("both are answered", || names.iter().all(|n| !result(n).is_empty()));
    let mut results: Vec<_> = names.iter().map(result).collect();
    results.sort();
    assert_eq!(results, ["Done", "Refused"]);
    story.settles("Held", "6");
    assert_eq!(story.newest(), 3);
}

#[test]
fn undo_of_a_template_change_rejects_the_content_alone() {
    let story = Story::serving_six("template");
    story.patch(&json!({"template": {"spec": {"containers": [{"name": "model", "image": "registry.example.com/patched:1"}]}}}));
    story.until_true("the patched image serves", || {
        story.mdep()["status"]["serving"]["rollout"] == 2
    });
    story.ask("Undo");
    story.settles("Held", "6");
    assert_eq!(story.record(3)["rejects"]["scope"], "Content");
    story.patch(&json!({"template": {"spec": {"containers": [{"name": "model", "image": "registry.example.com/patched:2"}]}}}));
    story.state("Serving");
    assert!(story.image().ends_with("patched:2"));
}

#[test]
fn a_bad_version_goes_back_by_itself_and_says_which_container_failed_and_why() {
    let story = Story::serving_six("bad");
    story.version("8", "behave-crash-loop");
    story.want("8");
    let mdep = story.settles("RolledBack", "6");
    assert_eq!(
        (
            condition(&mdep, "Stalled")["status"].as_str(),
            condition(&mdep, "Ready")["status"].as_str()
        ),
        (Some("True"), Some("False"))
    );
    let message = story.message();
    assert!(
        message.contains("container model of pod fraud-")
            && message.contains("exit code 1: model file is corrupt: bad magic number"),
        "{message}"
    );
    assert_eq!(
        (story.record(2)["outcome"].as_str(), story.record(3)["trigger"].as_str()),
        (Some("Failed"), Some("Failed"))
    );
    story.event("RolledBack");
    // A new label is not a correction; another image is.
    story.patch(&json!({"template": {"metadata": {"labels": {"commit": "abc"}}}}));
    story.settles("RolledBack", "6");
    story.patch(&json!({"template": {"spec": {"containers": [{"name": "model", "image": "registry.example.com/mended:8"}]}}}));
    story.serves("8");
}

#[test]
fn an_image_name_that_is_none_is_the_contents_failure() {
    let story = Story::serving_six("badimage");
    story.version("8", "behave-invalid-image");
    story.want("8");
    story.settles("RolledBack", "6");
    assert!(story.message().contains("InvalidImageName"), "{}", story.message());
}

#[test]
fn a_bad_first_version_waits_with_nothing_to_go_back_to_and_then_heals() {
    let story = Story::begin("badfirst");
    story.version("6", "behave-crash-loop");
    story.deploy("6");
    let mdep = story.state("Waiting");
    assert_eq!(condition(&mdep, "Stalled")["status"], "True");
    assert_eq!(story.newest(), 1);
    levers::heal(story.cluster, &story.namespace, "fraud");
    story.serves("6");
}

#[test]
fn a_container_that_crashes_once_is_no_failure() {
    let story = Story::serving_six("once");
    story.version("8", "behave-crash-once");
    story.want("8");
    story.serves("8");
    assert_eq!(story.newest(), 2);
}

#[test]
fn a_model_that_never_loads_goes_back_at_the_deadline() {
    let story = Story::serving_six("never");
    story.patch(&json!({"progressDeadlineSeconds": 3}));
    story.version("8", "behave-never-ready");
    story.want("8");
    story.settles("RolledBack", "6");
    assert!(
        story.message().contains("was not ready within progressDeadlineSeconds (3)"),
        "{}",
        story.message()
    );
}

#[test]
fn an_image_that_cannot_be_pulled_is_waited_for_past_the_deadline_and_then_serves() {
    let story = Story::serving_six("pull");
    story.patch(&json!({"progressDeadlineSeconds": 3, "replicas": 1}));
    story.version("8", "behave-image-pull");
    story.want("8");
    story.settles("Waiting", "6");
    assert!(story.message().contains("ImagePullBackOff"), "{}", story.message());
    assert_eq!(story.newest(), 2);
    levers::heal(story.cluster, &story.namespace, "fraud");
    story.serves("8");
}

#[test]
fn no_node_with_room_is_waited_for_and_then_serves() {
    let story = Story::serving_six("room");
    story.patch(&json!({"progressDeadlineSeconds": 3}));
    let label = format!("test.rollmodel.dev/{}", story.namespace);
    story.patch(&json!({"version": "7", "template": {"spec": {"nodeSelector": {&label: "yes"}}}}));
    story.settles("Waiting", "6");
    assert!(story.message().contains("finds no node"), "{}", story.message());
    story.cluster.kubectl(&["label", "node", "node-0", &format!("{label}=yes")]);
    story.serves("7");
}

#[test]
fn a_quota_that_forbids_the_surge_is_waited_for() {
    let story = Story::serving_six("quota");
    story.kubectl(&["create", "quota", "pods", "--hard=pods=2"]);
    story.until_true("the quota counts", || {
        story.get("quota", "pods")["status"]["used"]["pods"] == "2"
    });
    story.patch(&json!({"progressDeadlineSeconds": 3, "version": "7"}));
    story.settles("Waiting", "6");
    assert!(story.message().contains("exceeded quota"), "{}", story.message());
    story.kubectl(&["delete", "quota", "pods"]);
    story.serves("7");
}

#[test]
fn abort_stops_what_goes_on_and_is_refused_while_it_goes_back() {
    let story = Story::serving_six("abort");
    story.version("8", "behave-image-pull");
    story.want("8");
    story.until("version 8 is on its way", |o| o["status"]["candidate"]["version"] == "8");
    assert_eq!(story.ask("Abort")["status"]["result"], "Done");
    story.settles("Held", "6");
    assert_eq!(
        (story.record(2)["outcome"].as_str(), story.record(3)["trigger"].as_str()),
        (Some("Aborted"), Some("Abort"))
    );
    assert_eq!(story.ask("Abort")["status"]["result"], "NothingToDo");
}

#[test]
fn going_back_that_fails_too_waits_and_an_abort_of_it_is_refused() {
    let story = Story::serving_seven_after_slow_six("backfails");
    // Nothing has room any more when it goes back.
    story.kubectl(&["create", "quota", "pods", "--hard=pods=2"]);
    story.until_true("the quota counts", || {
        story.get("quota", "pods")["status"]["used"]["pods"] == "2"
    });
    story.ask("Undo");
    story.until("it waits", |o| {
        o["status"]["message"].as_str().is_some_and(|m| m.contains("exceeded quota"))
    });
    let answer = story.ask("Abort");
    assert_eq!(answer["status"]["result"], "Refused");
    assert!(
        answer["status"]["message"].as_str().unwrap().contains("Retry returns to version 7"),
        "{answer}"
    );
    assert_eq!(story.newest(), 3);
    story.kubectl(&["delete", "quota", "pods"]);
    story.settles("Held", "6");
}

#[test]
fn a_spec_that_returns_to_a_rejected_version_stays_held_until_retry() {
    let story = Story::serving_seven("retry");
    story.ask("Undo");
    story.settles("Held", "6");
    story.want("6");
    story.settles("Serving", "6");
    assert_eq!(story.newest(), 3, "git that reverts to what serves touches nothing");
    story.want("7");
    story.settles("Held", "6");
    assert_eq!(story.ask("Retry")["status"]["result"], "Done");
    story.settles("Serving", "7");
}

#[test]
fn undo_works_while_paused_and_the_pause_is_put_back() {
    let story = Story::serving_seven("pausedundo");
    story.patch(&json!({"paused": true}));
    story.until_true("paused", || story.get("deployment", "fraud")["spec"]["paused"] == true);
    story.ask("Undo");
    story.settles("Held", "6");
    story.until_true("paused again", || story.get("deployment", "fraud")["spec"]["paused"] == true);
}

#[test]
fn deleted_and_recreated_on_a_rejected_version_it_serves_what_served_last() {
    let story = Story::serving_seven("recreate");
    story.ask("Undo");
    story.settles("Held", "6");
    story.kubectl(&["delete", "mdep", "fraud", "--wait=true"]);
    story.until_true("its serving ended", || story.record(3).get("servedUntil").is_some());
    story.until_true("its Deployment is gone", || story.find("deployment", "fraud").is_none());
    story.deploy("7");
    story.settles("Held", "6");
    assert_eq!(story.record(4)["trigger"], "Recreated");
    story.version("8", "8");
    story.want("8");
    story.serves("8");
    story.ask("Undo");
    story.settles("Held", "6");
}

#[test]
fn a_template_that_the_api_server_refuses_goes_back_with_its_sentence() {
    let story = Story::serving_six("refused");
    story.patch(
        &json!({"template": {"spec": {"containers": [{"name": "model", "volumeMounts": [{"name": "nowhere", "mountPath": "/x"}]}]}}}),
    );
    let mdep = story.settles("Invalid", "6");
    assert_eq!(condition(&mdep, "Stalled")["reason"], "Refused");
    assert_eq!(
        (story.record(2)["outcome"].as_str(), story.record(3)["trigger"].as_str()),
        (Some("Failed"), Some("Refused"))
    );
    assert_eq!(story.record(3)["rejects"]["scope"], "Revision");
    let message = mdep["status"]["message"].as_str().unwrap();
    assert!(message.contains("volumeMounts[0].name"), "{message}");
    story.patch(&json!({"template": null}));
    story.settles("Serving", "6");
}
