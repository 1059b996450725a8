//! The state word, the reason of its conditions, and its sentence. A sentence says what happened,
//! to which object, why, and what to do; it names what differs: the version, or the template of the
//! same version.

use serde_json::{Value, json};

use super::{
    View,
    settled::{describe_settled, explain_hold},
    state::{Phase, name_pauser},
};
use crate::{
    api::{
        ModelRolloutSpec,
        condition::{MESSAGE_MAX, truncate_text},
        deployment::{Hold, State},
        names::record_name,
        reason::{Reason, WaitingOn},
        rollout::Trigger,
    },
    plan::{
        decide::trouble::find_verdict,
        facts::{
            admit,
            health::{self, Health, Patience, judge_rollout},
            ownership::{Ownership, find_service_ownership},
            problem::Problem,
        },
        observed::RefusedWrite,
        refused_writes::{self, describe_refused, find_reason},
        strategy::should_be_paused,
        writes::Outgoing,
    },
};

/// Finds the state, the weightiest first.
pub fn find_phase(view: &View<'_>, revision_lost: bool) -> Phase {
    let mut phase = find_conflict(view)
        .or_else(|| describe_missing_records(view))
        .or_else(|| describe_refused_decision(view))
        .or_else(|| describe_problem(view))
        .unwrap_or_else(|| match view.history.in_progress() {
            Some(open) => describe_progress(view, open),
            None => describe_settled(view),
        });
    if revision_lost {
        phase.message.push_str(describe_lost(view));
        if phase.state == State::Rolling && find_gone(view).is_some() {
            phase = Phase::new(State::Waiting, Reason::Unavailable, phase.message)
                .waiting_on(WaitingOn::SpecAuthor);
        }
    }
    if let Some(refused) = find_hindering(view) {
        phase = describe_unreachable(view, phase, refused);
    }
    for refused in view.refused.iter().filter(|r| !r.deciding && !is_about_progress(view, r)) {
        let sentence = describe_refused(refused);
        if !phase.message.contains(&sentence) {
            phase.message = format!("{} {sentence}", phase.message.trim_end());
        }
    }
    if is_down(view, phase.state) {
        // The sentence of a rollout in progress names its own trouble.
        let is_settled = view.history.in_progress().is_none();
        let cause = health::find_cause_of_outage(view.facts.observed).filter(|_| is_settled);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        phase.message = format!("No pod is available{cause}. {}", phase.message);
    }
    if let Some(stray) = find_stray(view) {
        phase.message = format!("{} {stray}", phase.message.trim_end());
    }
    phase.message = truncate_text(&phase.message, MESSAGE_MAX);
    phase
}

/// Describes a pod that people took out of its ReplicaSet, which serves on beside all rollouts.
fn find_stray(view: &View<'_>) -> Option<String> {
    view.facts.deployment()?;
    let stray = health::list_strays(view.facts.observed).next()?;
    Some(format!(
        "Pod {} belongs to no ReplicaSet of the Deployment: no rollout replaces it, and clients \
         may reach it until it is deleted.",
        stray.name
    ))
}

/// The newest rollout, if neither a stored revision nor a Deployment has its template.
fn find_gone<'a>(view: &View<'a>) -> Option<&'a ModelRolloutSpec> {
    view.history.newest().filter(|newest| view.facts.is_nowhere(newest))
}

/// Describes the stored revision of the newest rollout, which is missing.
fn describe_lost(view: &View<'_>) -> &'static str {
    let gone = find_gone(view);
    let named = view.facts.desired.as_ref().map(|desired| &desired.revision_hash);
    match gone {
        // It is rendered again, or the message says already what is missing for that.
        Some(newest) if named == Ok(&newest.revision_hash) => "",
        Some(_) => {
            " The stored revision of the newest rollout is missing or was changed, and its \
             Deployment is gone: it serves again once the spec names its version."
        }
        None => {
            " The stored revision of the newest rollout is missing or was changed: its template \
             lives on in the Deployment as it is."
        }
    }
}

/// True if a revision should serve and no pod of the Deployment is available: a rollout was
/// complete here before, or the state says that nothing more will happen.
pub fn is_down(view: &View<'_>, state: State) -> bool {
    let facts = view.facts;
    if facts.has_foreign_deployment() {
        return false;
    }
    let is_settled = match state {
        State::Serving | State::Held | State::RolledBack => true,
        State::Paused => view.history.newest().is_some(),
        State::Pending | State::Rolling | State::Waiting | State::Invalid => false,
    };
    let should_serve = is_settled || view.history.serving().is_some();
    should_serve && facts.wanted.spec.replicas > 0 && !has_available_pods(view)
}

fn has_available_pods(view: &View<'_>) -> bool {
    view.facts.deployment().is_some_and(|live| live.status.available_replicas > 0)
}

/// Tells people of each refused write, once.
pub fn tell_refused(view: &View<'_>, out: &mut Outgoing) {
    for refused in view.refused.iter().filter(|r| !is_about_progress(view, r)) {
        let key = format!("refused-{}-{}", view.facts.wanted.generation, refused.write);
        out.push_event(true, "Refused", describe_refused(refused), key);
    }
}

/// True if a refused write is the one that carries out the rollout in progress, because the
/// sentence of that rollout reports it.
fn is_about_progress(view: &View<'_>, refused: &RefusedWrite) -> bool {
    view.history.in_progress().is_some() && refused.write.starts_with("decision of ")
}

/// The refused write of the Service.
fn find_refused_service<'a>(view: &View<'a>) -> Option<&'a RefusedWrite> {
    view.refused.iter().copied().find(|r| r.write.starts_with("Service "))
}

