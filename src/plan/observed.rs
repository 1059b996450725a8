//! The input of the planner: plain data, so that a dump of a live object can be planned again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod admission;
mod pods;
mod record;
mod version;

pub use admission::AdmissionPolicies;
pub use pods::{Container, Pod, Why};
pub use record::Record;
pub use version::{Heard, Job, LastWords, ObservedVersion};

use crate::api::{
    ModelDeploymentSpec, ModelDeploymentStatus, ModelPolicySpec, ModelRolloutSpec,
    RolloutRequestSpec, RolloutRequestStatus,
    version::{Artifact, Lifecycle},
};

/// Everything that is known about one name of a ModelDeployment in one namespace, whether or not
/// the object exists.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Namespace of all these objects.
    pub namespace: String,
    /// Name of the ModelDeployment.
    pub name: String,
    /// The ModelDeployment; absent if it was deleted or never existed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_deployment: Option<ObservedModelDeployment>,
    /// ModelVersions that the spec or a record names.
    pub versions: Vec<Version>,
    /// ModelRollouts of the name, in any order.
    pub records: Vec<Record>,
    /// ControllerRevisions of the name.
    pub revisions: Vec<StoredRevision>,
    /// Its Deployments, by the name of their track.
    pub tracks: BTreeMap<String, Deployment>,
    /// Service of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Pods of its Deployments.
    pub pods: Vec<Pod>,
    /// RolloutRequests that name it, answered or not.
    pub requests: Vec<Request>,
    /// Names of HorizontalPodAutoscalers that scale the Deployment rather than the ModelDeployment.
    pub autoscalers: Vec<String>,
    /// The ModelPolicy of the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Knowledge of the process, which it can lose at any time without harm.
    pub memory: Memory,
}

impl Observed {
    /// Lists the tracks of the ModelDeployment.
    pub fn list_tracks(&self) -> impl Iterator<Item = Track<'_>> {
        self.tracks.iter().map(|(name, deployment)| Track { name, deployment })
    }

    /// The Deployment of that name.
    #[must_use]
    pub fn find_deployment(&self, name: &str) -> Option<&Deployment> {
        self.tracks.values().find(|deployment| deployment.meta.name == name)
    }

    /// The ModelVersion that a record rolled out, by its model and version, whatever it records
    /// now.
    #[must_use]
    pub fn find_version_of(&self, record: &ModelRolloutSpec) -> Option<&Version> {
        self.versions.iter().find(|v| v.model == record.model && v.version == record.version)
    }
}

/// The observed fields of a ModelDeployment.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObservedModelDeployment {
    /// Uid of the ModelDeployment.
    pub uid: String,
    /// Generation of the ModelDeployment.
    pub generation: i64,
    /// True if the ModelDeployment is being deleted.
    #[serde(default)]
    pub deleting: bool,
    /// Spec that the user wrote.
    pub spec: Arc<ModelDeploymentSpec>,
    /// Status as it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ModelDeploymentStatus>,
}

/// The observed fields of a ModelPolicy.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// Creation time of the policy.
    pub created: Timestamp,
    /// Requirements of the policy.
    pub spec: ModelPolicySpec,
}

/// A ModelVersion, reduced to the fields that decisions need.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    /// Name of the ModelVersion.
    pub name: String,
    /// Name of the model, as in spec.model.
    pub model: String,
    /// Version, as in spec.version.
    pub version: String,
    /// The sha256 of the immutable part of its stored spec.
    pub record_digest: String,
    /// Image of the model server, where the version names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Location and digest of the model's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// Lifecycle of the version; absent means Active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// Size of the spec in bytes, where it is larger than a version may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub too_large: Option<usize>,
    /// Digest of the artifact that a verification pinned in the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Result of the newest verification, where neither the record nor a pin gives the digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unverified: Option<Unverified>,
    /// The recordDigest to which a rollout in the namespace bound this (model, version), where it
    /// is a different one: a Conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<String>,
}

/// Result of a verification that pinned nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Unverified {
    /// True if the files or their address are at fault; false for trouble that may pass.
    pub failed: bool,
    /// Result in one sentence.
    pub message: String,
}

