//! Versions whose record names no digest: a Job verifies the artifact, the version is pinned to
//! what it found, and rollouts wait for it.

use jiff::{Timestamp, ToSpan};
use rollmodel::{
    api::{
        ModelVersionStatus,
        deployment::State,
        version::{Role, UsedBy},
    },
    plan::{
        observed::{Heard, Job, LastWords, ObservedVersion},
        observed::{Policy, RefusedWrite},
        verify::{VersionAction, add_found},
        version::{VersionPlan, plan_version},
    },
};
use serde_json::json;

use crate::world::{World, at};

const GOOD: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// One version, its Jobs, and what there is in the bucket.
struct Bucket {
    seen: ObservedVersion,
    now: Timestamp,
    /// What the next Jobs' pods say, in this order; a Job for which nothing is left goes on.
    says: Vec<(i32, String)>,
    /// What the pods of Jobs that ended said, by the Job's uid.
    said: Vec<(String, LastWords)>,
    events: Vec<String>,
    made: usize,
    writes: usize,
}

fn policy(hours: Option<i32>) -> Policy {
    let spec = json!({"verification": {"serviceAccountName": "model-verifier", "credentialsSecret": {"name": "models"}, "intervalHours": hours}});
    Policy { created: at(0), spec: serde_json::from_value(spec).unwrap() }
}

fn good() -> (i32, String) {
    (0, format!("Verified: digest={GOOD} size=42 files=2"))
}

fn other() -> (i32, String) {
    (0, format!("Verified: digest={OTHER} size=43 files=2"))
}

impl Bucket {
    /// Version 8, with an artifact and, if so, a digest in its record.
    fn new(digest: Option<&str>, says: impl IntoIterator<Item = (i32, String)>) -> Self {
        let mut seen = ObservedVersion {
            namespace: "risk".into(),
            name: "fraud-8".into(),
            uid: "uid-8".into(),
            generation: 1,
            policy: Some(policy(None)),
            fetch_image: Some("registry.example.com/rollmodel:1".into()),
            ..ObservedVersion::default()
        };
        seen.facts.name = "fraud-8".into();
        (seen.facts.model, seen.facts.version) = ("fraud".into(), "8".into());
        seen.facts.artifact =
            serde_json::from_value(json!({"uri": "s3://models/fraud/8/", "digest": digest}))
                .unwrap();
        Self {
            seen,
            now: at(0),
            says: says.into_iter().collect(),
            said: Vec::new(),
            events: Vec::new(),
            made: 0,
            writes: 0,
        }
    }

    /// The Job controller and the kubelet.
    fn kubernetes(&mut self) {
        self.seen.jobs.retain(|job| !job.deleting);
        for job in self.seen.jobs.iter_mut().filter(|job| job.ended.is_none()) {
            job.started = true;
            if self.says.is_empty() {
                return;
            }
            let (code, message) = self.says.remove(0);
            job.ended =
                Some(if code == 0 { "CompletionsReached" } else { "BackoffLimitExceeded" }.into());
            self.said.push((job.uid.clone(), LastWords { exit_code: Some(code), message }));
        }
    }

    fn plan(&mut self) -> VersionPlan {
        self.seen.heard = None;
        let plan = plan_version(&self.seen, self.now);
        let Some(uid) = plan.lookup else { return plan };
        let words = self
            .said
            .iter()
            .filter(|(job, _)| *job == uid)
            .map(|(_, words)| words.clone())
            .collect();
        self.seen.heard = Some(Heard { job: uid, words });
        plan_version(&self.seen, self.now)
    }

