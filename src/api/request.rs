//! RolloutRequest: one person's request on one ModelDeployment.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A request to undo, abort, retry, pause, resume or restart. Its spec cannot change, its status
/// carries the answer, and it is deleted a day after the answer.
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
    doc = "RolloutRequest is a request by one person on one ModelDeployment. It is immutable, is \
           answered in its status, and is deleted a day after the answer.",
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
#[x_kube(
    validation = Rule::new("!has(self.toRollout) || self.verb == 'Undo'")
        .message("toRollout goes with verb Undo only")
)]
#[x_kube(
    validation = Rule::new("!has(self.toVersion) || self.verb == 'Undo'")
        .message("toVersion goes with verb Undo only")
)]
#[x_kube(
    validation = Rule::new("!has(self.toVersion) || !has(self.toRollout)")
        .message("toRollout and toVersion exclude each other")
)]
#[x_kube(
    validation = Rule::new("!has(self.rerender) || self.verb == 'Restart'")
        .message("rerender goes with verb Restart only")
)]
pub struct RolloutRequestSpec {
    /// Name of the ModelDeployment, in the same namespace.
    #[schemars(length(min = 1, max = 63))]
    pub model_deployment: String,
    /// Action to take: Undo, Abort, Retry, Pause, Resume or Restart.
    pub verb: Verb,
    /// For verb Undo: number of the rollout to go back to. When absent, it is the serving rollout
    /// while a rollout forward is in progress, else the newest rollout that served something else
    /// and is neither rejected nor yanked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub to_rollout: Option<i64>,
    /// For verb Undo: version to go back to. Its newest rollout that served is used. Exclusive with
    /// toRollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub to_version: Option<String>,
    /// The `status.decision` of the ModelDeployment when the person decided, such as "12.1". "12"
    /// means "12.0", and "0" means that nothing was rolled out yet. If a newer decision exists, the
    /// request is refused. So nobody reverts someone else's decision by accident, and a request
    /// that a backup or Git creates again changes nothing.
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^(0|[1-9][0-9]{0,15})([.](0|[1-9][0-9]?))?$")
    )]
    pub if_decision: String,
    /// For verb Restart: renders the pod template again, with the current helper images; false when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerender: Option<bool>,
    /// Reason for the request in a sentence. It is copied into the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// User name of the requester. The shipped admission policy requires that it names the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: Option<String>,
}

/// Action that a person requests.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Verb {
    /// Goes back to an earlier rollout, and rejects the one that is left until a Retry.
    Undo,
    /// Stops the rollout in progress, and goes back.
    Abort,
    /// Serves what the spec names although it was rejected.
    Retry,
    /// Pauses the rollout in progress, or the next one.
    Pause,
    /// Resumes a rollout that a person paused.
    Resume,
    /// Replaces the pods with new pods of the same revision.
    Restart,
    /// A verb that only a newer operator knows.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Verb {
    /// Returns the verb as it is written in a spec, or "This verb" if it is unknown.
    #[must_use]
    pub fn display_name(self) -> &'static str {
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
    /// Generation of the spec that this status describes; -1 before the operator first handled the
    /// object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions Handled, which is True once the request is answered, and Ready and Stalled for
    /// tools that wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["type"]
        )
    )]
    pub conditions: Vec<Condition>,
    /// Result of the request: Done, Refused or NothingToDo. Absent until it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RequestResult>,
    /// Explanation of the result, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Number of the rollout that the request created or changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<i64>,
}

/// Result of a request. Absent until it is answered.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum RequestResult {
    /// The request is decided and recorded.
    Done,
    /// The request is not carried out; the message explains why.
    Refused,
    /// The state that was requested exists already.
    NothingToDo,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn make_request(spec: Value) -> RolloutRequest {
        let mut all = json!({"modelDeployment": "fraud", "verb": "Undo", "ifDecision": "12.1"});
        for (name, value) in spec.as_object().unwrap() {
            all[name] = value.clone();
        }
        RolloutRequest::new("undo", serde_json::from_value(all).unwrap())
    }

    fn validation_error(spec: Value) -> String {
        make_request(spec).validate_cel().err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_target_belongs_to_an_undo_and_there_is_at_most_one() {
        for spec in [json!({}), json!({"toRollout": 3}), json!({"toVersion": "7"})] {
            assert_eq!(validation_error(spec.clone()), "", "{spec}");
        }
        for (spec, part) in [
            (json!({"verb": "Abort", "toRollout": 3}), "toRollout goes with verb Undo only"),
            (json!({"verb": "Retry", "toVersion": "7"}), "toVersion goes with verb Undo only"),
            (json!({"toRollout": 3, "toVersion": "7"}), "exclude each other"),
            (json!({"rerender": true}), "rerender goes with verb Restart only"),
        ] {
            let error = validation_error(spec.clone());
            assert!(error.contains(part), "{spec}: {error}");
        }
    }
}
