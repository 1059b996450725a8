//! ModelVersion: the immutable record of one version of a model.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use status::{ModelVersionStatus, Resolved, Role, UsedBy, Verification};

mod status;

/// A sha256 as every digest here is written.
pub const DIGEST: &str = "^sha256:[0-9a-f]{64}$";
/// What is said of a digest that is not written so, beside the pattern.
const DIGEST_SAID: &str = "digest must be sha256: and 64 hexadecimal digits in lower case";
/// The address of an artifact: nothing before an `@` in front of the path, where credentials would
/// be; `hf://` names a revision so, and `abfs://` a container of one of Azure's accounts.
const URI: &str = r"^(hf://[^\s:]+|abfss?://[a-z0-9-]+@[a-z0-9]+[.](dfs|blob)[.]core[.]windows[.]net(/\S*)?|[a-z][a-z0-9+.-]*://[^\s@/]+(/\S*)?)$";
/// A version's string.
pub const VERSION: &str =
    r"^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$";
/// What is said of a version that is not written so, beside the pattern.
pub const VERSION_SAID: &str = "version may hold letters, digits, '.', '_' and '-' only, with a letter or a digit at both ends and around each dot";

/// One version of one model, and all that reproducing it needs. Everything but description,
/// evaluations and lifecycle is immutable.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "rollmodel.dev",
    version = "v1alpha1",
    kind = "ModelVersion",
    namespaced,
    status = "ModelVersionStatus",
    derive = "PartialEq",
    shortname = "mv",
    category = "rollmodel",
    doc = "ModelVersion is the immutable, verifiable record of one version of a model: what it is, what it was trained on, and how to run it.",
    selectable = ".spec.model",
    selectable = ".spec.version",
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Verified", type_ = "string", json_path = r#".status.conditions[?(@.type=="Verified")].status"#),
    printcolumn(name = "Used-By", type_ = "integer", json_path = ".status.usedByCount"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == (self.spec.model + '-' + self.spec.version).lowerAscii().replace('_', '-')")
        .message("metadata.name must be <model>-<version> in lower case, with _ as -: the name is the identity")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.image) || has(self.artifact)").message("name an image that serves the model, an artifact with the model in it, or both"))]
pub struct ModelVersionSpec {
    /// Name of the model, a DNS label. Immutable.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub model: String,
    /// Version of the model: at most 63 of letters, digits, '.', '_' and '-', alphanumeric at both
    /// ends and around each dot. Quote it in YAML. Immutable.
    #[x_kube(validation = Rule::new(format!("self.matches(r'{VERSION}')")).message(VERSION_SAID))]
    #[schemars(length(min = 1, max = 63), regex(pattern = VERSION))]
    pub version: String,
    /// Container image that serves this version, best pinned by digest. Absent: the
    /// ModelDeployment's template names one.
    #[x_kube(validation = Rule::new("!self.contains('@') || self.matches('@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$')")
        .message("the digest of an image must be @sha256: and 64 hexadecimal digits in lower case (or @sha512: and 128), at the end"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// The model's bytes. Absent: the image holds the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// Framework the model was trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<Framework>,
    /// Tensors the model takes, in Open Inference Protocol terms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub inputs: Vec<Tensor>,
    /// Tensors the model gives, in Open Inference Protocol terms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub outputs: Vec<Tensor>,
    /// Training parameters, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 512), schema_with = "text_map")]
    pub parameters: BTreeMap<String, String>,
    /// Metrics known when the version was registered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub metrics: Vec<Metric>,
    /// Datasets the version was trained, validated or tested on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub datasets: Vec<Dataset>,
    /// Features the model reads, with the view they come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub features: Vec<Feature>,
    /// Environment the version was trained in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Code that trained the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Training run in the system that tracked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// Versions this one was made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parents: Vec<Parent>,
    /// Where an import found this version; set by the importer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What a person wants to say about this version. Can change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Measurements made after registration. Can change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub evaluations: Vec<Metric>,
    /// Whether the version may be served. Absent: Active. Can change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

/// The fields of a ModelVersion's spec that can change; every other one, also of the future, is
/// immutable and part of the recordDigest.
pub const MUTABLE: [&str; 3] = ["description", "evaluations", "lifecycle"];

fn text_map(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "additionalProperties": {"type": "string", "maxLength": 4096}})
}

