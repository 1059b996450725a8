//! CRDs that are missing or older than the operator, and objects that it cannot read.

use rollmodel::{
    api::{
        names::SCHEMA_LEVEL_NOW,
        rollout::{ADDED_ONCE, APPENDED},
    },
    plan::facts::revision::compute_digest,
};
use serde_json::{Value, json};

use crate::harness::{
    Cluster, Options,
    operator::Operator,
    rest::Rest,
    story::{Story, condition, deployment},
};

fn ready(story: &Story) -> (u16, String) {
    story.operator.as_ref().map(|o| o.get("/readyz")).unwrap_or_default()
}

/// The CRDs as they are served.
fn served_crds(cluster: &Cluster) -> Vec<Value> {
    let selector = "app.kubernetes.io/part-of=rollmodel";
    let list = cluster.kubectl(&["get", "crd", "-l", selector, "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn replace_crds(cluster: &Cluster, crds: &[Value]) {
    for crd in crds {
        let mut crd = crd.clone();
        crd["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        cluster.kubectl_in(&["replace", "-f", "-"], &crd.to_string());
    }
}

/// Fields that the CRDs of an older release lack.
const LACKING: [(&str, &str, &str); 4] = [
    ("ModelRollout", "spec", "standsOn"),
    ("ModelRollout", "spec", "observedImages"),
    ("ModelDeployment", "status", "history"),
    ("RolloutRequest", "status", "rollout"),
];

/// A CRD as an older release has it: of a lower level, and with fewer fields.
fn make_older(mut crd: Value) -> Value {
    crd["metadata"]["annotations"]["rollmodel.dev/schema-level"] = json!("0");
    let kind = crd["spec"]["names"]["kind"].clone();
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for (_, part, field) in LACKING.iter().filter(|(of, ..)| kind == *of) {
        let part = &mut schema[*part];
        let known = part["properties"].as_object_mut().unwrap();
        assert!(known.remove(*field).is_some(), "{kind} has no {field}");
        if let Some(rules) = part["x-kubernetes-validations"].as_array_mut() {
            let path = format!(".{field}");
            rules.retain(|rule| rule["fieldPath"] != path.as_str());
        }
    }
    crd
}

/// The digest of a stored record as it was created.
fn digest_created(mut record: Value) -> String {
    for later in ADDED_ONCE.iter().chain(&APPENDED) {
        record.as_object_mut().unwrap().remove(*later);
    }
    compute_digest(&record)
}

#[test]
fn missing_crds_are_waited_for_by_name_and_with_older_ones_nothing_but_going_back_begins() {
    let own = Cluster::own(Options::default());
    let cluster = own.cluster();
    let mut story = Story { cluster, namespace: cluster.namespace("crds"), operator: None };
    story.operator = Some(Operator::namespaced(cluster, &story.namespace));
    let missing =
        ["modelversions", "modeldeployments", "modelrollouts", "rolloutrequests", "modelpolicies"]
            .map(|p| format!("the API server does not serve {p} yet: apply crds/"));
    let named = |(status, text): (u16, String)| {
        status == 503 && missing.iter().all(|m| text.contains(m)) && !text.contains("Pod")
    };
    cluster.until("it says which are missing", || named(ready(&story)));
    assert_eq!(story.operator.as_ref().unwrap().get("/healthz").0, 200, "it waits, and is alive");
    cluster.apply_crds();
    cluster.until("it goes on by itself", || ready(&story).0 == 200);
    story.version("6", "6");
    story.version("7", "7");
    story.deploy("6");
    story.serves("6");

    story.want("7");
    story.serves("7");

    let newer = served_crds(cluster);
    let older: Vec<Value> = newer.iter().cloned().map(make_older).collect();
    replace_crds(cluster, &older);
    cluster.until("it says that they are older", || ready(&story).0 == 503);
    let (_, text) = ready(&story);
    let older = format!(
        "CRD modelversions.rollmodel.dev is older than this operator (schema level 0, needed {SCHEMA_LEVEL_NOW}): apply crds/"
    );
    assert!(text.contains(&older), "{text}");
    story.version("8", "8");
    story.want("8");
    let mdep = story.settles("Pending", "7");
    assert_eq!(condition(&mdep, "Ready")["reason"], "CRDsOlder");
    // What serves is still kept as it has to be.
    story.kubectl(&["set", "image", "deployment/fraud", "model=evil:1"]);
    story.until_true("the image is put back", || story.image().ends_with("fraud:7"));
    assert_eq!(story.newest(), 2);

    // Going back is recorded and answered with the fields that the older CRDs know.
    let answer = story.ask("Undo");
    assert_eq!(
        (&answer["status"]["result"], &answer["status"]["rollout"]),
        (&json!("Done"), &Value::Null)
    );
    let mdep = story.settles("Pending", "6");
    assert_eq!(mdep["status"]["history"], Value::Null);
    let record = story.record(3);
    assert_eq!(record["rejects"]["scope"], "Version");
    assert_eq!(record["outcome"], "Promoted");
    for unknown in ["standsOn", "observedImages", "previousDigest"] {
        assert_eq!(record[unknown], Value::Null, "{unknown}");
    }

    replace_crds(cluster, &newer);
    story.serves("8");
    assert_eq!(ready(&story).0, 200);
    let chained = digest_created(story.record(3));
    assert_eq!(story.record(4)["previousDigest"], json!(chained));
}

#[test]
fn an_object_that_cannot_be_read_is_warned_of_once_and_left_alone_and_the_others_go_on() {
    let own = Cluster::own(Options::default());
    let cluster = own.cluster();
    cluster.apply_crds();
    // A newer schema than this operator knows.
    let protocol =
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/protocol/enum";
    cluster.kubectl(&[
        "patch",
        "crd",
        "modeldeployments.rollmodel.dev",
        "--type=json",
        "-p",
        &json!([{"op": "remove", "path": protocol}]).to_string(),
    ]);
    let mut story = Story { cluster, namespace: cluster.namespace("unread"), operator: None };
    story.start_operator();
    story.version("6", "6");
    story.version("7", "7");
    let rest = Rest::new(cluster, &story.namespace);
    let bad = deployment("bad", json!({"model": "fraud", "version": "6", "protocol": "Telepathy"}));
    cluster.until("the looser schema is served", || {
        rest.send(&http::Method::POST, "modeldeployments", &bad).is_ok()
    });
    story.deploy("6");
    story.serves("6");
    let warnings = |story: &Story, name: &str| {
        let about = format!("={}/{name} ", story.namespace);
        story
            .operator
            .as_ref()
            .unwrap()
            .process
            .log()
            .lines()
            .filter(|l| l.contains("WARN") && l.contains(&about))
            .count()
    };
    story.until_true("it is warned of", || warnings(&story, "bad") > 0);
    // Whatever else touches it is no news.
    for _ in 0..2 {
        story.kubectl(&["annotate", "mdep", "bad", "example.com/look=again", "--overwrite"]);
        story.kubectl(&["annotate", "mdep", "bad", "example.com/look-"]);
    }
    story.want("7");
    story.serves("7");
    story.ask("Undo");
    story.settles("Held", "6");
    assert_eq!(warnings(&story, "bad"), 1, "{}", story.log());
    assert_eq!(story.get("mdep", "bad")["status"]["observedGeneration"], -1);
    assert!(story.find("deployment", "bad").is_none());
    // Also one that serves already: an older operator after a newer one.
    story.patch(&json!({"protocol": "Telepathy"}));
    let before = story.get("deployment", "fraud");
    story.until_true("it is warned of too", || warnings(&story, "fraud") == 1);
    story.kubectl(&["delete", "pod", "--all"]);
    story.until_true("its pods are there again", || {
        story.list("pod").iter().filter(|p| condition(p, "Ready")["status"] == "True").count() == 2
    });
    let same = |a: &Value, b: &Value| {
        a["spec"] == b["spec"] && a["metadata"]["uid"] == b["metadata"]["uid"]
    };
    assert!(same(&before, &story.get("deployment", "fraud")), "what serves is left alone");
    // Mended, both go on.
    for name in ["bad", "fraud"] {
        story.kubectl(&[
            "patch",
            "mdep",
            name,
            "--type=merge",
            "-p",
            r#"{"spec":{"protocol":null}}"#,
        ]);
    }
    story.settles("Held", "6");
    story.until_true("it is served", || story.get("mdep", "bad")["status"]["state"] == "Serving");
}
