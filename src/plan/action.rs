//! Actions: the closed list of writes that a plan asks for. They are executed in order, and nothing
//! is decided on the way.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    facts::revision::compute_digest,
    observed::{KnownRevision, RevisionBody},
};
use crate::api::{
    ModelDeploymentStatus, ModelRolloutSpec, RolloutRequestStatus, names,
    reason::{Reason, WaitingOn},
};

/// A plan for one ModelDeployment: the writes, and the status that describes them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Plan {
    /// Live reads that have to come before anything can be decided; then the plan holds nothing
    /// else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
    /// The writes, in this order.
    pub actions: Vec<Action>,
    /// The status to write last; absent where it is written already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ModelDeploymentStatus>,
    /// Seconds until the next plan, although nothing changes; 0 as soon as the caches show the
    /// writes of this plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeue_after_seconds: Option<i64>,
    /// Names of objects that are kept no longer, whether or not their time of grace is over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unneeded: Vec<String>,
    /// The revision that the spec names, for the memory of the process.
    #[serde(skip)]
    pub desired: Option<Arc<KnownRevision>>,
    /// The next step that the ModelDeployment waits for.
    pub waiting: Waiting,
}

/// The next step that a plan waits for, or the purpose of the plan.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Waiting {
    /// The actor that has to take the next step.
    pub on: WaitingOn,
    /// The reason of the condition Ready; absent for a plan that writes no status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The sentence for people.
    pub sentence: String,
}

impl Waiting {
    /// Waiting for a read or a write of the operator itself.
    #[must_use]
    pub fn on_operator(sentence: impl Into<String>) -> Self {
        Self { on: WaitingOn::Operator, reason: None, sentence: sentence.into() }
    }
}

/// Returns the earlier of two times of the next plan, in seconds. A plan that is due at once stays
/// due at once.
#[must_use]
pub fn requeue_sooner(before: Option<i64>, seconds: i64) -> Option<i64> {
    let seconds = seconds.max(1);
    Some(before.map_or(seconds, |before| before.min(seconds)))
}

/// A live read: one that no cache answers.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Lookup {
    /// The body of the ControllerRevision of that name.
    Revision(String),
    /// Every record of this ModelDeployment name.
    Records,
    /// The ReplicaSets of its Deployments.
    ReplicaSets,
    /// The Deployment of that name, which the label-selected cache does not show.
    Deployment(String),
    /// The Service of that name, which the label-selected cache does not show.
    Service(String),
}

/// The purpose of a patch of the Deployment. Settings and decision are two patches, so that neither
/// delays the other.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// Replicas, strategy, seconds and limits; labels and the owner.
    Settings,
    /// Template, paused and the label of the decision of this rollout.
    Decision(i64),
}

/// One write that a plan asks for.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Create the ControllerRevision with a POST. If it exists already, its whole hash must be the
    /// same.
    StoreRevision {
        /// Name of the ControllerRevision.
        name: String,
        /// Labels of the ControllerRevision.
        labels: BTreeMap<String, String>,
        /// The revision and its rendering.
        body: RevisionBody,
    },
    /// Create the record with a POST. If its number is taken, everything is planned again.
    CreateRecord {
        /// The complete record.
        spec: Box<ModelRolloutSpec>,
    },
    /// Change a record with a JSON Patch: add fields that are set once, or append a decision.
    AmendRecord {
        /// Name of the record.
        name: String,
        /// True if it appends a decision, which everything after it depends on.
        decides: bool,
        /// JSON Patch operations, the tests of uid and resourceVersion first.
        ops: Vec<Value>,
    },
    /// Create the Deployment with a POST.
    CreateDeployment {
        /// Name of the Deployment.
        name: String,
        /// Number of the rollout that it carries out.
        rollout: i64,
        /// The whole object.
        body: Value,
    },
    /// Change the Deployment with a JSON Patch.
    PatchDeployment {
        /// Name of the Deployment.
        name: String,
        /// The part of the Deployment that the patch changes.
        purpose: Purpose,
        /// The uid that the Deployment must have.
        uid: String,
        /// The generation that the Deployment must have, unless a patch of the same plan was
        /// answered with a newer one.
        generation: i64,
        /// Each value of someone else that the patch only reverts, as `path=value`.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        reverts: Vec<String>,
        /// JSON Patch operations, without tests.
        ops: Vec<Value>,
    },
    /// Create the Service with a POST.
    CreateService {
        /// Name of the Service.
        name: String,
        /// The whole object.
        body: Value,
    },
    /// Change the Service with a JSON Patch.
    PatchService {
        /// Name of the Service.
        name: String,
        /// Each value of someone else that the patch only reverts, as `path=value`.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        reverts: Vec<String>,
        /// JSON Patch operations, the tests of uid and resourceVersion first.
        ops: Vec<Value>,
    },
    /// Write the answer of a RolloutRequest.
    AnswerRequest {
        /// Name of the request.
        name: String,
        /// The status that answers the request.
        status: Box<RolloutRequestStatus>,
    },
    /// Delete an object, its uid and resourceVersion as preconditions.
    Delete {
        /// Kind of the object.
        kind: Prunable,
        /// Name of the object.
        name: String,
        /// Uid of the object.
        uid: String,
        /// The resourceVersion that the object must have.
        resource_version: String,
    },
    /// Write an Event, once for each key.
    Event {
        /// True for a warning.
        warning: bool,
        /// Reason in CamelCase.
        reason: String,
        /// The message in one sentence.
        message: String,
        /// The identity of the Event: the same key is never emitted twice.
        key: String,
    },
}