/// A ControllerRevision of ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredRevision {
    /// Name of the ControllerRevision.
    pub name: String,
    /// Uid of the ControllerRevision.
    pub uid: String,
    /// The resourceVersion of the ControllerRevision.
    pub resource_version: String,
    /// Digest of the stored rendering, also where the cache dropped the body; empty if nothing of
    /// ours is stored, and computed from the body when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendering_digest: Option<String>,
    /// Stored body; absent where the cache dropped it, until it is read live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Arc<RevisionBody>>,
}

/// The body of a ControllerRevision of ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RevisionBody {
    /// Complete revisionHash of the revision.
    pub revision_hash: String,
    /// Content as the user wrote it.
    pub content: Value,
    /// Complete pod template that was rendered from the content.
    pub rendering: Value,
}

/// A Deployment and the name of its track.
#[derive(Clone, Copy, Debug)]
pub struct Track<'a> {
    /// Name of the track, as in the label `rollmodel.dev/track` of its pods.
    pub name: &'a str,
    /// Deployment of the track.
    pub deployment: &'a Deployment,
}

/// A Deployment, reduced to the fields that are read.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    /// Metadata of the Deployment.
    #[serde(flatten)]
    pub meta: Meta,
    /// Generation of the Deployment.
    pub generation: i64,
    /// Spec as the API server stores it.
    pub spec: DeploymentSpec,
    /// Paths under `spec` that a manager other than ours owns, such as
    /// `template.spec.containers[name=model].image`.
    pub foreign: Vec<String>,
    /// Status of the Deployment.
    pub status: DeploymentStatus,
}

/// Metadata of a Deployment or Service.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name of the object.
    pub name: String,
    /// Uid of the object.
    pub uid: String,
    /// The resourceVersion of the object.
    pub resource_version: String,
    /// Labels of the object.
    pub labels: BTreeMap<String, String>,
    /// Annotations that are read, which is change-cause.
    pub annotations: BTreeMap<String, String>,
    /// True if there are any annotations, including those that are not read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_annotations: bool,
    /// Owner reference of the controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<Controller>,
    /// True if the object is being deleted.
    pub deleting: bool,
}

/// The controller in an object's owner references.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Controller {
    /// Kind of the controller.
    pub kind: String,
    /// Name of the controller.
    pub name: String,
    /// Uid of the controller.
    pub uid: String,
}

/// The fields of a Deployment's spec that are read.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentSpec {
    /// Desired number of pods.
    pub replicas: i32,
    /// True if the Deployment is paused.
    pub paused: bool,
    /// The `matchLabels` of the selector; empty if it has expressions, which ours never has.
    pub selector: BTreeMap<String, String>,
    /// Strategy as Kubernetes stores it.
    pub strategy: Value,
    /// Seconds that a pod must be ready before it is available.
    pub min_ready_seconds: i32,
    /// Seconds without progress after which the rollout is overdue.
    pub progress_deadline_seconds: i32,
    /// Number of old ReplicaSets that are kept.
    pub revision_history_limit: i32,
    /// Pod template of the Deployment.
    pub template: Arc<Value>,
}

/// The fields of a Deployment's status that are read.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStatus {
    /// Generation that the status describes.
    pub observed_generation: i64,
    /// Total number of pods.
    pub replicas: i32,
    /// Number of pods of the newest template.
    pub updated_replicas: i32,
    /// Number of ready pods.
    pub ready_replicas: i32,
    /// Number of available pods.
    pub available_replicas: i32,
    /// Conditions: Progressing, Available and ReplicaFailure.
    pub conditions: Vec<DeploymentCondition>,
}

impl DeploymentStatus {
    /// True if it counts pods of the newest template alone.
    #[must_use]
    pub fn counts_only_updated(&self) -> bool {
        self.replicas == self.updated_replicas
    }
}

/// A condition of a Deployment, without its times.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct DeploymentCondition {
    /// Type of the condition.
    #[serde(rename = "type")]
    pub type_: String,
    /// Status of the condition: True, False or Unknown.
    pub status: String,
    /// Reason in CamelCase.
    pub reason: String,
    /// Message for people.
    pub message: String,
}

