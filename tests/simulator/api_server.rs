//! The API server of the simulated cluster: it validates, admits or refuses each write, and stores
//! it.

use std::sync::Arc;

use rollmodel::{
    api::{ModelRolloutSpec, names},
    plan::{
        Action, Prunable,
        action::Purpose,
        facts::revision::compute_digest,
        observed::{Controller, Meta, Record, Service, StoredRevision},
        patch::guard_generation,
    },
};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, NAME},
    faults::{Code, WriteKind},
};

/// An answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    Forbidden(String),
    /// 409 or 404: the object is not what the caller saw.
    Conflict,
    AlreadyExists,
    Invalid {
        causes: bool,
        message: String,
    },
    Server,
}

type Answer = Result<(), ApiError>;

fn refusal(code: Code, what: &str) -> ApiError {
    match code {
        Code::Forbidden => ApiError::Forbidden(format!("{what} is forbidden: exceeded quota")),
        Code::Conflict => ApiError::Conflict,
        Code::Invalid => {
            ApiError::Invalid { causes: true, message: format!("{what} is invalid: denied") }
        }
        Code::Unprocessable => {
            ApiError::Invalid { causes: false, message: format!("{what}: denied by a webhook") }
        }
        Code::ServerError => ApiError::Server,
    }
}

/// The field that refusals of a template name.
pub const TEMPLATE: &str = "spec.template";

impl Cluster {
    /// Carries out one action of a plan.
    pub fn write(&mut self, action: &Action) -> Answer {
        match action {
            Action::StoreRevision { name, body, .. } => {
                self.admit(WriteKind::StoreRevision, "ControllerRevision")?;
                if self.revisions.iter().any(|r| r.name == *name) {
                    return Err(ApiError::AlreadyExists);
                }
                let (uid, resource_version) = (self.give_uid(), self.give_resource_version());
                self.revisions.push(StoredRevision {
                    name: name.clone(),
                    uid,
                    resource_version,
                    rendering_digest: Some(compute_digest(&body.rendering)),
                    body: Some(body.clone().into()),
                });
            }
            Action::CreateRecord { spec } => self.create_record(spec)?,
            Action::AmendRecord { name, ops, .. } => self.amend_record(name, ops)?,
            Action::CreateDeployment { body, .. } => self.create_deployment(body)?,
            Action::PatchDeployment { purpose, uid, generation, ops, .. } => {
                let answered = self.operator.answered_generation;
                let generation = answered.unwrap_or(*generation);
                self.patch_deployment(purpose, &guard_generation(uid, generation, ops.clone()))?;
            }
            Action::CreateService { body, .. } => {
                self.admit(WriteKind::Service, "Service")?;
                self.put_service(body);
            }
            Action::PatchService { ops, .. } => {
                self.admit(WriteKind::Service, "Service")?;
                let body = patch(&self.service_body()?, ops)?;
                self.put_service(&body);
            }
            Action::AnswerRequest { name, status } => {
                self.admit(WriteKind::Answer, "RolloutRequest")?;
                let request = self.requests.iter_mut().find(|r| r.name == *name);
                request.ok_or(ApiError::Conflict)?.status = Some((**status).clone());
            }
            Action::Delete { kind, uid, .. } => {
                self.admit(WriteKind::Delete, "deletion")?;
                match kind {
                    Prunable::ControllerRevision => self.revisions.retain(|r| r.uid != *uid),
                    Prunable::ModelRollout => self.records.retain(|r| r.uid != *uid),
                    Prunable::RolloutRequest => self.requests.retain(|r| r.uid != *uid),
                }
            }
            Action::Event { .. } => {}
        }
        Ok(())
    }

    pub fn admit(&mut self, write: WriteKind, what: &str) -> Answer {
        self.faults.refuse(write).map_or(Ok(()), |code| Err(refusal(code, what)))
    }

    fn create_record(&mut self, spec: &ModelRolloutSpec) -> Answer {
        self.admit(WriteKind::CreateRecord, "ModelRollout")?;
        if self.records.iter().any(|r| r.spec.number == spec.number) {
            return Err(ApiError::AlreadyExists);
        }
        if spec.decided_by.reason.as_ref().is_some_and(|r| r.len() > 1024) {
            let message = "spec.decidedBy.reason: Too long".into();
            return Err(ApiError::Invalid { causes: true, message });
        }
        let (uid, resource_version) = (self.give_uid(), self.give_resource_version());
        let (restored, spec) = (None, Arc::new(spec.clone()));
        self.records.push(Record { uid, resource_version, restored, spec });
        Ok(())
    }

    fn amend_record(&mut self, name: &str, ops: &[Value]) -> Answer {
        self.admit(WriteKind::AmendRecord, "ModelRollout")?;
        let resource_version = self.give_resource_version();
        let find = |r: &&mut Record| names::record_name(NAME, r.spec.number) == name;
        let record = self.records.iter_mut().find(find).ok_or(ApiError::Conflict)?;
        let body = json!({
            "metadata": {"uid": record.uid, "resourceVersion": record.resource_version},
            "spec": *record.spec,
        });
        let amended = patch(&body, ops)?;
        for (field, value) in body["spec"].as_object().unwrap() {
            let kept = field == "decisions" || amended["spec"][field] == *value;
            assert!(kept, "{field} of {name} was rewritten");
        }
        record.spec = Arc::new(serde_json::from_value(amended["spec"].clone()).unwrap());
        record.resource_version = resource_version;
        Ok(())
    }

