//! What the planner may look at: plain data, so that a dump of a live object can be planned again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::facts::content::KnownRevision;
use crate::api::{
    ModelDeploymentSpec, ModelDeploymentStatus, ModelPolicySpec, ModelRolloutSpec,
    RolloutRequestSpec, RolloutRequestStatus,
    version::{Artifact, Lifecycle},
};

/// Everything that is known about one ModelDeployment name in one namespace, whether or not the
/// object exists.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Namespace of it all.
    pub namespace: String,
    /// Name of the ModelDeployment.
    pub name: String,
    /// The ModelDeployment; absent when it is deleted, or was never there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Wanted>,
    /// ModelVersions that the spec or a record names.
    pub versions: Vec<Version>,
    /// Its ModelRollouts, in any order.
    pub records: Vec<Record>,
    /// Its ControllerRevisions.
    pub contents: Vec<StoredContent>,
    /// The Deployment of its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// The Service of its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// RolloutRequests that name it, answered or not.
    pub requests: Vec<Request>,
    /// Names of HorizontalPodAutoscalers that scale the Deployment rather than the ModelDeployment.
    pub autoscalers: Vec<String>,
    /// The ModelPolicy of the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// What the process knows and may forget at any time without harm.
    pub memory: Memory,
}

/// A ModelDeployment.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Whether it is being deleted.
    #[serde(default)]
    pub deleting: bool,
    /// What the user wants.
    pub spec: ModelDeploymentSpec,
    /// What was last said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ModelDeploymentStatus>,
}

/// A ModelPolicy.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// When it was made.
    pub created: Timestamp,
    /// What it demands.
    pub spec: ModelPolicySpec,
}

/// A ModelVersion, reduced to what deciding needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// The model it says it is.
    pub model: String,
    /// The version it says it is.
    pub version: String,
    /// The sha256 of the immutable part of its stored spec.
    pub record_digest: String,
    /// The image that serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Where its bytes are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// Whether it may be served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// The size of its spec in bytes, where that is more than a version may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub too_large: Option<usize>,
    /// The digest of its artifact that a verification pinned in its status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// What the newest verification came to, where neither the record nor a pin says what the bytes
    /// have to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unverified: Option<Unverified>,
    /// The recordDigest that any rollout in the namespace bound this (model, version) to, where it
    /// is another one: a Conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<String>,
}

/// What the verification of an artifact came to that pinned nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Unverified {
    /// Whether the bytes or their address are at fault; else it was trouble that may pass.
    pub failed: bool,
    /// What was found, in a sentence.
    pub message: String,
}

/// A ModelRollout.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its uid; empty for one that this plan makes.
    pub uid: String,
    /// Its resourceVersion.
    #[serde(default)]
    pub resource_version: String,
    /// What it says; shared, for every pass looks at every record and changes few.
    pub spec: Arc<ModelRolloutSpec>,
}

/// A ControllerRevision of ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredContent {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// What it stores; absent where the cache dropped it, until it is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<ContentBody>,
}

/// What a ControllerRevision of ours stores.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ContentBody {
    /// The whole revisionHash.
    pub revision_hash: String,
    /// What the user wrote.
    pub content: Value,
    /// The whole pod template made of it.
    pub rendering: Value,
}

/// The serving Deployment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Workload {
    /// Name, uid, labels and owner.
    #[serde(flatten)]
    pub meta: Meta,
    /// Its generation.
    pub generation: i64,
    /// Its spec, as the API server keeps it.
    pub spec: WorkloadSpec,
    /// Paths under `spec` that a manager other than ours owns, such as
    /// `template.spec.containers[name=model].image`.
    pub foreign: Vec<String>,
    /// Its status.
    pub status: WorkloadStatus,
}

/// Metadata of a child.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations that are read: change-cause.
    pub annotations: BTreeMap<String, String>,
    /// Whether there are any annotations, also those that are not read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_annotations: bool,
    /// Its controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<Controller>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// The controller in an object's ownerReferences.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Controller {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What is read of a Deployment's spec.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSpec {
    /// Pods asked for.
    pub replicas: i32,
    /// Whether it is paused.
    pub paused: bool,
    /// `matchLabels` of its selector; empty where it has expressions, which ours never has.
    pub selector: BTreeMap<String, String>,
    /// Its strategy.
    pub strategy: Value,
    /// Seconds a pod must be ready.
    pub min_ready_seconds: i32,
    /// Seconds without progress.
    pub progress_deadline_seconds: i32,
    /// ReplicaSets kept.
    pub revision_history_limit: i32,
    /// Its pod template.
    pub template: Value,
}

