//! ModelDeployment: what should serve.

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, Time},
    util::intstr::IntOrString,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    rollout::{Scope, StrategyKind, Trigger},
    version::{VERSION, VERSION_SAID},
};

/// Serves one version of a model behind a Deployment and a Service, and rolls it forward and back.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "rollmodel.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    namespaced,
    status = "ModelDeploymentStatus",
    derive = "PartialEq",
    shortname = "mdep",
    category = "rollmodel",
    doc = "ModelDeployment says which version of a model should serve, rolls a Deployment forward and back to it, and says what serves and why.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    selectable = ".spec.model",
    selectable = ".spec.version",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Desired", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Serving", type_ = "string", json_path = ".status.serving.version"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Strategy", type_ = "string", json_path = ".status.strategy", priority = 1),
    printcolumn(name = "Rollout", type_ = "integer", json_path = ".status.rollout", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS-1035 label (lower case, digits and '-', starting with a letter) of at most 52 characters, to leave room for its children"),
    validation = Rule::new("!self.metadata.name.matches('-r[0-9]+$')")
        .message("metadata.name must not end in -r<digits>: such names belong to the Deployments of rollouts")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.progressDeadlineSeconds) ? self.progressDeadlineSeconds : 600) > (has(self.minReadySeconds) ? self.minReadySeconds : 0)")
    .message("progressDeadlineSeconds (600 when absent) must be more than minReadySeconds"))]
pub struct ModelDeploymentSpec {
    /// Name of the model. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("model is immutable: make a ModelDeployment for the other model"))]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub model: String,
    /// Version that should serve: the spec.version of a ModelVersion of this model. Quote it in
    /// YAML.
    #[x_kube(validation = Rule::new(format!("self.matches(r'{VERSION}')")).message(VERSION_SAID))]
    #[schemars(length(min = 1, max = 63), regex(pattern = VERSION))]
    pub version: String,
    /// How many pods; 1 when absent. Leave it out of Git when an autoscaler owns it.
    #[serde(default = "one_replica")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: i32,
    /// How clients talk to the server, from which ports and probes follow; OpenInferenceV2 when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// How the artifact reaches the pod. Absent: by an init container if the version has an
    /// artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// The Service in front of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSpec>,
    /// A pod template overlay. The container named `model` is completed: image, artifact mount,
    /// env, ports, probes, preStop. An image written here wins over the version's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "opaque_object")]
    pub template: Option<serde_json::Value>,
    /// How a new content replaces the old one; rollingUpdate when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// How long a pod must be ready before it counts as available; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: Option<i32>,
    /// How long a rollout may go without progress before it is told as failed or waiting; 600 when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub progress_deadline_seconds: Option<i32>,
    /// How many contents are kept to go back to; 10 when absent. Records are kept by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub revision_history_limit: Option<i32>,
    /// Restarts of a container in a pod that is not ready after which a rollout has failed; 3 when
    /// absent. Raise it for servers that crash until something they depend on is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub restart_limit: Option<i32>,
    /// Pauses the rollout in progress, or the next one.
    #[serde(default)]
    pub paused: bool,
}

/// The default of `spec.restartLimit`.
pub const RESTART_LIMIT: i32 = 3;

/// What `spec.replicas` is when absent.
fn one_replica() -> i32 {
    1
}

/// An object whose fields the API server does not look at.
pub(super) fn opaque_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

impl ModelDeploymentSpec {
    /// The progress deadline in seconds, also where the spec is silent.
    #[must_use]
    pub fn progress_deadline(&self) -> i32 {
        self.progress_deadline_seconds.unwrap_or(600)
    }

    /// Restarts of a container in a pod that is not ready after which a rollout has failed.
    #[must_use]
    pub fn restart_limit(&self) -> i32 {
        self.restart_limit.unwrap_or(RESTART_LIMIT)
    }

