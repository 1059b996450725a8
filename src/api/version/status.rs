//! The status of a ModelVersion.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator found about a version.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelVersionStatus {
    /// Generation this status describes; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: may be deployed. Stalled: cannot, until someone changes something. Verified: whether
    /// the bytes are known to be those recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The sha256 of the immutable part of the spec (RFC 8785), by which rollouts are bound to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub record_digest: Option<String>,
    /// What was found of what the record leaves open; written once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// The newest verification of the artifact that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// ModelDeployments that serve this version, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub used_by: Vec<UsedBy>,
    /// How many ModelDeployments serve this version.
    #[serde(default)]
    pub used_by_count: i64,
    /// Where it serves, or what is wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// What was found of what the record leaves open.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The digest that the first verification found; where the record names none, the version is
    /// pinned to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub artifact_digest: Option<String>,
    /// The size in bytes that the first verification found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The digest of the image that pods of the version really ran first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub image_digest: Option<String>,
}

/// One verification of the artifact by a Job, that ended.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Verification {
    /// How many verifications ended, with this one.
    pub number: i64,
    /// Name of its Job.
    #[schemars(length(max = 63))]
    pub job: String,
    /// Value of the annotation rollmodel.dev/verify that it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub requested: Option<String>,
    /// When it ended.
    pub time: Time,
    /// What it came to, in CamelCase: Verified, Drifted, VerificationTrouble, or what is wrong with
    /// the bytes.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// What it came to, in a sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// How many in a row ended in trouble that is no fault of the bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
}

/// One ModelDeployment that serves a version.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsedBy {
    /// Name of the ModelDeployment.
    #[schemars(length(max = 63))]
    pub model_deployment: String,
    /// What the version does there.
    pub role: Role,
    /// Number of the rollout that brought it there.
    pub rollout: i64,
    /// Since when.
    pub since: Time,
}

/// What a version does in a ModelDeployment.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Role {
    /// It answers requests.
    Serving,
}
