//! Everything that people, controllers and misfortune do to the cluster: one act is one line of a
//! history.

use rollmodel::{
    api::{
        deployment::Protocol,
        names,
        request::{RolloutRequestSpec, Verb},
        version::{Lifecycle, LifecycleState},
    },
    plan::observed::Request,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, NAME},
    faults::{Behavior, Code, Trouble, WriteKind},
    operator::{StaleKind, timestamp},
    others::{Addition, ScaleTarget},
    restore::Order,
};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Act {
    // The spec, as Git or a user writes it.
    Want(String),
    /// The image of the container `model` in the template.
    Image(String),
    /// The label `commit` of the template.
    Label(String),
    /// So many commits of the label, each settled.
    Commits(u8),
    /// A sidecar whose port is named `http`.
    Sidecar(bool),
    /// `volumes: [{name: v, emptydir: {}}]`: a misspelt nested field.
    Misspell(bool),
    /// `kubectl.kubernetes.io/restartedAt` in the template.
    RestartedAtInSpec(u8),
    Protocol(Protocol),
    /// Name and number of the port of the container `model`.
    Port(String, i32),
    /// Whether the port of the container `model` is UDP.
    Udp(bool),
    Scale(i32),
    SpecPaused(bool),
    HistoryLimit(i32),
    MinReadySeconds(i32),
    ProgressDeadline(i32),
    RestartLimit(i32),
    /// maxSurge and maxUnavailable.
    Bounds(i32, i32),
    /// The spec goes to that version, and after so many ticks back to what it named before.
    Detour(String, u8),
    /// The ModelDeployment is deleted with its children, and created for that model and version.
    Recreate(String, String),
    // Requests and kubectl.
    Ask(Verb),
    /// Undo to that rollout.
    UndoTo(i64),
    /// Restart with `rerender: true`.
    Rerender,
    /// Every answered request is created once more, without its answer.
    ReplayRequests,
    KubectlUndo(i64),
    KubectlRestart,
    KubectlPause(bool),
    /// Someone edits the image in the Deployment.
    EditImage,
    LoseDeployment,
    LoseRevisions,
    LoseRecords,
    /// The record of that number is deleted.
    LoseRecord(i64),
    LoseService,
    EraseStatus,
    // Versions.
    Yank(String),
    Unyank(String),
    /// The ModelVersion is deleted and created with other content.
    Rewrite(String),
    Unregister(String),
    Behave(String, Behavior),
    /// The version records an artifact without a digest, and a verification pinned one.
    Pin(String),
    /// The status that holds the pin is erased.
    LosePin(String),
    // Other controllers.
    /// The object that is scaled, and the replicas that are set again at each sync.
    Autoscaler(ScaleTarget, i32),
    DeleteAutoscaler,
    /// Another manager adds fields to the Deployment's template.
    AddFields(Addition),
    /// Something else becomes the controller of the Deployment, or gives it up.
    OtherOwner(bool),
    // The environment.
    Trouble(Trouble),
    Refuse(WriteKind, Code),
    Webhook,
    OlderCrds(bool),
    /// The environment and the API server are in order again; versions stay as they are.
    Heal,
    Reboot,
    Age,
    // The operator.
    DieAfter(u32),
    Stale(StaleKind),
    OperatorDown(bool),
    Backup,
    Restore(Order),
    // Time.
    Tick(u8),
    /// One tick in which something happens, at once or when something is due.
    Step,
    /// As `Step`, but Kubernetes' controllers and the kubelet alone: the operator is slow.
    Controllers,
    /// One pass of the operator alone: the controllers are slow.
    Pass,
    Settle,
}

impl Act {
    /// Whether nobody does anything: time passes.
    pub fn is_time(&self) -> bool {
        matches!(self, Self::Tick(_) | Self::Step | Self::Controllers | Self::Pass | Self::Settle)
    }
}

