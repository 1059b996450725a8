//! What is said: one state word, one sentence, and conditions that tell tools the truth. The table
//! of the README as code.

use jiff::Timestamp;

use super::{
    blame::{self, Ownership},
    blocked, children,
    content::Problem,
    decide,
    draft::Draft,
    fetcher,
    health::{self, Health},
};
use crate::api::{
    ModelDeploymentStatus, ModelRolloutSpec,
    condition::{Condition, MESSAGE_MAX, Time, bounded, condition, holds},
    deployment::{Desired, HistoryEntry, Hold, Rejected, Revision, State},
    names,
    version::LifecycleState,
};

/// How many rollouts the status shows.
const HISTORY: usize = 5;
/// How seldom counters alone are written, in seconds.
const COUNTER_SECONDS: i64 = 30;

/// A state, the reason of its conditions, and its sentence.
struct Phase {
    state: State,
    reason: String,
    message: String,
}

impl Phase {
    fn new(state: State, reason: &str, message: impl Into<String>) -> Self {
        Self { state, reason: reason.into(), message: message.into() }
    }
}

/// The status to write, if it differs from what is written, and the sentence of what goes on.
#[must_use]
pub fn status(draft: &mut Draft<'_>) -> (Option<ModelDeploymentStatus>, String) {
    let phase = phase(draft);
    let old = draft.wanted.status.clone().unwrap_or_default();
    let new = build(draft, &phase, &old);
    let why = phase.message;
    if new == old {
        return (None, why);
    }
    if without_counters(&new) == without_counters(&old)
        && let Some(written) = draft.seen.memory.status_written
    {
        let left = written.as_second() + COUNTER_SECONDS - draft.now.as_second();
        if left > 0 {
            draft.again_in(left);
            return (None, why);
        }
    }
    (Some(new), why)
}

/// A status without the numbers that change with every pod.
fn without_counters(status: &ModelDeploymentStatus) -> ModelDeploymentStatus {
    let still = |r: &Revision| Revision { replicas: 0, ready: 0, ..r.clone() };
    ModelDeploymentStatus {
        replicas: 0,
        serving: status.serving.as_ref().map(still),
        candidate: status.candidate.as_ref().map(still),
        ..status.clone()
    }
}

fn phase(draft: &Draft<'_>) -> Phase {
    let phase =
        conflict(draft).or_else(|| unwanted(draft)).unwrap_or_else(|| match draft.history.open() {
            Some(open) => going_on(draft, open),
            None => settled(draft),
        });
    match draft.refused {
        Some(refused) if refused.deciding || phase.state == State::Serving => {
            let reason = if refused.forbidden { "Forbidden" } else { "Refused" };
            Phase::new(State::Waiting, reason, blocked::sentence(refused))
        }
        _ => phase,
    }
}

/// A child's name is taken by something that is not ours.
fn conflict(draft: &Draft<'_>) -> Option<Phase> {
    let name = &draft.seen.name;
    if draft.lost {
        return Some(Phase::new(
            State::Invalid,
            "ContentLost",
            "What the newest rollout serves is stored nowhere any more: name another version, or undo to a kept rollout.",
        ));
    }
    let service = draft.seen.service.as_ref().map(|s| {
        let selects = s.selector == children::selector(name);
        ("Service", blame::ownership(&s.meta, &draft.wanted.uid, name, selects))
    });
    let workload = draft.ownership.clone().map(|o| ("Deployment", o));
    workload.into_iter().chain(service).find_map(|(kind, ownership)| match ownership {
        Ownership::Foreign(why) => {
            let message = format!("{kind} {name} exists and is not ours ({why}): delete or rename it, or give the ModelDeployment another name. It is left as it is.");
            Some(Phase::new(State::Invalid, "Conflict", message))
        }
        Ownership::Leaving if kind == "Deployment" => {
            Some(Phase::new(State::Rolling, "WaitingForDeletion", format!("Waits until the old {kind} {name} is gone.")))
        }
        _ => None,
    })
}

/// What the spec names cannot be carried out, or is not there yet; while what was rolled out before
/// goes on.
fn unwanted(draft: &Draft<'_>) -> Option<Phase> {
    match draft.desired.as_ref().err()? {
        Problem::Invalid(reason, sentence) => {
            Some(Phase::new(State::Invalid, reason, sentence.clone()))
        }
        Problem::Pending(reason, sentence) => {
            Some(Phase::new(State::Pending, reason, sentence.clone()))
        }
    }
}

