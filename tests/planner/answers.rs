//! What people are told of a verb: the answer, the message, and the Event.

use rollmodel::{
    api::{condition::MESSAGE_MAX, deployment::State, request::Verb},
    plan::observed::Version,
};
use serde_json::json;

use crate::{going_back::on_seven, world::World};

fn read_message(world: &World) -> String {
    world.read_status().message.unwrap()
}

fn count_events(world: &World, reason: &str) -> usize {
    world.events.iter().filter(|(known, _)| known == reason).count()
}

/// The version has another record now than the one that was rolled out.
fn replace_record(version: &mut Version) {
    version.record_digest = format!("sha256:{:e>64}", version.version);
}

#[test]
fn an_undo_at_no_replicas_says_that_the_version_of_the_spec_is_held() {
    let mut world = on_seven();
    world.change_spec(|s| s.replicas = 0);
    world.settle();
    world.send_request(Verb::Undo);
    world.settle();
    assert_eq!(
        read_message(&world),
        "Version 6 is set up with 0 replicas: its rollout is complete once a pod of it is \
         available; alice went back from version 7 (latency). Version 7 is not served again until \
         a Retry."
    );
}

#[test]
fn an_undo_to_a_rejected_rollout_names_the_retry() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    let decision = world.newest_decision();
    let undo = world.send_request_with(Verb::Undo, &decision, |s| s.to_rollout = Some(2));
    world.settle();
    assert_eq!(
        world.find_answer(&undo).message.unwrap(),
        "Rollout 2 cannot be gone back to: it was rejected by rollout 3. A Retry returns to it, \
         where the spec names it."
    );
}

#[test]
fn an_undo_to_what_is_rolling_out_says_that_it_rolls_out() {
    let mut world = on_seven();
    world.want_version("6");
    world.plan_once();
    let decision = world.newest_decision();
    let undo = world.send_request_with(Verb::Undo, &decision, |s| s.to_version = Some("6".into()));
    world.plan_once();
    assert_eq!(
        world.find_answer(&undo).message.unwrap(),
        "The newest rollout rolls out version 6 already: to go back to an earlier rollout of that \
         version, name it with toRollout."
    );
}

#[test]
fn a_refused_undo_by_kubectl_is_told_once() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    world.kubectl_undo(2);
    world.settle();
    assert_eq!(
        (count_events(&world, "UndoRefused"), count_events(&world, "DriftCorrected")),
        (1, 0)
    );
}

#[test]
fn a_restart_by_kubectl_of_what_must_not_serve_newly_is_reverted_and_says_why() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.plan_once();
    replace_record(world.version_mut("6"));
    world.edit_deployment(|d| {
        d["spec"]["template"]["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
    });
    world.plan_once();
    assert_eq!(world.records().len(), 3);
    let told = world.events.iter().find(|(reason, _)| reason == "RestartRefused").unwrap();
    assert_eq!(
        told.1,
        "kubectl rollout restart was reverted. Version 6 is yanked or in conflict, and does not \
         serve yet: it is not restarted."
    );
    assert_eq!(count_events(&world, "DriftCorrected"), 0);
}

#[test]
fn a_held_version_whose_replacement_was_yanked_says_both() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    world.yank_version("6");
    world.settle();
    assert_eq!(
        read_message(&world),
        "Serving version 6: alice went back from version 7 (latency). Version 7 is not served \
         again until a Retry. Version 6 is yanked: Leaks the label."
    );
}

#[test]
fn the_longest_reason_of_any_alphabet_fits_a_record() {
    let mut world = on_seven();
    let decision = world.newest_decision();
    world.send_request_with(Verb::Undo, &decision, |s| {
        s.reason = Some("\u{1F525}".repeat(1024));
        s.requested_by = Some("a".repeat(253));
    });
    world.plan_once();
    let record = world.find_record(3);
    assert!(record.decided_by.reason.as_ref().unwrap().len() <= MESSAGE_MAX);
    assert!(json!(record).to_string().len() <= 4096, "a record is at most 4 KiB");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "6"));
}
