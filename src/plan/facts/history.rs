//! The history of one ModelDeployment. Its records determine the serving rollout, the rejections,
//! the pause, and the rollback target.
//!
//! Records are read by name *and* model. Numbers count all records of the name.

use std::{collections::HashSet, fmt, sync::Arc};

use jiff::Timestamp;

use crate::{
    api::{
        condition::{MESSAGE_MAX, Time, truncate_text},
        rollout::{Decision, DecisionVerb, ModelRolloutSpec, Outcome, Rejection, Scope, Trigger},
        version::LifecycleState,
    },
    plan::observed::{Observed, Record, Revision},
};

/// The records of one ModelDeployment name, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
    model: String,
}

/// A decision that was carried out on a Deployment, as its label names it: `12.1`, or `12.2-paused`
/// if that write left it paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionLabel {
    /// Number of the rollout.
    pub rollout: i64,
    /// Number of pauses and resumes in it.
    pub decisions: usize,
    /// True if the write left the Deployment paused.
    pub paused: bool,
}

/// The largest rollout number that a label may name. A label with a larger number is not ours.
const NUMBER_MAX: i64 = 1 << 31;

impl DecisionLabel {
    /// Parses the label's value; None for anything else.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (numbers, paused) =
            value.strip_suffix("-paused").map_or((value, false), |numbers| (numbers, true));
        let (rollout, decisions) = numbers.split_once('.')?;
        let rollout = rollout.parse().ok().filter(|n| (1..=NUMBER_MAX).contains(n))?;
        Some(Self { rollout, decisions: decisions.parse().ok()?, paused })
    }

    /// Returns the numbers of the rollout and of its decisions, for comparing.
    #[must_use]
    pub fn decision_numbers(self) -> (i64, usize) {
        (self.rollout, self.decisions)
    }
}

impl fmt::Display for DecisionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.rollout, self.decisions, if self.paused { "-paused" } else { "" })
    }
}

/// Something that a rejection can cover.
pub trait Rejectable {
    /// recordDigest, contentHash and revisionHash.
    fn rejection_keys(&self) -> (&str, &str, &str);
}

impl Rejectable for ModelRolloutSpec {
    fn rejection_keys(&self) -> (&str, &str, &str) {
        (&self.record_digest, &self.content_hash, &self.revision_hash)
    }
}

impl Rejectable for Revision {
    fn rejection_keys(&self) -> (&str, &str, &str) {
        (&self.record_digest, &self.content_hash, &self.revision_hash)
    }
}

/// Finds the key of a revision for a rejection of that scope.
fn find_rejection_key(scope: Scope, revision: &impl Rejectable) -> &str {
    let (record_digest, content_hash, revision_hash) = revision.rejection_keys();
    match scope {
        Scope::Version => record_digest,
        Scope::Content => content_hash,
        Scope::Revision => revision_hash,
    }
}

/// Builds the rejection of a rollout that is left.
#[must_use]
pub fn make_rejection(left: &ModelRolloutSpec, scope: Scope) -> Rejection {
    let key = find_rejection_key(scope, left).to_owned();
    Rejection { rollout: left.number, scope, key }
}

/// True if a rejection covers a revision.
#[must_use]
pub fn rejection_covers(rejection: &Rejection, revision: &impl Rejectable) -> bool {
    rejection.key == find_rejection_key(rejection.scope, revision)
}

/// The end of one rollout, or the time at which it began to serve.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The outcome to add, where it has none.
    pub outcome: Option<Outcome>,
    /// The time of the end.
    pub at: Time,
    /// The outcome in a sentence.
    pub message: String,
    /// True if the rollout has all the traffic from now on.
    pub serves: bool,
    /// Images that its pods run.
    pub images: Vec<String>,
    /// True if the deletion of its ModelDeployment ends its serving.
    pub until: bool,
}

impl Ending {
    /// The ending of something that neither serves nor stops serving.
    #[must_use]
    pub fn new(outcome: Outcome, now: Timestamp, message: String) -> Self {
        let images = Vec::new();
        Self { outcome: Some(outcome), at: Time(now), message, serves: false, images, until: false }
    }
}

impl History {
    /// The observed history of a name, read for one model.
    #[must_use]
    pub fn new(observed: &Observed, model: &str) -> Self {
        let mut records = observed.records.clone();
        records.sort_by_key(|r| r.spec.number);
        Self { records, model: model.to_owned() }
    }

    /// Every record of the name, oldest first, whatever its model.
    #[must_use]
    pub fn all_records(&self) -> &[Record] {
        &self.records
    }

