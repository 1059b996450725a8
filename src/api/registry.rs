//! ModelRegistry: versions imported from where they are registered.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deployment::{SUBDOMAIN, SecretRef};

/// The most problems that a status names.
pub const PROBLEMS_MAX: usize = 64;
/// The most versions that wait, and the most aliases, that a status names of one model.
pub const NAMED_MAX: usize = 16;

/// Imports versions from another system. It never serves them, and nothing that happens there
/// changes a record.
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
    doc = "ModelRegistry imports versions of models from where they are registered, by a small Deployment of its own. Importing never serves, and nothing upstream changes a record.",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.mlflow.url"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Imported", type_ = "integer", json_path = ".status.imported"),
    printcolumn(name = "Polled", type_ = "date", json_path = ".status.lastPollTime"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS-1035 label (lower case, digits and '-', starting with a letter) of at most 52 characters, to leave room for its importer")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.mlflow)").message("name the system to import from: mlflow"))]
pub struct ModelRegistrySpec {
    /// An MLflow tracking server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlflow: Option<Mlflow>,
    /// Secret that is mounted into the importer: MLFLOW_TRACKING_USERNAME and
    /// MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and ca.crt. The operator never reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretRef>,
    /// ServiceAccount of the importer, bound to ClusterRole rollmodel-importer; workload identity
    /// hangs on it.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub service_account_name: String,
    /// How many seconds there are between two looks; 60 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86400))]
    pub interval_seconds: Option<i32>,
    /// How many seconds the end of a run is waited for before the record of a registered version is
    /// written; 600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub settle_seconds: Option<i32>,
    /// Holds importing.
    #[serde(default)]
    pub suspend: bool,
    /// What is imported; nothing is that no rule names.
    #[schemars(length(min = 1, max = 1000), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub models: Vec<ModelRule>,
    /// What is imported of what was there before this ModelRegistry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Backfill>,
    /// A pod template overlay of the importer: resources, a proxy's variables, labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::deployment::opaque_object")]
    pub template: Option<serde_json::Value>,
}

impl ModelRegistrySpec {
    /// Seconds between two looks, also where the spec is silent.
    #[must_use]
    pub fn interval(&self) -> u64 {
        self.interval_seconds.and_then(|n| u64::try_from(n).ok()).unwrap_or(60)
    }

    /// Seconds that a run's end is waited for, also where the spec is silent.
    #[must_use]
    pub fn settle(&self) -> i64 {
        i64::from(self.settle_seconds.unwrap_or(600))
    }

    /// How many versions of each model are imported that were there before, also where the spec is
    /// silent.
    #[must_use]
    pub fn newest(&self) -> usize {
        self.backfill.as_ref().and_then(|b| usize::try_from(b.newest).ok()).unwrap_or(20)
    }
}

/// An MLflow tracking server.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mlflow {
    /// Its address as the importer reaches it; a path before its API is kept. The server has to
    /// allow this host (--allowed-hosts).
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@?#]+$')").message("url must be http:// or https://, a host, and nothing secret"))]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^\s@?#]+$"))]
    pub url: String,
    /// Its address as people reach it, for the pages of runs; url when absent.
    #[serde(rename = "externalURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^\s@?#]+$"))]
    pub external_url: Option<String>,
    /// Where the server keeps artifacts (its --artifacts-destination), such as s3://models/art:
    /// pods then fetch from there. Absent: they fetch through the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^(s3|gs|az|abfss?)://\S+$"))]
    pub artifacts_destination: Option<String>,
    /// The workspace to look at, of a server with --enable-workspaces; its workspace default when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub workspace: Option<String>,
}

/// What is imported as one model.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.registeredModel) != has(self.loggedModels)").message("name exactly one of registeredModel and loggedModels"))]
#[x_kube(validation = Rule::new("!has(self.versionTags) || has(self.registeredModel)").message("versionTags goes with registeredModel: loggedModels has tags of its own"))]
pub struct ModelRule {
    /// The spec.model of what is imported, a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Name of a registered model there, exactly as it is written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub registered_model: Option<String>,
    /// Models that runs logged and nobody registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged_models: Option<LoggedModels>,
    /// Tags that a version has to have to be imported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), schema_with = "tags")]
    pub version_tags: BTreeMap<String, String>,
    /// Image that serves these versions, best pinned by digest. Absent: the ModelDeployment's
    /// template names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
}

