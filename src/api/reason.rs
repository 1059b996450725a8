//! The reasons of conditions, all in one list. A reason says what is so, and who or what has to act
//! before that changes: a new reason is one line here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{AsRefStr, Display, EnumIter, EnumString, IntoStaticStr};

/// Who or what has to act before something goes on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum WaitingOn {
    /// Nothing is due.
    #[default]
    Nothing,
    /// A live read or a write of the operator itself, within seconds.
    Operator,
    /// Kubernetes: pods that start, objects that are being deleted.
    Kubernetes,
    /// A node, a registry, a bucket, a quota or a network, which heals by itself or by its owner.
    Environment,
    /// Whoever registers versions: a version that is not there, or one that cannot be served.
    VersionAuthor,
    /// Whoever writes the spec of the object.
    SpecAuthor,
    /// A person's request: a Retry, an Abort, a Resume.
    Request,
    /// Whoever administers the namespace or the cluster: policies, RBAC, CRDs, flags.
    Administrator,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $waiting:ident,)+) => {
        /// Reason of a condition, in CamelCase.
        #[derive(
            Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Hash, Display,
            AsRefStr, IntoStaticStr, EnumString, EnumIter,
        )]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Who or what has to act before the reason is gone.
            #[must_use]
            pub fn waiting_on(self) -> WaitingOn {
                match self {
                    $(Self::$name => WaitingOn::$waiting,)+
                }
            }
        }
    };
}

