//! Forward: first rollouts, changes of the spec, pauses, scaling.

use jiff::ToSpan;
use rollmodel::{
    api::{
        deployment::State,
        names,
        request::{RequestResult, Verb},
        rollout::{Outcome, Trigger},
    },
    plan::Action,
};
use serde_json::json;

use crate::world::{Behavior, World};

#[test]
fn a_first_rollout_serves_what_the_spec_names() {
    let mut world = World::new();
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "6"));
    let record = world.find_record(1);
    assert_eq!((record.trigger, record.outcome), (Trigger::SpecChanged, Some(Outcome::Promoted)));
    assert_eq!(world.read_status().message.unwrap(), "Serving version 6.");
}

#[test]
fn a_rollout_of_a_fresh_content_takes_seven_writes_and_an_event() {
    let mut world = World::new();
    world.settle();
    let before = world.writes;
    world.want_version("7");
    world.settle();
    // content, record, Deployment, status; record's end, status, and the Event
    assert_eq!(world.writes - before, 7);
}

#[test]
fn a_settled_world_is_never_written_again() {
    let mut world = World::new();
    world.settle();
    world.advance_time(jiff::ToSpan::hours(48));
    let plan = world.plan_next();
    assert!(plan.actions.is_empty() && plan.status.is_none(), "{plan:#?}");
}

#[test]
fn a_new_version_in_the_spec_is_the_next_rollout() {
    let mut world = World::new();
    world.settle();
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
    assert_eq!(
        (world.find_record(2).previous_rollout, world.find_record(2).trigger),
        (Some(1), Trigger::SpecChanged)
    );
    assert!(world.live_image().ends_with("fraud:7"));
}

#[test]
fn a_spec_that_goes_back_is_a_rollout_like_any_other_and_stores_nothing_anew() {
    let mut world = World::new();
    world.settle();
    world.want_version("7");
    world.settle();
    world.want_version("6");
    world.settle();
    assert_eq!(world.serving_version(), "6");
    assert_eq!(world.find_record(3).revision_name, world.find_record(1).revision_name);
    assert_eq!(world.observed.revisions.len(), 2);
}

#[test]
fn a_version_that_is_not_there_yet_is_waited_for() {
    let mut world = World::new();
    world.want_version("9");
    world.settle();
    assert_eq!(world.read_state(), State::Pending);
    assert!(world.records().is_empty());
    world.add_version("9");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "9"));
}

#[test]
fn a_version_that_stays_away_past_the_deadline_is_stalled() {
    let mut world = World::new();
    world.want_version("9");
    world.settle();
    world.advance_time(jiff::ToSpan::seconds(700));
    world.settle();
    let stalled =
        world.read_status().conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True");
    assert!(stalled);
    assert_eq!(world.read_state(), State::Pending);
}

#[test]
fn a_version_deleted_while_it_serves_goes_on_serving_and_the_message_says_so() {
    let mut world = World::new();
    world.settle();
    world.observed.versions.retain(|v| v.version != "6");
    world.settle();
    assert_eq!(world.read_state(), State::Serving);
    assert_eq!(
        world.read_status().message.unwrap(),
        "Serving version 6. Its ModelVersion fraud-6 was deleted."
    );
}

#[test]
fn a_yanked_version_is_not_newly_served() {
    let mut world = World::new();
    world.settle();
    world.yank_version("7");
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Invalid, "6"));
    assert!(world.read_status().message.unwrap().contains("yanked (Leaks the label)"));
}

#[test]
fn a_version_whose_spec_is_too_large_is_not_served() {
    let mut world = World::new();
    world.settle();
    world.version_mut("7").too_large = Some(300 * 1024);
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Invalid, "6"));
    assert!(world.read_status().message.unwrap().contains(
        "has 300 KiB, and 200 at most are stored \
                                                       safely"
    ));
}

#[test]
fn a_version_yanked_while_it_serves_stays_with_a_message() {
    let mut world = World::new();
    world.settle();
    world.yank_version("6");
    world.settle();
    assert_eq!(world.read_state(), State::Serving);
    assert!(world.read_status().message.unwrap().contains("yanked: Leaks the label"));
}

#[test]
fn a_pause_of_the_spec_holds_the_next_change() {
    let mut world = World::new();
    world.settle();
    world.change_spec(|s| s.paused = true);
    world.settle();
    assert_eq!(world.read_state(), State::Serving);
    world.want_version("7");
    world.settle();
    assert_eq!(
        (world.read_state(), world.serving_version().as_str(), world.records().len()),
        (State::Paused, "6", 1)
    );
    world.change_spec(|s| s.paused = false);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
}

