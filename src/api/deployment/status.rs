//! The status of a ModelDeployment.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::rollout::{Outcome, Scope, StrategyKind, Trigger};

/// The serving revision, the rollout in progress, and their state.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// Generation of the spec that this status describes; -1 before the operator first handled the
    /// object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State in one word, for people; tools read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Current state in one or two sentences: what is happening, why, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Total number of pods of the Deployment.
    #[serde(default)]
    pub replicas: i32,
    /// Label selector of the serving pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// Conditions Ready, Reconciling, Stalled, Available, Progressing, Paused, Held and
    /// AutoscaledChild, and AdmissionPoliciesMissing while the cluster does not enforce the shipped
    /// admission policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["type"]
        )
    )]
    pub conditions: Vec<Condition>,
    /// Strategy of the rollouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategyKind>,
    /// Number of the newest rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<i64>,
    /// Newest decision, as `<rollout>.<n>`, where n counts the pauses and resumes of that rollout,
    /// such as "12.1"; "0" before the first rollout. Copy it into spec.ifDecision of a
    /// RolloutRequest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub decision: Option<String>,
    /// The revision that the spec names. Absent while it cannot be determined, for example while
    /// the ModelVersion does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Desired>,
    /// The revision that receives traffic. Absent before the first rollout is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<RevisionStatus>,
    /// The revision of the rollout in progress. Absent when no rollout is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<RevisionStatus>,
    /// The rejection that keeps the revision that the spec names from being served. Absent when
    /// there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The 5 newest rollouts, newest first. `kubectl get mro` lists all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub history: Vec<HistoryEntry>,
}

/// State in one word, for people; tools read the conditions. The README explains each state.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum State {
    /// The version is not available yet.
    Pending,
    /// A rollout is in progress.
    Rolling,
    /// The revision that the spec names serves.
    Serving,
    /// A change is pending and is paused.
    Paused,
    /// A person went back. The revision that the spec names is not served again until the spec
    /// names something else or someone asks for a Retry.
    Held,
    /// A rollout failed and was rolled back automatically.
    RolledBack,
    /// The environment blocks the rollout, or it failed and there is nothing to roll back to.
    Waiting,
    /// The spec cannot be carried out.
    Invalid,
}

/// The revision that the spec names.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Version that the spec names.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The recordDigest of the version.
    #[schemars(length(max = 71))]
    pub record_digest: String,
    /// The first 16 hexadecimal digits of the revisionHash, as in the pod label
    /// rollmodel.dev/revision.
    #[schemars(length(max = 16))]
    pub revision_hash: String,
}

/// A revision and its pods.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Version of the revision.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The recordDigest of the version.
    #[schemars(length(max = 71))]
    pub record_digest: String,
    /// The first 16 hexadecimal digits of the revisionHash, as in the pod label
    /// rollmodel.dev/revision.
    #[schemars(length(max = 16))]
    pub revision_hash: String,
    /// Number of the rollout of this revision.
    pub rollout: i64,
    /// Name of the Deployment with its pods, for use with plain kubectl.
    #[schemars(length(max = 63))]
    pub deployment: String,
    /// Number of pods of this revision.
    pub replicas: i32,
    /// Number of pods of this revision that are ready.
    pub ready: i32,
    /// Time at which the revision began to serve, or at which its rollout started if it is in
    /// progress.
    pub since: Time,
}

/// The rejection that keeps the revision that the spec names from being served.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The rollout that was rejected.
    pub rejected: Rejected,
    /// Scope of the rejection. Version: the version with any template. Content: the content with
    /// any labels and annotations. Revision: exactly this revision, with its labels and
    /// annotations.
    pub scope: Scope,
    /// Cause of the rejection.
    pub trigger: Trigger,
    /// Reason of the rejection, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Who or what caused the rejection, as in decidedBy.name of the record.
    #[schemars(length(max = 253))]
    pub decided_by: String,
    /// Time of the rejection.
    pub at: Time,
}

/// A rejected rollout.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// Version of the rejected rollout. Absent after its record was pruned by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
    /// The recordDigest of that version. Absent after the record was pruned by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub record_digest: Option<String>,
    /// The first 16 hexadecimal digits of its revisionHash. Absent after the record was pruned by
    /// age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub revision_hash: Option<String>,
    /// Number of the rejected rollout.
    pub rollout: i64,
}

/// One rollout in the history of a ModelDeployment.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Number of the rollout.
    pub rollout: i64,
    /// Version of the rollout.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Number of the newest rollout of the ModelDeployment when this one was decided. Absent for
    /// the first rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_rollout: Option<i64>,
    /// Cause of the rollout.
    pub trigger: Trigger,
    /// Outcome of the rollout. Absent while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Time at which the rollout was decided.
    pub start_time: Time,
    /// Time at which the rollout ended. Absent while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}