impl Cluster {
    /// Whether an act would change anything now: a search leaves out what would not.
    pub fn would_change(&self, act: &Act) -> bool {
        let Some(spec) = self.spec() else { return true };
        let lifecycle = |version: &str| {
            let found = self.versions.iter().find(|v| v.version == version)?;
            Some(found.lifecycle.as_ref()?.state)
        };
        let (faults, operator) = (&self.faults, &self.operator);
        match act {
            Act::Want(version) => spec.version != *version,
            Act::Scale(replicas) => spec.replicas != *replicas,
            Act::SpecPaused(paused) => spec.paused != *paused,
            Act::Protocol(protocol) => spec.protocol != Some(*protocol),
            Act::Yank(version) => lifecycle(version) != Some(LifecycleState::Yanked),
            Act::Unyank(version) => lifecycle(version) == Some(LifecycleState::Yanked),
            Act::Behave(version, behavior) => faults.behavior(version) != *behavior,
            Act::Trouble(trouble) => !faults.has(*trouble),
            Act::Refuse(write, code) => faults.refusals.get(write) != Some(code),
            Act::OlderCrds(older) => faults.older_crds != *older,
            Act::Heal => {
                let refused = !faults.refusals.is_empty() || faults.webhook || faults.older_crds;
                refused || !faults.trouble.is_empty()
            }
            Act::LoseRevisions => !self.revisions.is_empty(),
            Act::DieAfter(_) => operator.dies_after.is_none(),
            Act::Stale(_) => operator.stale.is_none(),
            _ => true,
        }
    }

    /// Lets one act happen, and its witness know of it.
    pub fn perform(&mut self, act: &Act) {
        if !act.is_time() {
            self.witness_act(act);
        }
        match act {
            Act::Tick(ticks) => (0..*ticks).for_each(|_| self.tick()),
            Act::Step => drop(self.advance()),
            Act::Controllers => drop(self.step_controllers()),
            Act::Pass => drop(self.step_operator()),
            Act::Settle => self.settle(),
            Act::Ask(_) | Act::UndoTo(_) | Act::Rerender | Act::ReplayRequests => {
                self.perform_request(act);
            }
            Act::KubectlUndo(_) | Act::KubectlRestart | Act::KubectlPause(_) | Act::EditImage => {
                self.perform_kubectl(act);
            }
            Act::Yank(_)
            | Act::Unyank(_)
            | Act::Rewrite(_)
            | Act::Unregister(_)
            | Act::Pin(_)
            | Act::LosePin(_)
            | Act::Behave(..) => self.perform_on_version(act),
            Act::Trouble(_)
            | Act::Refuse(..)
            | Act::Webhook
            | Act::OlderCrds(_)
            | Act::Heal
            | Act::Reboot
            | Act::Age => self.perform_fault(act),
            Act::Autoscaler(..)
            | Act::DeleteAutoscaler
            | Act::AddFields(_)
            | Act::OtherOwner(_) => self.perform_by_others(act),
            Act::DieAfter(_) | Act::Stale(_) | Act::OperatorDown(_) => {
                self.perform_on_operator(act)
            }
            Act::LoseDeployment
            | Act::LoseRevisions
            | Act::LoseRecords
            | Act::LoseRecord(_)
            | Act::LoseService
            | Act::EraseStatus
            | Act::Recreate(..)
            | Act::Backup
            | Act::Restore(_) => self.perform_on_objects(act),
            _ => self.perform_on_spec(act),
        }
    }

    fn perform_on_spec(&mut self, act: &Act) {
        match act {
            Act::Want(version) => self.edit_spec(|s| s.version = version.clone()),
            Act::Detour(version, ticks) => {
                let Some(before) = self.spec().map(|s| s.version.clone()) else { return };
                let calm = self.is_calm();
                self.edit_spec(|s| s.version = version.clone());
                self.witness_named(version);
                (0..*ticks).for_each(|_| self.tick());
                self.witness_event();
                self.witness_named(&before);
                if calm {
                    self.witness_return();
                }
                self.edit_spec(|s| s.version = before);
                self.settle();
            }
            Act::Image(image) => self.edit_template(|t| {
                edit_containers(t)[0]["image"] = json!(image);
            }),
            Act::Label(value) => {
                self.edit_template(|t| t["metadata"]["labels"]["commit"] = json!(value));
            }
            Act::Commits(count) => {
                for commit in 0..*count {
                    self.witness_event();
                    self.edit_template(|t| {
                        t["metadata"]["labels"]["commit"] = json!(format!("n{commit}"));
                    });
                    self.settle();
                }
            }
            Act::Sidecar(true) => self.edit_template(|t| {
                let ports = json!([{"name": "http", "containerPort": 9100}]);
                let sidecar = json!({"name": "metrics", "image": "metrics:1", "ports": ports});
                let containers = edit_containers(t);
                containers.truncate(1);
                containers.push(sidecar);
            }),
            Act::Sidecar(false) => self.edit_template(|t| {
                if let Some(containers) = t["spec"]["containers"].as_array_mut() {
                    containers.retain(|c| c["name"] != "metrics");
                }
            }),
            Act::Misspell(true) => self.edit_template(|t| {
                t["spec"]["volumes"] = json!([{"name": "v", "emptydir": {}}]);
            }),
            Act::Misspell(false) => self.edit_template(|t| {
                t["spec"].as_object_mut().map(|spec| spec.remove("volumes"));
            }),
            Act::RestartedAtInSpec(n) => self.edit_template(|t| {
                t["metadata"]["annotations"][names::RESTARTED_AT] =
                    json!(format!("2026-01-01T00:00:0{n}Z"));
            }),
            Act::Protocol(protocol) => self.edit_spec(|s| s.protocol = Some(*protocol)),
            Act::Udp(udp) => self.edit_template(|t| {
                let container = &mut edit_containers(t)[0];
                if container["ports"].is_null() {
                    container["ports"] = json!([{"containerPort": 8080}]);
                }
                container["ports"][0]["protocol"] = json!(if *udp { "UDP" } else { "TCP" });
            }),
            Act::Port(name, number) => self.edit_template(|t| {
                let ports = json!([{"name": name, "containerPort": number}]);
                edit_containers(t)[0]["ports"] = ports;
            }),
            _ => self.perform_on_settings(act),
        }
    }

