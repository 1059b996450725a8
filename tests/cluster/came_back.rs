//! What a webhook of the cluster sets again each time that the operator writes.

use serde_json::{Value, json};

use crate::harness::story::Story;

const MIRROR: &str = "mirror.example.com/fraud:";

/// A policy that has the images of Deployments pulled from a mirror, in force for one namespace.
fn install_mirror(story: &Story) {
    let name = format!("mirror-{}", story.namespace);
    let api = "admissionregistration.k8s.io/v1";
    let image = "object.spec.template.spec.containers[0].image";
    let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
        "operations": ["CREATE", "UPDATE"]}]);
    let expression = format!(
        "[JSONPatch{{op: 'replace', path: '/spec/template/spec/containers/0/image', value: \
         {image}.replace('registry.example.com', 'mirror.example.com')}}]"
    );
    story.apply(&json!({"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": rules}, "reinvocationPolicy": "Never", "failurePolicy": "Fail",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]}}));
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": story.namespace}});
    story.apply(&json!({"apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": {"namespaceSelector": here}}}));
    let probe = ["create", "deployment", "probe", "--image=registry.example.com/fraud:6"];
    story.until_true("the policy is in force", || {
        let args = [&probe[..], &["--dry-run=server", "-o", "yaml"]].concat();
        story.kubectl(&args).contains(MIRROR)
    });
}

#[test]
fn an_image_that_a_policy_rewrites_is_told_by_its_path_and_is_nobody_elses_change() {
    let story = Story::begin("mirror");
    install_mirror(&story);
    for version in ["6", "7"] {
        story.version(version, version);
    }
    story.deploy("6");
    story.serves("6");
    let told = |reason: &str| -> Vec<Value> {
        let events = story.list("events.events.k8s.io");
        events.into_iter().filter(|e| e["reason"] == reason).collect()
    };
    story.until_true("it is told", || told("RevertIneffective").len() == 1);
    story.want("7");
    story.serves("7");
    story.until_true("it is told of the next template", || told("RevertIneffective").len() == 2);
    assert_eq!(story.image(), format!("{MIRROR}7"));
    for event in told("RevertIneffective") {
        let note = event["note"].as_str().unwrap();
        let says = "another value of template.spec.containers[name=model].image again";
        assert!(note.contains(says) && note.contains("webhook"), "{note}");
    }
    assert_eq!(told("DriftCorrected"), [Value::Null; 0], "nobody changed anything");
    assert_eq!(story.newest(), 2);
}
