use super::*;
use crate::{
    api::{
        rollout::{DecidedBy, Direction, RequestRef},
        version::Lifecycle,
    },
    plan::{
        arbitrary::{at, observed, promoted, record, store_revisions},
        observed::StoredRevision,
    },
};

fn history(records: Vec<ModelRolloutSpec>) -> History {
    let records = records.into_iter().map(|spec| Record { spec: Arc::new(spec), ..stored() });
    History::new(&Observed { records: records.collect(), ..Observed::default() }, "fraud")
}

fn stored() -> Record {
    let spec = Arc::new(record(1, "6"));
    Record { uid: String::new(), resource_version: String::new(), restored: None, spec }
}

fn decided_by(request_uid: &str) -> DecidedBy {
    let request = RequestRef { name: "r".into(), uid: request_uid.into() };
    DecidedBy { request: Some(request), ..record(1, "6").decided_by }
}

fn decision(verb: DecisionVerb, request_uid: &str) -> Decision {
    Decision { number: 1, verb, decided_by: decided_by(request_uid), at: Time(at(0)) }
}

/// A rollout back to version 6 that rejects the version of `left`.
fn undo(number: i64, left: &ModelRolloutSpec) -> ModelRolloutSpec {
    let rejects = Some(make_rejection(left, Scope::Version));
    ModelRolloutSpec { trigger: Trigger::Undo, rejects, ..promoted(number, "6") }
}

fn retry(number: i64, version: &str) -> ModelRolloutSpec {
    ModelRolloutSpec { trigger: Trigger::Retry, ..record(number, version) }
}

fn rejected_versions(history: &History) -> Vec<String> {
    history.list_rejections().iter().map(|(rejection, _)| rejection.key.clone()).collect()
}

#[test]
fn an_outcome_is_written_once() {
    let mut history = history(vec![record(1, "6")]);
    history.record_outcome(1, Ending::new(Outcome::Failed, at(10), "Failed.".into()));
    history.record_outcome(1, Ending::new(Outcome::Promoted, at(20), "Serving.".into()));
    let ended = history.get(1).unwrap();
    assert_eq!((ended.outcome, &ended.end_time), (Some(Outcome::Failed), &Some(Time(at(10)))));
    assert_eq!(ended.message.as_deref(), Some("Failed."));
}

#[test]
fn the_end_of_serving_is_no_outcome() {
    let mut history = history(vec![promoted(1, "6"), record(2, "7")]);
    for number in [1, 2] {
        let ending = Ending::new(Outcome::Deleted, at(20), String::new());
        history.record_outcome(number, Ending { outcome: None, until: true, ..ending });
    }
    let (served, open) = (history.get(1).unwrap(), history.get(2).unwrap());
    assert_eq!(
        (served.outcome, &served.served_until),
        (Some(Outcome::Promoted), &Some(Time(at(20))))
    );
    assert_eq!((open.outcome, &open.end_time, &open.served_until), (None, &None, &None));
}

#[test]
fn a_request_is_found_in_the_record_that_it_made_and_in_the_one_that_it_changed() {
    let made = ModelRolloutSpec { decided_by: decided_by("undo"), ..record(2, "6") };
    let decisions = vec![decision(DecisionVerb::Pause, "pause")];
    let history =
        history(vec![record(1, "6"), made, ModelRolloutSpec { decisions, ..record(3, "7") }]);
    assert_eq!(history.rollout_for_request("undo"), Some(2));
    assert_eq!(history.rollout_for_request("pause"), Some(3));
    assert_eq!(history.rollout_for_request("another"), None);
}

#[test]
fn only_a_retry_of_the_same_version_lifts_a_rejection() {
    let left = record(2, "7");
    let mut records = vec![promoted(1, "6"), left.clone(), undo(3, &left)];
    records.push(record(4, "7"));
    records.push(retry(5, "8"));
    assert_eq!(rejected_versions(&history(records.clone())), [left.record_digest.as_str()]);
    records.push(retry(6, "7"));
    assert!(rejected_versions(&history(records)).is_empty());
}

