//! Pods and their containers, reduced to what tells a failure of a revision from the environment's
//! trouble.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One pod, reduced to the fields that tell a failure of its revision from trouble of the
/// environment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Name of the pod.
    pub name: String,
    /// Label `rollmodel.dev/revision`: the first 16 hex digits of a revisionHash.
    pub hash: String,
    /// Annotation `kubectl.kubernetes.io/restartedAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// creationTimestamp, by the API server's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Name of the ReplicaSet that controls the pod; absent where something else does, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_set: Option<String>,
    /// Label `pod-template-hash`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub template_hash: String,
    /// True if the pod has no label `rollmodel.dev/track`, so that the Service does not lead to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unselected: bool,
    /// True if the pod is being deleted.
    pub deleting: bool,
    /// True if the pod ended: its phase is Succeeded or Failed, as after an eviction.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// The kubelet's or the eviction's reason and sentence for a pod that failed as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Why>,
    /// True if the pod is ready.
    pub ready: bool,
    /// Last time at which the pod became ready, or stopped being ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_changed: Option<Timestamp>,
    /// Reason why the pod has no node, in the scheduler's words: no room, or a scheduling gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<String>,
    /// Time since which all init containers are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialized: Option<Timestamp>,
    /// The containers, init containers first.
    pub containers: Vec<Container>,
}

impl Pod {
    /// True if the pod neither ended nor is being deleted.
    #[must_use]
    pub fn lives(&self) -> bool {
        !self.deleting && !self.finished
    }
}

/// One container of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name of the container.
    pub name: String,
    /// True for an init container.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// True if the container runs.
    pub running: bool,
    /// Time since which the container has run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// True if the container is ready, or, for an init container, done.
    pub ready: bool,
    /// Number of restarts.
    pub restarts: i32,
    /// The reason for which it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Why>,
    /// The way in which it ended the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminated: Option<Why>,
    /// The image that it runs, by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
}

/// A reason and a message, as the kubelet gives them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Why {
    /// Reason in CamelCase.
    pub reason: String,
    /// Message: a sentence, or the termination message of the container.
    pub message: String,
    /// Exit code, where a container ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}
