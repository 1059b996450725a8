//! One version without a rollout: its Jobs, and the files in its bucket.

use jiff::Timestamp;
use rollmodel::{
    api::{
        ModelVersionStatus,
        version::{Role, UsedBy},
    },
    plan::{
        observed::{Heard, Job, LastWords, ObservedVersion, Policy},
        verify::{VersionAction, add_found},
        version::{VersionPlan, plan_version},
    },
};
use serde_json::json;

use crate::world::{World, at_second};

pub const GOOD: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub const OTHER: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A version, its Jobs, and the results of their pods.
pub struct Bucket {
    pub observed: ObservedVersion,
    pub now: Timestamp,
    /// Results of the next Jobs' pods, in this order. A Job without a result keeps running.
    pub says: Vec<(i32, String)>,
    /// Termination messages of the pods of ended Jobs, with the Job's uid.
    pub said: Vec<(String, LastWords)>,
    pub events: Vec<String>,
    pub made: usize,
    pub writes: usize,
}

pub fn build_policy(hours: Option<i32>) -> Policy {
    let verification = json!({
        "serviceAccountName": "model-verifier",
        "credentialsSecret": {"name": "models"},
        "intervalHours": hours,
    });
    let spec = json!({"verification": verification});
    Policy { created: at_second(0), spec: serde_json::from_value(spec).unwrap() }
}

pub fn good_result() -> (i32, String) {
    (0, format!("Verified: digest={GOOD} size=42 files=2"))
}

pub fn other_result() -> (i32, String) {
    (0, format!("Verified: digest={OTHER} size=43 files=2"))
}

impl Bucket {
    /// Creates version 8 with an artifact, and with or without a digest in its record.
    pub fn new(digest: Option<&str>, says: impl IntoIterator<Item = (i32, String)>) -> Self {
        let mut observed = ObservedVersion {
            namespace: "risk".into(),
            name: "fraud-8".into(),
            uid: "uid-8".into(),
            generation: 1,
            policy: Some(build_policy(None)),
            fetch_image: Some("registry.example.com/rollmodel:1".into()),
            ..ObservedVersion::default()
        };
        observed.facts.name = "fraud-8".into();
        (observed.facts.model, observed.facts.version) = ("fraud".into(), "8".into());
        observed.facts.artifact =
            serde_json::from_value(json!({"uri": "s3://models/fraud/8/", "digest": digest}))
                .unwrap();
        Self {
            observed,
            now: at_second(0),
            says: says.into_iter().collect(),
            said: Vec::new(),
            events: Vec::new(),
            made: 0,
            writes: 0,
        }
    }

    /// Runs the Job controller and the kubelet.
    pub fn run_jobs(&mut self) {
        self.observed.jobs.retain(|job| !job.deleting);
        for job in self.observed.jobs.iter_mut().filter(|job| job.ended.is_none()) {
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

    pub fn plan_next(&mut self) -> VersionPlan {
        self.observed.heard = None;
        let plan = plan_version(&self.observed, self.now);
        let Some(uid) = plan.lookup else { return plan };
        let words = self
            .said
            .iter()
            .filter(|(job, _)| *job == uid)
            .map(|(_, words)| words.clone())
            .collect();
        self.observed.heard = Some(Heard { job: uid, words });
        plan_version(&self.observed, self.now)
    }

    /// Applies a plan, and stops after `writes` writes as if the process died.
    pub fn carry_out(&mut self, plan: VersionPlan, writes: usize) {
        let all = plan.actions.len();
        for action in plan.actions.into_iter().take(writes) {
            self.writes += 1;
            match action {
                VersionAction::CreateJob { name, body } => {
                    assert!(
                        self.observed.jobs.iter().all(|job| job.ended.is_some()),
                        "one at a \
                                                                                       time"
                    );
                    assert!(
                        !self.observed.jobs.iter().any(|job| job.name == name),
                        "{name} is made twice"
                    );
                    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "uid-8");
                    self.made += 1;
                    let uid = format!("job-{}", self.made);
                    let asked = body["metadata"]["annotations"]["rollmodel.dev/verify"]
                        .as_str()
                        .map(str::to_owned);
                    self.observed.jobs.push(Job {
                        name,
                        uid,
                        asked,
                        created: self.now,
                        ..Job::default()
                    });
                }
                VersionAction::DeleteJob { uid, .. } => {
                    self.observed
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
            self.observed.status = Some(status);
        }
    }

    /// Plans and applies plans until only time can change something.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            self.run_jobs();
            let plan = self.plan_next();
            if plan.actions.is_empty() && plan.status.is_none() {
                return;
            }
            self.carry_out(plan, usize::MAX);
        }
        panic!("it never settles: {:#?}", self.plan_next());
    }

    pub fn advance_time(&mut self, time: jiff::Span) {
        self.now = self.now.checked_add(time).unwrap();
    }

    pub fn read_status(&self) -> ModelVersionStatus {
        self.observed.status.clone().unwrap()
    }

    /// Returns status and reason of the condition Verified.
    pub fn verified_condition(&self) -> (String, String) {
        let condition =
            self.read_status().conditions.into_iter().find(|c| c.type_ == "Verified").unwrap();
        (condition.status, condition.reason)
    }

    pub fn assert_verified(&self, status: &str, reason: &str) {
        assert_eq!(
            self.verified_condition(),
            (status.to_owned(), reason.to_owned()),
            "{:#?}",
            self.observed.status
        );
    }

    pub fn find_pin(&self) -> Option<String> {
        self.read_status().resolved.and_then(|r| r.artifact_digest)
    }

    pub fn mark_serving(&mut self) {
        let since = rollmodel::api::condition::Time(self.now);
        self.observed.used_by = vec![UsedBy {
            model_deployment: "fraud".into(),
            role: Role::Serving,
            rollout: 1,
            since,
        }];
    }

    /// Copies the facts of version 8 to a simulated cluster.
    pub fn show_version(&self, world: &mut World) {
        let version = world.version_mut("8");
        version.artifact.clone_from(&self.observed.facts.artifact);
        add_found(version, self.observed.status.as_ref());
        world.observed.policy.clone_from(&self.observed.policy);
        world.observed.memory.fetch_image.clone_from(&self.observed.fetch_image);
    }
}

/// Builds a simulated cluster that serves version 6 and whose spec names version 8.
pub fn start_rollout(bucket: &Bucket) -> World {
    let mut world = World::new();
    world.settle();
    bucket.show_version(&mut world);
    world.want_version("8");
    world.settle();
    world
}
