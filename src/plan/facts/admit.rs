//! Admission to serving: one list of rules for the version that the spec names. Each rule is one
//! function and one sentence.
//!
//! A version that was promoted in this ModelDeployment before is served *again*, and asks only for
//! the rules that are marked so; what serves already asks for none.

use super::{Facts, problem::Problem, revision, version::explain_size};
use crate::{
    api::{reason::Reason, rollout::Asked, version::LifecycleState},
    plan::{
        observed::{Revision, Version},
        text::shorten_digest,
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
pub fn admit_desired(facts: &Facts<'_>, desired: &Revision) -> Result<(), Problem> {
    let serves = |s: &crate::api::ModelRolloutSpec| s.content_hash == desired.content_hash;
    if facts.history.serving().is_some_and(serves) {
        return Ok(());
    }
    let again = facts.history.was_promoted(&desired.record_digest);
    let version = revision::find_version(facts.observed, &facts.wanted.spec)?;
    let asked = RULES.iter().filter(|(_, asked)| !again || *asked == Asked::Again);
    match asked.into_iter().find_map(|(rule, _)| rule(facts, version)) {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

fn require_presence(facts: &Facts<'_>, version: Option<&Version>) -> Option<Problem> {
    version.is_none().then(|| revision::report_missing_version(&facts.wanted.spec))
}

/// A version keeps the record that it was rolled out with.
fn require_no_conflict(facts: &Facts<'_>, version: Option<&Version>) -> Option<Problem> {
    let version = version.filter(|_| !facts.observed.memory.crds_older)?;
    let bound = version.bound_to.as_deref()?;
    let sentence = format!(
        "Version {} of {} was rolled out with the record {}, and ModelVersion {} has another one \
         now ({}): create it again as it was, or give the new record a new version.",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::version::Lifecycle,
        plan::{
            Observed,
            arbitrary::{at, observed, promoted},
        },
    };

    /// The reason against serving version 7 where version 6 serves.
    fn find_reason(observed: &Observed) -> Option<Reason> {
        let wanted = observed.model_deployment.as_ref().unwrap();
        let facts = Facts::new(observed, wanted, at(60));
        let desired = revision::compute_revision(&wanted.spec, "sha256:7");
        match admit_desired(&facts, &desired).err()? {
            Problem::Pending(reason, _) | Problem::Invalid(reason, _) => Some(reason),
        }
    }

    fn yank(observed: &mut Observed) {
        let lifecycle = Lifecycle { state: LifecycleState::Yanked, reason: None };
        observed.versions[1].lifecycle = Some(lifecycle);
    }

    /// Version 7 is newly served, or again.
    fn serve(again: bool) -> Observed {
        match again {
            true => observed("7", vec![promoted(1, "7"), promoted(2, "6")]),
            false => observed("7", vec![promoted(1, "6")]),
        }
    }

    #[test]
    fn a_version_may_be_served_newly_and_again() {
        assert_eq!(find_reason(&serve(false)), None);
        assert_eq!(find_reason(&serve(true)), None);
    }

    #[test]
    fn a_yanked_version_is_served_neither_newly_nor_again() {
        for again in [false, true] {
            let mut observed = serve(again);
            yank(&mut observed);
            assert_eq!(find_reason(&observed), Some(Reason::VersionYanked), "{again}");
        }
    }

    #[test]
    fn a_version_that_is_not_there_is_served_only_again() {
        for (again, reason) in [(false, Some(Reason::VersionNotFound)), (true, None)] {
            let mut observed = serve(again);
            observed.versions.remove(1);
            assert_eq!(find_reason(&observed), reason, "{again}");
        }
    }

    #[test]
    fn a_version_in_conflict_is_not_newly_served_unless_the_crds_are_older() {
        let mut observed = serve(false);
        observed.versions[1].bound_to = Some("sha256:another".into());
        assert_eq!(find_reason(&observed), Some(Reason::VersionConflict));
        observed.memory.crds_older = true;
        assert_eq!(find_reason(&observed), None, "an older CRD prunes what is read");
    }

    #[test]
    fn a_version_that_is_too_large_is_not_newly_served() {
        let mut observed = serve(false);
        observed.versions[1].too_large = Some(300_000);
        assert_eq!(find_reason(&observed), Some(Reason::VersionTooLarge));
    }

    #[test]
    fn what_serves_is_asked_nothing() {
        let mut observed = serve(false);
        yank(&mut observed);
        let wanted = observed.model_deployment.clone().unwrap();
        let desired = revision::compute_revision(&wanted.spec, "sha256:7");
        let serving = crate::api::ModelRolloutSpec {
            content_hash: desired.content_hash.clone(),
            ..promoted(2, "7")
        };
        observed.records.extend(crate::plan::arbitrary::observed("7", vec![serving]).records);
        let facts = Facts::new(&observed, &wanted, at(60));
        assert_eq!(admit_desired(&facts, &desired), Ok(()));
    }
}
