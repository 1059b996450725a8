//! Everything there is: the objects of one ModelDeployment name, and what breaks them.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rollmodel::{
    api::{ModelDeploymentSpec, ModelDeploymentStatus, ModelRolloutSpec, names},
    plan::observed::{Record, Request, Service, StoredRevision, Version},
};
use serde_json::{Value, json};

use super::{
    faults::Faults,
    objects::{Deployment, DeploymentSpec, DeploymentStatus, Seconds, Template, Workload},
    operator::Operator,
    others::{Autoscaler, is_of_another_owner, prune_managers},
    restore::Backup,
    truth::Truth,
};

/// The name of the ModelDeployment of every history.
pub const NAME: &str = "fraud";

/// A ModelDeployment as the API server keeps it.
#[derive(Clone, Debug)]
pub struct ModelDeploymentObject {
    pub uid: String,
    pub generation: i64,
    pub spec: ModelDeploymentSpec,
    pub status: Option<ModelDeploymentStatus>,
}

/// The API server's store, Kubernetes' controllers, the operator, and the witness of it all.
#[derive(Clone)]
pub struct Cluster {
    pub now: Seconds,
    pub model_deployment: Option<ModelDeploymentObject>,
    pub versions: Vec<Version>,
    pub records: Vec<Record>,
    pub revisions: Vec<StoredRevision>,
    pub requests: Vec<Request>,
    /// Metadata and spec of the Deployment, as JSON Patch sees them.
    pub deployment: Option<Arc<Value>>,
    /// The same Deployment as its controllers see it, with its ReplicaSets and pods.
    pub workload: Workload,
    pub service: Option<Service>,
    pub autoscaler: Option<Autoscaler>,
    pub faults: Faults,
    pub operator: Operator,
    pub truth: Truth,
    pub backup: Option<Box<Backup>>,
    /// Uids and resourceVersions given so far.
    pub given: u64,
}

impl Cluster {
    /// A ModelDeployment with three replicas on version 6 of model fraud; versions 6 to 9 of it and
    /// version 1 of model churn are registered; nothing is rolled out yet.
    pub fn new() -> Self {
        let mut cluster = Self {
            now: 0,
            model_deployment: None,
            versions: Vec::new(),
            records: Vec::new(),
            revisions: Vec::new(),
            requests: Vec::new(),
            deployment: None,
            workload: Workload::default(),
            service: None,
            autoscaler: None,
            faults: Faults::default(),
            operator: Operator::default(),
            truth: Truth::default(),
            backup: None,
            given: 100,
        };
        for version in ["6", "7", "8", "9"] {
            cluster.register_version("fraud", version);
        }
        cluster.register_version("churn", "1");
        cluster.create_model_deployment("fraud", "6");
        cluster.operator.wake();
        cluster
    }

    pub fn register_version(&mut self, model: &str, version: &str) {
        self.versions.push(Version {
            name: names::version_name(model, version),
            model: model.into(),
            version: version.into(),
            record_digest: format!("sha256:{:0>64}", format!("{}{version}", model.len())),
            image: Some(format!("registry.example.com/{model}:{version}")),
            ..Version::default()
        });
    }

    pub fn create_model_deployment(&mut self, model: &str, version: &str) {
        let spec = json!({"model": model, "version": version, "replicas": 3});
        let uid = self.give_uid();
        self.model_deployment = Some(ModelDeploymentObject {
            uid,
            generation: 1,
            spec: serde_json::from_value(spec).unwrap(),
            status: None,
        });
    }

    pub fn give_uid(&mut self) -> String {
        self.given += 1;
        format!("uid-{}", self.given)
    }

    pub fn give_resource_version(&mut self) -> String {
        self.given += 1;
        self.given.to_string()
    }

    /// A user's edit of the ModelDeployment's spec.
    pub fn edit_spec(&mut self, change: impl FnOnce(&mut ModelDeploymentSpec)) {
        let Some(object) = self.model_deployment.as_mut() else { return };
        let before = object.spec.clone();
        change(&mut object.spec);
        if object.spec != before {
            object.generation += 1;
        }
        self.operator.wake();
    }

    /// The generation of the spec.
    pub fn generation(&self) -> Option<i64> {
        self.model_deployment.as_ref().map(|d| d.generation)
    }

    /// True if a write that was refused may wait for its backoff: the spec is as it was then.
    pub fn waits_for_backoff(&self) -> bool {
        let lifted = self.truth.refusal_lifted_at;
        lifted.is_some() && lifted == self.generation()
    }

    pub fn spec(&self) -> Option<&ModelDeploymentSpec> {
        self.model_deployment.as_ref().map(|d| &d.spec)
    }

    pub fn status(&self) -> ModelDeploymentStatus {
        self.model_deployment.as_ref().and_then(|d| d.status.clone()).unwrap_or_default()
    }

    /// Every record, oldest first.
    pub fn history(&self) -> Vec<&ModelRolloutSpec> {
        let mut all: Vec<&ModelRolloutSpec> = self.records.iter().map(|r| &*r.spec).collect();
        all.sort_by_key(|r| r.number);
        all
    }

    pub fn newest_record(&self) -> Option<&ModelRolloutSpec> {
        self.records.iter().map(|r| &*r.spec).max_by_key(|r| r.number)
    }

