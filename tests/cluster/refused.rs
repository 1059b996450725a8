//! Writes that the API server refuses: each is reported, delays nothing else, and what serves stays.

use serde_json::{Value, json};

use crate::harness::story::{Denied, Story, condition, deployment, observed};

/// A corrected object gets no later than this, in seconds, what an uncorrected one waits for.
const AT_ONCE: u64 = 20;

#[test]
fn a_label_value_that_the_api_server_refuses_keeps_what_serves_and_says_refused() {
    let story = Story::serving_six("badlabel");
    let pods = story.pods_of("6");
    let label = |value: &str| json!({"template": {"metadata": {"labels": {"team": value}}}});
    story.patch(&label("risk and fraud"));
    let mdep = story.settles("Invalid", "6");
    assert_eq!(condition(&mdep, "Stalled")["reason"], "Refused");
    let message = mdep["status"]["message"].as_str().unwrap();
    assert!(message.contains("risk and fraud") && message.contains("labels"), "{message}");
    assert_eq!(story.pods_of("6"), pods);
    story.patch(&label("risk"));
    story.settles("Serving", "6");
    let newest = u32::try_from(story.newest()).unwrap();
    let labels = || {
        story.get("deployment", "fraud")["spec"]["template"]["metadata"]["labels"]["team"].clone()
    };
    assert_eq!(
        (story.record(newest)["outcome"].as_str(), labels()),
        (Some("Promoted"), json!("risk"))
    );
}

#[test]
fn a_misspelt_nested_field_is_invalid_before_any_record_and_is_corrected_at_once() {
    let story = Story::serving_six("misspelt");
    let env = |source: &str| {
        let env =
            json!([{"name": "TOKEN", "valueFrom": {source: {"name": "tokens", "key": "token"}}}]);
        json!({"version": "7", "template": {"spec": {"containers": [{"name": "model", "env": env}]}}})
    };
    story.patch(&env("secretKeyReff"));
    let mdep = story.settles("Invalid", "6");
    assert_eq!(condition(&mdep, "Stalled")["reason"], "InvalidTemplate");
    let message = mdep["status"]["message"].as_str().unwrap();
    let path = "spec.template.spec.containers[0].env[0].valueFrom.secretKeyReff";
    assert!(message.starts_with(path), "{message}");
    assert_eq!((story.rollouts(), story.list("controllerrevisions").len()), (1, 1));
    let began = std::time::Instant::now();
    story.patch(&env("secretKeyRef"));
    story.serves("7");
    assert!(began.elapsed().as_secs() < AT_ONCE);
    assert_eq!(story.rollouts(), 2);
}

#[test]
fn an_undo_beside_a_refused_number_of_replicas_is_carried_out() {
    let story = Story::serving_seven("fivepods");
    let rule = Denied {
        name: "at-most-five",
        resource: "apps/deployments",
        operation: "UPDATE",
        allowed: "object.spec.replicas <= 5",
        message: "at most five pods are allowed here",
        reason: "Invalid",
    };
    let patch = r#"{"spec":{"replicas":6}}"#;
    story.deny(&rule, &["patch", "deployment", "fraud", "--dry-run=server", "-p", patch]);
    story.kubectl(&["scale", "mdep/fraud", "--replicas=8"]);
    let told =
        |o: &Value| o["status"]["message"].as_str().is_some_and(|m| m.contains(rule.message));
    let mdep = story.until("the refusal is reported", |o| observed(o) && told(o));
    assert_eq!(mdep["status"]["state"], "Serving");
    assert_eq!(condition(&mdep, "Stalled"), Value::Null);
    assert_eq!(story.ask("Undo")["status"]["result"], "Done");
    let mdep = story.settles("Held", "6");
    assert!(told(&mdep) && story.image().ends_with(":6"), "{mdep}");
    let replicas = || story.get("deployment", "fraud")["spec"]["replicas"].clone();
    assert_eq!(replicas(), 2);
    story.kubectl(&["scale", "mdep/fraud", "--replicas=4"]);
    story.until_true("the corrected number is tried at once", || replicas() == 4);
    story.until("it is reported no longer", |o| observed(o) && !told(o));
}