#[test]
fn a_retry_that_serves_leaves_other_rejections_standing() {
    let (seven, eight) = (record(2, "7"), record(4, "8"));
    let records =
        vec![promoted(1, "6"), seven.clone(), undo(3, &seven), eight.clone(), undo(5, &eight)];
    let history = history([records, vec![retry(6, "8")]].concat());
    assert_eq!(rejected_versions(&history), [seven.record_digest]);
}

#[test]
fn a_rollout_that_goes_back_lifts_the_rejections_of_what_it_serves() {
    let (seven, eight) = (promoted(2, "7"), promoted(4, "8"));
    let back = ModelRolloutSpec { direction: Direction::Back, ..record(5, "7") };
    let left = vec![promoted(1, "6"), seven.clone(), undo(3, &seven), eight];
    assert_eq!(rejected_versions(&history([left.clone(), vec![back]].concat())), [""; 0]);
    let forward = vec![record(5, "7")];
    assert_eq!(rejected_versions(&history([left, forward].concat())), [seven.record_digest]);
}

#[test]
fn a_decision_stands_on_what_serves_and_on_standing_rejections_and_pauses() {
    let left = record(2, "7");
    let decisions = vec![decision(DecisionVerb::Pause, "pause")];
    let paused = ModelRolloutSpec { decisions, ..record(5, "8") };
    let undone = undo(3, &left);
    let records = vec![promoted(1, "6"), left, undone, promoted(4, "6"), paused, record(6, "8")];
    assert_eq!(history(records).find_foundations(), [3, 4, 5]);
}

#[test]
fn a_decision_stands_on_no_more_than_the_newest_64() {
    let mut records = vec![promoted(1, "6")];
    for number in 1..=70 {
        let left = record(2 * number, &format!("left-{number}"));
        records.push(undo(2 * number + 1, &left));
    }
    let foundations = history(records).find_foundations();
    assert_eq!((foundations.len(), foundations[0], foundations[63]), (64, 15, 141));
}

#[test]
fn the_needed_foundations_are_those_of_the_newest_record() {
    let stands_on =
        |number, on: &[i64]| ModelRolloutSpec { stands_on: on.to_vec(), ..record(number, "6") };
    let history = history(vec![stands_on(1, &[]), stands_on(2, &[1]), stands_on(3, &[2, 7])]);
    assert_eq!(history.needed_foundations(), HashSet::from([2, 7]));
}

#[test]
fn a_rendering_is_used_again_if_it_was_promoted() {
    let rerendered = ModelRolloutSpec { revision_name: "again".into(), ..record(3, "6") };
    let history = history(vec![promoted(1, "6"), promoted(2, "7"), rerendered]);
    let hash = record(1, "6").revision_hash;
    assert_eq!(history.find_promoted_rendering(&hash).map(|r| r.number), Some(1));
    assert_eq!(history.find_promoted_rendering(&record(1, "8").revision_hash), None);
}

#[test]
fn a_version_was_promoted_if_a_rollout_of_its_record_was() {
    let history = history(vec![promoted(1, "6"), record(2, "7")]);
    assert!(history.was_promoted(&record(0, "6").record_digest));
    assert!(!history.was_promoted(&record(0, "7").record_digest));
}

#[test]
fn rollouts_serve_the_same_only_with_the_same_revision_rendering_and_restart() {
    let one = record(1, "6");
    let restarted = ModelRolloutSpec { restarted_at: Some("t".into()), ..one.clone() };
    let rerendered = ModelRolloutSpec { revision_name: "again".into(), ..one.clone() };
    let labelled = ModelRolloutSpec { revision_hash: "v1:sha256:b".into(), ..one.clone() };
    assert!(serves_the_same(&one, &record(2, "6")));
    for other in [restarted, rerendered, labelled] {
        assert!(!serves_the_same(&one, &other), "{other:?}");
    }
}

