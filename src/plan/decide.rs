//! The order of decisions: at most one a pass, recorded before anything is done about it.

use super::{
    blame::{Blame, Foreign, Ownership},
    content::{self, Problem},
    draft::{Decision, Draft},
    health::{self, Health},
    history::yanked,
    observed::ContentBody,
    request,
    version::{short, too_large},
};
use crate::api::{
    ModelRolloutSpec,
    condition::Time,
    names,
    rollout::{self, DecidedBy, DecisionVerb, Outcome, Rejection, Scope, Trigger},
    version::LifecycleState,
};

/// Who decided where it was `kubectl rollout`, which does not say who ran it.
pub const KUBECTL: &str = "kubectl (unverified)";
/// Who decided where the spec did.
pub const SPEC: &str = "spec";
/// Who decided where a rollout failed.
pub const OPERATOR: &str = "operator";

/// Takes the first decision that is due: people first, then facts, then the spec. What people or
/// facts decide may leave something else to decide, of which no news would come.
pub fn decide(draft: &mut Draft<'_>) {
    if draft.seen.memory.crds_older || !draft.lookups.is_empty() {
        return;
    }
    match draft.ownership {
        Some(Ownership::Leaving | Ownership::Foreign(_)) => return,
        Some(Ownership::Ours | Ownership::Adoptable) | None => {}
    }
    if kubectl(draft) || request::answer(draft) || trouble(draft) {
        draft.again_at_once();
    } else {
        spec(draft);
    }
}

/// A verb of plain kubectl on the serving Deployment.
fn kubectl(draft: &mut Draft<'_>) -> bool {
    let Some(Blame::Carried(found)) = draft.blame.clone() else { return false };
    let mut decided = false;
    for foreign in found {
        decided |= match foreign {
            Foreign::Template { hash16 } => kubectl_undo(draft, &hash16),
            Foreign::RestartedAt(at) => kubectl_restart(draft, at),
            Foreign::Paused(paused) => kubectl_pause(draft, paused),
            Foreign::Drift(_) => false,
        };
    }
    decided
}

fn by(name: &str, reason: Option<String>) -> DecidedBy {
    DecidedBy { name: name.into(), verified: false, reason, request: None }
}

fn kubectl_undo(draft: &mut Draft<'_>, hash16: &str) -> bool {
    let found = draft
        .history
        .records()
        .iter()
        .rev()
        .map(|r| &r.spec)
        .find(|r| names::hash16(&r.revision_hash) == hash16)
        .cloned();
    let key = format!(
        "kubectl-undo-{}",
        draft.seen.workload.as_ref().map_or("", |w| &w.meta.resource_version)
    );
    let Some(target) = found else {
        draft.event(
            true,
            "UndoRefused",
            "The Deployment's template was changed to a content that no rollout of this ModelDeployment knows; it was put back.".into(),
            key,
        );
        return false;
    };
    if let Some(why) = draft.history.barred(draft.seen, &target) {
        let message = format!(
            "kubectl rollout undo to version {} was put back: {why}. To go back to another rollout, create a RolloutRequest with verb Undo and toRollout.",
            target.version
        );
        draft.event(true, "UndoRefused", message, key);
        return false;
    }
    let rejects = undo_rejects(draft, &target);
    draft.record_again(&target, Trigger::Undo, by(KUBECTL, None), rejects, None);
    true
}

fn kubectl_restart(draft: &mut Draft<'_>, at: Option<String>) -> bool {
    let Some(newest) = draft.history.newest().cloned() else { return false };
    draft.record_again(&newest, Trigger::Restart, by(KUBECTL, None), None, at);
    true
}

fn kubectl_pause(draft: &mut Draft<'_>, paused: bool) -> bool {
    let verb = if paused { DecisionVerb::Pause } else { DecisionVerb::Resume };
    let key = format!(
        "kubectl-pause-{}",
        draft.seen.workload.as_ref().map_or("", |w| &w.meta.resource_version)
    );
    if !paused && draft.history.pause().is_none() {
        draft.event(
            true,
            "ResumeRefused",
            "kubectl rollout resume was put back: spec.paused holds it; set spec.paused to false."
                .into(),
            key,
        );
        return false;
    }
    if draft.history.newest().is_none_or(|r| r.decisions.len() >= rollout::DECISIONS_MAX) {
        draft.event(
            true,
            "PauseRefused",
            "kubectl rollout pause or resume was put back: this rollout's record is full; set spec.paused.".into(),
            key,
        );
        return false;
    }
    append(draft, verb, by(KUBECTL, None));
    true
}

/// Appends a pause or a resume to the newest record.
pub fn append(draft: &mut Draft<'_>, verb: DecisionVerb, decided_by: DecidedBy) {
    let number = draft.history.newest().map_or(1, |r| r.decisions.len() + 1);
    let at = Time(draft.now);
    draft.history.decide(rollout::Decision {
        number: i64::try_from(number).unwrap_or(i64::MAX),
        verb,
        decided_by,
        at,
    });
}