    /// Carries out a plan; the process dies after so many writes.
    fn carry_out(&mut self, plan: VersionPlan, writes: usize) {
        let all = plan.actions.len();
        for action in plan.actions.into_iter().take(writes) {
            self.writes += 1;
            match action {
                VersionAction::CreateJob { name, body } => {
                    assert!(self.seen.jobs.iter().all(|job| job.ended.is_some()), "one at a time");
                    assert!(
                        !self.seen.jobs.iter().any(|job| job.name == name),
                        "{name} is made twice"
                    );
                    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "uid-8");
                    self.made += 1;
                    let uid = format!("job-{}", self.made);
                    let asked = body["metadata"]["annotations"]["rollmodel.dev/verify"]
                        .as_str()
                        .map(str::to_owned);
                    self.seen.jobs.push(Job {
                        name,
                        uid,
                        asked,
                        created: self.now,
                        ..Job::default()
                    });
                }
                VersionAction::DeleteJob { uid, .. } => {
                    self.seen
                        .jobs
                        .iter_mut()
                        .filter(|job| job.uid == uid)
                        .for_each(|job| job.deleting = true);
                }
                VersionAction::Event { reason, .. } => self.events.push(reason),
            }
        }
        if writes > all
            && let Some(status) = plan.status
        {
            self.writes += 1;
            self.seen.status = Some(status);
        }
    }

    /// Until nothing is left to do but to wait.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.kubernetes();
            let plan = self.plan();
            if plan.actions.is_empty() && plan.status.is_none() {
                return;
            }
            self.carry_out(plan, usize::MAX);
        }
        panic!("it never settles: {:#?}", self.plan());
    }

    fn pass(&mut self, time: jiff::Span) {
        self.now = self.now.checked_add(time).unwrap();
    }

    fn status(&self) -> ModelVersionStatus {
        self.seen.status.clone().unwrap()
    }

    /// Status and reason of the condition Verified.
    fn verified(&self) -> (String, String) {
        let condition =
            self.status().conditions.into_iter().find(|c| c.type_ == "Verified").unwrap();
        (condition.status, condition.reason)
    }

    fn is(&self, status: &str, reason: &str) {
        assert_eq!(
            self.verified(),
            (status.to_owned(), reason.to_owned()),
            "{:#?}",
            self.seen.status
        );
    }

    fn pin(&self) -> Option<String> {
        self.status().resolved.and_then(|r| r.artifact_digest)
    }

    fn serves(&mut self) {
        let since = rollmodel::api::condition::Time(self.now);
        self.seen.used_by = vec![UsedBy {
            model_deployment: "fraud".into(),
            role: Role::Serving,
            rollout: 1,
            since,
        }];
    }

    /// Shows a world of rollouts what is known of version 8.
    fn show(&self, world: &mut World) {
        let version = world.version("8");
        version.artifact.clone_from(&self.seen.facts.artifact);
        add_found(version, self.seen.status.as_ref());
        world.seen.policy.clone_from(&self.seen.policy);
        world.seen.memory.fetch_image.clone_from(&self.seen.fetch_image);
    }
}

/// A world that serves version 6 and wants version 8.
fn wants(bucket: &Bucket) -> World {
    let mut world = World::new();
    world.settle();
    bucket.show(&mut world);
    world.want("8");
    world.settle();
    world
}

#[test]
fn a_version_without_a_digest_is_verified_pinned_and_then_rolled_out() {
    let mut bucket = Bucket::new(None, []);
    bucket.settle();
    bucket.is("Unknown", "Verifying");
    let mut world = wants(&bucket);
    assert_eq!((world.state(), world.serving().as_str()), (State::Pending, "6"));
    assert!(
        world
            .status()
            .message
            .unwrap()
            .starts_with("Version 8 waits until its artifact is verified:")
    );
    bucket.says.push(good());
    bucket.settle();
    bucket.is("True", "Verified");
    let resolved = bucket.status().resolved.unwrap();
    assert_eq!((resolved.artifact_digest.as_deref(), resolved.size), (Some(GOOD), Some(42)));
    assert_eq!((bucket.made, bucket.events.as_slice()), (1, &["Verified".to_owned()][..]));
    bucket.show(&mut world);
    world.settle();
    assert_eq!((world.state(), world.serving().as_str()), (State::Serving, "8"));
    let args = world.deployment.unwrap()["spec"]["template"]["spec"]["initContainers"][0]["args"]
        .to_string();
    assert!(args.contains(GOOD), "{args}");
}

