//! RolloutRequest: one person's request on one ModelDeployment.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A person asks: undo, abort, retry, pause, resume or restart. Created once, answered in its
/// status, deleted a day after.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "rollmodel.dev",
    version = "v1alpha1",
    kind = "RolloutRequest",
    namespaced,
    status = "RolloutRequestStatus",
    derive = "PartialEq",
    shortname = "rreq",
    category = "rollmodel",
    doc = "RolloutRequest is one person's request on one ModelDeployment. It is immutable, answered in its status, and deleted a day after it was answered.",
    selectable = ".spec.modelDeployment",
    printcolumn(name = "ModelDeployment", type_ = "string", json_path = ".spec.modelDeployment"),
    printcolumn(name = "Verb", type_ = "string", json_path = ".spec.verb"),
    printcolumn(name = "Result", type_ = "string", json_path = ".status.result"),
    printcolumn(name = "Rollout", type_ = "integer", json_path = ".status.rollout"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.requestedBy", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.toRollout) || self.verb == 'Undo'").message("toRollout goes with verb Undo only"))]
#[x_kube(validation = Rule::new("!has(self.toVersion) || self.verb == 'Undo'").message("toVersion goes with verb Undo only"))]
#[x_kube(validation = Rule::new("!has(self.toVersion) || !has(self.toRollout)").message("toRollout and toVersion exclude each other"))]
#[x_kube(validation = Rule::new("!has(self.rerender) || self.verb == 'Restart'").message("rerender goes with verb Restart only"))]
pub struct RolloutRequestSpec {
    /// Name of the ModelDeployment, in the same namespace.
    #[schemars(length(min = 1, max = 63))]
    pub model_deployment: String,
    /// What is asked for.
    pub verb: Verb,
    /// Undo: the rollout to go back to. Absent: the newest one that served something else and is
    /// not rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub to_rollout: Option<i64>,
    /// Undo: the version to go back to, in its newest rollout that served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub to_version: Option<String>,
    /// `status.decision` of the ModelDeployment as the person saw it, such as "12.1"; "12" means
    /// "12.0", and "0" that nothing was rolled out yet. If something newer was decided by then, the
    /// request is refused: two people never undo each other by accident, and a request that a
    /// backup or Git brings back changes nothing.
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^(0|[1-9][0-9]{0,15})([.](0|[1-9][0-9]?))?$")
    )]
    pub if_decision: String,
    /// Restart: render the pod template anew, with today's helper images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerender: Option<bool>,
    /// Why, in a sentence, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Who asks. With the shipped admission policy it must be the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: Option<String>,
}

/// What a person can ask for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Verb {
    /// Go back, and do not serve what is left again until the spec or a Retry says so.
    Undo,
    /// Stop the rollout that goes on, and go back.
    Abort,
    /// Serve what the spec names although it was rejected.
    Retry,
    /// Hold the rollout that goes on, or the next one.
    Pause,
    /// Go on.
    Resume,
    /// New pods of the same revision.
    Restart,
    /// A verb that a newer operator knows.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Verb {
    /// The word, as it is written in a spec.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Undo => "Undo",
            Self::Abort => "Abort",
            Self::Retry => "Retry",
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Restart => "Restart",
            Self::Unknown => "This verb",
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRequestStatus {
    /// Generation this status describes; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Handled: the request was answered. Ready and Stalled, for tools that wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Done, Refused or NothingToDo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RequestResult>,
    /// The answer, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Number of the rollout that the request made or changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<i64>,
}

/// How the request was answered; absent until it is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum RequestResult {
    /// It is decided and recorded.
    Done,
    /// It may not be done; the message says why.
    Refused,
    /// It is so already.
    NothingToDo,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> RolloutRequest {
        let mut all = json!({"modelDeployment": "fraud", "verb": "Undo", "ifDecision": "12.1"});
        for (name, value) in spec.as_object().unwrap() {
            all[name] = value.clone();
        }
        RolloutRequest::new("undo", serde_json::from_value(all).unwrap())
    }

    fn refusal(spec: Value) -> String {
        read(spec).validate_cel().err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_target_goes_with_an_undo_and_is_one() {
        for spec in [json!({}), json!({"toRollout": 3}), json!({"toVersion": "7"})] {
            assert_eq!(refusal(spec.clone()), "", "{spec}");
        }
        for (spec, why) in [
            (json!({"verb": "Abort", "toRollout": 3}), "toRollout goes with verb Undo only"),
            (json!({"verb": "Retry", "toVersion": "7"}), "toVersion goes with verb Undo only"),
            (json!({"toRollout": 3, "toVersion": "7"}), "exclude each other"),
            (json!({"rerender": true}), "rerender goes with verb Restart only"),
        ] {
            let refusal = refusal(spec.clone());
            assert!(refusal.contains(why), "{spec}: {refusal}");
        }
    }
}
