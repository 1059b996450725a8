//! ModelRollout: the record of one rollout. It has no status, as a Lease has none: its spec is the
//! record.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of pauses and resumes in one record.
pub const DECISIONS_MAX: usize = 32;

/// One decision to serve one revision, forward or back: its target, its cause and its author. It is
/// written before anything is done.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "rollmodel.dev",
    version = "v1alpha1",
    kind = "ModelRollout",
    namespaced,
    derive = "PartialEq",
    shortname = "mro",
    category = "rollmodel",
    doc = "ModelRollout is the record of one rollout: what was decided, by whom and why, and how \
           it ended. The operator writes it; people only read it.",
    selectable = ".spec.modelDeploymentRef.name",
    selectable = ".spec.model",
    selectable = ".spec.version",
    printcolumn(
        name = "ModelDeployment",
        type_ = "string",
        json_path = ".spec.modelDeploymentRef.name"
    ),
    printcolumn(name = "Number", type_ = "integer", json_path = ".spec.number"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Previous", type_ = "integer", json_path = ".spec.previousRollout"),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".spec.outcome"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.decidedBy.name"),
    printcolumn(name = "Start", type_ = "date", json_path = ".spec.startTime"),
    printcolumn(name = "Served-From", type_ = "date", json_path = ".spec.servedFrom"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".spec.decidedBy.reason",
        priority = 1
    ),
    printcolumn(name = "Message", type_ = "string", json_path = ".spec.message", priority = 1)
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct ModelRolloutSpec {
    /// The ModelDeployment that is rolled out.
    pub model_deployment_ref: ModelDeploymentRef,
    /// Number of the rollout in its ModelDeployment. Each new rollout has a higher number.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub number: i64,
    /// Number of the newest rollout of the ModelDeployment when this one was decided. Absent for
    /// the first rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_rollout: Option<i64>,
    /// Digest (`sha256:<hex>`) of the record of `previousRollout` as it was created: of the RFC
    /// 8785 form of its spec, without the fields that are added or appended later. The chain of
    /// these digests proves the order of rollouts to anyone who kept an earlier one. Absent if the
    /// CRDs were older than the operator when the rollout was decided, because the record may then
    /// be read in part only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub previous_digest: Option<String>,
    /// Forward to something new, or Back to something that was served before. A rollout that goes
    /// back is never rolled back automatically, and skips steps and analysis.
    pub direction: Direction,
    /// Rules by which the version was admitted.
    pub admission: Admission,
    /// Name of the model.
    #[schemars(length(min = 1, max = 63))]
    pub model: String,
    /// Version of the model.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// The recordDigest of the version. It binds this record to exactly that ModelVersion.
    #[schemars(length(max = 71))]
    pub record_digest: String,
    /// Digest of the artifact, if it was known when the rollout was decided. It binds the version
    /// to these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub artifact_digest: Option<String>,
    /// Hash (`v1:sha256:<hex>`) of the revision: version, template, delivery and protocol together.
    #[schemars(length(max = 80))]
    pub revision_hash: String,
    /// Hash of the revision without the labels and annotations of its template.
    #[schemars(length(max = 80))]
    pub content_hash: String,
    /// Name of the ControllerRevision that stores the revision and the pod template rendered from
    /// it.
    #[schemars(length(max = 253))]
    pub revision_name: String,
    /// Digest (`sha256:<hex>`) of the pod template that the ControllerRevision stores. A stored
    /// template with another digest is not used.
    #[schemars(length(max = 71))]
    pub rendering_digest: String,
    /// Strategy of the rollout.
    pub strategy: StrategyKind,
    /// Name of the Deployment that is rolled out.
    #[schemars(length(max = 63))]
    pub deployment_name: String,
    /// Cause of the rollout.
    pub trigger: Trigger,
    /// Who or what triggered the rollout, and the reason.
    pub decided_by: DecidedBy,
    /// Rejection by this rollout. What it covers is not served again until a Retry. Only a rollout
    /// that goes back has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<Rejection>,
    /// Time at which a restart of the pods was requested, as in their annotation
    /// kubectl.kubernetes.io/restartedAt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub restarted_at: Option<String>,
    /// Numbers of the rollouts that this decision depends on: the one that served, and those with a
    /// standing rejection or pause. While one of them is missing, as during a restore, nothing is
    /// decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub stands_on: Vec<i64>,
    /// Time at which the rollout was decided.
    pub start_time: Time,
    /// Outcome of the rollout: Promoted, Failed, Aborted, Superseded or Deleted. Absent while it is
    /// in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Explanation of the outcome, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Time at which the rollout ended. Absent while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Time at which the rollout was promoted and began to serve. It served until the servedFrom of
    /// the next record. Absent if it never served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_from: Option<Time>,
    /// Time at which its ModelDeployment was deleted, if the deletion ended its serving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_until: Option<Time>,
    /// Images that the pods really ran, by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub observed_images: Vec<String>,
    /// Pauses and resumes that people decided during this rollout, in order; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["number"]
        )
    )]
    pub decisions: Vec<Decision>,
}

