//! From the records to what serves, what is rejected, whether people paused it, and where going
//! back leads.

use std::{fmt, sync::Arc};

use super::{
    decide::Ending,
    observed::{Observed, Record},
};
use crate::api::{
    condition::{MESSAGE_MAX, bounded},
    rollout::{Decision, DecisionVerb, ModelRolloutSpec, Outcome, Rejection, Scope, Trigger},
    version::LifecycleState,
};

/// The records of one ModelDeployment name, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
}

/// A decision carried out on a Deployment, as its label says: `12.1`, or `12.2-paused` where that
/// write left it paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionLabel {
    /// Number of the rollout.
    pub rollout: i64,
    /// How many decisions it held.
    pub decisions: usize,
    /// Whether the write left the Deployment paused.
    pub paused: bool,
}

impl DecisionLabel {
    /// The label's value read back; None for anything else.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (numbers, paused) =
            value.strip_suffix("-paused").map_or((value, false), |numbers| (numbers, true));
        let (rollout, decisions) = numbers.split_once('.')?;
        Some(Self {
            rollout: rollout.parse().ok().filter(|n| *n > 0)?,
            decisions: decisions.parse().ok()?,
            paused,
        })
    }

    /// The decision alone, for comparing.
    #[must_use]
    pub fn decision(self) -> (i64, usize) {
        (self.rollout, self.decisions)
    }
}

impl fmt::Display for DecisionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.rollout, self.decisions, if self.paused { "-paused" } else { "" })
    }
}

/// What a rejection is compared with.
pub trait Rejectable {
    /// recordDigest, contentHash and revisionHash.
    fn keys(&self) -> (&str, &str, &str);
}

impl Rejectable for ModelRolloutSpec {
    fn keys(&self) -> (&str, &str, &str) {
        (&self.record_digest, &self.content_hash, &self.revision_hash)
    }
}

impl Rejectable for super::content::Content {
    fn keys(&self) -> (&str, &str, &str) {
        (&self.record_digest, &self.content_hash, &self.revision_hash)
    }
}

/// Whether a rejection covers a content.
#[must_use]
pub fn covers(rejection: &Rejection, what: &impl Rejectable) -> bool {
    let (record_digest, content_hash, revision_hash) = what.keys();
    rejection.key
        == match rejection.scope {
            Scope::Version => record_digest,
            Scope::Content => content_hash,
            Scope::Revision => revision_hash,
        }
}

impl History {
    /// The history that was observed.
    #[must_use]
    pub fn of(seen: &Observed) -> Self {
        let mut records = seen.records.clone();
        records.sort_by_key(|r| r.spec.number);
        Self { records }
    }

    /// Every record, oldest first.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The history with one more record.
    pub fn push(&mut self, spec: ModelRolloutSpec) {
        self.records.push(Record {
            uid: String::new(),
            resource_version: String::new(),
            spec: Arc::new(spec),
        });
    }

    /// Appends a decision to the newest record.
    pub fn decide(&mut self, decision: Decision) {
        if let Some(newest) = self.records.last_mut() {
            Arc::make_mut(&mut newest.spec).decisions.push(decision);
        }
    }

    /// Adds to a record how it ended; what is written already stays as it is.
    pub fn end(&mut self, number: i64, ending: Ending) {
        let Some(record) =
            self.records.iter_mut().map(|r| &mut r.spec).find(|r| r.number == number)
        else {
            return;
        };
        let record = Arc::make_mut(record);
        if record.outcome.is_none() && ending.outcome.is_some() {
            record.outcome = ending.outcome;
            record.end_time = Some(ending.at.clone());
            record.message = Some(bounded(&ending.message, MESSAGE_MAX));
            record.observed_images = ending.images;
        }
        if ending.serves && record.served_from.is_none() {
            record.served_from = Some(ending.at.clone());
        }
        if ending.until && record.served_from.is_some() && record.served_until.is_none() {
            record.served_until = Some(ending.at);
        }
        if ending.available && record.was_available.is_none() {
            record.was_available = Some(true);
        }
    }

    /// The newest record, whatever became of it.
    #[must_use]
    pub fn last(&self) -> Option<&Record> {
        self.records.last()
    }

    /// The newest record, unless the deletion of its ModelDeployment ended it.
    #[must_use]
    pub fn newest(&self) -> Option<&ModelRolloutSpec> {
        self.records.last().map(|r| &*r.spec).filter(|r| !ended_by_deletion(r))
    }

    /// The rollout that goes on.
    #[must_use]
    pub fn open(&self) -> Option<&ModelRolloutSpec> {
        self.newest().filter(|r| r.outcome.is_none())
    }

    /// The rollout that serves: the newest that ever had all the traffic and still has it.
    #[must_use]
    pub fn serving(&self) -> Option<&ModelRolloutSpec> {
        self.records
            .iter()
            .rev()
            .map(|r| &*r.spec)
            .find(|r| r.served_from.is_some())
            .filter(|r| r.served_until.is_none())
    }

    /// The rollout that served last, also where its ModelDeployment was deleted since.
    #[must_use]
    pub fn served_last(&self) -> Option<&ModelRolloutSpec> {
        self.records.iter().rev().map(|r| &*r.spec).find(|r| r.served_from.is_some())
    }

