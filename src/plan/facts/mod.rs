//! Facts: everything that follows from what was observed, before anything is decided. Nothing here
//! changes once it is computed.
//!
//! | to change | open |
//! |---|---|
//! | what serves, what is rejected, where going back leads | [`history`] |
//! | what counts as a failure, and what as the environment's trouble | [`health`] |
//! | whose write a change of the Deployment was | [`attribution`] |
//! | whether a child object is ours | [`ownership`] |
//! | the revision that the spec names, and its hashes | [`revision`] |
//! | what a version has to be before it is rendered | [`delivery`] |

pub mod admit;
pub mod attribution;
pub mod delivery;
pub mod health;
pub mod history;
pub mod ownership;
pub mod problem;
pub mod revision;
pub mod track;
pub mod version;

use jiff::Timestamp;
use serde_json::Value;

use self::{
    attribution::{
        Attribution, attribute_changes, read_decision_label, read_restarted_at, read_revision,
    },
    history::{DecisionLabel, History, is_kept},
    ownership::find_track_ownership,
    problem::Problem,
    track::TrackFacts,
};
use super::{
    action::Lookup,
    observed::{
        Deployment, Observed, ObservedModelDeployment, Revision, RevisionBody, StoredRevision,
        Track,
    },
    refused_writes,
};
use crate::api::{ModelRolloutSpec, names, rollout::Trigger};

/// Everything that follows from one observation of one ModelDeployment.
pub struct Facts<'a> {
    /// The observation that the facts follow from.
    pub observed: &'a Observed,
    /// The ModelDeployment that is planned.
    pub wanted: &'a ObservedModelDeployment,
    /// The time of this plan.
    pub now: Timestamp,
    /// The records of its name and model.
    pub history: History,
    /// The number of the last good rollout ([`History::last_good`]).
    good: Option<i64>,
    /// The revision that the spec names.
    pub desired: Result<Revision, Problem>,
    /// The existing tracks.
    pub tracks: Vec<TrackFacts<'a>>,
    /// The decision that a Deployment carries and whose records are missing, also when read live.
    pub missing: Option<DecisionLabel>,
    /// Live reads that are required before any decision.
    pub lookups: Vec<Lookup>,
}

impl<'a> Facts<'a> {
    /// Computes the facts of an observation.
    #[must_use]
    pub fn new(
        observed: &'a Observed,
        wanted: &'a ObservedModelDeployment,
        now: Timestamp,
    ) -> Self {
        let history = History::new(observed, &wanted.spec.model);
        let mut facts = Self {
            observed,
            wanted,
            now,
            good: history.last_good(observed).map(|good| good.number),
            desired: revision::find_desired_revision(observed, &wanted.spec),
            tracks: Vec::new(),
            missing: None,
            lookups: Vec::new(),
            history,
        };
        facts.tracks = observed.list_tracks().map(|track| facts.read_track(track)).collect();
        facts.find_missing_records();
        facts.check_paused_without_pods();
        facts
    }

