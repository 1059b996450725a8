//! What people are told of changes that they or others made to the Deployment.

use rollmodel::api::request::Verb;
use serde_json::json;

use crate::{
    going_back::on_seven,
    world::{Behavior, World},
};

#[test]
fn a_refused_kubectl_undo_leaves_no_trace_in_the_history_of_kubectl() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    let cause = |world: &World| world.main_deployment().unwrap().meta.annotations.clone();
    let before = cause(&world);
    world.kubectl_undo(2);
    world.edit_deployment(|d| {
        d["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!("rollout 2: version 7");
    });
    world.settle();
    assert!(world.events.iter().any(|(reason, _)| reason == "UndoRefused"));
    assert!(world.live_image().ends_with(":6") && !before.is_empty());
    assert_eq!(cause(&world), before);
}

#[test]
fn a_deployment_that_was_scaled_is_set_back_and_people_are_told_what_to_scale() {
    let mut world = on_seven();
    world.edit_deployment(|d| d["spec"]["replicas"] = json!(5));
    world.settle();
    assert_eq!(world.main_deployment().unwrap().spec.replicas, 3);
    let told = |world: &World| {
        let mut events = world.events.iter().filter(|(reason, _)| reason == "DriftCorrected");
        events.next().map(|(_, message)| message.clone())
    };
    let message = told(&world).unwrap();
    let begins = "Deployment fraud was scaled to 5, and is set to the 3 replicas that";
    assert!(message.starts_with(begins) && message.contains("kubectl scale modeldeployment fraud"));
    world.events.clear();
    world.change_spec(|s| s.replicas = 4);
    world.settle();
    assert_eq!((world.main_deployment().unwrap().spec.replicas, told(&world)), (4, None));
}

#[test]
fn a_deployment_that_was_replaced_by_an_old_manifest_is_set_right_and_people_are_told() {
    let mut world = World::new();
    world.settle();
    let old = world.deployment.clone().unwrap();
    world.want_version("7");
    world.settle();
    world.edit_deployment(|d| {
        d["metadata"]["labels"] = old["metadata"]["labels"].clone();
        d["spec"]["template"] = old["spec"]["template"].clone();
    });
    world.settle();
    assert!(world.live_image().ends_with("fraud:7"));
    assert_eq!(world.records().len(), 2);
    let told = world.events.iter().find(|(reason, _)| reason == "DriftCorrected");
    let message = "Deployment fraud carries decision 1.0 again: someone replaced it, for example \
                   with an old manifest. It is set to rollout 2, which is the newest.";
    assert_eq!(told.map(|(_, message)| message.as_str()), Some(message));
}

#[test]
fn a_deployment_that_is_gone_is_created_again_and_people_are_told() {
    let mut world = on_seven();
    world.lose_deployment();
    world.settle();
    let told = world.events.iter().find(|(reason, _)| reason == "DeploymentDeleted");
    let message = "Deployment fraud is gone: it is created again, with version 7.";
    assert_eq!(told.map(|(_, message)| message.as_str()), Some(message));
}

#[test]
fn what_is_held_while_it_is_paused_says_both() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    world.change_spec(|s| s.paused = true);
    world.settle();
    let message = world.read_status().message.unwrap();
    assert!(message.contains("until a Retry") && message.contains("Paused by spec.paused"));
    world.change_spec(|s| (s.paused, s.replicas, s.version) = (false, 0, "6".into()));
    world.settle();
    assert_eq!(world.read_status().message.unwrap(), "Serving version 6, with 0 replicas.");
}

#[test]
fn a_paused_rollout_says_who_paused_it_why_and_what_waits_for_it() {
    let mut world = on_seven();
    world.set_behavior("8", Behavior::Pull);
    world.want_version("8");
    world.settle();
    world.send_request(Verb::Pause);
    world.settle();
    let message = |world: &World| world.read_status().message.unwrap();
    let paused = "Rolling out version 8 is paused by alice (latency).";
    assert_eq!(message(&world), paused);
    world.want_version("6");
    world.settle();
    assert_eq!(
        message(&world),
        format!("{paused} Version 6, which the spec names now, waits too.")
    );
}

#[test]
fn a_retry_during_a_pause_says_what_lifts_the_pause() {
    let answer = |by_spec: bool| {
        let mut world = on_seven();
        world.send_request(Verb::Undo);
        world.settle();
        if by_spec {
            world.change_spec(|s| s.paused = true);
        } else {
            world.send_request(Verb::Pause);
        }
        world.settle();
        let retry = world.send_request(Verb::Retry);
        world.settle();
        world.find_answer(&retry).message.unwrap()
    };
    let begins = "Recorded as rollout 4: rolling out version 7 again. It is paused: it begins";
    assert_eq!(answer(true), format!("{begins} once spec.paused is false."));
    assert_eq!(answer(false), format!("{begins} after a Resume."));
}

#[test]
fn an_undo_warns_of_the_version_that_the_spec_names_and_that_is_not_there_yet() {
    let mut world = on_seven();
    let undo = world.send_request(Verb::Undo);
    world.settle();
    let message = world.find_answer(&undo).message.unwrap();
    assert!(message.ends_with("version 7 is not served again until a Retry."), "{message}");
    let mut world = on_seven();
    world.set_behavior("8", Behavior::Crash);
    world.want_version("8");
    world.settle();
    let undo = world.send_request(Verb::Undo);
    world.settle();
    let message = world.find_answer(&undo).message.unwrap();
    assert!(!message.contains("The spec names"), "it was rejected: {message}");
    let mut world = on_seven();
    world.want_version("9");
    world.settle();
    let undo = world.send_request(Verb::Undo);
    world.settle();
    let message = world.find_answer(&undo).message.unwrap();
    let warning = "The spec names version 9, which nobody rejected: it is rolled out as soon as it \
                   can be, unless the spec names version 6 first.";
    assert!(message.ends_with(warning), "{message}");
    world.add_version("9");
    world.settle();
    assert_eq!(world.serving_version(), "9");
}
