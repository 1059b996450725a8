use serde_json::json;

use super::*;
use crate::run::object::sent;

fn digest(spec: Value) -> String {
    record_digest(spec)
}

#[test]
fn the_digest_of_a_version_knows_neither_nulls_nor_key_order_nor_what_may_change() {
    let a = digest(
        json!({"model": "fraud", "version": "7", "image": "a:1", "metrics": [{"name": "auc", "value": 0.1}]}),
    );
    let b = digest(
        json!({"metrics": [{"value": 0.1, "name": "auc", "dataset": null}], "image": "a:1", "version": "7", "model": "fraud",
        "code": null, "description": "d", "evaluations": [{"name": "x", "value": 1}], "lifecycle": {"state": "Yanked"}}),
    );
    assert_eq!(a, b);
    let c = digest(
        json!({"model": "fraud", "version": "7", "image": "a:2", "metrics": [{"name": "auc", "value": 0.1}]}),
    );
    assert_ne!(a, c);
    let unknown = digest(
        json!({"model": "fraud", "version": "7", "image": "a:1", "metrics": [{"name": "auc", "value": 0.1}], "new": 1}),
    );
    assert_ne!(a, unknown, "fields that this operator does not know count too");
}

#[test]
fn a_pin_or_a_failed_verification_is_news_to_who_waits_and_no_other_status_is() {
    let read = |status: Value, old: Option<&VersionEntry>| {
        let object = sent(
            &json!({"metadata": {"name": "fraud-8", "uid": "u", "generation": 1}, "status": status,
            "spec": {"model": "fraud", "version": "8", "artifact": {"uri": "s3://m/8"}}}),
        );
        VersionEntry::read(object, old).unwrap()
    };
    let first = read(json!({}), None);
    let used = read(json!({"usedByCount": 1}), Some(&first));
    assert_eq!(VersionEntry::news(Some(&first), Some(&used)), Some(News::Counts));
    let verification = json!({"number": 1, "job": "j", "time": "2026-01-01T00:00:00Z", "reason": "NotFound", "message": "no."});
    let failed = read(json!({"verification": verification}), Some(&used));
    assert_eq!(VersionEntry::news(Some(&used), Some(&failed)), Some(News::Turn));
    assert!(failed.version.unverified.as_ref().is_some_and(|u| u.failed && u.message == "no."));
    let pinned = read(
        json!({"verification": verification, "resolved": {"artifactDigest": "sha256:aa"}}),
        Some(&failed),
    );
    assert_eq!(VersionEntry::news(Some(&failed), Some(&pinned)), Some(News::Turn));
    assert_eq!(
        (pinned.version.pin.as_deref(), &pinned.version.unverified),
        (Some("sha256:aa"), &None)
    );
}

#[test]
fn a_version_is_read_whatever_is_in_it() {
    let object = sent(&json!({"metadata": {"name": "fraud-7"},
        "spec": {"model": "fraud", "version": "7", "lifecycle": {"state": "Frozen"}, "artifact": 3}, "status": 4}));
    let entry = VersionEntry::read(object, None).unwrap();
    assert_eq!(entry.version.model, "fraud");
    assert_eq!(entry.version.lifecycle.unwrap().state, LifecycleState::Yanked);
    assert!(entry.status.is_none());
}

#[test]
fn a_record_and_a_request_are_found_by_the_names_that_their_types_write() {
    let named = crate::api::rollout::ModelDeploymentRef { name: "fraud".into(), uid: None };
    let record = json!({"metadata": {"name": "fraud-1"}, "spec": {"modelDeploymentRef": named}});
    assert_eq!(Record::owners(&sent(&record)), ["fraud"]);
    let asked = json!({"modelDeployment": "fraud", "verb": "Undo", "ifDecision": "1"});
    let asked: crate::api::RolloutRequestSpec = serde_json::from_value(asked).unwrap();
    let request = json!({"metadata": {"name": "undo"}, "spec": asked});
    assert_eq!(Request::owners(&sent(&request)), ["fraud"]);
}
