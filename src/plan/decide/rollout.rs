//! A new rollout as a value: its record, and the revision to store before it.

use serde_json::{Value, json};

use crate::{
    api::{
        ModelRolloutSpec,
        condition::{MESSAGE_MAX, Time, truncate_text},
        names,
        reason::Reason,
        rollout::{
            ADDED_ONCE, APPENDED, Admission, Asked, DecidedBy, Direction, ModelDeploymentRef,
            Rejection, Scope, StrategyKind, Trigger,
        },
    },
    plan::{
        action::Lookup,
        facts::{
            Facts, admit,
            attribution::{read_decision_label, read_restarted_at, read_revision},
            find_live_template, find_stored_revision,
            history::{Rejectable, is_kept, make_rejection, rejection_covers},
            problem::Problem,
            revision::{self, compute_digest},
            stores_rendering,
            version::find_pinned_digest,
        },
        make,
        observed::{Revision, RevisionBody},
    },
};

/// The decider where it was `kubectl rollout`, which does not say who ran it.
pub const KUBECTL: &str = "kubectl (unverified)";
/// The decider where the spec changed.
pub const SPEC: &str = "spec";
/// The decider where a rollout failed.
pub const OPERATOR: &str = "operator";

/// A decision to serve one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRollout {
    /// The record to create.
    pub record: ModelRolloutSpec,
    /// The ControllerRevision to store before it, by name.
    pub store: Option<(String, RevisionBody)>,
}

/// The revision that a rollout serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    version: String,
    record_digest: String,
    artifact_digest: Option<String>,
    revision_hash: String,
    content_hash: String,
    revision_name: String,
    rendering_digest: String,
    restarted_at: Option<String>,
    store: Option<RevisionBody>,
}

impl Rejectable for Target {
    fn rejection_keys(&self) -> (&str, &str, &str) {
        (&self.record_digest, &self.content_hash, &self.revision_hash)
    }
}

/// The cause of a rollout.
#[derive(Clone, Debug)]
pub struct Cause {
    /// The event that led to it.
    pub trigger: Trigger,
    /// The direction: forward or back.
    pub direction: Direction,
    /// The person or component that decided, with the reason.
    pub decided_by: DecidedBy,
    /// The rejection that comes with it.
    pub rejects: Option<Rejection>,
}

impl Cause {
    /// A cause that rejects nothing.
    #[must_use]
    pub fn new(trigger: Trigger, direction: Direction, decided_by: DecidedBy) -> Self {
        Self { trigger, direction, decided_by, rejects: None }
    }
}

/// A decider that is no verified person. The reason is cut to what a record holds.
#[must_use]
pub fn decided_by(name: &str, reason: Option<&str>) -> DecidedBy {
    let reason = reason.map(|r| truncate_text(r, MESSAGE_MAX));
    DecidedBy { name: name.into(), verified: false, reason, request: None }
}

impl Target {
    /// The target that an earlier record served, without any difference. If its revision is no
    /// longer stored, the template is taken from the ReplicaSet that still has it.
    #[must_use]
    pub fn of_record(facts: &Facts<'_>, record: &ModelRolloutSpec) -> Self {
        let mut target = Self {
            version: record.version.clone(),
            record_digest: record.record_digest.clone(),
            artifact_digest: record.artifact_digest.clone(),
            revision_hash: record.revision_hash.clone(),
            content_hash: record.content_hash.clone(),
            revision_name: record.revision_name.clone(),
            rendering_digest: record.rendering_digest.clone(),
            restarted_at: record.restarted_at.clone(),
            store: None,
        };
        if find_stored_revision(facts.observed, record).is_none()
            && let Some(rendering) = find_live_template(facts.observed, record)
        {
            target.rendering_digest = compute_digest(&rendering);
            let place = find_place(facts, record.revision_name.clone(), &target);
            let (revision_hash, content) = (record.revision_hash.clone(), Value::Null);
            let body = RevisionBody { revision_hash, content, rendering };
            target.revision_name = place.0;
            target.store = (!place.1).then_some(body);
        }
        target
    }

    /// The same target with pods that restart at a time.
    #[must_use]
    pub fn restarted(self, at: Option<String>) -> Self {
        Self { restarted_at: at, ..self }
    }

    /// The version that is served.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The hash of the revision that is served.
    #[must_use]
    pub fn revision_hash(&self) -> &str {
        &self.revision_hash
    }
}

