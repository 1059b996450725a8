//! The Deployment and the Service as values: made whole by POST, afterwards changed by one JSON
//! patch that replaces whole what differs.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Value, json};

use super::{
    blame::{Ownership, under},
    drift,
    history::DecisionLabel,
    observed::{Meta, Observed, Service, Wanted, Workload},
    render,
};
use crate::api::{
    ModelDeploymentSpec, ModelRolloutSpec,
    names::{
        self, CHANGE_CAUSE, DECISION, MANAGED_BY, MANAGER, MODEL, MODEL_DEPLOYMENT, TRACK,
        TRACK_MAIN,
    },
};

/// What the Deployment has to be.
pub struct Target<'a> {
    /// The ModelDeployment.
    pub wanted: &'a Wanted,
    /// The newest record.
    pub record: &'a ModelRolloutSpec,
    /// Its content's rendering.
    pub rendering: &'a Value,
    /// The label of the newest decision, and so whether it is paused.
    pub label: DecisionLabel,
    /// What `kubectl rollout history` prints.
    pub change_cause: String,
    /// Whether the template is left as it is: it was compared already, or admission changes it back
    /// each time.
    pub leave_template: bool,
}

/// What a Deployment and a Service select: `model-deployment` and `track`, never a version, so that
/// both outlive every rollout.
#[must_use]
pub fn selector(deployment: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MODEL_DEPLOYMENT.into(), deployment.into()),
        (TRACK.into(), TRACK_MAIN.into()),
    ])
}

/// A rendering with the time of its restart.
#[must_use]
pub fn template<'a>(rendering: &'a Value, restarted_at: Option<&str>) -> Cow<'a, Value> {
    let Some(at) = restarted_at else { return Cow::Borrowed(rendering) };
    let mut template = rendering.clone();
    template["metadata"]["annotations"][names::RESTARTED_AT] = json!(at);
    Cow::Owned(template)
}

fn owner(wanted: &Wanted, name: &str) -> Value {
    json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelDeployment", "name": name, "uid": wanted.uid,
        "controller": true, "blockOwnerDeletion": true})
}

/// The labels of ours on a child.
#[must_use]
pub fn labels(name: &str, model: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.into(), MANAGER.into()),
        (MODEL_DEPLOYMENT.into(), name.into()),
        (MODEL.into(), model.into()),
    ])
}

/// The fields of a Deployment's spec that we own besides replicas, paused and the template.
fn settings(spec: &ModelDeploymentSpec) -> Vec<(&'static str, Value)> {
    let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.clone()).unwrap_or_default();
    let bound = |value: Option<_>, default: Value| {
        value.map_or(default, |v: k8s_openapi::apimachinery::pkg::util::intstr::IntOrString| {
            json!(v)
        })
    };
    vec![
        (
            "strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {
                "maxSurge": bound(rolling.max_surge, json!("25%")), "maxUnavailable": bound(rolling.max_unavailable, json!(0))}}),
        ),
        ("minReadySeconds", json!(spec.min_ready_seconds.unwrap_or(0))),
        ("progressDeadlineSeconds", json!(spec.progress_deadline())),
        ("revisionHistoryLimit", json!(spec.history_limit())),
    ]
}

/// The whole Deployment, for a POST: always unpaused, since a paused one gets no pods.
#[must_use]
pub fn workload(seen: &Observed, target: &Target<'_>) -> Value {
    let spec = &target.wanted.spec;
    let mut labels = labels(&seen.name, &spec.model);
    labels.insert(DECISION.into(), DecisionLabel { paused: false, ..target.label }.to_string());
    let mut body = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": seen.name, "namespace": seen.namespace, "labels": labels,
            "annotations": {CHANGE_CAUSE: target.change_cause},
            "ownerReferences": [owner(target.wanted, &seen.name)],
        },
        "spec": {
            "replicas": spec.replicas,
            "selector": {"matchLabels": selector(&seen.name)},
            "template": template(target.rendering, target.record.restarted_at.as_deref()),
        },
    });
    for (field, value) in settings(spec) {
        body["spec"][field] = value;
    }
    body
}

/// The JSON patch that makes the Deployment what it has to be, empty when it is; and the paths that
/// differed.
#[must_use]
pub fn patch_workload(
    seen: &Observed,
    live: &Workload,
    target: &Target<'_>,
    ownership: &Ownership,
) -> (Vec<Value>, Vec<String>) {
    let spec = &target.wanted.spec;
    let mut labels = labels(&seen.name, &spec.model);
    labels.insert(DECISION.into(), target.label.to_string());
    let mut ops = meta_ops(&live.meta, &labels, target.wanted, &seen.name, ownership);
    let mut paths = Vec::new();
    if !target.leave_template {
        let want = template(target.rendering, target.record.restarted_at.as_deref());
        let differ =
            drift::differences(&want, &live.spec.template, &under(&live.foreign, "template."));
        if !differ.is_empty() {
            ops.push(replace("/spec/template", want.into_owned()));
            paths.extend(differ.into_iter().map(|p| format!("template.{p}")));
        }
    }
    let have = [
        ("strategy", live.spec.strategy.clone()),
        ("minReadySeconds", json!(live.spec.min_ready_seconds)),
        ("progressDeadlineSeconds", json!(live.spec.progress_deadline_seconds)),
        ("revisionHistoryLimit", json!(live.spec.revision_history_limit)),
    ];
    for ((field, want), (_, have)) in settings(spec).into_iter().zip(have) {
        if want != have {
            ops.push(add(&format!("/spec/{field}"), want));
            paths.push(field.into());
        }
    }
    if live.spec.replicas != spec.replicas {
        ops.push(replace("/spec/replicas", json!(spec.replicas)));
    }
    if live.spec.paused != target.label.paused {
        ops.push(add("/spec/paused", json!(target.label.paused)));
    }
    if live.meta.labels.get(DECISION) != labels.get(DECISION) {
        ops.extend(cause_ops(live, target));
    }
    (guarded(ops, &live.meta.uid, "/metadata/generation", json!(live.generation)), paths)
}