/// What is read of a Deployment's status.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// Generation it describes.
    pub observed_generation: i64,
    /// Pods there are.
    pub replicas: i32,
    /// Pods of the newest template.
    pub updated_replicas: i32,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// Pods that are available.
    pub available_replicas: i32,
    /// Progressing, Available, ReplicaFailure.
    pub conditions: Vec<WorkloadCondition>,
}

/// A condition of a Deployment, without its times.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct WorkloadCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// The Service in front of the pods.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Name, uid, labels and owner.
    #[serde(flatten)]
    pub meta: Meta,
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its selector.
    pub selector: BTreeMap<String, String>,
    /// Its ports, as the API server keeps them.
    pub ports: Vec<Value>,
}

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
    /// Whether the pod is being deleted.
    pub deleting: bool,
    /// Whether the pod ended: its phase is Succeeded or Failed, as after an eviction.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// The kubelet's or the eviction's reason and sentence for a pod that failed as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Why>,
    /// Whether the pod is ready.
    pub ready: bool,
    /// Last time at which the pod became ready, or stopped being ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_changed: Option<Timestamp>,
    /// Why the pod has no node, in the scheduler's words: no room, or a scheduling gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<String>,
    /// Since when all init containers are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialized: Option<Timestamp>,
    /// The containers, init containers first.
    pub containers: Vec<Container>,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name of the container.
    pub name: String,
    /// Whether it is an init container.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// Whether it runs.
    pub running: bool,
    /// Since when it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// Whether it is ready; of an init container: whether it is done.
    pub ready: bool,
    /// How often it was restarted.
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
    /// CamelCase.
    pub reason: String,
    /// A sentence, or the container's last words.
    pub message: String,
    /// Exit code, where something ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// A RolloutRequest.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    #[serde(default)]
    pub resource_version: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its generation.
    #[serde(default)]
    pub generation: i64,
    /// What is asked.
    pub spec: RolloutRequestSpec,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RolloutRequestStatus>,
}

/// What the process knows beside the objects. Forgetting it costs a request or a repeated sentence,
/// never a wrong act.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Writes that the API server refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedWrite>,
    /// Values of the Deployment that came back after they were reverted, as `path=value`: an
    /// admission webhook sets them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub came_back: BTreeSet<String>,
    /// When status was last written, for counters that are written at most every 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_written: Option<Timestamp>,
    /// Objects that are kept no longer, by name, with the time at which that was first seen.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unneeded_since: BTreeMap<String, Timestamp>,
    /// The revision that the spec was found to name, with the generation of that spec.
    #[serde(skip)]
    pub desired: Option<Arc<KnownRevision>>,
    /// Live reads of this pass.
    pub looked_up: Vec<super::Lookup>,
    /// ReplicaSets of the Deployment, where they were read live.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replica_sets: Vec<ReplicaSet>,
    /// The CRDs served are older than this build: nothing new rolls forward, and no Conflict is
    /// concluded.
    pub crds_older: bool,
    /// `--requesters-verified`: the admission policy that vouches for `requestedBy` is installed.
    pub requesters_verified: bool,
    /// `--record-retention-days`; 0: the default of 400.
    pub record_retention_days: i64,
    /// Seconds for which something that is kept no longer stays all the same; absent: an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune_grace_seconds: Option<i64>,
    /// `--fetch-image`: the image that fetches artifacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch_image: Option<String>,
    /// The minor version of Kubernetes 1 that the API server reported; absent until it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<u32>,
}

/// A ReplicaSet of the serving Deployment, as it was read live.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSet {
    /// Name of the ReplicaSet.
    pub name: String,
    /// Its pod template.
    pub template: Value,
}

/// The API server's answer to a write that it refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RefusedWrite {
    /// The write, as `Action::write` identifies it: another value is another write.
    pub write: String,
    /// Whether it is time to try it again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub due: bool,
    /// Whether the write records a decision: no decision is made until it is tried again.
    pub deciding: bool,
    /// Whether it was forbidden (403: RBAC, quota, admission); else the object was refused.
    pub forbidden: bool,
    /// The write and the object, in words, and the server's sentence.
    pub message: String,
}
