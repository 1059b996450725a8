//! Facts of one ModelVersion: whether it may be deployed, and the digest of its artifact.

use crate::{
    api::reason::Reason,
    plan::{
        make::fetch_container,
        observed::{ObservedVersion, Version},
        text::shorten_digest,
    },
};

/// Maximum size of a ModelVersion's spec in bytes: client-side apply stores the spec again in
/// annotations, which have at most 256 KiB together.
pub const SPEC_MAX: usize = 200 * 1024;
/// Finds the reason, with a sentence, why the version may not be deployed.
#[must_use]
pub fn find_problem(observed: &ObservedVersion) -> Option<(Reason, String)> {
    explain_conflict(observed)
        .map(|why| (Reason::Conflict, why))
        .or_else(|| explain_size(&observed.facts).map(|why| (Reason::TooLarge, why)))
}

/// Explains that the spec of a version is too large.
#[must_use]
pub fn explain_size(facts: &Version) -> Option<String> {
    let size = facts.too_large?;
    Some(format!(
        "The spec of ModelVersion {} has {} KiB, and {} at most are stored safely: put large \
         parameters, notes and lists beside the artifact, and register the version again.",
        facts.name,
        size.div_ceil(1024),
        SPEC_MAX / 1024
    ))
}

/// Explains that a version was rolled out with another record.
fn explain_conflict(observed: &ObservedVersion) -> Option<String> {
    let bound = observed.facts.bound_to.as_ref().filter(|_| !observed.crds_older)?;
    let Version { model, version, record_digest, .. } = &observed.facts;
    Some(format!(
        "Version {version} of {model} was rolled out as {}; this record is another ({}): give it a \
         new version, or delete it.",
        shorten_digest(bound),
        shorten_digest(record_digest)
    ))
}

/// Finds the digest of a version's artifact: from its record, or pinned by a verification or a
/// rollout.
#[must_use]
pub fn find_pinned_digest(version: &Version) -> Option<&str> {
    fetch_container::find_recorded_digest(version.artifact.as_ref()?).or(version.pin.as_deref())
}
