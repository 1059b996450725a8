//! Versions whose record names no digest: a Job verifies the artifact, the digest that it finds is
//! pinned to the version, and rollouts wait for it.

use jiff::ToSpan;
use rollmodel::{api::deployment::State, plan::observed::RefusedWrite};
use serde_json::json;

use self::bucket::{Bucket, GOOD, OTHER, build_policy, good_result, other_result, start_rollout};
use crate::world::at_second;

mod bucket;

#[test]
fn a_version_without_a_digest_is_verified_pinned_and_then_rolled_out() {
    let mut bucket = Bucket::new(None, []);
    bucket.settle();
    bucket.assert_verified("Unknown", "Verifying");
    let mut world = start_rollout(&bucket);
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Pending, "6"));
    assert!(
        world
            .read_status()
            .message
            .unwrap()
            .starts_with("Version 8 waits until its artifact is verified:")
    );
    bucket.says.push(good_result());
    bucket.settle();
    bucket.assert_verified("True", "Verified");
    let resolved = bucket.read_status().resolved.unwrap();
    assert_eq!((resolved.artifact_digest.as_deref(), resolved.size), (Some(GOOD), Some(42)));
    assert_eq!((bucket.made, bucket.events.as_slice()), (1, &["Verified".to_owned()][..]));
    bucket.show_version(&mut world);
    world.settle();
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Serving, "8"));
    let args = world.deployment.unwrap()["spec"]["template"]["spec"]["initContainers"][0]["args"]
        .to_string();
    assert!(args.contains(GOOD), "{args}");
}

#[test]
fn what_cannot_be_verified_is_not_served_and_the_sentence_is_the_jobs() {
    let mut bucket =
        Bucket::new(None, [(3, "NotFound: there is nothing at s3://models/fraud/8/.".into())]);
    bucket.settle();
    bucket.assert_verified("False", "NotFound");
    let world = start_rollout(&bucket);
    assert_eq!((world.read_state(), world.serving_version().as_str()), (State::Invalid, "6"));
    let says = world.read_status().message.unwrap();
    assert!(
        says.starts_with(
            "The artifact of version 8 was not accepted: there is nothing at s3://models/fraud/8/."
        ),
        "{says}"
    );
    bucket.advance_time(48.hours());
    bucket.settle();
    assert_eq!(bucket.made, 1, "nothing changed that would make it better");
    bucket.says.push(good_result());
    bucket.observed.asked = Some("now".into());
    bucket.settle();
    bucket.assert_verified("True", "Verified");
}

#[test]
fn a_policy_that_is_mended_has_what_failed_verified_again() {
    let mut bucket = Bucket::new(None, [(3, "Refused: 10.0.0.5 is a private address.".into())]);
    bucket.settle();
    bucket.assert_verified("False", "Refused");
    bucket.says.push(good_result());
    let mut policy = build_policy(None);
    policy.spec.delivery = serde_json::from_value(json!({"allowedHosts": ["10.0.0.0/8"]})).unwrap();
    bucket.observed.policy = Some(policy);
    bucket.settle();
    bucket.assert_verified("True", "Verified");
}

#[test]
fn trouble_is_tried_again_later_each_time_and_told_once() {
    let mut bucket = Bucket::new(None, []);
    for attempt in 1..=9 {
        bucket.says.push((1, "Unreachable: s3.example.com does not answer.".into()));
        bucket.settle();
        bucket.assert_verified("Unknown", "VerificationTrouble");
        assert_eq!(bucket.made, attempt);
        let wait = bucket.plan_next().requeue_after_seconds.unwrap();
        assert_eq!(wait, (300 << (attempt - 1)).min(6 * 3600), "after {attempt}");
        bucket.advance_time((wait - 1).seconds());
        bucket.settle();
        assert_eq!(bucket.made, attempt, "not before");
        bucket.advance_time(1.second());
    }
    assert_eq!(bucket.events, ["VerificationTrouble"]);
    let world = start_rollout(&bucket);
    assert_eq!(world.read_state(), State::Pending);
    assert!(world.read_status().message.unwrap().contains(
        "which is tried again: Job \
                                                           fraud-8-verify-"
    ));
    bucket.says.push(good_result());
    bucket.settle();
    bucket.assert_verified("True", "Verified");
    assert_eq!(bucket.read_status().verification.unwrap().attempts, None);
}

#[test]
fn a_digest_of_the_record_costs_nothing_until_somebody_asks() {
    let mut bucket = Bucket::new(Some(GOOD), [good_result()]);
    bucket.settle();
    bucket.assert_verified("Unknown", "CheckedAtPodStart");
    assert_eq!((bucket.made, bucket.writes), (0, 1));
    bucket.observed.asked = Some("2026-01-01".into());
    bucket.settle();
    bucket.assert_verified("True", "Verified");
    assert_eq!(bucket.read_status().verification.unwrap().requested.as_deref(), Some("2026-01-01"));
    bucket.advance_time(100.hours());
    bucket.settle();
    assert_eq!(bucket.made, 1, "it is answered");
}