#[test]
fn a_rollout_is_kept_while_its_revision_is_stored() {
    let content = |name: String| StoredRevision { name, ..StoredRevision::default() };
    let revisions = vec![content(record(1, "6").revision_name), content("other".into())];
    let observed = Observed { revisions, ..Observed::default() };
    assert!(is_kept(&observed, &record(1, "6")));
    assert!(!is_kept(&observed, &record(1, "7")));
}

#[test]
fn a_decision_label_reads_back_as_it_was_written() {
    for value in ["12.0", "12.1", "12.2-paused"] {
        assert_eq!(DecisionLabel::parse(value).unwrap().to_string(), value);
    }
}

#[test]
fn what_is_no_decision_label_is_none() {
    for value in ["", "12", "x.1", "12.-1", "0.1", "-3.0", "12.1-held"] {
        assert_eq!(DecisionLabel::parse(value), None, "{value}");
    }
}

#[test]
fn a_label_counts_up_to_two_to_the_31st() {
    assert!(DecisionLabel::parse("2147483648.0").is_some());
    for value in ["2147483649.0", "9223372036854775807.0", "9223372036854775808.0"] {
        assert_eq!(DecisionLabel::parse(value), None, "{value}");
    }
}

#[test]
fn decisions_compare_as_integers() {
    assert!(
        DecisionLabel::parse("9.11").unwrap().decision_numbers()
            < DecisionLabel::parse("10.2").unwrap().decision_numbers()
    );
}

/// The rollout that a failure of the newest goes back to, where every revision is stored.
fn find_target(records: Vec<ModelRolloutSpec>) -> Option<i64> {
    let observed = store_revisions(observed("8", records));
    History::new(&observed, "fraud").find_rollback_target(&observed).map(|r| r.number)
}

/// An Undo from version 7 to 6 that has no pods yet.
fn open_undo(number: i64) -> ModelRolloutSpec {
    let rejects = Some(make_rejection(&promoted(2, "7"), Scope::Version));
    let direction = Direction::Back;
    ModelRolloutSpec { trigger: Trigger::Undo, direction, rejects, ..record(number, "6") }
}

#[test]
fn a_rollout_that_goes_back_from_what_serves_is_the_good_one_although_it_is_open() {
    let served = vec![promoted(1, "6"), promoted(2, "7")];
    let with = |more: Vec<ModelRolloutSpec>| find_target([served.clone(), more].concat());
    assert_eq!(with(vec![record(3, "8")]), Some(2), "what serves");
    assert_eq!(with(vec![open_undo(3), record(4, "8")]), Some(3));
    assert_eq!(with(vec![record(3, "6"), record(4, "8")]), Some(2), "it goes forward");
    assert_eq!(with(vec![open_undo(3), retry(4, "7"), record(5, "8")]), Some(2), "not rejected");
    let retried = vec![open_undo(3), retry(4, "8"), record(5, "9")];
    assert_eq!(with(retried), Some(3), "what was tried again is another version");
    assert_eq!(with(vec![open_undo(3)]), None, "it goes back itself");
}

#[test]
fn only_a_rollout_that_went_back_since_what_serves_and_may_serve_is_the_good_one() {
    let left = promoted(4, "8");
    let rejects = Some(make_rejection(&left, Scope::Version));
    let back = ModelRolloutSpec { direction: Direction::Back, rejects, ..record(5, "7") };
    let records = vec![promoted(1, "6"), promoted(2, "7"), open_undo(3), left, back];
    let mut observed = store_revisions(observed("8", records));
    let find =
        |observed: &Observed| History::new(observed, "fraud").last_good(observed).map(|r| r.number);
    assert_eq!(find(&observed), Some(5));
    let yanked = Lifecycle { state: LifecycleState::Yanked, reason: None };
    observed.versions[1].lifecycle = Some(yanked);
    assert_eq!(find(&observed), None, "yanked, and rollout 3 is older than what serves");
}
