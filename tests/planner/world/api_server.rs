//! The API server of the world in memory: it applies the writes of a plan.

use rollmodel::{
    api::names,
    plan::{
        self, Action, Prunable,
        observed::{Deployment, Meta, ObservedModelDeployment, Record, Service, StoredRevision},
        patch::guard_generation,
    },
};
use serde_json::{Value, json};

use super::World;

impl World {
    pub(super) fn apply_action(&mut self, action: Action) -> bool {
        self.writes += 1;
        match action {
            Action::StoreRevision { name, body, .. } => {
                let (uid, resource_version) = (self.next_uid(), self.next_resource_version());
                if let Some(have) = self.observed.revisions.iter().find(|c| c.name == name) {
                    assert_eq!(have.body.as_ref().unwrap().revision_hash, body.revision_hash);
                    return true;
                }
                let init = &body.rendering["spec"]["initContainers"][0];
                let digest = init["args"].as_array().into_iter().flatten().any(|a| a == "--digest");
                assert!(
                    digest || init["name"] != json!(names::FETCH),
                    "nothing is fetched that nobody knows: {init:#}"
                );
                self.observed.revisions.push(StoredRevision {
                    name,
                    uid,
                    resource_version,
                    rendering_digest: Some(plan::facts::revision::compute_digest(&body.rendering)),
                    body: Some(body.into()),
                });
            }
            Action::CreateRecord { spec } => {
                assert!(
                    !self.observed.records.iter().any(|r| r.spec.number == spec.number),
                    "number {} is given twice",
                    spec.number
                );
                let (uid, resource_version) = (self.next_uid(), self.next_resource_version());
                let (restored, spec) = (None, (*spec).into());
                self.observed.records.push(Record { uid, resource_version, restored, spec });
            }
            Action::AmendRecord { name, ops, .. } => self.amend_record(&name, ops),
            Action::CreateDeployment { ref body, .. } => {
                return self.write_workload(&action, body.clone(), None);
            }
            Action::PatchDeployment { ref uid, ref ops, .. } => {
                let mut body = self.deployment.clone().unwrap();
                // The second patch of a plan is tested against the response to the first.
                let generation = body["metadata"]["generation"].as_i64().unwrap();
                apply_patch(&mut body, guard_generation(uid, generation, ops.clone()));
                return self.write_workload(&action, body, Some(()));
            }
            Action::CreateService { body, .. } => self.write_service(body),
            Action::PatchService { ops, .. } => {
                let service = self.observed.service.clone().unwrap();
                let meta = &service.meta;
                let mut body = json!({
                    "metadata": {
                        "uid": meta.uid,
                        "resourceVersion": meta.resource_version,
                        "labels": meta.labels,
                    },
                    "spec": {
                        "type": service.type_,
                        "selector": service.selector,
                        "ports": service.ports,
                    },
                });
                apply_patch(&mut body, ops);
                self.write_service(body);
            }
            Action::AnswerRequest { name, status } => {
                self.observed.requests.iter_mut().find(|r| r.name == name).unwrap().status =
                    Some(*status);
            }
            Action::Delete { kind, name, .. } => match kind {
                Prunable::ControllerRevision => self.observed.revisions.retain(|c| c.name != name),
                Prunable::ModelRollout => self
                    .observed
                    .records
                    .retain(|r| names::record_name("fraud", r.spec.number) != name),
                Prunable::RolloutRequest => self.observed.requests.retain(|r| r.name != name),
            },
            Action::Event { reason, message, .. } => self.events.push((reason, message)),
        }
        true
    }

    fn amend_record(&mut self, name: &str, ops: Vec<Value>) {
        let rv = self.next_resource_version();
        let record = self
            .observed
            .records
            .iter_mut()
            .find(|r| names::record_name("fraud", r.spec.number) == name)
            .unwrap();
        let meta = json!({"uid": record.uid, "resourceVersion": record.resource_version});
        let mut body = json!({"metadata": meta, "spec": record.spec});
        let before = body.clone();
        apply_patch(&mut body, ops);
        for (field, value) in before["spec"].as_object().unwrap() {
            assert!(
                field == "decisions" || body["spec"][field] == *value,
                "{field} of {name} was rewritten"
            );
        }
        record.spec = serde_json::from_value(body["spec"].clone()).unwrap();
        record.resource_version = rv;
    }