/// A refused write without which clients reach nothing: the Service is not there, or it has the
/// port of other pods.
fn find_hindering<'a>(view: &View<'a>) -> Option<&'a RefusedWrite> {
    let refused = find_refused_service(view)?;
    let Some(service) = &view.facts.observed.service else { return Some(refused) };
    let port = view.facts.find_port(view.history.newest()?)?;
    let leads_to = |have: &Value| {
        have["targetPort"] == json!(port.name) || have["targetPort"] == json!(port.number)
    };
    (!service.ports.iter().any(leads_to)).then_some(refused)
}

/// A settled state while clients reach nothing: it waits for the write that was refused.
fn describe_unreachable(view: &View<'_>, phase: Phase, refused: &RefusedWrite) -> Phase {
    let sentence = describe_refused(refused);
    let message = match phase.state {
        State::Serving if view.facts.observed.service.is_none() => sentence,
        State::Serving => format!("Clients reach no pod. {sentence}"),
        State::Held | State::RolledBack => {
            format!("Clients reach no pod. {sentence} {}", phase.message)
        }
        State::Pending | State::Rolling | State::Paused | State::Waiting | State::Invalid => {
            return phase;
        }
    };
    Phase::new(State::Waiting, find_reason(refused), message)
}

/// A child's name is taken by something that is not ours.
fn find_conflict(view: &View<'_>) -> Option<Phase> {
    let facts = view.facts;
    let name = &facts.observed.name;
    let service = find_service_ownership(facts.observed, facts.wanted);
    let service = service.map(|ownership| ("Service", ownership));
    let deployment = facts.main_track().map(|t| ("Deployment", t.ownership.clone()));
    deployment.into_iter().chain(service).find_map(|(kind, ownership)| match ownership {
        Ownership::OwnedByOther(why) => {
            let message = format!(
                "{kind} {name} exists and is not ours ({why}): delete or rename it, or give the \
                 ModelDeployment another name. It is left as it is."
            );
            Some(Phase::new(State::Invalid, Reason::Conflict, message))
        }
        Ownership::Terminating if kind == "Deployment" => Some(Phase::new(
            State::Rolling,
            Reason::WaitingForDeletion,
            format!("Waiting until the old {kind} {name} is deleted."),
        )),
        _ => None,
    })
}

fn describe_missing_records(view: &View<'_>) -> Option<Phase> {
    let label = view.facts.missing.filter(|_| view.decided.decision.is_none())?;
    let name = &view.facts.observed.name;
    let missing = view.facts.list_missing_records(label);
    let missing: Vec<String> = missing.iter().map(|n| record_name(name, *n)).collect();
    let message = format!(
        "Deployment {name} carries decision {}.{}, and records that it depends on are missing \
         (ModelRollouts {}). Nothing is decided until they are restored, and what serves keeps \
         serving. To roll out what the spec names without them, ask for a Retry.",
        label.rollout,
        label.decisions,
        missing.join(", ")
    );
    Some(Phase::new(State::Waiting, Reason::RecordsMissing, message))
}

/// A decision that cannot be recorded.
fn describe_refused_decision(view: &View<'_>) -> Option<Phase> {
    let mut deciding = view.refused.iter().filter(|r| r.deciding);
    let refused = deciding.clone().find(|r| !r.due).or_else(|| deciding.next())?;
    let open = view.history.in_progress();
    let verdict = open.and_then(|open| Some((open, find_verdict(view.facts, open)?)));
    let left = verdict.map(|(open, verdict)| {
        format!("Version {} has to be left: {}. ", open.version, verdict.failure.to_sentence())
    });
    let message = format!("{}{}", left.unwrap_or_default(), describe_refused(refused));
    Some(Phase::new(State::Waiting, find_reason(refused), message))
}

