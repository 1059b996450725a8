//! The status of a ModelVersion: its eligibility for rollouts, and the ModelDeployments that serve
//! it.

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    facts::version::find_problem,
    make::fetch_container,
    observed::{ObservedVersion, Version},
    verify::{self, Step, VersionAction, outcome},
};
use crate::api::{
    ModelVersionStatus,
    condition::{Condition, MESSAGE_MAX, build_condition_with_status, truncate_text},
    names,
    reason::Reason,
    version::{LifecycleState, Resolved, UsedBy, Verification},
};

/// Maximum number of ModelDeployments in a version's status.
pub const USED_BY_MAX: usize = 32;

/// The plan for one ModelVersion: actions and status.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct VersionPlan {
    /// Uid of the Job whose termination messages have to be read before anything is decided; then
    /// nothing else is in the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<String>,
    /// Actions in the order in which they are carried out.
    pub actions: Vec<VersionAction>,
    /// Status to write last; absent where it is written already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ModelVersionStatus>,
    /// Seconds until the next plan, although nothing changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeue_after_seconds: Option<i64>,
}

/// Plans for one ModelVersion.
#[must_use]
pub fn plan_version(observed: &ObservedVersion, now: Timestamp) -> VersionPlan {
    let mut step = verify::plan_step(observed, now);
    if step.lookup.is_some() {
        return VersionPlan { lookup: step.lookup, ..VersionPlan::default() };
    }
    let (actions, requeue_after_seconds) = (std::mem::take(&mut step.actions), step.again);
    VersionPlan {
        lookup: None,
        actions,
        status: build_status(observed, step, now),
        requeue_after_seconds,
    }
}

/// Builds the status to write; None where it is written already.
fn build_status(
    observed: &ObservedVersion,
    step: Step,
    now: Timestamp,
) -> Option<ModelVersionStatus> {
    let mut used_by = observed.used_by.clone();
    used_by.sort_by(|a, b| (&a.model_deployment, a.rollout).cmp(&(&b.model_deployment, b.rollout)));
    used_by.truncate(USED_BY_MAX);
    let status = ModelVersionStatus {
        observed_generation: Some(observed.generation),
        conditions: build_conditions(observed, &step, now),
        record_digest: Some(observed.facts.record_digest.clone()),
        used_by,
        used_by_count: i64::try_from(observed.used_by.len()).unwrap_or(i64::MAX),
        message: Some(truncate_text(
            &build_message(observed, step.verification.as_ref()),
            MESSAGE_MAX,
        )),
        resolved: step.resolved,
        verification: step.verification,
    };
    if observed.status.as_ref() == Some(&status) {
        return None;
    }
    // The digest of an image alone does not cause a write.
    let mut status = status;
    if status.resolved.as_ref().is_none_or(|r| r.image_digest.is_none())
        && observed.image_digest.is_some()
    {
        status.resolved = Some(Resolved {
            image_digest: observed.image_digest.clone(),
            ..status.resolved.unwrap_or_default()
        });
    }
    Some(status)
}

fn build_conditions(observed: &ObservedVersion, step: &Step, now: Timestamp) -> Vec<Condition> {
    let old = observed.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let make = |kind, status, reason: Reason, message: &str| {
        build_condition_with_status(old, kind, status, reason, message, observed.generation, now)
    };
    let mut all = match find_problem(observed) {
        Some((reason, why)) => {
            vec![make("Ready", "False", reason, &why), make("Stalled", "True", reason, &why)]
        }
        None => {
            let (reason, message) = describe_readiness(&observed.facts);
            vec![make("Ready", "True", reason, &message)]
        }
    };
    let (status, reason, mut message) = describe_verification(&observed.facts, step);
    if step.unheard && reason != Reason::NoDigest {
        message.push_str(&format!(
            " It is not verified although {} asks for it: {}",
            names::VERIFY,
            explain_missing_verifier()
        ));
    }
    all.push(make("Verified", status, reason, &message));
    all
}

fn explain_missing_verifier() -> String {
    format!(
        "nobody verifies artifacts here until there is a ModelPolicy {} with \
         spec.verification.serviceAccountName.",
        names::POLICY
    )
}

/// Computes the condition Verified: status, reason and message.
fn describe_verification(facts: &Version, step: &Step) -> (&'static str, Reason, String) {
    let Some(artifact) = &facts.artifact else {
        return match &facts.image {
            Some(image) if !image.contains('@') => {
                ("False", Reason::ImageTag, "The image's tag can be moved to other bytes.".into())
            }
            _ => ("True", Reason::ImagePinned, "The image is named by digest.".into()),
        };
    };
    let tell = |v: &Verification| {
        let reason = outcome::read_reason(v);
        (outcome::condition_status(reason), reason, v.message.clone())
    };
    match (&step.verification, &step.doing) {
        // A result stays until there is another one.
        (Some(v), None) => tell(v),
        (Some(v), _) if tell(v).0 != "Unknown" => tell(v),
        (_, Some((reason, message))) => ("Unknown", *reason, message.clone()),
        (None, None) if fetch_container::find_recorded_digest(artifact).is_some() => (
            "Unknown",
            Reason::CheckedAtPodStart,
            "Each pod checks the digest before it serves.".into(),
        ),
        (None, None) => (
            "False",
            Reason::NoDigest,
            format!("The record names no digest of the artifact: {}", explain_missing_verifier()),
        ),
    }
}

