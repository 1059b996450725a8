use super::*;
use crate::{
    api::{
        ModelRolloutSpec,
        request::Verb,
        rollout::{DECISIONS_MAX, Outcome, Trigger},
        version::{Lifecycle, LifecycleState},
    },
    plan::{
        Observed,
        arbitrary::{
            at, judge, main_track, observed, promoted, record, request, spec_of, store_revisions,
            workload,
        },
        facts::{history::Ending, revision},
        observed::{Container, Pod},
    },
};

fn pause(number: usize) -> record::Decision {
    let number = i64::try_from(number).unwrap();
    let decided_by = record(1, "6").decided_by;
    record::Decision { number, verb: DecisionVerb::Pause, decided_by, at: Time(at(0)) }
}

/// A rollout that was paused and resumed so many times.
fn with_decisions(count: usize) -> Observed {
    let decisions = (1..=count).map(pause).collect();
    observed("6", vec![ModelRolloutSpec { decisions, ..record(1, "6") }])
}

#[test]
fn a_request_is_carried_out_although_the_rollout_fails_at_the_same_time() {
    let mut observed = store_revisions(observed("7", vec![promoted(1, "6"), record(2, "7")]));
    observed.versions[1].lifecycle =
        Some(Lifecycle { state: LifecycleState::Yanked, reason: None });
    let find_trigger =
        |observed: &Observed| match judge(observed, |facts| decide(facts, &[])).decision {
            Some(Decision::Roll(new)) => new.record.trigger,
            other => panic!("{other:?}"),
        };
    assert_eq!(find_trigger(&observed), Trigger::Yanked);
    observed.requests = vec![request(Verb::Abort, "2.0")];
    assert_eq!(find_trigger(&observed), Trigger::Abort);
}

#[test]
fn what_waits_for_a_live_read_is_no_longer_undecided() {
    assert!(Decided::default().is_undecided());
    let waits = Decided { lookups: vec![Lookup::Records], ..Decided::default() };
    assert!(!waits.is_undecided());
    let decided = Decided { decision: Some(Decision::Append(pause(1))), ..Decided::default() };
    assert!(!decided.is_undecided());
}

#[test]
fn pauses_and_resumes_of_a_rollout_are_numbered_in_order() {
    for count in [0, 1, 7] {
        let by = record(1, "6").decided_by;
        let made = judge(&with_decisions(count), |facts| {
            make_decision(facts, DecisionVerb::Resume, by.clone())
        });
        assert_eq!((made.number, made.verb), (pause(count + 1).number, DecisionVerb::Resume));
    }
}

#[test]
fn the_last_decision_that_a_record_holds_is_a_resume() {
    use DecisionVerb::{Pause, Resume};
    for (count, verb, has_room) in [
        (DECISIONS_MAX - 2, Pause, true),
        (DECISIONS_MAX - 1, Pause, false),
        (DECISIONS_MAX - 1, Resume, true),
        (DECISIONS_MAX, Resume, false),
    ] {
        let found = judge(&with_decisions(count), |facts| has_room_for(facts, verb));
        assert_eq!(found, has_room, "{verb:?} after {count}");
    }
    assert!(!judge(&observed("6", Vec::new()), |facts| has_room_for(facts, Pause)));
}

/// The rollout of version 7 that the spec names, complete: every pod runs these images.
fn complete(images: &[&str]) -> Observed {
    let named = observed("7", Vec::new());
    let named = revision::compute_revision(&named.model_deployment.unwrap().spec, "sha256:7");
    let (revision_hash, content_hash) = (named.revision_hash, named.content_hash);
    let open = ModelRolloutSpec { revision_hash, content_hash, ..record(2, "7") };
    let mut live = workload("2.0", &open);
    live.status.observed_generation = 1;
    live.status.available_replicas = 3;
    let container = |image: &&str| Container {
        name: "model".into(),
        ready: true,
        running: true,
        image_id: Some((*image).into()),
        ..Container::default()
    };
    let pod = Pod {
        hash: crate::api::names::short_hash(&open.revision_hash).into(),
        template_hash: "a".into(),
        replica_set: Some("fraud-a".into()),
        ready: true,
        containers: images.iter().map(container).collect(),
        ..Pod::default()
    };
    let mut observed = observed("7", vec![promoted(1, "6"), open]);
    observed.tracks = main_track(live);
    observed.pods = vec![pod; 3];
    observed
}

fn find_ending(observed: &Observed) -> Option<Ending> {
    judge(observed, |facts| {
        let mut history = std::borrow::Cow::Borrowed(&facts.history);
        endings::close_finished_rollouts(facts, &mut history, &mut Decided::default());
        let ended = history.get(2).unwrap();
        let (outcome, at) = (ended.outcome?, ended.end_time.clone().unwrap());
        let (message, images) = (ended.message.clone().unwrap(), ended.observed_images.clone());
        let serves = ended.served_from.is_some();
        Some(Ending { outcome: Some(outcome), at, message, serves, images, until: false })
    })
}

#[test]
fn a_promotion_records_the_images_of_its_pods_once_each() {
    let long = "x".repeat(513);
    let ending = find_ending(&complete(&["b@sha256:2", "a@sha256:1", "", &long])).unwrap();
    assert_eq!((ending.outcome, ending.serves), (Some(Outcome::Promoted), true));
    assert_eq!(ending.message, "Serving version 7 (rollout 2).");
    assert_eq!(ending.images, ["a@sha256:1", "b@sha256:2"]);
    let longest = "x".repeat(512);
    assert_eq!(find_ending(&complete(&[&longest])).unwrap().images, [longest]);
}

#[test]
fn a_rollout_that_the_spec_names_no_longer_is_not_promoted() {
    let mut observed = complete(&["a"]);
    spec_of(&mut observed).version = "8".into();
    assert!(find_ending(&observed).is_none());
}

#[test]
fn a_yanked_version_is_promoted_only_where_its_content_serves_already() {
    let yanked = Lifecycle { state: LifecycleState::Yanked, reason: None };
    let mut observed = complete(&["a"]);
    observed.versions[1].lifecycle = Some(yanked);
    assert!(find_ending(&observed).is_none());
    let content_hash = observed.records[1].spec.content_hash.clone();
    observed.records[0].spec =
        std::sync::Arc::new(ModelRolloutSpec { content_hash, ..promoted(1, "7") });
    assert!(find_ending(&observed).is_some(), "a label changed, or it was restarted");
}
