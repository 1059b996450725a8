//! Stored revisions that someone changed: they are never served again.

use std::sync::Arc;

use rollmodel::api::{
    deployment::State,
    request::{RequestResult, Verb},
    rollout::Trigger,
};
use serde_json::json;

use crate::{going_back::on_seven, world::World};

/// Someone deletes a stored revision and creates another under its name, with its labels and hash.
fn replace_body(world: &mut World, revision_name: &str) {
    let found = world.observed.revisions.iter_mut().find(|c| c.name == revision_name);
    let stored = found.unwrap();
    let body = Arc::make_mut(stored.body.as_mut().unwrap());
    body.rendering["spec"]["containers"][0]["image"] = json!("evil:1");
    stored.rendering_digest =
        Some(rollmodel::plan::facts::revision::compute_digest(&body.rendering));
}

#[test]
fn a_stored_revision_that_someone_changed_is_never_gone_back_to() {
    let mut world = on_seven();
    let name = world.find_record(1).revision_name;
    replace_body(&mut world, &name);
    let undo = world.send_request(Verb::Undo);
    world.settle();
    assert_eq!(world.find_answer(&undo).result, Some(RequestResult::Refused));
    let decision = world.newest_decision();
    let undo = world.send_request_with(Verb::Undo, &decision, |spec| spec.to_rollout = Some(1));
    world.settle();
    let says = format!(
        "Rollout 1 cannot be gone back to: ControllerRevision {name} was changed and no longer \
         fits its record."
    );
    assert_eq!(world.find_answer(&undo).message.unwrap(), says);
    assert!(world.live_image().ends_with("fraud:7"));
}

#[test]
fn a_revision_that_was_changed_is_rendered_again_under_another_name() {
    let mut world = on_seven();
    let name = world.find_record(1).revision_name;
    replace_body(&mut world, &name);
    world.want_version("6");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "6"));
    assert!(world.live_image().ends_with("fraud:6"));
    assert_eq!(world.find_record(3).revision_name, format!("{name}-2"));
}

#[test]
fn a_body_that_no_record_vouches_for_is_never_rolled_out() {
    let mut world = on_seven();
    world.want_version("8");
    // Killed after the revision is stored; then someone replaces what it stored.
    let plan = world.plan_next();
    world.carry_out(plan, 1);
    let name = world.observed.revisions.last().unwrap().name.clone();
    replace_body(&mut world, &name);
    world.settle();
    assert!(world.live_image().ends_with("fraud:8"));
    assert_eq!(world.find_record(3).revision_name, format!("{name}-2"));
}

#[test]
fn the_deployment_keeps_its_template_if_the_stored_revision_of_what_serves_was_changed() {
    let mut world = on_seven();
    let name = world.find_record(2).revision_name;
    replace_body(&mut world, &name);
    world.settle();
    assert!(world.live_image().ends_with("fraud:7"));
    assert!(world.read_status().message.unwrap().contains("is missing or was changed"));
    world.want_version("8");
    world.settle();
    world.send_request(Verb::Undo);
    world.settle();
    assert!(world.live_image().ends_with("fraud:6"), "7 is as good as lost");
}

/// Someone deletes every stored revision and the Deployment.
fn lose_everything(world: &mut World) {
    world.observed.revisions.clear();
    world.lose_deployment();
}

#[test]
fn a_version_whose_revision_and_deployment_were_both_deleted_is_rendered_again() {
    let mut world = on_seven();
    lose_everything(&mut world);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
    let (before, after) = (world.find_record(2), world.find_record(3));
    assert_eq!((after.trigger, after.goes_back()), (Trigger::Recreated, false));
    assert_eq!(after.rendering_digest, before.rendering_digest);
    assert_eq!(world.records().len(), 3);
}

#[test]
fn a_held_version_that_was_deleted_whole_says_how_it_serves_again() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.settle();
    lose_everything(&mut world);
    world.settle();
    let message = world.read_status().message.unwrap();
    assert!(message.contains("its Deployment is gone: it serves again once the spec names"));
    world.want_version("6");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "6"));
}

#[test]
fn a_version_that_was_deleted_whole_and_may_not_be_rendered_says_only_why() {
    let mut world = on_seven();
    lose_everything(&mut world);
    world.observed.versions.retain(|v| v.version != "7");
    world.settle();
    let message = world.read_status().message.unwrap();
    assert!(message.contains("ModelVersion fraud-7"), "{message}");
    assert!(!message.contains("stored revision"), "{message}");
    assert_eq!(world.records().len(), 2);
}