    /// How many contents are kept, also where the spec is silent.
    #[must_use]
    pub fn history_limit(&self) -> usize {
        self.revision_history_limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(10)
    }
}

/// How clients talk to the server, from which ports and probes follow; OpenInferenceV2 when absent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Protocol {
    /// Open Inference Protocol over HTTP: port 8080, ready when /v2/models/<model>/ready is.
    #[default]
    OpenInferenceV2,
    /// Plain HTTP as MLflow's and SageMaker's servers speak it: port 8080, ready when /ping is.
    HTTP,
    /// gRPC: port 8081, ready when the gRPC health service is.
    GRPC,
}

/// How the artifact reaches the pod.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.cache) || !has(self.mode) || self.mode == 'Init'").message("cache goes with mode Init only: with ImageVolume the kubelet keeps the image"))]
#[x_kube(validation = Rule::new("!has(self.credentialsSecret) || !has(self.mode) || self.mode == 'Init'")
    .message("credentialsSecret goes with mode Init only: with ImageVolume the kubelet pulls with imagePullSecrets of spec.template, with InImage nothing is fetched"))]
#[x_kube(validation = Rule::new("!has(self.subPath) || (has(self.mode) && self.mode == 'ImageVolume')").message("subPath goes with mode ImageVolume only"))]
pub struct Delivery {
    /// Init, ImageVolume or InImage. Absent: Init if the version has an artifact, else InImage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DeliveryMode>,
    /// Init: the Secret that it is fetched with. Absent: the one that the ModelPolicy names, or
    /// what the pods' ServiceAccount may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretRef>,
    /// Init: where fetched artifacts are kept, so that the next pod and a rollback download
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// ImageVolume: the directory in the image that is mounted, such as models. Absent: all of it.
    #[x_kube(validation = Rule::new("!self.startsWith('/') && self.split('/').all(part, part != '..')").message("subPath is a path inside the image, without a leading / and without .."))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub sub_path: Option<String>,
}

/// A Secret of the same namespace. The operator never reads it: the kubelet mounts it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// The name of a Secret, a PersistentVolumeClaim or a ServiceAccount.
pub const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Where fetched artifacts are kept, by digest.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Name of a PersistentVolumeClaim of the same namespace, which many pods can mount at once.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub claim_name: String,
    /// How much it may hold, such as 200Gi: what was used longest ago goes first. Absent: nothing
    /// is evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
    )]
    pub size_limit: Option<String>,
}

/// The ways an artifact reaches the pod.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum DeliveryMode {
    /// An init container fetches it, checks it, and makes it visible at /mnt/models.
    Init,
    /// The kubelet mounts an oci:// artifact by its digest, at /mnt/models.
    ImageVolume,
    /// The image holds the model, or fetches it by itself.
    InImage,
}

/// The Service in front of the pods.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct ServiceSpec {
    /// Type of the Service; ClusterIP when absent.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Port of the Service; 80 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// Type of the Service; ClusterIP when absent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    ClusterIP,
    /// Reachable on a port of every node.
    NodePort,
    /// Reachable through a load balancer of the platform.
    LoadBalancer,
}

/// How a new content replaces the old one.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// In place, pod by pod, by Kubernetes' Deployment controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
}

/// Bounds of a rolling update.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.maxSurge) && (self.maxSurge == 0 || self.maxSurge == '0%') && (!has(self.maxUnavailable) || self.maxUnavailable == 0 || self.maxUnavailable == '0%'))")
    .message("maxSurge and maxUnavailable must not both be 0 (maxUnavailable is 0 when absent): no pod could ever be replaced"))]
pub struct RollingUpdate {
    /// Pods above replicas during a rollout, a number or a percentage; 25% when absent.
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 0 : self.matches('^(0|[1-9][0-9]?|100)%$')").message("maxSurge is a number of 0 or more, or a percentage from 0% to 100%"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// Pods below replicas during a rollout, a number or a percentage; 0 when absent.
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 0 : self.matches('^(0|[1-9][0-9]?|100)%$')").message("maxUnavailable is a number of 0 or more, or a percentage from 0% to 100%"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
}

