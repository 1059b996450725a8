//! Decisions whose record the API server refuses: nothing is lost, and nothing else waits for them.

use rollmodel::{
    api::{
        deployment::State,
        request::Verb,
        rollout::{DecisionVerb, Trigger},
    },
    plan::Action,
};
use serde_json::json;

use crate::{
    going_back::{beginning_seven, on_seven},
    refused::{begins_with, refuse_write},
    world::{Behavior, World},
};

fn is_record(action: &Action) -> bool {
    matches!(action, Action::CreateRecord { .. })
}

/// Remembers that the API server refused that write of the next plan.
fn refuse_next(world: &mut World, which: impl Fn(&Action) -> bool) {
    let refused = refuse_write(&world.plan_next(), which);
    world.observed.memory.refused.push(refused);
}

#[test]
fn a_kubectl_undo_that_cannot_be_recorded_stays_and_is_recorded_once_it_can_be() {
    let mut world = on_seven();
    world.kubectl_undo(1);
    refuse_next(&mut world, is_record);
    world.settle();
    assert!(world.live_image().ends_with(":6"), "it is not reverted");
    assert_eq!((world.records().len(), world.read_state()), (2, State::Waiting));
    let message = world.read_status().message.unwrap();
    assert_eq!(message, "Cannot record rollout 3: no. It is tried again.");
    world.observed.memory.refused.clear();
    world.settle();
    let record = world.find_record(3);
    assert_eq!((record.trigger, record.version.as_str()), (Trigger::Undo, "6"));
    assert_eq!((world.serving_version().as_str(), world.read_state()), ("6", State::Held));
}

#[test]
fn a_kubectl_pause_that_cannot_be_recorded_stays_and_is_recorded_once_it_can_be() {
    let mut world = beginning_seven(Behavior::Fine);
    world.edit_deployment(|d| d["spec"]["paused"] = json!(true));
    refuse_next(&mut world, begins_with("amendment of fraud-2 "));
    for _ in 0..5 {
        world.plan_once();
    }
    let is_paused = |world: &World| world.main_deployment().unwrap().spec.paused;
    assert!(is_paused(&world), "it is not reverted");
    world.observed.memory.refused.clear();
    world.settle();
    let decisions = world.find_record(2).decisions;
    assert_eq!(decisions.iter().map(|d| d.verb).collect::<Vec<_>>(), [DecisionVerb::Pause]);
    assert!(is_paused(&world));
}

#[test]
fn what_is_decided_later_overtakes_a_verb_of_kubectl_that_cannot_be_recorded() {
    let mut world = on_seven();
    world.kubectl_undo(1);
    refuse_next(&mut world, is_record);
    world.settle();
    world.want_version("8");
    world.settle();
    assert_eq!((world.serving_version().as_str(), world.records().len()), ("8", 3));
}

#[test]
fn a_pause_that_cannot_be_recorded_keeps_no_failure_from_going_back() {
    let mut world = beginning_seven(Behavior::Crash);
    world.send_request(Verb::Pause);
    refuse_next(&mut world, begins_with("amendment of fraud-2 "));
    world.settle();
    assert_eq!(world.find_record(3).trigger, Trigger::Failed);
    assert!(world.live_image().ends_with(":6"), "{}", world.live_image());
}
