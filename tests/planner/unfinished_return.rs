//! A going back by a person that is not complete: it stands, whatever the spec does meanwhile.

use rollmodel::api::{
    deployment::State,
    request::{RequestResult, Verb},
    rollout::Outcome,
};
use serde_json::json;

use crate::{
    going_back::on_seven,
    world::{Behavior, World},
};

/// Version 7 served, alice went back to version 6, and no pod of that is there yet.
fn going_back_to_six() -> World {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.plan_once();
    assert_eq!(world.find_record(3).outcome, None);
    world
}

fn set_label(world: &mut World, value: &str) {
    world.set_template(json!({"metadata": {"labels": {"commit": value}}}));
}

#[test]
fn a_label_on_the_version_that_is_gone_back_to_is_served_also_if_the_spec_returns_to_the_one_left()
{
    let mut world = going_back_to_six();
    world.want_version("6");
    set_label(&mut world, "abc");
    world.plan_once();
    assert_eq!(world.find_record(4).version, "6");
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "6"));
    assert!(world.live_image().ends_with("fraud:6"));
}

#[test]
fn a_spec_that_leaves_another_template_returns_to_what_was_gone_back_to() {
    let mut world = on_seven();
    world.want_version("8");
    world.settle();
    // Versions 6, 7 and 8 served; alice went back to 7, which serves no pod yet.
    world.send_request(Verb::Undo);
    world.plan_once();
    world.want_version("7");
    world.set_template(json!({"spec": {"containers": [{"name": "model", "image": "server:2"}]}}));
    world.plan_once();
    assert_eq!(world.find_record(5).version, "7");
    world.want_version("8");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "7"));
    let returned = world.find_record(6);
    assert_eq!(returned.revision_hash, world.find_record(4).revision_hash);
}

#[test]
fn a_failed_version_returns_to_the_version_that_was_named_by_the_undo() {
    let mut world = on_seven();
    world.want_version("8");
    world.settle();
    let decision = world.newest_decision();
    world.send_request_with(Verb::Undo, &decision, |s| s.to_version = Some("6".into()));
    world.plan_once();
    world.add_version("9");
    world.set_behavior("9", Behavior::Crash);
    world.want_version("9");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::RolledBack, "6"));
}

#[test]
fn a_changed_label_of_what_is_gone_back_to_waits_for_its_crashing_pods() {
    let mut world = going_back_to_six();
    world.set_behavior("6", Behavior::Crash);
    world.want_version("6");
    set_label(&mut world, "abc");
    world.settle();
    assert_eq!(world.records().len(), 4, "nothing is rolled out again and again");
    assert_eq!(world.read_state(), State::Waiting);
    let message = world.read_status().message.unwrap();
    assert!(message.contains("Version 6 was gone back to"), "{message}");
    let abort = world.send_request(Verb::Abort);
    world.settle();
    assert_eq!(world.find_answer(&abort).result, Some(RequestResult::Done));
    assert_eq!(world.find_record(4).outcome, Some(Outcome::Aborted));
}

#[test]
fn a_spec_that_names_what_is_gone_back_to_returns_to_it_exactly() {
    let mut world = going_back_to_six();
    world.want_version("8");
    world.plan_once();
    world.want_version("6");
    world.plan_once();
    let (before, after) = (world.find_record(3), world.find_record(5));
    assert!(after.goes_back() && after.rejects.is_none());
    assert_eq!(after.revision_name, before.revision_name);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "6"));
}

#[test]
fn a_retry_of_what_was_left_makes_it_the_good_version_again() {
    let mut world = going_back_to_six();
    world.send_request(Verb::Retry);
    world.plan_once();
    world.set_behavior("8", Behavior::Crash);
    world.want_version("8");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::RolledBack, "7"));
}

#[test]
fn a_version_yanked_while_it_is_gone_back_to_is_not_returned_to() {
    let mut world = on_seven();
    world.want_version("8");
    world.settle();
    world.send_request(Verb::Undo);
    world.plan_once();
    world.add_version("9");
    world.set_behavior("9", Behavior::Crash);
    world.want_version("9");
    world.plan_once();
    world.yank_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::RolledBack, "6"));
}

#[test]
fn what_a_person_returns_to_while_it_still_serves_is_no_longer_rejected() {
    let mut world = on_seven();
    world.want_version("8");
    world.settle();
    world.send_request(Verb::Undo);
    world.plan_once();
    // A mistake: 8 serves still, and alice names it.
    let decision = world.newest_decision();
    world.send_request_with(Verb::Undo, &decision, |s| s.to_rollout = Some(3));
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "8"));
    world.add_version("9");
    world.set_behavior("9", Behavior::Crash);
    world.want_version("9");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::RolledBack, "8"));
}

#[test]
fn a_label_on_what_is_gone_back_to_from_an_open_rollout_is_not_failed() {
    let mut world = on_seven();
    world.want_version("8");
    world.plan_once();
    let decision = world.newest_decision();
    world.send_request_with(Verb::Undo, &decision, |s| s.to_version = Some("6".into()));
    world.plan_once();
    world.set_behavior("6", Behavior::Crash);
    world.want_version("6");
    set_label(&mut world, "abc");
    world.settle();
    assert_eq!(world.records().len(), 5, "a label is no other version");
    assert_eq!(world.read_state(), State::Waiting);
    world.add_version("9");
    world.set_behavior("9", Behavior::Crash);
    world.want_version("9");
    world.settle();
    assert_eq!(world.records().last().unwrap().version, "6", "the person named it");
}

#[test]
fn an_undo_that_fails_is_told_also_while_the_spec_names_a_version_that_is_not_there() {
    let mut world = on_seven();
    world.want_version("80");
    world.settle();
    world.set_behavior("6", Behavior::Crash);
    world.send_request(Verb::Undo);
    world.settle();
    let message = world.read_status().message.unwrap();
    assert!(message.starts_with("Going back to version 6: container model"), "{message}");
    assert!(
        message.contains("ModelVersion fraud-80 (version 80 of fraud) is not there"),
        "{message}"
    );
}

#[test]
fn a_rollout_that_is_paused_because_the_spec_names_something_held_says_so() {
    let mut world = going_back_to_six();
    world.yank_version("6");
    world.plan_once();
    world.set_behavior("8", Behavior::Pull);
    world.want_version("8");
    world.plan_once();
    world.want_version("7");
    world.settle();
    let (state, message) = (world.read_state(), world.read_status().message.unwrap());
    assert_eq!(state, State::Waiting, "{message}");
    assert!(message.starts_with("The rollout of version 8 is paused, because"), "{message}");
    assert!(message.contains("alice went back from version 7"), "{message}");
}

#[test]
fn a_version_that_is_yanked_while_it_is_gone_back_to_gets_its_deployment_back() {
    let mut world = going_back_to_six();
    world.yank_version("6");
    world.lose_deployment();
    world.settle();
    assert!(world.live_image().ends_with("fraud:6"));
    assert_eq!(world.serving_version(), "6");
}
