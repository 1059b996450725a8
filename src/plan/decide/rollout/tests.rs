use std::sync::Arc;

use super::*;
use crate::plan::{
    Observed,
    arbitrary::{judge, main_track, observed, promoted, record, spec_of, workload},
    facts::revision,
    observed::{ReplicaSet, StoredRevision},
};

/// The numbers of rollouts whose pods a rollout of that version would replace.
fn list_left(observed: &Observed, version: &str) -> Vec<i64> {
    judge(observed, |facts| {
        let target = Target::of_record(facts, &record(0, version));
        find_left(facts, &target).iter().map(|r| r.number).collect()
    })
}

#[test]
fn a_rollout_replaces_pods_of_every_rollout_that_was_left_since_what_serves() {
    let mut observed = observed("8", vec![promoted(1, "5"), record(2, "6"), record(3, "7")]);
    assert_eq!(list_left(&observed, "8"), [2, 3]);
    assert_eq!(list_left(&observed, "6"), [3], "its own pods stay");
    assert_eq!(list_left(&observed, "7"), [0; 0], "it goes on");
    spec_of(&mut observed).replicas = 0;
    assert_eq!(list_left(&observed, "8"), [0; 0], "there are no pods");
}

/// A stored revision of a record, whose model listens on that port.
fn store(record: &ModelRolloutSpec, port: (&str, i32)) -> StoredRevision {
    let ports = json!([{"name": port.0, "containerPort": port.1}]);
    let rendering = json!({"spec": {"containers": [{"name": "model", "ports": ports}]}});
    let (revision_hash, content) = (record.revision_hash.clone(), Value::Null);
    let body = Some(RevisionBody { revision_hash, content, rendering }.into());
    let rendering_digest = Some(record.rendering_digest.clone());
    let name = record.revision_name.clone();
    StoredRevision { name, body, rendering_digest, ..StoredRevision::default() }
}

