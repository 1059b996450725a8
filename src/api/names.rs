//! Names, labels and annotations that the operator writes and reads.

/// API group of all our kinds.
pub const GROUP: &str = "rollmodel.dev";
/// Field manager of every write of the operator, also its user agent and the reporter of its
/// Events.
pub const MANAGER: &str = "rollmodel";

/// Label on pods and children: the name of the ModelDeployment. One half of the selector.
pub const MODEL_DEPLOYMENT: &str = "rollmodel.dev/model-deployment";
/// Label on pods: the track, which names one Deployment of the ModelDeployment. The other half of
/// the selector.
pub const TRACK: &str = "rollmodel.dev/track";
/// Track of the serving Deployment.
pub const TRACK_MAIN: &str = "main";
/// Label on pods and records: the name of the model.
pub const MODEL: &str = "rollmodel.dev/model";
/// Label on pods and records: the version.
pub const VERSION: &str = "rollmodel.dev/version";
/// Label on pods and ControllerRevisions: the first 16 hexadecimal digits of the revisionHash. On
/// the Deployment of an importer: those of the hash of its pod template.
pub const REVISION: &str = "rollmodel.dev/revision";
/// Label on the serving Deployment: the newest decision that was carried out on it, such as `12.1`.
pub const DECISION: &str = "rollmodel.dev/decision";
/// Label on everything that the operator creates. Its watches select by this label.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Label on the Deployment and pods of an importer, and on imported ModelVersions: the name of the
/// ModelRegistry.
pub const REGISTRY: &str = "rollmodel.dev/registry";
/// Annotation on imported ModelVersions: what the record leaves out of the original.
pub const LEFT_OUT: &str = "rollmodel.dev/left-out";
/// Field manager of the writes of an importer.
pub const IMPORTER: &str = "rollmodel-importer";

/// Annotation of `kubectl rollout restart` and of the `Restart` verb: the time at which a restart
/// of the pods was requested.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Annotation that `kubectl rollout history` prints.
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// Annotation on the CRDs: the level of their schema, an integer that only grows.
pub const SCHEMA_LEVEL: &str = "rollmodel.dev/schema-level";
/// Schema level that this build generates. Raise it whenever a field is added to a CRD.
pub const SCHEMA_LEVEL_NOW: u32 = 5;
/// Suffixes of the names of the shipped admission policies and of their bindings. The prefix is the
/// name of the installation.
pub const ADMISSION_POLICIES: [&str; 3] = ["requested-by", "own-rights", "records"];
/// Annotation on the shipped admission policies: an integer that grows whenever they refuse more.
pub const POLICY_LEVEL: &str = "rollmodel.dev/policy-level";
/// Level of the policies in deploy/admission.yaml. Raise it whenever one of them refuses more.
pub const POLICY_LEVEL_NOW: u32 = 1;

/// Annotation on a ModelVersion with which a person requests a verification of the artifact. Any
/// value that was not answered yet starts one.
pub const VERIFY: &str = "rollmodel.dev/verify";

/// Name of the container that serves the model. The operator completes it.
pub const CONTAINER: &str = "model";
/// Name of the container that fetches and verifies the artifact, in serving pods and in
/// verification Jobs.
pub const FETCH: &str = "rollmodel-fetch";
/// The only name that a ModelPolicy may have.
pub const POLICY: &str = "default";

/// Returns the name of a ModelVersion: `<model>-<version>` in lower case, with `_` as `-`.
#[must_use]
pub fn version_name(model: &str, version: &str) -> String {
    format!("{model}-{version}").to_ascii_lowercase().replace('_', "-")
}

/// Returns the first 16 hexadecimal digits of a hash such as `v1:sha256:6b1f…`, for labels and
/// names.
#[must_use]
pub fn short_hash(hash: &str) -> &str {
    let hex = hash.rsplit(':').next().unwrap_or_default();
    hex.get(..16).unwrap_or(hex)
}

/// Returns the name of the ControllerRevision that stores a revision: `<mdep>-<hash16>`. The name
/// of the n-th rendering ends in `-<n>`, from the second on.
#[must_use]
pub fn revision_name(model_deployment: &str, hash: &str, rendering: u32) -> String {
    match rendering {
        0 | 1 => format!("{model_deployment}-{}", short_hash(hash)),
        n => format!("{model_deployment}-{}-{n}", short_hash(hash)),
    }
}

/// Returns the name of the record of a rollout: `<mdep>-<number>`.
#[must_use]
pub fn record_name(deployment: &str, number: i64) -> String {
    format!("{deployment}-{number}")
}

/// Returns the name of a verification Job, at most 63 characters. It begins with the name of the
/// ModelVersion, which is cut if it is too long, and ends with 8 digits of the hash.
#[must_use]
pub fn job_name(version: &str, hash: &str) -> String {
    let hex = short_hash(hash);
    let version = version.get(..47).unwrap_or(version).trim_end_matches(['-', '.']);
    format!("{}-verify-{}", version.replace('.', "-"), hex.get(..8).unwrap_or(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_fits_a_label_whatever_the_versions_name() {
        assert_eq!(job_name("fraud-1.0", "sha256:0123456789abcdef"), "fraud-1-0-verify-01234567");
        let long = job_name(&format!("{}-1", "a".repeat(63)), "sha256:0123456789abcdef");
        assert!(long.len() <= 63 && long.ends_with("-verify-01234567"), "{long}");
    }

    #[test]
    fn a_versions_name_is_lower_case_without_underscores() {
        assert_eq!(version_name("fraud", "1.0_RC1"), "fraud-1.0-rc1");
    }

    #[test]
    fn a_revisions_name_carries_sixteen_hex_digits_and_later_renderings_a_number() {
        let hash = "v1:sha256:0123456789abcdef0123456789abcdef";
        assert_eq!(revision_name("fraud", hash, 1), "fraud-0123456789abcdef");
        assert_eq!(revision_name("fraud", hash, 2), "fraud-0123456789abcdef-2");
    }
}