#[test]
fn who_asks_where_nobody_verifies_is_told() {
    let mut bucket = Bucket::new(Some(GOOD), [good_result()]);
    let verifier = bucket.observed.policy.take();
    bucket.observed.asked = Some("1".into());
    bucket.settle();
    bucket.assert_verified("Unknown", "CheckedAtPodStart");
    let condition =
        bucket.read_status().conditions.into_iter().find(|c| c.type_ == "Verified").unwrap();
    assert!(
        condition
            .message
            .contains("although rollmodel.dev/verify asks for it: nobody verifies artifacts here"),
        "{}",
        condition.message
    );
    bucket.observed.policy = verifier;
    bucket.settle();
    bucket.assert_verified("True", "Verified");
}

#[test]
fn who_asks_while_a_job_goes_on_is_answered_by_the_next_one() {
    let mut bucket = Bucket::new(None, []);
    bucket.settle();
    bucket.observed.asked = Some("1".into());
    bucket.settle();
    assert_eq!(bucket.made, 1);
    bucket.says = vec![good_result(), other_result()];
    bucket.settle();
    bucket.assert_verified("False", "Drifted");
    assert_eq!(
        (bucket.made, bucket.read_status().verification.unwrap().requested.as_deref()),
        (2, Some("1"))
    );
}

#[test]
fn bytes_that_are_not_those_of_the_record_are_a_mismatch() {
    let mut bucket = Bucket::new(
        Some(GOOD),
        [(3, format!("Mismatch: the digest is {OTHER}, and has to be {GOOD}."))],
    );
    bucket.observed.asked = Some("1".into());
    bucket.settle();
    bucket.assert_verified("False", "Mismatch");
    assert_eq!(bucket.find_pin(), None);
    assert!(bucket.read_status().message.unwrap().starts_with(
        "Mismatch: the digest is \
                                                               sha256:bbbb"
    ));
}

#[test]
fn what_changes_upstream_after_it_was_verified_drifts_and_the_pin_stays() {
    for digest in [None, Some(GOOD)] {
        for said in [
            other_result(),
            (3, format!("Mismatch: the digest is {OTHER}, and has to be {GOOD}.")),
            (3, "SizeMismatch: 43 bytes.".into()),
        ] {
            let mut bucket = Bucket::new(digest, [good_result(), said]);
            bucket.observed.asked = Some("1".into());
            bucket.settle();
            bucket.assert_verified("True", "Verified");
            bucket.observed.asked = Some("2".into());
            bucket.settle();
            bucket.assert_verified("False", "Drifted");
            assert_eq!(bucket.find_pin().as_deref(), Some(GOOD));
            assert_eq!(bucket.events, ["Verified", "Drifted"]);
            // Trouble makes nothing good.
            bucket.says.push((1, "Unreachable: no.".into()));
            bucket.observed.asked = Some("3".into());
            bucket.settle();
            bucket.assert_verified("False", "Drifted");
            let mut world = start_rollout(&bucket);
            world.settle();
            assert_eq!(world.serving_version(), "8", "each pod checks what it fetches");
        }
    }
}

#[test]
fn what_serves_is_verified_again_after_the_interval_and_what_does_not_is_left_alone() {
    let mut bucket = Bucket::new(None, [good_result(), good_result(), other_result()]);
    bucket.observed.policy = Some(build_policy(Some(24)));
    bucket.settle();
    bucket.advance_time(100.hours());
    bucket.settle();
    assert_eq!(bucket.made, 1, "nobody uses it");
    bucket.mark_serving();
    bucket.settle();
    assert_eq!(bucket.made, 2);
    bucket.advance_time(23.hours());
    bucket.settle();
    assert_eq!(bucket.made, 2);
    bucket.advance_time(1.hour());
    bucket.settle();
    assert_eq!(bucket.made, 3);
    bucket.assert_verified("False", "Drifted");
}

#[test]
fn what_was_never_verified_and_serves_is_within_the_first_interval() {
    let mut bucket = Bucket::new(Some(GOOD), [good_result()]);
    bucket.mark_serving();
    bucket.observed.policy = Some(build_policy(Some(24)));
    bucket.settle();
    let wait = bucket.plan_next().requeue_after_seconds.unwrap();
    assert!((1..=24 * 3600).contains(&wait), "{wait}");
    bucket.advance_time(wait.seconds());
    bucket.settle();
    bucket.assert_verified("True", "Verified");
}