/// Computes reason and message of a version that may be deployed.
fn describe_readiness(facts: &Version) -> (Reason, String) {
    match read_lifecycle(facts) {
        (LifecycleState::Yanked, why) => {
            (Reason::Yanked, format!("Stays where it serves, and is not newly served. {why}"))
        }
        (LifecycleState::Deprecated, why) => {
            (Reason::Deprecated, format!("May be deployed. {why}"))
        }
        (LifecycleState::Active, _) => {
            match facts.image.as_ref().filter(|image| !image.contains("@sha256:")) {
                Some(image) => (
                    Reason::ImageTag,
                    format!(
                        "May be deployed, but the tag of image {image} can be moved to other \
                         bytes: name the image of the next version by digest (@sha256:…)."
                    ),
                ),
                None => (Reason::Active, "May be deployed.".into()),
            }
        }
    }
}

/// Explains in a sentence or two where the version serves, or what is wrong.
fn build_message(observed: &ObservedVersion, verification: Option<&Verification>) -> String {
    if let Some((_, why)) = find_problem(observed) {
        return why;
    }
    let wrong = verification
        .filter(|v| outcome::condition_status(outcome::read_reason(v)) == "False")
        .map(|v| format!("{}: {} ", v.reason, v.message));
    let life = match (read_lifecycle(&observed.facts), describe_usage(&observed.used_by)) {
        ((LifecycleState::Active, _), Some(place)) => format!("Serving in {place}."),
        ((LifecycleState::Active, _), None) => "Not used.".into(),
        ((_, why), Some(place)) => format!("{why} Still serving in {place}."),
        ((_, why), None) => why,
    };
    format!("{}{life}", wrong.unwrap_or_default())
}

