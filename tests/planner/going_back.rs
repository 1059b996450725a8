//! Back: undo, abort, failures, holds, retry.

use rollmodel::api::{
    deployment::State,
    request::{RequestResult, Verb},
    rollout::{Outcome, Scope, Trigger},
};
use serde_json::json;

use crate::world::{Behavior, World};

/// Version 6 serves, and version 7, whose pods behave so, is about to replace it.
pub fn beginning_seven(behavior: Behavior) -> World {
    let mut world = World::new();
    world.settle();
    world.set_behavior("7", behavior);
    world.want_version("7");
    world.plan_once();
    world.plan_once();
    world
}

/// Version 6 served, version 7 serves.
pub fn on_seven() -> World {
    let mut world = World::new();
    world.settle();
    world.want_version("7");
    world.settle();
    world
}

fn build_template(tag: &str) -> serde_json::Value {
    json!({"spec": {"containers": [{"name": "model", "image": format!("server:{tag}")}]}})
}

#[test]
fn undo_serves_the_version_before_and_holds_the_one_left() {
    let mut world = on_seven();
    let request = world.send_request(Verb::Undo);
    world.settle();
    let answer = world.find_answer(&request);
    assert_eq!((answer.result, answer.rollout), (Some(RequestResult::Done), Some(3)));
    assert_eq!(
        answer.message.unwrap(),
        "Recorded as rollout 3: going back to version 6 (rollout 1); version 7 is not served again \
         until a Retry."
    );
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "6"));
    let rejects = world.find_record(3).rejects.unwrap();
    assert_eq!((rejects.rollout, rejects.scope), (2, Scope::Version));
    assert_eq!(
        world.read_status().message.unwrap(),
        "Serving version 6: alice went back from version 7 (latency). Version 7 is not served \
         again until a Retry."
    );
}

#[test]
fn a_held_version_stays_held_whatever_else_of_the_spec_is_edited() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    world.change_spec(|s| s.replicas = 7);
    world.set_template(json!({"metadata": {"labels": {"commit": "abc"}}}));
    world.set_template(build_template("other"));
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "6"));
}

#[test]
fn a_new_version_lifts_the_hold() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    world.want_version("8");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "8"));
}

#[test]
fn git_that_reverts_to_what_serves_is_ready_at_once() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    let records = world.records().len();
    world.want_version("6");
    world.settle();
    assert_eq!((world.read_state(), world.records().len()), (State::Serving, records));
}

#[test]
fn a_spec_that_returns_to_a_rejected_version_stays_held_until_retry() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    world.want_version("6");
    world.settle();
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "6"));
    let retry = world.send_request(Verb::Retry);
    world.settle();
    assert_eq!(world.find_answer(&retry).result, Some(RequestResult::Done));
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
}

#[test]
fn undo_twice_goes_one_further_back() {
    let mut world = on_seven();
    world.want_version("8");
    world.settle();
    world.send_request(Verb::Undo);
    world.settle();
    world.send_request(Verb::Undo);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "6"));
}

#[test]
fn undo_by_kubectl_is_recorded_and_a_second_one_is_put_back() {
    let mut world = on_seven();
    world.kubectl_undo(1);
    world.settle();
    assert_eq!(
        (world.find_record(3).trigger, world.find_record(3).decided_by.name.as_str()),
        (Trigger::Undo, "kubectl (unverified)")
    );
    assert_eq!(world.serving_version(), "6");
    world.kubectl_undo(2);
    world.settle();
    assert!(world.live_image().ends_with("fraud:6"));
    assert!(
        world.events.iter().any(|(reason, message)| reason == "UndoRefused"
            && message.contains("one with verb Retry serves what the spec names")),
        "{:?}",
        world.events
    );
}

#[test]
fn undo_after_a_restart_goes_to_another_version_not_to_the_same_again() {
    let mut world = on_seven();
    world.send_request(Verb::Restart);
    world.settle();
    world.send_request(Verb::Undo);
    world.settle();
    assert_eq!(world.serving_version(), "6");
}

#[test]
fn undo_of_a_template_change_rejects_the_content_and_not_the_version() {
    let mut world = World::new();
    world.settle();
    world.set_template(build_template("2"));
    world.settle();
    world.send_request(Verb::Undo);
    world.settle();
    assert_eq!(world.find_record(3).rejects.unwrap().scope, Scope::Content);
    assert_eq!(world.read_state(), State::Held);
    world.set_template(build_template("3"));
    world.settle();
    assert_eq!((world.read_state(), world.live_image().as_str()), (State::Serving, "server:3"));
}

#[test]
fn undo_to_a_number_and_then_undo_goes_to_the_newest_one_left() {
    let mut world = on_seven();
    world.want_version("8");
    world.settle();
    world.send_request_with(Verb::Undo, "3.0", |s| s.to_rollout = Some(1));
    world.settle();
    assert_eq!(world.serving_version(), "6");
    world.send_request(Verb::Undo);
    world.settle();
    assert_eq!(world.serving_version(), "7");
}