/// What going back to `target` by a person's word rejects: the version, where the target has
/// another one; else the content.
#[must_use]
pub fn undo_rejects(draft: &Draft<'_>, target: &ModelRolloutSpec) -> Option<Rejection> {
    let newest = draft.history.newest()?;
    Some(if newest.record_digest == target.record_digest {
        Rejection {
            rollout: newest.number,
            scope: Scope::Content,
            key: newest.content_hash.clone(),
        }
    } else {
        Rejection {
            rollout: newest.number,
            scope: Scope::Version,
            key: newest.record_digest.clone(),
        }
    })
}

/// A rollout that goes on and must not: its version was yanked, its template refused, or its
/// content failed.
fn trouble(draft: &mut Draft<'_>) -> bool {
    let Some(open) = draft.history.open().cloned() else { return false };
    if open.trigger.goes_back() {
        return false;
    }
    let Some((trigger, rejects, reason)) = verdict(draft, &open) else { return false };
    let Some(target) = draft.history.back(draft.seen, rejects.as_ref()).cloned() else {
        return false;
    };
    let message = format!(
        "Version {} was not rolled out: {reason}. Going back to version {}.",
        open.version, target.version
    );
    draft.event(true, trigger_word(trigger), message, format!("back-{}", open.number));
    draft.record_again(&target, trigger, by(OPERATOR, Some(reason)), rejects, None);
    true
}

/// Why a rollout that goes on has to go back, if so: the trigger, what is rejected, and the
/// sentence.
#[must_use]
pub fn verdict(
    draft: &Draft<'_>,
    open: &ModelRolloutSpec,
) -> Option<(Trigger, Option<Rejection>, String)> {
    if yanked(draft.seen, open) {
        return Some((
            Trigger::Yanked,
            None,
            format!(
                "version {} was yanked, or its ModelVersion is another record now",
                open.version
            ),
        ));
    }
    if let Some(refusal) =
        draft.seen.memory.refusal.as_ref().filter(|r| r.template && r.rollout == open.number)
    {
        let rejects = Rejection {
            rollout: open.number,
            scope: Scope::Revision,
            key: open.revision_hash.clone(),
        };
        return Some((
            Trigger::Refused,
            Some(rejects),
            format!("the API server refused its template: {}", refusal.message),
        ));
    }
    match health::health(draft.seen, draft.carried()?, open) {
        Health::Failed(reason) => {
            let rejects = Rejection {
                rollout: open.number,
                scope: Scope::Content,
                key: open.content_hash.clone(),
            };
            Some((Trigger::Failed, Some(rejects), reason))
        }
        Health::Complete | Health::Held(_) | Health::Progressing => None,
    }
}

fn trigger_word(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Yanked => "Yanked",
        Trigger::Refused => "Refused",
        _ => "RolledBack",
    }
}

/// What the spec wants beyond the newest rollout.
fn spec(draft: &mut Draft<'_>) {
    let Ok(desired) = &draft.desired else { return };
    let newest = draft.history.newest();
    if newest.is_some_and(|r| r.revision_hash == desired.revision_hash) {
        return;
    }
    if draft.history.rejecting(desired).is_some() || draft.pause_wanted() {
        if newest.is_none() {
            recreate(draft);
        }
    } else if let Err(problem) = roll(draft, Trigger::SpecChanged, by(SPEC, None)) {
        draft.desired = Err(problem);
    }
}

/// A ModelDeployment made anew on something rejected, or while a pause stands, first serves again
/// what served last.
fn recreate(draft: &mut Draft<'_>) {
    let last =
        draft.history.served_last().filter(|r| draft.history.barred(draft.seen, r).is_none());
    let Some(target) = last.or_else(|| draft.history.back(draft.seen, None)).cloned() else {
        return;
    };
    draft.record_again(&target, Trigger::Recreated, by(SPEC, None), None, None);
}

/// Begins to roll out what the spec names.
///
/// # Errors
/// Why it may not, or cannot be rendered.
pub fn roll(draft: &mut Draft<'_>, trigger: Trigger, decided_by: DecidedBy) -> Result<(), Problem> {
    let desired = draft.desired.clone()?;
    if let Some(problem) = not_servable(draft) {
        return Err(problem);
    }
    let name = names::revision_name(&draft.seen.name, &desired.revision_hash, 1);
    if draft.stored(&name).is_none() {
        let rendering = content::rendering(draft.seen, &draft.wanted.spec, &desired)?;
        let body = ContentBody {
            revision_hash: desired.revision_hash.clone(),
            content: desired.written.clone(),
            rendering,
        };
        draft.store = Some((name.clone(), body));
    }
    draft.record(Decision {
        content: desired,
        revision_name: name,
        trigger,
        decided_by,
        rejects: None,
        restarted_at: None,
    });
    Ok(())
}

