//! The names, labels and annotations that this operator writes and reads.

/// The API group of every kind here.
pub const GROUP: &str = "rollmodel.dev";
/// The manager name of every write of this operator, also its user agent and its Events' reporter.
pub const MANAGER: &str = "rollmodel";

/// Label on pods and children: the ModelDeployment's name. Half of the selector.
pub const MODEL_DEPLOYMENT: &str = "rollmodel.dev/model-deployment";
/// Label on pods: which Deployment of it the pod belongs to. The other half of the selector.
pub const TRACK: &str = "rollmodel.dev/track";
/// The track of the serving Deployment.
pub const TRACK_MAIN: &str = "main";
/// Label on pods and records: the model's name.
pub const MODEL: &str = "rollmodel.dev/model";
/// Label on pods and records: the version's string.
pub const VERSION: &str = "rollmodel.dev/version";
/// Label on pods and ControllerRevisions: the first 16 hex digits of the revisionHash. On an
/// importer's Deployment: those of its pod template's hash.
pub const REVISION: &str = "rollmodel.dev/revision";
/// Label on the serving Deployment: the newest decision carried out on it (design §3).
pub const DECISION: &str = "rollmodel.dev/decision";
/// Label on everything this operator creates, which its watches select by.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Label on an importer's Deployment and pods, and on what it imported: the ModelRegistry's name.
pub const REGISTRY: &str = "rollmodel.dev/registry";
/// Annotation on what was imported: what of the original the record does not hold.
pub const LEFT_OUT: &str = "rollmodel.dev/left-out";
/// The manager name of an importer's writes.
pub const IMPORTER: &str = "rollmodel-importer";

/// Annotation of kubectl and of the `Restart` verb: when the pods were asked to restart.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Annotation that `kubectl rollout history` prints.
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// Annotation on the CRDs: which schema of ours they carry, an integer that only grows.
pub const SCHEMA_LEVEL: &str = "rollmodel.dev/schema-level";
/// The schema this build generates. Raise it whenever a field is added to a CRD.
pub const SCHEMA_LEVEL_NOW: u32 = 5;
/// Ends of the names of the shipped admission policies and of their bindings; the beginning is the
/// name of the installation.
pub const ADMISSION_POLICIES: [&str; 3] = ["requested-by", "own-rights", "records"];
/// Annotation on these policies: an integer that grows with what they refuse.
pub const POLICY_LEVEL: &str = "rollmodel.dev/policy-level";
/// Level of the policies in deploy/admission.yaml. Raise it whenever one of them refuses more.
pub const POLICY_LEVEL_NOW: u32 = 1;

/// Annotation that people put on a ModelVersion to have its artifact verified (again): any value
/// that was not answered yet.
pub const VERIFY: &str = "rollmodel.dev/verify";

/// The name of the container that serves the model, which the operator completes.
pub const CONTAINER: &str = "model";
/// The name of the container that fetches and verifies the artifact, in serving pods and in
/// verification Jobs.
pub const FETCH: &str = "rollmodel-fetch";
/// The one name that a ModelPolicy may have.
pub const POLICY: &str = "default";

/// The name a ModelVersion must carry: `<model>-<version>` in lower case, `_` as `-`.
#[must_use]
pub fn version_name(model: &str, version: &str) -> String {
    format!("{model}-{version}").to_ascii_lowercase().replace('_', "-")
}

/// The first 16 hex digits of a hash such as `v1:sha256:6b1f…`, as labels and names carry them.
#[must_use]
pub fn hash16(hash: &str) -> &str {
    let hex = hash.rsplit(':').next().unwrap_or_default();
    hex.get(..16).unwrap_or(hex)
}

/// The name of the ControllerRevision that stores a content, `<mdep>-<hash16>`; the n-th rendering
/// of it ends in `-<n>`.
#[must_use]
pub fn revision_name(model_deployment: &str, hash: &str, rendering: u32) -> String {
    match rendering {
        0 | 1 => format!("{model_deployment}-{}", hash16(hash)),
        n => format!("{model_deployment}-{}-{n}", hash16(hash)),
    }
}

/// The name of rollout N's record.
#[must_use]
pub fn record_name(deployment: &str, number: i64) -> String {
    format!("{deployment}-{number}")
}

/// The name of a verification Job, at most 63 characters: of the version's as much as fits, and
/// what tells it from every other.
#[must_use]
pub fn job_name(version: &str, hash: &str) -> String {
    let hex = hash16(hash);
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
