//! A simulated cluster in memory. It applies plans like the API server (`world/api_server.rs`), and
//! simulates the Kubernetes controllers (`kubernetes.rs`). Nothing in it waits, so a whole rollout
//! takes microseconds.

use std::{collections::BTreeMap, sync::Arc};

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
        self, Action, Lookup, Observed, Plan,
        observed::{ObservedModelDeployment, Request, Version},
    },
};
use serde_json::{Value, json};

mod api_server;

/// The behavior of the pods of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// Become available immediately.
    Fine,
    /// Crash until the rollout fails.
    Crash,
    /// Wait for an image that cannot be pulled.
    Pull,
    /// Run, and never become ready.
    NeverReady,
    /// Fetch files with a wrong digest.
    Mismatch,
    /// Cannot reach the source of the artifact, however often they try.
    Unreachable,
}

/// The observed objects, the live Deployment, and the faults of one cluster.
pub struct World {
    pub observed: Observed,
    pub now: Timestamp,
    pub deployment: Option<Value>,
    pub behaviors: BTreeMap<String, Behavior>,
    pub overdue: bool,
    pub refuses: Option<String>,
    pub events: Vec<(String, String)>,
    pub writes: usize,
    counter: u64,
}

pub fn at_second(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

impl World {
    /// Creates ModelDeployment `fraud` on version 6 of model fraud. Versions 6, 7 and 8 exist;
    /// nothing is rolled out yet.
    pub fn new() -> Self {
        let mut world = Self {
            observed: Observed {
                namespace: "risk".into(),
                name: "fraud".into(),
                ..Observed::default()
            },
            now: at_second(0),
            deployment: None,
            behaviors: BTreeMap::new(),
            overdue: false,
            refuses: None,
            events: Vec::new(),
            writes: 0,
            counter: 100,
        };
        world.observed.memory.fetch_image = Some("registry.example.com/rollmodel:1".into());
        for version in ["6", "7", "8"] {
            world.add_version(version);
        }
        world.create_model_deployment("6");
        world
    }

    pub fn add_version(&mut self, version: &str) {
        self.observed.versions.push(Version {
            name: names::version_name("fraud", version),
            model: "fraud".into(),
            version: version.into(),
            record_digest: format!("sha256:{:0>64}", version.replace('.', "")),
            image: Some(format!("registry.example.com/fraud:{version}")),
            ..Version::default()
        });
    }

    pub fn create_model_deployment(&mut self, version: &str) {
        let uid = self.next_uid();
        let spec =
            serde_json::from_value(json!({"model": "fraud", "version": version, "replicas": 3}))
                .unwrap();
        self.observed.model_deployment = Some(ObservedModelDeployment {
            uid,
            generation: 1,
            deleting: false,
            spec,
            status: None,
        });
    }

    /// Deletes the ModelDeployment; the garbage collector deletes its children.
    pub fn delete_model_deployment(&mut self) {
        self.observed.model_deployment = None;
        self.deployment = None;
        self.observed.service = None;
        self.show_deployment();
    }

    fn next_uid(&mut self) -> String {
        self.counter += 1;
        format!("uid-{}", self.counter)
    }

    fn next_resource_version(&mut self) -> String {
        self.counter += 1;
        self.counter.to_string()
    }

    pub fn change_spec(&mut self, change: impl FnOnce(&mut rollmodel::api::ModelDeploymentSpec)) {
        let wanted = self.observed.model_deployment.as_mut().unwrap();
        change(Arc::make_mut(&mut wanted.spec));
        wanted.generation += 1;
    }

    pub fn want_version(&mut self, version: &str) {
        self.change_spec(|s| s.version = version.into());
    }

    pub fn set_template(&mut self, template: Value) {
        self.change_spec(|s| s.template = Some(template));
    }

    /// Returns the facts of a version, to change them.
    pub fn version_mut(&mut self, version: &str) -> &mut Version {
        self.observed.versions.iter_mut().find(|v| v.version == version).unwrap()
    }

    /// Gives a version an artifact, with or without a digest in its record.
    pub fn set_artifact(&mut self, version: &str, digest: Option<&str>) {
        let artifact = json!({"uri": format!("s3://models/fraud/{version}/"), "digest": digest});
        self.version_mut(version).artifact = serde_json::from_value(artifact).unwrap();
    }

    /// Sets the spec of the ModelPolicy.
    pub fn set_policy(&mut self, spec: Value) {
        let spec = serde_json::from_value(spec).unwrap();
        self.observed.policy = Some(plan::observed::Policy { created: self.now, spec });
    }

    pub fn yank_version(&mut self, version: &str) {
        self.version_mut(version).lifecycle = Some(Lifecycle {
            state: LifecycleState::Yanked,
            reason: Some("Leaks the label".into()),
        });
    }

    /// Sets the behavior of the pods of a version.
    pub fn set_behavior(&mut self, version: &str, behavior: Behavior) {
        self.behaviors.insert(version.into(), behavior);
    }

    pub fn send_request(&mut self, verb: Verb) -> String {
        let decision = self.newest_decision();
        self.send_request_with(verb, &decision, |_| {})
    }

    /// Formats the newest decision as a request names it.
    pub fn newest_decision(&self) -> String {
        let newest = self.records().pop();
        newest.map_or("0".into(), |r| format!("{}.{}", r.number, r.decisions.len()))
    }

    pub fn send_request_with(
        &mut self,
        verb: Verb,
        if_decision: &str,
        change: impl FnOnce(&mut RolloutRequestSpec),
    ) -> String {
        let (uid, resource_version) = (self.next_uid(), self.next_resource_version());
        let mut spec: RolloutRequestSpec = serde_json::from_value(json!({
            "modelDeployment": "fraud", "verb": verb, "ifDecision": if_decision,
            "requestedBy": "alice", "reason": "latency",
        }))
        .unwrap();
        change(&mut spec);
        let name = format!("fraud-{uid}");
        self.observed.requests.push(Request {
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

    pub fn find_answer(&self, name: &str) -> RolloutRequestStatus {
        self.observed
            .requests
            .iter()
            .find(|r| r.name == name)
            .unwrap()
            .status
            .clone()
            .unwrap_or_default()
    }

    /// Runs `kubectl rollout undo` to the revision of an earlier rollout: applies its stored
    /// template, with the label copied.
    pub fn kubectl_undo(&mut self, to: i64) {
        let record = self.find_record(to);
        let body = self
            .observed
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
        self.edit_deployment(|d| d["spec"]["template"] = template);
    }

    /// True if kubectl would find that rollout's template: the Deployment is not paused, and the
    /// revision is still stored.
    pub fn can_kubectl_undo(&self, to: i64) -> bool {
        let paused = self.deployment.as_ref().is_none_or(|d| d["spec"]["paused"] == json!(true));
        let records = self.records();
        let record = records.iter().find(|r| r.number == to);
        !paused
            && record
                .is_some_and(|r| self.observed.revisions.iter().any(|c| c.name == r.revision_name))
    }

    /// Deletes the Deployment, as a person would.
    pub fn lose_deployment(&mut self) {
        self.deployment = None;
        self.show_deployment();
    }

    /// Edits the Deployment, as a person would.
    pub fn edit_deployment(&mut self, change: impl FnOnce(&mut Value)) {
        let rv = self.next_resource_version();
        let deployment = self.deployment.as_mut().unwrap();
        change(deployment);
        let generation = deployment["metadata"]["generation"].as_i64().unwrap() + 1;
        deployment["metadata"]["generation"] = json!(generation);
        deployment["metadata"]["resourceVersion"] = json!(rv);
        self.show_deployment();
    }

    pub fn advance_time(&mut self, time: jiff::Span) {
        self.now = self.now.checked_add(time).unwrap();
    }

    pub fn records(&self) -> Vec<ModelRolloutSpec> {
        let mut records: Vec<_> = self.observed.records.iter().map(|r| (*r.spec).clone()).collect();
        records.sort_by_key(|r| r.number);
        records
    }

    pub fn find_record(&self, number: i64) -> ModelRolloutSpec {
        self.records()
            .into_iter()
            .find(|r| r.number == number)
            .unwrap_or_else(|| panic!("no rollout {number}"))
    }

    pub fn read_status(&self) -> ModelDeploymentStatus {
        self.observed.model_deployment.as_ref().and_then(|d| d.status.clone()).unwrap_or_default()
    }

    pub fn read_state(&self) -> State {
        self.read_status().state.unwrap()
    }

    pub fn serving_version(&self) -> String {
        self.read_status().serving.map(|s| s.version).unwrap_or_default()
    }

    /// Returns the image in the Deployment's template, which the pods run once it is rolled out.
    pub fn live_image(&self) -> String {
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

    pub fn plan_next(&self) -> Plan {
        plan::plan(&self.observed, self.now)
    }

    /// Plans with what was read live for the plan before: to ask for that again is not left to do.
    fn plan_with(&self, looked_up: Vec<Lookup>) -> Plan {
        let mut observed = self.observed.clone();
        observed.memory.looked_up.extend(looked_up);
        plan::plan(&observed, self.now)
    }

    /// Plans and applies one plan, before any controller acts.
    pub fn plan_once(&mut self) {
        self.carry_out(self.plan_next(), usize::MAX);
    }

    /// Plans and applies plans until nothing changes any more.
    pub fn settle(&mut self) {
        for _ in 0..50 {
            self.run_controllers();
            let plan = self.plan_next();
            if self.is_at_rest(&plan) {
                return;
            }
            let looked_up = self.observed.memory.looked_up.clone();
            self.carry_out(plan.clone(), usize::MAX);
            let next = self.plan_with(looked_up);
            assert!(
                wakes_operator(&plan) || self.is_at_rest(&next),
                "{next:#?}\nwas left to do, and this woke nobody:\n{plan:#?}"
            );
            self.now = self.now.checked_add(1.second()).unwrap();
        }
        panic!("it never settles: {:#?}", self.plan_next());
    }

    fn is_at_rest(&self, plan: &Plan) -> bool {
        plan.actions.iter().all(|a| self.is_told(a))
            && plan.status.is_none()
            && plan.lookups.is_empty()
    }

    /// True if an action is an Event that was emitted already: the operator emits each once.
    fn is_told(&self, action: &Action) -> bool {
        let Action::Event { reason, message, .. } = action else { return false };
        self.events.iter().any(|(r, m)| (r, m) == (reason, message))
    }

    /// Applies a plan, and stops after `writes` writes as if the process died.
    pub fn carry_out(&mut self, plan: Plan, writes: usize) {
        self.observed.memory.looked_up.clear();
        for lookup in &plan.lookups {
            self.observed.memory.looked_up.push(lookup.clone());
            if let Lookup::Deployment(_) | Lookup::Service(_) = lookup {
                self.show_deployment();
            }
        }
        let mut left = writes;
        for action in plan.actions {
            if left == 0 || !self.apply_action(action) {
                return;
            }
            left -= 1;
        }
        if left > 0
            && let Some(status) = plan.status
        {
            self.writes += 1;
            self.observed.memory.status_written = Some(self.now);
            self.observed.model_deployment.as_mut().unwrap().status = Some(status);
        }
    }

    /// Returns the main Deployment as it is observed.
    pub fn main_deployment(&self) -> Option<&plan::observed::Deployment> {
        self.observed.tracks.get(names::TRACK_MAIN)
    }
}

/// True if another pass certainly follows a plan although nobody else acts: the plan requests it,
/// Kubernetes reacts to the Deployment's spec, or a label alone carries out a decision, after which
/// the operator plans again.
fn wakes_operator(plan: &Plan) -> bool {
    let told = |path: &str| {
        path.starts_with("/spec") || path == "/metadata/labels/rollmodel.dev~1decision"
    };
    let tells = |op: &Value| op["op"] != "test" && op["path"].as_str().is_some_and(told);
    let does_wake = |action: &Action| match action {
        Action::CreateDeployment { .. } => true,
        Action::PatchDeployment { ops, .. } => ops.iter().any(tells),
        _ => false,
    };
    plan.requeue_after_seconds == Some(0)
        || !plan.lookups.is_empty()
        || plan.actions.iter().any(does_wake)
}
