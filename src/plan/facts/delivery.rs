//! The preconditions of rendering a version: the requirements of the policy, and a known digest of
//! the artifact.
//!
//! They are checked only when a rendering is made. A stored rendering was allowed when it was made,
//! and a policy that came later never prevents a rollback to it.

use serde_json::Value;

use super::{problem::Problem, version::find_pinned_digest};
use crate::{
    api::{
        ModelDeploymentSpec, ModelPolicySpec,
        deployment::DeliveryMode,
        names,
        reason::Reason,
        version::{Artifact, Signature},
    },
    plan::{
        make::{Delivered, fetch_container},
        observed::{Observed, Version},
    },
};

/// The first minor version of Kubernetes 1 whose kubelet mounts images.
pub const IMAGE_VOLUMES_FROM: u32 = 35;

/// Resolves the delivery mode and the expected digest of a version's artifact.
///
/// # Errors
/// A requirement of the policy that the version does not meet, or a digest that nobody knows yet.
pub fn resolve_delivery<'a>(
    observed: &'a Observed,
    spec: &ModelDeploymentSpec,
    version: &'a Version,
) -> Result<Delivered<'a>, Problem> {
    let written = spec.delivery.as_ref().and_then(|d| d.mode);
    let Some(artifact) = &version.artifact else {
        return match written {
            None | Some(DeliveryMode::InImage) => {
                Ok(Delivered { mode: DeliveryMode::InImage, digest: None })
            }
            Some(mode) => Err(report_missing_artifact(version, mode)),
        };
    };
    let mode = written.unwrap_or(DeliveryMode::Init);
    if let Some(policy) = observed.policy.as_ref().map(|p| &p.spec) {
        require_digest(policy, version, artifact)?;
        require_signature(policy, version, artifact, mode)?;
    }
    if mode == DeliveryMode::ImageVolume {
        require_mountable(observed, version, artifact)?;
    }
    let digest = find_pinned_digest(version);
    if digest.is_none() && mode != DeliveryMode::InImage {
        return Err(report_unverified(observed, version));
    }
    Ok(Delivered { mode, digest })
}

fn report_missing_artifact(version: &Version, mode: DeliveryMode) -> Problem {
    Problem::Invalid(
        Reason::NoArtifact,
        format!(
            "ModelVersion {} records no artifact, and spec.delivery.mode is {mode:?}: name a \
             version with an artifact, or leave spec.delivery.mode out.",
            version.name
        ),
    )
}

fn require_digest(
    policy: &ModelPolicySpec,
    version: &Version,
    artifact: &Artifact,
) -> Result<(), Problem> {
    if !policy.require_artifact_digest || fetch_container::find_recorded_digest(artifact).is_some()
    {
        return Ok(());
    }
    Err(Problem::Invalid(
        Reason::ArtifactDigestRequired,
        format!(
            "ModelPolicy {} demands that a version names the digest of its artifact \
             (requireArtifactDigest), and ModelVersion {} names none: register the version again \
             with artifact.digest, which `rollmodel-fetch digest URI` prints.",
            names::POLICY,
            version.name
        ),
    ))
}

fn require_signature(
    policy: &ModelPolicySpec,
    version: &Version,
    artifact: &Artifact,
    mode: DeliveryMode,
) -> Result<(), Problem> {
    if policy.require_signature.is_none() {
        return Ok(());
    }
    let demands = format!(
        "ModelPolicy {} demands a signature of the artifact (requireSignature)",
        names::POLICY
    );
    let signature: Option<&Signature> = artifact.signature.as_ref();
    let sentence = match (mode, signature) {
        (DeliveryMode::Init, Some(_)) => return Ok(()),
        (DeliveryMode::Init, None) => {
            format!(
                "{demands}, and ModelVersion {} names none: register the version again with \
                 artifact.signature.",
                version.name
            )
        }
        (mode, _) => format!(
            "{demands}, and with delivery mode {mode:?} nobody checks one: set spec.delivery.mode \
             to Init."
        ),
    };
    Err(Problem::Invalid(Reason::SignatureRequired, sentence))
}

