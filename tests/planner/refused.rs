//! Writes that the API server refuses: the reported status, the writes that are left out, and the
//! writes that continue.

use rollmodel::{
    api::{
        deployment::State,
        request::Verb,
        rollout::{Outcome, Trigger},
    },
    plan::{Action, Plan, observed::RefusedWrite},
};
use serde_json::json;

use crate::{
    going_back::{beginning_seven, on_seven},
    world::{Behavior, World},
};

/// Builds the memory of the first of these writes that was refused.
pub fn refuse_write(plan: &Plan, which: impl Fn(&Action) -> bool) -> RefusedWrite {
    let action = plan.actions.iter().find(|a| which(a)).unwrap();
    let write = action.identify_write().unwrap();
    RefusedWrite {
        message: match action {
            Action::StoreRevision { name, .. } => format!("store revision {name}: no"),
            Action::CreateRecord { spec } => format!("record rollout {}: no", spec.number),
            Action::CreateService { .. } => "create Service: no".into(),
            _ => format!("{write}: no"),
        },
        write,
        due: false,
        deciding: action.records_decision(),
        forbidden: true,
        names_template: false,
    }
}

fn is_service_creation(action: &Action) -> bool {
    matches!(action, Action::CreateService { .. })
}

fn is_service_patch(action: &Action) -> bool {
    matches!(action, Action::PatchService { .. })
}

/// Selects the writes whose identity begins so.
pub fn begins_with(prefix: &str) -> impl Fn(&Action) -> bool {
    move |action| action.identify_write().is_some_and(|write| write.starts_with(prefix))
}

fn list_writes(plan: &Plan) -> Vec<String> {
    plan.actions.iter().filter_map(Action::identify_write).collect()
}

/// Builds a simulated cluster that serves version 6 and whose Service was deleted, with its plan.
fn without_service() -> (World, Plan) {
    let mut world = World::new();
    world.settle();
    world.observed.service = None;
    let plan = world.plan_next();
    (world, plan)
}

#[test]
fn a_refused_service_is_told_as_long_as_it_is_missing_also_while_it_is_tried_again() {
    let (mut world, plan) = without_service();
    world.observed.memory.refused.push(refuse_write(&plan, is_service_creation));
    let plan = world.plan_next();
    assert!(list_writes(&plan).is_empty(), "it is not tried at every pass");
    let status = plan.status.clone().unwrap();
    assert_eq!(
        (status.state, status.message.as_deref()),
        (Some(State::Waiting), Some("Cannot create Service: no. It is tried again."))
    );
    world.carry_out(plan, usize::MAX);
    assert_eq!(world.events.last().unwrap().1, "Cannot create Service: no. It is tried again.");
    world.observed.memory.refused[0].due = true;
    let plan = world.plan_next();
    assert!(list_writes(&plan).iter().all(|w| w.starts_with("Service ")) && plan.actions.len() > 1);
    assert!(plan.status.is_none(), "until it is taken, what is told stays");
    world.observed.memory.refused.clear();
    world.settle();
    assert_eq!(world.read_state(), State::Serving);
}

#[test]
fn a_refused_service_holds_no_rollout_up() {
    let (mut world, plan) = without_service();
    world.observed.memory.refused.push(refuse_write(&plan, is_service_creation));
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Waiting, "7"));
}

#[test]
fn a_decision_that_cannot_be_written_down_waits_and_nothing_is_done_that_would_stand_on_it() {
    let mut world = World::new();
    world.settle();
    world.want_version("7");
    let plan = world.plan_next();
    let mut content = refuse_write(&plan, |a| matches!(a, Action::StoreRevision { .. }));
    content.due = true;
    let record = refuse_write(&plan, |a| matches!(a, Action::CreateRecord { .. }));
    world.observed.memory.refused = vec![content, record];
    let plan = world.plan_next();
    assert!(
        plan.actions.iter().all(|a| matches!(a, Action::Event { .. })),
        "the content may be tried, the record may not: {plan:#?}"
    );
    assert_eq!(
        plan.status.unwrap().message.unwrap(),
        "Cannot record rollout 2: no. It is tried again."
    );
}

#[test]
fn a_spec_that_is_corrected_does_not_wait_for_the_content_that_was_refused() {
    let mut world = World::new();
    world.settle();
    world.want_version("7");
    let content = refuse_write(&world.plan_next(), |a| matches!(a, Action::StoreRevision { .. }));
    world.observed.memory.refused.push(content);
    world.settle();
    assert_eq!((world.read_state(), world.records().len()), (State::Waiting, 1));
    world.want_version("8");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "8"));
}

