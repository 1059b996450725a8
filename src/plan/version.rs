//! What is said about a ModelVersion: whether it may be deployed, and where it serves.

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::observed::Version;
use crate::api::{
    ModelVersionStatus,
    condition::{Condition, MESSAGE_MAX, bounded, condition},
    version::{LifecycleState, UsedBy},
};

/// The most ModelDeployments that a version's status names.
pub const USED_BY_MAX: usize = 32;

/// Everything that is known about one ModelVersion.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedVersion {
    /// Its name.
    pub name: String,
    /// Its generation.
    pub generation: i64,
    /// What was last said about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ModelVersionStatus>,
    /// What it says of itself, and what rollouts bound it to.
    pub facts: Version,
    /// Every ModelDeployment that serves it, in any order.
    pub used_by: Vec<UsedBy>,
    /// The CRDs served are older than this build, so that its digest may lack fields: no Conflict is concluded.
    pub crds_older: bool,
}

/// The status to write; none where it is written already.
#[must_use]
pub fn plan_version(seen: &ObservedVersion, now: Timestamp) -> Option<ModelVersionStatus> {
    let mut used_by = seen.used_by.clone();
    used_by.sort_by(|a, b| (&a.deployment, a.rollout).cmp(&(&b.deployment, b.rollout)));
    used_by.truncate(USED_BY_MAX);
    let status = ModelVersionStatus {
        observed_generation: Some(seen.generation),
        conditions: conditions(seen, now),
        record_digest: Some(seen.facts.record_digest.clone()),
        used_by,
        used_by_count: i64::try_from(seen.used_by.len()).unwrap_or(i64::MAX),
        message: Some(bounded(&message(seen), MESSAGE_MAX)),
    };
    (seen.status.as_ref() != Some(&status)).then_some(status)
}

fn conditions(seen: &ObservedVersion, now: Timestamp) -> Vec<Condition> {
    let old = seen.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let make = |kind, holds, reason: &str, message: &str| condition(old, kind, holds, reason, message, seen.generation, now);
    match conflict(seen) {
        Some(why) => vec![make("Ready", false, "Conflict", &why), make("Stalled", true, "Conflict", &why)],
        None => {
            let (reason, message) = ready(&seen.facts);
            vec![make("Ready", true, reason, &message)]
        }
    }
}

/// The sentence for a version that was rolled out as another record.
fn conflict(seen: &ObservedVersion) -> Option<String> {
    let bound = seen.facts.bound_to.as_ref().filter(|_| !seen.crds_older)?;
    let Version { model, version, record_digest, .. } = &seen.facts;
    Some(format!(
        "Version {version} of {model} was rolled out as {}; this record is another ({}): give it a new version, or delete it.",
        short(bound),
        short(record_digest)
    ))
}

/// Reason and message of a version that may be deployed.
fn ready(facts: &Version) -> (&'static str, String) {
    match lifecycle(facts) {
        (LifecycleState::Yanked, why) => ("Yanked", format!("Stays where it serves, and is not served anew. {why}")),
        (LifecycleState::Deprecated, why) => ("Deprecated", format!("May be deployed. {why}")),
        (LifecycleState::Active, _) => match facts.image.as_ref().filter(|image| !image.contains("@sha256:")) {
            Some(image) => (
                "ImageTag",
                format!("May be deployed, but the tag of image {image} can be moved to other bytes: name the image of the next version by digest (@sha256:…)."),
            ),
            None => ("Active", "May be deployed.".into()),
        },
    }
}

/// Where it serves, or what is wrong, in a sentence or two.
fn message(seen: &ObservedVersion) -> String {
    if let Some(why) = conflict(seen) {
        return why;
    }
    match (lifecycle(&seen.facts), usage(&seen.used_by)) {
        ((LifecycleState::Active, _), Some(place)) => format!("Serving in {place}."),
        ((LifecycleState::Active, _), None) => "Not used.".into(),
        ((_, why), Some(place)) => format!("{why} Still serving in {place}."),
        ((_, why), None) => why,
    }
}

/// The state of its life, with a sentence that says so and why.
fn lifecycle(facts: &Version) -> (LifecycleState, String) {
    let Some(lifecycle) = &facts.lifecycle else { return (LifecycleState::Active, String::new()) };
    let state = match lifecycle.state {
        LifecycleState::Active => "Active",
        LifecycleState::Deprecated => "Deprecated",
        LifecycleState::Yanked => "Yanked",
    };
    let why = lifecycle.reason.as_deref().map(str::trim).unwrap_or_default();
    let sentence = match why {
        "" => format!("{state}."),
        why if why.ends_with(['.', '!', '?']) => format!("{state}: {why}"),
        why => format!("{state}: {why}."),
    };
    (lifecycle.state, sentence)
}

fn usage(used_by: &[UsedBy]) -> Option<String> {
    match used_by {
        [] => None,
        [one] => Some(format!("{} since {}", one.deployment, one.since.0.to_zoned(TimeZone::UTC).date())),
        many => Some(format!("{} ModelDeployments", many.len())),
    }
}

/// A digest short enough for a sentence.
fn short(digest: &str) -> String {
    match digest.char_indices().nth("sha256:".len() + 12) {
        Some((end, _)) => format!("{}…", &digest[..end]),
        None => digest.to_owned(),
    }
}
