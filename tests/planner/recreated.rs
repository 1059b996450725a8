//! ModelDeployments that are deleted, created again or restored.

use rollmodel::{
    api::{
        deployment::State,
        request::{RequestResult, Verb},
        rollout::Outcome,
    },
    plan::Action,
};
use serde_json::json;

use crate::{
    going_back::on_seven,
    world::{Behavior, World},
};

#[test]
fn a_pause_that_outlives_its_model_deployment_is_lifted_by_a_resume() {
    let mut world = World::new();
    world.set_behavior("6", Behavior::Crash);
    world.settle();
    world.send_request(Verb::Pause);
    world.settle();
    world.delete_model_deployment();
    world.settle();
    world.create_model_deployment("7");
    world.settle();
    assert_eq!(world.read_state(), State::Paused);
    let resume = world.send_request(Verb::Resume);
    world.settle();
    assert_eq!(world.find_answer(&resume).result, Some(RequestResult::Done));
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
}

#[test]
fn a_model_deployment_that_is_being_deleted_is_not_ready_and_says_so_to_whoever_asks() {
    let mut world = on_seven();
    world.observed.model_deployment.as_mut().unwrap().deleting = true;
    let undo = world.send_request(Verb::Undo);
    world.settle();
    let sentence = "ModelDeployment fraud is being deleted, and nothing is rolled out:";
    let answer = world.find_answer(&undo);
    assert_eq!(answer.result, Some(RequestResult::Refused));
    assert!(answer.message.unwrap().starts_with(sentence));
    let status = world.read_status();
    assert!(status.message.unwrap().starts_with(sentence));
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Deleting"));
    assert_eq!(world.find_record(2).served_until, None, "nobody knows yet what is orphaned");
}

#[test]
fn a_record_stays_open_while_its_orphaned_deployment_serves_also_if_the_name_is_another_models() {
    let mut world = on_seven();
    world.edit_deployment(|d| d["metadata"]["ownerReferences"] = json!([]));
    world.observed.model_deployment = None;
    world.settle();
    world.create_model_deployment("1");
    world.change_spec(|s| s.model = "churn".into());
    world.settle();
    assert_eq!(world.find_record(2).served_until, None);
    world.lose_deployment();
    world.settle();
    assert!(world.find_record(2).served_until.is_some(), "its Deployment is gone");
}

#[test]
fn a_restored_record_waits_an_hour_for_its_model_deployment() {
    let mut world = on_seven();
    let restored = Some(world.now);
    for record in &mut world.observed.records {
        record.restored = restored;
    }
    world.delete_model_deployment();
    world.settle();
    assert_eq!(world.find_record(2).served_until, None);
    world.create_model_deployment("7");
    world.settle();
    assert_eq!((world.read_state(), world.records().len()), (State::Serving, 2));
    assert!(world.live_image().ends_with("fraud:7"));
    world.delete_model_deployment();
    world.advance_time(jiff::Span::new().hours(1));
    world.settle();
    assert!(world.find_record(2).served_until.is_some());
    assert_eq!(world.find_record(2).outcome, Some(Outcome::Promoted));
}

#[test]
fn a_deployment_that_another_controller_owns_is_not_written() {
    let mut world = on_seven();
    world.edit_deployment(|d| d["metadata"]["ownerReferences"][0]["uid"] = json!("other"));
    world.edit_deployment(|d| d["metadata"]["ownerReferences"][0]["kind"] = json!("Canary"));
    world.want_version("6");
    let plan = world.plan_next();
    let writes = |action: &Action| matches!(action, Action::PatchDeployment { .. });
    assert!(!plan.actions.iter().any(writes), "{:?}", plan.actions);
    world.settle();
    assert_eq!(world.read_state(), State::Invalid);
    assert!(world.live_image().ends_with("fraud:7"));
}