/// What serves, what is on its way, and why.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// Generation this status describes; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for people; tools read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// What goes on, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Pods there are.
    #[serde(default)]
    pub replicas: i32,
    /// Label selector of the pods that have live traffic, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// Ready, Reconciling, Stalled, Available, Progressing, Paused, Held, AutoscaledChild, and
    /// AdmissionPoliciesMissing while the cluster does not enforce the shipped admission policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How it is rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategyKind>,
    /// Number of the newest rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<i64>,
    /// The newest decision, as `<rollout>.<pauses and resumes in it>`, such as "12.1"; "0" before
    /// the first. A RolloutRequest names it in `ifDecision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub decision: Option<String>,
    /// What the spec names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Desired>,
    /// What answers requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<RevisionStatus>,
    /// What is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<RevisionStatus>,
    /// What the spec names and is not served, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The newest rollouts, newest first; all: `kubectl get mro`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub history: Vec<HistoryEntry>,
}

/// One word for people, as the table of states in the README explains it; tools read the
/// conditions.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum State {
    /// Its version is not there yet.
    Pending,
    /// A rollout goes on.
    Rolling,
    /// What the spec names serves.
    Serving,
    /// Paused, with something pending.
    Paused,
    /// A person went back; what the spec names is not served again.
    Held,
    /// A rollout failed and went back by itself.
    RolledBack,
    /// The environment, or a failure with nothing to go back to, holds the rollout up.
    Waiting,
    /// The spec cannot be carried out.
    Invalid,
}

/// What the spec names.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Its version.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The recordDigest of the version.
    #[schemars(length(max = 71))]
    pub record_digest: String,
    /// The first 16 hex digits of the revisionHash, as in the pods' label rollmodel.dev/revision.
    #[schemars(length(max = 16))]
    pub revision_hash: String,
}

/// One content with pods.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Its version.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The recordDigest of the version.
    #[schemars(length(max = 71))]
    pub record_digest: String,
    /// The first 16 hex digits of the revisionHash, as in the pods' label rollmodel.dev/revision.
    #[schemars(length(max = 16))]
    pub revision_hash: String,
    /// Number of the rollout that brought it here.
    pub rollout: i64,
    /// Name of the Deployment, for plain kubectl.
    #[schemars(length(max = 63))]
    pub deployment: String,
    /// Pods of it.
    pub replicas: i32,
    /// Pods of it that are ready.
    pub ready: i32,
    /// Since when.
    pub since: Time,
}

/// Why what the spec names is not served.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// What was rejected.
    pub rejected: Rejected,
    /// Version: the version, whatever its template; Content: the content, whatever its labels and
    /// annotations; Revision: the revision as it was, labels and annotations included.
    pub scope: Scope,
    /// What caused the rejection.
    pub trigger: Trigger,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Who or what triggered the rejection, as in the record's decidedBy.name.
    #[schemars(length(max = 253))]
    pub decided_by: String,
    /// When.
    pub at: Time,
}

/// A rejected rollout.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// Its version; absent once its record was pruned by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
    /// The recordDigest of that version; absent once its record was pruned by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub record_digest: Option<String>,
    /// The first 16 hex digits of its revisionHash; absent once its record was pruned by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub revision_hash: Option<String>,
    /// Number of the rejected rollout.
    pub rollout: i64,
}

/// One line of a ModelDeployment's history.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Number of the rollout.
    pub rollout: i64,
    /// Its version.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Number of the newest rollout of the ModelDeployment when this one was decided; absent where
    /// it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_rollout: Option<i64>,
    /// What caused it.
    pub trigger: Trigger,
    /// How it ended; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<super::rollout::Outcome>,
    /// When it was decided.
    pub start_time: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}
