use super::*;
use crate::{
    api::{
        ModelDeploymentStatus,
        condition::Time,
        rollout::{Decision, DecisionVerb, Direction, Outcome, Scope},
        version::{Lifecycle, LifecycleState},
    },
    plan::{
        arbitrary::{
            at, judge, main_track, observed, promoted, record, spec_of, store_revisions, workload,
        },
        observed::{Meta, Pod, ReplicaSet},
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
    spec_of(&mut observed).paused = true;
    observed
}

fn asks_for_replica_sets(observed: &Observed) -> bool {
    judge(observed, |facts| facts.lookups == [Lookup::ReplicaSets])
}

#[test]
fn a_paused_deployment_without_pods_may_come_from_a_backup() {
    let mut observed = paused();
    assert!(asks_for_replica_sets(&observed));
    observed.memory.looked_up.push(Lookup::ReplicaSets);
    assert!(!asks_for_replica_sets(&observed), "it was looked at");
    let mut observed = paused();
    spec_of(&mut observed).paused = false;
    assert!(!asks_for_replica_sets(&observed), "no person paused it");
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
    let told = ModelDeploymentStatus { rollout: Some(1), ..ModelDeploymentStatus::default() };
    observed.model_deployment.as_mut().unwrap().status = Some(told);
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
        let set =
            ReplicaSet { name: "s".into(), controller_uid, template: Value::clone(&template) };
        observed.memory.replica_sets = vec![set];
        find_live_template(&observed, &record(1, "6")).is_some()
    };
    assert!(find(Some("d")) && find(None));
    assert!(!find(Some("another")));
}

/// An Undo to version 6 that is not complete, while version 7 serves.
fn going_back(trigger: Trigger) -> ModelRolloutSpec {
    let rejects = Some(history::make_rejection(&promoted(2, "7"), Scope::Version));
    ModelRolloutSpec { trigger, direction: Direction::Back, rejects, ..record(3, "6") }
}

#[test]
fn the_content_that_is_gone_back_to_is_not_at_fault_and_neither_is_what_serves() {
    let records = vec![promoted(1, "6"), promoted(2, "7"), going_back(Trigger::Undo)];
    let observed = store_revisions(observed("8", records));
    let is_good =
        |version: &str| judge(&observed, |facts| facts.has_serving_content(&record(4, version)));
    assert_eq!(["6", "7", "8"].map(is_good), [true, true, false]);
    let find = |version: &str| {
        let hash = record(4, version).revision_hash;
        judge(&observed, |facts| facts.find_good_rollout_of(&hash).map(|r| r.number))
    };
    assert_eq!(["6", "7", "8"].map(find), [Some(3), Some(2), None]);
}

#[test]
fn nothing_that_was_served_by_a_deleted_model_deployment_is_returned_to_by_the_spec() {
    let deleted = ModelRolloutSpec { served_until: Some(Time(at(9))), ..promoted(1, "6") };
    let observed = store_revisions(observed("6", vec![deleted]));
    let hash = record(1, "6").revision_hash;
    assert!(judge(&observed, |facts| facts.find_good_rollout_of(&hash).is_none()));
}

#[test]
fn a_template_is_nowhere_once_its_revision_and_its_deployment_are_gone() {
    let is_nowhere =
        |observed: &Observed| judge(observed, |facts| facts.is_nowhere(&record(1, "6")));
    let mut observed = observed("6", vec![promoted(1, "6")]);
    assert!(is_nowhere(&observed));
    assert!(!is_nowhere(&store_revisions(observed.clone())));
    observed.tracks = main_track(workload("1.0", &record(1, "6")));
    assert!(!is_nowhere(&observed));
}

#[test]
fn pods_of_rollouts_that_were_left_are_reached_also_if_no_record_says_what_serves() {
    let list = |records: Vec<ModelRolloutSpec>, pods: &[&str]| {
        let mut observed = observed("8", records);
        let hash = |version: &&str| names::short_hash(&record(1, version).revision_hash).into();
        let pod = |version| Pod { hash: hash(version), ready: true, ..Pod::default() };
        observed.pods = pods.iter().map(pod).collect();
        judge(&observed, |facts| {
            facts.list_left(&facts.history).map(|r| r.number).collect::<Vec<_>>()
        })
    };
    let (six, seven) = (record(1, "6"), record(2, "7"));
    assert_eq!(list(vec![promoted(1, "6"), seven.clone()], &[]), [2], "since what serves");
    assert_eq!(list(vec![six.clone(), seven.clone()], &[]), [0; 0]);
    assert_eq!(list(vec![six, seven], &["6"]), [1]);
}

#[test]
fn new_pods_of_a_yanked_version_are_made_only_if_it_serves() {
    let explains = |newest: ModelRolloutSpec, yanked: bool| {
        let mut observed = observed("7", vec![promoted(1, "6"), newest.clone()]);
        let yank = || Lifecycle { state: LifecycleState::Yanked, reason: None };
        observed.versions[1].lifecycle = yanked.then(yank);
        judge(&observed, |facts| facts.explain_no_restart(&newest).is_some())
    };
    assert!(explains(record(2, "7"), true));
    assert!(!explains(record(2, "7"), false));
    assert!(!explains(promoted(2, "7"), true), "it serves");
}
