//! ModelRegistry: import of versions from the registry in which they are registered.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deployment::{SUBDOMAIN, SecretRef};

/// Maximum number of problems in a status.
pub const PROBLEMS_MAX: usize = 64;
/// Maximum number of pending versions, and of aliases, per model in a status.
pub const NAMED_MAX: usize = 16;

/// The registry to import versions from, and the models to import. Imported versions are never
/// served automatically, and nothing that happens in the registry changes a record.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "rollmodel.dev",
    version = "v1alpha1",
    kind = "ModelRegistry",
    plural = "modelregistries",
    namespaced,
    status = "ModelRegistryStatus",
    derive = "PartialEq",
    shortname = "mreg",
    category = "rollmodel",
    doc = "ModelRegistry imports versions of models from a registry such as MLflow, with a small \
           Deployment of its own. Imported versions are never served automatically, and nothing \
           that happens in the registry changes a record.",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.mlflow.url"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Imported", type_ = "integer", json_path = ".status.imported"),
    printcolumn(name = "Polled", type_ = "date", json_path = ".status.lastPollTime"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(
        "self.metadata.name.size() <= 52 && \
         self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    )
    .message(
        "metadata.name must be a DNS-1035 label (lower case, digits and '-', starting with a \
         letter) of at most 52 characters, to leave room for its importer"
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.mlflow)").message("name the system to import from: mlflow")
)]
pub struct ModelRegistrySpec {
    /// MLflow tracking server to import from. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlflow: Option<Mlflow>,
    /// Secret that is mounted into the importer: MLFLOW_TRACKING_USERNAME and
    /// MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and ca.crt. The operator never reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretRef>,
    /// ServiceAccount of the importer. Bind it to ClusterRole rollmodel-importer, and bind workload
    /// identity to it.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub service_account_name: String,
    /// Time in seconds between two polls; 60 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86400))]
    pub interval_seconds: Option<i32>,
    /// Time in seconds to wait for the training run of a registered version to end before its
    /// record is written; 600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub settle_seconds: Option<i32>,
    /// Suspends importing; false when absent.
    #[serde(default)]
    pub suspend: bool,
    /// Rules that name the models to import. Models without a rule are not imported.
    #[schemars(
        length(min = 1, max = 1000),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"]
        )
    )]
    pub models: Vec<ModelRule>,
    /// Import of versions that are older than this ModelRegistry. When absent, the 20 newest of
    /// each model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Backfill>,
    /// Overlay of the pod template of the importer, for resources, proxy variables or labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::deployment::opaque_object_schema")]
    pub template: Option<serde_json::Value>,
}

impl ModelRegistrySpec {
    /// Returns the time in seconds between two polls, or its default.
    #[must_use]
    pub fn poll_interval_seconds(&self) -> u64 {
        self.interval_seconds.and_then(|n| u64::try_from(n).ok()).unwrap_or(60)
    }

    /// Returns the time in seconds to wait for the end of a run, or its default.
    #[must_use]
    pub fn settle_seconds(&self) -> i64 {
        i64::from(self.settle_seconds.unwrap_or(600))
    }

    /// Returns the number of versions of each model to import that are older than the
    /// ModelRegistry, or its default.
    #[must_use]
    pub fn backfill_limit(&self) -> usize {
        self.backfill.as_ref().and_then(|b| usize::try_from(b.newest).ok()).unwrap_or(20)
    }
}

/// An MLflow tracking server.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mlflow {
    /// Address of the server for the importer, such as http://mlflow.mlflow:5000, with the path in
    /// front of its API if there is one. The server must allow this host (--allowed-hosts).
    #[x_kube(
        validation = Rule::new("self.matches('^https?://[^@?#]+$')")
            .message("url must be http:// or https://, a host, and nothing secret")
    )]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^\s@?#]+$"))]
    pub url: String,
    /// Address of the server for people, in links to the pages of runs; url when absent.
    #[serde(rename = "externalURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^\s@?#]+$"))]
    pub external_url: Option<String>,
    /// Storage of the server's artifacts (its --artifacts-destination), such as s3://models/art.
    /// Pods then fetch artifacts from there. When absent, they fetch them through the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^(s3|gs|az|abfss?)://\S+$"))]
    pub artifacts_destination: Option<String>,
    /// Workspace to import from, on a server with --enable-workspaces; the workspace named default
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub workspace: Option<String>,
}

/// Rule that imports one model.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.registeredModel) != has(self.loggedModels)")
        .message("name exactly one of registeredModel and loggedModels")
)]
#[x_kube(
    validation = Rule::new("!has(self.versionTags) || has(self.registeredModel)")
        .message("versionTags goes with registeredModel: loggedModels has tags of its own")
)]
pub struct ModelRule {
    /// The spec.model of the imported versions, a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Name of the registered model in the registry, exactly as it is written there. Exclusive with
    /// loggedModels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub registered_model: Option<String>,
    /// Import of logged models that were not registered. Exclusive with registeredModel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged_models: Option<LoggedModels>,
    /// Tags that a registered version must have to be imported, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), schema_with = "tag_map_schema")]
    pub version_tags: BTreeMap<String, String>,
    /// Container image that serves these versions, best pinned by digest. When absent, the template
    /// of the ModelDeployment must name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
}

