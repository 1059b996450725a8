//! ModelRollout: the record of one decision. Like a Lease it has no status: it is the record.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most decisions one record holds.
pub const DECISIONS_MAX: usize = 32;

/// One decision to serve one content, forward or back: what, why and on whose word, written before
/// anything is done.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "rollmodel.dev",
    version = "v1alpha1",
    kind = "ModelRollout",
    namespaced,
    derive = "PartialEq",
    shortname = "mro",
    category = "rollmodel",
    doc = "ModelRollout is the record of one rollout: what was decided, by whom and why, and how it ended. The operator writes it; people read it.",
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
    /// Number of the rollout in its ModelDeployment; numbers only grow.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub number: i64,
    /// Number of the newest rollout of the ModelDeployment when this one was decided; absent where
    /// it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_rollout: Option<i64>,
    /// Digest (`sha256:<hex>`) of the record of `previousRollout` as it was created: of the RFC 8785
    /// form of its spec without the fields that are added or appended later. The chain of these
    /// digests proves the order of rollouts to whoever kept an earlier one. Absent where the
    /// rollout was decided while the CRDs were older than the operator, because the record may then
    /// be read in part only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub previous_digest: Option<String>,
    /// Forward, or Back to something that was served before. A rollout that goes back is never
    /// rolled back automatically, and skips steps and analysis.
    pub direction: Direction,
    /// The grounds on which the version may be served.
    pub admission: Admission,
    /// Model that is served.
    #[schemars(length(min = 1, max = 63))]
    pub model: String,
    /// Version that is served.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// The recordDigest of the version, to which this record binds it.
    #[schemars(length(max = 71))]
    pub record_digest: String,
    /// Digest of the artifact that is served, as far as it was known when this was decided. It binds
    /// the version to these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub artifact_digest: Option<String>,
    /// Hash of the revision: version, template, delivery and protocol together.
    #[schemars(length(max = 80))]
    pub revision_hash: String,
    /// The same hash, taken without the template's labels and annotations.
    #[schemars(length(max = 80))]
    pub content_hash: String,
    /// Name of the ControllerRevision that stores the content and the pod template rendered from it.
    #[schemars(length(max = 253))]
    pub revision_name: String,
    /// Digest (`sha256:<hex>`) of the pod template that the ControllerRevision stores. A stored
    /// template with another digest is not used.
    #[schemars(length(max = 71))]
    pub rendering_digest: String,
    /// How it is rolled out.
    pub strategy: StrategyKind,
    /// Name of the Deployment that is rolled out.
    #[schemars(length(max = 63))]
    pub deployment_name: String,
    /// What caused the decision.
    pub trigger: Trigger,
    /// Who or what triggered the rollout, and why.
    pub decided_by: DecidedBy,
    /// What is not served again after this decision; only on a record that goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<Rejection>,
    /// When the pods were asked to restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub restarted_at: Option<String>,
    /// Numbers of the rollouts that this decision depends on: the one that served, and those with a
    /// standing rejection or pause. While one of them is missing, as during a restore, nothing is
    /// decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub stands_on: Vec<i64>,
    /// When it was decided.
    pub start_time: Time,
    /// How it ended; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How it ended, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Since when it had all the traffic; it served until the next record's servedFrom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_from: Option<Time>,
    /// When its ModelDeployment was deleted, if that ended its serving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_until: Option<Time>,
    /// Images the pods really ran, by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub observed_images: Vec<String>,
    /// Pauses and resumes that people decided during this rollout, appended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["number"]))]
    pub decisions: Vec<Decision>,
}

/// The fields of a record that are added once, after it was made; every other one is written at
/// creation.
pub const ADDED_ONCE: [&str; 6] =
    ["outcome", "message", "endTime", "servedFrom", "servedUntil", "observedImages"];
/// The direction of a rollout.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Direction {
    /// To something new, or a repetition of what serves.
    #[default]
    Forward,
    /// Back to something that was served before, because a person, a failure or the spec left what
    /// came after it.
    Back,
}