impl Action {
    /// True if the write records a decision, which everything after it depends on.
    #[must_use]
    pub fn records_decision(&self) -> bool {
        match self {
            Self::StoreRevision { .. } | Self::CreateRecord { .. } => true,
            Self::AmendRecord { decides, .. } => *decides,
            _ => false,
        }
    }

    /// True if what follows in a plan says or assumes that this was written: the record of a
    /// decision, or that a rollout serves.
    #[must_use]
    pub fn is_prerequisite(&self) -> bool {
        self.records_decision()
            || matches!(self, Self::AmendRecord { ops, .. } if is_promotion(ops))
    }

    /// Identifies the write by its object and its value. The same write of a later plan has the
    /// same identity, and a corrected value has another. An Event has no identity, and is lost if
    /// it is refused.
    #[must_use]
    pub fn identify_write(&self) -> Option<String> {
        Some(match self {
            Self::StoreRevision { name, body, .. } => {
                format!("revision {name} {}", short_digest(&body.rendering))
            }
            Self::CreateRecord { spec } => {
                // Time passes between two tries of the same record.
                let mut fields = json!(spec);
                fields["startTime"] = Value::Null;
                fields["restartedAt"] = Value::Null;
                format!("record of rollout {} {}", spec.number, short_digest(&fields))
            }
            Self::AmendRecord { name, ops, .. } => {
                let prefix = match is_promotion(ops) {
                    true => promotion_prefix(name),
                    false => amendment_prefix(name),
                };
                format!("{prefix}{}", short_digest(&without_tests_and_times(ops)))
            }
            Self::CreateDeployment { name, rollout, body } => {
                let prefix = decision_prefix(*rollout);
                format!("{prefix}{NEW_DEPLOYMENT} {name} {}", short_digest(&body["spec"]))
            }
            Self::PatchDeployment { name, purpose, ops, .. } => match purpose {
                Purpose::Settings => {
                    format!("{}{}", settings_prefix(name), short_digest(&json!(ops)))
                }
                Purpose::Decision(rollout) => {
                    let template = ops.iter().any(|op| op["path"] == "/spec/template");
                    let with = if template { TEMPLATE } else { "without template" };
                    let prefix = decision_prefix(*rollout);
                    format!("{prefix}on Deployment {name} {with} {}", short_digest(&json!(ops)))
                }
            },
            Self::CreateService { name, body } => {
                format!("Service {name} {}", short_digest(&body["spec"]))
            }
            Self::PatchService { name, ops, .. } => {
                format!("Service {name} {}", short_digest(&without_tests_and_times(ops)))
            }
            Self::AnswerRequest { name, .. } => format!("answer of {name}"),
            Self::Delete { kind, name, .. } => format!("deletion of {kind:?} {name}"),
            Self::Event { .. } => return None,
        })
    }
}

/// The prefix of the write that carries a rollout out on its Deployment.
#[must_use]
pub fn decision_prefix(rollout: i64) -> String {
    format!("decision of rollout {rollout} ")
}

/// The prefix of the write of a Deployment's settings.
#[must_use]
pub fn settings_prefix(deployment_name: &str) -> String {
    format!("settings of Deployment {deployment_name} ")
}

/// True if a patch of a record says that its rollout serves.
fn is_promotion(ops: &[Value]) -> bool {
    ops.iter().any(|op| op["path"] == "/spec/servedFrom")
}

/// The prefix of the write that says in a record that its rollout serves.
#[must_use]
pub fn promotion_prefix(record_name: &str) -> String {
    format!("promotion in {record_name} ")
}

/// The prefix of any other write that adds to a record.
#[must_use]
pub fn amendment_prefix(record_name: &str) -> String {
    format!("amendment of {record_name} ")
}

/// The word in a decision's write that says that it changes the template.
pub const TEMPLATE: &str = "with template";

/// The words in a decision's write that say that it creates the Deployment.
pub const NEW_DEPLOYMENT: &str = "on new Deployment";

fn short_digest(value: &Value) -> String {
    names::short_hash(&compute_digest(value)).to_owned()
}

/// The operations of a patch without its preconditions and its times, which differ with every try.
fn without_tests_and_times(ops: &[Value]) -> Value {
    without_times(ops.iter().filter(|op| op["op"] != "test"))
}

