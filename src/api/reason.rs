//! The reasons of all conditions, in one list. A reason names a state, and the actor that must act
//! before that state changes. A new reason is one line here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{AsRefStr, Display, EnumIter, EnumString, IntoStaticStr};

/// The actor on which progress depends.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum WaitingOn {
    /// Nothing is due.
    #[default]
    Nothing,
    /// A live read or a write of the operator itself, within seconds.
    Operator,
    /// Kubernetes, for example pods that start or objects that are being deleted.
    Kubernetes,
    /// A node, a registry, a bucket, a quota or a network. It recovers automatically or through its
    /// owner.
    Environment,
    /// The author of versions: a version does not exist, or cannot be served.
    VersionAuthor,
    /// The author of the object's spec.
    SpecAuthor,
    /// A request by a person: a Retry, an Abort or a Resume.
    Request,
    /// The administrator of the namespace or the cluster: policies, RBAC, CRDs, flags.
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
            /// Returns the actor that must act before this reason goes away.
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
    /// The newest rollout is in progress, and nothing more specific is known.
    Rolling => Kubernetes,
    /// The version that the spec names serves.
    Serving => Nothing,
    /// The Deployment has 0 replicas; the rollout is complete once a pod is available.
    ScaledToZero => Nothing,
    /// No pod is available.
    Unavailable => Kubernetes,
    /// The environment has blocked the rollout for longer than its deadline.
    ProgressDeadlineExceeded => Environment,
    /// The rollout failed, and there is nothing to roll back to or it may not be rolled back.
    Failed => SpecAuthor,
    /// The rollout failed and was rolled back; the previous revision serves.
    RolledBack => SpecAuthor,
    /// A person went back from the revision that the spec names.
    Held => Request,
    /// A person paused the rollout, or the next one.
    Paused => Request,
    /// The name of a child, or the record of a version, belongs to something else.
    Conflict => SpecAuthor,
    /// A child of the same name is being deleted.
    WaitingForDeletion => Kubernetes,
    /// The ModelDeployment is being deleted.
    Deleting => Kubernetes,
    /// Records that the Deployment depends on are missing.
    RecordsMissing => Administrator,
    /// The API server forbade a write: admission, quota or RBAC.
    Forbidden => Administrator,
    /// The API server refused an object, or a request cannot be carried out.
    Refused => SpecAuthor,
    /// The CRDs are older than the operator.
    CRDsOlder => Administrator,
    /// The minimum number of pods is available.
    MinimumReplicasAvailable => Nothing,
    /// Fewer pods than the minimum are available.
    MinimumReplicasUnavailable => Kubernetes,
    /// A HorizontalPodAutoscaler scales the Deployment and conflicts with the spec.
    AutoscaledChild => SpecAuthor,
    /// The shipped admission policies are not in force.
    NotInstalled => Administrator,
    /// The operator may not read the admission policies.
    NotReadable => Administrator,
    /// The name and the number of the port changed in the same spec change.
    PortChanged => SpecAuthor,
    /// The ModelVersion that the spec names does not exist.
    VersionNotFound => VersionAuthor,
    /// The version was rolled out before with another record.
    VersionConflict => VersionAuthor,
    /// The spec of the version is too large.
    VersionTooLarge => VersionAuthor,
    /// The version is yanked.
    VersionYanked => VersionAuthor,
    /// An object of that name exists and belongs to something else.
    NameTaken => SpecAuthor,
    /// The pod template is invalid.
    InvalidTemplate => SpecAuthor,
    /// The artifact cannot be delivered from its address.
    InvalidArtifact => VersionAuthor,
    /// The field spec.delivery is incomplete.
    InvalidDelivery => SpecAuthor,
    /// Neither the version nor the template names an image.
    NoImage => VersionAuthor,
    /// The operator was started without the image that fetches artifacts.
    NoFetchImage => Administrator,
    /// The spec says how to deliver an artifact, and the version records none.
    NoArtifact => SpecAuthor,
    /// The policy requires a digest of the artifact in the record.
    ArtifactDigestRequired => VersionAuthor,
    /// The policy requires an image that is named by digest.
    ImageDigestRequired => VersionAuthor,
    /// The policy requires a signature of the artifact.
    SignatureRequired => VersionAuthor,
    /// The cluster or the address does not support image volumes.
    ImageVolumeUnsupported => SpecAuthor,
    /// The version of the API server is not known yet.
    KubernetesUnknown => Operator,
    /// The artifact is not verified yet.
    NotVerified => VersionAuthor,
    /// The verification rejected the artifact.
    VerificationFailed => VersionAuthor,

    // ModelVersion: Ready, Stalled, Verified.
    /// The version may be deployed.
    Active => Nothing,
    /// The version may be deployed, although its author advises against it.
    Deprecated => Nothing,
    /// The version is not newly served.
    Yanked => Nothing,
    /// The spec is larger than what can be stored safely.
    TooLarge => VersionAuthor,
    /// The image is named by a tag, which can be moved to other bytes.
    ImageTag => Nothing,
    /// The image is named by digest.
    ImagePinned => Nothing,
    /// Each pod checks the digest of the artifact before it serves.
    CheckedAtPodStart => Nothing,
    /// The record names no digest of the artifact, and nobody verifies it.
    NoDigest => VersionAuthor,
    /// A Job verifies the artifact.
    Verifying => Kubernetes,
    /// The artifact has the digest that was recorded or pinned.
    Verified => Nothing,
    /// The bytes at the address differ from those that were verified.
    Drifted => VersionAuthor,
    /// The verification met trouble in the environment and is retried.
    VerificationTrouble => Environment,
    /// The artifact has another digest than was recorded.
    Mismatch => VersionAuthor,
    /// The artifact has another size than was recorded.
    SizeMismatch => VersionAuthor,
    /// The signature is not valid for the artifact and the trusted keys.
    SignatureInvalid => VersionAuthor,
    /// The artifact has no signature.
    SignatureMissing => VersionAuthor,
    /// The archive contains entries that are never unpacked, such as links.
    UnsafeArchive => VersionAuthor,
    /// The artifact does not exist.
    NotFound => VersionAuthor,
    /// The kind of artifact or of address is not supported.
    Unsupported => VersionAuthor,
    /// The fetcher was given an invalid request.
    InvalidRequest => VersionAuthor,

    // RolloutRequest: Handled.
    /// The request is decided and recorded.
    Done => Nothing,
    /// The request asks for the state that exists already.
    NothingToDo => Nothing,

    // ModelRegistry: Ready, Reconciling, Stalled.
    /// The registry was polled.
    Polled => Nothing,
    /// The importer has not reported its first poll yet.
    FirstPoll => Operator,
    /// The importer does not run.
    ImporterNotReady => Kubernetes,
    /// The importer lacks permissions in the cluster.
    RBACMissing => Administrator,
    /// Importing is suspended by the spec.
    Suspended => SpecAuthor,
    /// Registered versions conflict with existing ModelVersions.
    Conflicts => VersionAuthor,
    /// The registry cannot be reached.
    Unreachable => Environment,
    /// The registry refuses the host name by which it is addressed.
    HostRefused => SpecAuthor,
    /// The registry refuses the credentials.
    Unauthorized => SpecAuthor,
    /// The registry does not accept the address, a rule or the credentials.
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