    fn create_deployment(&mut self, body: &Value) -> Answer {
        if self.deployment.is_some() {
            return Err(ApiError::AlreadyExists);
        }
        self.admit(WriteKind::CreateDeployment, "Deployment")?;
        let mut body = body.clone();
        self.admit_deployment(&mut body)?;
        body["metadata"]["uid"] = json!(self.give_uid());
        self.put_deployment(body);
        Ok(())
    }

    fn patch_deployment(&mut self, purpose: &Purpose, ops: &[Value]) -> Answer {
        let before = self.deployment.clone().ok_or(ApiError::Conflict)?;
        let mut body = patch(&before, ops)?;
        let write = match purpose {
            Purpose::Settings => WriteKind::Settings,
            Purpose::Decision(_) => WriteKind::Decision,
        };
        let answer = self.admit(write, "Deployment");
        if matches!(answer, Err(ApiError::Invalid { .. })) {
            self.truth.refused_templates.insert(label_revision(&body));
        }
        answer?;
        self.admit_deployment(&mut body)?;
        self.put_deployment(body);
        Ok(())
    }

    /// Webhooks, policies, and validation of what changed.
    fn admit_deployment(&mut self, body: &mut Value) -> Answer {
        if self.faults.webhook {
            body["spec"]["revisionHistoryLimit"] = json!(3);
        }
        let before = self.deployment.clone();
        let old = |pointer: &str| before.as_deref().and_then(|b| b.pointer(pointer));
        if old("/spec/template") != Some(&body["spec"]["template"]) {
            let label = label_revision(body);
            let answer = validate_template(&body["spec"]["template"]);
            let answer = answer.and_then(|()| self.admit(WriteKind::Template, TEMPLATE));
            if matches!(answer, Err(ApiError::Invalid { .. })) {
                self.truth.refused_templates.insert(label);
            }
            answer?;
        }
        let more = body["spec"]["replicas"].as_i64().unwrap_or(1) > 5;
        if more && old("/spec/replicas") != Some(&body["spec"]["replicas"]) {
            self.admit(WriteKind::Replicas, "Deployment")?;
        }
        Ok(())
    }

    fn service_body(&self) -> Result<Value, ApiError> {
        let service = self.service.as_ref().ok_or(ApiError::Conflict)?;
        let meta = &service.meta;
        Ok(json!({
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version,
                "labels": meta.labels, "ownerReferences": owner_references(meta)},
            "spec": {"type": service.type_, "selector": service.selector, "ports": service.ports},
        }))
    }

    fn put_service(&mut self, body: &Value) {
        let uid = body["metadata"]["uid"].as_str().map(str::to_owned);
        let meta = Meta {
            name: NAME.into(),
            uid: uid.unwrap_or_else(|| self.give_uid()),
            resource_version: self.give_resource_version(),
            labels: serde_json::from_value(body["metadata"]["labels"].clone()).unwrap_or_default(),
            controller: read_controller(&body["metadata"]["ownerReferences"]),
            ..Meta::default()
        };
        self.service = Some(Service {
            meta,
            type_: body["spec"]["type"].as_str().unwrap_or("ClusterIP").into(),
            selector: serde_json::from_value(body["spec"]["selector"].clone()).unwrap(),
            ports: serde_json::from_value(body["spec"]["ports"].clone()).unwrap(),
        });
    }
}

fn label_revision(body: &Value) -> String {
    let label = &body["spec"]["template"]["metadata"]["labels"][names::REVISION];
    label.as_str().unwrap_or_default().to_owned()
}

fn owner_references(meta: &Meta) -> Value {
    match &meta.controller {
        Some(c) => json!([{"kind": c.kind, "name": c.name, "uid": c.uid, "controller": true}]),
        None => json!([]),
    }
}

/// The controller among owner references.
pub fn read_controller(references: &Value) -> Option<Controller> {
    let owner = references.get(0)?;
    let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
    Some(Controller { kind: text("kind"), name: text("name"), uid: text("uid") })
}

/// The rules of a pod template that histories break: the form of a label's value, and unknown
/// fields, whose refusal quotes the whole object.
fn validate_template(template: &Value) -> Answer {
    let labels = template["metadata"]["labels"].as_object().into_iter().flatten();
    for (name, value) in labels {
        let value = value.as_str().unwrap_or_default();
        if value.contains('/') {
            let message = format!("{TEMPLATE}.metadata.labels: Invalid value: {value:?} of {name}");
            return Err(ApiError::Invalid { causes: true, message });
        }
    }
    let volumes = template["spec"]["volumes"].as_array().into_iter().flatten();
    for volume in volumes {
        if volume.get("emptydir").is_some() {
            let message = format!("{TEMPLATE}: unknown field \"emptydir\" in {}", "x".repeat(2000));
            return Err(ApiError::Invalid { causes: true, message });
        }
    }
    Ok(())
}

/// The body after a JSON Patch; a `test` that does not hold is a 422 without causes, which reads
/// as a conflict.
fn patch(body: &Value, ops: &[Value]) -> Result<Value, ApiError> {
    let ops: json_patch::Patch = serde_json::from_value(Value::Array(ops.to_vec())).unwrap();
    let mut patched = body.clone();
    json_patch::patch(&mut patched, &ops).map_err(|_| ApiError::Conflict)?;
    Ok(patched)
}