fn without_times<'a>(ops: impl Iterator<Item = &'a Value>) -> Value {
    let has_no_time = |op: &&Value| {
        let path = op["path"].as_str().unwrap_or_default();
        !path.ends_with("Time") && path != "/spec/servedFrom" && path != "/spec/servedUntil"
    };
    Value::Array(ops.filter(has_no_time).map(drop_time_of_decisions).collect())
}

/// Identifies a patch of one state of an object: its preconditions and operations, without the
/// times that differ with every try.
#[must_use]
pub fn identify_patch(ops: &[Value]) -> String {
    without_times(ops.iter()).to_string()
}

fn drop_time_of_decisions(op: &Value) -> Value {
    let mut op = op.clone();
    for decision in op["value"].as_array_mut().into_iter().flatten() {
        if let Some(fields) = decision.as_object_mut() {
            fields.remove("at");
        }
    }
    op
}

/// Kinds whose objects are pruned.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Prunable {
    /// A stored revision that no kept record needs.
    ControllerRevision,
    /// A record, by age.
    ModelRollout,
    /// A request, a day after it was answered.
    RolloutRequest,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::patch::guard_generation;

    fn amend(version: &str, ops: Value) -> Action {
        let mut all =
            vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
        all.extend(ops.as_array().unwrap().iter().cloned());
        Action::AmendRecord { name: "fraud-1".into(), decides: false, ops: all }
    }

    fn outcome(time: &str, outcome: &str) -> Value {
        json!([
            {"op": "add", "path": "/spec/outcome", "value": outcome},
            {"op": "add", "path": "/spec/endTime", "value": time},
            {"op": "add", "path": "/spec/servedFrom", "value": time},
        ])
    }

    fn pause(time: &str, verb: &str) -> Value {
        json!([{"op": "add", "path": "/spec/decisions", "value": [{"number": 1, "verb": verb, "at": time}]}])
    }

    fn patch(purpose: Purpose, generation: i64, ops: Value) -> Action {
        let ops = ops.as_array().unwrap().clone();
        let (name, uid) = ("fraud".to_owned(), "u".to_owned());
        Action::PatchDeployment { name, purpose, uid, generation, reverts: Vec::new(), ops }
    }

    fn settings(replicas: i64) -> Value {
        json!([{"op": "add", "path": "/spec/replicas", "value": replicas}])
    }

    fn template(image: &str) -> Value {
        json!([{"op": "replace", "path": "/spec/template", "value": {"image": image}}])
    }

    #[test]
    fn the_same_write_at_another_time_has_the_same_identity() {
        let same = [
            (amend("7", outcome("1", "Promoted")), amend("8", outcome("2", "Promoted"))),
            (amend("7", pause("1", "Pause")), amend("8", pause("2", "Pause"))),
            (patch(Purpose::Settings, 1, settings(3)), patch(Purpose::Settings, 2, settings(3))),
            (
                patch(Purpose::Decision(2), 1, template("a")),
                patch(Purpose::Decision(2), 2, template("a")),
            ),
        ];
        for (one, other) in same {
            assert_eq!(one.identify_write(), other.identify_write());
            assert!(one.identify_write().is_some());
        }
    }

    #[test]
    fn a_corrected_value_has_another_identity() {
        let differ = [
            (amend("7", outcome("1", "Promoted")), amend("7", outcome("1", "Failed"))),
            (amend("7", pause("1", "Pause")), amend("7", pause("1", "Resume"))),
            (patch(Purpose::Settings, 1, settings(3)), patch(Purpose::Settings, 1, settings(4))),
            (
                patch(Purpose::Decision(2), 1, template("a")),
                patch(Purpose::Decision(2), 1, template("b")),
            ),
            (
                patch(Purpose::Decision(2), 1, template("a")),
                patch(Purpose::Decision(3), 1, template("a")),
            ),
        ];
        for (one, other) in differ {
            assert_ne!(one.identify_write(), other.identify_write());
        }
    }

    #[test]
    fn a_refused_decision_is_found_by_its_rollout_and_says_whether_it_has_the_template() {
        let write = |ops| patch(Purpose::Decision(2), 1, ops).identify_write().unwrap();
        let paused = json!([{"op": "add", "path": "/spec/paused", "value": true}]);
        assert!(write(template("a")).starts_with(&decision_prefix(2)));
        assert!(write(template("a")).contains(TEMPLATE) && !write(paused).contains(TEMPLATE));
        assert!(!write(template("a")).starts_with(&decision_prefix(21)));
    }

    #[test]
    fn a_patch_is_the_same_only_in_the_same_state() {
        let identify = |generation, image| {
            let ops = template(image).as_array().unwrap().clone();
            identify_patch(&guard_generation("u", generation, ops))
        };
        assert_eq!(identify(1, "a"), identify(1, "a"));
        assert_ne!(identify(1, "a"), identify(2, "a"));
        assert_ne!(identify(1, "a"), identify(1, "b"));
    }
}