#[test]
fn a_pause_by_request_holds_the_rollout_that_goes_on_and_resume_lets_it_go() {
    let mut world = World::new();
    world.settle();
    world.set_behavior("7", Behavior::Pull);
    world.want_version("7");
    world.settle();
    let pause = world.send_request(Verb::Pause);
    world.settle();
    assert_eq!(world.find_answer(&pause).result, Some(RequestResult::Done));
    assert_eq!(world.read_state(), State::Paused);
    assert_eq!(
        world.deployment.as_ref().unwrap()["metadata"]["labels"]["rollmodel.dev/decision"],
        json!("2.1-paused")
    );
    world.set_behavior("7", Behavior::Fine);
    let resume = world.send_request(Verb::Resume);
    world.settle();
    assert_eq!(world.find_answer(&resume).result, Some(RequestResult::Done));
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
}

#[test]
fn kubectl_pause_and_resume_are_taken_as_the_verbs() {
    let mut world = World::new();
    world.settle();
    world.edit_deployment(|d| d["spec"]["paused"] = json!(true));
    world.settle();
    assert_eq!(world.find_record(1).decisions.len(), 1);
    world.want_version("7");
    world.settle();
    assert_eq!(world.read_state(), State::Paused);
    assert!(!world.events.iter().any(|(reason, _)| reason == "PausedLater"));
    world.edit_deployment(|d| d["spec"]["paused"] = json!(false));
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
    assert_eq!(world.find_record(1).decisions.len(), 2);
}

#[test]
fn kubectl_resume_is_put_back_while_the_spec_holds() {
    let mut world = World::new();
    world.settle();
    world.change_spec(|s| s.paused = true);
    world.settle();
    world.edit_deployment(|d| d["spec"]["paused"] = json!(false));
    world.settle();
    assert_eq!(world.deployment.as_ref().unwrap()["spec"]["paused"], json!(true));
    assert!(world.events.iter().any(|(reason, _)| reason == "ResumeRefused"));
}

#[test]
fn replicas_are_no_rollout() {
    let mut world = World::new();
    world.settle();
    world.change_spec(|s| s.replicas = 5);
    world.settle();
    assert_eq!(
        (world.records().len(), world.deployment.as_ref().unwrap()["spec"]["replicas"].as_i64()),
        (1, Some(5))
    );
}

#[test]
fn rolled_at_no_replicas_and_scaled_later_is_available_from_then_on() {
    let mut world = World::new();
    world.change_spec(|s| s.replicas = 0);
    world.settle();
    assert_eq!((world.read_state(), world.find_record(1).outcome), (State::Serving, None));
    world.change_spec(|s| s.replicas = 2);
    world.settle();
    assert_eq!(world.find_record(1).outcome, Some(Outcome::Promoted));
}

#[test]
fn restart_by_request_and_by_kubectl_are_rollouts_of_the_same_content() {
    let mut world = World::new();
    world.settle();
    world.send_request(Verb::Restart);
    world.settle();
    assert_eq!(
        (
            world.find_record(2).trigger,
            world.find_record(2).revision_hash == world.find_record(1).revision_hash
        ),
        (Trigger::Restart, true)
    );
    world.edit_deployment(|d| {
        d["spec"]["template"]["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/restartedAt": "2026-11-24T00:00:00Z"})
    });
    world.settle();
    assert_eq!(
        (world.find_record(3).trigger, world.find_record(3).restarted_at.as_deref()),
        (Trigger::Restart, Some("2026-11-24T00:00:00Z"))
    );
    assert_eq!(
        (world.read_state(), world.find_record(3).decided_by.name.as_str()),
        (State::Serving, "kubectl (unverified)")
    );
}

#[test]
fn an_edited_image_is_put_back_with_an_event() {
    let mut world = World::new();
    world.settle();
    world.edit_deployment(|d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil:1")
    });
    world.settle();
    assert!(world.live_image().ends_with("fraud:6"));
    assert_eq!(world.records().len(), 1);
    let (_, message) = world.events.iter().find(|(reason, _)| reason == "DriftCorrected").unwrap();
    assert!(message.contains("containers[name=model].image"), "{message}");
}

#[test]
fn a_deleted_deployment_comes_back_as_it_was_without_a_new_rollout() {
    let mut world = World::new();
    world.settle();
    world.want_version("7");
    world.settle();
    world.lose_deployment();
    world.settle();
    assert!(world.live_image().ends_with("fraud:7"));
    assert_eq!((world.read_state(), world.records().len()), (State::Serving, 2));
}

