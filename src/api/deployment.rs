//! ModelDeployment: the version to serve, and the state of serving it.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::version::{VERSION, VERSION_MESSAGE};
pub use status::{
    Desired, HistoryEntry, Hold, ModelDeploymentStatus, Rejected, RevisionStatus, State,
};

mod status;

/// The version to serve, and settings of the Deployment and the Service that serve it.
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
    doc = "ModelDeployment serves one version of a model behind a Deployment and a Service. It \
           rolls forward to the version that the spec names, rolls back when a rollout fails or a \
           person asks for it, and reports what serves and why.",
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
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Strategy", type_ = "string", json_path = ".status.strategy", priority = 1),
    printcolumn(name = "Rollout", type_ = "integer", json_path = ".status.rollout", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new(
        "self.metadata.name.size() <= 52 && \
         self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    )
    .message(
        "metadata.name must be a DNS-1035 label (lower case, digits and '-', starting with a \
         letter) of at most 52 characters, to leave room for its children"
    ),
    validation = Rule::new("!self.metadata.name.matches('-r[0-9]+$')")
        .message(
            "metadata.name must not end in -r<digits>: such names belong to the Deployments of \
             rollouts"
        )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "(has(self.progressDeadlineSeconds) ? self.progressDeadlineSeconds : 600) > \
         (has(self.minReadySeconds) ? self.minReadySeconds : 0)"
    )
    .message("progressDeadlineSeconds (600 when absent) must be more than minReadySeconds")
)]
pub struct ModelDeploymentSpec {
    /// Name of the model. Immutable: create another ModelDeployment for another model.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("model is immutable: make a ModelDeployment for the other model")
    )]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub model: String,
    /// Version to serve: the spec.version of a ModelVersion of this model. Quote it in YAML, such
    /// as "7".
    #[x_kube(
        validation = Rule::new(format!("self.matches(r'{VERSION}')")).message(VERSION_MESSAGE)
    )]
    #[schemars(length(min = 1, max = 63), regex(pattern = VERSION))]
    pub version: String,
    /// Number of pods; 1 when absent. Leave it out of Git if an autoscaler sets it.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: i32,
    /// Protocol of the model server. It determines the container's ports and probes;
    /// OpenInferenceV2 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Delivery of the artifact to the pods. When absent, an init container fetches the artifact if
    /// the version has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Settings of the Service in front of the pods. When absent, its type is ClusterIP and its
    /// port is 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSpec>,
    /// Overlay of the pod template. The operator completes the container named `model`: image,
    /// artifact mount, env, ports, probes and preStop. An image written here takes precedence over
    /// the image of the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "opaque_object_schema")]
    pub template: Option<serde_json::Value>,
    /// Strategy by which new pods replace old ones; rollingUpdate when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Time in seconds that a pod must be ready before it counts as available; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: Option<i32>,
    /// Time in seconds that a rollout may go without progress before it fails or is reported as
    /// Waiting; 600 when absent. It must be more than minReadySeconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub progress_deadline_seconds: Option<i32>,
    /// Number of promoted revisions with different contents that are kept as rollback targets; 10
    /// when absent. Records are pruned by age instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub revision_history_limit: Option<i32>,
    /// Number of restarts of a container in an unready pod after which a rollout fails; 3 when
    /// absent. Raise it for servers that crash until a dependency is available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub restart_limit: Option<i32>,
    /// Pauses the rollout in progress, or the next one; false when absent.
    #[serde(default)]
    pub paused: bool,
}

/// Default of `spec.restartLimit`.
pub const RESTART_LIMIT: i32 = 3;

/// Default of `spec.replicas`.
fn default_replicas() -> i32 {
    1
}

/// Schema of an object whose fields the API server does not validate.
pub(super) fn opaque_object_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

impl ModelDeploymentSpec {
    /// Returns the progress deadline in seconds, or its default.
    #[must_use]
    pub fn progress_deadline_seconds(&self) -> i32 {
        self.progress_deadline_seconds.unwrap_or(600)
    }

    /// Returns the number of restarts of a container in an unready pod after which a rollout fails.
    #[must_use]
    pub fn restart_limit(&self) -> i32 {
        self.restart_limit.unwrap_or(RESTART_LIMIT)
    }

    /// Returns the number of promoted contents that are kept as rollback targets, or its default.
    #[must_use]
    pub fn history_limit(&self) -> usize {
        self.revision_history_limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(10)
    }
}