/// The Service in front of the pods.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Metadata of the Service.
    #[serde(flatten)]
    pub meta: Meta,
    /// Type of the Service.
    #[serde(rename = "type")]
    pub type_: String,
    /// Selector of the Service.
    pub selector: BTreeMap<String, String>,
    /// Ports as the API server stores them.
    pub ports: Vec<Value>,
}

/// A RolloutRequest with its metadata.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Name of the request.
    pub name: String,
    /// Uid of the request.
    pub uid: String,
    /// The resourceVersion of the request.
    #[serde(default)]
    pub resource_version: String,
    /// Creation time of the request.
    pub created: Timestamp,
    /// Generation of the request.
    #[serde(default)]
    pub generation: i64,
    /// Spec of the request.
    pub spec: RolloutRequestSpec,
    /// Status of the request, which holds the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RolloutRequestStatus>,
}

/// Knowledge of the process beside the objects. Losing it costs a request or a repeated sentence,
/// never a wrong write.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Writes that the API server refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedWrite>,
    /// Values of the Deployment and the Service that are left if they are there, as `path=value`:
    /// an admission webhook set them again at once, or they were reverted a moment ago, so that a
    /// controller sets them again and again.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub came_back: BTreeSet<String>,
    /// Time at which the status was last written, because counters are written at most every 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_written: Option<Timestamp>,
    /// Unneeded objects by name, with the time at which that was first observed.
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
    /// True if the CRDs in the cluster are older than this build: nothing new rolls forward, and no
    /// Conflict is concluded.
    pub crds_older: bool,
    /// Flag `--requesters-verified`: the admission policy that verifies `requestedBy` is installed.
    pub requesters_verified: bool,
    /// State of the shipped admission policies; absent until they were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission_policies: Option<AdmissionPolicies>,
    /// Flag `--record-retention-days`; 0 means the default of 400.
    pub record_retention_days: i64,
    /// Seconds for which an unneeded object stays; an hour when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune_grace_seconds: Option<i64>,
    /// Flag `--fetch-image`: the image that fetches artifacts.
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
    /// The uid of the Deployment that controls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller_uid: Option<String>,
    /// Pod template of the ReplicaSet.
    pub template: Value,
}

impl ReplicaSet {
    /// True if the Deployment controls it, or nothing does.
    #[must_use]
    pub fn may_belong_to(&self, deployment: &Deployment) -> bool {
        self.controller_uid.as_ref().is_none_or(|uid| *uid == deployment.meta.uid)
    }
}

/// The API server's answer to a write that it refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RefusedWrite {
    /// The write, as `Action::write` identifies it: another value is another write.
    pub write: String,
    /// True if it is time to try the write again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub due: bool,
    /// True if the write records a decision: no decision is made until it is tried again.
    pub deciding: bool,
    /// True if the write was forbidden (403: RBAC, quota, admission); false if the object was
    /// refused.
    pub forbidden: bool,
    /// True if the API server named a field of the pod template as a cause.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub names_template: bool,
    /// Sentence about the refusal: the write, the object, and the message of the API server.
    pub message: String,
}

/// A revision by its version and hashes.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Version that is served.
    pub version: String,
    /// The recordDigest of the version.
    pub record_digest: String,
    /// Hash of the whole revision.
    pub revision_hash: String,
    /// Hash without the template's labels and annotations.
    pub content_hash: String,
}

/// The revision that a generation of the spec names, so that it is hashed once.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownRevision {
    /// The uid of the ModelDeployment.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
    /// The revision that the spec names.
    pub content: Revision,
}

impl KnownRevision {
    /// True if it is the revision that the observed spec names with the record of that digest.
    #[must_use]
    pub fn is_of(&self, observed: &Observed, record_digest: &str) -> bool {
        let wanted = observed.model_deployment.as_ref();
        self.content.record_digest == record_digest
            && wanted.is_some_and(|w| w.uid == self.uid && w.generation == self.generation)
    }
}
