use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::run::object::{Object, sent};

fn object(name: &str, rv: u64, rest: Value) -> Event<Object> {
    let mut all = json!({"metadata": {"namespace": "ml", "name": name, "uid": format!("uid-{name}"), "resourceVersion": rv.to_string(), "generation": rv,
        "labels": {"rollmodel.dev/model-deployment": "fraud"}}});
    for (k, v) in rest.as_object().unwrap() {
        all[k] = v.clone();
    }
    Event::Apply(sent(&all))
}

fn record(
    number: i64,
    version: &str,
    digest: &str,
    revision_name: &str,
    served: bool,
) -> Event<Object> {
    let mut spec = json!({"modelDeploymentRef": {"name": "fraud"}, "number": number, "direction": "Forward",
        "admission": {"asked": "Newly"}, "model": "fraud", "version": version, "recordDigest": digest, "renderingDigest": "r",
        "revisionHash": "v1:sha256:aa", "contentHash": "c", "revisionName": revision_name, "strategy": "RollingUpdate", "deploymentName": "fraud", "trigger": "SpecChanged",
        "decidedBy": {"name": "spec"}, "startTime": format!("2026-01-0{number}T00:00:00Z")});
    if served {
        spec["servedFrom"] = json!("2026-01-05T00:00:00Z");
    }
    object(&format!("fraud-{number}"), 10 + number.unsigned_abs(), json!({"spec": spec}))
}

fn version(name: &str, model: &str, version: &str) -> Event<Object> {
    object(name, 3, json!({"spec": {"model": model, "version": version, "image": "a"}}))
}

fn content(name: &str) -> Event<Object> {
    object(
        name,
        4,
        json!({"revision": 1, "data": {"revisionHash": "v1:sha256:aa", "content": {}, "rendering": {"spec": {}}}}),
    )
}

fn world() -> Caches {
    let caches = Caches::default();
    caches.wanted.write().feed(object("fraud", 1, json!({"spec": {"model": "fraud", "version": "8"},
        "status": {"serving": {"version": "7", "recordDigest": "d", "revisionHash": "h", "rollout": 2, "deployment": "fraud", "replicas": 1, "ready": 1,
            "since": "2026-01-05T00:00:00Z"}}})));
    caches.versions.write().feed(version("fraud-7", "fraud", "7"));
    caches.versions.write().feed(version("fraud-8", "fraud-8", "x"));
    caches.versions.write().feed(version("churn-1", "churn", "1"));
    for (number, contents) in [(1, "fraud-a"), (2, "fraud-b"), (3, "fraud-c")] {
        caches.records.write().feed(record(
            number,
            "7",
            &format!("sha256:{number}"),
            contents,
            number == 2,
        ));
        caches.contents.write().feed(content(contents));
    }
    caches.contents.write().feed(content("fraud-new"));
    caches
}

fn observe(caches: &Caches) -> Observed {
    caches.observe(&Key::new("ml", "fraud"), &Found::default(), Memory::default()).unwrap()
}

#[test]
fn versions_are_those_of_the_spec_and_the_records_under_their_own_name() {
    let seen = observe(&world());
    let names: Vec<&str> = seen.versions.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["fraud-7", "fraud-8"]);
    assert_eq!(seen.versions[1].model, "fraud-8", "the planner says NameTaken");
    assert_eq!(seen.versions[0].bound_to.as_deref(), Some("sha256:1"));
    assert_eq!(seen.versions[1].bound_to, None);
}

#[test]
fn bodies_are_kept_for_what_serves_the_newest_and_the_new() {
    let seen = observe(&world());
    let bodies: Vec<(&str, bool)> =
        seen.revisions.iter().map(|c| (c.name.as_str(), c.body.is_some())).collect();
    assert_eq!(
        bodies,
        [("fraud-a", false), ("fraud-b", true), ("fraud-c", true), ("fraud-new", true)]
    );
}

#[test]
fn what_was_looked_up_takes_precedence() {
    let mut found = Found { records: Some(Vec::new()), ..Found::default() };
    found.contents.insert("fraud-b".into(), None);
    let seen = world().observe(&Key::new("ml", "fraud"), &found, Memory::default()).unwrap();
    assert!(seen.records.is_empty());
    assert!(seen.revisions.iter().all(|c| c.name != "fraud-b"));
}

#[test]
fn a_version_knows_who_serves_it() {
    let seen = world().observe_version(&Key::new("ml", "fraud-7")).unwrap();
    assert_eq!(seen.uid, "uid-fraud-7");
    assert_eq!(seen.used_by.len(), 1);
    assert_eq!(seen.used_by[0].model_deployment, "fraud");
    assert!(world().observe_version(&Key::new("ml", "none")).is_none());
}

#[test]
fn nothing_is_planned_about_an_object_that_cannot_be_read() {
    let caches = world();
    caches.wanted.write().feed(object(
        "fraud",
        99,
        json!({"spec": {"model": "fraud", "version": 8}}),
    ));
    let error =
        caches.observe(&Key::new("ml", "fraud"), &Found::default(), Memory::default()).unwrap_err();
    assert!(error.to_string().contains("ModelDeployment ml/fraud"), "{error}");
}

#[test]
fn a_crd_without_a_level_is_older() {
    let caches = Caches::default();
    assert!(!caches.crds_older());
    caches.schemas.write().feed(object("modelversions.rollmodel.dev", 1, json!({})));
    assert!(caches.crds_older());
    assert!(caches.older()[0].contains("apply crds/"));
}