    /// The record of that number.
    #[must_use]
    pub fn get(&self, number: i64) -> Option<&ModelRolloutSpec> {
        self.records.iter().map(|r| &*r.spec).find(|r| r.number == number)
    }

    /// The number of the newest record; 0 for none.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.records.last().map_or(0, |r| r.spec.number)
    }

    /// The newest decision: what a Deployment's label has to say once it is carried out.
    #[must_use]
    pub fn decision(&self) -> Option<(i64, usize)> {
        self.records.last().map(|r| (r.spec.number, r.spec.decisions.len()))
    }

    /// The number of the record that a request made or changed, if it was carried out already.
    #[must_use]
    pub fn handled(&self, request_uid: &str) -> Option<i64> {
        let is = |by: &crate::api::rollout::DecidedBy| {
            by.request.as_ref().is_some_and(|r| r.uid == request_uid)
        };
        self.records
            .iter()
            .map(|r| &*r.spec)
            .find(|r| is(&r.decided_by) || r.decisions.iter().any(|d| is(&d.decided_by)))
            .map(|r| r.number)
    }

    /// The pause that people decided and did not lift: it holds over rollouts.
    #[must_use]
    pub fn pause(&self) -> Option<&Decision> {
        let newest = self.records.iter().rev().find_map(|r| r.spec.decisions.last())?;
        (newest.verb == DecisionVerb::Pause).then_some(newest)
    }

    /// What is rejected, with the record that rejects it, oldest first. Computed from the records
    /// alone: only a record that goes back rejects, and a Retry clears whatever covers its own
    /// content.
    #[must_use]
    pub fn rejections(&self) -> Vec<(&Rejection, &ModelRolloutSpec)> {
        let mut out: Vec<(&Rejection, &ModelRolloutSpec)> = Vec::new();
        for record in self.records.iter().map(|r| &*r.spec) {
            if record.trigger == Trigger::Retry {
                out.retain(|(rejection, _)| !covers(rejection, record));
            }
            if let Some(rejection) = &record.rejects {
                out.push((rejection, record));
            }
        }
        out
    }

    /// The newest rejection that covers a content.
    #[must_use]
    pub fn rejecting(&self, what: &impl Rejectable) -> Option<(&Rejection, &ModelRolloutSpec)> {
        self.rejections().into_iter().rev().find(|(rejection, _)| covers(rejection, what))
    }

    /// Where going back leads: the newest rollout that was promoted, was available with at least
    /// one pod, is kept, may serve, and whose contentHash differs from the newest rollout's. `and` is the
    /// rejection that the decision to go back brings itself.
    #[must_use]
    pub fn back(&self, seen: &Observed, and: Option<&Rejection>) -> Option<&ModelRolloutSpec> {
        let left = self.newest().map(|r| r.content_hash.as_str());
        self.records.iter().rev().map(|r| &*r.spec).find(|r| {
            r.outcome == Some(Outcome::Promoted)
                && r.was_available == Some(true)
                && Some(r.content_hash.as_str()) != left
                && self.barred(seen, r).is_none()
                && !and.is_some_and(|rejection| covers(rejection, *r))
        })
    }

    /// Why a recorded rollout may not be gone back to, if so, as the end of a sentence.
    #[must_use]
    pub fn barred(&self, seen: &Observed, record: &ModelRolloutSpec) -> Option<String> {
        if !seen.contents.iter().any(|c| c.name == record.revision_name) {
            return Some("its content is kept no longer (spec.revisionHistoryLimit)".into());
        }
        if let Some((_, by)) = self.rejecting(record) {
            return Some(format!("it was rejected by rollout {}", by.number));
        }
        if yanked(seen, record) {
            return Some(format!("version {} is yanked", record.version));
        }
        None
    }
}

/// Whether the version of a record is yanked, or in conflict with it: not to be newly served.
#[must_use]
pub fn yanked(seen: &Observed, record: &ModelRolloutSpec) -> bool {
    let version =
        seen.versions.iter().find(|v| v.model == record.model && v.version == record.version);
    version.is_some_and(|v| {
        let pulled = v.lifecycle.as_ref().is_some_and(|l| l.state == LifecycleState::Yanked);
        pulled || (!seen.memory.crds_older && v.record_digest != record.record_digest)
    })
}

/// Whether the deletion of its ModelDeployment ended a record.
#[must_use]
pub fn ended_by_deletion(record: &ModelRolloutSpec) -> bool {
    // The newest record is superseded by nothing but a deletion; older ones are never asked.
    record.served_until.is_some() || record.outcome == Some(Outcome::Superseded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_label_reads_back_as_it_was_written() {
        for value in ["12.0", "12.1", "12.2-paused"] {
            assert_eq!(DecisionLabel::parse(value).unwrap().to_string(), value);
        }
    }

    #[test]
    fn what_is_no_decision_label_is_none() {
        for value in ["", "12", "x.1", "12.-1", "0.1", "-3.0", "12.1-held"] {
            assert_eq!(DecisionLabel::parse(value), None, "{value}");
        }
    }

    #[test]
    fn decisions_compare_as_integers() {
        assert!(
            DecisionLabel::parse("9.11").unwrap().decision()
                < DecisionLabel::parse("10.2").unwrap().decision()
        );
    }
}
