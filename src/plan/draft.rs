//! A plan in the making: the history as it will be, and what has to be written for it.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    action::{Action, Lookup, Plan},
    blame::{self, Blame, Ownership},
    content::{self, Content, Problem},
    history::{DecisionLabel, History},
    observed::{Blocked, ContentBody, Observed, Wanted, Workload},
};
use crate::api::{
    ModelDeploymentStatus, ModelRolloutSpec,
    condition::Time,
    names,
    rollout::{DecidedBy, ModelDeploymentRef, Rejection, StrategyKind, Trigger},
};

/// What is planned so far for one ModelDeployment.
pub struct Draft<'a> {
    /// What was observed.
    pub seen: &'a Observed,
    /// The ModelDeployment.
    pub wanted: &'a Wanted,
    /// The time.
    pub now: Timestamp,
    /// The records, with what this plan adds to them.
    pub history: History,
    /// The content that the spec names.
    pub desired: Result<Content, Problem>,
    /// Whether the Deployment is ours.
    pub ownership: Option<Ownership>,
    /// What the Deployment's label and differences amount to; None without a Deployment of ours.
    pub blame: Option<Blame>,
    /// The content to store before the record.
    pub store: Option<(String, ContentBody)>,
    /// Reads past the caches that have to come first.
    pub lookups: Vec<Lookup>,
    /// Answers, deletions and Events, after the writes that they tell of.
    pub after: Vec<Action>,
    /// Seconds until something is due by time alone.
    pub again: Option<i64>,
    /// The newest record's content is nowhere, and cannot be made anew.
    pub lost: bool,
    /// A refused write that is still to be done.
    pub refused: Option<&'a Blocked>,
}

/// What a new record is to say, beside what follows from the history.
pub struct Decision {
    /// The version's string, recordDigest, revisionHash and contentHash.
    pub content: Content,
    /// Name of the ControllerRevision.
    pub revision_name: String,
    /// What caused it.
    pub trigger: Trigger,
    /// Who or what triggered it.
    pub decided_by: DecidedBy,
    /// What it rejects.
    pub rejects: Option<Rejection>,
    /// When its pods were asked to restart.
    pub restarted_at: Option<String>,
}

impl<'a> Draft<'a> {
    /// A draft of nothing.
    #[must_use]
    pub fn new(seen: &'a Observed, wanted: &'a Wanted, now: Timestamp) -> Self {
        let history = History::of(seen);
        let mut draft = Self {
            seen,
            wanted,
            now,
            desired: content::desired(seen, &wanted.spec),
            ownership: seen
                .workload
                .as_ref()
                .map(|w| blame::workload_ownership(seen, w, &wanted.uid)),
            blame: None,
            history,
            store: None,
            lookups: Vec::new(),
            after: Vec::new(),
            again: None,
            lost: false,
            refused: None,
        };
        if let Some(workload) = draft.workload() {
            let rendering = draft
                .history
                .newest()
                .and_then(|r| draft.stored(&r.revision_name))
                .and_then(|c| c.body.as_ref());
            draft.blame =
                Some(blame::blame(&draft.history, workload, rendering.map(|b| &b.rendering)));
        }
        if matches!(draft.blame, Some(Blame::Ahead(_))) && !draft.need(Lookup::Records) {
            draft.blame = Some(Blame::Pending);
        }
        draft
    }

    /// Whether this ModelDeployment was made anew while nobody looked: what goes on or serves is
    /// another one's, and no Deployment is left to take over.
    #[must_use]
    pub fn made_anew(&self) -> bool {
        let others = [self.history.open(), self.history.serving()].into_iter().flatten();
        self.workload().is_none()
            && others
                .into_iter()
                .any(|r| r.model_deployment_ref.uid.as_deref() != Some(self.wanted.uid.as_str()))
    }

