//! Verification of a version's artifact by a Job: when one is due, how it continues, and what
//! follows from its termination message.
//!
//! Verifications are numbered by the version's status, and a Job is named after its number and its
//! content. So a crash at any write leads to the same Job and the same outcome, and a Job that a
//! changed policy made obsolete can be told from its successor.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    facts::{revision, version::find_problem},
    make::fetch_container,
    observed::{Job, ObservedVersion, RefusedWrite, Unverified, Version},
};
use crate::api::{
    ModelVersionStatus,
    condition::Time,
    reason::Reason,
    version::{Artifact, LifecycleState, Resolved, Verification},
};

pub mod job;
pub mod outcome;

/// Seconds before the first repetition of a verification that ended in trouble; the wait doubles
/// each time.
const AGAIN_SECONDS: i64 = 300;
/// Maximum seconds between two repetitions.
const AGAIN_MAX: i64 = 6 * 3600;
/// Seconds for which a Job may have no running pod before people are told where to look.
const STUCK_SECONDS: i64 = 60;

/// One write or one Event about a version.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum VersionAction {
    /// Creates the verification Job.
    CreateJob {
        /// Name of the Job.
        name: String,
        /// Complete Job to create.
        body: Value,
    },
    /// Deletes an obsolete Job with its pods.
    DeleteJob {
        /// Name of the Job.
        name: String,
        /// Uid of the Job.
        uid: String,
    },
    /// Emits an Event, once for each key.
    Event {
        /// True for a warning.
        warning: bool,
        /// Reason in CamelCase.
        reason: String,
        /// Message in one sentence.
        message: String,
        /// Key that identifies this Event.
        key: String,
    },
}

impl VersionAction {
    /// Identifies the write, so that the same write of a later plan is recognized. None for an
    /// Event, which is lost if it is refused.
    #[must_use]
    pub fn identify_write(&self) -> Option<String> {
        match self {
            Self::CreateJob { name, .. } => Some(format!("create Job {name}")),
            Self::DeleteJob { name, .. } => Some(format!("delete Job {name}")),
            Self::Event { .. } => None,
        }
    }
}

/// Progress of a version's verification, and the next actions.
#[derive(Debug, Default)]
pub struct Step {
    /// Uid of the Job whose termination messages have to be read before anything is decided.
    pub lookup: Option<String>,
    /// Actions to carry out.
    pub actions: Vec<VersionAction>,
    /// Seconds until something is due by time alone.
    pub again: Option<i64>,
    /// Facts that are pinned to the version.
    pub resolved: Option<Resolved>,
    /// Newest completed verification.
    pub verification: Option<Verification>,
    /// Reason and sentence for a verification in progress, or for an obstacle.
    pub doing: Option<(Reason, String)>,
    /// True if someone asked for a verification and no policy names a verifier.
    pub unheard: bool,
}

/// Adds the results of verifications to the facts of a version, as its status records them.
pub fn add_found(version: &mut Version, status: Option<&ModelVersionStatus>) {
    (version.pin, version.unverified) = (None, None);
    // What the record names needs no pin.
    let Some(status) = status.filter(|_| {
        version
            .artifact
            .as_ref()
            .is_some_and(|a| fetch_container::find_recorded_digest(a).is_none())
    }) else {
        return;
    };
    version.pin = status.resolved.as_ref().and_then(|r| r.artifact_digest.clone());
    let newest = status.verification.as_ref().filter(|_| version.pin.is_none());
    version.unverified = newest.map(|v| Unverified {
        failed: outcome::condition_status(outcome::read_reason(v)) == "False",
        message: v.message.clone(),
    });
}

/// Decides the next step of a version's verification.
#[must_use]
pub fn plan_step(observed: &ObservedVersion, now: Timestamp) -> Step {
    let status = observed.status.clone().unwrap_or_default();
    let mut step =
        Step { resolved: status.resolved, verification: status.verification, ..Step::default() };
    // An older CRD prunes what is read and what would be written.
    if let Some(artifact) = observed
        .facts
        .artifact
        .as_ref()
        .filter(|_| !observed.crds_older && find_problem(observed).is_none())
    {
        Verifier { observed, artifact, now }.decide_next(&mut step);
    }
    step
}