    fn edit_template(&mut self, change: impl FnOnce(&mut Value)) {
        self.edit_spec(|s| {
            let mut template = s.template.take().unwrap_or_else(|| json!({}));
            change(&mut template);
            s.template = Some(template);
        });
    }

    fn perform_request(&mut self, act: &Act) {
        match act {
            Act::Ask(verb) => self.ask_for(*verb, |_| {}),
            Act::UndoTo(number) => self.ask_for(Verb::Undo, |s| s.to_rollout = Some(*number)),
            Act::Rerender => self.ask_for(Verb::Restart, |s| s.rerender = Some(true)),
            Act::ReplayRequests => {
                let replayed: Vec<Request> = self.requests.drain(..).collect();
                for request in replayed {
                    let (uid, resource_version) = (self.give_uid(), self.give_resource_version());
                    self.requests.push(Request { uid, resource_version, status: None, ..request });
                }
            }
            _ => unreachable!("{act:?} is no request"),
        }
        self.operator.wake();
    }

    fn ask_for(&mut self, verb: Verb, change: impl FnOnce(&mut RolloutRequestSpec)) {
        let decision = self.status().decision.unwrap_or_else(|| "0".into());
        let spec = json!({"modelDeployment": NAME, "verb": verb, "ifDecision": decision,
            "requestedBy": "alice", "reason": "latency"});
        let mut spec: RolloutRequestSpec = serde_json::from_value(spec).unwrap();
        change(&mut spec);
        let (uid, resource_version) = (self.give_uid(), self.give_resource_version());
        let created = timestamp(self.now);
        let name = format!("{NAME}-{uid}");
        self.requests.push(Request {
            name,
            uid,
            resource_version,
            created,
            generation: 1,
            spec,
            status: None,
        });
    }

    fn perform_kubectl(&mut self, act: &Act) {
        match act {
            Act::KubectlUndo(number) => {
                let history = self.history();
                let Some(record) = history.iter().find(|r| r.number == *number) else { return };
                // kubectl takes the template from the ReplicaSet.
                let hash16 = names::short_hash(&record.revision_hash).to_owned();
                let restarted_at = record.restarted_at.clone();
                let sets = &self.workload.replica_sets;
                let set = sets.iter().find(|s| {
                    s.template.label(names::REVISION) == hash16
                        && s.template.annotation(names::RESTARTED_AT) == restarted_at.as_deref()
                });
                let Some(template) = set.map(|s| (*s.template.value).clone()) else { return };
                if self.workload.deployment.as_ref().is_some_and(|d| !d.spec.paused) {
                    self.edit_deployment(|d| d["spec"]["template"] = template);
                }
            }
            Act::KubectlRestart => {
                let at = timestamp(self.now).to_string();
                if self.workload.deployment.as_ref().is_some_and(|d| !d.spec.paused) {
                    self.edit_deployment(|d| {
                        d["spec"]["template"]["metadata"]["annotations"][names::RESTARTED_AT] =
                            json!(at);
                    });
                }
            }
            Act::KubectlPause(paused) => {
                self.edit_deployment(|d| d["spec"]["paused"] = json!(paused));
            }
            Act::EditImage => self.edit_deployment(|d| {
                d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil:1");
            }),
            _ => unreachable!("{act:?} is no verb of kubectl"),
        }
    }