#[test]
fn what_was_refused_is_not_planned_again_at_once() {
    let mut world = World::new();
    world.settle();
    world.send_request(Verb::Pause);
    let plan = world.plan_next();
    assert_eq!(plan.requeue_after_seconds, Some(0));
    world
        .observed
        .memory
        .refused
        .push(refuse_write(&plan, |a| matches!(a, Action::AmendRecord { .. })));
    assert_ne!(world.plan_next().requeue_after_seconds, Some(0), "nothing is retried hot");
    world.observed.memory.refused.clear();
    world.delete_model_deployment();
    let plan = world.plan_next();
    assert_eq!(plan.requeue_after_seconds, Some(0));
    world
        .observed
        .memory
        .refused
        .push(refuse_write(&plan, |a| matches!(a, Action::AnswerRequest { .. })));
    let rest = world.plan_next();
    world.carry_out(rest, usize::MAX);
    assert_ne!(world.plan_next().requeue_after_seconds, Some(0));
}

/// Refuses the creation of the Deployment with version 7.
fn refuse_creation(world: &mut World, message: &str) {
    world.refuses = Some(message.into());
    world.want_version("7");
    world.lose_deployment();
    world.settle();
}

#[test]
fn a_template_that_is_refused_on_the_first_rollout_is_invalid_with_the_servers_sentence() {
    let mut world = World::new();
    refuse_creation(&mut world, "create Deployment: spec.template.labels: Invalid value");
    let status = world.read_status();
    assert_eq!(status.state, Some(State::Invalid));
    let says = "Rolling out version 7: the API server refused it: create Deployment: \
                spec.template.labels: Invalid value";
    assert_eq!(status.message.as_deref(), Some(says));
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "Refused"));
    let record = world.find_record(1);
    assert!(record.is_open() && record.rejects.is_none(), "there is nothing to go back to");
    world.want_version("8");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "8"));
}

#[test]
fn a_template_that_is_refused_after_the_deployment_was_deleted_goes_back() {
    let mut world = World::new();
    world.settle();
    refuse_creation(&mut world, "create Deployment: spec.template.labels: Invalid value");
    assert_eq!(
        (world.find_record(3).trigger, world.find_record(3).version),
        (Trigger::Refused, "6".into())
    );
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Invalid, "6"));
}

#[test]
fn a_new_deployment_that_is_refused_for_another_field_is_not_the_templates_fault() {
    let mut world = World::new();
    world.settle();
    refuse_creation(&mut world, "create Deployment: denied by a webhook");
    assert_eq!(world.records().len(), 2);
    assert_eq!(world.read_state(), State::Invalid);
    world.refuses = None;
    world.observed.memory.refused.clear();
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
}

#[test]
fn a_version_yanked_before_its_deployment_could_be_created_gets_no_pods() {
    let mut world = World::new();
    world.want_version("7");
    world.refuses = Some("create Deployment: exceeded quota".into());
    world.plan_once();
    assert_eq!((world.records().len(), world.deployment.is_none()), (1, true));
    world.yank_version("7");
    world.refuses = None;
    world.observed.memory.refused.clear();
    world.settle();
    assert!(world.deployment.is_none());
    let message = world.read_status().message.unwrap();
    assert!(message.contains("Version 7 is yanked"), "{message}");
    world.want_version("6");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "6"));
}

#[test]
fn a_deployment_lost_while_nobody_names_its_rollout_comes_back_with_what_serves() {
    let mut world = on_seven();
    world.set_behavior("8", Behavior::Pull);
    world.want_version("8");
    world.plan_once();
    world.want_version("80");
    world.plan_once();
    world.lose_deployment();
    world.settle();
    assert!(world.live_image().ends_with("fraud:7"), "{}", world.live_image());
}

#[test]
fn a_restart_by_kubectl_does_not_cancel_an_undo_that_is_refused() {
    let mut world = on_seven();
    world.send_request(Verb::Undo);
    world.carry_out(world.plan_next(), 1);
    let plan = world.plan_next();
    world.observed.memory.refused =
        vec![refuse_write(&plan, |action| matches!(action, Action::PatchDeployment { .. }))];
    world.edit_deployment(|d| {
        d["spec"]["template"]["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
    });
    world.plan_once();
    assert_eq!(world.records().len(), 3);
    assert!(world.events.iter().any(|(reason, message)| reason == "RestartRefused"
        && message.contains("Rollout 3 goes back from version 7: it is not restarted.")));
    world.observed.memory.refused.clear();
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "6"));
}

/// Version 7 serves, and the rollout of version 8, whose pods crash, is paused.
fn with_paused_crashing_eight() -> World {
    let mut world = on_seven();
    world.set_behavior("8", Behavior::Crash);
    world.change_spec(|s| s.version = "8".into());
    world.plan_once();
    world.send_request(Verb::Pause);
    world.settle();
    world
}