/// Protocol of the model server, which determines the container's port and readiness probe;
/// OpenInferenceV2 when absent. OpenInferenceV2: HTTP on port 8080, ready when
/// `/v2/models/<model>/ready` answers. HTTP: port 8080, ready when `/ping` answers, as in the
/// servers of MLflow and SageMaker. GRPC: port 8081, ready when the gRPC health service reports it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Protocol {
    /// Open Inference Protocol over HTTP: port 8080, readiness probe `/v2/models/<model>/ready`.
    #[default]
    OpenInferenceV2,
    /// Plain HTTP as in the servers of MLflow and SageMaker: port 8080, readiness probe `/ping`.
    HTTP,
    /// Port 8081, with the gRPC health service as readiness probe.
    GRPC,
}

/// Delivery of the artifact to the pods.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.cache) || !has(self.mode) || self.mode == 'Init'")
        .message("cache goes with mode Init only: with ImageVolume the kubelet keeps the image")
)]
#[x_kube(
    validation = Rule::new("!has(self.credentialsSecret) || !has(self.mode) || self.mode == 'Init'")
        .message(
            "credentialsSecret goes with mode Init only: with ImageVolume the kubelet pulls with \
             imagePullSecrets of spec.template, with InImage nothing is fetched"
        )
)]
#[x_kube(
    validation = Rule::new("!has(self.subPath) || (has(self.mode) && self.mode == 'ImageVolume')")
        .message("subPath goes with mode ImageVolume only")
)]
pub struct Delivery {
    /// Init, ImageVolume or InImage. When absent, Init if the version has an artifact, else
    /// InImage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DeliveryMode>,
    /// Secret with the credentials to fetch the artifact; for mode Init only. When absent, the
    /// Secret that the ModelPolicy names is used, else the identity of the pods' ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretRef>,
    /// Cache of fetched artifacts, so that later pods and rollbacks download nothing; for mode Init
    /// only. When absent, each pod downloads the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Directory in the image to mount, such as models; for mode ImageVolume only. When absent, the
    /// whole image is mounted.
    #[x_kube(
        validation = Rule::new("!self.startsWith('/') && self.split('/').all(part, part != '..')")
            .message("subPath is a path inside the image, without a leading / and without ..")
    )]
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

/// Pattern of the name of a Secret, a PersistentVolumeClaim or a ServiceAccount.
pub const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Cache of fetched artifacts on a PersistentVolumeClaim, by digest.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Name of a PersistentVolumeClaim of the same namespace, which many pods must be able to mount
    /// at the same time.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub claim_name: String,
    /// Maximum size of the cache as a Kubernetes quantity, such as 200Gi. The least recently used
    /// artifacts are evicted first. When absent, nothing is evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
    )]
    pub size_limit: Option<String>,
}

/// Mode of delivery. Init: an init container fetches and verifies the artifact, and makes it
/// available at /mnt/models. ImageVolume: the kubelet mounts an oci:// artifact there, by its
/// digest. InImage: the image contains the model, or fetches it on its own. When absent, Init if
/// the version has an artifact, else InImage.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum DeliveryMode {
    /// An init container fetches and verifies the artifact, and makes it available at /mnt/models.
    Init,
    /// The kubelet mounts an oci:// artifact by its digest, at /mnt/models.
    ImageVolume,
    /// The image contains the model, or fetches it on its own.
    InImage,
}

/// Settings of the Service in front of the pods.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct ServiceSpec {
    /// Type of the Service: ClusterIP, NodePort or LoadBalancer; ClusterIP when absent.
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
    /// Reachable inside the cluster only.
    #[default]
    ClusterIP,
    /// Reachable on a port of every node.
    NodePort,
    /// Reachable through a load balancer of the platform.
    LoadBalancer,
}

/// Strategy by which new pods replace old ones.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// Replaces pods one by one in the same Deployment, as Kubernetes' Deployment controller does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
}

/// Bounds of a rolling update.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!(has(self.maxSurge) && (self.maxSurge == 0 || self.maxSurge == '0%') && \
         (!has(self.maxUnavailable) || self.maxUnavailable == 0 || self.maxUnavailable == '0%'))"
    )
    .message(
        "maxSurge and maxUnavailable must not both be 0 (maxUnavailable is 0 when absent): no pod \
         could ever be replaced"
    )
)]
pub struct RollingUpdate {
    /// Maximum number of pods above replicas during a rollout, as a number or a percentage; 25%
    /// when absent.
    #[x_kube(
        validation = Rule::new(
            "type(self) == int ? self >= 0 : self.matches('^(0|[1-9][0-9]?|100)%$')"
        )
        .message("maxSurge is a number of 0 or more, or a percentage from 0% to 100%")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// Maximum number of unavailable pods below replicas during a rollout, as a number or a
    /// percentage; 0 when absent.
    #[x_kube(
        validation = Rule::new(
            "type(self) == int ? self >= 0 : self.matches('^(0|[1-9][0-9]?|100)%$')"
        )
        .message("maxUnavailable is a number of 0 or more, or a percentage from 0% to 100%")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
}
