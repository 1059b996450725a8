//! The status of a ModelVersion.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Findings of the operator about a version.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelVersionStatus {
    /// Generation of the spec that this status describes; -1 before the operator first handled the
    /// object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions Ready (the version may be deployed), Stalled (it cannot be deployed until someone
    /// changes something) and Verified (its bytes are known to be those recorded).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["type"]
        )
    )]
    pub conditions: Vec<Condition>,
    /// The sha256 of the immutable part of the spec, in its RFC 8785 form. Rollouts are bound to
    /// the version by this digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub record_digest: Option<String>,
    /// Values that the record leaves open and the operator found. Each is written once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// The newest completed verification of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// ModelDeployments that serve this version; at most 32 are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub used_by: Vec<UsedBy>,
    /// Total number of ModelDeployments that serve this version.
    #[serde(default)]
    pub used_by_count: i64,
    /// Use of the version, or its problem, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// Values that the record leaves open and the operator found.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// Digest that the first verification found. If the record names none, the version is pinned to
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub artifact_digest: Option<String>,
    /// Size in bytes that the first verification found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// Digest of the image that pods of this version first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub image_digest: Option<String>,
}

/// A completed verification of the artifact by a Job.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Verification {
    /// Number of verifications that completed, including this one.
    pub number: i64,
    /// Name of the verification Job.
    #[schemars(length(max = 63))]
    pub job: String,
    /// Value of the annotation rollmodel.dev/verify that this verification answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub requested: Option<String>,
    /// Time at which the verification completed.
    pub time: Time,
    /// Result in CamelCase: Verified, Drifted, VerificationTrouble, or the fault of the bytes, such
    /// as Mismatch.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// Result of the verification, in a sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Number of consecutive verifications that ended in trouble of the environment. Absent if this
    /// one did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
}

/// A ModelDeployment that serves a version.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsedBy {
    /// Name of the ModelDeployment.
    #[schemars(length(max = 63))]
    pub model_deployment: String,
    /// Role of the version in the ModelDeployment.
    pub role: Role,
    /// Number of the rollout that serves the version there.
    pub rollout: i64,
    /// Time since which the version has served there.
    pub since: Time,
}

/// Role of a version in a ModelDeployment.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Role {
    /// The version receives traffic.
    Serving,
}
