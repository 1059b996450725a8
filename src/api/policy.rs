//! ModelPolicy: requirements of an administrator for the models in a namespace.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deployment::{SUBDOMAIN, SecretRef};

/// Requirements that a version must meet before it is newly served in this namespace. Versions that
/// serve already, and rollbacks, are not affected.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "rollmodel.dev",
    version = "v1alpha1",
    kind = "ModelPolicy",
    plural = "modelpolicies",
    namespaced,
    derive = "PartialEq",
    shortname = "mpol",
    category = "rollmodel",
    doc = "ModelPolicy states the requirements that versions of models must meet before they are \
           newly served in a namespace, and how their artifacts are verified. A namespace has at \
           most one, named default.",
    printcolumn(
        name = "Artifact-Digest",
        type_ = "boolean",
        json_path = ".spec.requireArtifactDigest"
    ),
    printcolumn(name = "Image-Digest", type_ = "boolean", json_path = ".spec.requireImageDigest"),
    printcolumn(
        name = "Verifier",
        type_ = "string",
        json_path = ".spec.verification.serviceAccountName"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == 'default'")
        .message("metadata.name must be default: a namespace has one ModelPolicy")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct ModelPolicySpec {
    /// True if the record of a version with an artifact must name its digest; false when absent.
    #[serde(default)]
    pub require_artifact_digest: bool,
    /// True if the serving image must be named by digest; false when absent.
    #[serde(default)]
    pub require_image_digest: bool,
    /// Keys with which artifacts must be signed. When absent, signatures are not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_signature: Option<RequireSignature>,
    /// Verification of artifacts by Jobs, for versions that name no digest and for repeated checks.
    /// When absent, nothing is verified by Jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationPolicy>,
    /// Defaults for fetching artifacts, where a ModelDeployment names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryPolicy>,
}

/// Keys that are trusted, in PEM. At least one is required.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "(has(self.publicKeys) && self.publicKeys.size() > 0) || (has(self.certificates) && \
         self.certificates.size() > 0)"
    )
    .message(
        "name at least one of publicKeys and certificates: with no key to trust, no signature is \
         good"
    )
)]
pub struct RequireSignature {
    /// EC public keys, each beginning with `-----BEGIN PUBLIC KEY-----`; at most 8.
    #[x_kube(
        validation = Rule::new("self.all(key, key.startsWith('-----BEGIN PUBLIC KEY-----'))")
            .message("each of publicKeys is PEM and starts with -----BEGIN PUBLIC KEY-----")
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 1024)))]
    pub public_keys: Vec<String>,
    /// Root certificates of X.509 chains, each beginning with `-----BEGIN CERTIFICATE-----`; at
    /// most 4.
    #[x_kube(
        validation = Rule::new("self.all(cert, cert.startsWith('-----BEGIN CERTIFICATE-----'))")
            .message("each of certificates is PEM and starts with -----BEGIN CERTIFICATE-----")
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 4096)))]
    pub certificates: Vec<String>,
}

/// Identity, credentials and interval of verification Jobs.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationPolicy {
    /// ServiceAccount of the verification Jobs. Bind workload identity to it.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub service_account_name: String,
    /// Secret with the credentials with which the Jobs read artifacts. When absent, the identity of
    /// their ServiceAccount is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretRef>,
    /// Time in hours after which a serving version is verified again. When absent, only on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8760))]
    pub interval_hours: Option<i32>,
}

/// Defaults for fetching artifacts, where a ModelDeployment names none.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPolicy {
    /// Secret with the credentials to fetch artifacts, where the ModelDeployment names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretRef>,
    /// Hosts (`minio.storage:9000`) and networks (`10.0.0.0/8`) that a fetch may reach although
    /// their addresses are not public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 259), regex(pattern = r"^[^\s,]+$")))]
    pub allowed_hosts: Vec<String>,
}
