//! The state word, the reason of its conditions, and its sentence. A sentence says what happened,
//! to which object, why, and what to do; it names what differs: the version, or the template of the
//! same version.

use super::View;
use crate::{
    api::{
        ModelRolloutSpec,
        condition::{MESSAGE_MAX, truncate_text},
        deployment::{Hold, State},
        names,
        reason::{Reason, WaitingOn},
        rollout::{Scope, Trigger},
        version::LifecycleState,
    },
    plan::{
        action::Waiting,
        facts::{
            admit,
            health::{self, Health, Patience, judge_rollout},
            ownership::{Ownership, find_service_ownership},
            problem::Problem,
            version::find_pinned_digest,
        },
        observed::{RefusedWrite, Version},
        refused_writes::{self, describe_refused, find_reason},
        strategy::should_be_paused,
        writes::Outgoing,
    },
};

/// A state, the reason of its conditions, and its sentence.
pub struct Phase {
    /// One word for people.
    pub state: State,
    /// The reason of the conditions.
    pub reason: Reason,
    /// The message in one sentence.
    pub message: String,
    /// The actor that has to change something first.
    waiting_on: WaitingOn,
}

impl Phase {
    fn new(state: State, reason: Reason, message: impl Into<String>) -> Self {
        let waiting_on = reason.waiting_on();
        Self { state, reason, message: message.into(), waiting_on }
    }

    /// The same, waiting for something more special than its reason says.
    fn waiting_on(self, waiting_on: WaitingOn) -> Self {
        Self { waiting_on, ..self }
    }

    /// Returns the actor and the sentence that the plan waits for.
    pub fn into_waiting(self) -> Waiting {
        Waiting { on: self.waiting_on, reason: Some(self.reason), sentence: self.message }
    }
}

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
        phase.message.push_str(
            " The stored revision of the newest rollout is missing or was changed: its template \
             lives on in the Deployment as it is.",
        );
    }
    if let Some(refused) = find_hindering(view).filter(|_| phase.state == State::Serving) {
        phase = Phase::new(State::Waiting, find_reason(refused), describe_refused(refused));
    }
    for refused in view.refused.iter().filter(|r| !r.deciding && !is_about_progress(view, r)) {
        let sentence = describe_refused(refused);
        if !phase.message.contains(&sentence) {
            phase.message = format!("{} {sentence}", phase.message.trim_end());
        }
    }
    if is_down(view, phase.state) {
        phase.message = format!("No pod is available. {}", phase.message);
    }
    phase.message = truncate_text(&phase.message, MESSAGE_MAX);
    phase
}

/// True if a revision should serve and no pod of the Deployment is available: a rollout was
/// complete here before, or the state says that nothing more will happen.
pub fn is_down(view: &View<'_>, state: State) -> bool {
    let facts = view.facts;
    // The pods of a Deployment that is not ours, or that is being deleted, are not counted.
    if facts.main_track().is_some_and(|track| track.deployment().is_none()) {
        return false;
    }
    let is_settled = match state {
        State::Serving | State::Held | State::RolledBack => true,
        State::Paused => view.history.newest().is_some(),
        State::Pending | State::Rolling | State::Waiting | State::Invalid => false,
    };
    let available = facts.deployment().map_or(0, |live| live.status.available_replicas);
    let should_serve = is_settled || view.history.serving().is_some();
    should_serve && facts.wanted.spec.replicas > 0 && available == 0
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

/// A refused write without which nothing is served: the Service is not there.
fn find_hindering<'a>(view: &View<'a>) -> Option<&'a RefusedWrite> {
    let no_service = view.facts.observed.service.is_none();
    let mut refused = view.refused.iter().copied();
    refused.find(|r| no_service && r.write.starts_with("Service "))
}

/// A child's name is taken by something that is not ours.
fn find_conflict(view: &View<'_>) -> Option<Phase> {
    let facts = view.facts;
    let name = &facts.observed.name;
    let service = find_service_ownership(facts.observed, &facts.wanted.uid);
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
    let message = format!(
        "Deployment {name} carries decision {}.{}, and the ModelRollouts that it depends on are \
         missing. Nothing is decided until they are restored; what serves goes on. To roll out \
         what the spec names without them, ask for a Retry.",
        label.rollout, label.decisions
    );
    Some(Phase::new(State::Waiting, Reason::RecordsMissing, message))
}