/// Reads the lifecycle, with a sentence about the state and its reason.
fn read_lifecycle(facts: &Version) -> (LifecycleState, String) {
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

fn describe_usage(used_by: &[UsedBy]) -> Option<String> {
    match used_by {
        [] => None,
        [one] => Some(format!(
            "{} since {}",
            one.model_deployment,
            one.since.0.to_zoned(TimeZone::UTC).date()
        )),
        many => Some(format!("{} ModelDeployments", many.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{condition::find_true_condition, version::Lifecycle};
    use serde_json::json;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn now() -> Timestamp {
        at("2026-11-24T00:00:00Z")
    }

    fn observed() -> ObservedVersion {
        let facts = Version {
            name: "fraud-7".into(),
            model: "fraud".into(),
            version: "7".into(),
            record_digest: format!("sha256:{}", "d".repeat(64)),
            image: Some(format!("registry.example.com/fraud:7@sha256:{}", "5".repeat(64))),
            ..Default::default()
        };
        ObservedVersion { name: "fraud-7".into(), generation: 3, facts, ..Default::default() }
    }

    fn used(deployments: &[&str]) -> Vec<UsedBy> {
        let one = |d: &&str| {
            serde_json::from_value(json!({"modelDeployment": d, "role": "Serving", "rollout": 12, "since": "2026-11-10T23:59:59Z"})).unwrap()
        };
        deployments.iter().map(one).collect()
    }

    fn lifecycle(state: LifecycleState, reason: Option<&str>) -> Option<Lifecycle> {
        Some(Lifecycle { state, reason: reason.map(str::to_owned) })
    }

    fn planned(observed: &ObservedVersion) -> ModelVersionStatus {
        plan_version(observed, now()).status.unwrap()
    }

    #[test]
    fn the_message_tells_life_and_use_in_a_sentence() {
        use LifecycleState::{Active, Deprecated, Yanked};
        let cases = [
            (None, &[][..], "Not used."),
            (None, &["fraud"], "Serving in fraud since 2026-11-10."),
            (
                lifecycle(Active, Some("Back again")),
                &["c", "a", "b"],
                "Serving in 3 ModelDeployments.",
            ),
            (lifecycle(Yanked, Some("Leaks the label")), &[], "Yanked: Leaks the label."),
            (
                lifecycle(Yanked, Some("Leaks the label. ")),
                &["fraud"],
                "Yanked: Leaks the label. Still serving in fraud since 2026-11-10.",
            ),
            (
                lifecycle(Deprecated, None),
                &["a", "b"],
                "Deprecated. Still serving in 2 ModelDeployments.",
            ),
        ];
        for (lifecycle, deployments, message) in cases {
            let mut observed = ObservedVersion { used_by: used(deployments), ..observed() };
            observed.facts.lifecycle = lifecycle;
            assert_eq!(planned(&observed).message.as_deref(), Some(message));
        }
    }

    #[test]
    fn every_record_that_may_be_deployed_is_ready_and_the_reason_says_more() {
        let tag = Some("registry.example.com/fraud:7".to_owned());
        let cases = [
            (observed().facts.image, None, "Active"),
            (None, None, "Active"),
            (tag.clone(), None, "ImageTag"),
            (tag.clone(), lifecycle(LifecycleState::Deprecated, None), "Deprecated"),
            (tag, lifecycle(LifecycleState::Yanked, Some("Leaks")), "Yanked"),
        ];
        for (image, lifecycle, reason) in cases {
            let mut observed = observed();
            (observed.facts.image, observed.facts.lifecycle) = (image, lifecycle);
            let status = planned(&observed);
            assert_eq!(status.conditions.len(), 2);
            assert_eq!(find_true_condition(&status.conditions, "Ready").unwrap().reason, reason);
        }
    }

    #[test]
    fn a_record_that_is_too_large_to_be_stored_safely_is_stalled() {
        let mut observed = observed();
        observed.facts.too_large = Some(crate::plan::facts::version::SPEC_MAX + 1);
        let status = planned(&observed);
        assert_eq!(find_true_condition(&status.conditions, "Stalled").unwrap().reason, "TooLarge");
        let says = status.message.unwrap();
        assert!(
            says.starts_with(
                "The spec of ModelVersion fraud-7 has 201 KiB, and 200 at most are stored safely:"
            ),
            "{says}"
        );
    }

    #[test]
    fn a_record_that_was_rolled_out_as_another_is_stalled() {
        let mut observed = observed();
        observed.facts.bound_to = Some(format!("sha256:{}", "a".repeat(64)));
        let status = planned(&observed);
        let sentence = "Version 7 of fraud was rolled out as sha256:aaaaaaaaaaaa…; this record is \
                        another (sha256:dddddddddddd…): give it a new version, or delete it.";
        assert_eq!(status.message.as_deref(), Some(sentence));
        assert_eq!(find_true_condition(&status.conditions, "Ready"), None);
        let stalled = find_true_condition(&status.conditions, "Stalled").unwrap();
        assert_eq!((stalled.reason.as_str(), stalled.message.as_str()), ("Conflict", sentence));
    }

    #[test]
    fn no_conflict_is_concluded_while_the_crds_are_older() {
        let mut observed = ObservedVersion { crds_older: true, ..observed() };
        observed.facts.bound_to = Some("sha256:aa".into());
        assert!(find_true_condition(&planned(&observed).conditions, "Ready").is_some());
    }

    #[test]
    fn users_are_sorted_bounded_and_counted() {
        let names: Vec<String> = (0..40).rev().map(|n| format!("d{n:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let status = planned(&ObservedVersion { used_by: used(&names), ..observed() });
        assert_eq!((status.used_by.len(), status.used_by_count), (USED_BY_MAX, 40));
        assert_eq!(
            (
                status.used_by[0].model_deployment.as_str(),
                status.used_by[31].model_deployment.as_str()
            ),
            ("d00", "d31")
        );
    }

    #[test]
    fn a_status_that_is_written_is_not_written_again() {
        let mut observed = ObservedVersion { used_by: used(&["b", "a"]), ..observed() };
        let status = planned(&observed);
        // As it comes back from the API server.
        observed.status = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
        observed.used_by.reverse();
        assert_eq!(plan_version(&observed, at("2027-01-01T00:00:00.5Z")), VersionPlan::default());
        assert_eq!(status.observed_generation, Some(3));
    }

    #[test]
    fn a_conflict_that_is_over_leaves_no_trace_and_ready_gets_a_new_time() {
        let mut observed = observed();
        observed.facts.bound_to = Some("sha256:aa".into());
        observed.status = plan_version(&observed, now()).status;
        observed.facts.bound_to = None;
        let later = at("2026-12-01T00:00:00Z");
        let healed = plan_version(&observed, later).status.unwrap();
        assert_eq!(healed.conditions.len(), 2);
        assert_eq!(healed.conditions[0].last_transition_time.0, later);
        observed.status = Some(healed);
        observed.generation = 4;
        let again = plan_version(&observed, at("2026-12-02T00:00:00Z")).status.unwrap();
        assert_eq!(
            (again.conditions[0].last_transition_time.0, again.conditions[0].observed_generation),
            (later, Some(4))
        );
    }

    #[test]
    fn a_message_fits_its_field() {
        let mut observed = observed();
        observed.facts.lifecycle = lifecycle(LifecycleState::Yanked, Some(&"é".repeat(1024)));
        let status = planned(&observed);
        assert!(
            status.message.unwrap().len() <= MESSAGE_MAX
                && status.conditions[0].message.len() <= MESSAGE_MAX
        );
    }
}
