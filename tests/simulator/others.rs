//! What other controllers do to the Deployment: an autoscaler sets its replicas, a manager adds
//! fields to its template, and an owner takes it over.

use rollmodel::{api::names, plan::drift};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{acts::Act, api_server::read_controller, cluster::Cluster, objects::Seconds};

/// The name of the HorizontalPodAutoscaler.
const AUTOSCALER: &str = "fraud-autoscaler";
/// Seconds between two syncs of an autoscaler.
pub const AUTOSCALER_PERIOD: Seconds = 15;

/// The object whose scale an autoscaler sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScaleTarget {
    /// The wrong one: the operator sets the replicas of the spec again.
    Deployment,
    ModelDeployment,
}

/// A HorizontalPodAutoscaler whose metric always asks for the same number of replicas.
#[derive(Clone, Debug, Serialize)]
pub struct Autoscaler {
    pub target: ScaleTarget,
    pub replicas: i32,
    /// When it wrote last; a sync that finds its number writes nothing.
    pub wrote: Option<Seconds>,
}

/// Fields that the manager of another controller adds to the template by server-side apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addition {
    Annotation,
    Sidecar,
    /// An env entry of the container `model`.
    Env,
}

const ADDED_ANNOTATION: &str = "mesh.example.com/injected";
const ADDED_SIDECAR: &str = "proxy";
const ADDED_ENV: &str = "REGION";

impl Addition {
    const ALL: [Self; 3] = [Self::Annotation, Self::Sidecar, Self::Env];

    fn manager(self) -> &'static str {
        match self {
            Self::Annotation => "mesh",
            Self::Sidecar => "injector",
            Self::Env => "platform",
        }
    }

    fn add_to(self, template: &mut Value) {
        match self {
            Self::Annotation => {
                template["metadata"]["annotations"][ADDED_ANNOTATION] = json!("true");
            }
            Self::Sidecar => {
                let containers = template["spec"]["containers"].as_array_mut().unwrap();
                containers.push(json!({"name": ADDED_SIDECAR, "image": "proxy:1"}));
            }
            Self::Env => {
                let env = &mut template["spec"]["containers"][0]["env"];
                let mut entries = env.as_array().cloned().unwrap_or_default();
                entries.push(json!({"name": ADDED_ENV, "value": "eu"}));
                *env = json!(entries);
            }
        }
    }

    fn is_in(self, template: &Value) -> bool {
        let is_named = |list: &Value, name: &str| {
            list.as_array().into_iter().flatten().any(|item| item["name"] == name)
        };
        let containers = &template["spec"]["containers"];
        match self {
            Self::Annotation => !template["metadata"]["annotations"][ADDED_ANNOTATION].is_null(),
            Self::Sidecar => is_named(containers, ADDED_SIDECAR),
            Self::Env => is_named(&containers[0]["env"], ADDED_ENV),
        }
    }

    /// The entry in `metadata.managedFields`.
    fn build_entry(self) -> Value {
        let container = |name: &str, fields: Value| {
            let key = json!({"name": name});
            json!({"f:spec": {"f:containers": {format!("k:{key}"): fields}}})
        };
        let template = match self {
            Self::Annotation => json!({"f:metadata": {"f:annotations": {
                format!("f:{ADDED_ANNOTATION}"): {}}}}),
            Self::Sidecar => {
                container(ADDED_SIDECAR, json!({".": {}, "f:name": {}, "f:image": {}}))
            }
            Self::Env => {
                let key = json!({"name": ADDED_ENV});
                let entry = json!({".": {}, "f:name": {}, "f:value": {}});
                container(names::CONTAINER, json!({"f:env": {format!("k:{key}"): entry}}))
            }
        };
        json!({"manager": self.manager(), "operation": "Apply", "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:template": template}}})
    }
}

/// Removes the entries of managers whose fields are gone, as the API server does.
pub fn prune_managers(body: &mut Value) {
    let template = body["spec"]["template"].clone();
    let Some(entries) = body["metadata"].get_mut("managedFields").and_then(Value::as_array_mut)
    else {
        return;
    };
    for addition in Addition::ALL.into_iter().filter(|addition| !addition.is_in(&template)) {
        entries.retain(|entry| entry["manager"] != addition.manager());
    }
    if entries.is_empty() {
        body["metadata"].as_object_mut().unwrap().remove("managedFields");
    }
}

/// True if another manager added fields to a template.
pub fn has_additions(template: &Value) -> bool {
    Addition::ALL.into_iter().any(|addition| addition.is_in(template))
}

/// The fields of other managers, as `src/run/workload.rs` reads them.
pub fn read_foreign_fields(body: &Value) -> Vec<String> {
    let entries = &body["metadata"]["managedFields"];
    let entries: Vec<_> = serde_json::from_value(entries.clone()).unwrap_or_default();
    drift::foreign_paths(&entries, names::MANAGER)
}

/// Whether the controller of a Deployment is something else than a ModelDeployment.
pub fn is_of_another_owner(body: &Value) -> bool {
    let controller = read_controller(&body["metadata"]["ownerReferences"]);
    controller.is_some_and(|c| c.kind != "ModelDeployment")
}