/// A decision that cannot be recorded.
fn describe_refused_decision(view: &View<'_>) -> Option<Phase> {
    let mut deciding = view.refused.iter().filter(|r| r.deciding);
    let refused = deciding.clone().find(|r| !r.due).or_else(|| deciding.next())?;
    Some(Phase::new(State::Waiting, find_reason(refused), describe_refused(refused)))
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
            if view.hold.is_some() || (same && !is_open) {
                return None;
            }
            admit::admit_desired(facts, desired).err()?
        }
    };
    let (state, reason, mut sentence) = match problem {
        Problem::Invalid(reason, sentence) => (State::Invalid, reason, sentence),
        Problem::Pending(reason, sentence) => (State::Pending, reason, sentence),
    };
    let is_paused = |open: &&ModelRolloutSpec| {
        !facts.should_pause(view.history) && should_be_paused(facts, view.history, open)
    };
    if let Some(open) = view.history.in_progress().filter(is_paused) {
        sentence
            .push_str(&format!(" Until then the rollout of version {} is paused.", open.version));
    }
    Some(Phase::new(state, reason, sentence))
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
        let mut refused = view.refused.iter();
        if let Some(refused) = refused.find(|r| r.write.starts_with("Service ")) {
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
            Health::Failed(failure) => format!(
                " It failed: {}. It is not rolled back while it is paused: ask for an Abort, or \
                 resume it.",
                failure.to_sentence()
            ),
            _ => String::new(),
        };
        let message = format!("{what} is paused{}.{failed}", name_pauser(view));
        return Phase::new(State::Paused, Reason::Paused, message);
    }
    if facts.wanted.spec.replicas == 0 {
        let message = format!(
            "Version {} is set up with 0 replicas: its rollout is complete once a pod of it is \
             available.",
            open.version
        );
        return Phase::new(State::Serving, Reason::ScaledToZero, message);
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
    let serving = view.history.serving();
    if serving.is_some_and(|s| s.content_hash == open.content_hash) {
        return format!(
            "{what} waits: {sentence}. The same content serves, so the cause is its environment: \
             fix it and the rollout continues, or ask for an Abort."
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

fn name_pauser(view: &View<'_>) -> String {
    match view.history.standing_pause() {
        Some(decision) => format!(" by {}", decision.decided_by.name),
        None => " by spec.paused".into(),
    }
}

fn describe_settled(view: &View<'_>) -> Phase {
    let facts = view.facts;
    let Ok(desired) = &facts.desired else {
        return describe_older_crds(view);
    };
    let newest = view.history.newest();
    // An older CRD prunes what is read of a version, and so its digest: what serves is then told by
    // its version alone.
    let older = facts.observed.memory.crds_older;
    let serves = |r: &&ModelRolloutSpec| {
        r.revision_hash == desired.revision_hash || (older && r.version == desired.version)
    };
    if let Some(newest) = newest.filter(serves) {
        return Phase::new(State::Serving, Reason::Serving, describe_serving(view, newest));
    }
    if older {
        return describe_older_crds(view);
    }
    if let Some(hold) = view.hold {
        return describe_hold(view, hold, &desired.version);
    }
    if facts.should_pause(view.history) {
        let message = format!("Version {} waits: paused{}.", desired.version, name_pauser(view));
        return Phase::new(State::Paused, Reason::Paused, message);
    }
    let message = format!("Version {} is about to be rolled out.", desired.version);
    Phase::new(State::Rolling, Reason::Rolling, message)
}

fn describe_older_crds(view: &View<'_>) -> Phase {
    let serves = view.history.serving().map(|s| format!("Serving version {}. ", s.version));
    let message = format!(
        "{}The CRDs are older than the operator, and nothing new is rolled out: apply the CRDs of \
         this release.",
        serves.unwrap_or_default()
    );
    Phase::new(State::Pending, Reason::CRDsOlder, message)
}

fn describe_hold(view: &View<'_>, hold: &Hold, desired: &str) -> Phase {
    let newest = view.history.newest();
    let same = newest.is_some_and(|r| Some(&r.version) == hold.rejected.version.as_ref());
    let what = match (&hold.rejected.version, hold.scope) {
        (Some(version), _) if same => format!("the changed template of version {version}"),
        (Some(version), Scope::Version) => format!("version {version}"),
        (Some(version), _) => format!("the template of version {version}"),
        (None, _) => format!("rollout {}", hold.rejected.rollout),
    };
    let why = hold.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    let now =
        newest.map_or("Nothing serves".to_owned(), |r| format!("Serving version {}", r.version));
    if hold.trigger.is_requested_by_person() {
        let until = match hold.scope {
            Scope::Version => format!("Version {desired} is not served again until a Retry."),
            Scope::Content | Scope::Revision => {
                "That template is not served again until it is changed, or a Retry.".to_owned()
            }
        };
        let by = &hold.decided_by;
        let message = format!("{now}: {by} went back from {what}{why}. {until}");
        return Phase::new(State::Held, Reason::Held, message);
    }
    if hold.trigger == Trigger::Refused {
        let message = format!("{now}: {what} was not rolled out{why}. Correct it in the spec.");
        return Phase::new(State::Invalid, Reason::Refused, message);
    }
    let failed = match &hold.rejected.version {
        Some(version) if !same => format!("version {version}"),
        _ => what,
    };
    let message = format!(
        "{now}: {failed} failed{why}. Correct it, name another version, or ask for a Retry."
    );
    Phase::new(State::RolledBack, Reason::RolledBack, message)
}

/// The serving version, and whatever a person should know about it.
fn describe_serving(view: &View<'_>, newest: &ModelRolloutSpec) -> String {
    let observed = view.facts.observed;
    let mut sentence = format!("Serving version {}.", newest.version);
    match observed.find_version_of(newest) {
        None => sentence.push_str(&format!(
            " Its ModelVersion {} was deleted.",
            names::version_name(&newest.model, &newest.version)
        )),
        Some(version) => sentence.push_str(&describe_lifecycle(view, version, newest)),
    }
    if let Some(twin) = find_rejected_twin(view, newest) {
        sentence.push_str(&format!(" Its bytes are those of version {twin}, which was rejected."));
    }
    if view.facts.should_pause(view.history) {
        sentence.push_str(&format!(" Paused{}: the next change waits.", name_pauser(view)));
    }
    if let Some(name) = observed.autoscalers.first() {
        sentence.push_str(&format!(
            " HorizontalPodAutoscaler {name} scales the Deployment: let it scale ModelDeployment \
             {} instead.",
            observed.name
        ));
    }
    sentence
}

fn describe_lifecycle(view: &View<'_>, version: &Version, newest: &ModelRolloutSpec) -> String {
    let lifecycle = version.lifecycle.as_ref().map(|l| (l.state, l.reason.as_deref()));
    let word = match lifecycle {
        Some((LifecycleState::Yanked, _)) => "yanked",
        Some((LifecycleState::Deprecated, _)) => "deprecated",
        _ if view.facts.observed.memory.crds_older => return String::new(),
        _ if version.record_digest != newest.record_digest => {
            return " Its ModelVersion has another record now.".into();
        }
        _ => return String::new(),
    };
    let reason = lifecycle.and_then(|(_, reason)| reason);
    format!(" The version is {word}{}.", reason.map(|r| format!(": {r}")).unwrap_or_default())
}

/// A rejected version with the same pinned image and artifact under another number.
fn find_rejected_twin(view: &View<'_>, newest: &ModelRolloutSpec) -> Option<String> {
    let versions = &view.facts.observed.versions;
    let find = |digest: &str| versions.iter().find(|v| v.record_digest == digest);
    let bytes = |v: &Version| {
        // An image by tag says nothing about its bytes.
        let pinned = |i: &&String| i.contains("@sha256:");
        let image = match &v.image {
            Some(image) => Some(Some(image).filter(pinned)?.clone()),
            None => None,
        };
        let artifact = match &v.artifact {
            Some(_) => Some(find_pinned_digest(v)?.to_owned()),
            None => None,
        };
        (image.is_some() || artifact.is_some()).then_some((image, artifact))
    };
    let mine = bytes(find(&newest.record_digest)?)?;
    let rejections = view.history.list_rejections();
    let mut twins = rejections
        .iter()
        .filter_map(|(r, _)| find(&view.history.get(r.rollout)?.record_digest))
        .filter(|v| v.record_digest != newest.record_digest && bytes(v).as_ref() == Some(&mine));
    twins.next().map(|v| v.version.clone())
}