/// The inputs of a decision about a verification.
struct Verifier<'a> {
    observed: &'a ObservedVersion,
    artifact: &'a Artifact,
    now: Timestamp,
}

impl Verifier<'_> {
    fn decide_next(&self, step: &mut Step) {
        let number = step.verification.as_ref().map_or(0, |v| v.number) + 1;
        let body =
            job::build_job(self.observed, self.artifact, self.find_known_digest(step), number);
        let name = body.as_ref().map(job::read_name).unwrap_or_default();
        let running = |job: &&Job| job.ended.is_none();
        let mine = self.observed.jobs.iter().find(|job| job.name == name && !job.deleting);
        let others: Vec<&Job> = self
            .observed
            .jobs
            .iter()
            .filter(|job| job.name != name || job.deleting)
            .filter(running)
            .collect();
        let obsolete = others.iter().filter(|job| !job.deleting);
        step.actions.extend(
            obsolete.map(|job| VersionAction::DeleteJob {
                name: job.name.clone(),
                uid: job.uid.clone(),
            }),
        );
        match mine {
            Some(job) if job.ended.is_some() => self.finish_job(step, job, number),
            Some(job) => self.watch_job(step, job),
            None => {
                let due = self.find_due_time(step);
                step.unheard = self.is_requested(step) && !self.has_verifier();
                if due.is_some_and(|at| at <= self.now) {
                    self.create_job(step, name, body, others.is_empty());
                } else if let Some(at) = due {
                    step.again = Some((at.as_second() - self.now.as_second()).max(1));
                }
            }
        }
    }

    /// Expected digest, where the record or a pin names it.
    fn find_known_digest<'s>(&'s self, step: &'s Step) -> Option<&'s str> {
        fetch_container::find_recorded_digest(self.artifact)
            .or_else(|| step.resolved.as_ref()?.artifact_digest.as_deref())
    }

    /// Creates the Job, unless an older one has to be deleted first.
    fn create_job(&self, step: &mut Step, name: String, body: Option<Value>, alone: bool) {
        let Some(body) = body else {
            step.doing = Some((Reason::VerificationTrouble, NO_IMAGE.to_owned()));
            return;
        };
        step.doing = Some((Reason::Verifying, format!("Job {name} verifies the artifact.")));
        let action = VersionAction::CreateJob { name, body };
        let refused = self
            .observed
            .blocked
            .iter()
            .find(|b| Some(&b.write) == action.identify_write().as_ref());
        if let Some(refused) = refused {
            step.doing = Some((
                Reason::VerificationTrouble,
                super::refused_writes::describe_refused(refused),
            ));
        }
        if alone && refused.is_none_or(|b: &RefusedWrite| b.due) {
            step.actions.push(action);
        }
    }

    fn watch_job(&self, step: &mut Step, job: &Job) {
        let waited = self.now.as_second() - job.created.as_second();
        step.doing = Some((Reason::Verifying, format!("Job {} verifies the artifact.", job.name)));
        if job.started {
            return;
        }
        if waited < STUCK_SECONDS {
            step.again = Some(STUCK_SECONDS - waited);
            return;
        }
        let account = self
            .observed
            .policy
            .as_ref()
            .and_then(|p| p.spec.verification.as_ref())
            .map(|v| v.service_account_name.as_str());
        let sentence = format!(
            "No pod of Job {0} runs: `kubectl describe job {0}` says why; look for ServiceAccount \
             {1}, its Secret, a quota, and the image.",
            job.name,
            account.unwrap_or_default()
        );
        step.doing = Some((Reason::VerificationTrouble, sentence));
    }

    fn finish_job(&self, step: &mut Step, job: &Job, number: i64) {
        let Some(heard) = self.observed.heard.as_ref().filter(|heard| heard.job == job.uid) else {
            step.lookup = Some(job.uid.clone());
            return;
        };
        let found = outcome::read_outcome(self.artifact, step.resolved.as_ref(), job, heard);
        let past = step.verification.take();
        let attempts =
            found.trouble.then(|| past.as_ref().and_then(|v| v.attempts).unwrap_or(0) + 1);
        // A failure that was found stays a failure while later attempts meet trouble.
        let stands = past.filter(|v| {
            found.trouble && outcome::condition_status(outcome::read_reason(v)) == "False"
        });
        let (reason, message) = match stands {
            Some(was) => (was.reason, was.message),
            None => (found.reason.to_string(), found.message.clone()),
        };
        if let Some((digest, size)) = found.bytes {
            let resolved = step.resolved.get_or_insert_default();
            if resolved.artifact_digest.is_none() {
                (resolved.artifact_digest, resolved.size) = (Some(digest), Some(size));
            }
        }
        if attempts.is_none_or(|n| n == 1) {
            let warning = found.reason != Reason::Verified;
            let key = format!("verification-{number}");
            step.actions.push(VersionAction::Event {
                warning,
                reason: found.reason.to_string(),
                message: found.message,
                key,
            });
        }
        // The Job does not answer a request that was made after it began.
        let requested = job.asked.clone();
        step.verification = Some(Verification {
            number,
            job: job.name.clone(),
            requested,
            time: Time(self.now),
            reason,
            message,
            attempts,
        });
        step.again =
            self.find_due_time(step).map(|at| (at.as_second() - self.now.as_second()).max(1));
    }

    /// Reports whether someone asked for a verification that no Job answered yet.
    fn is_requested(&self, step: &Step) -> bool {
        self.observed.asked.is_some()
            && self.observed.asked.as_ref()
                != step.verification.as_ref().and_then(|v| v.requested.as_ref())
    }

    /// Reports whether a policy names a verifier.
    fn has_verifier(&self) -> bool {
        self.observed.policy.as_ref().is_some_and(|p| p.spec.verification.is_some())
    }

    /// Computes the time of the next verification; None if nothing asks for one.
    fn find_due_time(&self, step: &Step) -> Option<Timestamp> {
        let policy = self.observed.policy.as_ref()?;
        let verification = policy.spec.verification.as_ref()?;
        let past = step.verification.as_ref();
        if self.is_requested(step) {
            return Some(self.now);
        }
        if self.observed.facts.lifecycle.as_ref().is_some_and(|l| l.state == LifecycleState::Yanked)
        {
            return None;
        }
        let (known, used) =
            (self.find_known_digest(step).is_some(), !self.observed.used_by.is_empty());
        match past {
            None if !known => Some(self.now),
            Some(v) if v.attempts.is_some() => {
                let wanted = !known || used || v.requested.is_some();
                wanted.then(|| add_seconds(v.time.0, compute_backoff(v.attempts.unwrap_or(1))))
            }
            // The Job has other inputs now, which may fix the cause of the failure.
            Some(v) if !known => {
                let again = job::build_job(self.observed, self.artifact, None, v.number);
                again.is_some_and(|body| job::read_name(&body) != v.job).then_some(self.now)
            }
            _ if !used => None,
            past => {
                let interval = i64::from(verification.interval_hours?) * 3600;
                Some(past.map_or_else(
                    || self.spread_first_time(policy.created, interval),
                    |v| add_seconds(v.time.0, interval),
                ))
            }
        }
    }

    /// Computes the time of the first verification of a version that serves: within the first
    /// interval, spread so that not all are due at once.
    fn spread_first_time(&self, policy: Timestamp, interval: i64) -> Timestamp {
        let since =
            self.observed.used_by.iter().map(|u| u.since.0).min().unwrap_or(policy).max(policy);
        let digest = revision::compute_digest(&Value::from(self.observed.uid.as_str()));
        let place =
            digest.get(7..11).and_then(|hex| i64::from_str_radix(hex, 16).ok()).unwrap_or_default();
        add_seconds(since, interval * place / 0xffff)
    }
}

const NO_IMAGE: &str = "It cannot be verified, since this operator was started without \
                        --fetch-image: have its administrator set it (ROLLMODEL_FETCH_IMAGE).";

fn compute_backoff(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 16) - 1).unwrap_or_default();
    AGAIN_SECONDS.saturating_mul(1 << doublings).min(AGAIN_MAX)
}

fn add_seconds(from: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(from.as_second().saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}