impl Cluster {
    pub fn perform_by_others(&mut self, act: &Act) {
        match act {
            Act::Autoscaler(target, replicas) => {
                let (target, replicas) = (*target, *replicas);
                self.autoscaler = Some(Autoscaler { target, replicas, wrote: None });
            }
            Act::DeleteAutoscaler => self.autoscaler = None,
            Act::AddFields(addition) => self.add_fields(*addition),
            Act::OtherOwner(true) => self.edit_deployment(|d| {
                d["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1",
                    "kind": "Application", "name": "shop", "uid": "uid-1", "controller": true}]);
            }),
            Act::OtherOwner(false) => self.edit_deployment(|d| {
                if is_of_another_owner(d) {
                    d["metadata"]["ownerReferences"] = json!([]);
                }
            }),
            _ => unreachable!("{act:?} is nothing of another controller"),
        }
        self.operator.wake();
    }

    fn add_fields(&mut self, addition: Addition) {
        self.edit_deployment(|d| {
            if addition.is_in(&d["spec"]["template"]) {
                return;
            }
            addition.add_to(&mut d["spec"]["template"]);
            let entries = &mut d["metadata"]["managedFields"];
            let mut all = entries.as_array().cloned().unwrap_or_default();
            all.push(addition.build_entry());
            *entries = json!(all);
        });
    }

    /// Names of autoscalers of the Deployment, as `src/run/observe.rs` lists them.
    pub fn observe_autoscalers(&self) -> Vec<String> {
        let autoscaler = self.autoscaler.as_ref();
        let is_on_child = autoscaler.is_some_and(|a| a.target == ScaleTarget::Deployment);
        is_on_child.then(|| AUTOSCALER.to_owned()).into_iter().collect()
    }

    /// The replicas that an autoscaler would write, if its target has another number. It leaves a
    /// target with 0 replicas alone.
    fn find_scaling(&self) -> Option<i32> {
        let autoscaler = self.autoscaler.as_ref()?;
        let has = match autoscaler.target {
            ScaleTarget::Deployment => self.workload.deployment.as_ref()?.spec.replicas,
            ScaleTarget::ModelDeployment => self.spec()?.replicas,
        };
        (has != 0 && has != autoscaler.replicas).then_some(autoscaler.replicas)
    }

    /// When an autoscaler writes next.
    pub fn next_scaling(&self) -> Option<Seconds> {
        self.find_scaling()?;
        let wrote = self.autoscaler.as_ref()?.wrote;
        Some(wrote.map_or(self.now, |at| at + AUTOSCALER_PERIOD))
    }

    /// A sync of the autoscaler where one is due; whether it wrote.
    pub fn sync_autoscaler(&mut self) -> bool {
        let is_due = self.next_scaling().is_some_and(|at| at <= self.now);
        let Some(replicas) = self.find_scaling().filter(|_| is_due) else { return false };
        let now = self.now;
        let Some(autoscaler) = self.autoscaler.as_mut() else { return false };
        autoscaler.wrote = Some(now);
        match autoscaler.target {
            ScaleTarget::ModelDeployment => self.edit_spec(|s| s.replicas = replicas),
            ScaleTarget::Deployment => {
                let has = self.workload.deployment.as_ref().map_or(0, |d| d.spec.replicas);
                // Kubernetes chooses which pods go.
                if let Some(protection) = self.truth.protected.as_mut() {
                    let scaled = usize::try_from((has - replicas).abs()).unwrap_or(0);
                    protection.losses_allowed += scaled;
                }
                self.edit_deployment(|d| d["spec"]["replicas"] = json!(replicas));
            }
        }
        true
    }

    /// Whether an autoscaler of the Deployment and the spec ask for different numbers: both write
    /// for as long as they do.
    pub fn is_contended(&self) -> bool {
        let wanted = self.spec().map_or(0, |s| s.replicas);
        let on_child = !self.observe_autoscalers().is_empty() && !self.has_other_owner();
        let asked = self.autoscaler.as_ref().map_or(wanted, |a| a.replicas);
        on_child && wanted != 0 && wanted != asked && !self.operator.is_down
    }

    /// Whether an autoscaler takes pods away again and again that the spec asks for: a rollout that
    /// needs longer than the time between two syncs may never be complete, whatever the operator
    /// does.
    pub fn is_shrunk_by_others(&self) -> bool {
        let wanted = self.spec().map_or(0, |s| s.replicas);
        self.is_contended() && self.autoscaler.as_ref().is_some_and(|a| a.replicas < wanted)
    }

    pub fn has_other_owner(&self) -> bool {
        self.deployment.as_deref().is_some_and(is_of_another_owner)
    }

    /// The witness at rest: who interferes is reported, and what was added is taken away.
    pub fn witness_others(&mut self) {
        let conditions = self.status().conditions;
        let is_reported = conditions.iter().any(|c| c.type_ == "AutoscaledChild");
        if is_reported == self.observe_autoscalers().is_empty() {
            let sentence = format!("the condition AutoscaledChild is there: {is_reported}");
            self.violate("an-autoscaler-is-reported", sentence);
        }
        let is_conflict = conditions.iter().any(|c| c.reason == "Conflict");
        if self.has_other_owner() && !is_conflict {
            let sentence = "the Deployment has another owner, and no condition says so";
            self.violate("another-owner-is-reported", sentence);
        }
    }

    /// What another manager added to the template is gone where nothing forbids the writes.
    pub fn witness_additions(&mut self) {
        let Some(deployment) = &self.workload.deployment else { return };
        let template = &deployment.spec.template.value;
        let left = Addition::ALL.into_iter().find(|addition| addition.is_in(template));
        if let Some(addition) = left {
            let sentence = format!("{addition:?} of another manager is left in the template");
            self.violate("drift-is-reverted", sentence);
        }
    }
}