reasons! {
    // ModelDeployment: Ready, Available, Reconciling, Stalled, Held, Progressing, Paused.
    /// Nothing more specific is known: the newest rollout goes on.
    Rolling => Kubernetes,
    /// The version that the spec names serves.
    Serving => Nothing,
    /// It serves at 0 replicas: complete as soon as a pod is available.
    ScaledToZero => Nothing,
    /// No pod is available.
    Unavailable => Kubernetes,
    /// The environment holds the rollout up for longer than its deadline.
    ProgressDeadlineExceeded => Environment,
    /// The rollout failed, and there is nothing to go back to or it may not go back.
    Failed => SpecAuthor,
    /// The rollout failed and was left; what served before serves.
    RolledBack => SpecAuthor,
    /// A person went back from what the spec names.
    Held => Request,
    /// A person paused the rollout, or the next one.
    Paused => Request,
    /// The name of a child, or the record of a version, belongs to something else.
    Conflict => SpecAuthor,
    /// A child of the same name is being deleted.
    WaitingForDeletion => Kubernetes,
    /// Records that the Deployment stands on are missing.
    RecordsMissing => Administrator,
    /// The API server refused a write: admission, quota or RBAC.
    Forbidden => Administrator,
    /// The API server refused an object, or a request cannot be carried out.
    Refused => SpecAuthor,
    /// The CRDs are older than the operator.
    CRDsOlder => Administrator,
    /// As many pods as needed are available.
    MinimumReplicasAvailable => Nothing,
    /// Fewer pods than needed are available.
    MinimumReplicasUnavailable => Kubernetes,
    /// A HorizontalPodAutoscaler scales the Deployment and fights with the spec.
    AutoscaledChild => SpecAuthor,
    /// The shipped admission policies are not in force.
    NotInstalled => Administrator,
    /// The operator may not read the admission policies.
    NotReadable => Administrator,
    /// The port changed its name and its number at once.
    PortChanged => SpecAuthor,
    /// The ModelVersion that the spec names is not there.
    VersionNotFound => VersionAuthor,
    /// The version was rolled out with another record.
    VersionConflict => VersionAuthor,
    /// The spec of the version is too large.
    VersionTooLarge => VersionAuthor,
    /// The version is yanked.
    VersionYanked => VersionAuthor,
    /// The name is taken by something else.
    NameTaken => SpecAuthor,
    /// The pod template is invalid.
    InvalidTemplate => SpecAuthor,
    /// The address of the artifact cannot be delivered.
    InvalidArtifact => VersionAuthor,
    /// spec.delivery lacks something.
    InvalidDelivery => SpecAuthor,
    /// Neither version nor template names an image.
    NoImage => VersionAuthor,
    /// The operator was started without an image that fetches artifacts.
    NoFetchImage => Administrator,
    /// The version records no artifact, and the spec says how to deliver one.
    NoArtifact => SpecAuthor,
    /// The policy demands a digest of the artifact in the record.
    ArtifactDigestRequired => VersionAuthor,
    /// The policy demands an image by digest.
    ImageDigestRequired => VersionAuthor,
    /// The policy demands a signature.
    SignatureRequired => VersionAuthor,
    /// This cluster or this address knows no image volumes.
    ImageVolumeUnsupported => SpecAuthor,
    /// The API server did not tell its version yet.
    KubernetesUnknown => Operator,
    /// The artifact is not verified yet.
    NotVerified => VersionAuthor,
    /// The artifact was not accepted.
    VerificationFailed => VersionAuthor,

    // ModelVersion: Ready, Stalled, Verified.
    /// The version may be deployed.
    Active => Nothing,
    /// The version may be deployed, and its author advises against it.
    Deprecated => Nothing,
    /// The version is not newly served.
    Yanked => Nothing,
    /// The spec is larger than is stored safely.
    TooLarge => VersionAuthor,
    /// The image is named by a tag, which can be moved to other bytes.
    ImageTag => Nothing,
    /// The image is named by digest.
    ImagePinned => Nothing,
    /// Each pod checks the digest of the artifact before it serves.
    CheckedAtPodStart => Nothing,
    /// Nobody knows the digest of the artifact.
    NoDigest => VersionAuthor,
    /// A Job verifies the artifact.
    Verifying => Kubernetes,
    /// The artifact is what was recorded or pinned.
    Verified => Nothing,
    /// Upstream has other bytes than those that were verified.
    Drifted => VersionAuthor,
    /// The verification is tried again.
    VerificationTrouble => Environment,
    /// The digest of the artifact is another one.
    Mismatch => VersionAuthor,
    /// The size of the artifact is another one.
    SizeMismatch => VersionAuthor,
    /// The signature does not fit.
    SignatureInvalid => VersionAuthor,
    /// There is no signature.
    SignatureMissing => VersionAuthor,
    /// The archive holds what is never unpacked.
    UnsafeArchive => VersionAuthor,
    /// There is no such artifact.
    NotFound => VersionAuthor,
    /// The kind of artifact or address is not supported.
    Unsupported => VersionAuthor,
    /// What the fetcher was asked for makes no sense.
    InvalidRequest => VersionAuthor,

    // RolloutRequest: Handled.
    /// The request was carried out.
    Done => Nothing,
    /// The request asks for what is so already.
    NothingToDo => Nothing,

    // ModelRegistry: Ready, Reconciling, Stalled.
    /// The registry was polled.
    Polled => Nothing,
    /// The importer has not reported its first poll yet.
    FirstPoll => Operator,
    /// The importer does not run.
    ImporterNotReady => Kubernetes,
    /// The importer lacks permissions.
    RBACMissing => Administrator,
    /// Importing is suspended by the spec.
    Suspended => SpecAuthor,
    /// What is registered conflicts with what is here.
    Conflicts => VersionAuthor,
    /// The registry cannot be reached.
    Unreachable => Environment,
    /// The address of the registry is one that is never asked.
    HostRefused => SpecAuthor,
    /// The registry does not know the credentials.
    Unauthorized => SpecAuthor,
    /// The registry answers, and not as one.
    Misconfigured => SpecAuthor,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;
    use strum::IntoEnumIterator;

    #[test]
    fn a_reason_is_written_as_it_is_read_and_as_kubernetes_allows() {
        for reason in Reason::iter() {
            let text = reason.to_string();
            assert_eq!(Reason::from_str(&text), Ok(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), text);
            assert!(text.chars().all(|c| c.is_ascii_alphabetic()), "{text}");
        }
    }
}