    /// The Deployment, where it is ours or may be.
    #[must_use]
    pub fn workload(&self) -> Option<&'a Workload> {
        let ours = matches!(self.ownership, Some(Ownership::Ours | Ownership::Adoptable));
        self.seen.workload.as_ref().filter(|_| ours)
    }

    /// The Deployment, where it carries out the newest decision, also of this plan's own.
    #[must_use]
    pub fn carried(&self) -> Option<&'a Workload> {
        let label = self
            .workload()?
            .meta
            .labels
            .get(names::DECISION)
            .and_then(|v| DecisionLabel::parse(v))?;
        self.workload().filter(|_| Some(label.decision()) == self.history.decision())
    }

    /// A stored content by its name.
    #[must_use]
    pub fn stored(&self, name: &str) -> Option<&'a super::observed::StoredContent> {
        self.seen.contents.iter().find(|c| c.name == name)
    }

    /// Asks for a read past the caches; false when that was read already.
    pub fn need(&mut self, lookup: Lookup) -> bool {
        if self.seen.memory.looked_up.contains(&lookup) {
            return false;
        }
        if !self.lookups.contains(&lookup) {
            self.lookups.push(lookup);
        }
        true
    }

    /// Plans again as soon as what this plan writes is seen: no news may come of what it leaves to
    /// do.
    pub fn again_at_once(&mut self) {
        self.again = Some(0);
    }

    /// Plans again after so many seconds, at the latest.
    pub fn again_in(&mut self, seconds: i64) {
        let seconds = seconds.max(1);
        self.again = Some(self.again.map_or(seconds, |have| have.min(seconds)));
    }

    /// Whether people hold the next step: by the spec, or by the verb.
    #[must_use]
    pub fn pause_wanted(&self) -> bool {
        self.wanted.spec.paused || self.history.pause().is_some()
    }

    /// The number that the next record takes: above every record, and above what the Deployment's
    /// label names.
    #[must_use]
    pub fn next_number(&self) -> i64 {
        let label = self
            .seen
            .workload
            .as_ref()
            .and_then(|w| w.meta.labels.get(names::DECISION))
            .and_then(|v| DecisionLabel::parse(v));
        self.history.number().max(label.map_or(0, |l| l.rollout)).saturating_add(1)
    }

    /// Records a decision to serve a content.
    pub fn record(&mut self, decision: Decision) {
        let previous_rollout = self.history.newest().map(|r| r.number);
        let number = self.next_number();
        self.history.push(ModelRolloutSpec {
            model_deployment_ref: ModelDeploymentRef {
                name: self.seen.name.clone(),
                uid: Some(self.wanted.uid.clone()),
            },
            number,
            previous_rollout,
            model: self.wanted.spec.model.clone(),
            version: decision.content.version,
            record_digest: decision.content.record_digest,
            revision_hash: decision.content.revision_hash,
            content_hash: decision.content.content_hash,
            revision_name: decision.revision_name,
            strategy: StrategyKind::RollingUpdate,
            deployment_name: self.seen.name.clone(),
            trigger: decision.trigger,
            decided_by: decision.decided_by,
            rejects: decision.rejects,
            restarted_at: decision.restarted_at,
            start_time: Time(self.now),
            outcome: None,
            message: None,
            end_time: None,
            served_from: None,
            served_until: None,
            was_available: None,
            observed_images: Vec::new(),
            decisions: Vec::new(),
        });
    }

    /// Records a decision to serve again what an earlier record served.
    pub fn record_again(
        &mut self,
        target: &ModelRolloutSpec,
        trigger: Trigger,
        decided_by: DecidedBy,
        rejects: Option<Rejection>,
        restarted_at: Option<String>,
    ) {
        let content = Content {
            version: target.version.clone(),
            record_digest: target.record_digest.clone(),
            revision_hash: target.revision_hash.clone(),
            content_hash: target.content_hash.clone(),
            written: Value::Null,
        };
        self.record(Decision {
            content,
            revision_name: target.revision_name.clone(),
            trigger,
            decided_by,
            rejects,
            restarted_at,
        });
    }

    /// Tells people, once a key.
    pub fn event(&mut self, warning: bool, reason: &str, message: String, key: String) {
        self.after.push(Action::Event { warning, reason: reason.into(), message, key });
    }

    /// The plan: `actions`, then what comes after; the status where it differs from what is
    /// written.
    #[must_use]
    pub fn finish(
        self,
        mut actions: Vec<Action>,
        status: Option<ModelDeploymentStatus>,
        why: String,
    ) -> Plan {
        if !self.lookups.is_empty() {
            return Plan {
                lookups: self.lookups,
                why: "Reads past the caches before it decides.".into(),
                ..Plan::default()
            };
        }
        actions.extend(self.after);
        Plan { lookups: Vec::new(), actions, status, requeue_after_seconds: self.again, why }
    }
}
