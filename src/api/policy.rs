//! ModelPolicy: what an administrator demands of the models in a namespace.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deployment::{SUBDOMAIN, SecretRef};

/// What has to be so before a version is newly served in this namespace, and who verifies. What
/// serves already, and going back, it never touches.
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
    doc = "ModelPolicy is what an administrator demands of the models in a namespace, and who verifies their artifacts. There is one, named default.",
    printcolumn(name = "Artifact-Digest", type_ = "boolean", json_path = ".spec.requireArtifactDigest"),
    printcolumn(name = "Image-Digest", type_ = "boolean", json_path = ".spec.requireImageDigest"),
    printcolumn(name = "Verifier", type_ = "string", json_path = ".spec.verification.serviceAccountName"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == 'default'").message("metadata.name must be default: a namespace has one ModelPolicy")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct ModelPolicySpec {
    /// Whether the record of a version that has an artifact has to name its digest.
    #[serde(default)]
    pub require_artifact_digest: bool,
    /// Whether the image that serves has to be named by digest.
    #[serde(default)]
    pub require_image_digest: bool,
    /// Whose signature an artifact has to carry. Absent: signatures are not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_signature: Option<RequireSignature>,
    /// Who verifies versions that name no digest, and when versions are verified again. Absent:
    /// nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationPolicy>,
    /// How artifacts are fetched where a ModelDeployment does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryPolicy>,
}

/// The keys that are trusted, in PEM; at least one.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.publicKeys) && self.publicKeys.size() > 0) || (has(self.certificates) && self.certificates.size() > 0)")
    .message("name at least one of publicKeys and certificates: with no key to trust, no signature is good"))]
pub struct RequireSignature {
    /// EC public keys, each `-----BEGIN PUBLIC KEY-----…`.
    #[x_kube(validation = Rule::new("self.all(key, key.startsWith('-----BEGIN PUBLIC KEY-----'))").message("each of publicKeys is PEM and starts with -----BEGIN PUBLIC KEY-----"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 1024)))]
    pub public_keys: Vec<String>,
    /// Root certificates of x509 chains, each `-----BEGIN CERTIFICATE-----…`.
    #[x_kube(validation = Rule::new("self.all(cert, cert.startsWith('-----BEGIN CERTIFICATE-----'))").message("each of certificates is PEM and starts with -----BEGIN CERTIFICATE-----"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 4096)))]
    pub certificates: Vec<String>,
}

/// Who verifies, with which credentials, and how often.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationPolicy {
    /// ServiceAccount of the verification Jobs; workload identity hangs on it.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub service_account_name: String,
    /// Secret that they read artifacts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretRef>,
    /// How many hours after a verification a version that serves is verified again. Absent: only
    /// when somebody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8760))]
    pub interval_hours: Option<i32>,
}

/// How artifacts are fetched where a ModelDeployment does not say.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPolicy {
    /// Secret that artifacts are fetched with where the ModelDeployment names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretRef>,
    /// Hosts (`minio.storage:9000`) and networks (`10.0.0.0/8`) that a fetch may reach although
    /// they are not public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 259), regex(pattern = r"^[^\s,]+$")))]
    pub allowed_hosts: Vec<String>,
}