/// Why version 8 with a port may not replace version 6, which serves, and version 7, which was left.
fn explain_port(serving: (&str, i32), left: (&str, i32), new: (&str, i32)) -> Option<String> {
    let mut observed = observed("8", vec![promoted(1, "6"), record(2, "7")]);
    observed.revisions = vec![
        store(&record(1, "6"), serving),
        store(&record(2, "7"), left),
        store(&record(3, "8"), new),
    ];
    let check = |facts: &Facts<'_>| check_port(facts, &Target::of_record(facts, &record(3, "8")));
    match judge(&observed, check).err()? {
        Unready::Problem(problem) => Some(problem.as_sentence().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pods_share_a_port_with_all_that_they_replace_by_name_or_by_number() {
    assert_eq!(explain_port(("a", 1), ("a", 2), ("a", 3)), None);
    assert_eq!(explain_port(("a", 1), ("b", 1), ("c", 1)), None);
    let why = explain_port(("a", 1), ("b", 2), ("b", 2)).unwrap();
    assert!(why.starts_with("The port of container model was a (1) and is b (2):"), "{why}");
    let why = explain_port(("a", 1), ("b", 2), ("a", 2)).unwrap();
    assert!(why.contains("the name with some of the pods that it replaces"), "{why}");
}

#[test]
fn a_restart_that_the_spec_asks_for_is_part_of_the_rollout() {
    let mut observed = observed("7", Vec::new());
    let find = |observed: &Observed| judge(observed, find_restart_in_spec);
    assert_eq!(find(&observed), None);
    let template = json!({"metadata": {"annotations": {names::RESTARTED_AT: "t"}}});
    spec_of(&mut observed).template = Some(template);
    assert_eq!(find(&observed).as_deref(), Some("t"));
    let made = judge(&observed, |facts| match prepare_desired(facts) {
        Ok(target) => target.restarted_at,
        Err(other) => panic!("{other:?}"),
    });
    assert_eq!(made.as_deref(), Some("t"));
}

#[test]
fn a_repetition_has_the_direction_of_the_rollout_in_progress() {
    let repeat = |newest: ModelRolloutSpec| {
        let records = vec![promoted(1, "6"), newest];
        judge(&observed("6", records), |facts| {
            let target = Target::of_record(facts, &record(2, "6"));
            NewRollout::restart(facts, target, decided_by(KUBECTL, None)).record.direction
        })
    };
    let back = |record| ModelRolloutSpec { direction: Direction::Back, ..record };
    assert_eq!(repeat(back(record(2, "6"))), Direction::Back);
    assert_eq!(repeat(record(2, "6")), Direction::Forward);
    assert_eq!(repeat(back(promoted(2, "6"))), Direction::Forward, "nothing is in progress");
}

#[test]
fn the_digest_of_a_record_is_that_of_what_it_was_created_with() {
    assert_eq!(digest_creation(&record(1, "6")), digest_creation(&promoted(1, "6")));
    assert_ne!(digest_creation(&record(1, "6")), digest_creation(&record(1, "7")));
    assert_eq!(revision::compute_digest(&json!({})).len(), digest_creation(&record(1, "6")).len());
}

/// The ReplicaSets that were read live, with the templates of these revisions.
fn read_replica_sets(observed: &mut Observed, hashes: &[&str]) {
    observed.tracks = main_track(workload("2.0", &record(2, "7")));
    observed.memory.looked_up = vec![crate::plan::action::Lookup::ReplicaSets];
    let make = |hash: &&str| {
        let labels = json!({names::REVISION: names::short_hash(hash)});
        let containers = json!([{"name": "model", "image": "as-it-was:1"}]);
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
        ReplicaSet { name: "set".into(), controller_uid: None, template }
    };
    observed.memory.replica_sets = hashes.iter().map(make).collect();
}

#[test]
fn only_what_serves_is_taken_from_its_replica_set_where_its_revision_is_lost() {
    let image = |serving: &str| {
        let mut observed = observed("8", Vec::new());
        let desired = judge(&observed, |facts| facts.desired.clone().unwrap());
        let eight = |number| ModelRolloutSpec {
            revision_hash: desired.revision_hash.clone(),
            ..promoted(number, "8")
        };
        let records = match serving {
            "8" => vec![promoted(1, "6"), eight(2), record(3, "7")],
            _ => vec![eight(1), promoted(2, "6"), record(3, "7")],
        };
        let with = crate::plan::arbitrary::observed("8", records);
        observed.records = with.records;
        read_replica_sets(&mut observed, &[&desired.revision_hash]);
        judge(&observed, |facts| match prepare_desired(facts) {
            Ok(target) => target.store.unwrap().rendering["spec"]["containers"][0]["image"].clone(),
            Err(other) => panic!("{other:?}"),
        })
    };
    assert_eq!(image("8"), "as-it-was:1");
    assert_eq!(image("6"), "registry.example.com/fraud:8", "it is rendered anew");
}

#[test]
fn without_the_records_of_what_serves_its_port_stays() {
    let explain = |records: Vec<ModelRolloutSpec>, live: (&str, i32), available: i32| {
        let mut observed = observed("8", records);
        let ports = json!([{"name": live.0, "containerPort": live.1}]);
        let mut deployment = workload("2.0", &record(2, "7"));
        Arc::make_mut(&mut deployment.spec.template)["spec"] =
            json!({"containers": [{"name": "model", "ports": ports}]});
        deployment.status.available_replicas = available;
        observed.tracks = main_track(deployment);
        observed.memory.looked_up = vec![crate::plan::action::Lookup::Records];
        observed.revisions = vec![store(&record(3, "8"), ("a", 1))];
        let check =
            |facts: &Facts<'_>| check_port(facts, &Target::of_record(facts, &record(3, "8")));
        judge(&observed, check).is_err()
    };
    assert!(explain(Vec::new(), ("b", 1), 1));
    assert!(!explain(Vec::new(), ("a", 1), 1), "the same port");
    assert!(!explain(Vec::new(), ("b", 1), 0), "nothing answers");
    assert!(!explain(vec![record(2, "7")], ("b", 1), 1), "a record tells of it");
}
