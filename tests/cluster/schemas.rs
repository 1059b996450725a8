//! CRDs that are missing or older than the operator, and objects that it cannot read.

use rollmodel::api::names::SCHEMA_LEVEL_NOW;
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

fn level(cluster: &Cluster, level: &str) {
    let selector = "app.kubernetes.io/part-of=rollmodel";
    cluster.kubectl(&[
        "annotate",
        "crd",
        "-l",
        selector,
        &format!("rollmodel.dev/schema-level={level}"),
        "--overwrite",
    ]);
}

#[test]
fn missing_crds_are_waited_for_by_name_and_with_older_ones_no_rollout_begins() {
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

    level(cluster, "0");
    cluster.until("it says that they are older", || ready(&story).0 == 503);
    let (_, text) = ready(&story);
    let older = format!(
        "CRD modelversions.rollmodel.dev is older than this operator (schema level 0, needed {SCHEMA_LEVEL_NOW}): apply crds/"
    );
    assert!(text.contains(&older), "{text}");
    story.want("7");
    let mdep = story.settles("Pending", "6");
    assert_eq!(condition(&mdep, "Ready")["reason"], "CRDsOlder");
    // What serves is still kept as it has to be.
    story.kubectl(&["set", "image", "deployment/fraud", "model=evil:1"]);
    story.until_true("the image is put back", || story.image().ends_with("fraud:6"));
    assert_eq!(story.newest(), 1);
    level(cluster, &SCHEMA_LEVEL_NOW.to_string());
    story.serves("7");
    assert_eq!(ready(&story).0, 200);
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
