//! What the planner may look at: plain data, so that a dump of a live object can be planned again.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// One pod, reduced to what tells a content's failure from the environment's trouble.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its label `rollmodel.dev/revision`.
    pub hash: String,
    /// Its annotation `kubectl.kubernetes.io/restartedAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// Why no node has room for it, in the scheduler's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<String>,
    /// Its containers, init containers first.
    pub containers: Vec<Container>,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was restarted.
    pub restarts: i32,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Why>,
    /// How it ended the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminated: Option<Why>,
    /// The image it really runs, by digest.
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
    /// The API server refused the Deployment of this decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The API server refused other writes than the Deployment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<Blocked>,
    /// A put-back of the Deployment at this resourceVersion changed nothing: admission does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub futile: Option<String>,
    /// When status was last written, for counters that are written at most every 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_written: Option<Timestamp>,
    /// What was read past the caches in this pass.
    pub looked_up: Vec<super::Lookup>,
    /// The CRDs served are older than this build: no rollout begins and no Conflict is concluded.
    pub crds_older: bool,
    /// `--requesters-verified`: the admission policy that vouches for `requestedBy` is installed.
    pub requesters_verified: bool,
    /// `--record-retention-days`; 0: the default of 400.
    pub record_retention_days: i64,
    /// `--fetch-image`: what fetches artifacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch_image: Option<String>,
    /// The minor version of Kubernetes 1 that the API server told; absent until it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<u32>,
}

/// What the API server answered to a write of a content, a record, a Service or an answer, or to a
/// deletion.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Blocked {
    /// The write, as `Action::write` names it.
    pub write: String,
    /// Whether it is time to try it again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub due: bool,
    /// Whether it was the content or the record of a decision: nothing is decided until it is tried
    /// again.
    pub deciding: bool,
    /// Whether it was forbidden (403: RBAC, quota, admission); else the object was refused.
    pub forbidden: bool,
    /// What was attempted, on which object, and the server's sentence.
    pub message: String,
}

/// What the API server answered to the Deployment of a decision.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Refusal {
    /// The rollout.
    pub rollout: i64,
    /// Whether the template is at fault (422 with causes, 400); else it was forbidden (403: quota,
    /// admission), which may pass.
    pub template: bool,
    /// The server's sentence.
    pub message: String,
}