fn going_on(draft: &Draft<'_>, open: &ModelRolloutSpec) -> Phase {
    let what = match open.trigger {
        t if t.goes_back() => format!("Going back to version {}", open.version),
        crate::api::rollout::Trigger::Restart => format!("Restarting version {}", open.version),
        _ => format!("Rolling out version {}", open.version),
    };
    let why = open
        .decided_by
        .reason
        .as_ref()
        .filter(|_| open.trigger.goes_back())
        .map(|r| format!(": {r}"))
        .unwrap_or_default();
    if let Some(refusal) = draft.seen.memory.refusal.as_ref().filter(|r| r.rollout == open.number) {
        let message = format!("{what}: the API server refused it: {}", refusal.message);
        return if refusal.template {
            Phase::new(State::Invalid, "Refused", message)
        } else {
            Phase::new(State::Waiting, "Forbidden", message)
        };
    }
    let Some(workload) = draft.carried() else {
        return Phase::new(State::Rolling, "Rolling", format!("{what}{why}."));
    };
    if workload.spec.paused && draft.pause_wanted() {
        return Phase::new(
            State::Paused,
            "Paused",
            format!("{what} is paused{}.", paused_by(draft)),
        );
    }
    match health::health(draft.seen, workload, open) {
        Health::Failed(sentence) => Phase::new(
            State::Waiting,
            "Failed",
            format!(
                "{what}{why}: {sentence}. There is nothing left to go back to by itself; it waits to heal."
            ),
        ),
        Health::Held(sentence) if health::overdue(workload) => Phase::new(
            State::Waiting,
            "ProgressDeadlineExceeded",
            format!("{what} waits: {sentence}."),
        ),
        Health::Held(sentence) => {
            Phase::new(State::Rolling, "Rolling", format!("{what} waits: {sentence}."))
        }
        Health::Complete | Health::Progressing => {
            Phase::new(State::Rolling, "Rolling", format!("{what}{why}."))
        }
    }
}

fn paused_by(draft: &Draft<'_>) -> String {
    match draft.history.pause() {
        Some(decision) => format!(" by {}", decision.decided_by.name),
        None => " by spec.paused".into(),
    }
}

fn settled(draft: &Draft<'_>) -> Phase {
    let Ok(desired) = &draft.desired else { return Phase::new(State::Pending, "Pending", "") };
    let serves = draft.history.newest();
    // An older CRD prunes what is read of a version, and so its digest: what serves is then told by
    // its version alone.
    let older = draft.seen.memory.crds_older;
    if let Some(newest) = serves.filter(|r| {
        r.revision_hash == desired.revision_hash || (older && r.version == desired.version)
    }) {
        return Phase::new(State::Serving, "Serving", serving_sentence(draft, newest));
    }
    if older {
        return Phase::new(
            State::Pending,
            "CRDsOlder",
            "The CRDs are older than the operator, and no rollout begins: apply the CRDs of this release.",
        );
    }
    if let Some(hold) = hold(draft) {
        let what = match hold.rejected.version {
            Some(version) => format!("version {version}"),
            None => format!("rollout {}", hold.rejected.rollout),
        };
        let why = hold.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
        let now = serves
            .map_or("Nothing serves".to_owned(), |r| format!("Serving version {}", r.version));
        return if hold.trigger.by_person() {
            Phase::new(
                State::Held,
                "Held",
                format!(
                    "{now}: {} went back from {what}{why}. Version {} is not served again until a Retry.",
                    hold.decided_by, desired.version
                ),
            )
        } else {
            Phase::new(
                State::RolledBack,
                "RolledBack",
                format!(
                    "{now}: {what} failed{why}. Correct it, name another version, or ask for a Retry."
                ),
            )
        };
    }
    if draft.pause_wanted() {
        return Phase::new(
            State::Paused,
            "Paused",
            format!("Version {} waits: paused{}.", desired.version, paused_by(draft)),
        );
    }
    Phase::new(
        State::Rolling,
        "Rolling",
        format!("Version {} is about to be rolled out.", desired.version),
    )
}

