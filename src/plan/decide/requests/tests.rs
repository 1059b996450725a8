use std::sync::Arc;

use super::*;
use crate::{
    api::{
        names,
        version::{Lifecycle, LifecycleState},
    },
    plan::{
        Observed,
        arbitrary::{
            self, judge, main_track, observed, promoted, record, spec_of, store_revisions, workload,
        },
        facts::revision,
        observed::{RevisionBody, StoredRevision},
    },
};

/// Version 7 rolls out and version 6 serves, or version 7 serves since.
fn rolling(newest: ModelRolloutSpec) -> Observed {
    let mut observed = store_revisions(observed("7", vec![promoted(1, "6"), newest]));
    observed.tracks = main_track(workload("2.0", &record(2, "7")));
    observed
}

fn yank(mut observed: Observed, version: usize) -> Observed {
    let lifecycle = Lifecycle { state: LifecycleState::Yanked, reason: None };
    observed.versions[version].lifecycle = Some(lifecycle);
    observed
}

/// The answer to a request of someone who saw decision 2.0, and the record that it makes; or what is
/// read live first.
type Outcome = Result<(RequestResult, String, Option<ModelRolloutSpec>), Vec<Lookup>>;

fn ask(observed: &Observed, verb: Verb, change: impl FnOnce(&mut Request)) -> Outcome {
    let mut request = arbitrary::request(verb, "2.0");
    change(&mut request);
    let observed = Observed { requests: vec![request], ..observed.clone() };
    let decided = judge(&observed, |facts| {
        let mut decided = Decided::default();
        answer_requests(facts, &mut decided);
        decided
    });
    let made = match decided.decision {
        Some(Decision::Roll(new)) => Some(new.record),
        _ => None,
    };
    match &decided.answers[..] {
        [Action::AnswerRequest { status, .. }] => {
            Ok((status.result.unwrap(), status.message.clone().unwrap(), made))
        }
        _ => Err(decided.lookups),
    }
}

fn done(outcome: Outcome) -> ModelRolloutSpec {
    match outcome {
        Ok((RequestResult::Done, _, Some(made))) => made,
        other => panic!("{other:?}"),
    }
}

fn refused(outcome: Outcome, words: &str) {
    let Ok((RequestResult::Refused, message, None)) = outcome else { panic!("{outcome:?}") };
    assert!(message.contains(words), "{message}");
}

#[test]
fn a_decision_that_the_caches_lack_is_read_live_before_the_request_is_refused() {
    let mut observed = rolling(promoted(2, "7"));
    let ask = |observed: &Observed, decision: &str| {
        ask(observed, Verb::Undo, |r| r.spec.if_decision = decision.into())
    };
    assert_eq!(done(ask(&observed, "2")).version, "6", "2 is 2.0");
    assert_eq!(ask(&observed, "3.0").unwrap_err(), [Lookup::Records]);
    assert_eq!(ask(&observed, "2.1").unwrap_err(), [Lookup::Records]);
    refused(ask(&observed, "1.0"), "look again");
    observed.memory.looked_up = vec![Lookup::Records];
    refused(ask(&observed, "3.0"), "look again");
}

#[test]
fn an_undo_to_a_version_goes_back_to_its_newest_rollout_that_served() {
    let observed = rolling(promoted(2, "7"));
    let undo =
        |version: &str| ask(&observed, Verb::Undo, |r| r.spec.to_version = Some(version.into()));
    assert_eq!(done(undo("6")).version, "6");
    refused(undo("8"), "never served here");
    let (result, message, _) = undo("7").unwrap();
    assert_eq!(result, RequestResult::NothingToDo);
    assert!(message.contains("serves version 7 already"), "{message}");
}

#[test]
fn an_undo_to_a_rollout_that_may_not_serve_is_refused() {
    let undo = |observed: &Observed| ask(observed, Verb::Undo, |r| r.spec.to_rollout = Some(1));
    let observed = rolling(promoted(2, "7"));
    assert_eq!(done(undo(&observed)).version, "6");
    refused(undo(&yank(observed.clone(), 0)), "is yanked");
    let mut lost = observed;
    lost.revisions.remove(0);
    assert_eq!(undo(&lost).unwrap_err(), [Lookup::ReplicaSets]);
    lost.memory.looked_up = vec![Lookup::ReplicaSets];
    refused(undo(&lost), "kept no longer");
}

#[test]
fn an_undo_to_what_serves_is_not_asked_whether_it_may_serve() {
    let observed = yank(rolling(record(2, "7")), 0);
    let made = done(ask(&observed, Verb::Undo, |r| r.spec.to_rollout = Some(1)));
    assert_eq!(made.version, "6");
}

