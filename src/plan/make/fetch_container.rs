//! The container that runs `rollmodel-fetch`: the common part of the init container of a serving
//! pod and of a verification Job.

use serde_json::{Value, json};

use crate::api::{ModelPolicySpec, names, version::Artifact};
use crate::plan::drift::parse_quantity;

/// Mount path of the credentials.
const CREDENTIALS: &str = "/var/run/rollmodel/credentials";
/// Mount path of PersistentVolumeClaims that hold artifacts, each under its name.
const CLAIMS: &str = "/mnt/rollmodel-pvc";
/// Name of the volume with the credentials.
const CREDENTIALS_VOLUME: &str = "rollmodel-credentials";
/// Name of the volume for a claim that holds the artifact.
const SOURCE_VOLUME: &str = "rollmodel-source";
/// Name of the volume for the fetched artifact, or for the image that the kubelet mounts.
pub const ARTIFACT_VOLUME: &str = "rollmodel-artifact";
/// Name of the volume for the cache.
pub const CACHE_VOLUME: &str = "rollmodel-cache";
/// Names of all volumes that the operator adds.
pub const VOLUMES: [&str; 4] = [ARTIFACT_VOLUME, CACHE_VOLUME, CREDENTIALS_VOLUME, SOURCE_VOLUME];
/// Exit code if the files or the request are at fault.
pub const AT_FAULT: i32 = 3;
/// Exit code if the environment is in trouble.
pub const IN_TROUBLE: i32 = 1;

/// An artifact to fetch or verify, with digest, credentials and policy.
#[derive(Clone, Copy, Debug)]
pub struct Fetcher<'a> {
    /// Artifact as the version records it.
    pub artifact: &'a Artifact,
    /// Expected digest of the files.
    pub digest: Option<&'a str>,
    /// Name of the Secret with the credentials.
    pub credentials: Option<&'a str>,
    /// Policy with the trusted keys and the allowed hosts.
    pub policy: Option<&'a ModelPolicySpec>,
}

impl Fetcher<'_> {
    /// Builds the arguments with the expected digest. Signatures are checked only if a policy names
    /// trusted keys.
    #[must_use]
    pub fn build_args(&self) -> Vec<String> {
        let signature = self
            .artifact
            .signature
            .as_ref()
            .filter(|_| self.policy.is_some_and(|p| p.require_signature.is_some()));
        let pairs = [
            ("--digest", self.digest.map(str::to_owned)),
            ("--size", self.artifact.size.map(|size| size.to_string())),
        ];
        let mut args: Vec<String> = pairs
            .into_iter()
            .filter_map(|(flag, value)| Some([flag.to_owned(), value?]))
            .flatten()
            .collect();
        // One argument, because an address must not be read as another flag.
        args.extend(signature.map(|s| format!("--signature={}", s.uri)));
        args
    }

    /// Builds the environment variables that the operator sets.
    #[must_use]
    pub fn build_env(&self) -> Vec<Value> {
        let join = |texts: &[String], with: &str| (!texts.is_empty()).then(|| texts.join(with));
        let keys = self.policy.and_then(|p| p.require_signature.as_ref());
        let hosts = self
            .policy
            .and_then(|p| p.delivery.as_ref())
            .map(|d| d.allowed_hosts.as_slice())
            .unwrap_or_default();
        let pairs = [
            ("ROLLMODEL_CREDENTIALS", self.credentials.map(|_| CREDENTIALS.to_owned())),
            ("ROLLMODEL_ALLOWED_HOSTS", join(hosts, ",")),
            ("ROLLMODEL_TRUSTED_KEYS", keys.and_then(|k| join(&k.public_keys, "\n"))),
            ("ROLLMODEL_TRUSTED_CERTIFICATES", keys.and_then(|k| join(&k.certificates, "\n"))),
        ];
        pairs
            .into_iter()
            .filter_map(|(name, value)| Some(json!({"name": name, "value": value?})))
            .collect()
    }

    /// Builds the mounts of the credentials and of the claim that holds the artifact.
    #[must_use]
    pub fn build_mounts(&self) -> Vec<Value> {
        let credentials = self.credentials.map(
            |_| json!({"name": CREDENTIALS_VOLUME, "mountPath": CREDENTIALS, "readOnly": true}),
        );
        let source = find_claim_name(&self.artifact.uri).map(|claim| {
            let path = format!("{CLAIMS}/{claim}");
            json!({"name": SOURCE_VOLUME, "mountPath": path, "readOnly": true})
        });
        credentials.into_iter().chain(source).collect()
    }

    /// Builds the volumes for these mounts.
    #[must_use]
    pub fn build_volumes(&self) -> Vec<Value> {
        let credentials = self
            .credentials
            .map(|name| json!({"name": CREDENTIALS_VOLUME, "secret": {"secretName": name}}));
        let source = find_claim_name(&self.artifact.uri).map(|claim| {
            let claim = json!({"claimName": claim, "readOnly": true});
            json!({"name": SOURCE_VOLUME, "persistentVolumeClaim": claim})
        });
        credentials.into_iter().chain(source).collect()
    }
}