/// What serves, and whatever a person should know about it.
fn serving_sentence(draft: &Draft<'_>, newest: &ModelRolloutSpec) -> String {
    let mut sentence = format!("Serving version {}.", newest.version);
    let version =
        draft.seen.versions.iter().find(|v| v.model == newest.model && v.version == newest.version);
    match version {
        None => sentence.push_str(&format!(
            " Its ModelVersion {} was deleted.",
            names::version_name(&newest.model, &newest.version)
        )),
        Some(v) => match v.lifecycle.as_ref().map(|l| (l.state, l.reason.as_deref())) {
            Some((state @ (LifecycleState::Yanked | LifecycleState::Deprecated), reason)) => {
                let word = if state == LifecycleState::Yanked { "yanked" } else { "deprecated" };
                sentence.push_str(&format!(
                    " The version is {word}{}.",
                    reason.map(|r| format!(": {r}")).unwrap_or_default()
                ));
            }
            _ if v.record_digest != newest.record_digest => {
                sentence.push_str(" Its ModelVersion is another record now.")
            }
            _ => {}
        },
    }
    if let Some(twin) = rejected_twin(draft, newest) {
        sentence.push_str(&format!(" Its bytes are those of version {twin}, which was rejected."));
    }
    if draft.pause_wanted() {
        sentence.push_str(&format!(" Paused{}: the next change waits.", paused_by(draft)));
    }
    if let Some(name) = draft.seen.autoscalers.first() {
        sentence.push_str(&format!(
            " HorizontalPodAutoscaler {name} scales the Deployment: let it scale ModelDeployment {} instead.",
            draft.seen.name
        ));
    }
    sentence
}

/// A rejected version with the same pinned image and artifact under another number.
fn rejected_twin(draft: &Draft<'_>, newest: &ModelRolloutSpec) -> Option<String> {
    let find = |digest: &str| draft.seen.versions.iter().find(|v| v.record_digest == digest);
    let bytes = |v: &super::observed::Version| {
        let image = v.image.clone().filter(|i| i.contains("@sha256:"));
        let artifact = v
            .artifact
            .as_ref()
            .map(|a| fetcher::recorded(a).or(v.pin.as_deref()).map(str::to_owned));
        (image.is_some() || artifact.as_ref().is_some_and(Option::is_some))
            .then_some((image, artifact))
    };
    let mine = bytes(find(&newest.record_digest)?)?;
    let rejections = draft.history.rejections();
    let twins =
        rejections.iter().filter_map(|(r, _)| find(&draft.history.get(r.rollout)?.record_digest));
    let mut others = twins
        .filter(|v| v.record_digest != newest.record_digest && bytes(v).as_ref() == Some(&mine));
    others.next().map(|v| v.version.clone())
}

/// What the spec names and is not served, and why.
fn hold(draft: &Draft<'_>) -> Option<Hold> {
    let desired = draft.desired.as_ref().ok()?;
    if draft.history.newest().is_some_and(|r| r.revision_hash == desired.revision_hash) {
        return None;
    }
    let (rejection, by) = draft.history.rejecting(desired)?;
    let rejected = draft.history.get(rejection.rollout);
    Some(Hold {
        rejected: Rejected {
            version: rejected.map(|r| r.version.clone()),
            rollout: rejection.rollout,
        },
        scope: rejection.scope,
        trigger: by.trigger,
        reason: by.decided_by.reason.clone(),
        decided_by: by.decided_by.name.clone(),
        at: by.start_time.clone(),
    })
}

fn build(
    draft: &mut Draft<'_>,
    phase: &Phase,
    old: &ModelDeploymentStatus,
) -> ModelDeploymentStatus {
    let workload = draft.workload();
    let conditions = conditions(draft, phase, &old.conditions);
    let open = draft.history.open();
    let serving = draft.history.serving();
    let hold = hold(draft);
    ModelDeploymentStatus {
        observed_generation: Some(draft.wanted.generation),
        state: Some(phase.state),
        message: Some(bounded(&phase.message, MESSAGE_MAX)),
        replicas: workload.map_or(0, |w| w.status.replicas),
        selector: Some(format!(
            "{}={},{}={}",
            names::MODEL_DEPLOYMENT,
            draft.seen.name,
            names::TRACK,
            names::TRACK_MAIN
        )),
        conditions,
        strategy: Some(crate::api::rollout::StrategyKind::RollingUpdate),
        rollout: draft.history.last().map(|r| r.spec.number),
        desired: draft.desired.as_ref().ok().map(|d| Desired {
            version: d.version.clone(),
            record_digest: d.record_digest.clone(),
            revision_hash: names::hash16(&d.revision_hash).into(),
        }),
        serving: serving.map(|r| revision(draft, r, r.served_from.as_ref(), open.is_some())),
        candidate: open.map(|r| revision(draft, r, Some(&r.start_time), false)),
        hold,
        history: draft
            .history
            .records()
            .iter()
            .rev()
            .take(HISTORY)
            .map(|r| entry(&r.spec))
            .collect(),
    }
}