    /// The records of this model, oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &ModelRolloutSpec> {
        let mine = |r: &&ModelRolloutSpec| r.model == self.model;
        self.records.iter().map(|r| &*r.spec).filter(mine)
    }

    /// Adds a record that is not stored yet.
    pub fn push_record(&mut self, spec: ModelRolloutSpec) {
        let (uid, resource_version, restored) = (String::new(), String::new(), None);
        self.records.push(Record { uid, resource_version, restored, spec: Arc::new(spec) });
    }

    /// Appends a pause or resume to the newest record of this model.
    pub fn append_decision(&mut self, decision: Decision) {
        let model = &self.model;
        if let Some(latest) = self.records.iter_mut().rev().find(|r| r.spec.model == *model) {
            Arc::make_mut(&mut latest.spec).decisions.push(decision);
        }
    }

    /// Adds the outcome to a record. Fields that are already written stay as they are.
    pub fn record_outcome(&mut self, number: i64, ending: Ending) {
        let find = |r: &&mut Record| r.spec.number == number;
        let Some(record) = self.records.iter_mut().find(find) else { return };
        let record = Arc::make_mut(&mut record.spec);
        if record.outcome.is_none() && ending.outcome.is_some() {
            record.outcome = ending.outcome;
            record.end_time = Some(ending.at.clone());
            record.message = Some(truncate_text(&ending.message, MESSAGE_MAX));
            record.observed_images = ending.images;
        }
        if ending.serves && record.served_from.is_none() {
            record.served_from = Some(ending.at.clone());
        }
        if ending.until && record.served_from.is_some() && record.served_until.is_none() {
            record.served_until = Some(ending.at);
        }
    }

    /// Takes back whatever was added to records since they were stored.
    pub fn restore_records(&mut self, stored: &[&Record]) {
        for record in &mut self.records {
            if let Some(before) = stored.iter().find(|r| r.uid == record.uid) {
                record.spec = before.spec.clone();
            }
        }
    }

    /// The newest record of this model, unless the deletion of its ModelDeployment ended it.
    #[must_use]
    pub fn newest(&self) -> Option<&ModelRolloutSpec> {
        self.latest().filter(|r| !is_ended_by_deletion(r))
    }

    /// The newest record of this model, even if the deletion of its ModelDeployment ended it. It
    /// takes pauses and resumes: a pause outlives a ModelDeployment, and has to be lifted then too.
    #[must_use]
    pub fn latest(&self) -> Option<&ModelRolloutSpec> {
        self.records().next_back()
    }

    /// The rollout in progress.
    #[must_use]
    pub fn in_progress(&self) -> Option<&ModelRolloutSpec> {
        self.newest().filter(|r| r.is_open())
    }

    /// True if the rollout in progress goes back.
    #[must_use]
    pub fn is_going_back(&self) -> bool {
        self.in_progress().is_some_and(ModelRolloutSpec::goes_back)
    }

    /// The rollout that serves: the newest promoted one, unless its ModelDeployment was deleted
    /// since.
    #[must_use]
    pub fn serving(&self) -> Option<&ModelRolloutSpec> {
        self.served_last().filter(|r| r.served_until.is_none())
    }

    /// The newest promoted rollout, even if its ModelDeployment was deleted since.
    #[must_use]
    pub fn served_last(&self) -> Option<&ModelRolloutSpec> {
        self.records().rev().find(|r| r.served_from.is_some())
    }

    /// Lists the rollouts since the serving one was promoted, or all where none serves. They may
    /// still have pods, even if they were left.
    pub fn list_since_serving(&self) -> impl Iterator<Item = &ModelRolloutSpec> {
        let serving = self.serving().map_or(0, |s| s.number);
        let since = self.records().filter(move |r| r.number > serving);
        since.filter(|r| r.outcome != Some(Outcome::Deleted))
    }

    /// Returns the record of that number, of this model.
    #[must_use]
    pub fn get(&self, number: i64) -> Option<&ModelRolloutSpec> {
        self.records().find(|r| r.number == number)
    }

    /// The number of the newest record of the name; 0 for none.
    #[must_use]
    pub fn latest_number(&self) -> i64 {
        self.records.last().map_or(0, |r| r.spec.number)
    }

    /// The newest decision on one Deployment, which its label names once the decision is carried
    /// out.
    #[must_use]
    pub fn newest_decision_on(&self, deployment_name: &str) -> Option<(i64, usize)> {
        let mut records = self.records.iter().rev().map(|r| &*r.spec);
        let newest = records.find(|r| r.deployment_name == deployment_name)?;
        Some((newest.number, newest.decisions.len()))
    }

    /// The newest record of this model on one Deployment, unless the deletion of its
    /// ModelDeployment ended it.
    #[must_use]
    pub fn newest_on(&self, deployment_name: &str) -> Option<&ModelRolloutSpec> {
        let mut records = self.records().rev();
        let newest = records.find(|r| r.deployment_name == deployment_name);
        newest.filter(|r| !is_ended_by_deletion(r))
    }

    /// The newest decision of the name.
    #[must_use]
    pub fn newest_decision(&self) -> Option<(i64, usize)> {
        self.records.last().map(|r| (r.spec.number, r.spec.decisions.len()))
    }

    /// Finds the record that a decision label names, of any model.
    #[must_use]
    pub fn find_labelled(&self, label: DecisionLabel) -> Option<&ModelRolloutSpec> {
        self.records.iter().map(|r| &*r.spec).find(|r| r.number == label.rollout)
    }

    /// Returns the number of the record that a request created or changed, if it was carried out
    /// already.
    #[must_use]
    pub fn rollout_for_request(&self, request_uid: &str) -> Option<i64> {
        let asked = |by: &crate::api::rollout::DecidedBy| {
            by.request.as_ref().is_some_and(|r| r.uid == request_uid)
        };
        self.records
            .iter()
            .map(|r| &*r.spec)
            .find(|r| asked(&r.decided_by) || r.decisions.iter().any(|d| asked(&d.decided_by)))
            .map(|r| r.number)
    }

    /// Finds the record with the pause that a person decided and did not lift. A pause stands
    /// across rollouts.
    fn find_pause(&self) -> Option<(&ModelRolloutSpec, &Decision)> {
        let newest = self.records().rev().find_map(|r| Some((r, r.decisions.last()?)))?;
        (newest.1.verb == DecisionVerb::Pause).then_some(newest)
    }

    /// The pause that a person decided and did not lift.
    #[must_use]
    pub fn standing_pause(&self) -> Option<&Decision> {
        self.find_pause().map(|(_, decision)| decision)
    }

    /// Lists every standing rejection with the record that rejects, oldest first. They follow from
    /// the records alone: a record that goes back rejects, and one that [`lifts_rejections`] clears
    /// those that cover its revision.
    #[must_use]
    pub fn list_rejections(&self) -> Vec<(&Rejection, &ModelRolloutSpec)> {
        let mut out: Vec<(&Rejection, &ModelRolloutSpec)> = Vec::new();
        for record in self.records() {
            if lifts_rejections(record) {
                out.retain(|(rejection, _)| !rejection_covers(rejection, record));
            }
            if let Some(rejection) = &record.rejects {
                out.push((rejection, record));
            }
        }
        out
    }

    /// Finds the newest rejection that covers a revision.
    #[must_use]
    pub fn find_rejection(
        &self,
        revision: &impl Rejectable,
    ) -> Option<(&Rejection, &ModelRolloutSpec)> {
        self.list_rejections().into_iter().rev().find(|(r, _)| rejection_covers(r, revision))
    }

    /// Lists the numbers of the rollouts that a new decision depends on: the serving one, and those
    /// with a standing rejection or pause.
    #[must_use]
    pub fn find_foundations(&self) -> Vec<i64> {
        let mut numbers: Vec<i64> = self.list_rejections().iter().map(|(_, r)| r.number).collect();
        numbers.extend(self.served_last().map(|r| r.number));
        numbers.extend(self.find_pause().map(|(r, _)| r.number));
        numbers.sort_unstable();
        numbers.dedup();
        // The newest matter most. An older rejection that is dropped is still read while its record
        // exists.
        let surplus = numbers.len().saturating_sub(FOUNDATIONS_MAX);
        numbers.split_off(surplus)
    }

    /// The rollout that is good by the last word of anyone: the newest that goes back since what
    /// serves was promoted, complete or not, unless that may not serve; else what serves, even if
    /// it is yanked or its ModelVersion is gone, unless it is rejected. A Retry of what serves takes
    /// back an earlier going back.
    #[must_use]
    pub fn last_good(&self, observed: &Observed) -> Option<&ModelRolloutSpec> {
        let served = self.served_last()?;
        let since = self.records().rev().take_while(|r| r.number != served.number);
        let confirms = |r: &ModelRolloutSpec| {
            r.trigger == Trigger::Retry && r.content_hash == served.content_hash
        };
        let mut back = since.take_while(|r| !confirms(r)).filter(|r| r.goes_back());
        let back = back.find(|r| self.explain_ineligibility(observed, r).is_none());
        back.or_else(|| Some(served).filter(|served| self.find_rejection(*served).is_none()))
    }

    /// Finds the rollback target (rule 1). While the newest rollout is open and goes forward, it is
    /// the last good rollout without any change. Otherwise it is the newest promoted rollout with
    /// another contentHash that is kept, and neither rejected nor yanked.
    #[must_use]
    pub fn find_rollback_target(&self, observed: &Observed) -> Option<&ModelRolloutSpec> {
        let open = self.in_progress().filter(|open| !open.goes_back());
        let good = open
            .and_then(|open| self.last_good(observed).filter(|good| !serves_the_same(open, good)));
        good.or_else(|| self.find_earlier_content(observed))
    }

    /// Finds the newest promoted rollout with another contentHash than the newest rollout that is
    /// kept, and neither rejected nor yanked.
    #[must_use]
    pub fn find_earlier_content(&self, observed: &Observed) -> Option<&ModelRolloutSpec> {
        let left = self.newest().map(|r| r.content_hash.as_str());
        self.records().rev().find(|r| {
            r.is_promoted()
                && Some(r.content_hash.as_str()) != left
                && self.explain_ineligibility(observed, r).is_none()
        })
    }

    /// Explains why a recorded rollout is not eligible as a rollback target, as the end of a
    /// sentence; None if it is.
    #[must_use]
    pub fn explain_ineligibility(
        &self,
        observed: &Observed,
        record: &ModelRolloutSpec,
    ) -> Option<String> {
        if !is_kept(observed, record) {
            let name = &record.revision_name;
            let why = match observed.revisions.iter().any(|c| c.name == *name) {
                true => {
                    format!("ControllerRevision {name} was changed and no longer fits its record")
                }
                false => "its stored revision is kept no longer (spec.revisionHistoryLimit)".into(),
            };
            return Some(why);
        }
        if let Some((_, by)) = self.find_rejection(record) {
            return Some(format!("it was rejected by rollout {}", by.number));
        }
        if is_yanked(observed, record) {
            return Some(format!("version {} is yanked or in conflict", record.version));
        }
        None
    }

    /// Finds the newest promoted rollout of a revision, whose rendering is used again.
    #[must_use]
    pub fn find_promoted_rendering(&self, revision_hash: &str) -> Option<&ModelRolloutSpec> {
        let mut same = self.records().rev().filter(|r| r.revision_hash == revision_hash);
        same.find(|r| r.is_promoted())
    }

    /// True if this version, by its recordDigest, was ever promoted here.
    #[must_use]
    pub fn was_promoted(&self, record_digest: &str) -> bool {
        self.records().any(|r| r.is_promoted() && r.record_digest == record_digest)
    }

    /// Returns the numbers of the records that the newest one depends on (standsOn).
    #[must_use]
    pub fn needed_foundations(&self) -> HashSet<i64> {
        self.records().next_back().into_iter().flat_map(|r| r.stands_on.iter().copied()).collect()
    }
}