/// Models that runs logged and nobody registered.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[x_kube(validation = Rule::new("self.experiment != 'Default' || (has(self.tags) && self.tags.size() > 0)")
    .message("experiment Default is everybody's: name tags, such as rollmodel.dev/model"))]
pub struct LoggedModels {
    /// Name of the experiment.
    #[schemars(length(min = 1, max = 512))]
    pub experiment: String,
    /// Tags that a logged model has to have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), schema_with = "tags")]
    pub tags: BTreeMap<String, String>,
}

fn tags(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "additionalProperties": {"type": "string", "maxLength": 1024}})
}

/// What is imported of what was there before.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Backfill {
    /// How many of the newest versions of each model; those that an alias names come besides. 20
    /// when backfill is absent.
    #[schemars(range(min = 0, max = 10000))]
    pub newest: i32,
}

/// What was imported, what waits, and what is in the way.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRegistryStatus {
    /// Generation this status describes; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// When the system was last looked at; written when something changes, else every five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_poll_time: Option<Time>,
    /// Version of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub server_version: Option<String>,
    /// How many versions there are that this ModelRegistry imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<i64>,
    /// What became of each rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub models: Vec<ModelStatus>,
    /// What is in the way, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub problems: Vec<Problem>,
}

/// What became of one rule.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct ModelStatus {
    /// The rule's name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// What it is called there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub upstream: Option<String>,
    /// How many versions there are that were imported by it.
    pub imported: i64,
    /// The newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub newest: Option<String>,
    /// Versions that are not imported yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pending: Vec<PendingVersion>,
    /// Aliases there. They say nothing about what serves here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub aliases: BTreeMap<String, AliasStatus>,
}

/// A version that is not imported yet.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct PendingVersion {
    /// The version.
    #[schemars(length(max = 63))]
    pub version: String,
    /// What it waits for, in CamelCase.
    #[schemars(length(max = 63))]
    pub reason: String,
}

/// What an alias names there.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct AliasStatus {
    /// The version.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Since when, as far as it was seen.
    pub since: Time,
}

/// Something that is in the way, or not as it was.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
pub struct Problem {
    /// The model, as it is called here.
    #[schemars(length(max = 63))]
    pub model: String,
    /// The version; absent: the whole model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
    /// What it is, in CamelCase: Conflict, UpstreamChanged, UpstreamMissing, UnsupportedSource,
    /// DestinationMismatch, AmbiguousModels, Refused, Unreadable.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// What it is and what to do, in a sentence.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Since when.
    pub since: Time,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(spec: Value) -> String {
        let registry: ModelRegistry = serde_json::from_value(
            json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelRegistry", "metadata": {"name": "mlflow"}, "spec": spec}),
        )
        .unwrap();
        registry.validate_cel().err().map(|e| e.to_string()).unwrap_or_default()
    }

    fn with(rule: Value) -> Value {
        json!({"mlflow": {"url": "http://mlflow.mlflow:5000"}, "serviceAccountName": "importer", "models": [rule]})
    }

    #[test]
    fn what_a_user_can_get_wrong_is_told() {
        assert_eq!(refused(with(json!({"name": "fraud", "registeredModel": "Fraud"}))), "");
        assert_eq!(
            refused(with(
                json!({"name": "fraud", "loggedModels": {"experiment": "Default", "tags": {"a": "b"}}})
            )),
            ""
        );
        for (rule, told) in [
            (json!({"name": "fraud"}), "exactly one of registeredModel and loggedModels"),
            (json!({"name": "fraud", "loggedModels": {"experiment": "Default"}}), "everybody's"),
            (
                json!({"name": "fraud", "loggedModels": {"experiment": "x"}, "versionTags": {"a": "b"}}),
                "versionTags goes with registeredModel",
            ),
        ] {
            let says = refused(with(rule));
            assert!(says.contains(told), "{says}");
        }
        let nothing = refused(
            json!({"serviceAccountName": "importer", "models": [{"name": "fraud", "registeredModel": "Fraud"}]}),
        );
        assert!(nothing.contains("name the system"), "{nothing}");
    }
}