/// The failure to name a target: a problem of the spec, or something to read live first.
#[derive(Debug)]
pub enum Unready {
    /// The spec cannot be carried out, or not yet.
    Problem(Problem),
    /// A live read has to come first.
    Lookup(Lookup),
}

impl From<Problem> for Unready {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// The revision that the spec names, admitted and rendered. A return to what serves is exactly what
/// serves; a revision that was promoted before uses its newest promoted rendering.
///
/// # Errors
/// Why it may not be served, or cannot be rendered.
pub fn prepare_desired(facts: &Facts<'_>) -> Result<Target, Unready> {
    let desired = facts.desired.clone()?;
    admit::admit_desired(facts, &desired)?;
    let serving = facts.find_good_rollout_of(&desired.revision_hash);
    let promoted =
        serving.or_else(|| facts.history.find_promoted_rendering(&desired.revision_hash));
    // What serves keeps its pods, also if its stored revision is lost.
    if let Some(serving) = serving {
        let is_lost = !is_kept(facts.observed, serving);
        facts.require_templates(is_lost).map_err(Unready::Lookup)?;
    }
    let stored = promoted.filter(|r| {
        find_stored_revision(facts.observed, r).is_some()
            || (serving.is_some() && is_kept(facts.observed, r))
    });
    let target = match stored {
        Some(record) => {
            let serving_at = serving.map(|s| s.restarted_at.clone());
            let restarted_at = serving_at.unwrap_or_else(|| find_restart_in_spec(facts));
            Target::of_record(facts, record).restarted(restarted_at)
        }
        None => render_desired(facts, &desired)?,
    };
    check_port(facts, &target)?;
    Ok(target)
}

fn render_desired(facts: &Facts<'_>, desired: &Revision) -> Result<Target, Unready> {
    // An earlier rollout of it, which never was complete.
    let mut earlier =
        facts.history.records().rev().filter(|r| r.revision_hash == desired.revision_hash);
    if let Some(record) = earlier.find(|r| find_stored_revision(facts.observed, r).is_some()) {
        let restarted_at = find_restart_in_spec(facts);
        return Ok(Target::of_record(facts, record).restarted(restarted_at));
    }
    let body = make_body(facts, desired)?;
    Ok(make_target(facts, desired, body, 1))
}

/// The name under which a target's rendering is stored, and whether it is stored there already: the
/// first that is free, or that holds this very rendering because it was stored before a crash. A
/// body that no record vouches for is never used instead.
fn find_place(facts: &Facts<'_>, first: String, target: &Target) -> (String, bool) {
    let others =
        (2..).map(|n| names::revision_name(&facts.observed.name, &target.revision_hash, n));
    for name in std::iter::once(first.clone()).chain(others) {
        match facts.find_stored(&name) {
            None => return (name, false),
            Some(stored) if stores_rendering(stored, &target.rendering_digest) => {
                return (name, true);
            }
            Some(_) => {}
        }
    }
    (first, false)
}

/// Renders the revision that the spec names.
///
/// # Errors
/// Why it cannot be rendered.
pub fn make_body(facts: &Facts<'_>, desired: &Revision) -> Result<RevisionBody, Problem> {
    let rendering = revision::render_revision(facts.observed, &facts.wanted.spec, desired)?;
    let revision_hash = desired.revision_hash.clone();
    let content = revision::write_revision(&facts.wanted.spec, &desired.record_digest);
    Ok(RevisionBody { revision_hash, content, rendering })
}

/// The target of a rendering of the revision that the spec names, stored as its rendering of that
/// number or a later one.
#[must_use]
pub fn make_target(
    facts: &Facts<'_>,
    desired: &Revision,
    body: RevisionBody,
    number: u32,
) -> Target {
    let version = revision::find_version(facts.observed, &facts.wanted.spec).ok().flatten();
    let name = names::revision_name(&facts.observed.name, &desired.revision_hash, number);
    let mut target = Target {
        version: desired.version.clone(),
        record_digest: desired.record_digest.clone(),
        artifact_digest: version.and_then(find_pinned_digest).map(str::to_owned),
        revision_hash: desired.revision_hash.clone(),
        content_hash: desired.content_hash.clone(),
        revision_name: name.clone(),
        rendering_digest: compute_digest(&body.rendering),
        restarted_at: find_restart_in_spec(facts),
        store: None,
    };
    let (revision_name, is_stored) = find_place(facts, name, &target);
    target.revision_name = revision_name;
    target.store = (!is_stored).then_some(body);
    target
}

/// The time of a restart that the spec asks for, by the annotation that `kubectl rollout restart`
/// writes.
fn find_restart_in_spec(facts: &Facts<'_>) -> Option<String> {
    let template = facts.wanted.spec.template.as_ref()?;
    read_restarted_at(template).map(str::to_owned)
}

/// The Service must always find a port that old and new pods share, all by name or all by number:
/// the pods of what serves, and those of rollouts that were left since then, because Kubernetes may
/// delete the serving ones first.
fn check_port(facts: &Facts<'_>, target: &Target) -> Result<(), Unready> {
    let serving = facts.history.serving();
    if serving.is_some_and(|s| s.revision_name == target.revision_name) {
        return Ok(());
    }
    let rendering = match &target.store {
        Some(body) => Some(&body.rendering),
        None => facts
            .find_stored(&target.revision_name)
            .and_then(|s| s.body.as_deref())
            .map(|body| &body.rendering),
    };
    let Some(new) = rendering.map(make::find_client_port) else { return Ok(()) };
    if let Some(live) = find_unrecorded_port(facts).filter(|live| *live != new) {
        let sentence = format!(
            "The port of container {} was {} ({}) and is {} ({}), and no record of what serves is \
             left: keep the port until a rollout is complete, then change it.",
            names::CONTAINER,
            live.name,
            live.number,
            new.name,
            new.number
        );
        return Err(Problem::Invalid(Reason::PortChanged, sentence).into());
    }
    let mut others = Vec::new();
    for other in serving.into_iter().chain(find_left(facts, target)) {
        others.extend(facts.require_port(other).map_err(Unready::Lookup)?);
    }
    if others.iter().all(|old| old.name == new.name)
        || others.iter().all(|old| old.number == new.number)
    {
        return Ok(());
    }
    let differs = |old: &&make::Port| old.name != new.name && old.number != new.number;
    let sentence = match others.iter().find(differs) {
        Some(old) => format!(
            "The port of container {} was {} ({}) and is {} ({}): change its name and its number \
             in two steps{}, so that clients always reach a pod.",
            names::CONTAINER,
            old.name,
            old.number,
            new.name,
            new.number,
            // No step is complete without a pod.
            if facts.wanted.spec.replicas == 0 { ", each with at least one replica" } else { "" }
        ),
        None => format!(
            "The port of container {} is {} ({}): it shares the name with some of the pods that it \
             replaces and the number with others. It is rolled out once only one kind is left.",
            names::CONTAINER,
            new.name,
            new.number
        ),
    };
    Err(Problem::Invalid(Reason::PortChanged, sentence).into())
}

/// Finds the port of the pods that answer although no record tells of them: the records were
/// deleted.
fn find_unrecorded_port(facts: &Facts<'_>) -> Option<make::Port> {
    let live = facts.deployment().filter(|live| live.status.available_replicas > 0)?;
    let hash16 = read_revision(&live.spec.template);
    let is_known = |r: &ModelRolloutSpec| names::short_hash(&r.revision_hash) == hash16;
    let unrecorded = facts.history.serving().is_none() && !facts.history.records().any(is_known);
    unrecorded.then(|| make::find_client_port(&live.spec.template))
}

/// Finds the records whose pods the rollout of a target would replace, besides those of the serving
/// one. A rollout in progress was checked before it began, and without pods no port matters.
fn find_left<'a>(facts: &'a Facts<'_>, target: &Target) -> Vec<&'a ModelRolloutSpec> {
    let newest = facts.history.newest();
    let goes_on = newest.is_some_and(|r| r.revision_name == target.revision_name);
    if goes_on || facts.wanted.spec.replicas == 0 {
        return Vec::new();
    }
    let left = facts.list_left(&facts.history);
    left.filter(|r| r.revision_name != target.revision_name).collect()
}

/// The rejection that comes with a person's decision (rule 3): what differs between the rollout
/// that is left and the one that is gone back to. What is served is never rejected.
fn find_rejection_by_person(left: &ModelRolloutSpec, target: &Target) -> Option<Rejection> {
    // The widest scope that does not cover what is gone back to.
    [Scope::Version, Scope::Content, Scope::Revision]
        .into_iter()
        .find_map(|scope| reject_rollout(left, scope, target))
}

/// A rejection of the rollout that is left, unless it covered what is served instead.
#[must_use]
pub fn reject_rollout(left: &ModelRolloutSpec, scope: Scope, target: &Target) -> Option<Rejection> {
    let rejection = make_rejection(left, scope);
    (!rejection_covers(&rejection, target)).then_some(rejection)
}

impl NewRollout {
    /// A person goes back to `target`, which rejects what differs from it (rule 3).
    #[must_use]
    pub fn go_back(facts: &Facts<'_>, target: Target, trigger: Trigger, by: DecidedBy) -> Self {
        let left = facts.history.newest();
        let rejects = left.and_then(|left| find_rejection_by_person(left, &target));
        let cause = Cause { rejects, ..Cause::new(trigger, Direction::Back, by) };
        Self::new(facts, target, cause)
    }

