use super::*;
use crate::{
    api::{
        ModelDeploymentStatus,
        condition::Time,
        rollout::{Decision, DecisionVerb, Outcome},
        version::{Lifecycle, LifecycleState},
    },
    plan::{
        arbitrary::{at, judge, main_track, observed, promoted, record, store_revisions, workload},
        observed::{Meta, ReplicaSet},
    },
};

fn stands_on(number: i64, on: &[i64]) -> ModelRolloutSpec {
    ModelRolloutSpec { stands_on: on.to_vec(), ..record(number, "7") }
}

/// Whether records are missing, also when read live, where the Deployment has that label.
fn misses(label: &str, records: Vec<ModelRolloutSpec>) -> bool {
    let mut observed = observed("7", records);
    observed.tracks = main_track(workload(label, &record(1, "6")));
    assert!(judge(&observed, |facts| facts.missing.is_none()), "it is read live first");
    let asks = judge(&observed, |facts| facts.lookups.contains(&Lookup::Records));
    observed.memory.looked_up = vec![Lookup::Records];
    let misses = judge(&observed, |facts| facts.missing.is_some());
    assert_eq!(asks, misses);
    misses
}

#[test]
fn the_record_that_the_label_names_is_missing_until_a_newer_retry() {
    let retry = |number| ModelRolloutSpec { trigger: Trigger::Retry, ..record(number, "7") };
    assert!(!misses("2.0", vec![promoted(1, "6"), record(2, "7")]));
    assert!(misses("9.0", vec![promoted(1, "6"), record(2, "7")]));
    assert!(misses("9.0", vec![promoted(1, "6"), retry(2)]), "an older one");
    assert!(misses("9.0", vec![promoted(1, "6"), record(10, "7")]), "no Retry");
    assert!(!misses("9.0", vec![promoted(1, "6"), retry(10)]));
    let stands_on = ModelRolloutSpec { stands_on: vec![1], ..retry(2) };
    assert!(misses("2.0", vec![stands_on]), "the Retry that the label names");
}

#[test]
fn records_that_a_decision_stands_on_are_missed() {
    assert!(!misses("3.0", vec![promoted(1, "6"), promoted(2, "6"), stands_on(3, &[1, 2])]));
    assert!(misses("3.0", vec![promoted(1, "6"), stands_on(3, &[2])]));
}

#[test]
fn a_record_with_fewer_decisions_than_the_label_says_is_an_older_copy() {
    let by = record(1, "6").decided_by;
    let pause = Decision { number: 1, verb: DecisionVerb::Pause, decided_by: by, at: Time(at(9)) };
    let paused = ModelRolloutSpec { decisions: vec![pause], ..record(2, "7") };
    assert!(misses("2.1", vec![promoted(1, "6"), record(2, "7")]));
    assert!(!misses("2.1", vec![promoted(1, "6"), paused.clone()]));
    assert!(!misses("2.0", vec![promoted(1, "6"), paused]));
}

#[test]
fn where_every_template_to_go_back_to_is_lost_the_replica_sets_are_read() {
    let mut observed = store_revisions(observed("7", vec![promoted(1, "6"), promoted(2, "7")]));
    observed.tracks = main_track(workload("2.0", &record(2, "7")));
    let find = |observed: &Observed| {
        judge(observed, |f| f.find_rollback_target().map(|target| target.map(|t| t.number)))
    };
    assert_eq!(find(&observed), Ok(Some(1)));
    let yanked = Lifecycle { state: LifecycleState::Yanked, reason: None };
    observed.versions[0].lifecycle = Some(yanked);
    assert_eq!(find(&observed), Ok(None), "its template is there, and it is not served");
    observed.versions[0].lifecycle = None;
    observed.revisions.remove(0);
    assert_eq!(find(&observed), Err(Lookup::ReplicaSets));
    observed.memory.looked_up = vec![Lookup::ReplicaSets];
    assert_eq!(find(&observed), Ok(None));
    observed.memory.looked_up.clear();
    observed.tracks.clear();
    assert_eq!(find(&observed), Ok(None), "without a Deployment there are none");
}

/// A Deployment of ours that is paused and has no pods.
fn paused() -> Observed {
    let mut observed = observed("6", vec![promoted(1, "6")]);
    let mut live = workload("1.0", &record(1, "6"));
    live.meta.uid = "live".into();
    live.spec.paused = true;
    live.status.observed_generation = 1;
    observed.tracks = main_track(live);
    observed
}

fn told() -> Option<ModelDeploymentStatus> {
    Some(ModelDeploymentStatus { rollout: Some(1), ..ModelDeploymentStatus::default() })
}

fn asks_for_replica_sets(observed: &Observed) -> bool {
    judge(observed, |facts| facts.lookups == [Lookup::ReplicaSets])
}