/// Fields of a record that are added once, after its creation. All others but [`APPENDED`] are
/// written at creation.
pub const ADDED_ONCE: [&str; 6] =
    ["outcome", "message", "endTime", "servedFrom", "servedUntil", "observedImages"];

/// Direction of a rollout.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Direction {
    /// To something new, or a repetition of what serves.
    #[default]
    Forward,
    /// Back to something that was served before, because a person, a failure or the spec left what
    /// came after it.
    Back,
}

/// Rules by which a version was admitted.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Admission {
    /// Rules that apply. Newly: the ModelDeployment has not served this version before, so all
    /// rules apply. Again: it has, so the version must only be neither rejected nor yanked.
    pub asked: Asked,
}

/// Rules for serving a version that apply.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Asked {
    /// All rules, because the version is new to this ModelDeployment.
    #[default]
    Newly,
    /// The version must be neither rejected nor yanked, because it was served here before.
    Again,
}

impl ModelRolloutSpec {
    /// True if the rollout goes back. Rules depend on the direction, never on the trigger.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        self.direction == Direction::Back
    }

    /// True if the rollout was completed.
    #[must_use]
    pub fn is_promoted(&self) -> bool {
        self.outcome == Some(Outcome::Promoted)
    }

    /// True if the record has no outcome yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.outcome.is_none()
    }
}

/// Fields of a record to which items are appended.
pub const APPENDED: [&str; 1] = ["decisions"];

/// Reference to a ModelDeployment by name and uid.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct ModelDeploymentRef {
    /// Name of the ModelDeployment.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The uid of the ModelDeployment at the time of the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// Who or what decided, and the reason.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct DecidedBy {
    /// User name of a person; `kubectl (unverified)` if it was kubectl rollout; `spec` if it was a
    /// change of the spec; `operator` if a rollout failed.
    #[schemars(length(max = 253))]
    pub name: String,
    /// True if an admission policy checked that the request came from this person.
    #[serde(default)]
    pub verified: bool,
    /// Reason of the decision, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// The RolloutRequest that asked for the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestRef>,
}

/// Reference to a RolloutRequest by name and uid.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct RequestRef {
    /// Name of the RolloutRequest.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The uid of the RolloutRequest.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Rejection that a rollout back causes.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct Rejection {
    /// Number of the rejected rollout.
    pub rollout: i64,
    /// Scope of the rejection. Version: the version with any template. Content: the content with
    /// any labels and annotations. Revision: exactly this revision, with its labels and
    /// annotations.
    pub scope: Scope,
    /// The rejected recordDigest (scope Version), contentHash (Content) or revisionHash (Revision).
    #[schemars(length(max = 80))]
    pub key: String,
}

/// Scope of a rejection.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Scope {
    /// The version with any template.
    Version,
    /// The content with any labels and annotations of its template.
    Content,
    /// Exactly the revision, with the labels and annotations of its template.
    Revision,
}

/// Cause of a rollout.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Trigger {
    /// The spec names something else.
    SpecChanged,
    /// A person asked to go back.
    Undo,
    /// A person stopped the rollout in progress.
    Abort,
    /// A person asked to try again what was rejected.
    Retry,
    /// A person asked for new pods of the same revision.
    Restart,
    /// The previous rollout failed.
    Failed,
    /// The API server refused the template of the previous rollout.
    Refused,
    /// The version of the previous rollout was yanked, or is in conflict.
    Yanked,
    /// The ModelDeployment was created again, and what it names is rejected or paused; or a stored
    /// revision was deleted before it was carried out, or with its Deployment, and is rolled out
    /// again.
    Recreated,
    /// A trigger that only a newer operator knows.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Trigger {
    /// True if a person asked for the rollout.
    #[must_use]
    pub fn is_requested_by_person(self) -> bool {
        matches!(self, Self::Undo | Self::Abort | Self::Retry | Self::Restart)
    }
}

/// Outcome of a rollout. Absent while it is in progress.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Outcome {
    /// The rollout was completed and serves, or served.
    Promoted,
    /// The rollout failed because of its content.
    Failed,
    /// A person stopped the rollout.
    Aborted,
    /// A newer rollout was decided before this one ended.
    Superseded,
    /// The ModelDeployment was deleted before the rollout ended.
    Deleted,
    /// An outcome that only a newer operator knows.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Strategy of a rollout.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum StrategyKind {
    /// Replaces pods one by one in the same Deployment, as Kubernetes' Deployment controller does.
    #[default]
    RollingUpdate,
}

/// A pause or resume that a person decided during a rollout.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a decision is never rewritten"))]
pub struct Decision {
    /// Number of the decision in its rollout, starting at 1.
    #[schemars(range(min = 1, max = 32))]
    pub number: i64,
    /// Action that was decided: Pause or Resume.
    pub verb: DecisionVerb,
    /// Who decided it, and the reason.
    pub decided_by: DecidedBy,
    /// Time of the decision.
    pub at: Time,
}

/// Action on a rollout in progress.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum DecisionVerb {
    /// Pauses the rollout.
    Pause,
    /// Resumes the rollout.
    Resume,
}