#[test]
fn what_cannot_be_verified_is_not_served_and_the_sentence_is_the_jobs() {
    let mut bucket =
        Bucket::new(None, [(3, "NotFound: there is nothing at s3://models/fraud/8/.".into())]);
    bucket.settle();
    bucket.is("False", "NotFound");
    let world = wants(&bucket);
    assert_eq!((world.state(), world.serving().as_str()), (State::Invalid, "6"));
    let says = world.status().message.unwrap();
    assert!(
        says.starts_with(
            "The artifact of version 8 was not accepted: there is nothing at s3://models/fraud/8/."
        ),
        "{says}"
    );
    bucket.pass(48.hours());
    bucket.settle();
    assert_eq!(bucket.made, 1, "nothing changed that would make it better");
    bucket.says.push(good());
    bucket.seen.asked = Some("now".into());
    bucket.settle();
    bucket.is("True", "Verified");
}

#[test]
fn a_policy_that_is_mended_has_what_failed_verified_again() {
    let mut bucket = Bucket::new(None, [(3, "Refused: 10.0.0.5 is a private address.".into())]);
    bucket.settle();
    bucket.is("False", "Refused");
    bucket.says.push(good());
    let mut policy = policy(None);
    policy.spec.delivery = serde_json::from_value(json!({"allowedHosts": ["10.0.0.0/8"]})).unwrap();
    bucket.seen.policy = Some(policy);
    bucket.settle();
    bucket.is("True", "Verified");
}

#[test]
fn trouble_is_tried_again_later_each_time_and_told_once() {
    let mut bucket = Bucket::new(None, []);
    for attempt in 1..=9 {
        bucket.says.push((1, "Unreachable: s3.example.com does not answer.".into()));
        bucket.settle();
        bucket.is("Unknown", "VerificationTrouble");
        assert_eq!(bucket.made, attempt);
        let wait = bucket.plan().requeue_after_seconds.unwrap();
        assert_eq!(wait, (300 << (attempt - 1)).min(6 * 3600), "after {attempt}");
        bucket.pass((wait - 1).seconds());
        bucket.settle();
        assert_eq!(bucket.made, attempt, "not before");
        bucket.pass(1.second());
    }
    assert_eq!(bucket.events, ["VerificationTrouble"]);
    let world = wants(&bucket);
    assert_eq!(world.state(), State::Pending);
    assert!(world.status().message.unwrap().contains("which is tried again: Job fraud-8-verify-"));
    bucket.says.push(good());
    bucket.settle();
    bucket.is("True", "Verified");
    assert_eq!(bucket.status().verification.unwrap().attempts, None);
}

#[test]
fn a_digest_of_the_record_costs_nothing_until_somebody_asks() {
    let mut bucket = Bucket::new(Some(GOOD), [good()]);
    bucket.settle();
    bucket.is("Unknown", "CheckedAtPodStart");
    assert_eq!((bucket.made, bucket.writes), (0, 1));
    bucket.seen.asked = Some("2026-01-01".into());
    bucket.settle();
    bucket.is("True", "Verified");
    assert_eq!(bucket.status().verification.unwrap().requested.as_deref(), Some("2026-01-01"));
    bucket.pass(100.hours());
    bucket.settle();
    assert_eq!(bucket.made, 1, "it is answered");
}