    fn write_workload(&mut self, action: &Action, mut body: Value, patched: Option<()>) -> bool {
        let template = |d: &Value| d["spec"]["template"].clone();
        let changed = self.deployment.as_ref().is_none_or(|d| template(d) != template(&body));
        if let Some(message) = self.refuses.clone().filter(|_| changed)
            && body["spec"]["template"]["metadata"]["labels"][names::VERSION] == json!("7")
        {
            self.observed.memory.refused.push(plan::observed::RefusedWrite {
                write: action.identify_write().unwrap(),
                names_template: message.contains("spec.template"),
                message,
                ..plan::observed::RefusedWrite::default()
            });
            return false;
        }
        let generation = if patched.is_some() {
            body["metadata"]["generation"].as_i64().unwrap() + 1
        } else {
            1
        };
        if patched.is_none() {
            body["metadata"]["uid"] = json!(self.next_uid());
        }
        body["metadata"]["generation"] = json!(generation);
        body["metadata"]["resourceVersion"] = json!(self.next_resource_version());
        self.deployment = Some(body);
        self.observed.memory.refused.retain(|r| !r.write.starts_with("decision of "));
        self.overdue = false;
        self.show_deployment();
        true
    }

    fn write_service(&mut self, body: Value) {
        let meta = Meta {
            name: "fraud".into(),
            uid: body["metadata"]["uid"].as_str().map_or_else(|| self.next_uid(), str::to_owned),
            resource_version: self.next_resource_version(),
            labels: serde_json::from_value(body["metadata"]["labels"].clone()).unwrap_or_default(),
            controller: build_controller(self.observed.model_deployment.as_ref()),
            ..Meta::default()
        };
        self.observed.service = Some(Service {
            meta,
            type_: body["spec"]["type"].as_str().unwrap().into(),
            selector: serde_json::from_value(body["spec"]["selector"].clone()).unwrap(),
            ports: serde_json::from_value(body["spec"]["ports"].clone()).unwrap(),
        });
    }

    /// Copies the live Deployment to the observation of the planner.
    pub(super) fn show_deployment(&mut self) {
        let status = self.main_deployment().map(|w| w.status.clone()).unwrap_or_default();
        let observed = self.deployment.as_ref().map(|d| observe_deployment(d, status));
        self.observed.tracks =
            observed.map(|d| (names::TRACK_MAIN.to_owned(), d)).into_iter().collect();
        if self.deployment.is_none() {
            self.observed.pods.clear();
        }
    }
}

fn build_controller(
    wanted: Option<&ObservedModelDeployment>,
) -> Option<plan::observed::Controller> {
    wanted.map(|w| plan::observed::Controller {
        kind: "ModelDeployment".into(),
        name: "fraud".into(),
        uid: w.uid.clone(),
    })
}

/// Builds the observation of a Deployment as the operator does.
fn observe_deployment(d: &Value, status: plan::observed::DeploymentStatus) -> Deployment {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let number = |v: &Value| i32::try_from(v.as_i64().unwrap_or_default()).unwrap();
    let owner = d["metadata"]["ownerReferences"].get(0);
    Deployment {
        meta: Meta {
            name: text(&d["metadata"]["name"]),
            uid: text(&d["metadata"]["uid"]),
            resource_version: text(&d["metadata"]["resourceVersion"]),
            labels: serde_json::from_value(d["metadata"]["labels"].clone()).unwrap_or_default(),
            has_annotations: d["metadata"]["annotations"].is_object(),
            annotations: serde_json::from_value(d["metadata"]["annotations"].clone())
                .unwrap_or_default(),
            controller: owner.map(|o| plan::observed::Controller {
                kind: text(&o["kind"]),
                name: text(&o["name"]),
                uid: text(&o["uid"]),
            }),
            deleting: false,
        },
        generation: d["metadata"]["generation"].as_i64().unwrap(),
        spec: plan::observed::DeploymentSpec {
            replicas: number(&d["spec"]["replicas"]),
            paused: d["spec"]["paused"] == json!(true),
            selector: serde_json::from_value(d["spec"]["selector"]["matchLabels"].clone()).unwrap(),
            strategy: d["spec"]["strategy"].clone(),
            min_ready_seconds: number(&d["spec"]["minReadySeconds"]),
            progress_deadline_seconds: number(&d["spec"]["progressDeadlineSeconds"]),
            revision_history_limit: number(&d["spec"]["revisionHistoryLimit"]),
            template: d["spec"]["template"].clone().into(),
        },
        foreign: Vec::new(),
        status,
    }
}

fn apply_patch(body: &mut Value, ops: Vec<Value>) {
    let ops: json_patch::Patch = serde_json::from_value(Value::Array(ops)).unwrap();
    json_patch::patch(body, &ops)
        .unwrap_or_else(|error| panic!("the patch does not apply: {error}\n{body:#}"));
}
