//! ModelVersion: the immutable record of one version of a model.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use status::{ModelVersionStatus, Resolved, Role, UsedBy, Verification};

mod status;

/// Pattern of a sha256 digest, such as the digest of an artifact.
pub const DIGEST: &str = "^sha256:[0-9a-f]{64}$";
/// Message for a digest that does not match the pattern.
const DIGEST_MESSAGE: &str = "digest must be sha256: and 64 hexadecimal digits in lower case";
/// Pattern of the address of an artifact. Nothing may stand before an `@` in front of the path,
/// because credentials would be there. Exceptions: `hf://` uses `@` for a revision, and `abfs://`
/// for a container of an Azure account.
const URI: &str = concat!(
    r"^(hf://[^\s:]+",
    r"|abfss?://[a-z0-9-]+@[a-z0-9]+[.](dfs|blob)[.]core[.]windows[.]net(/\S*)?",
    r"|[a-z][a-z0-9+.-]*://[^\s@/]+(/\S*)?)$"
);
/// Pattern of a version, such as `1.0-rc1`.
pub const VERSION: &str =
    r"^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$";
/// Message for a version that does not match the pattern.
pub const VERSION_MESSAGE: &str = "version may hold letters, digits, '.', '_' and '-' only, with a \
     letter or a digit at both ends and around each dot";

/// One version of one model, with everything that is needed to reproduce it. Everything but
/// description, evaluations and lifecycle is immutable.
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
    doc = "ModelVersion is the immutable, verifiable record of one version of a model: what it is, \
           what it was trained on, and how to run it.",
    selectable = ".spec.model",
    selectable = ".spec.version",
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Verified",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Verified")].status"#
    ),
    printcolumn(name = "Used-By", type_ = "integer", json_path = ".status.usedByCount"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(
        "self.metadata.name == (self.spec.model + '-' + \
         self.spec.version).lowerAscii().replace('_', '-')"
    )
    .message(
        "metadata.name must be <model>-<version> in lower case, with _ as -: the name is the \
         identity"
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.image) || has(self.artifact)")
        .message("name an image that serves the model, an artifact with the model in it, or both")
)]
pub struct ModelVersionSpec {
    /// Name of the model, a DNS label. Immutable.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub model: String,
    /// Version of the model: at most 63 letters, digits, '.', '_' and '-', with a letter or digit
    /// at both ends and around each dot. Quote it in YAML, such as "7". Immutable.
    #[x_kube(
        validation = Rule::new(format!("self.matches(r'{VERSION}')")).message(VERSION_MESSAGE)
    )]
    #[schemars(length(min = 1, max = 63), regex(pattern = VERSION))]
    pub version: String,
    /// Container image that serves this version, best pinned by digest. When absent, the template
    /// of the ModelDeployment must name one.
    #[x_kube(
        validation = Rule::new(
            "!self.contains('@') || self.matches('@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$')"
        )
        .message(
            "the digest of an image must be @sha256: and 64 hexadecimal digits in lower case (or \
             @sha512: and 128), at the end"
        )
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// Files of the model. When absent, the image contains the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// Framework with which the model was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<Framework>,
    /// Input tensors of the model, in the terms of the Open Inference Protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub inputs: Vec<Tensor>,
    /// Output tensors of the model, in the terms of the Open Inference Protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub outputs: Vec<Tensor>,
    /// Training parameters, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 512), schema_with = "text_map_schema")]
    pub parameters: BTreeMap<String, String>,
    /// Metrics that were known when the version was registered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub metrics: Vec<Metric>,
    /// Datasets with which the version was trained, validated or tested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub datasets: Vec<Dataset>,
    /// Features that the model reads, with the view they come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub features: Vec<Feature>,
    /// Environment in which the version was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Code that trained the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Training run in the system that tracked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// Versions from which this one was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parents: Vec<Parent>,
    /// Origin of an imported version. The importer sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Free text about this version. It can change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Metrics that were measured after registration. They can change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub evaluations: Vec<Metric>,
    /// Lifecycle state of the version; Active when absent. It can change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

/// Fields of a ModelVersion's spec that can change. All others, also those of future schemas, are
/// immutable and part of the recordDigest.
pub const MUTABLE: [&str; 3] = ["description", "evaluations", "lifecycle"];

fn text_map_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": 4096}
    })
}