#[test]
fn who_asks_where_nobody_verifies_is_told() {
    let mut bucket = Bucket::new(Some(GOOD), [good()]);
    let verifier = bucket.seen.policy.take();
    bucket.seen.asked = Some("1".into());
    bucket.settle();
    bucket.is("Unknown", "CheckedAtPodStart");
    let condition = bucket.status().conditions.into_iter().find(|c| c.type_ == "Verified").unwrap();
    assert!(
        condition
            .message
            .contains("although rollmodel.dev/verify asks for it: nobody verifies artifacts here"),
        "{}",
        condition.message
    );
    bucket.seen.policy = verifier;
    bucket.settle();
    bucket.is("True", "Verified");
}

#[test]
fn who_asks_while_a_job_goes_on_is_answered_by_the_next_one() {
    let mut bucket = Bucket::new(None, []);
    bucket.settle();
    bucket.seen.asked = Some("1".into());
    bucket.settle();
    assert_eq!(bucket.made, 1);
    bucket.says = vec![good(), other()];
    bucket.settle();
    bucket.is("False", "Drifted");
    assert_eq!(
        (bucket.made, bucket.status().verification.unwrap().requested.as_deref()),
        (2, Some("1"))
    );
}

#[test]
fn bytes_that_are_not_those_of_the_record_are_a_mismatch() {
    let mut bucket = Bucket::new(
        Some(GOOD),
        [(3, format!("Mismatch: the digest is {OTHER}, and has to be {GOOD}."))],
    );
    bucket.seen.asked = Some("1".into());
    bucket.settle();
    bucket.is("False", "Mismatch");
    assert_eq!(bucket.pin(), None);
    assert!(bucket.status().message.unwrap().starts_with("Mismatch: the digest is sha256:bbbb"));
}

#[test]
fn what_changes_upstream_after_it_was_verified_drifts_and_the_pin_stays() {
    for digest in [None, Some(GOOD)] {
        for said in [
            other(),
            (3, format!("Mismatch: the digest is {OTHER}, and has to be {GOOD}.")),
            (3, "SizeMismatch: 43 bytes.".into()),
        ] {
            let mut bucket = Bucket::new(digest, [good(), said]);
            bucket.seen.asked = Some("1".into());
            bucket.settle();
            bucket.is("True", "Verified");
            bucket.seen.asked = Some("2".into());
            bucket.settle();
            bucket.is("False", "Drifted");
            assert_eq!(bucket.pin().as_deref(), Some(GOOD));
            assert_eq!(bucket.events, ["Verified", "Drifted"]);
            // Trouble makes nothing good.
            bucket.says.push((1, "Unreachable: no.".into()));
            bucket.seen.asked = Some("3".into());
            bucket.settle();
            bucket.is("False", "Drifted");
            let mut world = wants(&bucket);
            world.settle();
            assert_eq!(world.serving(), "8", "each pod checks what it fetches");
        }
    }
}

#[test]
fn what_serves_is_verified_again_after_the_interval_and_what_does_not_is_left_alone() {
    let mut bucket = Bucket::new(None, [good(), good(), other()]);
    bucket.seen.policy = Some(policy(Some(24)));
    bucket.settle();
    bucket.pass(100.hours());
    bucket.settle();
    assert_eq!(bucket.made, 1, "nobody uses it");
    bucket.serves();
    bucket.settle();
    assert_eq!(bucket.made, 2);
    bucket.pass(23.hours());
    bucket.settle();
    assert_eq!(bucket.made, 2);
    bucket.pass(1.hour());
    bucket.settle();
    assert_eq!(bucket.made, 3);
    bucket.is("False", "Drifted");
}

#[test]
fn what_was_never_verified_and_serves_is_within_the_first_interval() {
    let mut bucket = Bucket::new(Some(GOOD), [good()]);
    bucket.serves();
    bucket.seen.policy = Some(policy(Some(24)));
    bucket.settle();
    let wait = bucket.plan().requeue_after_seconds.unwrap();
    assert!((1..=24 * 3600).contains(&wait), "{wait}");
    bucket.pass(wait.seconds());
    bucket.settle();
    bucket.is("True", "Verified");
}

