//! Trouble of the rollout in progress: its version was yanked, its template refused, or its content
//! failed. What serves is never at fault (rule 2).

use super::{
    Decided,
    rollout::{Cause, NewRollout, OPERATOR, Target, decided_by, reject_rollout},
};
use crate::{
    api::{
        ModelRolloutSpec,
        rollout::{Direction, Scope, Trigger},
    },
    plan::{
        facts::{
            Facts,
            health::{Failure, Health, Patience, judge_rollout},
            history::is_yanked,
        },
        refused_writes,
    },
};

/// The reason why a rollout has to be left.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Yanked, Refused or Failed.
    pub trigger: Trigger,
    /// The scope of the rejection; None if the failure rejects nothing.
    pub scope: Option<Scope>,
    /// The reason, and the quoted message that no record may hold.
    pub failure: Failure,
}

/// Rolls back a rollout that failed, if there is something to go back to.
pub fn roll_back_if_failed(facts: &Facts<'_>, decided: &mut Decided) {
    let Some(open) = facts.history.in_progress() else { return };
    let Some(verdict) = find_verdict(facts, open) else { return };
    let Some(target) = decided.find_rollback_target(facts) else { return };
    let rejects = verdict.scope.and_then(|scope| reject_rollout(open, scope, &target));
    let (what, back) = name_difference(verdict.trigger, open, &target);
    let message = format!("{what}: {}. Going back to {back}.", verdict.failure.to_sentence());
    decided.push_event(
        true,
        event_reason(verdict.trigger),
        message,
        format!("back-{}", open.number),
    );
    let by = decided_by(OPERATOR, Some(&verdict.failure.reason));
    let cause = Cause { rejects, ..Cause::new(verdict.trigger, Direction::Back, by) };
    decided.failure = Some(verdict.failure);
    decided.decide_rollout(NewRollout::new(facts, target, cause));
}

/// Names what was left and what is gone back to, by what differs between them: the version, its
/// template, or only that the same was rolled out again.
fn name_difference(trigger: Trigger, left: &ModelRolloutSpec, target: &Target) -> (String, String) {
    let version = &left.version;
    let (what, back) = if left.revision_hash == target.revision_hash() {
        let what = match left.trigger {
            Trigger::Restart => format!("The restart of version {version}"),
            _ => format!("The repeated rollout of version {version}"),
        };
        (what, "it as it served before".into())
    } else if left.version == target.version() {
        (format!("The changed template of version {version}"), "its earlier template".into())
    } else {
        (format!("Version {version}"), format!("version {}", target.version()))
    };
    let end = match trigger {
        Trigger::Failed => "failed",
        Trigger::Yanked => "is not rolled out any further",
        _ => "was not rolled out",
    };
    (format!("{what} {end}"), back)
}

/// Finds the reason why the rollout in progress has to be left. A rollout that goes back is never
/// left automatically, and one whose Deployment is paused stays so that the person can look at the
/// failure. Without an available pod a pause is not in force yet, as on a Deployment that was
/// deleted and created again.
#[must_use]
pub fn find_verdict(facts: &Facts<'_>, open: &ModelRolloutSpec) -> Option<Verdict> {
    if open.goes_back() {
        return None;
    }
    if let Some(verdict) = find_yank(facts, open).or_else(|| find_refusal(facts, open)) {
        return Some(verdict);
    }
    find_failure(facts, open).filter(|_| !facts.is_pause_in_force(open))
}

fn find_yank(facts: &Facts<'_>, open: &ModelRolloutSpec) -> Option<Verdict> {
    if facts.has_serving_content(open) || !is_yanked(facts.observed, open) {
        return None;
    }
    let version = &open.version;
    let reason =
        format!("version {version} was yanked, or its ModelVersion has another record now");
    let failure = Failure { reason, quote: None };
    Some(Verdict { trigger: Trigger::Yanked, scope: None, failure })
}