/// Import of logged models that were not registered.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[x_kube(
    validation = Rule::new(
        "self.experiment != 'Default' || (has(self.tags) && self.tags.size() > 0)"
    )
    .message("experiment Default is everybody's: name tags, such as rollmodel.dev/model")
)]
pub struct LoggedModels {
    /// Name of the experiment that contains the logged models. For experiment Default, tags are
    /// required.
    #[schemars(length(min = 1, max = 512))]
    pub experiment: String,
    /// Tags that a logged model must have to be imported, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), schema_with = "tag_map_schema")]
    pub tags: BTreeMap<String, String>,
}

fn tag_map_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": 1024}
    })
}

/// Import of versions that are older than the ModelRegistry.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Backfill {
    /// Number of the newest versions of each model to import; 20 when backfill is absent. Versions
    /// that an alias names are imported too.
    #[schemars(range(min = 0, max = 10000))]
    pub newest: i32,
}

/// Imported and pending versions, and problems.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRegistryStatus {
    /// Generation of the spec that this status describes; -1 before the operator first handled the
    /// object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["type"]
        )
    )]
    pub conditions: Vec<Condition>,
    /// Time of the last poll. It is updated when something else in this status changes, and
    /// otherwise every five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_poll_time: Option<Time>,
    /// Version of the registry's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub server_version: Option<String>,
    /// Number of existing ModelVersions that this ModelRegistry imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<i64>,
    /// Result of each rule in spec.models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1000),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"]
        )
    )]
    pub models: Vec<ModelStatus>,
    /// Problems of models and versions, newest first; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub problems: Vec<Problem>,
}

/// Result of one rule in spec.models.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct ModelStatus {
    /// Name of the rule.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Name of the model or experiment in the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub upstream: Option<String>,
    /// Number of existing ModelVersions that were imported by this rule.
    pub imported: i64,
    /// The newest imported version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub newest: Option<String>,
    /// Versions that are not imported yet; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pending: Vec<PendingVersion>,
    /// Aliases in the registry, by name; at most 16. They do not affect what is served.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub aliases: BTreeMap<String, AliasStatus>,
}

/// A version that is not imported yet.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct PendingVersion {
    /// Version that is pending.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Reason why it is pending, in CamelCase, such as NotReady, NotThere, RunNotEnded or
    /// RunNotFinished.
    #[schemars(length(max = 63))]
    pub reason: String,
}

/// The version that an alias names in the registry.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct AliasStatus {
    /// Version that the alias names.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Time at which the alias was first seen to name this version.
    pub since: Time,
}

/// A problem of a model or of one of its versions.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Problem {
    /// Model that has the problem, by the name of its rule.
    #[schemars(length(max = 63))]
    pub model: String,
    /// Version that has the problem. Absent if the whole model has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
    /// Reason in CamelCase, such as Conflict, UpstreamChanged, UpstreamMissing, UnsupportedSource,
    /// DestinationMismatch, AmbiguousModels, Refused or Unreadable.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// Description of the problem and its remedy, in a sentence.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Time at which the problem was first seen.
    pub since: Time,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn validation_error(spec: Value) -> String {
        let registry = ModelRegistry::new("mlflow", serde_json::from_value(spec).unwrap());
        registry.validate_cel().err().map(|e| e.to_string()).unwrap_or_default()
    }

    fn validation_error_of_rule(rule: Value) -> String {
        validation_error(json!({
            "mlflow": {"url": "http://mlflow.mlflow:5000"},
            "serviceAccountName": "importer",
            "models": [rule],
        }))
    }

    #[test]
    fn mistakes_in_a_spec_are_explained() {
        let everybodys = json!({"experiment": "Default"});
        let tagged = json!({"experiment": "Default", "tags": {"a": "b"}});
        let own = json!({"experiment": "x"});
        for rule in [
            json!({"name": "fraud", "registeredModel": "Fraud"}),
            json!({"name": "fraud", "loggedModels": tagged}),
        ] {
            assert_eq!(validation_error_of_rule(rule), "");
        }
        for (rule, part) in [
            (json!({"name": "fraud"}), "exactly one of registeredModel and loggedModels"),
            (json!({"name": "fraud", "loggedModels": everybodys}), "everybody's"),
            (
                json!({"name": "fraud", "loggedModels": own, "versionTags": {"a": "b"}}),
                "versionTags goes with registeredModel",
            ),
        ] {
            let error = validation_error_of_rule(rule);
            assert!(error.contains(part), "{error}");
        }
        let error = validation_error(json!({
            "serviceAccountName": "importer",
            "models": [{"name": "fraud", "registeredModel": "Fraud"}],
        }));
        assert!(error.contains("name the system"), "{error}");
    }
}