    fn read_track(&self, track: Track<'a>) -> TrackFacts<'a> {
        let ownership = find_track_ownership(self.observed, track, self.wanted);
        let facts = TrackFacts { track, ownership, attribution: None, missing: None };
        if facts.deployment().is_none() {
            return facts;
        }
        let newest = self.history.newest_on(&track.deployment.meta.name);
        let refused = newest
            .is_some_and(|r| refused_writes::find_decision(self.observed, r.number).is_some());
        let attribution = attribute_changes(&self.history, track, refused, |record| {
            self.find_stored_body(record).map(|body| &body.rendering)
        });
        TrackFacts { attribution: Some(attribution), ..facts }
    }

    /// Finds the Deployments whose records are missing, also when read live: nothing on them is
    /// attributed to anyone.
    fn find_missing_records(&mut self) {
        for index in 0..self.tracks.len() {
            let label = self.tracks[index].deployment().and_then(read_decision_label);
            let Some(label) = label.filter(|label| self.misses_records(*label)) else { continue };
            if !self.require_lookup(Lookup::Records) {
                let track = &mut self.tracks[index];
                track.missing = Some(label);
                track.attribution = Some(Attribution::NotYetApplied);
                self.missing = self.missing.or(Some(label));
            }
        }
    }

    /// True if the record that a Deployment's label names, or one that it depends on, is missing: a
    /// restore is in progress, or someone deleted them.
    fn misses_records(&self, label: DecisionLabel) -> bool {
        // A Retry by a person continues without them; its number is larger than theirs.
        let is_retry = |r: &ModelRolloutSpec| r.trigger == Trigger::Retry;
        if self.history.records().any(|r| is_retry(r) && r.number > label.rollout) {
            return false;
        }
        !self.list_missing_records(label).is_empty()
    }

    /// The numbers of the rollouts whose records a decision depends on and that are not there, or
    /// lack a pause or resume that was decided.
    #[must_use]
    pub fn list_missing_records(&self, label: DecisionLabel) -> Vec<i64> {
        let Some(record) = self.history.find_labelled(label) else { return vec![label.rollout] };
        let all = self.history.all_records();
        let is_lost = |number: &i64| !all.iter().any(|r| r.spec.number == *number);
        let mut missing: Vec<i64> = record.stands_on.iter().copied().filter(is_lost).collect();
        if record.decisions.len() < label.decisions {
            missing.push(label.rollout);
        }
        missing
    }

    /// Finds the rollback target (rule 1) among rollouts whose template is still available.
    ///
    /// # Errors
    /// The live read that is required first: a template that is no longer stored may still exist in
    /// a ReplicaSet.
    pub fn find_rollback_target(&self) -> Result<Option<&ModelRolloutSpec>, Lookup> {
        let target = self.history.find_rollback_target(self.observed);
        let is_lost = match target {
            Some(target) => !is_kept(self.observed, target),
            None => self.history.records().any(|r| r.is_promoted() && !is_kept(self.observed, r)),
        };
        self.require_templates(is_lost)?;
        match target.filter(|_| is_lost) {
            Some(_) => Ok(self.history.find_earlier_content(self.observed)),
            None => Ok(target),
        }
    }

    /// Requires a live read of the ReplicaSets if a template is lost and they were not read.
    ///
    /// # Errors
    /// The live read that has to come first.
    pub fn require_templates(&self, is_lost: bool) -> Result<(), Lookup> {
        let looked_up = self.observed.memory.looked_up.contains(&Lookup::ReplicaSets);
        if is_lost && !looked_up && self.deployment().is_some() {
            return Err(Lookup::ReplicaSets);
        }
        Ok(())
    }

    /// Requires a live read of the ReplicaSets for a Deployment that a person paused and that has
    /// no pods: one that comes from a backup has none, and gets no pods.
    fn check_paused_without_pods(&mut self) {
        let is_one =
            |track: &TrackFacts<'_>| track.deployment().is_some_and(is_paused_without_pods);
        if self.should_pause(&self.history) && self.tracks.iter().any(is_one) {
            self.require_lookup(Lookup::ReplicaSets);
        }
    }

    /// True if a Deployment was paused before it ever had a ReplicaSet, as a backup restores it.
    /// Kubernetes gives it no pods until it is resumed.
    #[must_use]
    pub fn is_restored_paused(&self, live: &Deployment) -> bool {
        let memory = &self.observed.memory;
        is_paused_without_pods(live)
            && memory.looked_up.contains(&Lookup::ReplicaSets)
            && !memory.replica_sets.iter().any(|set| set.may_belong_to(live))
    }

    /// The track of the Deployment of that name.
    #[must_use]
    pub fn find_track(&self, deployment_name: &str) -> Option<&TrackFacts<'a>> {
        self.tracks.iter().find(|t| t.track.deployment.meta.name == deployment_name)
    }