/// A template that the API server refuses never reaches a pod, so that what serves goes on.
fn find_refusal(facts: &Facts<'_>, open: &ModelRolloutSpec) -> Option<Verdict> {
    let refused = refused_writes::find_decision(facts.observed, open.number)?;
    if !refused_writes::is_template_at_fault(refused) {
        return None;
    }
    let reason = "the API server refused its template".to_owned();
    let failure = Failure { reason, quote: Some(refused.message.clone()) };
    Some(Verdict { trigger: Trigger::Refused, scope: Some(Scope::Revision), failure })
}

/// The failure of the content in progress, unless it is the content that serves.
#[must_use]
pub fn find_failure(facts: &Facts<'_>, open: &ModelRolloutSpec) -> Option<Verdict> {
    if facts.has_serving_content(open) {
        return None;
    }
    let live = facts.deployment_if_up_to_date(open, &facts.history)?;
    let patience = Patience::new(&facts.wanted.spec, facts.observed, open, facts.now);
    match judge_rollout(facts.observed, live, open, patience) {
        Health::Failed(failure) => {
            Some(Verdict { trigger: Trigger::Failed, scope: Some(Scope::Content), failure })
        }
        Health::Complete | Health::Blocked(_) | Health::Progressing => None,
    }
}

fn event_reason(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Yanked => "Yanked",
        Trigger::Refused => "Refused",
        _ => "RolledBack",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        Observed,
        action::{TEMPLATE, decision_prefix},
        arbitrary::{judge, observed, promoted, record},
        observed::RefusedWrite,
    };

    #[test]
    fn an_event_names_the_version_the_template_or_the_repetition_that_was_left() {
        let observed: Observed = observed("7", vec![promoted(1, "6")]);
        let name = |trigger, left: &ModelRolloutSpec| {
            let target = |facts: &Facts<'_>| Target::of_record(facts, &record(1, "6"));
            judge(&observed, |facts| name_difference(trigger, left, &target(facts)).0)
        };
        let restart = ModelRolloutSpec { trigger: Trigger::Restart, ..record(2, "6") };
        let changed = ModelRolloutSpec { revision_hash: "v1:sha256:c".into(), ..record(2, "6") };
        assert_eq!(name(Trigger::Failed, &record(2, "7")), "Version 7 failed");
        assert_eq!(name(Trigger::Failed, &restart), "The restart of version 6 failed");
        let repeated = "The repeated rollout of version 6 failed";
        assert_eq!(name(Trigger::Failed, &record(2, "6")), repeated);
        let refused = "The changed template of version 6 was not rolled out";
        assert_eq!(name(Trigger::Refused, &changed), refused);
        let yanked = "Version 7 is not rolled out any further";
        assert_eq!(name(Trigger::Yanked, &record(2, "7")), yanked);
    }

    #[test]
    fn a_refused_decision_is_the_templates_fault_only_if_it_changes_the_template() {
        let refuse = |what: &str, forbidden| {
            let write = format!("{}{what}", decision_prefix(2));
            let (due, deciding, message) = (false, false, "invalid".into());
            let refused = RefusedWrite {
                write,
                due,
                deciding,
                forbidden,
                message,
                ..RefusedWrite::default()
            };
            let refused = vec![refused];
            let mut observed: Observed = observed("7", vec![promoted(1, "6"), record(2, "7")]);
            observed.memory.refused = refused;
            judge(&observed, |facts| find_refusal(facts, &record(2, "7")).map(|v| v.trigger))
        };
        assert_eq!(refuse(TEMPLATE, false), Some(Trigger::Refused));
        assert_eq!(refuse(TEMPLATE, true), None, "a right or a quota is missing");
        assert_eq!(refuse("without template", false), None);
    }

    #[test]
    fn the_event_about_a_rollout_that_was_left_names_the_cause() {
        let reasons = [Trigger::Yanked, Trigger::Refused, Trigger::Failed].map(event_reason);
        assert_eq!(reasons, ["Yanked", "Refused", "RolledBack"]);
    }
}