#[test]
fn a_restart_is_refused_only_if_it_would_newly_serve_what_is_yanked() {
    let restart = |observed: &Observed| ask(observed, Verb::Restart, |_| ());
    assert_eq!(done(restart(&rolling(record(2, "7")))).version, "7");
    assert_eq!(done(restart(&rolling(promoted(2, "7")))).version, "7");
    refused(restart(&yank(rolling(record(2, "7")), 1)), "is yanked");
    assert_eq!(done(restart(&yank(rolling(promoted(2, "7")), 1))).version, "7", "it serves");
    let content_hash = record(1, "6").content_hash;
    let labelled = ModelRolloutSpec { content_hash, ..record(2, "7") };
    assert_eq!(done(restart(&yank(rolling(labelled), 1))).version, "7", "its content serves");
}

#[test]
fn a_restart_asks_for_the_replica_sets_where_the_revision_is_lost() {
    let mut observed = rolling(promoted(2, "7"));
    observed.revisions.clear();
    let restart = |observed: &Observed| ask(observed, Verb::Restart, |_| ());
    assert_eq!(restart(&observed).unwrap_err(), [Lookup::ReplicaSets]);
    observed.memory.looked_up = vec![Lookup::ReplicaSets];
    refused(restart(&observed), "is lost");
}

/// What the spec names serves, exactly.
fn named() -> (Observed, RevisionBody) {
    let mut observed = rolling(promoted(2, "7"));
    let named =
        revision::compute_revision(&observed.model_deployment.as_ref().unwrap().spec, "sha256:7");
    let (revision_hash, content_hash) = (named.revision_hash.clone(), named.content_hash.clone());
    let serving = ModelRolloutSpec { revision_hash, content_hash, ..promoted(2, "7") };
    observed.records[1].spec = Arc::new(serving);
    let body = judge(&observed, |facts| make_body(facts, &named).unwrap());
    (observed, body)
}

fn rerender(observed: &Observed) -> Outcome {
    ask(observed, Verb::Restart, |r| r.spec.rerender = Some(true))
}

#[test]
fn a_rendering_is_stored_under_the_first_name_that_is_free_or_holds_the_same() {
    let (mut observed, body) = named();
    let name = |n: u32| names::revision_name("fraud", &body.revision_hash, n);
    assert_eq!(done(rerender(&observed)).revision_name, name(2));
    let store = |rendering: &serde_json::Value| StoredRevision {
        name: name(2),
        rendering_digest: Some(revision::compute_digest(rendering)),
        ..StoredRevision::default()
    };
    observed.revisions.push(store(&body.rendering));
    assert_eq!(done(rerender(&observed)).revision_name, name(2), "stored before a crash");
    observed.revisions.pop();
    observed.revisions.push(store(&serde_json::json!({"spec": {}})));
    assert_eq!(done(rerender(&observed)).revision_name, name(3));
}

#[test]
fn only_what_the_spec_names_is_rendered_again() {
    let (mut observed, _) = named();
    spec_of(&mut observed).version = "6".into();
    refused(rerender(&observed), "the spec has to name what serves");
}

#[test]
fn a_retry_that_waits_names_what_pauses_it() {
    let rejects = Some(Rejection { rollout: 2, scope: Scope::Version, key: "sha256:7".into() });
    let (direction, trigger) = (Direction::Back, Trigger::Undo);
    let back = ModelRolloutSpec { direction, trigger, rejects, ..promoted(3, "6") };
    let records = vec![promoted(1, "6"), promoted(2, "7"), back];
    let mut observed = store_revisions(observed("7", records));
    observed.tracks = main_track(workload("3.0", &record(3, "6")));
    observed.memory.looked_up = vec![Lookup::Revision("fraud-6".into()), Lookup::ReplicaSets];
    let retry = |observed: &Observed| {
        let outcome = ask(observed, Verb::Retry, |r| r.spec.if_decision = "3.0".into());
        let Ok((RequestResult::Done, message, Some(_))) = outcome else { panic!("{outcome:?}") };
        message
    };
    assert!(!retry(&observed).contains("paused"));
    spec_of(&mut observed).paused = true;
    assert!(retry(&observed).contains("once spec.paused is false"));
}

#[test]
fn a_pause_says_what_waits() {
    let pause = |newest: ModelRolloutSpec| match ask(&rolling(newest), Verb::Pause, |_| {}) {
        Ok((RequestResult::Done, message, _)) => message,
        other => panic!("{other:?}"),
    };
    assert!(pause(record(2, "7")).starts_with("Paused: the rollout in progress, or the next one,"));
    let back = ModelRolloutSpec { direction: Direction::Back, ..record(2, "7") };
    assert!(pause(back).contains("is carried out first; the next one waits"));
}
