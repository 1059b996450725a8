use std::sync::Arc;

use super::*;
use crate::{
    api::rollout::{Direction, Outcome},
    plan::{
        Action, Lookup, Observed,
        arbitrary::{judge, main_track, observed, promoted, record, spec_of, workload},
        observed::StoredRevision,
    },
};

/// A cluster that carries the newest of these records, whose revisions are all stored. kubectl
/// changed the template of the Deployment to that of `live` since.
fn changed(records: Vec<ModelRolloutSpec>, live: &ModelRolloutSpec) -> Observed {
    let newest = records.last().unwrap();
    let mut live_workload = workload(&format!("{}.0", newest.number), live);
    if let Some(at) = &live.restarted_at {
        Arc::make_mut(&mut live_workload.spec.template)["metadata"]["annotations"]
            [names::RESTARTED_AT] = at.as_str().into();
    }
    let stored = |r: &ModelRolloutSpec| StoredRevision {
        name: r.revision_name.clone(),
        ..StoredRevision::default()
    };
    let revisions = records.iter().map(stored).collect();
    let (version, tracks) = (newest.version.clone(), main_track(live_workload));
    Observed { revisions, tracks, ..observed(&version, records) }
}

fn restarted(record: ModelRolloutSpec, at: &str) -> ModelRolloutSpec {
    ModelRolloutSpec { restarted_at: Some(at.into()), ..record }
}

fn handle(observed: &Observed) -> Decided {
    judge(observed, |facts| {
        let mut decided = Decided::default();
        handle_kubectl_verbs(facts, &mut decided);
        decided
    })
}

/// The record of the rollout that kubectl's verb becomes.
fn find_record(observed: &Observed) -> ModelRolloutSpec {
    match handle(observed).decision {
        Some(Decision::Roll(new)) => new.record,
        other => panic!("{other:?}"),
    }
}

fn find_refusal(observed: &Observed) -> (String, String) {
    let decided = handle(observed);
    assert_eq!((decided.decision, decided.lookups), (None, Vec::new()));
    match &decided.events[..] {
        [Action::Event { message, key, .. }] => (message.clone(), key.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_undo_uses_the_rendering_of_the_rollout_with_that_restart() {
    let rerendered = ModelRolloutSpec { revision_name: "fraud-6-2".into(), ..promoted(2, "6") };
    let records = vec![promoted(1, "6"), restarted(rerendered, "t"), promoted(3, "7")];
    for (live, name) in [(&records[0], "fraud-6"), (&records[1], "fraud-6-2")] {
        let record = find_record(&changed(records.clone(), live));
        assert_eq!((record.trigger, record.revision_name.as_str()), (Trigger::Undo, name));
        assert_eq!(record.restarted_at, live.restarted_at);
    }
}

#[test]
fn an_undo_to_a_revision_that_no_rollout_knows_is_reverted_and_reported_once_for_each_change() {
    let mut observed = changed(vec![promoted(1, "6"), promoted(2, "7")], &record(0, "8"));
    observed.tracks.get_mut("main").unwrap().generation = 5;
    let (message, key) = find_refusal(&observed);
    assert!(message.contains("no rollout of this ModelDeployment knows"), "{message}");
    assert_eq!(key, "kubectl-undo-fraud-5");
}

#[test]
fn an_undo_to_a_revision_that_never_served_is_reverted() {
    let failed = ModelRolloutSpec { outcome: Some(Outcome::Failed), ..record(2, "7") };
    let records = vec![promoted(1, "6"), failed, promoted(3, "6")];
    let (message, _) = find_refusal(&changed(records.clone(), &records[1]));
    assert!(message.contains("rollout 2 never served"), "{message}");
}

#[test]
fn an_undo_to_a_restart_that_never_served_goes_back_to_the_revision_that_did() {
    let failed = ModelRolloutSpec { outcome: Some(Outcome::Superseded), ..record(2, "6") };
    let records = vec![promoted(1, "6"), restarted(failed, "t"), promoted(3, "7")];
    let record = find_record(&changed(records.clone(), &records[1]));
    assert_eq!((record.trigger, record.restarted_at.as_deref()), (Trigger::Undo, Some("t")));
}

#[test]
fn an_undo_of_a_restart_in_progress_goes_back_to_what_serves() {
    let records = vec![promoted(1, "6"), restarted(record(2, "6"), "t")];
    let record = find_record(&changed(records.clone(), &records[0]));
    assert_eq!((record.trigger, record.restarted_at), (Trigger::Undo, None));
}

#[test]
fn a_restart_of_another_revision_is_no_undo_although_what_serves_has_that_restart() {
    let serving = restarted(promoted(1, "6"), "t");
    let records = vec![serving, record(2, "7")];
    let record = find_record(&changed(records.clone(), &restarted(record(2, "7"), "t")));
    assert_eq!((record.trigger, record.version.as_str()), (Trigger::Restart, "7"));
}

#[test]
fn a_restart_of_a_revision_that_is_lost_asks_for_the_replica_sets() {
    let records = vec![promoted(1, "6")];
    let mut observed = changed(records, &restarted(record(1, "6"), "t"));
    assert_eq!(find_record(&observed).trigger, Trigger::Restart);
    observed.revisions.clear();
    let decided = handle(&observed);
    assert_eq!((decided.decision, decided.lookups), (None, vec![Lookup::ReplicaSets]));
}

/// What serves, paused or not by spec.paused, while its Deployment is as kubectl left it.
fn paused(by_spec: bool, label: &str, live_paused: bool) -> Observed {
    let records = vec![promoted(1, "6"), promoted(2, "7")];
    let mut observed = changed(records.clone(), &records[1]);
    spec_of(&mut observed).paused = by_spec;
    let live = observed.tracks.get_mut(names::TRACK_MAIN).unwrap();
    live.spec.paused = live_paused;
    live.meta.labels.insert(names::DECISION.into(), label.into());
    observed
}

#[test]
fn a_resume_is_refused_as_long_as_the_spec_pauses_and_needs_no_word_once_it_does_not() {
    let (message, _) = find_refusal(&paused(true, "2.0-paused", false));
    assert!(message.contains("set spec.paused to false"), "{message}");
    let both = handle(&paused(false, "2.0-paused", false));
    assert_eq!((both.decision, both.events), (None, Vec::new()), "both ask for the same");
}

#[test]
fn a_pause_of_a_rollout_that_goes_back_says_that_the_next_one_waits() {
    let back = ModelRolloutSpec { direction: Direction::Back, ..record(3, "6") };
    let records = vec![promoted(1, "6"), promoted(2, "7"), back];
    let mut observed = changed(records.clone(), &records[2]);
    observed.tracks.get_mut(names::TRACK_MAIN).unwrap().spec.paused = true;
    let decided = handle(&observed);
    assert!(matches!(decided.decision, Some(Decision::Append(_))));
    let [Action::Event { reason, message, .. }] = &decided.events[..] else { panic!() };
    assert!(reason == "PausedLater" && message.contains("carried out first"), "{message}");
}