#[test]
fn a_policy_that_changes_while_a_job_goes_on_replaces_the_job() {
    let mut bucket = Bucket::new(None, []);
    bucket.settle();
    let mut policy = build_policy(None);
    policy.spec.verification.as_mut().unwrap().service_account_name = "other".into();
    bucket.observed.policy = Some(policy);
    bucket.settle();
    assert_eq!((bucket.made, bucket.observed.jobs.len()), (2, 1));
    bucket.observed.policy = None;
    bucket.settle();
    assert!(bucket.observed.jobs.is_empty());
    bucket.assert_verified("False", "NoDigest");
    let world = start_rollout(&bucket);
    let says = world.read_status().message.unwrap();
    assert!(
        says.contains("`rollmodel-fetch digest URI` prints it")
            && says.contains("spec.verification.serviceAccountName"),
        "{says}"
    );
}

#[test]
fn a_job_that_is_refused_or_gets_no_pod_is_told() {
    let mut bucket = Bucket::new(None, []);
    let plan = bucket.plan_next();
    let write = plan.actions[0].identify_write().unwrap();
    bucket.observed.blocked = vec![RefusedWrite {
        message: format!("{write}: exceeded quota"),
        write,
        ..RefusedWrite::default()
    }];
    let plan = bucket.plan_next();
    assert!(plan.actions.is_empty(), "it is not tried at every pass");
    bucket.carry_out(plan, usize::MAX);
    bucket.assert_verified("Unknown", "VerificationTrouble");
    let told = |bucket: &Bucket| {
        bucket.read_status().conditions.into_iter().find(|c| c.type_ == "Verified").unwrap().message
    };
    assert!(
        told(&bucket).starts_with("Cannot create Job fraud-8-verify-")
            && told(&bucket).ends_with(": exceeded quota. It is tried again.")
    );
    bucket.observed.blocked[0].due = true;
    assert_eq!(bucket.plan_next().actions.len(), 1);
    bucket.observed.blocked.clear();
    let plan = bucket.plan_next();
    bucket.carry_out(plan, usize::MAX);
    assert_eq!(bucket.plan_next().requeue_after_seconds, Some(60));
    bucket.advance_time(60.seconds());
    let plan = bucket.plan_next();
    bucket.carry_out(plan, usize::MAX);
    assert!(told(&bucket).contains("look for ServiceAccount model-verifier"), "{}", told(&bucket));
}

#[test]
fn without_an_image_and_with_older_crds_nothing_is_made() {
    let mut bucket = Bucket::new(None, [good_result()]);
    bucket.observed.fetch_image = None;
    bucket.settle();
    bucket.assert_verified("Unknown", "VerificationTrouble");
    bucket.observed.fetch_image = Some("a:1".into());
    bucket.observed.crds_older = true;
    bucket.settle();
    assert_eq!(bucket.made, 0);
    bucket.observed.crds_older = false;
    bucket.settle();
    bucket.assert_verified("True", "Verified");
}

#[test]
fn words_that_make_no_sense_pin_nothing() {
    let digest = "sha256:XXaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for said in [
        "",
        "Verified:",
        "hello",
        &format!("Verified: digest={digest} size=1"),
        &format!("Verified: digest={GOOD} size=-1"),
        "Verified: size=1",
    ] {
        let mut bucket = Bucket::new(None, [(0, said.to_owned())]);
        bucket.settle();
        bucket.assert_verified("Unknown", "VerificationTrouble");
        assert_eq!(bucket.find_pin(), None, "{said}");
    }
    let mut bucket = Bucket::new(None, [(3, "Surprise: new words".into())]);
    bucket.settle();
    bucket.assert_verified("False", "VerificationFailed");
}

#[test]
fn killed_after_any_write_it_comes_to_the_same_end_with_one_job_a_verification() {
    let tell = |writes: Option<(usize, usize)>| {
        let mut bucket = Bucket::new(None, [good_result(), other_result()]);
        bucket.observed.asked = Some("1".into());
        for pass in 0..30 {
            bucket.run_jobs();
            if pass == 10 {
                bucket.observed.asked = Some("2".into());
            }
            let plan = bucket.plan_next();
            let all = writes.filter(|(when, _)| *when == pass).map_or(usize::MAX, |(_, n)| n);
            bucket.carry_out(plan, all);
        }
        let mut status = bucket.read_status();
        let verification = status.verification.as_mut().unwrap();
        verification.time = rollmodel::api::condition::Time(at_second(0));
        (bucket.made, status)
    };
    let undisturbed = tell(None);
    assert_eq!(undisturbed.0, 2);
    for pass in 0..16 {
        for writes in 0..3 {
            assert_eq!(
                tell(Some((pass, writes))),
                undisturbed,
                "killed in pass {pass} after {writes} writes"
            );
        }
    }
}