    /// The track that serves by the name of the ModelDeployment itself.
    #[must_use]
    pub fn main_track(&self) -> Option<&TrackFacts<'a>> {
        self.find_track(&self.observed.name)
    }

    /// True if the main Deployment is not ours, or is being deleted: its pods are not counted, and
    /// what leads to them is left alone.
    #[must_use]
    pub fn has_foreign_deployment(&self) -> bool {
        self.main_track().is_some_and(|track| track.deployment().is_none())
    }

    /// The main Deployment, where it is ours or can be adopted.
    #[must_use]
    pub fn deployment(&self) -> Option<&'a Deployment> {
        self.main_track()?.deployment()
    }

    /// The Deployment that carries out a rollout, where that is the newest decision on it.
    #[must_use]
    pub fn deployment_if_up_to_date(
        &self,
        record: &ModelRolloutSpec,
        history: &History,
    ) -> Option<&'a Deployment> {
        let track = self.find_track(&record.deployment_name)?;
        track.deployment().filter(|_| track.is_up_to_date(history))
    }

    /// A stored revision by its name.
    #[must_use]
    pub fn find_stored(&self, name: &str) -> Option<&'a StoredRevision> {
        self.observed.revisions.iter().find(|c| c.name == name)
    }

    /// Finds the stored body of a record's revision, if it is at hand and has the recorded digest.
    #[must_use]
    pub fn find_stored_body(&self, record: &ModelRolloutSpec) -> Option<&'a RevisionBody> {
        find_stored_revision(self.observed, record)?.body.as_deref()
    }

    /// Returns the stored body of a record's revision; None if it is no longer stored, or was
    /// changed.
    ///
    /// # Errors
    /// The live read that is required first: a body that is seldom needed is not at hand.
    pub fn require_stored_body(
        &self,
        record: &ModelRolloutSpec,
    ) -> Result<Option<&'a RevisionBody>, Lookup> {
        let body = self.find_stored_body(record);
        let lookup = Lookup::Revision(record.revision_name.clone());
        let is_asked = self.observed.memory.looked_up.contains(&lookup);
        let is_stored = find_stored_revision(self.observed, record).is_some();
        if body.is_none() && !is_asked && is_stored {
            return Err(lookup);
        }
        Ok(body)
    }

    /// Requires a live read; false if it was done already.
    pub fn require_lookup(&mut self, lookup: Lookup) -> bool {
        if self.observed.memory.looked_up.contains(&lookup) {
            return false;
        }
        if !self.lookups.contains(&lookup) {
            self.lookups.push(lookup);
        }
        true
    }

    /// True if a person paused the next step, by the spec or by the verb.
    #[must_use]
    pub fn should_pause(&self, history: &History) -> bool {
        self.wanted.spec.paused || history.standing_pause().is_some()
    }

    /// True if a pause that a person decided holds a rollout where it is: its Deployment is paused.
    #[must_use]
    pub fn is_pause_in_force(&self, record: &ModelRolloutSpec) -> bool {
        let track = self.find_track(&record.deployment_name).and_then(TrackFacts::deployment);
        self.should_pause(&self.history) && track.is_some_and(|live| live.spec.paused)
    }

    /// True if the records belong to a ModelDeployment that was deleted while the operator was not
    /// running, before this one was created: they have another uid, no Deployment is left to adopt,
    /// no status of this one names them, and they do not come from a backup, as this one may.
    #[must_use]
    pub fn was_recreated(&self) -> bool {
        let mine = Some(self.wanted.uid.as_str());
        let others = |r: &&ModelRolloutSpec| r.model_deployment_ref.uid.as_deref() != mine;
        let standing = [self.history.in_progress(), self.history.serving()].into_iter().flatten();
        let told = self.wanted.status.as_ref().is_some_and(|s| s.rollout.is_some());
        let stands = standing.filter(others).any(|r| !self.observed.is_being_restored(r, self.now));
        self.deployment().is_none() && !told && stands
    }

    /// Finds the port for clients in the rendering of a record, or, if that is lost, in the live
    /// template of its Deployment or of a ReplicaSet.
    #[must_use]
    pub fn find_port(&self, record: &ModelRolloutSpec) -> Option<super::make::Port> {
        if let Some(body) = self.find_stored_body(record) {
            return Some(super::make::find_client_port(&body.rendering));
        }
        let hash16 = names::short_hash(&record.revision_hash);
        let live = self.tracks.iter().filter_map(TrackFacts::deployment);
        let mut templates = live.map(|deployment| &deployment.spec.template);
        if let Some(template) = templates.find(|template| read_revision(template) == hash16) {
            return Some(super::make::find_client_port(template));
        }
        let template = find_live_template(self.observed, record)?;
        Some(super::make::find_client_port(&template))
    }

    /// Finds the port for clients of a record.
    ///
    /// # Errors
    /// The live read that has to come first.
    pub fn require_port(
        &self,
        record: &ModelRolloutSpec,
    ) -> Result<Option<super::make::Port>, Lookup> {
        self.require_stored_body(record)?;
        let port = self.find_port(record);
        self.require_templates(port.is_none())?;
        Ok(port)
    }

    /// Explains why the pods of a rollout are not restarted, in a sentence; None if they are. New
    /// pods of a version that does not serve yet would serve it newly, and a rollout that is being
    /// left does not begin again.
    #[must_use]
    pub fn explain_no_restart(&self, record: &ModelRolloutSpec) -> Option<String> {
        let leaves = |open: &&ModelRolloutSpec| {
            open.goes_back() && open.revision_hash != record.revision_hash
        };
        let rejected_by = self.history.find_rejection(record).map(|(_, by)| by);
        if let Some(by) = rejected_by.or_else(|| self.history.in_progress().filter(leaves)) {
            return Some(format!(
                "Rollout {} goes back from version {}: it is not restarted.",
                by.number, record.version
            ));
        }
        let is_new = !record.is_promoted() && !self.has_serving_content(record);
        (is_new && history::is_yanked(self.observed, record)).then(|| {
            format!(
                "Version {} is yanked or in conflict, and does not serve yet: it is not restarted.",
                record.version
            )
        })
    }

    /// True if nothing holds the template of a rollout any more: its stored revision is gone or was
    /// changed, and its Deployment is gone or has another template.
    #[must_use]
    pub fn is_nowhere(&self, record: &ModelRolloutSpec) -> bool {
        let hash16 = names::short_hash(&record.revision_hash);
        let is_elsewhere = self.find_track(&record.deployment_name).is_none_or(|track| {
            track.deployment().is_some_and(|live| {
                let template = &live.spec.template;
                read_revision(template) != hash16
                    || read_restarted_at(template) != record.restarted_at.as_deref()
            })
        });
        is_elsewhere && find_stored_revision(self.observed, record).is_none()
    }

    /// Lists the rollouts whose pods clients may still reach besides those of the serving one: they
    /// were left since then. Where no record says that anything served, they are those with ready
    /// pods: a policy may refuse what is added to records.
    pub fn list_left<'b>(
        &'b self,
        history: &'b History,
    ) -> impl Iterator<Item = &'b ModelRolloutSpec> {
        let serves = history.serving().is_some();
        let answers = |r: &ModelRolloutSpec| health::pods_of(self.observed, r).any(|p| p.ready);
        history.list_since_serving().filter(move |r| serves || answers(r))
    }

    /// The rollout of a revision that serves, or that is gone back to from what serves: its pods may
    /// be there already.
    #[must_use]
    pub fn find_good_rollout_of(&self, revision_hash: &str) -> Option<&ModelRolloutSpec> {
        let same = |r: &&ModelRolloutSpec| r.revision_hash == revision_hash;
        let is_kept_there = |r: &&ModelRolloutSpec| r.served_until.is_none();
        let good = self.last_good().filter(is_kept_there);
        good.filter(same).or_else(|| self.history.serving().filter(same))
    }

    /// The rollout that is good by the last word of anyone, before this pass decides.
    #[must_use]
    pub fn last_good(&self) -> Option<&ModelRolloutSpec> {
        self.history.get(self.good?)
    }

    /// True if a record has the content that serves, or that is gone back to from what serves:
    /// nothing that happens to it is the content's fault (rule 2).
    #[must_use]
    pub fn has_serving_content(&self, record: &ModelRolloutSpec) -> bool {
        let same = |good: &ModelRolloutSpec| good.content_hash == record.content_hash;
        self.history.served_last().is_some_and(same) || self.last_good().is_some_and(same)
    }
}

