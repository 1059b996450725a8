//! Artifacts in rollouts: what a fetch says decides, and what a policy demands is asked of what is
//! newly rendered only.

use rollmodel::api::{
    deployment::{Delivery, DeliveryMode, State},
    request::{RequestResult, Verb},
    rollout::{Outcome, Scope, Trigger},
};
use serde_json::json;

use crate::world::{Behaviour, World};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Version 6 serves, and 7 has an artifact with a digest.
fn with_artifact() -> World {
    let mut world = World::new();
    world.settle();
    world.artifact("7", Some(DIGEST));
    world
}

fn says(world: &World) -> String {
    world.status().message.unwrap_or_default()
}

#[test]
fn wrong_bytes_go_back_at_once_and_are_told_with_the_fetchers_own_words() {
    let mut world = with_artifact();
    world.behave("7", Behaviour::Mismatch);
    world.want("7");
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::RolledBack, "6"));
    let back = world.record(3);
    assert_eq!((back.trigger, back.rejects.unwrap().scope), (Trigger::Failed, Scope::Content));
    let recorded = back.decided_by.reason.unwrap();
    assert!(recorded.contains("container rollmodel-fetch of pod"), "{recorded}");
    let words = "Mismatch: the digest is sha256:bb, and has to be sha256:aa";
    assert!(!recorded.contains(words), "no words of a container are recorded: {recorded}");
    assert!(says(&world).contains(words), "{}", says(&world));
    assert_eq!(world.record(2).outcome, Some(Outcome::Failed));
}

#[test]
fn a_bucket_that_does_not_answer_holds_and_heals_and_rejects_nothing() {
    let mut world = with_artifact();
    world.behave("7", Behaviour::Unreachable);
    world.want("7");
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::Rolling, "6"));
    assert!(
        says(&world).ends_with(
            "waits: version 7 cannot be fetched yet: Unreachable: s3.example.com does not answer."
        ),
        "{}",
        says(&world)
    );
    world.overdue = true;
    world.settle();
    assert_eq!(world.state(), State::Waiting);
    world.overdue = false;
    world.behave("7", Behaviour::Fine);
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::Serving, "7"));
    assert!(world.records().iter().all(|r| r.rejects.is_none()));
}

#[test]
fn a_policy_that_comes_later_refuses_no_way_back() {
    let mut world = with_artifact();
    world.artifact("6", None);
    world.want("7");
    world.settle();
    world.policy(json!({"requireArtifactDigest": true, "requireImageDigest": true, "requireSignature": {"publicKeys": ["k"]}}));
    let answer = world.ask(Verb::Undo);
    world.settle();
    assert_eq!(world.answer(&answer).result, Some(RequestResult::Done));
    assert_eq!((world.state(), world.serving().as_str()), (State::Held, "6"));
    // What was once rendered may be served again by the spec too.
    world.ask(Verb::Retry);
    world.settle();
    assert_eq!(world.serving(), "7");
    // What is rendered anew may not.
    world.want("8");
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::Invalid, "7"));
    world.policy(json!({}));
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::Serving, "8"));
}

#[test]
fn what_is_rendered_anew_is_asked_anew() {
    let mut world = with_artifact();
    world.want("7");
    world.settle();
    world.policy(json!({"requireSignature": {"publicKeys": ["k"]}}));
    let decision = world.decision();
    let answer = world.ask_with(Verb::Restart, &decision, |r| r.rerender = Some(true));
    world.settle();
    let status = world.answer(&answer);
    assert_eq!(status.result, Some(RequestResult::Refused));
    assert!(
        status
            .message
            .unwrap()
            .starts_with("ModelPolicy default demands a signature of the artifact")
    );
    assert_eq!(world.serving(), "7");
}

#[test]
fn another_operator_with_another_image_to_fetch_with_and_another_policy_rolls_nothing() {
    let mut world = with_artifact();
    world.want("7");
    world.settle();
    let (before, records) = (world.seen.tracks.clone(), world.records().len());
    let image = |world: &World| {
        world.main_deployment().unwrap().spec.template["spec"]["initContainers"][0]["image"].clone()
    };
    assert_eq!(image(&world), "registry.example.com/rollmodel:1");
    world.seen.memory.fetch_image = Some("registry.example.com/rollmodel:2".into());
    world.policy(json!({"delivery": {"credentialsSecret": {"name": "models-s3"}, "allowedHosts": ["minio:9000"]}}));
    world.settle();
    assert_eq!((&world.seen.tracks, world.records().len()), (&before, records));
    // A new content is fetched with the new one; the way back with the one that it was rendered
    // with.
    world.artifact("8", Some(DIGEST));
    world.want("8");
    world.settle();
    assert_eq!(
        (image(&world), world.serving()),
        (json!("registry.example.com/rollmodel:2"), "8".into())
    );
    world.ask(Verb::Undo);
    world.settle();
    assert_eq!(
        (image(&world), world.serving()),
        (json!("registry.example.com/rollmodel:1"), "7".into())
    );
}

#[test]
fn what_serves_stays_in_the_cache_while_another_is_fetched() {
    let other = DIGEST.replace('a', "b");
    let mut world = with_artifact();
    world.artifact("8", Some(&other));
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
        world.spec(|spec| {
            spec.version = version.into();
            spec.delivery = serde_json::from_value(
                json!({"cache": {"claimName": "models", "sizeLimit": "1Gi"}}),
            )
            .unwrap();
        });
        world.settle();
        assert_eq!((kept(&world), world.serving().as_str()), (keeps, version));
    }
}

#[test]
fn a_rollout_of_an_artifact_takes_no_more_writes_than_any_other() {
    let mut world = with_artifact();
    let before = world.writes;
    world.want("7");
    world.settle();
    assert_eq!((world.writes - before, world.serving().as_str()), (7, "7"));
}

#[test]
fn another_delivery_is_another_content_and_a_way_that_asks_for_an_artifact_needs_one() {
    let mut world = with_artifact();
    world.want("7");
    world.settle();
    let mode = |mode| Some(Delivery { mode: Some(mode), ..Delivery::default() });
    world.spec(|s| s.delivery = mode(DeliveryMode::InImage));
    world.settle();
    assert_eq!((world.records().len(), world.state()), (3, State::Serving));
    assert!(
        world.deployment.as_ref().unwrap()["spec"]["template"]["spec"]
            .get("initContainers")
            .is_none()
    );
    world.spec(|s| s.delivery = mode(DeliveryMode::Init));
    world.want("8");
    world.settle();
    assert_eq!(world.state(), State::Invalid);
    assert!(
        says(&world).starts_with(
            "ModelVersion fraud-8 records no artifact, and spec.delivery.mode is Init"
        ),
        "{}",
        says(&world)
    );
}