/// The grounds on which a version may be served.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Admission {
    /// Newly: the version was not served by this ModelDeployment before. Again: it was.
    pub asked: Asked,
}

/// Which of the rules for serving a version apply.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Asked {
    /// All of them: the version is new to this ModelDeployment.
    #[default]
    Newly,
    /// That it is neither rejected nor yanked: it was served here before.
    Again,
}

impl ModelRolloutSpec {
    /// Whether the rollout goes back: rules ask this, never the trigger.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        self.direction == Direction::Back
    }

    /// Whether the rollout was complete once.
    #[must_use]
    pub fn is_promoted(&self) -> bool {
        self.outcome == Some(Outcome::Promoted)
    }

    /// Whether nobody has written yet how the rollout ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.outcome.is_none()
    }
}

/// The field of a record that is appended to.
pub const APPENDED: [&str; 1] = ["decisions"];

/// A ModelDeployment by name and uid.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct ModelDeploymentRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its uid, when the decision was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// Who decided, and why.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct DecidedBy {
    /// A person, `kubectl (unverified)` where it was kubectl rollout, `spec` where it was the
    /// spec, `operator` where a rollout failed.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Whether an admission policy checked that the request came from this person.
    #[serde(default)]
    pub verified: bool,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// The RolloutRequest it was asked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestRef>,
}

/// A RolloutRequest by name and uid.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct RequestRef {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// What a rollout that goes back rejects.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct Rejection {
    /// Number of the rollout that is rejected.
    pub rollout: i64,
    /// Version: the version, whatever its template; Content: the content, whatever its labels and
    /// annotations; Revision: the revision as it was, labels and annotations included.
    pub scope: Scope,
    /// The recordDigest, contentHash or revisionHash that is rejected, by scope.
    #[schemars(length(max = 80))]
    pub key: String,
}

/// How much a rejection covers.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Scope {
    /// The version, whatever template is around it.
    Version,
    /// The content, whatever labels and annotations its template has.
    Content,
    /// The revision exactly, labels and annotations of its template included.
    Revision,
}

/// What caused a rollout.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Trigger {
    /// The spec names something else.
    SpecChanged,
    /// A person asked to go back.
    Undo,
    /// A person stopped a rollout.
    Abort,
    /// A person asked to try what was rejected again.
    Retry,
    /// A person asked for new pods of the same content.
    Restart,
    /// The rollout before failed.
    Failed,
    /// The API server refused the template of the rollout before.
    Refused,
    /// The version of the rollout before was yanked, or is in conflict.
    Yanked,
    /// The ModelDeployment was created again, and what it names is rejected or paused.
    Recreated,
    /// A trigger that a newer operator wrote.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Trigger {
    /// Whether a person asked for it.
    #[must_use]
    pub fn by_person(self) -> bool {
        matches!(self, Self::Undo | Self::Abort | Self::Retry | Self::Restart)
    }
}

/// How the rollout ended; absent while it goes on.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Outcome {
    /// It serves, or served.
    Promoted,
    /// It failed.
    Failed,
    /// A person stopped it.
    Aborted,
    /// Something newer was decided before it ended.
    Superseded,
    /// Its ModelDeployment was deleted before it ended.
    Deleted,
    /// An outcome that a newer operator wrote.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How it is rolled out.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum StrategyKind {
    /// In place, pod by pod, by Kubernetes' Deployment controller.
    #[default]
    RollingUpdate,
}

/// A pause or resume that a person decided during a rollout.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a decision is never rewritten"))]
pub struct Decision {
    /// Number of the decision in its rollout, from 1.
    #[schemars(range(min = 1, max = 32))]
    pub number: i64,
    /// What was decided.
    pub verb: DecisionVerb,
    /// Who decided it, and why.
    pub decided_by: DecidedBy,
    /// When.
    pub at: Time,
}

/// What people decide about a rollout that goes on.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum DecisionVerb {
    /// Hold it.
    Pause,
    /// Go on.
    Resume,
}
