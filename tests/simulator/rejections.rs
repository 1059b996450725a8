//! What the witness says of rejections: what a person went back from is not newly served, and
//! nothing is held or failed without a reason.

use std::collections::BTreeSet;

use rollmodel::api::{
    ModelRolloutSpec,
    rollout::{Scope, Trigger},
};
use serde::Serialize;

use super::cluster::Cluster;

/// What people went back from, until a Retry, or until they go back to it. A backup has its own.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rejections {
    /// recordDigests.
    pub versions: BTreeSet<String>,
    /// Hashes of contents that were left for another content of the same version.
    pub contents: BTreeSet<String>,
    /// The same, and contents that were left for other labels of themselves.
    pub left_within_a_version: BTreeSet<String>,
}

impl Cluster {
    pub fn witness_admission(
        &mut self,
        record: &ModelRolloutSpec,
        serving: Option<&ModelRolloutSpec>,
    ) {
        if self.faults.older_crds || self.truth.was_stale {
            return;
        }
        let serves = serving.is_some_and(|s| s.record_digest == record.record_digest);
        if !serves && self.is_yanked(record) {
            let sentence = format!(
                "rollout {} newly serves version {}, which is yanked or in conflict",
                record.number, record.version
            );
            self.violate("only-admitted-is-newly-served", sentence);
        }
        if record.trigger == Trigger::Retry {
            return;
        }
        let rejections = &self.truth.rejections;
        let what = format!("rollout {} ({:?})", record.number, record.trigger);
        if !serves && rejections.versions.contains(&record.record_digest) {
            let version = &record.version;
            let sentence =
                format!("{what} serves version {version}, which a person went back from");
            return self.violate("rejected-stays-rejected", sentence);
        }
        let serves = serving.is_some_and(|s| s.content_hash == record.content_hash);
        if !serves && rejections.contents.contains(&record.content_hash) {
            let sentence = format!("{what} serves a template that a person went back from");
            self.violate("rejected-stays-rejected", sentence);
        }
    }

    pub fn witness_rejection(&mut self, record: &ModelRolloutSpec) {
        let Some(rejection) = &record.rejects else { return };
        let own = match rejection.scope {
            Scope::Version => &record.record_digest,
            Scope::Content => &record.content_hash,
            Scope::Revision => &record.revision_hash,
        };
        if rejection.key == *own {
            let sentence = format!("rollout {} rejects what it serves", record.number);
            self.violate("nothing-rejects-itself", sentence);
        }
    }

    pub fn note_rejection_by_people(
        &mut self,
        record: &ModelRolloutSpec,
        left: Option<&ModelRolloutSpec>,
    ) {
        if record.trigger == Trigger::Retry && self.truth.were_records_lost {
            self.forget_lost_rejections();
        }
        let rejections = &mut self.truth.rejections;
        let is_person = matches!(record.trigger, Trigger::Undo | Trigger::Abort);
        // Who goes back to something lifts what covers it, as a Retry does.
        if is_person || record.trigger == Trigger::Retry {
            rejections.versions.remove(&record.record_digest);
            rejections.contents.remove(&record.content_hash);
            rejections.left_within_a_version.remove(&record.content_hash);
        }
        let Some(left) = left.filter(|_| is_person) else { return };
        if left.record_digest != record.record_digest {
            rejections.versions.insert(left.record_digest.clone());
            return;
        }
        rejections.left_within_a_version.insert(left.content_hash.clone());
        if left.content_hash != record.content_hash {
            rejections.contents.insert(left.content_hash.clone());
        }
    }

    /// A person said how it goes on without the lost records: what they rejected may serve.
    fn forget_lost_rejections(&mut self) {
        self.truth.were_records_lost = false;
        let history = self.history().into_iter().filter_map(|r| r.rejects.as_ref());
        let kept: BTreeSet<String> = history.map(|rejects| rejects.key.clone()).collect();
        let rejections = &mut self.truth.rejections;
        rejections.versions.retain(|key| kept.contains(key));
        rejections.contents.retain(|key| kept.contains(key));
    }

    /// Whether people went back from the version of a record.
    pub fn truth_rejects(&self, record: &ModelRolloutSpec) -> bool {
        self.truth.rejections.versions.contains(&record.record_digest)
    }

    /// Whether a version may be held: a person went back from it, it failed of itself, or its
    /// template was refused.
    pub fn may_be_held(&self, version: &str) -> bool {
        let mut digests = self.versions.iter().filter(|v| v.version == version);
        digests.any(|v| self.truth.rejections.versions.contains(&v.record_digest))
            || self.truth.faulty.contains(version)
            || !self.truth.refused_templates.is_empty()
            || !self.truth.rejections.left_within_a_version.is_empty()
            || self.truth.secret_was_rotated
    }
}