#[test]
fn a_policy_that_changes_while_a_job_goes_on_replaces_the_job() {
    let mut bucket = Bucket::new(None, []);
    bucket.settle();
    let mut policy = policy(None);
    policy.spec.verification.as_mut().unwrap().service_account_name = "other".into();
    bucket.seen.policy = Some(policy);
    bucket.settle();
    assert_eq!((bucket.made, bucket.seen.jobs.len()), (2, 1));
    bucket.seen.policy = None;
    bucket.settle();
    assert!(bucket.seen.jobs.is_empty());
    bucket.is("False", "NoDigest");
    let world = wants(&bucket);
    let says = world.status().message.unwrap();
    assert!(
        says.contains("`rollmodel-fetch digest URI` prints it")
            && says.contains("spec.verification.serviceAccountName"),
        "{says}"
    );
}

#[test]
fn a_job_that_is_refused_or_gets_no_pod_is_told() {
    let mut bucket = Bucket::new(None, []);
    let plan = bucket.plan();
    let write = plan.actions[0].identify_write().unwrap();
    bucket.seen.blocked = vec![RefusedWrite {
        message: format!("{write}: exceeded quota"),
        write,
        ..RefusedWrite::default()
    }];
    let plan = bucket.plan();
    assert!(plan.actions.is_empty(), "it is not tried at every pass");
    bucket.carry_out(plan, usize::MAX);
    bucket.is("Unknown", "VerificationTrouble");
    let told = |bucket: &Bucket| {
        bucket.status().conditions.into_iter().find(|c| c.type_ == "Verified").unwrap().message
    };
    assert!(
        told(&bucket).starts_with("Cannot create Job fraud-8-verify-")
            && told(&bucket).ends_with(": exceeded quota. It is tried again.")
    );
    bucket.seen.blocked[0].due = true;
    assert_eq!(bucket.plan().actions.len(), 1);
    bucket.seen.blocked.clear();
    let plan = bucket.plan();
    bucket.carry_out(plan, usize::MAX);
    assert_eq!(bucket.plan().requeue_after_seconds, Some(60));
    bucket.pass(60.seconds());
    let plan = bucket.plan();
    bucket.carry_out(plan, usize::MAX);
    assert!(told(&bucket).contains("look for ServiceAccount model-verifier"), "{}", told(&bucket));
}

#[test]
fn without_an_image_and_with_older_crds_nothing_is_made() {
    let mut bucket = Bucket::new(None, [good()]);
    bucket.seen.fetch_image = None;
    bucket.settle();
    bucket.is("Unknown", "VerificationTrouble");
    bucket.seen.fetch_image = Some("a:1".into());
    bucket.seen.crds_older = true;
    bucket.settle();
    assert_eq!(bucket.made, 0);
    bucket.seen.crds_older = false;
    bucket.settle();
    bucket.is("True", "Verified");
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
        bucket.is("Unknown", "VerificationTrouble");
        assert_eq!(bucket.pin(), None, "{said}");
    }
    let mut bucket = Bucket::new(None, [(3, "Surprise: new words".into())]);
    bucket.settle();
    bucket.is("False", "VerificationFailed");
}

#[test]
fn killed_after_any_write_it_comes_to_the_same_end_with_one_job_a_verification() {
    let tell = |writes: Option<(usize, usize)>| {
        let mut bucket = Bucket::new(None, [good(), other()]);
        bucket.seen.asked = Some("1".into());
        for pass in 0..30 {
            bucket.kubernetes();
            if pass == 10 {
                bucket.seen.asked = Some("2".into());
            }
            let plan = bucket.plan();
            let all = writes.filter(|(when, _)| *when == pass).map_or(usize::MAX, |(_, n)| n);
            bucket.carry_out(plan, all);
        }
        let mut status = bucket.status();
        let verification = status.verification.as_mut().unwrap();
        verification.time = rollmodel::api::condition::Time(at(0));
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