#[test]
fn an_erased_status_is_rebuilt_as_it_was() {
    let mut world = World::new();
    world.settle();
    let before = world.read_status();
    world.observed.model_deployment.as_mut().unwrap().status = None;
    world.settle();
    let after = world.read_status();
    assert_eq!(
        (after.state, after.serving, after.history),
        (before.state, before.serving, before.history)
    );
}

#[test]
fn what_admission_changes_back_each_time_is_put_back_once_and_does_not_stop_scaling() {
    let mut world = World::new();
    world.settle();
    world.edit_deployment(|d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("mirror:6")
    });
    assert!(!world.plan_next().actions.is_empty());
    let plan = world.plan_next();
    let reverts = plan.actions.iter().find_map(|a| match a {
        Action::PatchDeployment { reverts, .. } => Some(reverts.clone()),
        _ => None,
    });
    world.observed.memory.came_back.extend(reverts.unwrap());
    let told = |a: &Action| matches!(a, Action::Event { .. });
    assert!(world.plan_next().actions.iter().all(told));
    world.change_spec(|s| s.replicas = 5);
    let plan = serde_json::to_string(&world.plan_next().actions).unwrap();
    assert!(plan.contains("/spec/replicas") && !plan.contains("/spec/template"), "{plan}");
}

#[test]
fn older_crds_begin_no_rollout_and_leave_what_serves_ready() {
    let mut world = World::new();
    world.settle();
    world.observed.memory.crds_older = true;
    world.observed.versions[0].record_digest = format!("sha256:{:0>64}", "pruned");
    world.settle();
    assert_eq!((world.read_state(), world.records().len()), (State::Serving, 1));
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.records().len()), (State::Pending, 1));
    assert!(world.read_status().message.unwrap().contains("apply the CRDs"));
}

#[test]
fn the_same_bytes_under_a_new_number_are_served_with_a_warning() {
    let mut world = World::new();
    let digest = format!("registry.example.com/fraud@sha256:{:0>64}", 1);
    for version in [1, 2] {
        world.observed.versions[version].image = Some(digest.clone());
    }
    world.settle();
    world.want_version("7");
    world.settle();
    world.send_request(Verb::Undo);
    world.settle();
    world.want_version("8");
    world.settle();
    assert_eq!(
        world.read_status().message.unwrap(),
        "Serving version 8. Its bytes are those of version 7, which was rejected."
    );
}

#[test]
fn a_change_that_waits_is_rolled_out_after_a_resume_although_nothing_else_happens() {
    let mut world = World::new();
    world.settle();
    world.edit_deployment(|d| d["spec"]["paused"] = json!(true));
    world.settle();
    world.want_version("7");
    world.settle();
    assert_eq!(world.read_state(), State::Paused);
    world.edit_deployment(|d| d["spec"]["paused"] = json!(false));
    let resumes = world.plan_next();
    assert_eq!(resumes.requeue_after_seconds, Some(0), "no news comes of what it writes");
    world.carry_out(resumes, usize::MAX);
    let rolls = world.plan_next();
    assert!(rolls.actions.iter().any(|a| matches!(a, Action::CreateRecord { .. })), "{rolls:#?}");
    assert_eq!(rolls.requeue_after_seconds, None, "Kubernetes answers the Deployment");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
}

#[test]
fn two_requests_at_once_are_answered_in_order_one_decision_a_pass() {
    let mut world = World::new();
    world.settle();
    let (pause, resume) = (world.send_request(Verb::Pause), world.send_request(Verb::Resume));
    let first = world.plan_next();
    assert_eq!(first.requeue_after_seconds, Some(0));
    world.carry_out(first, usize::MAX);
    assert_eq!(
        (world.find_answer(&pause).result, world.find_answer(&resume).result),
        (Some(RequestResult::Done), None)
    );
    let second = world.plan_next();
    world.carry_out(second, usize::MAX);
    assert_eq!(world.find_answer(&resume).result, Some(RequestResult::Refused));
    let message = world.find_answer(&resume).message.unwrap();
    assert!(
        message.contains("ifDecision: \"1.1\""),
        "the second was made before the first: {message}"
    );
}

#[test]
fn numbers_of_pods_alone_are_told_after_half_a_minute_and_during_a_rollout_after_two_minutes() {
    let told_after = |world: &mut World| {
        let main = world.observed.tracks.get_mut(names::TRACK_MAIN).unwrap();
        main.status.replicas += 1;
        let mut seconds = 0;
        while world.plan_next().status.is_none() {
            world.advance_time(1.second());
            seconds += 1;
        }
        seconds
    };
    let mut world = World::new();
    world.settle();
    world.observed.memory.status_written = Some(world.now);
    assert_eq!(told_after(&mut world), 30);
    world.want_version("7");
    world.plan_once();
    assert_eq!(told_after(&mut world), 120);
}