/// Why the version that the spec names may not be newly served, if so.
#[must_use]
pub fn not_servable(draft: &Draft<'_>) -> Option<Problem> {
    let spec = &draft.wanted.spec;
    let version = match content::find(draft.seen, spec) {
        Ok(Some(version)) => version,
        Ok(None) => return Some(content::absent(spec)),
        Err(problem) => return Some(problem),
    };
    if let Some(bound) = &version.bound_to {
        let sentence = format!(
            "Version {} of {} was rolled out as {}, and ModelVersion {} is another record by now ({}): make it anew as it was, or give the other record a new version.",
            version.version,
            version.model,
            short(bound),
            version.name,
            short(&version.record_digest)
        );
        return Some(Problem::Invalid("VersionConflict", sentence));
    }
    if let Some(sentence) = too_large(version) {
        return Some(Problem::Invalid("VersionTooLarge", sentence));
    }
    let lifecycle = version.lifecycle.as_ref().filter(|l| l.state == LifecycleState::Yanked)?;
    let why = lifecycle.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    Some(Problem::Invalid(
        "VersionYanked",
        format!(
            "Version {} is yanked{why} and is not newly served: name another version.",
            version.version
        ),
    ))
}

/// Writes how rollouts ended into the history: what something newer ended, and what is complete.
pub fn settle(draft: &mut Draft<'_>) {
    let endings = endings(draft);
    for (number, ending) in endings {
        if ending.serves {
            draft.event(false, "Promoted", ending.message.clone(), format!("promoted-{number}"));
        }
        draft.history.end(number, ending);
    }
}

/// How one rollout ended.
pub struct Ending {
    /// How.
    pub outcome: Option<Outcome>,
    /// When.
    pub at: Time,
    /// In a sentence.
    pub message: String,
    /// Whether it has all the traffic from now on.
    pub serves: bool,
    /// Whether a pod of it is available.
    pub available: bool,
    /// Images its pods really run.
    pub images: Vec<String>,
    /// Whether the deletion of its ModelDeployment ends its serving.
    pub until: bool,
}

fn endings(draft: &Draft<'_>) -> Vec<(i64, Ending)> {
    let mut out = Vec::new();
    for pair in draft.history.records().windows(2) {
        let (record, next) = (&pair[0].spec, &pair[1].spec);
        if record.outcome.is_none() {
            out.push((record.number, superseded(draft, next)));
        }
    }
    let Some((newest, workload)) = draft.history.newest().zip(draft.carried()) else { return out };
    let undisturbed = matches!(&draft.blame, Some(Blame::Carried(found)) if !found.iter().any(|f| matches!(f, Foreign::Template { .. } | Foreign::RestartedAt(_))));
    if !undisturbed {
        return out;
    }
    let available = workload.status.available_replicas > 0;
    if newest.outcome.is_none() && health::complete(workload) {
        out.push((newest.number, promoted(draft, newest, available)));
    } else if newest.outcome == Some(Outcome::Promoted)
        && newest.was_available.is_none()
        && available
        && health::complete(workload)
    {
        out.push((
            newest.number,
            Ending { outcome: None, serves: false, ..promoted(draft, newest, true) },
        ));
    }
    out
}

fn superseded(draft: &Draft<'_>, next: &ModelRolloutSpec) -> Ending {
    let why = next.decided_by.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    let (outcome, message) = match next.trigger {
        Trigger::Failed | Trigger::Refused | Trigger::Yanked => {
            (Outcome::Failed, format!("Failed{why}."))
        }
        Trigger::Undo | Trigger::Abort => {
            (Outcome::Aborted, format!("Stopped by {}{why}.", next.decided_by.name))
        }
        _ => (Outcome::Superseded, format!("Rollout {} came before it was done.", next.number)),
    };
    Ending {
        outcome: Some(outcome),
        at: Time(draft.now),
        message,
        serves: false,
        available: false,
        images: Vec::new(),
        until: false,
    }
}

fn promoted(draft: &Draft<'_>, record: &ModelRolloutSpec, available: bool) -> Ending {
    let mut images: Vec<String> = health::pods_of(draft.seen, record)
        .flat_map(|p| p.containers.iter().filter_map(|c| c.image_id.clone()))
        .filter(|i| !i.is_empty() && i.len() <= 512)
        .collect();
    images.sort();
    images.dedup();
    images.truncate(16);
    let again = if record.trigger.goes_back() { " again" } else { "" };
    let message = format!("Serving version {}{again} (rollout {}).", record.version, record.number);
    Ending {
        outcome: Some(Outcome::Promoted),
        at: Time(draft.now),
        message,
        serves: true,
        available,
        images,
        until: false,
    }
}
