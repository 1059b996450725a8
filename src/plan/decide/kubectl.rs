//! Verbs of plain kubectl on the serving Deployment: undo, restart, pause and resume.

use super::{
    Decided, Decision, has_room_for, make_decision,
    rollout::{KUBECTL, NewRollout, Target, decided_by},
    spec::stays_where_it_is,
};
use crate::{
    api::{
        ModelRolloutSpec, names,
        rollout::{DecisionVerb, Trigger},
    },
    plan::facts::{
        Facts,
        attribution::{Attribution, ExternalChange, read_decision_label},
        history::is_kept,
        track::TrackFacts,
    },
};

/// Turns a change of the Deployment by kubectl into a decision, or reverts it with an Event that
/// says why.
pub fn handle_kubectl_verbs(facts: &Facts<'_>, decided: &mut Decided) {
    for track in &facts.tracks {
        if decided.is_undecided()
            && let Some(Attribution::Applied(changes)) = &track.attribution
        {
            handle_changes(facts, track, changes, decided);
        }
    }
}

fn handle_changes(
    facts: &Facts<'_>,
    track: &TrackFacts<'_>,
    changes: &[ExternalChange],
    decided: &mut Decided,
) {
    let mut paused = None;
    for change in changes {
        match change {
            ExternalChange::Template { hash16, restarted_at } => {
                handle_undo(facts, track, hash16, restarted_at.as_deref(), decided);
            }
            ExternalChange::RestartedAt(at) => handle_restart(facts, track, at.as_deref(), decided),
            ExternalChange::Paused(now) => paused = Some(*now),
            ExternalChange::Drift(_) => {}
        }
    }
    if let Some(paused) = paused {
        handle_pause(facts, track, paused, decided);
    }
}

fn event_key(track: &TrackFacts<'_>, verb: &str) -> String {
    let live = track.track.deployment;
    format!("kubectl-{verb}-{}-{}", live.meta.name, live.generation)
}

fn handle_undo(
    facts: &Facts<'_>,
    track: &TrackFacts<'_>,
    hash16: &str,
    restarted_at: Option<&str>,
    decided: &mut Decided,
) {
    let of_template = |r: &&ModelRolloutSpec| names::short_hash(&r.revision_hash) == hash16;
    let exact = |r: &&ModelRolloutSpec| r.restarted_at.as_deref() == restarted_at;
    let records = || facts.history.records().rev().filter(of_template);
    let Some(target) = records().find(exact).or_else(|| records().next()) else {
        let message = "The Deployment's template was changed to a revision that no rollout of this \
                       ModelDeployment knows. The change was reverted: edit the ModelDeployment's \
                       spec instead.";
        let key = event_key(track, "undo");
        return decided.push_event(true, "UndoRefused", message.into(), key);
    };
    if let Err(lookup) = facts.require_templates(!is_kept(facts.observed, target)) {
        return decided.lookups.push(lookup);
    }
    let serves = facts.history.serving().is_some_and(|s| s.number == target.number);
    let why = if serves {
        None
    } else if !target.is_promoted()
        && facts.history.find_promoted_rendering(&target.revision_hash).is_none()
    {
        Some(format!("rollout {} never served", target.number))
    } else {
        facts.history.explain_ineligibility(facts.observed, target)
    };
    if let Some(why) = why {
        let message = format!(
            "kubectl rollout undo to version {} was reverted: {why}. A RolloutRequest with verb \
             Undo and toRollout goes back to another rollout; one with verb Retry serves what the \
             spec names, although it was rejected.",
            target.version
        );
        return decided.push_event(true, "UndoRefused", message, event_key(track, "undo"));
    }
    let target = target.clone();
    go_back(facts, &target, restarted_at, decided);
}

