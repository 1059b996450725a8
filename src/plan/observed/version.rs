//! Everything that is known about one ModelVersion and its verification.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Policy, RefusedWrite, Version};
use crate::api::{ModelVersionStatus, version::UsedBy};

/// Everything that is known about one ModelVersion.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedVersion {
    /// Namespace of the ModelVersion.
    pub namespace: String,
    /// Name of the ModelVersion.
    pub name: String,
    /// Uid of the ModelVersion.
    pub uid: String,
    /// Generation of the ModelVersion.
    pub generation: i64,
    /// Value of the annotation by which people ask for a verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// Status as it was last written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ModelVersionStatus>,
    /// Facts of the record, and of the rollouts that are bound to it.
    pub facts: Version,
    /// ModelDeployments that serve the version, in any order.
    pub used_by: Vec<UsedBy>,
    /// True if the CRDs in the cluster are older than this build. The digest may then lack fields,
    /// so that no Conflict is concluded.
    pub crds_older: bool,
    /// Digest of the image that pods run, where the record names the image by a tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The ModelPolicy of the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Verification Jobs of the version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Job>,
    /// Termination messages of the pods of an ended Job, where they were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard: Option<Heard>,
    /// Flag `--fetch-image`: the image that verifies artifacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch_image: Option<String>,
    /// Writes that the API server refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<RefusedWrite>,
}

/// A verification Job of a version.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Job {
    /// Name of the Job.
    pub name: String,
    /// Uid of the Job.
    pub uid: String,
    /// Creation time of the Job.
    pub created: Timestamp,
    /// Value of the version's annotation at the creation of the Job, which the Job answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// True if the Job is being deleted.
    pub deleting: bool,
    /// True if a pod of the Job runs or ever failed.
    pub started: bool,
    /// Result of the Job in Kubernetes' words; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// The end of one pod of a Job.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct LastWords {
    /// Exit code of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Termination message, or else the reason for the end.
    pub message: String,
}

/// Termination messages of the pods of one ended Job.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Heard {
    /// Uid of the Job.
    pub job: String,
    /// One entry for each pod that still exists.
    pub words: Vec<LastWords>,
}