#[test]
fn without_a_deployment_that_may_not_be_created_again_it_is_not_ready() {
    let mut story = Story::serving_six("nodeployments");
    let rule = Denied {
        name: "no-deployments",
        resource: "apps/deployments",
        operation: "CREATE",
        allowed: "false",
        message: "nobody creates Deployments here",
        reason: "Forbidden",
    };
    let probe = ["create", "deployment", "probe", "--image=a:1", "--dry-run=server"];
    story.deny(&rule, &probe);
    story.kubectl(&["delete", "deployment", "fraud"]);
    let mdep = story.until("it is not ready", |o| condition(o, "Ready")["status"] == "False");
    assert_eq!(condition(&mdep, "Available")["status"], "False");
    story.until("the refusal is reported", |o| {
        o["status"]["message"].as_str().is_some_and(|m| m.contains(rule.message))
            && condition(o, "Ready")["status"] == "False"
    });
    assert_eq!(story.rollouts(), 1);
    story.allow_again(&rule, &probe);
    story.kill_operator();
    story.start_operator();
    let mdep = story.until("it is ready", |o| condition(o, "Ready")["status"] == "True");
    assert_eq!(mdep["status"]["serving"]["version"], "6");
    assert_eq!(story.rollouts(), 1);
}

/// The rule of an auditor who means well: records never change.
const IMMUTABLE: Denied<'_> = Denied {
    name: "immutable-records",
    resource: "rollmodel.dev/modelrollouts",
    operation: "UPDATE",
    allowed: "false",
    message: "ModelRollouts never change here",
    reason: "Forbidden",
};

/// Changes a record, if no rule forbids it.
const CHANGES_A_RECORD: [&str; 6] = [
    "patch",
    "mro",
    "fraud-1",
    "--dry-run=server",
    "--type=merge",
    "-p={\"metadata\":{\"annotations\":{\"note\":\"hello\"}}}",
];

#[test]
fn that_a_version_serves_is_told_once_its_record_can_say_so() {
    let mut story = Story::serving_six("unpromoted");
    story.version("7", "7");
    story.version("8", "behave-crash-loop");
    story.deny(&IMMUTABLE, &CHANGES_A_RECORD);
    story.want("7");
    let says = "Version 7 has its pods, but its record cannot say that it serves.";
    let mdep = story.until(says, |o| {
        o["status"]["message"].as_str().is_some_and(|message| message.starts_with(says))
    });
    let message = mdep["status"]["message"].as_str().unwrap();
    assert!(message.contains(IMMUTABLE.message), "{message}");
    assert_eq!((&mdep["status"]["state"], story.rollouts()), (&json!("Waiting"), 2));
    story.allow_again(&IMMUTABLE, &CHANGES_A_RECORD);
    story.kill_operator();
    story.start_operator();
    story.serves("7");
    story.want("8");
    story.settles("RolledBack", "7");
}

#[test]
fn a_pause_that_cannot_be_recorded_is_not_answered_done() {
    let mut story = Story::serving_six("immutable");
    let (rule, probe) = (IMMUTABLE, CHANGES_A_RECORD);
    story.deny(&rule, &probe);
    let name = story.request(json!({"verb": "Pause", "ifDecision": story.decision()}));
    let mdep = story.until("the refusal is reported", |o| {
        o["status"]["message"].as_str().is_some_and(|m| m.contains(rule.message))
    });
    assert_eq!(condition(&mdep, "Paused"), Value::Null);
    assert_eq!(story.get("rreq", &name)["status"].get("result"), None);
    assert_ne!(story.get("deployment", "fraud")["spec"]["paused"], true);
    story.allow_again(&rule, &probe);
    story.kill_operator();
    story.start_operator();
    story.until_true("it is done then", || story.get("rreq", &name)["status"]["result"] == "Done");
    story.until_true("it is paused", || story.get("deployment", "fraud")["spec"]["paused"] == true);
}

