//! The records of one name, as they are stored.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Observed;
use crate::api::ModelRolloutSpec;

/// A ModelRollout with its metadata.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Uid of the ModelRollout; empty for one that this plan creates.
    pub uid: String,
    /// The resourceVersion of the ModelRollout.
    #[serde(default)]
    pub resource_version: String,
    /// The creationTimestamp of the ModelRollout, if that is much later than the rollout: it was
    /// restored from a backup then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Timestamp>,
    /// Spec of the record. It is shared, because every pass reads every record and changes few.
    pub spec: Arc<ModelRolloutSpec>,
}

/// Seconds for which the other objects of a backup are waited for after a record was restored.
const RESTORE_SECONDS: i64 = 3600;

impl Record {
    /// Returns the seconds for which the ModelDeployment and the Deployment of a restored record
    /// may still be missing, because they are restored later; None for a record that was not
    /// restored, or long ago.
    #[must_use]
    pub fn restore_seconds_left(&self, now: Timestamp) -> Option<i64> {
        let left = self.restored?.as_second() + RESTORE_SECONDS - now.as_second();
        (left > 0).then_some(left)
    }
}

impl Observed {
    /// True if a record was restored so recently that its ModelDeployment or its Deployment may be
    /// missing.
    #[must_use]
    pub fn is_being_restored(&self, record: &ModelRolloutSpec, now: Timestamp) -> bool {
        let stored = self.records.iter().find(|r| r.spec.number == record.number);
        stored.is_some_and(|r| r.restore_seconds_left(now).is_some())
    }
}