fn cause_ops(live: &Workload, target: &Target<'_>) -> Vec<Value> {
    if live.meta.annotations.is_empty() {
        return vec![add("/metadata/annotations", json!({CHANGE_CAUSE: target.change_cause}))];
    }
    vec![add(
        &format!("/metadata/annotations/{}", escape(CHANGE_CAUSE)),
        json!(target.change_cause),
    )]
}

/// Labels and owner of a child as they have to be.
fn meta_ops(
    live: &Meta,
    want: &BTreeMap<String, String>,
    wanted: &Wanted,
    name: &str,
    ownership: &Ownership,
) -> Vec<Value> {
    let mut ops = Vec::new();
    if *ownership == Ownership::Adoptable {
        ops.push(add("/metadata/ownerReferences", json!([owner(wanted, name)])));
    }
    let missing: Vec<_> = want.iter().filter(|(k, v)| live.labels.get(*k) != Some(v)).collect();
    if live.labels.is_empty() && !missing.is_empty() {
        ops.push(add("/metadata/labels", json!(want)));
    } else {
        ops.extend(
            missing
                .into_iter()
                .map(|(k, v)| add(&format!("/metadata/labels/{}", escape(k)), json!(v))),
        );
    }
    ops
}

/// The whole Service, for a POST.
#[must_use]
pub fn service(seen: &Observed, wanted: &Wanted, rendering: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": seen.name, "namespace": seen.namespace, "labels": labels(&seen.name, &wanted.spec.model),
            "ownerReferences": [owner(wanted, &seen.name)],
        },
        "spec": {"type": service_type(&wanted.spec), "selector": selector(&seen.name), "ports": [service_port(&wanted.spec, rendering)]},
    })
}

fn service_type(spec: &ModelDeploymentSpec) -> Value {
    json!(spec.service.as_ref().and_then(|s| s.type_).unwrap_or_default())
}

fn service_port(spec: &ModelDeploymentSpec, rendering: &Value) -> Value {
    let port = render::port(rendering);
    let number = spec.service.as_ref().and_then(|s| s.port).unwrap_or(80);
    json!({"name": port.name, "port": number, "protocol": "TCP", "targetPort": port.name})
}

/// The JSON patch that makes the Service what it has to be, empty when it is. Ports that nodes gave
/// are kept.
#[must_use]
pub fn patch_service(
    seen: &Observed,
    live: &Service,
    wanted: &Wanted,
    rendering: &Value,
    ownership: &Ownership,
) -> Vec<Value> {
    let mut ops = meta_ops(
        &live.meta,
        &labels(&seen.name, &wanted.spec.model),
        wanted,
        &seen.name,
        ownership,
    );
    if live.selector != selector(&seen.name) {
        ops.push(add("/spec/selector", json!(selector(&seen.name))));
    }
    let (want, type_) = (service_port(&wanted.spec, rendering), service_type(&wanted.spec));
    let same = |have: &Value| {
        ["name", "port", "protocol", "targetPort"].iter().all(|f| have[*f] == want[*f])
    };
    if live.ports.len() != 1 || !live.ports.iter().all(same) {
        ops.push(add("/spec/ports", json!([want])));
    }
    if type_ != json!(live.type_) {
        ops.push(add("/spec/type", type_));
    }
    guarded(ops, &live.meta.uid, "/metadata/resourceVersion", json!(live.meta.resource_version))
}

/// The same operations behind tests that it is still the object, and the state of it, that was
/// seen.
fn guarded(ops: Vec<Value>, uid: &str, version_path: &str, version: Value) -> Vec<Value> {
    if ops.is_empty() {
        return ops;
    }
    let mut all = vec![test("/metadata/uid", json!(uid)), test(version_path, version)];
    all.extend(ops);
    all
}

/// A JSON Patch `test`.
#[must_use]
pub fn test(path: &str, value: Value) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

/// A JSON Patch `add`.
#[must_use]
pub fn add(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

fn replace(path: &str, value: Value) -> Value {
    json!({"op": "replace", "path": path, "value": value})
}

/// A key as a JSON Pointer segment (RFC 6901).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