/// The spec cannot be carried out, or not yet; the earlier rollout continues.
fn describe_problem(view: &View<'_>) -> Option<Phase> {
    let facts = view.facts;
    if facts.observed.memory.crds_older {
        return None;
    }
    let newest = view.history.newest();
    let problem = match (&facts.desired, &view.decided.problem) {
        (Err(problem), _) | (_, Some(problem)) => problem.clone(),
        (Ok(desired), None) => {
            let is_open = view.history.in_progress().is_some_and(|r| !r.goes_back());
            let same = newest.is_some_and(|r| r.revision_hash == desired.revision_hash);
            if let Some(hold) = view.hold {
                return describe_held_rollout(view, hold, &desired.version);
            }
            if same && !is_open {
                return None;
            }
            admit::admit_desired(facts, desired).err()?
        }
    };
    let (state, reason, mut sentence) = match problem {
        Problem::Invalid(reason, sentence) => (State::Invalid, reason, sentence),
        Problem::Pending(reason, sentence) => (State::Pending, reason, sentence),
    };
    if let Some(open) = find_paused_by_operator(view) {
        sentence
            .push_str(&format!(" Until then the rollout of version {} is paused.", open.version));
    } else if let Some(open) = view.history.in_progress().filter(|r| r.goes_back()) {
        sentence = format!("{} {sentence}", describe_progress(view, open).message);
    } else if let Some(serving) = view.history.serving().filter(|_| has_available_pods(view)) {
        sentence.push_str(&format!(" Version {} continues to serve.", serving.version));
    }
    Some(Phase::new(state, reason, sentence))
}

/// The rollout in progress, where the operator itself paused it.
fn find_paused_by_operator<'a>(view: &View<'a>) -> Option<&'a ModelRolloutSpec> {
    let facts = view.facts;
    let is_paused = |open: &&ModelRolloutSpec| {
        !facts.should_pause(view.history) && should_be_paused(facts, view.history, open)
    };
    view.history.in_progress().filter(is_paused)
}

/// The spec names something that is held, and the rollout in progress cannot be left for anything.
fn describe_held_rollout(view: &View<'_>, hold: &Hold, desired: &str) -> Option<Phase> {
    let open = find_paused_by_operator(view)?;
    let message = format!(
        "The rollout of version {} is paused, because the spec names version {desired} and there \
         is nothing to go back to: {}",
        open.version,
        explain_hold(view, hold, desired)
    );
    Some(Phase::new(State::Waiting, Reason::Held, message))
}

fn describe_progress(view: &View<'_>, open: &ModelRolloutSpec) -> Phase {
    let facts = view.facts;
    let what = name_progress(view, open);
    let quoted = view.decided.failure.as_ref().map(health::Failure::to_sentence);
    let reason = quoted.or_else(|| open.decided_by.reason.clone());
    let why = reason.filter(|_| open.goes_back()).map(|r| format!(": {r}")).unwrap_or_default();
    if let Some(refused) = refused_writes::find_decision(facts.observed, open.number) {
        let sentence = format!("{what}: the API server refused it: {}", refused.message);
        let state = if refused.forbidden { State::Waiting } else { State::Invalid };
        return Phase::new(state, find_reason(refused), sentence);
    }
    let live = view.find_carried_out(open);
    let Some(live) = live else {
        if let Some(refused) = find_refused_service(view) {
            let sentence = format!("{what} waits. {}", describe_refused(refused));
            return Phase::new(State::Waiting, find_reason(refused), sentence);
        }
        let phase = Phase::new(State::Rolling, Reason::Rolling, format!("{what}{why}."));
        return phase.waiting_on(WaitingOn::Operator);
    };
    let patience = Patience::new(&facts.wanted.spec, facts.observed, open, facts.now);
    let health = judge_rollout(facts.observed, live, open, patience);
    if live.spec.paused && facts.should_pause(view.history) {
        let failed = match &health {
            Health::Failed(failure) => {
                format!(" It failed: {}. {}", failure.to_sentence(), advise_paused(view))
            }
            _ => String::new(),
        };
        let waits = describe_next(view, open);
        let message = format!("{what} is paused{}.{failed}{waits}", name_pauser(view));
        return Phase::new(State::Paused, Reason::Paused, message);
    }
    if facts.wanted.spec.replicas == 0 {
        let hold = view.hold.zip(facts.desired.as_ref().ok());
        let held = hold.map(|(hold, desired)| explain_hold(view, hold, &desired.version));
        let message = format!(
            "Version {} is set up with 0 replicas: its rollout is complete once a pod of it is \
             available{}.",
            open.version,
            held.map(|held| format!("; {}", held.trim_end_matches('.'))).unwrap_or_default()
        );
        return Phase::new(State::Serving, Reason::ScaledToZero, message);
    }
    let promotion = refused_writes::find_promotion(facts.observed, open.number);
    if let Some(refused) = promotion.filter(|r| view.refused.contains(r)) {
        let sentence = format!(
            "Version {} has its pods, but its record cannot say that it serves. {}",
            open.version,
            describe_refused(refused)
        );
        return Phase::new(State::Waiting, find_reason(refused), sentence);
    }
    match health {
        Health::Failed(failure) => {
            Phase::new(State::Waiting, Reason::Failed, explain_failure(view, open, &what, &failure))
        }
        Health::Blocked(sentence) if health::progress_deadline_exceeded(live) => Phase::new(
            State::Waiting,
            Reason::ProgressDeadlineExceeded,
            format!("{what} waits: {sentence}."),
        ),
        Health::Blocked(sentence) => {
            Phase::new(State::Rolling, Reason::Rolling, format!("{what} waits: {sentence}."))
                .waiting_on(WaitingOn::Environment)
        }
        Health::Complete | Health::Progressing => {
            Phase::new(State::Rolling, Reason::Rolling, format!("{what}{why}."))
        }
    }
}