#[test]
fn a_paused_deployment_without_pods_may_come_from_a_backup() {
    let mut observed = paused();
    assert!(asks_for_replica_sets(&observed), "its ModelDeployment has no status");
    observed.model_deployment.as_mut().unwrap().status = told();
    assert!(!asks_for_replica_sets(&observed));
    let live = observed.tracks.get_mut("main").unwrap();
    live.meta.controller = None;
    live.spec.selector = ownership::build_selector("fraud", "main");
    assert!(asks_for_replica_sets(&observed), "it has no owner");
}

#[test]
fn a_deployment_that_runs_has_pods_or_wants_none_is_not_restored_paused() {
    let changes: [fn(&mut Deployment); 4] = [
        |live| live.spec.paused = false,
        |live| live.spec.replicas = 0,
        |live| live.status.replicas = 1,
        |live| live.generation = 2,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut observed = paused();
        change(observed.tracks.get_mut("main").unwrap());
        assert!(!asks_for_replica_sets(&observed), "{number}");
    }
}

#[test]
fn a_deployment_was_restored_paused_if_it_has_no_replica_set() {
    let restored = |looked_up: bool, controllers: &[Option<&str>]| {
        let mut observed = paused();
        observed.memory.looked_up = looked_up.then_some(Lookup::ReplicaSets).into_iter().collect();
        let control = |uid: &Option<&str>| ReplicaSet {
            name: "fraud-abc".into(),
            controller_uid: uid.map(str::to_owned),
            template: Value::Null,
        };
        observed.memory.replica_sets = controllers.iter().map(control).collect();
        judge(&observed, |facts| facts.is_restored_paused(facts.deployment().unwrap()))
    };
    assert!(restored(true, &[]));
    assert!(!restored(false, &[]), "nobody looked");
    assert!(!restored(true, &[Some("live")]));
    assert!(!restored(true, &[None]), "an orphan is adopted");
    assert!(restored(true, &[Some("earlier")]), "of the Deployment before");
}

#[test]
fn records_of_another_uid_belong_to_a_model_deployment_that_was_deleted() {
    let was_recreated = |observed: &Observed| judge(observed, |facts| facts.was_recreated());
    let earlier = |outcome| {
        let mut spec = promoted(1, "6");
        spec.model_deployment_ref.uid = Some("earlier".into());
        ModelRolloutSpec { outcome, ..spec }
    };
    let mut observed = observed("6", vec![earlier(Some(Outcome::Promoted))]);
    assert!(was_recreated(&observed));
    observed.tracks = main_track(workload("1.0", &record(1, "6")));
    assert!(!was_recreated(&observed), "its Deployment is taken over");
    observed.tracks.clear();
    observed.model_deployment.as_mut().unwrap().status = told();
    assert!(!was_recreated(&observed), "it was told of them");
    assert!(!was_recreated(&super::super::arbitrary::observed("6", vec![promoted(1, "6")])));
    assert!(!was_recreated(&super::super::arbitrary::observed("6", Vec::new())));
}

#[test]
fn what_serves_exactly_is_what_serves_with_the_same_restart() {
    let is_exact = |record: ModelRolloutSpec| history::serves_the_same(&promoted(1, "6"), &record);
    assert!(is_exact(record(2, "6")));
    assert!(!is_exact(record(2, "7")));
    assert!(!is_exact(ModelRolloutSpec { restarted_at: Some("t".into()), ..record(2, "6") }));
}

#[test]
fn a_stored_body_that_is_not_at_hand_is_read_live_once() {
    let mut observed = store_revisions(observed("6", vec![promoted(1, "6")]));
    let read = |observed: &Observed, version: &str| {
        judge(observed, |facts| facts.require_stored_body(&record(1, version)).map(|b| b.is_some()))
    };
    assert_eq!(read(&observed, "6"), Err(Lookup::Revision("fraud-6".into())));
    assert_eq!(read(&observed, "7"), Ok(false), "it is not stored");
    observed.memory.looked_up = vec![Lookup::Revision("fraud-6".into())];
    assert_eq!(read(&observed, "6"), Ok(false), "it was changed, or is gone");
}

#[test]
fn a_template_is_taken_from_a_replica_set_of_ours_or_of_nobody() {
    let live =
        Deployment { meta: Meta { uid: "d".into(), ..Meta::default() }, ..Deployment::default() };
    let find = |controller: Option<&str>| {
        let mut observed = observed("7", vec![promoted(1, "6")]);
        observed.tracks = main_track(live.clone());
        let template = workload("1.0", &record(1, "6")).spec.template;
        let controller_uid = controller.map(str::to_owned);
        let set = ReplicaSet { name: "s".into(), controller_uid, template };
        observed.memory.replica_sets = vec![set];
        find_live_template(&observed, &record(1, "6")).is_some()
    };
    assert!(find(Some("d")) && find(None));
    assert!(!find(Some("another")));
}