fn is_paused_without_pods(live: &Deployment) -> bool {
    live.spec.paused
        && live.spec.replicas > 0
        && live.status.replicas == 0
        && health::observed_generation_is_current(live)
}

/// Finds the stored revision of a record, if it has the recorded digest. A revision that someone
/// changed counts as lost.
#[must_use]
pub fn find_stored_revision<'a>(
    observed: &'a Observed,
    record: &ModelRolloutSpec,
) -> Option<&'a StoredRevision> {
    let mut contents = observed.revisions.iter();
    contents
        .find(|c| c.name == record.revision_name && stores_rendering(c, &record.rendering_digest))
}

/// True if a ControllerRevision stores the rendering of that digest. One whose content is unknown
/// is assumed to store it until it is read live.
#[must_use]
pub fn stores_rendering(stored: &StoredRevision, rendering_digest: &str) -> bool {
    match (&stored.rendering_digest, &stored.body) {
        (Some(known), _) => known == rendering_digest,
        (None, Some(body)) => revision::compute_digest(&body.rendering) == rendering_digest,
        (None, None) => true,
    }
}

/// Finds the template of a record's revision in a ReplicaSet that was read live, in the form in
/// which it would be stored.
#[must_use]
pub fn find_live_template(observed: &Observed, record: &ModelRolloutSpec) -> Option<Value> {
    let hash16 = names::short_hash(&record.revision_hash);
    let of_revision = |template: &Value| read_revision(template) == hash16;
    let is_tracked = |uid: &str| observed.tracks.values().any(|d| d.meta.uid == uid);
    // A ReplicaSet of another Deployment may carry our labels, and any template.
    let is_ours =
        |s: &&super::observed::ReplicaSet| s.controller_uid.as_deref().is_none_or(is_tracked);
    let live = observed.memory.replica_sets.iter().filter(is_ours).map(|s| &s.template);
    let mut template = live.into_iter().find(|t| of_revision(t))?.clone();
    // An index into a missing field would add it.
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove("pod-template-hash");
        labels.remove(names::TRACK);
    }
    let annotations = template.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.remove(names::RESTARTED_AT);
    }
    Some(template)
}

#[cfg(test)]
mod tests;
