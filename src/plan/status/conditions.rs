//! The conditions of a ModelDeployment, as kstatus and `kubectl wait` read them.

use jiff::Timestamp;

use super::{View, phase::is_down, state::Phase};
use crate::{
    api::{
        condition::{Condition, build_condition, build_condition_with_status, find_true_condition},
        deployment::State,
        reason::Reason,
    },
    plan::{
        facts::health::{Patience, has_minimum_available, seconds_to_next_deadline},
        writes::Outgoing,
    },
};

/// Reasons whose clock starts when they become the reason, besides those of state Pending.
const CLOCKED: [Reason; 1] = [Reason::RecordsMissing];

/// The conditions for a phase. Whatever is due by time alone is planned again then.
pub fn build_conditions(
    view: &View<'_>,
    phase: &Phase,
    old: &[Condition],
    out: &mut Outgoing,
) -> Vec<Condition> {
    let facts = view.facts;
    let generation = facts.wanted.generation;
    let set = |kind: &str, is: bool, reason: Reason, message: &str| {
        build_condition(old, kind, is, reason, message, generation, facts.now)
    };
    let live = facts.deployment();
    let available = live.map_or(0, |live| live.status.available_replicas);
    let enough = live.is_some_and(has_minimum_available);
    let availability = match enough {
        true => set(
            "Available",
            true,
            Reason::MinimumReplicasAvailable,
            match available {
                0 => "No pod is available, and no more are needed.",
                _ => "As many pods as needed are available.",
            },
        ),
        false => set(
            "Available",
            false,
            Reason::MinimumReplicasUnavailable,
            "Fewer pods than needed are available.",
        ),
    };
    // Every other state has a reason of its own, which says why it is not Ready.
    let standing = matches!(phase.state, State::Serving | State::Held | State::RolledBack);
    let is_down = standing && is_down(view, phase.state);
    let message = phase.message.clone();
    let reason = if is_down { Reason::Unavailable } else { phase.reason };
    let progress = find_progress(view, phase, old, is_down, &availability);
    if let Some(seconds) = progress.due_in {
        out.requeue_in(seconds);
    }
    requeue_for_pods(view, out);
    let ready = match phase.reason {
        Reason::RecordsMissing => available > 0 || facts.wanted.spec.replicas == 0,
        _ => matches!(phase.state, State::Serving | State::Held) && !is_down,
    };
    let mut all = vec![set("Ready", ready, reason, &message), availability];
    if progress.is_reconciling {
        let mut reconciling = set("Reconciling", true, reason, &message);
        reconciling.last_transition_time = crate::api::condition::Time(progress.since);
        all.push(reconciling);
    }
    if progress.is_stalled {
        all.push(set("Stalled", true, reason, &message));
    }
    if view.hold.is_some() && matches!(phase.state, State::Held | State::RolledBack) {
        all.push(set("Held", true, reason, &message));
    }
    if view.history.in_progress().is_some() {
        let rolls = phase.state == State::Rolling;
        all.push(set("Progressing", rolls, phase.reason, &phase.message));
    }
    if facts.should_pause(view.history) {
        let by = view.history.standing_pause().map(|d| d.decided_by.name.clone());
        let by = by.unwrap_or_else(|| "spec.paused".into());
        all.push(set("Paused", true, Reason::Paused, &format!("Paused by {by}.")));
    }
    all.extend(describe_autoscaler(view, old));
    all.extend(describe_admission(view, old));
    all
}

/// The condition about an autoscaler that scales the Deployment.
fn describe_autoscaler(view: &View<'_>, old: &[Condition]) -> Option<Condition> {
    let facts = view.facts;
    let message = format!(
        "HorizontalPodAutoscaler {} scales the Deployment and fights with spec.replicas: let it \
         scale ModelDeployment {} instead.",
        facts.observed.autoscalers.first()?,
        facts.observed.name
    );
    let (kind, generation) = ("AutoscaledChild", facts.wanted.generation);
    Some(build_condition(old, kind, true, Reason::AutoscaledChild, &message, generation, facts.now))
}

