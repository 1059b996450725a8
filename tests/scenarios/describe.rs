//! A plan in lines that a person reads, and what users read of it afterwards.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rollmodel::{
    api::{
        ModelRolloutSpec,
        rollout::{Direction, Scope},
    },
    plan::{
        Action, Lookup, Plan, Prunable,
        action::Purpose,
        registry::{RegistryAction, RegistryPlan},
    },
    run::case::{Case, CasePlan},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the plan does, a line each.
pub fn actions(case: &Case, plan: &CasePlan) -> Vec<String> {
    match plan {
        CasePlan::Deployment(plan) => of_deployment(case, plan),
        CasePlan::Registry(plan) => of_registry(plan),
    }
}

fn of_deployment(case: &Case, plan: &Plan) -> Vec<String> {
    let lookups = plan.lookups.iter().map(|lookup| match lookup {
        Lookup::Revision(name) => format!("read live: ControllerRevision {name}"),
        Lookup::Records => "read live: every record".into(),
        Lookup::ReplicaSets => "read live: the ReplicaSets of the Deployment".into(),
        Lookup::Deployment(_) => "read live: the Deployment".into(),
        Lookup::Service(_) => "read live: the Service".into(),
    });
    let actions = plan.actions.iter().map(|action| line(case, action));
    let status = plan.status.iter().map(|_| "write status".into());
    lookups.chain(actions).chain(status).chain(again(plan.requeue_after_seconds)).collect()
}

fn of_registry(plan: &RegistryPlan) -> Vec<String> {
    let hear = plan.hear.then(|| "read live: what the importer's pods said last".into());
    let actions = plan.actions.iter().map(|action| match action {
        RegistryAction::CreateDeployment { body } => {
            format!(
                "create Deployment {}: {}",
                word(&body["metadata"]["name"]),
                pods(&body["spec"])
            )
        }
        RegistryAction::PatchDeployment { name, ops } => {
            format!("patch Deployment {name}: {}", changes(ops))
        }
    });
    let status = plan.conditions.iter().map(|_| "write status".into());
    hear.into_iter().chain(actions).chain(status).chain(again(plan.requeue_after_seconds)).collect()
}

fn again(seconds: Option<i64>) -> Option<String> {
    seconds.map(|seconds| match seconds {
        0 => "plan again at once".into(),
        _ => format!("plan again after {seconds} s"),
    })
}

/// Whether a line is more than status and time.
pub fn acts(line: &str) -> bool {
    line != "write status" && !line.starts_with("plan again")
}

fn line(case: &Case, action: &Action) -> String {
    match action {
        Action::StoreRevision { body, .. } => {
            format!("store revision: version {}", version(&body.rendering))
        }
        Action::CreateRecord { spec } => format!("create record {}", record(case, spec)),
        Action::AmendRecord { name, ops, .. } => {
            let number = name.rsplit('-').next().unwrap_or(name);
            format!("amend record {number}: {}", changes(ops))
        }
        Action::CreateDeployment { body, .. } => {
            format!("create Deployment: {}, {}", decision(body), pods(&body["spec"]))
        }
        Action::PatchDeployment { purpose, reverts, ops, .. } => {
            let verb = match purpose {
                Purpose::Settings => "patch settings of Deployment",
                Purpose::Decision(_) if reverts.is_empty() => "patch Deployment",
                Purpose::Decision(_) => "revert changes of Deployment",
            };
            format!("{verb}: {}", changes(ops))
        }
        Action::CreateService { body, .. } => {
            let spec = &body["spec"];
            format!("create Service: {}, port {}", word(&spec["type"]), spec["ports"][0]["port"])
        }
        Action::PatchService { ops, .. } => format!("patch Service: {}", changes(ops)),
        Action::AnswerRequest { name, status } => {
            let result = status.result.map(|result| format!("{result:?}")).unwrap_or_default();
            let rollout = status.rollout.map(|n| format!(", rollout {n}")).unwrap_or_default();
            let message = status.message.as_deref().unwrap_or_default();
            format!("answer request {name}: {result}{rollout}: {message}")
        }
        Action::Delete { kind, name, .. } => deleted(case, *kind, name),
        Action::Event { warning, reason, message, .. } => {
            let kind = if *warning { "Warning" } else { "Normal" };
            format!("event {kind} {reason}: {message}")
        }
    }
}

fn record(case: &Case, spec: &ModelRolloutSpec) -> String {
    let by = &spec.decided_by;
    let back = if spec.direction == Direction::Back { "back to " } else { "" };
    let mut line = format!("{}: {back}version {}", spec.number, spec.version);
    line.push_str(&format!(", {:?} by {}", spec.trigger, by.name));
    if by.verified {
        line.push_str(" (verified)");
    }
    if let Some(rejects) = &spec.rejects {
        let records = case.observed.iter().flat_map(|observed| &observed.records);
        let rejected = records.map(|r| &r.spec).find(|r| r.number == rejects.rollout);
        let version = rejected.map_or("?", |r| r.version.as_str());
        line.push_str(&match rejects.scope {
            Scope::Version => format!(", rejects version {version}"),
            Scope::Content => format!(", rejects the content of version {version}"),
            Scope::Revision => format!(", rejects the revision of version {version}"),
        });
    }
    if let Some(at) = &spec.restarted_at {
        line.push_str(&format!(", restarted at {at}"));
    }
    line
}

fn deleted(case: &Case, kind: Prunable, name: &str) -> String {
    let revisions = case.observed.iter().flat_map(|observed| &observed.revisions);
    let rendering = revisions.filter(|c| c.name == name).find_map(|c| c.body.as_ref());
    match rendering.map(|body| version(&body.rendering)).filter(|version| !version.is_empty()) {
        Some(version) => format!("delete {kind:?} of version {version}"),
        None => format!("delete {kind:?} {name}"),
    }
}