fn go_back(
    facts: &Facts<'_>,
    record: &ModelRolloutSpec,
    restarted_at: Option<&str>,
    decided: &mut Decided,
) {
    // The ReplicaSet that kubectl chose is the one that is used: its pods may still be there.
    let target = Target::of_record(facts, record).restarted(restarted_at.map(str::to_owned));
    let by = decided_by(KUBECTL, None);
    decided.decide_rollout(NewRollout::go_back(facts, target, Trigger::Undo, by));
}

/// What was restarted is what the Deployment carries: where the newest decision is refused, that is
/// an older one.
fn handle_restart(
    facts: &Facts<'_>,
    track: &TrackFacts<'_>,
    at: Option<&str>,
    decided: &mut Decided,
) {
    let label = read_decision_label(track.track.deployment);
    let carried = label.and_then(|label| facts.history.get(label.rollout));
    let Some(carried) = carried.or(facts.history.newest()).cloned() else { return };
    let serving = facts.history.serving().filter(|s| {
        facts.history.in_progress().is_some()
            && s.revision_hash == carried.revision_hash
            && s.restarted_at.as_deref() == at
    });
    if let Some(serving) = serving.cloned() {
        return go_back(facts, &serving, at, decided);
    }
    if let Some(sentence) = facts.explain_no_restart(&carried) {
        let message = format!("kubectl rollout restart was reverted. {sentence}");
        return decided.push_event(true, "RestartRefused", message, event_key(track, "restart"));
    }
    if let Err(lookup) = facts.require_templates(!is_kept(facts.observed, &carried)) {
        return decided.lookups.push(lookup);
    }
    let target = Target::of_record(facts, &carried).restarted(at.map(str::to_owned));
    decided.decide_rollout(NewRollout::restart(facts, target, decided_by(KUBECTL, None)));
}

fn handle_pause(facts: &Facts<'_>, track: &TrackFacts<'_>, paused: bool, decided: &mut Decided) {
    let verb = if paused { DecisionVerb::Pause } else { DecisionVerb::Resume };
    if let Some(Decision::Roll(new)) = &mut decided.decision {
        // One pass saw an undo or a restart, and then a pause: one record says both.
        if paused {
            let mut decision = make_decision(facts, verb, decided_by(KUBECTL, None));
            decision.number = 1;
            new.record.decisions.push(decision);
        }
        return;
    }
    let key = event_key(track, "pause");
    if !paused && facts.history.standing_pause().is_none() {
        let by_spec = facts.wanted.spec.paused;
        if !by_spec && !facts.history.newest().is_some_and(|r| stays_where_it_is(facts, r)) {
            // spec.paused was set to false at the same time: both ask for the same.
            return;
        }
        let message = match by_spec {
            true => {
                "kubectl rollout resume was reverted: spec.paused pauses the rollout; set \
                 spec.paused to false."
            }
            false => {
                "kubectl rollout resume was reverted: the operator pauses this rollout because \
                 the spec names something that cannot be rolled out; the message of the \
                 ModelDeployment says what."
            }
        };
        return decided.push_event(true, "ResumeRefused", message.into(), key);
    }
    let goes_back = facts.history.is_going_back();
    if paused && goes_back && facts.history.standing_pause().is_some() {
        let message = "kubectl rollout pause was reverted: it is paused already, and a rollout \
                       that goes back is carried out first.";
        return decided.push_event(true, "PauseRefused", message.into(), key);
    }
    if !has_room_for(facts, verb) {
        let message = "kubectl rollout pause was reverted: the record of this rollout holds no \
                       more pauses; set spec.paused instead.";
        return decided.push_event(true, "PauseRefused", message.into(), key);
    }
    if paused && goes_back {
        let message = "kubectl rollout pause is recorded. The rollout in progress goes back, and \
                       is carried out first: the next one waits for a Resume.";
        decided.push_event(false, "PausedLater", message.into(), key);
    }
    let decision = make_decision(facts, verb, decided_by(KUBECTL, None));
    decided.decision = Some(Decision::Append(decision));
}

#[cfg(test)]
mod tests;