    fn perform_on_version(&mut self, act: &Act) {
        match act {
            Act::Yank(version) => self.set_lifecycle(version, LifecycleState::Yanked),
            Act::Unyank(version) => self.set_lifecycle(version, LifecycleState::Active),
            Act::Rewrite(version) => {
                if let Some(version) = self.version_mut(version) {
                    version.record_digest = format!("sha256:{:e>64}", version.version);
                }
            }
            Act::Unregister(version) => {
                let model = self.spec().map(|s| s.model.clone()).unwrap_or_default();
                self.versions.retain(|v| v.version != *version || v.model != model);
            }
            Act::Pin(version) => {
                if let Some(version) = self.version_mut(version) {
                    let artifact = json!({"uri": format!("s3://models/{}", version.version)});
                    version.artifact = Some(serde_json::from_value(artifact).unwrap());
                    version.pin = Some(format!("sha256:{:a>64}", version.version));
                }
            }
            Act::LosePin(version) => {
                if let Some(version) = self.version_mut(version) {
                    version.pin = None;
                }
            }
            Act::Behave(version, behavior) => {
                self.faults.behaviors.insert(version.clone(), *behavior);
                self.note_faulty_versions();
            }
            _ => unreachable!("{act:?} is nothing of a version"),
        }
        self.operator.wake();
    }

    fn set_lifecycle(&mut self, version: &str, state: LifecycleState) {
        if let Some(version) = self.version_mut(version) {
            let reason = Some("Leaks the label".into());
            version.lifecycle = Some(Lifecycle { state, reason });
        }
    }

    fn perform_fault(&mut self, act: &Act) {
        match act {
            Act::Trouble(trouble) => {
                self.faults.trouble.push(*trouble);
                if *trouble == Trouble::Quota {
                    self.workload.quota = Some(self.workload.pods.len());
                }
            }
            Act::Refuse(write, code) => drop(self.faults.refusals.insert(*write, *code)),
            Act::Webhook => {
                self.faults.webhook = true;
                self.edit_deployment(|d| d["spec"]["revisionHistoryLimit"] = json!(3));
            }
            Act::OlderCrds(older) => self.faults.older_crds = *older,
            Act::Heal => {
                self.faults.heal_environment();
                self.workload.quota = None;
            }
            Act::Reboot => self.reboot_nodes(),
            Act::Age => self.age_pods(),
            _ => unreachable!("{act:?} is no fault"),
        }
        self.operator.wake();
    }

    fn perform_on_operator(&mut self, act: &Act) {
        match act {
            Act::DieAfter(writes) => self.operator.dies_after = Some(*writes),
            Act::Stale(kind) => {
                let past = self.observe(&[]);
                self.operator.stale = Some(Box::new((*kind, past)));
            }
            Act::OperatorDown(true) => {
                self.operator.restart();
                self.operator.is_down = true;
            }
            Act::OperatorDown(false) => {
                self.operator.is_down = false;
                self.operator.wake();
            }
            _ => unreachable!("{act:?} is nothing of the operator"),
        }
    }

    fn perform_on_objects(&mut self, act: &Act) {
        match act {
            Act::LoseDeployment => self.lose_deployment(),
            Act::LoseRevisions => self.revisions.clear(),
            Act::LoseRecords => self.records.clear(),
            Act::LoseRecord(number) => self.records.retain(|r| r.spec.number != *number),
            Act::LoseService => self.service = None,
            Act::EraseStatus => {
                if let Some(object) = self.model_deployment.as_mut() {
                    object.status = None;
                }
            }
            Act::Recreate(model, version) => {
                self.model_deployment = None;
                self.collect_children();
                self.operator.wake();
                self.tick();
                self.create_model_deployment(model, version);
            }
            Act::Backup => self.take_backup(),
            Act::Restore(order) => self.restore_backup(*order),
            _ => unreachable!("{act:?} is nothing of an object"),
        }
        self.operator.wake();
    }
}

/// The containers of a template, with `model` as the first.
fn edit_containers(template: &mut Value) -> &mut Vec<Value> {
    if template["spec"]["containers"].is_null() {
        template["spec"]["containers"] = json!([{"name": "model"}]);
    }
    template["spec"]["containers"].as_array_mut().unwrap()
}
