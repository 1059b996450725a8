//! Artifacts in rollouts: the result of a fetch decides, and the requirements of a policy apply
//! only to new renderings.

use rollmodel::api::{
    deployment::{Delivery, DeliveryMode, State},
    request::{RequestResult, Verb},
    rollout::{Outcome, Scope, Trigger},
};
use serde_json::json;

use crate::world::{Behavior, World};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Version 6 serves, and 7 has an artifact with a digest.
fn with_artifact() -> World {
    let mut world = World::new();
    world.settle();
    world.set_artifact("7", Some(DIGEST));
    world
}

fn read_message(world: &World) -> String {
    world.read_status().message.unwrap_or_default()
}

#[test]
fn wrong_bytes_go_back_at_once_and_are_told_with_the_fetchers_own_words() {
    let mut world = with_artifact();
    world.set_behavior("7", Behavior::Mismatch);
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::RolledBack, "6"));
    let back = world.find_record(3);
    assert_eq!((back.trigger, back.rejects.unwrap().scope), (Trigger::Failed, Scope::Content));
    let recorded = back.decided_by.reason.unwrap();
    assert!(recorded.contains("container rollmodel-fetch of pod"), "{recorded}");
    let words = "Mismatch: the digest is sha256:bb, and has to be sha256:aa";
    assert!(!recorded.contains(words), "no words of a container are recorded: {recorded}");
    assert!(read_message(&world).contains(words), "{}", read_message(&world));
    assert_eq!(world.find_record(2).outcome, Some(Outcome::Failed));
}

#[test]
fn a_bucket_that_does_not_answer_holds_and_heals_and_rejects_nothing() {
    let mut world = with_artifact();
    world.set_behavior("7", Behavior::Unreachable);
    world.want_version("7");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Rolling, "6"));
    assert!(
        read_message(&world).ends_with(
            "waits: version 7 cannot be fetched yet: Unreachable: s3.example.com does not answer."
        ),
        "{}",
        read_message(&world)
    );
    world.overdue = true;
    world.settle();
    assert_eq!(world.read_state(), State::Waiting);
    world.overdue = false;
    world.set_behavior("7", Behavior::Fine);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "7"));
    assert!(world.records().iter().all(|r| r.rejects.is_none()));
}

#[test]
fn a_policy_that_comes_later_refuses_no_way_back() {
    let mut world = with_artifact();
    world.set_artifact("6", None);
    world.want_version("7");
    world.settle();
    world.set_policy(json!({
        "requireArtifactDigest": true,
        "requireImageDigest": true,
        "requireSignature": {"publicKeys": ["k"]},
    }));
    let answer = world.send_request(Verb::Undo);
    world.settle();
    assert_eq!(world.find_answer(&answer).result, Some(RequestResult::Done));
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Held, "6"));
    // A stored rendering may be served again by the spec too.
    world.send_request(Verb::Retry);
    world.settle();
    assert_eq!(world.serving_version(), "7");
    // A new rendering is not allowed.
    world.want_version("8");
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Invalid, "7"));
    world.set_policy(json!({}));
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "8"));
}

#[test]
fn what_is_rendered_anew_is_asked_anew() {
    let mut world = with_artifact();
    world.want_version("7");
    world.settle();
    world.set_policy(json!({"requireSignature": {"publicKeys": ["k"]}}));
    let decision = world.newest_decision();
    let answer = world.send_request_with(Verb::Restart, &decision, |r| r.rerender = Some(true));
    world.settle();
    let status = world.find_answer(&answer);
    assert_eq!(status.result, Some(RequestResult::Refused));
    assert!(
        status
            .message
            .unwrap()
            .starts_with("ModelPolicy default demands a signature of the artifact")
    );
    assert_eq!(world.serving_version(), "7");
}

#[test]
fn another_operator_with_another_image_to_fetch_with_and_another_policy_rolls_nothing() {
    let mut world = with_artifact();
    world.want_version("7");
    world.settle();
    let (before, records) = (world.observed.tracks.clone(), world.records().len());
    let image = |world: &World| {
        world.main_deployment().unwrap().spec.template["spec"]["initContainers"][0]["image"].clone()
    };
    assert_eq!(image(&world), "registry.example.com/rollmodel:1");
    world.observed.memory.fetch_image = Some("registry.example.com/rollmodel:2".into());
    world.set_policy(json!({"delivery": {
        "credentialsSecret": {"name": "models-s3"},
        "allowedHosts": ["minio:9000"],
    }}));
    world.settle();
    assert_eq!((&world.observed.tracks, world.records().len()), (&before, records));
    // A new content is fetched with the new one; the way back with the one that it was rendered
    // with.
    world.set_artifact("8", Some(DIGEST));
    world.want_version("8");
    world.settle();
    assert_eq!(
        (image(&world), world.serving_version()),
        (json!("registry.example.com/rollmodel:2"), "8".into())
    );
    world.send_request(Verb::Undo);
    world.settle();
    assert_eq!(
        (image(&world), world.serving_version()),
        (json!("registry.example.com/rollmodel:1"), "7".into())
    );
}

#[test]
fn what_serves_stays_in_the_cache_while_another_is_fetched() {
    let other = DIGEST.replace('a', "b");
    let mut world = with_artifact();
    world.set_artifact("8", Some(&other));
    let kept = |world: &World| {
        let args =
            world.main_deployment().unwrap().spec.template["spec"]["initContainers"][0]["args"]
                .clone();
        args.as_array()
            .unwrap()
            .iter()
            .filter_map(|a| a.as_str()?.strip_prefix("--cache-keep=").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    for (version, keeps) in [("7", vec![]), ("8", vec![DIGEST.to_owned()])] {
        world.change_spec(|spec| {
            spec.version = version.into();
            spec.delivery = serde_json::from_value(
                json!({"cache": {"claimName": "models", "sizeLimit": "1Gi"}}),
            )
            .unwrap();
        });
        world.settle();
        assert_eq!((kept(&world), world.serving_version().as_str()), (keeps, version));
    }
}

#[test]
fn a_rollout_of_an_artifact_takes_no_more_writes_than_any_other() {
    let mut world = with_artifact();
    let before = world.writes;
    world.want_version("7");
    world.settle();
    assert_eq!((world.writes - before, world.serving_version().as_str()), (7, "7"));
}

#[test]
fn another_delivery_is_another_content_and_a_way_that_asks_for_an_artifact_needs_one() {
    let mut world = with_artifact();
    world.want_version("7");
    world.settle();
    let mode = |mode| Some(Delivery { mode: Some(mode), ..Delivery::default() });
    world.change_spec(|s| s.delivery = mode(DeliveryMode::InImage));
    world.settle();
    assert_eq!((world.records().len(), world.read_state()), (3, State::Serving));
    assert!(
        world.deployment.as_ref().unwrap()["spec"]["template"]["spec"]
            .get("initContainers")
            .is_none()
    );
    world.change_spec(|s| s.delivery = mode(DeliveryMode::Init));
    world.want_version("8");
    world.settle();
    assert_eq!(world.read_state(), State::Invalid);
    assert!(
        read_message(&world).starts_with(
            "ModelVersion fraud-8 records no artifact, and spec.delivery.mode is Init"
        ),
        "{}",
        read_message(&world)
    );
}