/// Describes what the spec names beside a paused rollout of something else.
fn describe_next(view: &View<'_>, open: &ModelRolloutSpec) -> String {
    match &view.facts.desired {
        Ok(desired) if desired.version != open.version && view.hold.is_none() => {
            format!(" Version {}, which the spec names now, waits too.", desired.version)
        }
        _ => String::new(),
    }
}

/// Advises what to do about a failure while a person has paused.
fn advise_paused(view: &View<'_>) -> &'static str {
    match view.facts.find_rollback_target() {
        Ok(None) => {
            "There is no earlier version to go back to: fix the cause, or resume it and name \
             another version."
        }
        Ok(Some(_)) | Err(_) => {
            "It is not rolled back while it is paused: ask for an Abort, or resume it."
        }
    }
}

/// Names what a rollout changes: the version, the template of the same version, or that the same is
/// rolled out again, and why.
fn name_progress(view: &View<'_>, open: &ModelRolloutSpec) -> String {
    if open.goes_back() {
        return name_return(view, open);
    }
    let (version, by) = (&open.version, &open.decided_by.name);
    let what = match view.history.serving() {
        Some(serving) if serving.revision_hash == open.revision_hash => {
            return match open.trigger {
                Trigger::Restart if serving.revision_name != open.revision_name => {
                    format!("Restarting version {version} with its template rendered again")
                }
                Trigger::Restart => format!("Restarting version {version}"),
                Trigger::Retry => format!("Rolling out version {version} again (Retry by {by})"),
                _ => format!("Rolling out version {version} again"),
            };
        }
        Some(serving) if serving.record_digest == open.record_digest => {
            format!("the changed template of version {version}")
        }
        _ => format!("version {version}"),
    };
    let why = if open.trigger == Trigger::Restart {
        format!(" (Restart by {by})")
    } else {
        String::new()
    };
    format!("Rolling out {what}{why}")
}

/// Names what a rollout that goes back changes, compared with the rollout that it leaves.
fn name_return(view: &View<'_>, open: &ModelRolloutSpec) -> String {
    let version = &open.version;
    let left = open.previous_rollout.and_then(|number| view.history.get(number));
    match left {
        Some(_) if open.trigger == Trigger::Restart => {
            format!("Going back to version {version} (Restart by {})", open.decided_by.name)
        }
        Some(left) if left.revision_hash == open.revision_hash => {
            format!("Going back to version {version} as it served before")
        }
        Some(left) if left.record_digest == open.record_digest => {
            format!("Going back to the earlier template of version {version}")
        }
        _ => format!("Going back to version {version}"),
    }
}

/// A failure that nothing is gone back from, and what to do.
fn explain_failure(
    view: &View<'_>,
    open: &ModelRolloutSpec,
    what: &str,
    failure: &health::Failure,
) -> String {
    let sentence = failure.to_sentence();
    if view.facts.should_pause(view.history) && !open.goes_back() {
        return format!("{what}: {sentence}. {}", advise_paused(view));
    }
    let same = |r: &ModelRolloutSpec| r.content_hash == open.content_hash;
    if view.history.serving().is_some_and(same) {
        return format!(
            "{what} waits: {sentence}. The same content serves, so the cause is its environment: \
             fix it and the rollout continues, or ask for an Abort."
        );
    }
    if !open.goes_back() && view.facts.has_serving_content(open) {
        return format!(
            "{what} waits: {sentence}. Version {} was gone back to, so its rollout is not left \
             automatically: fix the cause, or name another version.",
            open.version
        );
    }
    if open.goes_back() {
        return format!(
            "{what}: {sentence}. A rollout that goes back is not left automatically: fix the \
             cause, or name another version."
        );
    }
    format!(
        "{what}: {sentence}. There is no earlier version to go back to: fix the cause, or name \
         another version."
    )
}