    /// A person restarts the pods of `target`, in the direction of the rollout in progress.
    #[must_use]
    pub fn restart(facts: &Facts<'_>, target: Target, by: DecidedBy) -> Self {
        Self::repeat(facts, target, Trigger::Restart, by)
    }

    /// Rolls out a revision once more, in the direction of the rollout of it that is in progress.
    #[must_use]
    pub fn repeat(facts: &Facts<'_>, target: Target, trigger: Trigger, by: DecidedBy) -> Self {
        let same = |open: &&ModelRolloutSpec| open.revision_hash == target.revision_hash;
        let open = facts.history.in_progress().filter(same);
        let direction = open.map_or(Direction::Forward, |open| open.direction);
        Self::new(facts, target, Cause::new(trigger, direction, by))
    }

    /// A record of a decision to serve `target`, with everything that follows from the history.
    #[must_use]
    pub fn new(facts: &Facts<'_>, target: Target, cause: Cause) -> Self {
        let history = &facts.history;
        let asked = match history.was_promoted(&target.record_digest) {
            true => Asked::Again,
            false => Asked::Newly,
        };
        let previous = history.all_records().last().map(|r| &*r.spec);
        let store = target.store.map(|body| (target.revision_name.clone(), body));
        let uid = Some(facts.wanted.uid.clone());
        let record = ModelRolloutSpec {
            model_deployment_ref: ModelDeploymentRef { name: facts.observed.name.clone(), uid },
            number: next_number(facts),
            previous_rollout: previous.map(|r| r.number),
            // What an older CRD leaves of the record before may not be what is stored.
            previous_digest: previous
                .filter(|_| !facts.observed.memory.crds_older)
                .map(digest_creation),
            direction: cause.direction,
            admission: Admission { asked },
            model: facts.wanted.spec.model.clone(),
            version: target.version,
            record_digest: target.record_digest,
            artifact_digest: target.artifact_digest,
            revision_hash: target.revision_hash,
            content_hash: target.content_hash,
            revision_name: target.revision_name,
            rendering_digest: target.rendering_digest,
            strategy: StrategyKind::RollingUpdate,
            deployment_name: facts.observed.name.clone(),
            trigger: cause.trigger,
            decided_by: cause.decided_by,
            rejects: cause.rejects,
            restarted_at: target.restarted_at,
            stands_on: history.find_foundations(),
            start_time: Time(facts.now),
            outcome: None,
            message: None,
            end_time: None,
            served_from: None,
            served_until: None,
            observed_images: Vec::new(),
            decisions: Vec::new(),
        };
        Self { record, store }
    }
}

/// The number that the next record takes: above every record of the name, and above each decision
/// that the label of a Deployment names.
fn next_number(facts: &Facts<'_>) -> i64 {
    let labels = facts.observed.tracks.values().filter_map(read_decision_label);
    let labelled = labels.map(|label| label.rollout).max().unwrap_or(0);
    facts.history.latest_number().max(labelled).saturating_add(1)
}

/// The digest of a record as it was created, without the fields that are added or appended later.
#[must_use]
pub fn digest_creation(record: &ModelRolloutSpec) -> String {
    let mut fields = json!(record);
    if let Some(fields) = fields.as_object_mut() {
        for later in ADDED_ONCE.iter().chain(&APPENDED) {
            fields.remove(*later);
        }
    }
    compute_digest(&fields)
}

#[cfg(test)]
mod tests;
