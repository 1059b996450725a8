//! Writes that the API server refuses: what is told, what is left out, and what goes on beside.

use rollmodel::{
    api::{deployment::State, request::Verb, rollout::Trigger},
    plan::{Action, Plan, observed::RefusedWrite},
};

use crate::world::World;

/// What is remembered of the first of these writes that was refused.
fn refused(plan: &Plan, which: impl Fn(&Action) -> bool) -> RefusedWrite {
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

fn service(action: &Action) -> bool {
    matches!(action, Action::CreateService { .. })
}

fn writes(plan: &Plan) -> Vec<String> {
    plan.actions.iter().filter_map(Action::identify_write).collect()
}

/// A world that serves version 6 and whose Service was deleted, and what is planned then.
fn without_service() -> (World, Plan) {
    let mut world = World::new();
    world.settle();
    world.seen.service = None;
    let plan = world.plan();
    (world, plan)
}

#[test]
fn a_refused_service_is_told_as_long_as_it_is_missing_also_while_it_is_tried_again() {
    let (mut world, plan) = without_service();
    world.seen.memory.refused.push(refused(&plan, service));
    let plan = world.plan();
    assert!(writes(&plan).is_empty(), "it is not tried at every pass");
    let status = plan.status.clone().unwrap();
    assert_eq!(
        (status.state, status.message.as_deref()),
        (Some(State::Waiting), Some("Cannot create Service: no. It is tried again."))
    );
    world.carry_out(plan, usize::MAX);
    assert_eq!(world.events.last().unwrap().1, "Cannot create Service: no. It is tried again.");
    world.seen.memory.refused[0].due = true;
    let plan = world.plan();
    assert!(writes(&plan).iter().all(|w| w.starts_with("Service ")) && plan.actions.len() > 1);
    assert!(plan.status.is_none(), "until it is taken, what is told stays");
    world.seen.memory.refused.clear();
    world.settle();
    assert_eq!(world.state(), State::Serving);
}

#[test]
fn a_refused_service_holds_no_rollout_up() {
    let (mut world, plan) = without_service();
    world.seen.memory.refused.push(refused(&plan, service));
    world.want("7");
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::Waiting, "7"));
}

#[test]
fn a_decision_that_cannot_be_written_down_waits_and_nothing_is_done_that_would_stand_on_it() {
    let mut world = World::new();
    world.settle();
    world.want("7");
    let plan = world.plan();
    let mut content = refused(&plan, |a| matches!(a, Action::StoreRevision { .. }));
    content.due = true;
    let record = refused(&plan, |a| matches!(a, Action::CreateRecord { .. }));
    world.seen.memory.refused = vec![content, record];
    let plan = world.plan();
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
    world.want("7");
    let content = refused(&world.plan(), |a| matches!(a, Action::StoreRevision { .. }));
    world.seen.memory.refused.push(content);
    world.settle();
    assert_eq!((world.state(), world.records().len()), (State::Waiting, 1));
    world.want("8");
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::Serving, "8"));
}

#[test]
fn what_was_refused_is_not_planned_again_at_once() {
    let mut world = World::new();
    world.settle();
    world.ask(Verb::Pause);
    let plan = world.plan();
    assert_eq!(plan.requeue_after_seconds, Some(0));
    world.seen.memory.refused.push(refused(&plan, |a| matches!(a, Action::AmendRecord { .. })));
    assert_ne!(world.plan().requeue_after_seconds, Some(0), "nothing is retried hot");
    world.seen.memory.refused.clear();
    world.delete();
    let plan = world.plan();
    assert_eq!(plan.requeue_after_seconds, Some(0));
    world.seen.memory.refused.push(refused(&plan, |a| matches!(a, Action::AnswerRequest { .. })));
    let rest = world.plan();
    world.carry_out(rest, usize::MAX);
    assert_ne!(world.plan().requeue_after_seconds, Some(0));
}

/// A world in which version 7 is refused when its Deployment is created.
fn refuse_creation(world: &mut World, message: &str) {
    world.refuses = Some(message.into());
    world.want("7");
    world.lose_deployment();
    world.settle();
}

#[test]
fn a_template_that_is_refused_on_the_first_rollout_is_invalid_with_the_servers_sentence() {
    let mut world = World::new();
    refuse_creation(&mut world, "create Deployment: spec.template.labels: Invalid value");
    let status = world.status();
    assert_eq!(status.state, Some(State::Invalid));
    let says = "Rolling out version 7: the API server refused it: create Deployment: \
                spec.template.labels: Invalid value";
    assert_eq!(status.message.as_deref(), Some(says));
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "Refused"));
    let record = world.record(1);
    assert!(record.is_open() && record.rejects.is_none(), "there is nothing to go back to");
    world.want("8");
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::Serving, "8"));
}

#[test]
fn a_template_that_is_refused_after_the_deployment_was_deleted_goes_back() {
    let mut world = World::new();
    world.settle();
    refuse_creation(&mut world, "create Deployment: spec.template.labels: Invalid value");
    assert_eq!((world.record(3).trigger, world.record(3).version), (Trigger::Refused, "6".into()));
    assert_eq!((world.state(), world.serving().as_str()), (State::Invalid, "6"));
}

#[test]
fn a_new_deployment_that_is_refused_for_another_field_is_not_the_templates_fault() {
    let mut world = World::new();
    world.settle();
    refuse_creation(&mut world, "create Deployment: denied by a webhook");
    assert_eq!(world.records().len(), 2);
    assert_eq!(world.state(), State::Invalid);
    world.refuses = None;
    world.seen.memory.refused.clear();
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::Serving, "7"));
}
