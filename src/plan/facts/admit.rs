//! Admission to serving: one list of rules for the version that the spec names. Each rule is one
//! function and one sentence.
//!
//! A version that was promoted in this ModelDeployment before is served *again*, and asks only for
//! the rules that are marked so; what serves already asks for none.

use super::{Facts, content, problem::Problem};
use crate::{
    api::{reason::Reason, rollout::Asked, version::LifecycleState},
    plan::{
        observed::{Content, Version},
        version::{explain_size, shorten_digest},
    },
};

/// One rule: the reason against serving a version, if there is one.
type Rule = fn(&Facts<'_>, Option<&Version>) -> Option<Problem>;

/// The rules in the order in which they are asked, and whether they are asked again of a version
/// that was served before.
const RULES: [(Rule, Asked); 4] = [
    (require_no_conflict, Asked::Newly),
    (require_presence, Asked::Newly),
    (require_size, Asked::Newly),
    (require_no_yank, Asked::Again),
];

/// Decides whether the version that the spec names may be served.
///
/// # Errors
/// The first rule that speaks against it.
pub fn admit_desired(facts: &Facts<'_>, desired: &Content) -> Result<(), Problem> {
    let serves = |s: &crate::api::ModelRolloutSpec| s.content_hash == desired.content_hash;
    if facts.history.serving().is_some_and(serves) {
        return Ok(());
    }
    let again = facts.history.was_promoted(&desired.record_digest);
    let version = content::find(facts.observed, &facts.wanted.spec)?;
    let asked = RULES.iter().filter(|(_, asked)| !again || *asked == Asked::Again);
    match asked.into_iter().find_map(|(rule, _)| rule(facts, version)) {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

fn require_presence(facts: &Facts<'_>, version: Option<&Version>) -> Option<Problem> {
    version.is_none().then(|| content::absent(&facts.wanted.spec))
}

/// A version keeps the record that it was rolled out with.
fn require_no_conflict(facts: &Facts<'_>, version: Option<&Version>) -> Option<Problem> {
    let version = version.filter(|_| !facts.observed.memory.crds_older)?;
    let bound = version.bound_to.as_deref()?;
    let sentence = format!(
        "Version {} of {} was rolled out with the record {}, and ModelVersion {} has another one now \
         ({}): create it again as it was, or give the new record a new version.",
        version.version,
        version.model,
        shorten_digest(bound),
        version.name,
        shorten_digest(&version.record_digest)
    );
    Some(Problem::Invalid(Reason::VersionConflict, sentence))
}

fn require_size(_: &Facts<'_>, version: Option<&Version>) -> Option<Problem> {
    explain_size(version?).map(|sentence| Problem::Invalid(Reason::VersionTooLarge, sentence))
}

fn require_no_yank(_: &Facts<'_>, version: Option<&Version>) -> Option<Problem> {
    let version = version?;
    let yanked = version.lifecycle.as_ref().filter(|l| l.state == LifecycleState::Yanked)?;
    let why = yanked.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    let sentence = format!(
        "Version {} is yanked{why} and is not newly served: name another version.",
        version.version
    );
    Some(Problem::Invalid(Reason::VersionYanked, sentence))
}
