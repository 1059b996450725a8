//! What the planner may ask for: a closed list, executed in order and without a thought.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::observed::ContentBody;
use crate::api::{ModelDeploymentStatus, ModelRolloutSpec, RolloutRequestStatus};

/// What is to be done about one ModelDeployment, and what is to be said about it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Plan {
    /// What has to be read past the caches before anything can be decided; then nothing else is in
    /// the plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
    /// What is to be done, in this order.
    pub actions: Vec<Action>,
    /// The status to write, last; absent when it is written already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ModelDeploymentStatus>,
    /// When to plan again, although nothing changes; 0: as soon as what this plan writes is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeue_after_seconds: Option<i64>,
    /// What it does or waits for, in a sentence.
    pub why: String,
}

/// A read past the caches.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Lookup {
    /// The body of the ControllerRevision of that name.
    Content(String),
    /// Every record of this ModelDeployment name.
    Records,
    /// The Deployment of this name, which the label-selected cache does not show.
    Workload,
    /// The Service of this name, which the label-selected cache does not show.
    Service,
}

impl Action {
    /// Whether it writes down a decision, which everything after it stands on.
    #[must_use]
    pub fn decides(&self) -> bool {
        matches!(self, Self::StoreContent { .. } | Self::CreateRecord { .. })
    }

    /// The write in words: the same write of a later plan has the same. None of the Deployment,
    /// whose refusal belongs to its decision, and of an Event, which is lost where it is refused.
    #[must_use]
    pub fn write(&self) -> Option<String> {
        match self {
            Self::StoreContent { name, .. } => Some(format!("store content {name}")),
            Self::CreateRecord { spec } => Some(format!("record rollout {}", spec.number)),
            Self::AmendRecord { name, .. } => Some(format!("amend rollout {name}")),
            Self::CreateService { .. } => Some("create Service".into()),
            Self::PatchService { .. } => Some("patch Service".into()),
            Self::AnswerRequest { name, .. } => Some(format!("answer request {name}")),
            Self::Delete { kind, name, .. } => Some(format!("delete {kind:?} {name}")),
            Self::CreateWorkload { .. } | Self::PatchWorkload { .. } | Self::Event { .. } => None,
        }
    }
}

/// One write.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// POST the ControllerRevision; where it exists already, its whole hash must be the same.
    StoreContent {
        /// Its name.
        name: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// What it stores.
        body: ContentBody,
    },
    /// POST the record; where its number is taken, everything is planned again.
    CreateRecord {
        /// What it says.
        spec: Box<ModelRolloutSpec>,
    },
    /// JSON-patch a record: fields that are added once, or a decision that is appended.
    AmendRecord {
        /// Its name.
        name: String,
        /// JSON Patch operations, the tests of uid and resourceVersion first.
        ops: Vec<Value>,
    },
    /// POST the Deployment.
    CreateWorkload {
        /// The decision it carries out, for the answer that refuses it.
        rollout: i64,
        /// The whole object.
        body: Value,
    },
    /// JSON-patch the Deployment.
    PatchWorkload {
        /// The decision it carries out, for the answer that refuses it.
        rollout: i64,
        /// Whether it only puts back what someone else changed.
        put_back: bool,
        /// JSON Patch operations, the tests of uid and generation first.
        ops: Vec<Value>,
    },
    /// POST the Service.
    CreateService {
        /// The whole object.
        body: Value,
    },
    /// JSON-patch the Service.
    PatchService {
        /// JSON Patch operations, the tests of uid and resourceVersion first.
        ops: Vec<Value>,
    },
    /// Write the answer of a RolloutRequest.
    AnswerRequest {
        /// Its name.
        name: String,
        /// The answer.
        status: Box<RolloutRequestStatus>,
    },
    /// Delete an object, its uid and resourceVersion as preconditions.
    Delete {
        /// What kind of object.
        kind: Prunable,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
    },
    /// Tell people, once.
    Event {
        /// Whether something is wrong.
        warning: bool,
        /// CamelCase.
        reason: String,
        /// A sentence.
        message: String,
        /// What makes it this event and no other: the same key is never told twice.
        key: String,
    },
}

/// Kinds whose objects are pruned.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Prunable {
    /// A content, with its last record.
    ControllerRevision,
    /// A record, by age.
    ModelRollout,
    /// A request, a day after it was answered.
    RolloutRequest,
}
