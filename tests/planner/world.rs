//! A world in memory: it carries plans out as the API server would, and Kubernetes plays its part
//! in it (`kubernetes.rs`). Nothing in it waits: a whole story of a rollout takes microseconds.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan};
use rollmodel::{
    api::{
        ModelDeploymentStatus, ModelRolloutSpec, RolloutRequestStatus,
        deployment::State,
        names,
        request::{RolloutRequestSpec, Verb},
        version::{Lifecycle, LifecycleState},
    },
    plan::{
        self, Action, Lookup, Observed, Plan, Prunable,
        observed::{
            Deployment, Meta, ObservedModelDeployment, Record, Request, Service, StoredRevision,
            Version,
        },
        patch::guard_generation,
    },
};
use serde_json::{Value, json};

/// What the pods of one content do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Become available at once.
    Fine,
    /// Crash until they are given up.
    Crash,
    /// Wait for an image that cannot be pulled.
    Pull,
    /// Run, and never become ready.
    NeverReady,
    /// Get other bytes than they have to.
    Mismatch,
    /// Reach nothing to fetch from, however often they try.
    Unreachable,
}

/// Everything there is.
pub struct World {
    pub seen: Observed,
    pub now: Timestamp,
    pub deployment: Option<Value>,
    pub behaviours: BTreeMap<String, Behaviour>,
    pub overdue: bool,
    pub refuses: Option<String>,
    pub events: Vec<(String, String)>,
    pub writes: usize,
    counter: u64,
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

impl World {
    /// A ModelDeployment `fraud` on version 6 of model fraud, with versions 6, 7 and 8 there;
    /// nothing is rolled out yet.
    pub fn new() -> Self {
        let mut world = Self {
            seen: Observed {
                namespace: "risk".into(),
                name: "fraud".into(),
                ..Observed::default()
            },
            now: at(0),
            deployment: None,
            behaviours: BTreeMap::new(),
            overdue: false,
            refuses: None,
            events: Vec::new(),
            writes: 0,
            counter: 100,
        };
        world.seen.memory.fetch_image = Some("registry.example.com/rollmodel:1".into());
        for version in ["6", "7", "8"] {
            world.add_version(version);
        }
        world.create("6");
        world
    }

    pub fn add_version(&mut self, version: &str) {
        self.seen.versions.push(Version {
            name: names::version_name("fraud", version),
            model: "fraud".into(),
            version: version.into(),
            record_digest: format!("sha256:{:0>64}", version.replace('.', "")),
            image: Some(format!("registry.example.com/fraud:{version}")),
            ..Version::default()
        });
    }

    pub fn create(&mut self, version: &str) {
        let uid = self.uid();
        let spec =
            serde_json::from_value(json!({"model": "fraud", "version": version, "replicas": 3}))
                .unwrap();
        self.seen.model_deployment = Some(ObservedModelDeployment {
            uid,
            generation: 1,
            deleting: false,
            spec,
            status: None,
        });
    }

    /// The ModelDeployment is deleted, and the garbage collector takes its children.
    pub fn delete(&mut self) {
        self.seen.model_deployment = None;
        self.deployment = None;
        self.seen.service = None;
        self.sync();
    }

    fn uid(&mut self) -> String {
        self.counter += 1;
        format!("uid-{}", self.counter)
    }

    fn rv(&mut self) -> String {
        self.counter += 1;
        self.counter.to_string()
    }

    pub fn spec(&mut self, change: impl FnOnce(&mut rollmodel::api::ModelDeploymentSpec)) {
        let wanted = self.seen.model_deployment.as_mut().unwrap();
        change(&mut wanted.spec);
        wanted.generation += 1;
    }

    pub fn want(&mut self, version: &str) {
        self.spec(|s| s.version = version.into());
    }

    pub fn template(&mut self, template: Value) {
        self.spec(|s| s.template = Some(template));
    }

    /// The facts of a version, to change them.
    pub fn version(&mut self, version: &str) -> &mut Version {
        self.seen.versions.iter_mut().find(|v| v.version == version).unwrap()
    }

    /// Gives a version an artifact, whose digest its record names or not.
    pub fn artifact(&mut self, version: &str, digest: Option<&str>) {
        let artifact = json!({"uri": format!("s3://models/fraud/{version}/"), "digest": digest});
        self.version(version).artifact = serde_json::from_value(artifact).unwrap();
    }

    /// What the administrator demands.
    pub fn policy(&mut self, spec: Value) {
        let spec = serde_json::from_value(spec).unwrap();
        self.seen.policy = Some(plan::observed::Policy { created: self.now, spec });
    }