/// Builds the resource requests: memory use does not grow with the artifact.
#[must_use]
pub fn build_resources() -> Value {
    json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}})
}

/// Builds the security context: the container may only write to its volumes.
#[must_use]
pub fn build_security_context() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// Finds the digest that the record of an artifact names: its own field, or the one in an `oci://`
/// address.
#[must_use]
pub fn find_recorded_digest(artifact: &Artifact) -> Option<&str> {
    let address = || {
        artifact
            .uri
            .strip_prefix("oci://")
            .and_then(|rest| rest.split_once('@'))
            .map(|(_, digest)| digest)
    };
    artifact
        .digest
        .as_deref()
        .or_else(|| address().filter(|digest| digest.starts_with("sha256:") && digest.len() == 71))
}

/// Builds the image reference by digest that the kubelet mounts for an `oci://` address; None for
/// other addresses.
#[must_use]
pub fn build_image_reference(uri: &str, digest: &str) -> Option<String> {
    let rest = uri.strip_prefix("oci://")?;
    let named = rest.split_once('@').map_or(rest, |(named, _)| named);
    let (path, last) = named.rsplit_once('/')?;
    let last = last.split_once(':').map_or(last, |(name, _)| name);
    Some(format!("{path}/{last}@{digest}"))
}

/// Finds the name of the claim in a `pvc://claim/path` address.
#[must_use]
pub fn find_claim_name(uri: &str) -> Option<&str> {
    uri.strip_prefix("pvc://").and_then(|rest| rest.split('/').next())
}

/// Reports whether a text is a valid name of a claim.
#[must_use]
pub fn is_claim_name(name: &str) -> bool {
    let label = |part: &str| {
        let ends = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends(part.bytes().next())
            && ends(part.bytes().last())
            && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Parses a size such as `200Gi` into bytes.
#[must_use]
pub fn parse_size_bytes(quantity: &str) -> Option<i128> {
    parse_quantity(quantity).map(|nanos| nanos / 1_000_000_000).filter(|bytes| *bytes > 0)
}

/// Builds the name, image and program of the fetch container, which are the same everywhere.
#[must_use]
pub fn build_container(image: &str, args: &[String], env: &[Value], mounts: &[Value]) -> Value {
    let mut container = json!({
        "name": names::FETCH, "image": image, "command": [PROGRAM], "args": args,
        "resources": build_resources(), "securityContext": build_security_context(),
    });
    for (field, items) in [("env", env), ("volumeMounts", mounts)] {
        if !items.is_empty() {
            container[field] = json!(items);
        }
    }
    container
}

/// Path of the program in the image.
pub const PROGRAM: &str = "/rollmodel-fetch";

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";

    #[test]
    fn an_address_of_an_image_is_mounted_by_digest_whatever_tag_it_had() {
        let cases = [
            ("oci://registry.example.com/models/fraud:7", "registry.example.com/models/fraud"),
            ("oci://registry.example.com:5000/fraud", "registry.example.com:5000/fraud"),
            (
                "oci://registry.example.com:5000/a/fraud:v1@sha256:aa",
                "registry.example.com:5000/a/fraud",
            ),
        ];
        for (uri, want) in cases {
            assert_eq!(build_image_reference(uri, DIGEST), Some(format!("{want}@{DIGEST}")));
        }
        assert_eq!(build_image_reference("s3://models/fraud", DIGEST), None);
    }

    #[test]
    fn an_image_by_digest_is_a_digest_of_the_record() {
        let artifact = |uri: String, digest: Option<&str>| -> Artifact {
            serde_json::from_value(json!({"uri": uri, "digest": digest})).unwrap()
        };
        assert_eq!(
            find_recorded_digest(&artifact(format!("oci://r/fraud@{DIGEST}"), None)),
            Some(DIGEST)
        );
        assert_eq!(find_recorded_digest(&artifact("oci://r/fraud:7".into(), None)), None);
        assert_eq!(find_recorded_digest(&artifact(format!("s3://r/fraud@{DIGEST}"), None)), None);
        assert_eq!(
            find_recorded_digest(&artifact("s3://r/fraud".into(), Some(DIGEST))),
            Some(DIGEST)
        );
    }

    #[test]
    fn sizes_are_told_in_bytes() {
        assert_eq!(parse_size_bytes("200Gi"), Some(200 << 30));
        assert_eq!(parse_size_bytes("1.5k"), Some(1500));
        assert_eq!(parse_size_bytes("x"), None);
    }
}
