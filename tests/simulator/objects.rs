//! The objects that Kubernetes' own controllers keep: one Deployment, its ReplicaSets and its pods,
//! reduced to the fields that decide what they do. Times are whole seconds, as in the real objects.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::fingerprint::key_without_times;

/// Seconds since the beginning of the history.
pub type Seconds = i64;

/// A pod template, and a key that is equal exactly where two templates are.
#[derive(Clone, Debug)]
pub struct Template {
    pub value: Arc<Value>,
    pub key: u64,
    /// A key that leaves out the times in it, such as restartedAt.
    pub timeless_key: u64,
    pub times: Arc<[Seconds]>,
}

impl Template {
    pub fn new(value: Value) -> Self {
        let text = value.to_string();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let (timeless_key, times) = key_without_times(&text);
        let (value, times) = (Arc::new(value), times.into());
        Self { value, key: hasher.finish(), timeless_key, times }
    }

    /// The label of that name; empty where there is none.
    pub fn label(&self, name: &str) -> &str {
        self.value["metadata"]["labels"][name].as_str().unwrap_or_default()
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.value["metadata"]["annotations"][name].as_str()
    }

    /// The label pod-template-hash of this template's ReplicaSet.
    pub fn pod_template_hash(&self) -> String {
        format!("{:010x}", self.key & 0xff_ffff_ffff)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// What people and the operator write of a Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentSpec {
    pub replicas: i32,
    pub paused: bool,
    pub max_surge: IntOrString,
    pub max_unavailable: IntOrString,
    pub min_ready_seconds: i32,
    pub progress_deadline_seconds: i32,
    pub revision_history_limit: i32,
    pub template: Template,
}

/// A condition of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
    pub last_update: Seconds,
    pub last_transition: Seconds,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentStatus {
    pub observed_generation: i64,
    pub replicas: i32,
    pub updated_replicas: i32,
    pub ready_replicas: i32,
    pub available_replicas: i32,
    pub available: Option<Condition>,
    pub progressing: Option<Condition>,
    pub replica_failure: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub name: String,
    pub generation: i64,
    pub created: Seconds,
    pub spec: DeploymentSpec,
    /// Annotation `deployment.kubernetes.io/revision`; 0 before the first ReplicaSet.
    pub revision: i64,
    pub status: DeploymentStatus,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaSet {
    /// `<deployment>-<pod-template-hash>`.
    pub name: String,
    /// The Deployment's template, without the label pod-template-hash.
    pub template: Template,
    pub created: Seconds,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `spec.minReadySeconds`. A ReplicaSet that is no longer the newest keeps the value it had.
    pub min_ready_seconds: i32,
    /// `status.observedGeneration` is current: the status was written after the last change of the
    /// spec.
    pub observed: bool,
    /// Annotation `deployment.kubernetes.io/revision`.
    pub revision: i64,
    /// Annotation `deployment.kubernetes.io/desired-replicas`.
    pub desired_replicas: i32,
    /// Annotation `deployment.kubernetes.io/max-replicas`.
    pub max_replicas: i32,
    /// As of its controller's last sync.
    pub status_replicas: i32,
    pub ready_replicas: i32,
    pub available_replicas: i32,
    /// Why the last pod could not be created: a quota.
    pub failure: Option<String>,
}

/// The state of a pod's containers, as the kubelet drives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// Whether the scheduler found a node.
    pub scheduled: bool,
    /// Since when the pod is ready; None while it is not.
    pub ready_since: Option<Seconds>,
    /// Since when the model container runs; None while it does not.
    pub started: Option<Seconds>,
    /// Since when all init containers are done.
    pub initialized: Option<Seconds>,
    /// The pod failed (an eviction, for example) and never runs again. It no longer counts.
    pub finished: bool,
    /// Restarts of the model container.
    pub restarts: i32,
    /// Restarts of the first init container.
    pub init_restarts: i32,
    /// The containers as the kubelet reports them, in words of the simulated kubelet.
    pub report: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub name: String,
    /// Name of its controller, a ReplicaSet.
    pub replica_set: String,
    pub template: Template,
    pub created: Seconds,
    /// Being deleted: it no longer counts, and is gone when the kubelet next looks.
    pub deleting: bool,
    pub state: PodState,
}

impl Pod {
    /// Counts for its ReplicaSet: neither deleting nor finished.
    pub fn is_active(&self) -> bool {
        !self.deleting && !self.state.finished
    }

    pub fn is_ready(&self) -> bool {
        self.is_active() && self.state.ready_since.is_some()
    }

    /// Ready for at least `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i32, now: Seconds) -> bool {
        let since = self.state.ready_since.filter(|_| self.is_active());
        since.is_some_and(|since| since + i64::from(min_ready_seconds) <= now)
    }
}

/// One Deployment with all that its controllers made of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    pub deployment: Option<Deployment>,
    pub replica_sets: Vec<ReplicaSet>,
    pub pods: Vec<Pod>,
    /// The most pods that the namespace's quota admits; None for no quota.
    pub quota: Option<usize>,
    /// Number of pods created so far. The next pod's name contains it.
    pub made: u64,
}