    pub fn yank(&mut self, version: &str) {
        self.version(version).lifecycle = Some(Lifecycle {
            state: LifecycleState::Yanked,
            reason: Some("Leaks the label".into()),
        });
    }

    /// What the pods of a version do.
    pub fn behave(&mut self, version: &str, behaviour: Behaviour) {
        self.behaviours.insert(version.into(), behaviour);
    }

    pub fn ask(&mut self, verb: Verb) -> String {
        let decision = self.decision();
        self.ask_with(verb, &decision, |_| {})
    }

    /// The newest decision, as a request names it.
    pub fn decision(&self) -> String {
        let newest = self.records().pop();
        newest.map_or("0".into(), |r| format!("{}.{}", r.number, r.decisions.len()))
    }

    pub fn ask_with(
        &mut self,
        verb: Verb,
        if_decision: &str,
        change: impl FnOnce(&mut RolloutRequestSpec),
    ) -> String {
        let (uid, resource_version) = (self.uid(), self.rv());
        let mut spec: RolloutRequestSpec = serde_json::from_value(
            json!({"modelDeployment": "fraud", "verb": verb, "ifDecision": if_decision, "requestedBy": "alice", "reason": "latency"}),
        )
        .unwrap();
        change(&mut spec);
        let name = format!("fraud-{uid}");
        self.seen.requests.push(Request {
            name: name.clone(),
            uid,
            resource_version,
            created: self.now,
            generation: 1,
            spec,
            status: None,
        });
        name
    }

    pub fn answer(&self, name: &str) -> RolloutRequestStatus {
        self.seen
            .requests
            .iter()
            .find(|r| r.name == name)
            .unwrap()
            .status
            .clone()
            .unwrap_or_default()
    }

    /// `kubectl rollout undo` to the content of an earlier rollout: its stored template, with the
    /// label copied.
    pub fn kubectl_undo(&mut self, to: i64) {
        let record = self.record(to);
        let body = self
            .seen
            .revisions
            .iter()
            .find(|c| c.name == record.revision_name)
            .unwrap()
            .body
            .clone()
            .unwrap();
        let template = plan::writes::children::build_template(
            &body.rendering,
            names::TRACK_MAIN,
            record.restarted_at.as_deref(),
        );
        self.edit(|d| d["spec"]["template"] = template);
    }

    /// Whether kubectl would find that rollout's template: not on a paused Deployment, and not past
    /// what is kept.
    pub fn can_kubectl_undo(&self, to: i64) -> bool {
        let paused = self.deployment.as_ref().is_none_or(|d| d["spec"]["paused"] == json!(true));
        let records = self.records();
        let record = records.iter().find(|r| r.number == to);
        !paused
            && record.is_some_and(|r| self.seen.revisions.iter().any(|c| c.name == r.revision_name))
    }

    /// Someone deletes the Deployment.
    pub fn lose_deployment(&mut self) {
        self.deployment = None;
        self.sync();
    }

    /// Someone edits the Deployment.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let rv = self.rv();
        let deployment = self.deployment.as_mut().unwrap();
        change(deployment);
        let generation = deployment["metadata"]["generation"].as_i64().unwrap() + 1;
        deployment["metadata"]["generation"] = json!(generation);
        deployment["metadata"]["resourceVersion"] = json!(rv);
        self.sync();
    }

    pub fn pass(&mut self, time: jiff::Span) {
        self.now = self.now.checked_add(time).unwrap();
    }

    pub fn records(&self) -> Vec<ModelRolloutSpec> {
        let mut records: Vec<_> = self.seen.records.iter().map(|r| (*r.spec).clone()).collect();
        records.sort_by_key(|r| r.number);
        records
    }

    pub fn record(&self, number: i64) -> ModelRolloutSpec {
        self.records()
            .into_iter()
            .find(|r| r.number == number)
            .unwrap_or_else(|| panic!("no rollout {number}"))
    }

    pub fn status(&self) -> ModelDeploymentStatus {
        self.seen.model_deployment.as_ref().and_then(|d| d.status.clone()).unwrap_or_default()
    }

    pub fn state(&self) -> State {
        self.status().state.unwrap()
    }

    pub fn serving(&self) -> String {
        self.status().serving.map(|s| s.version).unwrap_or_default()
    }