/// Condition type that says that the shipped admission policies are not in force.
const POLICIES_MISSING: &str = "AdmissionPoliciesMissing";
/// The guarantees that are missing without the policies, as the end of a sentence.
const NOT_GUARANTEED: &str = "it is not guaranteed that users get nothing through the operator \
     that RBAC denies them (Deployments, Services, Jobs, Secrets), nor that records and the names \
     of requesters are genuine";

/// The condition about the admission policies; none while all are in force. Until they were read,
/// the condition that is there stands, so that a restart of the operator writes nothing.
fn describe_admission(view: &View<'_>, old: &[Condition]) -> Option<Condition> {
    let facts = view.facts;
    let set = |status: &str, reason: Reason, message: &str| {
        let generation = facts.wanted.generation;
        Some(build_condition_with_status(
            old,
            POLICIES_MISSING,
            status,
            reason,
            message,
            generation,
            facts.now,
        ))
    };
    let Some(policies) = &facts.observed.memory.admission_policies else {
        let standing = old.iter().find(|c| c.type_ == POLICIES_MISSING)?;
        return set(&standing.status, standing.reason.parse().ok()?, &standing.message);
    };
    if policies.are_in_force() {
        return None;
    }
    if policies.unreadable {
        let message = format!(
            "This operator may not read the admission policies of Rollmodel, so {NOT_GUARANTEED}. \
             Grant it the rule of deploy/rbac.yaml for validatingadmissionpolicies and their \
             bindings, or set admissionPolicies.read=true in the Helm chart."
        );
        return set("Unknown", Reason::NotReadable, &message);
    }
    let message = format!(
        "{}. Until all admission policies of Rollmodel are installed, {NOT_GUARANTEED}. Apply \
         deploy/admission.yaml, or set admissionPolicies.enabled=true in the Helm chart.",
        policies.problems.join("; ")
    );
    set("True", Reason::NotInstalled, &message)
}

/// The progress of the object: in progress, or stuck.
struct Progress {
    is_reconciling: bool,
    is_stalled: bool,
    /// Since when it is on its way for its present reason.
    since: Timestamp,
    /// Seconds until it counts as stuck.
    due_in: Option<i64>,
}

fn find_progress(
    view: &View<'_>,
    phase: &Phase,
    old: &[Condition],
    is_down: bool,
    availability: &Condition,
) -> Progress {
    let now = view.facts.now;
    let deadline = i64::from(view.facts.wanted.spec.progress_deadline_seconds());
    let left = |from: Timestamp| from.as_second() + deadline - now.as_second();
    let clocked = phase.state == State::Pending || CLOCKED.contains(&phase.reason);
    let reconciling = find_true_condition(old, "Reconciling");
    let was_stalled =
        find_true_condition(old, "Stalled").is_some_and(|c| c.reason == phase.reason.as_ref());
    if clocked {
        // The deadline counts from when this became the reason.
        let since = reconciling
            .filter(|c| c.reason == phase.reason.as_ref())
            .map_or(now, |c| c.last_transition_time.0);
        let is_stalled = was_stalled || left(since) <= 0;
        let keeps_on = !is_stalled || CLOCKED.contains(&phase.reason);
        let due_in = (!is_stalled).then(|| left(since));
        return Progress { is_reconciling: keeps_on, is_stalled, since, due_in };
    }
    let since = reconciling.map_or(now, |c| c.last_transition_time.0);
    let stuck = matches!(phase.state, State::Invalid | State::Waiting | State::RolledBack);
    if is_down {
        let from = availability.last_transition_time.0;
        let is_stalled = stuck || left(from) <= 0;
        let due_in = (!is_stalled).then(|| left(from));
        return Progress { is_reconciling: !is_stalled, is_stalled, since, due_in };
    }
    let is_reconciling = phase.state == State::Rolling;
    Progress { is_reconciling, is_stalled: stuck, since, due_in: None }
}

/// A pod can turn into a failure by time alone.
fn requeue_for_pods(view: &View<'_>, out: &mut Outgoing) {
    let facts = view.facts;
    let Some(open) = view.history.in_progress() else { return };
    let patience = Patience::new(&facts.wanted.spec, facts.observed, open, facts.now);
    if let Some(seconds) = seconds_to_next_deadline(facts.observed, open, patience) {
        out.requeue_in(seconds);
    }
}