/// Maximum number of rollouts that a record may depend on.
const FOUNDATIONS_MAX: usize = 64;

/// True if a rollout lifts the rejections of what it serves: a Retry, or one that goes back, which
/// a person may ask for to what serves although it is rejected.
#[must_use]
pub fn lifts_rejections(record: &ModelRolloutSpec) -> bool {
    record.trigger == Trigger::Retry || record.goes_back()
}

/// True if two rollouts serve the same pods: revision, rendering and restartedAt are equal.
#[must_use]
pub fn serves_the_same(a: &ModelRolloutSpec, b: &ModelRolloutSpec) -> bool {
    a.revision_hash == b.revision_hash
        && a.revision_name == b.revision_name
        && a.restarted_at == b.restarted_at
}

/// True if the template of a rollout is still available: its revision is stored, or a ReplicaSet of
/// it was read live.
#[must_use]
pub fn is_kept(observed: &Observed, record: &ModelRolloutSpec) -> bool {
    super::find_stored_revision(observed, record).is_some()
        || super::find_live_template(observed, record).is_some()
}

/// True if the version of a record is yanked or in conflict with the record, so that it must not be
/// newly served.
#[must_use]
pub fn is_yanked(observed: &Observed, record: &ModelRolloutSpec) -> bool {
    observed.find_version_of(record).is_some_and(|v| {
        let yanked = v.lifecycle.as_ref().is_some_and(|l| l.state == LifecycleState::Yanked);
        yanked || (!observed.memory.crds_older && v.record_digest != record.record_digest)
    })
}

/// True if the deletion of its ModelDeployment ended a record.
#[must_use]
pub fn is_ended_by_deletion(record: &ModelRolloutSpec) -> bool {
    record.served_until.is_some() || record.outcome == Some(Outcome::Deleted)
}

#[cfg(test)]
mod tests;