/// Returns a problem unless the kubelet can mount the artifact as an image volume.
fn require_mountable(
    observed: &Observed,
    version: &Version,
    artifact: &Artifact,
) -> Result<(), Problem> {
    if fetch_container::build_image_reference(&artifact.uri, "").is_none() {
        let scheme = artifact.uri.split("://").next().unwrap_or_default();
        let sentence = format!(
            "spec.delivery.mode ImageVolume mounts oci:// artifacts, and that of ModelVersion {} \
             is at {scheme}://: set spec.delivery.mode to Init.",
            version.name
        );
        return Err(Problem::Invalid(Reason::ImageVolumeUnsupported, sentence));
    }
    match observed.memory.kubernetes {
        Some(minor) if minor >= IMAGE_VOLUMES_FROM => Ok(()),
        Some(minor) => Err(Problem::Invalid(
            Reason::ImageVolumeUnsupported,
            format!(
                "spec.delivery.mode ImageVolume needs Kubernetes 1.{IMAGE_VOLUMES_FROM}, and this \
                 is 1.{minor}: set spec.delivery.mode to Init."
            ),
        )),
        None => Err(Problem::Pending(
            Reason::KubernetesUnknown,
            "spec.delivery.mode ImageVolume waits until the API server told its version, which \
             says whether the kubelet can mount images."
                .into(),
        )),
    }
}

/// Builds the problem of a version whose digest nobody knows yet.
fn report_unverified(observed: &Observed, version: &Version) -> Problem {
    let Version { name, version: number, .. } = version;
    if let Some(found) = version.unverified.as_ref().filter(|u| u.failed) {
        let again = format!(
            "When that is fixed, `kubectl annotate mv {name} {}=$(date +%s) --overwrite` has it \
             verified again.",
            names::VERIFY
        );
        return Problem::Invalid(
            Reason::VerificationFailed,
            format!("The artifact of version {number} was not accepted: {} {again}", found.message),
        );
    }
    let verifies = observed.policy.as_ref().is_some_and(|p| p.spec.verification.is_some());
    let sentence = match &version.unverified {
        _ if !verifies => format!(
            "ModelVersion {name} names no digest of its artifact, and nobody verifies artifacts \
             here: register it with artifact.digest (`rollmodel-fetch digest URI` prints it), or \
             make ModelPolicy {} with spec.verification.serviceAccountName.",
            names::POLICY
        ),
        Some(trouble) => format!(
            "Version {number} waits until its artifact is verified, which is tried again: {}",
            trouble.message
        ),
        None => format!(
            "Version {number} waits until its artifact is verified: `kubectl get mv {name} -o \
             yaml` says how far that is."
        ),
    };
    Problem::Pending(Reason::NotVerified, sentence)
}

/// Returns a problem if the policy requires images by digest and the rendering names its image by
/// tag.
///
/// # Errors
/// The policy requires images by digest, and the image is named by a tag.
pub fn require_image_digest(
    observed: &Observed,
    version: &Version,
    rendering: &Value,
) -> Result<(), Problem> {
    let demanded = observed.policy.as_ref().is_some_and(|p| p.spec.require_image_digest);
    let containers = rendering["spec"]["containers"].as_array().into_iter().flatten();
    let image = containers
        .filter(|c| c["name"] == names::CONTAINER)
        .find_map(|c| c["image"].as_str())
        .unwrap_or_default();
    if !demanded || image.contains("@sha256:") || image.contains("@sha512:") {
        return Ok(());
    }
    Err(Problem::Invalid(
        Reason::ImageDigestRequired,
        format!(
            "ModelPolicy {} demands images by digest (requireImageDigest), and {image} is a tag: \
             name it as IMAGE@sha256:… in the record of version {} (registered again), or for the \
             container {} in spec.template.",
            names::POLICY,
            version.version,
            names::CONTAINER
        ),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::{arbitrary::observed, observed::Policy};

    #[test]
    fn a_policy_that_demands_images_by_digest_accepts_each_kind_of_digest() {
        let mut seen = observed("6", Vec::new());
        let spec = serde_json::from_value(json!({"requireImageDigest": true})).unwrap();
        seen.policy = Some(Policy { spec, ..Policy::default() });
        let accepts = |name: &str| {
            let containers = json!([{"name": "proxy", "image": "proxy:1"},
                {"name": "model", "image": name}]);
            require_image_digest(
                &seen,
                &seen.versions[0],
                &json!({"spec": {"containers": containers}}),
            )
            .is_ok()
        };
        assert!(accepts("fraud@sha256:abc") && accepts("fraud@sha512:abc"));
        assert!(!accepts("fraud:1"));
    }
}