#[test]
fn of_two_people_who_undo_at_once_one_is_refused() {
    let mut world = on_seven();
    let (first, second) = (world.send_request(Verb::Undo), world.send_request(Verb::Undo));
    world.settle();
    assert_eq!(world.find_answer(&first).result, Some(RequestResult::Done));
    let answer = world.find_answer(&second);
    assert_eq!(answer.result, Some(RequestResult::Refused));
    assert!(answer.message.unwrap().contains("ifDecision: \"3.0\""));
    assert_eq!(world.records().len(), 3);
}

#[test]
fn a_version_that_crashes_goes_back_by_itself_and_says_which_container_and_why() {
    let mut world = World::new();
    world.settle();
    world.set_behavior("7", Behavior::Crash);
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::RolledBack, "6"));
    assert_eq!(
        (world.find_record(2).outcome, world.find_record(3).trigger),
        (Some(Outcome::Failed), Trigger::Failed)
    );
    let message = world.read_status().message.unwrap();
    assert!(
        message.contains("container model")
            && message.contains("exit code 1: model file is corrupt"),
        "{message}"
    );
}

#[test]
fn a_failed_template_is_held_with_new_labels_and_lifted_by_a_correction() {
    let mut world = World::new();
    world.settle();
    world.set_behavior("7", Behavior::Crash);
    world.want_version("7");
    world.settle();
    world.set_template(json!({"metadata": {"labels": {"commit": "abc"}}}));
    world.settle();
    assert_eq!(world.read_state(), State::RolledBack);
    world.set_behavior("7", Behavior::Fine);
    world.set_template(build_template("mended"));
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
}

#[test]
fn a_bad_first_version_waits_with_nothing_to_go_back_to_and_heals() {
    let mut world = World::new();
    world.set_behavior("6", Behavior::Crash);
    world.settle();
    assert_eq!(world.read_state(), State::Waiting);
    assert_eq!(world.records().len(), 1);
    world.set_behavior("6", Behavior::Fine);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "6"));
}

#[test]
fn going_back_that_fails_too_waits_and_decides_nothing_more() {
    let mut world = on_seven();
    world.set_behavior("6", Behavior::Crash);
    world.send_request(Verb::Undo);
    world.settle();
    assert_eq!((world.read_state(), world.records().len()), (State::Waiting, 3));
}

#[test]
fn an_image_that_cannot_be_pulled_is_waited_for() {
    let mut world = World::new();
    world.settle();
    world.set_behavior("7", Behavior::Pull);
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Rolling, "6"));
    assert!(world.read_status().message.unwrap().contains("ImagePullBackOff: no such image"));
    world.overdue = true;
    world.settle();
    assert_eq!((world.read_state(), world.records().len()), (State::Waiting, 2));
    world.overdue = false;
    world.set_behavior("7", Behavior::Fine);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
}

#[test]
fn a_model_that_never_loads_fails_at_the_deadline_and_not_before() {
    let mut world = World::new();
    world.settle();
    world.set_behavior("7", Behavior::NeverReady);
    world.want_version("7");
    world.settle();
    assert_eq!(world.read_state(), State::Rolling);
    world.overdue = true;
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::RolledBack, "6"));
}

#[test]
fn abort_stops_what_goes_on_and_is_refused_while_it_goes_back() {
    let mut world = World::new();
    world.settle();
    world.set_behavior("7", Behavior::Pull);
    world.want_version("7");
    world.settle();
    world.set_behavior("6", Behavior::Pull);
    let abort = world.send_request(Verb::Abort);
    world.settle();
    assert_eq!(world.find_answer(&abort).result, Some(RequestResult::Done));
    assert_eq!(
        (world.find_record(2).outcome, world.find_record(3).trigger),
        (Some(Outcome::Aborted), Trigger::Abort)
    );
    let again = world.send_request(Verb::Abort);
    world.settle();
    let answer = world.find_answer(&again);
    assert_eq!(answer.result, Some(RequestResult::Refused));
    assert!(answer.message.unwrap().contains("Retry returns to version 7"));
}

#[test]
fn undo_works_while_paused_and_the_pause_is_put_back_once_it_settled() {
    let mut world = on_seven();
    world.change_spec(|s| s.paused = true);
    world.settle();
    world.send_request(Verb::Undo);
    world.settle();
    assert_eq!(world.serving_version(), "6");
    assert_eq!(world.deployment.as_ref().unwrap()["spec"]["paused"], json!(true));
}