/// Where the model's bytes are, and what they must be.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Address of the bytes: s3, gs, az, abfs, https, hf, oci, pvc or mlflow-artifacts+https. It
    /// holds no credentials.
    #[x_kube(validation = Rule::new(format!("self.matches(r'{URI}')")).message("uri must be scheme://path, without spaces and without credentials before the host"))]
    #[schemars(length(min = 1, max = 2048), regex(pattern = URI))]
    pub uri: String,
    /// What the bytes must be: the sha256 of one file, the OpenSSF model-signing root of a
    /// directory, the manifest digest of an OCI artifact.
    #[x_kube(validation = Rule::new(format!("self.matches('{DIGEST}')")).message(DIGEST_SAID))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DIGEST), length(max = 71))]
    pub digest: Option<String>,
    /// Size of all bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub size: Option<i64>,
    /// Format of the model, such as mlflow, onnx or safetensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub format: Option<String>,
    /// Whether the artifact is a tar, tar.gz, tar.zst or zip that is unpacked after its digest was
    /// checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpack: Option<bool>,
    /// Signature over the artifact; the keys that are trusted come from policy, never from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// Where a signature is.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
pub struct Signature {
    /// Address of the OpenSSF Model Signing bundle, of the same kinds as the artifact's.
    #[x_kube(validation = Rule::new(format!("self.matches(r'{URI}')")).message("uri must be scheme://path, without spaces and without credentials before the host"))]
    #[schemars(length(min = 1, max = 2048), regex(pattern = URI))]
    pub uri: String,
}

/// A framework and its version.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Framework {
    /// Name of the framework, such as scikit-learn.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Version of the framework.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
}

/// One tensor in Open Inference Protocol terms.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Tensor {
    /// Name of the tensor.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Open Inference Protocol datatype, such as FP64 or BYTES.
    #[schemars(length(min = 1, max = 63))]
    pub datatype: String,
    /// Shape of the tensor; -1 where a dimension may vary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = -1, max = 9_007_199_254_740_991_i64)))]
    pub shape: Vec<i64>,
}

/// One measured number.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Metric {
    /// Name of the metric, such as auc.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its finite value.
    pub value: f64,
    /// Dataset it was measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub dataset: Option<String>,
    /// When it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// One dataset and where it came from.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// Name of the dataset.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What it was used for, such as training, validation or test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub role: Option<String>,
    /// Address of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub uri: Option<String>,
    /// Digest of the data, in the form its system gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub digest: Option<String>,
    /// Query that selected the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub query: Option<String>,
    /// Names of the datasets this one was made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub derived_from: Vec<String>,
}

/// One feature and the view it is read from.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Feature {
    /// Name of the feature.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// View of the feature store it is read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub view: Option<String>,
    /// Version of the view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
}

/// The environment of a training run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Image the training ran in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// Language of the training code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub language: Option<String>,
    /// Version of the language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub language_version: Option<String>,
    /// Lock file with every dependency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lockfile: Option<Lockfile>,
    /// Hardware the training ran on, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub hardware: Option<String>,
}

/// A lock file and its digest.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
pub struct Lockfile {
    /// Address of the lock file.
    #[schemars(length(min = 1, max = 2048))]
    pub uri: String,
    /// The sha256 of the lock file.
    #[x_kube(validation = Rule::new(format!("self.matches('{DIGEST}')")).message(DIGEST_SAID))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DIGEST), length(max = 71))]
    pub digest: Option<String>,
}

/// The code of a training run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Code {
    /// Repository of the code.
    #[schemars(length(min = 1, max = 2048))]
    pub repository: String,
    /// Commit of the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub commit: Option<String>,
    /// Path of the entry point inside the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
}

/// The training run in the system that tracked it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// System that tracked the run, such as MLflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub system: Option<String>,
    /// Identity of the run in that system.
    #[schemars(length(min = 1, max = 253))]
    pub id: String,
    /// Page of the run, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
    /// Who started the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub user: Option<String>,
    /// When the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}

/// A version this one was made from.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Parent {
    /// Model of the parent.
    #[schemars(length(min = 1, max = 63))]
    pub model: String,
    /// Version of the parent.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// How this version was made from it, such as FineTunedFrom or DistilledFrom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub relation: Option<String>,
}

/// Where an import found a version.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Origin {
    /// Name of the ModelRegistry that imported it.
    #[schemars(length(min = 1, max = 63))]
    pub registry: String,
    /// System of the registry, such as mlflow.
    #[schemars(length(min = 1, max = 63))]
    pub system: String,
    /// Name of the model there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub model: Option<String>,
    /// Version of the model there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub version: Option<String>,
    /// Identity of the model there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub id: Option<String>,
    /// When it was registered there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// Whether a version may be served, and why not.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Lifecycle {
    /// Active; Deprecated: served with a warning; Yanked: never newly served.
    pub state: LifecycleState,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// The states of a version's life.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum LifecycleState {
    /// May be served.
    #[default]
    Active,
    /// May be served, with a warning.
    Deprecated,
    /// Is not newly served.
    Yanked,
}