    /// The image that the Deployment's template names, which is what really runs once it is rolled
    /// out.
    pub fn image(&self) -> String {
        self.deployment
            .as_ref()
            .map(|d| {
                d["spec"]["template"]["spec"]["containers"][0]["image"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .unwrap_or_default()
    }

    pub fn plan(&self) -> Plan {
        plan::plan(&self.seen, self.now)
    }

    /// Plans and acts until nothing changes any more.
    pub fn settle(&mut self) {
        for _ in 0..50 {
            self.controllers();
            let plan = self.plan();
            if self.rests(&plan) {
                return;
            }
            self.carry_out(plan.clone(), usize::MAX);
            let next = self.plan();
            assert!(
                wakes(&plan) || self.rests(&next),
                "{next:#?}\nwas left to do, and this woke nobody:\n{plan:#?}"
            );
            self.now = self.now.checked_add(1.second()).unwrap();
        }
        panic!("it never settles: {:#?}", self.plan());
    }

    fn rests(&self, plan: &Plan) -> bool {
        plan.actions.iter().all(|a| self.told(a))
            && plan.status.is_none()
            && plan.lookups.is_empty()
    }

    /// Whether an action is an Event that was told: the process tells each once.
    fn told(&self, action: &Action) -> bool {
        matches!(action, Action::Event { reason, message, .. } if self.events.iter().any(|(r, m)| (r, m) == (reason, message)))
    }

    /// One pass in which the process dies after `writes` writes.
    pub fn carry_out(&mut self, plan: Plan, writes: usize) {
        self.seen.memory.looked_up.clear();
        for lookup in &plan.lookups {
            self.seen.memory.looked_up.push(lookup.clone());
            if let Lookup::Deployment(_) | Lookup::Service(_) = lookup {
                self.sync();
            }
        }
        let mut left = writes;
        for action in plan.actions {
            if left == 0 || !self.act(action) {
                return;
            }
            left -= 1;
        }
        if left > 0
            && let Some(status) = plan.status
        {
            self.writes += 1;
            self.seen.memory.status_written = Some(self.now);
            self.seen.model_deployment.as_mut().unwrap().status = Some(status);
        }
    }

    fn act(&mut self, action: Action) -> bool {
        self.writes += 1;
        match action {
            Action::StoreRevision { name, body, .. } => {
                let (uid, resource_version) = (self.uid(), self.rv());
                if let Some(have) = self.seen.revisions.iter().find(|c| c.name == name) {
                    assert_eq!(have.body.as_ref().unwrap().revision_hash, body.revision_hash);
                    return true;
                }
                let init = &body.rendering["spec"]["initContainers"][0];
                let digest = init["args"].as_array().into_iter().flatten().any(|a| a == "--digest");
                assert!(
                    digest || init["name"] != json!(names::FETCH),
                    "nothing is fetched that nobody knows: {init:#}"
                );
                self.seen.revisions.push(StoredRevision {
                    name,
                    uid,
                    resource_version,
                    rendering_digest: Some(plan::facts::revision::compute_digest(&body.rendering)),
                    body: Some(body),
                });
            }
            Action::CreateRecord { spec } => {
                assert!(
                    !self.seen.records.iter().any(|r| r.spec.number == spec.number),
                    "number {} is given twice",
                    spec.number
                );
                let (uid, resource_version) = (self.uid(), self.rv());
                self.seen.records.push(Record { uid, resource_version, spec: (*spec).into() });
            }
            Action::AmendRecord { name, ops, .. } => self.amend(&name, ops),
            Action::CreateDeployment { ref body, .. } => {
                return self.write_workload(&action, body.clone(), None);
            }
            Action::PatchDeployment { ref uid, ref ops, .. } => {
                let mut body = self.deployment.clone().unwrap();
                // A second patch of a plan is tested against the answer to the first.
                let generation = body["metadata"]["generation"].as_i64().unwrap();
                patch(&mut body, guard_generation(uid, generation, ops.clone()));
                return self.write_workload(&action, body, Some(()));
            }
            Action::CreateService { body, .. } => self.write_service(body),
            Action::PatchService { ops, .. } => {
                let service = self.seen.service.clone().unwrap();
                let mut body = json!({"metadata": {"uid": service.meta.uid, "resourceVersion": service.meta.resource_version, "labels": service.meta.labels},
                    "spec": {"type": service.type_, "selector": service.selector, "ports": service.ports}});
                patch(&mut body, ops);
                self.write_service(body);
            }
            Action::AnswerRequest { name, status } => {
                self.seen.requests.iter_mut().find(|r| r.name == name).unwrap().status =
                    Some(*status);
            }
            Action::Delete { kind, name, .. } => match kind {
                Prunable::ControllerRevision => self.seen.revisions.retain(|c| c.name != name),
                Prunable::ModelRollout => {
                    self.seen.records.retain(|r| names::record_name("fraud", r.spec.number) != name)
                }
                Prunable::RolloutRequest => self.seen.requests.retain(|r| r.name != name),
            },
            Action::Event { reason, message, .. } => self.events.push((reason, message)),
        }
        true
    }

    fn amend(&mut self, name: &str, ops: Vec<Value>) {
        let rv = self.rv();
        let record = self
            .seen
            .records
            .iter_mut()
            .find(|r| names::record_name("fraud", r.spec.number) == name)
            .unwrap();
        let mut body = json!({"metadata": {"uid": record.uid, "resourceVersion": record.resource_version}, "spec": record.spec});
        let before = body.clone();
        patch(&mut body, ops);
        for (field, value) in before["spec"].as_object().unwrap() {
            assert!(
                field == "decisions" || body["spec"][field] == *value,
                "{field} of {name} was rewritten"
            );
        }
        record.spec = serde_json::from_value(body["spec"].clone()).unwrap();
        record.resource_version = rv;
    }

    /// The main Deployment as it is observed.
    pub fn main_deployment(&self) -> Option<&plan::observed::Deployment> {
        self.seen.tracks.get(names::TRACK_MAIN)
    }

    fn write_workload(&mut self, action: &Action, mut body: Value, patched: Option<()>) -> bool {
        let template = |d: &Value| d["spec"]["template"].clone();
        let changed = self.deployment.as_ref().is_none_or(|d| template(d) != template(&body));
        if let Some(message) = self.refuses.clone().filter(|_| changed)
            && body["spec"]["template"]["metadata"]["labels"][names::VERSION] == json!("7")
        {
            self.seen.memory.refused.push(plan::observed::RefusedWrite {
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
            body["metadata"]["uid"] = json!(self.uid());
        }
        body["metadata"]["generation"] = json!(generation);
        body["metadata"]["resourceVersion"] = json!(self.rv());
        self.deployment = Some(body);
        self.seen.memory.refused.retain(|r| !r.write.starts_with("decision of "));
        self.overdue = false;
        self.sync();
        true
    }

    fn write_service(&mut self, body: Value) {
        let meta = Meta {
            name: "fraud".into(),
            uid: body["metadata"]["uid"].as_str().map_or_else(|| self.uid(), str::to_owned),
            resource_version: self.rv(),
            labels: serde_json::from_value(body["metadata"]["labels"].clone()).unwrap_or_default(),
            controller: controller(self.seen.model_deployment.as_ref()),
            ..Meta::default()
        };
        self.seen.service = Some(Service {
            meta,
            type_: body["spec"]["type"].as_str().unwrap().into(),
            selector: serde_json::from_value(body["spec"]["selector"].clone()).unwrap(),
            ports: serde_json::from_value(body["spec"]["ports"].clone()).unwrap(),
        });
    }

    /// Shows the Deployment to the planner.
    fn sync(&mut self) {
        let status = self.main_deployment().map(|w| w.status.clone()).unwrap_or_default();
        let observed = self.deployment.as_ref().map(|d| observe(d, status));
        self.seen.tracks =
            observed.map(|d| (names::TRACK_MAIN.to_owned(), d)).into_iter().collect();
        if self.deployment.is_none() {
            self.seen.pods.clear();
        }
    }
}

/// Whether another pass is certain to follow a plan although nobody else does anything: it says so,
/// Kubernetes answers the Deployment's spec, or a label alone carries out a decision, after which
/// the shell plans again.
fn wakes(plan: &Plan) -> bool {
    let told = |path: &str| {
        path.starts_with("/spec") || path == "/metadata/labels/rollmodel.dev~1decision"
    };
    let tells = |op: &Value| op["op"] != "test" && op["path"].as_str().is_some_and(told);
    let wakes = |action: &Action| match action {
        Action::CreateDeployment { .. } => true,
        Action::PatchDeployment { ops, .. } => ops.iter().any(tells),
        _ => false,
    };
    plan.requeue_after_seconds == Some(0)
        || !plan.lookups.is_empty()
        || plan.actions.iter().any(wakes)
}

fn controller(wanted: Option<&ObservedModelDeployment>) -> Option<plan::observed::Controller> {
    wanted.map(|w| plan::observed::Controller {
        kind: "ModelDeployment".into(),
        name: "fraud".into(),
        uid: w.uid.clone(),
    })
}

/// A Deployment as the shell observes it.
fn observe(d: &Value, status: plan::observed::DeploymentStatus) -> Deployment {
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
            template: d["spec"]["template"].clone(),
        },
        foreign: Vec::new(),
        status,
    }
}

fn patch(body: &mut Value, ops: Vec<Value>) {
    let ops: json_patch::Patch = serde_json::from_value(Value::Array(ops)).unwrap();
    json_patch::patch(body, &ops)
        .unwrap_or_else(|error| panic!("the patch does not apply: {error}\n{body:#}"));
}