#[test]
fn a_pause_by_kubectl_while_it_goes_back_is_recorded_once() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.plan_once();
    for _ in 0..3 {
        world.edit_deployment(|d| d["spec"]["paused"] = json!(true));
        world.plan_once();
    }
    assert_eq!(world.find_record(3).decisions.len(), 1);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "6"));
}

#[test]
fn a_version_yanked_mid_rollout_goes_back_and_rejects_nothing() {
    let mut world = World::new();
    world.settle();
    world.set_behavior("7", Behavior::Pull);
    world.want_version("7");
    world.settle();
    world.yank_version("7");
    world.settle();
    assert_eq!(
        (world.find_record(3).trigger, world.find_record(3).rejects.clone()),
        (Trigger::Yanked, None)
    );
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Invalid, "6"));
}

#[test]
fn a_template_that_the_api_server_refuses_goes_back_and_says_its_sentence() {
    let mut world = World::new();
    world.settle();
    world.refuses = Some("spec.template.spec.containers[0].image: Required value".into());
    world.want_version("7");
    world.settle();
    assert_eq!(
        (world.find_record(3).trigger, world.serving_version().as_str()),
        (Trigger::Refused, "6")
    );
    assert!(world.read_status().message.unwrap().contains("Required value"));
}

#[test]
fn recreated_on_a_rejected_version_it_serves_again_what_served_last() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    world.delete_model_deployment();
    world.plan_once();
    assert!(world.find_record(3).served_until.is_some());
    world.create_model_deployment("7");
    world.settle();
    assert_eq!(
        (world.find_record(4).trigger, world.serving_version().as_str(), world.read_state()),
        (Trigger::Recreated, "6", State::Held)
    );
}

#[test]
fn recreated_while_nobody_looked_it_goes_on_counting() {
    let mut world = on_seven();
    world.delete_model_deployment();
    world.create_model_deployment("7");
    world.settle();
    assert_eq!(
        (world.find_record(3).trigger, world.serving_version().as_str()),
        (Trigger::SpecChanged, "7")
    );
    assert!(world.find_record(2).served_until.is_some());
}

#[test]
fn a_request_replayed_by_a_backup_is_refused() {
    let mut world = on_seven();
    let request = world.send_request(Verb::Undo);
    world.settle();
    let mut replayed = world.observed.requests[0].clone();
    (replayed.uid, replayed.name, replayed.status) =
        ("uid-of-the-backup".into(), "replayed".into(), None);
    world.observed.requests.push(replayed);
    world.settle();
    assert_eq!(world.find_answer(&request).result, Some(RequestResult::Done));
    assert_eq!(
        (world.find_answer("replayed").result, world.records().len()),
        (Some(RequestResult::Refused), 3)
    );
}

#[test]
fn a_request_for_a_deployment_that_is_not_there_is_refused() {
    let mut world = World::new();
    world.observed.model_deployment = None;
    let request = world.send_request(Verb::Undo);
    world.plan_once();
    assert_eq!(
        world.find_answer(&request).message.unwrap(),
        "There is no ModelDeployment fraud in namespace risk: ask again with a name that `kubectl \
         get mdep` lists."
    );
}

#[test]
fn recreated_while_a_pause_stands_it_serves_what_served_last_and_the_change_waits() {
    let mut world = on_seven();
    world.send_request(Verb::Pause);
    world.settle();
    world.delete_model_deployment();
    world.plan_once();
    world.create_model_deployment("8");
    world.settle();
    assert_eq!(
        (world.find_record(3).trigger, world.serving_version().as_str(), world.read_state()),
        (Trigger::Recreated, "7", State::Paused)
    );
    world.send_request(Verb::Resume);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "8"));
}

#[test]
fn a_sentence_names_the_version_the_template_or_that_the_same_is_rolled_out_again() {
    let mut world = on_seven();
    let says = |world: &mut World| {
        let plan = world.plan_next();
        world.carry_out(plan.clone(), usize::MAX);
        plan.status.unwrap().message.unwrap()
    };
    world.send_request(Verb::Undo);
    assert_eq!(says(&mut world), "Going back to version 6: latency.");
    // Version 7 serves until version 6 is complete.
    world.send_request(Verb::Retry);
    assert_eq!(says(&mut world), "Rolling out version 7 again (Retry by alice).");
    world.settle();
    world.send_request(Verb::Restart);
    assert_eq!(says(&mut world), "Restarting version 7.");
    world.send_request(Verb::Abort);
    assert_eq!(says(&mut world), "Going back to version 7 as it served before: latency.");
    world.settle();
    world.set_template(build_template("2"));
    assert_eq!(says(&mut world), "Rolling out the changed template of version 7.");
    world.send_request(Verb::Restart);
    let restarted = "Rolling out the changed template of version 7 (Restart by alice).";
    assert_eq!(says(&mut world), restarted);
    world.send_request(Verb::Abort);
    assert_eq!(says(&mut world), "Going back to the earlier template of version 7: latency.");
}