#[test]
fn a_label_value_that_is_refused_when_the_deployment_is_created_goes_back_or_says_so() {
    let mut story = Story::begin("refused-create");
    story.version("6", "6");
    let label = |value: &str| json!({"template": {"metadata": {"labels": {"team": value}}}});
    story.apply(&deployment(
        "fraud",
        json!({"model": "fraud", "version": "6", "replicas": 2,
            "template": {"metadata": {"labels": {"team": "risk and fraud"}}}}),
    ));
    let mdep = story.state("Invalid");
    assert_eq!(condition(&mdep, "Stalled")["reason"], "Refused");
    let message = mdep["status"]["message"].as_str().unwrap();
    assert!(message.contains("risk and fraud") && message.contains("labels"), "{message}");
    assert_eq!(story.record(1)["outcome"], Value::Null, "there is nothing to go back to");
    story.patch(&label("risk"));
    story.serves("6");
    let before = u32::try_from(story.newest()).unwrap();
    // The next mistake comes, and someone deletes the Deployment, while the operator is away.
    story.kill_operator();
    story.patch(&label("risk or fraud"));
    story.kubectl(&["delete", "deployment", "fraud"]);
    story.start_operator();
    story.settles("Invalid", "6");
    let (left, back) = (story.record(before + 1), story.record(before + 2));
    assert_eq!((&left["outcome"], &back["trigger"]), (&json!("Failed"), &json!("Refused")));
    assert!(story.message().contains("risk or fraud"), "{}", story.message());
    story.until_true("what served is there again", || {
        story.find("deployment", "fraud").is_some_and(|d| d["status"]["availableReplicas"] == 2)
    });
}

#[test]
fn a_kubectl_pause_that_cannot_be_recorded_stays_and_is_recorded_once_it_can_be() {
    let mut story = Story::serving_six("kubectlpause");
    let (rule, probe) = (IMMUTABLE, CHANGES_A_RECORD);
    story.deny(&rule, &probe);
    story.kubectl(&["rollout", "pause", "deployment/fraud"]);
    let mdep = story.until("the refusal is reported", |o| {
        o["status"]["message"].as_str().is_some_and(|m| m.contains(rule.message))
    });
    assert_eq!(mdep["status"]["state"], "Waiting");
    let is_paused = || story.get("deployment", "fraud")["spec"]["paused"] == true;
    assert!(is_paused(), "it is not reverted");
    story.allow_again(&rule, &probe);
    story.kill_operator();
    story.start_operator();
    story.until("it is recorded", |o| condition(o, "Paused")["status"] == "True");
    assert_eq!(story.record(1)["decisions"][0]["verb"], "Pause");
    assert_eq!(story.get("deployment", "fraud")["spec"]["paused"], true);
}

#[test]
fn a_stored_revision_without_our_label_is_told_and_an_undo_is_answered_once_it_is_back() {
    let story = Story::serving_seven("nolabel");
    let revision = story.record(1)["revisionName"].as_str().unwrap().to_owned();
    let label = |change: &str| {
        story.kubectl(&["label", "controllerrevision", &revision, "--overwrite", change]);
    };
    label("app.kubernetes.io/managed-by-");
    let name = story.request(json!({"verb": "Undo", "ifDecision": story.decision()}));
    let command = format!(
        "kubectl label controllerrevision {revision} -n {} app.kubernetes.io/managed-by=rollmodel \
         --overwrite",
        story.namespace
    );
    story.until("the label is asked for", |o| {
        o["status"]["message"].as_str().is_some_and(|message| message.contains(&command))
    });
    assert_eq!(story.get("rreq", &name)["status"].get("result"), None);
    assert_eq!((story.newest(), story.image().ends_with(":7")), (2, true));
    label("app.kubernetes.io/managed-by=rollmodel");
    story.until_true("it is done then", || story.get("rreq", &name)["status"]["result"] == "Done");
    story.settles("Held", "6");
}