/// Address and digest of the files of a model.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Address of the files, with one of the schemes s3, gs, az, abfs, https, hf, oci, pvc or
    /// mlflow-artifacts+https, such as s3://models/fraud/7/. It must not contain credentials.
    #[x_kube(
        validation = Rule::new(format!("self.matches(r'{URI}')"))
            .message(
                "uri must be scheme://path, without spaces and without credentials before the host"
            )
    )]
    #[schemars(length(min = 1, max = 2048), regex(pattern = URI))]
    pub uri: String,
    /// Expected digest: the sha256 of one file, the OpenSSF model-signing root of a directory, or
    /// the manifest digest of an OCI artifact. When absent, the digest that the first verification
    /// finds is pinned.
    #[x_kube(validation = Rule::new(format!("self.matches('{DIGEST}')")).message(DIGEST_MESSAGE))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DIGEST), length(max = 71))]
    pub digest: Option<String>,
    /// Total size of the files in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub size: Option<i64>,
    /// Format of the model, such as mlflow, onnx or safetensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub format: Option<String>,
    /// True if the artifact is a tar, tar.gz, tar.zst or zip that is unpacked after its digest was
    /// checked; false when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpack: Option<bool>,
    /// Signature of the artifact. The trusted keys come from the ModelPolicy, never from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// Location of a signature.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
pub struct Signature {
    /// Address of the OpenSSF Model Signing bundle, with the same schemes as the artifact.
    #[x_kube(
        validation = Rule::new(format!("self.matches(r'{URI}')"))
            .message(
                "uri must be scheme://path, without spaces and without credentials before the host"
            )
    )]
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

/// A tensor in the terms of the Open Inference Protocol.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Tensor {
    /// Name of the tensor.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Open Inference Protocol datatype, such as FP64 or BYTES.
    #[schemars(length(min = 1, max = 63))]
    pub datatype: String,
    /// Shape of the tensor; -1 for a dimension of variable size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = -1, max = 9_007_199_254_740_991_i64)))]
    pub shape: Vec<i64>,
}

/// A measured value.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Metric {
    /// Name of the metric, such as auc.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Measured value, a finite number.
    pub value: f64,
    /// Dataset on which it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub dataset: Option<String>,
    /// Time at which it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// A dataset and its source.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// Name of the dataset.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Role of the dataset, such as training, validation or test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub role: Option<String>,
    /// Address of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub uri: Option<String>,
    /// Digest of the data, in the form of the system that stores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub digest: Option<String>,
    /// Query that selected the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub query: Option<String>,
    /// Names of the datasets from which this one was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub derived_from: Vec<String>,
}

/// A feature and the view that contains it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Feature {
    /// Name of the feature.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// View of the feature store that contains the feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub view: Option<String>,
    /// Version of the view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
}

/// Environment of a training run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Container image in which the training ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// Programming language of the training code.
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
    /// Description of the hardware on which the training ran.
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
    /// The sha256 digest of the lock file.
    #[x_kube(validation = Rule::new(format!("self.matches('{DIGEST}')")).message(DIGEST_MESSAGE))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DIGEST), length(max = 71))]
    pub digest: Option<String>,
}

/// Code of a training run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Code {
    /// Address of the repository of the code.
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

/// Training run in the system that tracked it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// System that tracked the run, such as MLflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub system: Option<String>,
    /// Identifier of the run in that system.
    #[schemars(length(min = 1, max = 253))]
    pub id: String,
    /// Address of the run's web page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
    /// User who started the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub user: Option<String>,
    /// Time at which the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Time at which the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}

/// A version from which this one was made.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Parent {
    /// Model of the parent.
    #[schemars(length(min = 1, max = 63))]
    pub model: String,
    /// Version of the parent.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// Relation to the parent, such as FineTunedFrom or DistilledFrom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub relation: Option<String>,
}

/// Origin of an imported version.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Origin {
    /// Name of the ModelRegistry that imported the version.
    #[schemars(length(min = 1, max = 63))]
    pub registry: String,
    /// System of the registry, such as mlflow.
    #[schemars(length(min = 1, max = 63))]
    pub system: String,
    /// Name of the model in that system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub model: Option<String>,
    /// Version of the model in that system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub version: Option<String>,
    /// Identifier of the model in that system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub id: Option<String>,
    /// Time at which the version was registered in that system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// Lifecycle of a version.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Lifecycle {
    /// Active: may be served. Deprecated: may be served, with a warning. Yanked: is not newly
    /// served; where it serves already, it stays.
    pub state: LifecycleState,
    /// Reason for the state, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// Lifecycle state of a version.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum LifecycleState {
    /// May be served without restriction.
    #[default]
    Active,
    /// May be served, with a warning.
    Deprecated,
    /// Is not newly served; where it serves already, it stays.
    Yanked,
}