/// JSON Patch operations in words, without their tests.
fn changes(ops: &[Value]) -> String {
    let told: Vec<String> = ops.iter().filter(|op| op["op"] != "test").filter_map(change).collect();
    told.join(", ")
}

fn change(op: &Value) -> Option<String> {
    let (path, value) = (word(&op["path"]), &op["value"]);
    let field = path.trim_start_matches("/spec/").trim_start_matches("/metadata/");
    Some(match field {
        "template" => format!("template of {}", template(value)),
        "labels/rollmodel.dev~1decision" => format!("decision {}", word(value)),
        // The words of these are those of the record.
        "annotations/kubernetes.io~1change-cause" => "change cause".into(),
        "message" | "endTime" => return None,
        field if field.starts_with("decisions") => {
            let decision = items(value).last().unwrap_or(value);
            format!("{} by {}", word(&decision["verb"]), word(&decision["decidedBy"]["name"]))
        }
        field if op["op"] == "remove" => format!("no {field}"),
        field => format!("{field} {}", word(value)),
    })
}

/// The pods of a Deployment: how many, and what is special about them.
fn pods(spec: &Value) -> String {
    let template = template(&spec["template"]);
    if template.is_empty() {
        return format!("{} pods", spec["replicas"]);
    }
    format!("{} pods of {template}", spec["replicas"])
}

/// A pod template: its version, when it was restarted, and how an artifact gets into it.
fn template(template: &Value) -> String {
    let mut facts = vec![format!("version {}", version(template))];
    let restarted = &template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"];
    facts.extend(restarted.as_str().map(|at| format!("restarted at {at}")));
    let spec = &template["spec"];
    for container in items(&spec["initContainers"]) {
        let args: Vec<String> = items(&container["args"]).iter().map(word).collect();
        facts.push(format!("init container {}: {}", word(&container["name"]), args.join(" ")));
    }
    for mount in items(&spec["containers"][0]["volumeMounts"]) {
        let inside = mount["subPath"].as_str().map(|path| format!("/{path}")).unwrap_or_default();
        let (name, path) = (word(&mount["name"]), word(&mount["mountPath"]));
        facts.push(format!("model mounts {name}{inside} at {path}"));
    }
    for volume in items(&spec["volumes"]) {
        let (name, source) = (word(&volume["name"]), volume.as_object().into_iter().flatten());
        let source: Vec<String> = source
            .filter(|(key, _)| *key != "name")
            .map(|(kind, from)| {
                let keys = ["claimName", "secretName", "reference"];
                let from = keys.iter().find_map(|key| from[*key].as_str()).unwrap_or_default();
                format!("{kind} {from}").trim_end().to_owned()
            })
            .collect();
        facts.push(format!("volume {name}: {}", source.join(", ")));
    }
    short(&facts.join(", "))
}

fn version(template: &Value) -> String {
    word(&template["metadata"]["labels"]["rollmodel.dev/version"])
}

fn decision(object: &Value) -> String {
    format!("decision {}", word(&object["metadata"]["labels"]["rollmodel.dev/decision"]))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text as it is, anything else as JSON.
fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text with eight digits of each hash in it.
fn short(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split("sha256").enumerate() {
        if index == 0 {
            out.push_str(part);
            continue;
        }
        let hex = part.chars().skip(1).take_while(char::is_ascii_hexdigit).count();
        out.push_str("sha256");
        match hex {
            64 => out.push_str(&format!("{}…{}", &part[..9], &part[65..])),
            _ => out.push_str(part),
        }
    }
    out
}

/// What users read of an object.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The state; none of a ModelRegistry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The conditions that tools decide by, as `Ready=False Rolling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<String>,
}

impl Status {
    /// Its fields by their keys, in their order.
    pub fn fields(&self) -> [(&'static str, Option<&String>); 3] {
        [
            ("state", self.state.as_ref()),
            ("message", self.message.as_ref()),
            ("conditions", self.conditions.as_ref()),
        ]
    }
}

/// What users read once the plan is carried out.
pub fn status(case: &Case, plan: &CasePlan) -> Status {
    match plan {
        CasePlan::Deployment(plan) => {
            let wanted =
                case.observed.as_ref().and_then(|observed| observed.model_deployment.as_ref());
            let written = wanted.and_then(|wanted| wanted.status.as_ref());
            let Some(status) = plan.status.as_ref().or(written) else { return Status::default() };
            Status {
                state: status.state.map(|state| format!("{state:?}")),
                message: status.message.clone(),
                conditions: conditions(&status.conditions),
            }
        }
        CasePlan::Registry(plan) => {
            let all = plan.conditions.as_deref().unwrap_or_default();
            let ready = all.iter().find(|condition| condition.type_ == "Ready");
            let message = ready.map(|ready| ready.message.clone());
            Status { state: None, message, conditions: conditions(all) }
        }
    }
}

/// The conditions that tools decide by: Reconciling and Progressing say no more than Ready, and
/// Available speaks of the pods alone.
fn conditions(all: &[Condition]) -> Option<String> {
    let told =
        ["Ready", "Stalled", "Paused", "Held", "AutoscaledChild", "AdmissionPoliciesMissing"];
    let told = told.iter().filter_map(|type_| all.iter().find(|c| c.type_ == *type_));
    let told: Vec<String> =
        told.map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect();
    (!told.is_empty()).then(|| told.join(", "))
}