#[test]
fn a_failure_while_a_person_paused_does_not_say_that_there_is_nothing_to_go_back_to() {
    let world = with_paused_crashing_eight();
    let message = world.read_status().message.unwrap();
    assert!(message.contains("ask for an Abort, or resume it"), "{message}");
}

#[test]
fn a_paused_rollout_whose_deployment_was_deleted_is_left_if_it_fails_without_any_pod() {
    let mut world = with_paused_crashing_eight();
    assert_eq!(world.serving_version(), "7");
    world.lose_deployment();
    world.settle();
    assert!(world.live_image().ends_with("fraud:7"), "{}", world.live_image());
    assert_eq!(world.find_record(3).outcome, Some(Outcome::Failed));
}

/// Builds a simulated cluster on version 7 that is complete, and whose promotion was refused.
fn with_refused_promotion() -> World {
    let mut world = World::new();
    world.settle();
    world.want_version("7");
    world.plan_once();
    world.plan_once();
    world.run_controllers();
    let plan = world.plan_next();
    let mut refused = refuse_write(&plan, begins_with("promotion in fraud-2 "));
    refused.message = "add to record fraud-2: records never change here".into();
    world.observed.memory.refused.push(refused);
    world.settle();
    world
}

#[test]
fn that_a_version_serves_is_told_once_its_record_can_say_so() {
    let mut world = with_refused_promotion();
    let is_told = |world: &World| {
        world.events.iter().any(|(_, message)| message == "Serving version 7 (rollout 2).")
    };
    assert_eq!(
        (world.read_state(), world.read_status().message.as_deref()),
        (
            State::Waiting,
            Some(
                "Version 7 has its pods, but its record cannot say that it serves. Cannot add to \
                 record fraud-2: records never change here. It is tried again."
            )
        )
    );
    assert!(!is_told(&world));
    world.observed.memory.refused[0].due = true;
    assert!(world.plan_next().actions.iter().any(begins_with("promotion in fraud-2 ")));
    world.plan_once();
    world.observed.memory.refused.clear();
    world.settle();
    assert_eq!((world.read_state(), is_told(&world)), (State::Serving, true));
}

#[test]
fn what_was_refused_before_hides_no_trouble_of_the_pods() {
    let mut world = with_refused_promotion();
    world.set_behavior("7", Behavior::NeverReady);
    world.run_controllers();
    world.settle();
    let message = world.read_status().message.unwrap();
    assert!(!message.contains("has its pods"), "{message}");
}

#[test]
fn a_person_goes_back_although_no_record_can_say_what_serves() {
    let mut world = with_refused_promotion();
    world.send_request(Verb::Undo);
    world.settle();
    assert!(world.live_image().ends_with(":6"), "{}", world.live_image());
}

#[test]
fn an_ending_that_cannot_be_recorded_is_not_told() {
    let mut world = beginning_seven(Behavior::NeverReady);
    world.want_version("8");
    let refused = refuse_write(&world.plan_next(), begins_with("amendment of fraud-2 "));
    world.observed.memory.refused.push(refused);
    world.settle();
    assert_eq!(world.serving_version(), "8");
    let history = world.read_status().history;
    let left = history.iter().find(|entry| entry.rollout == 2).unwrap();
    assert_eq!((left.outcome, left.end_time.as_ref()), (None, None));
}

#[test]
fn going_back_waits_for_a_service_that_cannot_follow_while_other_pods_answer() {
    let mut world = on_seven();
    world.set_template(json!({"spec": {"containers": [
        {"name": "model", "image": "server:2", "ports": [{"name": "grpc", "containerPort": 8080}]},
    ]}}));
    world.settle();
    assert_eq!(world.observed.service.as_ref().unwrap().ports[0]["targetPort"], "grpc");
    world.send_request(Verb::Undo);
    for _ in 0..30 {
        let plan = world.plan_next();
        if plan.actions.iter().any(is_service_patch) {
            let mut refused = refuse_write(&plan, is_service_patch);
            refused.message = "patch Service fraud: no".into();
            world.observed.memory.refused.push(refused);
        } else {
            world.plan_once();
            world.run_controllers();
        }
    }
    let message = world.read_status().message.unwrap();
    assert_eq!(world.read_state(), State::Waiting, "{message}");
    let begins =
        "Going back to the earlier template of version 7 waits. Cannot patch Service fraud: no.";
    assert!(message.starts_with(begins), "{message}");
    assert!(world.live_image().ends_with("server:2"), "{}", world.live_image());
}