    pub fn version_mut(&mut self, version: &str) -> Option<&mut Version> {
        let model = self.spec().map_or("fraud".to_owned(), |s| s.model.clone());
        self.versions.iter_mut().find(|v| v.version == version && v.model == model)
    }

    /// Whoever edits the Deployment, kubectl or a webhook; generation and resourceVersion follow
    /// the API server's rules.
    pub fn edit_deployment(&mut self, change: impl FnOnce(&mut Value)) {
        let Some(body) = self.deployment.clone() else { return };
        let mut edited = (*body).clone();
        change(&mut edited);
        self.put_deployment(edited);
        self.operator.wake();
    }

    /// Stores the Deployment, as the API server does after validation; whether it changed.
    pub fn put_deployment(&mut self, mut body: Value) -> bool {
        prune_managers(&mut body);
        let before = self.deployment.as_deref();
        if before == Some(&body) {
            return false;
        }
        let same_spec = before.is_some_and(|b| b["spec"] == body["spec"]);
        let generation = before.map_or(0, |b| b["metadata"]["generation"].as_i64().unwrap());
        let generation = if same_spec { generation } else { generation + 1 };
        body["metadata"]["generation"] = json!(generation);
        body["metadata"]["resourceVersion"] = json!(self.give_resource_version());
        let old = self.workload.deployment.take();
        let spec = read_deployment_spec(&body["spec"], old.as_ref().map(|d| &d.spec));
        self.workload.deployment = Some(match old {
            Some(old) => Deployment { generation, spec, ..old },
            None => Deployment {
                name: NAME.into(),
                generation,
                created: self.now,
                spec,
                revision: 0,
                status: DeploymentStatus::default(),
            },
        });
        self.deployment = Some(Arc::new(body));
        true
    }

    /// The resourceVersion moves with every status that Kubernetes writes.
    pub fn note_status_of_deployment(&mut self) {
        let resource_version = self.give_resource_version();
        if let Some(body) = self.deployment.as_mut() {
            Arc::make_mut(body)["metadata"]["resourceVersion"] = json!(resource_version);
        }
    }

    /// The garbage collector takes the Deployment with all its pods, and the Service where it is
    /// owned.
    pub fn remove_children(&mut self) {
        self.deployment = None;
        self.workload.deployment = None;
        self.workload.replica_sets.clear();
        self.workload.pods.clear();
        self.service = None;
        self.operator.wake();
    }

    /// As [`Self::remove_children`], but a Deployment that something else owns stays.
    pub fn collect_children(&mut self) {
        if self.deployment.as_deref().is_some_and(is_of_another_owner) {
            self.service = None;
            self.operator.wake();
        } else {
            self.remove_children();
        }
    }

    /// Removes children whose owner is gone, such as one that an operator created after it had read
    /// an old cache; whether there were any.
    pub fn collect_garbage(&mut self) -> bool {
        let owner = self.model_deployment.as_ref().map(|d| d.uid.clone());
        let is_orphan = |uid: &str| owner.as_deref() != Some(uid);
        let ours = self.deployment.as_ref().filter(|body| !is_of_another_owner(body));
        let of_deployment = ours.and_then(|body| {
            body["metadata"]["ownerReferences"][0]["uid"].as_str().map(str::to_owned)
        });
        let of_service = self.service.as_ref().and_then(|s| s.meta.controller.as_ref());
        let (deployment, service) = (
            of_deployment.is_some_and(|uid| is_orphan(&uid)),
            of_service.is_some_and(|controller| is_orphan(&controller.uid)),
        );
        if service {
            self.service = None;
        }
        if deployment {
            self.lose_deployment();
        }
        deployment || service
    }

    /// The Deployment alone is deleted, with its pods.
    pub fn lose_deployment(&mut self) {
        self.deployment = None;
        self.workload.deployment = None;
        self.workload.replica_sets.clear();
        self.workload.pods.clear();
        self.operator.wake();
    }

    /// The label of the newest decision that was carried out.
    pub fn decision_label(&self) -> Option<&str> {
        self.deployment.as_ref()?["metadata"]["labels"][names::DECISION].as_str()
    }
}

fn read_deployment_spec(spec: &Value, before: Option<&DeploymentSpec>) -> DeploymentSpec {
    let number =
        |name: &str, default: i64| i32::try_from(spec[name].as_i64().unwrap_or(default)).unwrap();
    let bound = |name: &str| match &spec["strategy"]["rollingUpdate"][name] {
        Value::Number(n) => IntOrString::Int(i32::try_from(n.as_i64().unwrap()).unwrap()),
        Value::String(s) => IntOrString::String(s.clone()),
        _ => IntOrString::String("25%".into()),
    };
    let template = match before.filter(|b| *b.template.value == spec["template"]) {
        Some(before) => before.template.clone(),
        None => Template::new(spec["template"].clone()),
    };
    DeploymentSpec {
        replicas: number("replicas", 1),
        paused: spec["paused"] == json!(true),
        max_surge: bound("maxSurge"),
        max_unavailable: bound("maxUnavailable"),
        min_ready_seconds: number("minReadySeconds", 0),
        progress_deadline_seconds: number("progressDeadlineSeconds", 600),
        revision_history_limit: number("revisionHistoryLimit", 10),
        template,
    }
}