fn revision(
    draft: &Draft<'_>,
    record: &ModelRolloutSpec,
    since: Option<&Time>,
    beside: bool,
) -> Revision {
    let ready = health::pods_of(draft.seen, record).filter(|p| p.ready && !p.deleting).count();
    let status = draft.workload().map(|w| w.status.clone()).unwrap_or_default();
    let replicas =
        if beside { status.replicas - status.updated_replicas } else { status.updated_replicas };
    Revision {
        version: record.version.clone(),
        record_digest: record.record_digest.clone(),
        revision_hash: names::hash16(&record.revision_hash).into(),
        rollout: record.number,
        deployment: record.deployment_name.clone(),
        replicas: replicas.max(0),
        ready: i32::try_from(ready).unwrap_or(i32::MAX),
        since: since.cloned().unwrap_or(Time(draft.now)),
    }
}

fn entry(record: &ModelRolloutSpec) -> HistoryEntry {
    HistoryEntry {
        rollout: record.number,
        version: record.version.clone(),
        previous_rollout: record.previous_rollout,
        trigger: record.trigger,
        outcome: record.outcome,
        start_time: record.start_time.clone(),
        end_time: record.end_time.clone(),
    }
}

fn conditions(draft: &mut Draft<'_>, phase: &Phase, old: &[Condition]) -> Vec<Condition> {
    let (generation, now, deadline) =
        (draft.wanted.generation, draft.now, i64::from(draft.wanted.spec.progress_deadline()));
    let set = |kind: &str, is: bool, reason: &str, message: &str| {
        condition(old, kind, is, reason, message, generation, now)
    };
    let (available, enough) =
        draft.workload().map_or((0, false), |w| (w.status.available_replicas, health::enough(w)));
    let wants = draft.wanted.spec.replicas;
    let availability = set(
        "Available",
        enough,
        if enough { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
        if enough {
            "As many pods as needed are available."
        } else {
            "Fewer pods than needed are available."
        },
    );
    let standing = matches!(phase.state, State::Serving | State::Held | State::RolledBack);
    let down = standing && wants > 0 && available == 0 && draft.carried().is_some();
    let (message, reason) = if down {
        (format!("No pod is available. {}", phase.message), "Unavailable")
    } else {
        (phase.message.clone(), phase.reason.as_str())
    };
    let since = |c: Option<&Condition>| c.map_or(now, |c| c.last_transition_time.0);
    let late = |from: Timestamp| now.as_second() - from.as_second() >= deadline;
    let mut stalled = matches!(phase.state, State::Invalid | State::Waiting | State::RolledBack);
    let mut reconciling = matches!(phase.state, State::Rolling) || down;
    if phase.state == State::Pending {
        let began = since(holds(old, "Reconciling").or_else(|| holds(old, "Stalled")));
        stalled = late(began) || holds(old, "Stalled").is_some_and(|c| c.reason == phase.reason);
        reconciling = !stalled;
    } else if down {
        stalled = stalled || late(availability.last_transition_time.0);
        reconciling = !stalled;
    }
    if reconciling && (down || phase.state == State::Pending) {
        let from = if down {
            availability.last_transition_time.0
        } else {
            since(holds(old, "Reconciling"))
        };
        draft.again_in(from.as_second() + deadline - now.as_second());
    }
    let ready = matches!(phase.state, State::Serving | State::Held) && !down;
    let mut out = vec![set("Ready", ready, reason, &message), availability];
    let mut add = |kind: &str, is: bool| {
        if is {
            out.push(set(kind, true, reason, &message));
        }
    };
    add("Reconciling", reconciling);
    add("Stalled", stalled);
    add("Held", matches!(phase.state, State::Held | State::RolledBack));
    if draft.history.open().is_some() {
        out.push(set("Progressing", phase.state == State::Rolling, &phase.reason, &phase.message));
    }
    if draft.pause_wanted() {
        out.push(set("Paused", true, "Paused", &format!("Paused{}.", paused_by(draft))));
    }
    if let Some(name) = draft.seen.autoscalers.first() {
        let message = format!(
            "HorizontalPodAutoscaler {name} scales the Deployment and fights with spec.replicas: let it scale ModelDeployment {} instead.",
            draft.seen.name
        );
        out.push(set("AutoscaledChild", true, "AutoscaledChild", &message));
    }
    out
}

/// The problem that keeps the spec from being carried out although nothing new is decided: a
/// version that may not be newly served.
pub fn note_problem(draft: &mut Draft<'_>) {
    let Ok(desired) = &draft.desired else { return };
    let newest = draft.history.newest().map(|r| r.revision_hash.clone());
    if newest.as_deref() == Some(desired.revision_hash.as_str())
        || draft.history.rejecting(desired).is_some()
    {
        return;
    }
    if let Some(problem) = decide::not_servable(draft) {
        draft.desired = Err(problem);
    }
}
