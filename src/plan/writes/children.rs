//! The Deployment and the Service as values: made whole by POST, afterwards changed by JSON patches
//! that replace whole what differs.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::{
    api::{
        ModelDeploymentSpec, ModelRolloutSpec,
        names::{
            self, CHANGE_CAUSE, DECISION, MANAGED_BY, MANAGER, MODEL, MODEL_DEPLOYMENT, TRACK,
            TRACK_MAIN,
        },
    },
    plan::{
        facts::{
            history::DecisionLabel,
            ownership::{Ownership, build_selector},
        },
        make::Port,
        observed::{DeploymentSpec, Meta, Observed, ObservedModelDeployment, Service},
        patch::{add_op, escape_key, guard_version},
    },
};

/// The Deployment that a rollout asks for.
pub struct DeploymentTarget<'a> {
    /// Name of the Deployment.
    pub name: &'a str,
    /// Name of its track.
    pub track: &'a str,
    /// The newest record on this Deployment.
    pub newest: &'a ModelRolloutSpec,
    /// The stored pod template of its revision.
    pub rendering: &'a Value,
    /// The label of the newest decision.
    pub label: DecisionLabel,
    /// The line that `kubectl rollout history` prints.
    pub cause: String,
}

/// A stored pod template with the track and the time of its restart, as it is applied.
#[must_use]
pub fn build_template(rendering: &Value, track: &str, restarted_at: Option<&str>) -> Value {
    let mut template = rendering.clone();
    template["metadata"]["labels"][TRACK] = json!(track);
    if let Some(at) = restarted_at {
        template["metadata"]["annotations"][names::RESTARTED_AT] = json!(at);
    }
    template
}

fn build_owner(wanted: &ObservedModelDeployment, name: &str) -> Value {
    json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelDeployment", "name": name,
        "uid": wanted.uid, "controller": true, "blockOwnerDeletion": true})
}

/// The labels of ours on a child.
#[must_use]
pub fn build_labels(name: &str, model: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.into(), MANAGER.into()),
        (MODEL_DEPLOYMENT.into(), name.into()),
        (MODEL.into(), model.into()),
    ])
}

/// The fields of a Deployment's spec that we own besides paused and the template.
fn build_settings(spec: &ModelDeploymentSpec) -> [(&'static str, Value); 5] {
    let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.clone()).unwrap_or_default();
    let bound = |value: Option<IntOrString>, default: Value| value.map_or(default, |v| json!(v));
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {
        "maxSurge": bound(rolling.max_surge, json!("25%")),
        "maxUnavailable": bound(rolling.max_unavailable, json!(0))}});
    [
        ("replicas", json!(spec.replicas)),
        ("strategy", strategy),
        ("minReadySeconds", json!(spec.min_ready_seconds.unwrap_or(0))),
        ("progressDeadlineSeconds", json!(spec.progress_deadline_seconds())),
        ("revisionHistoryLimit", json!(spec.history_limit())),
    ]
}

/// The settings that differ: field, wanted value, live value.
#[must_use]
pub fn compare_settings(
    wanted: &ObservedModelDeployment,
    live: &DeploymentSpec,
) -> Vec<(&'static str, Value, Value)> {
    let have = [
        json!(live.replicas),
        live.strategy.clone(),
        json!(live.min_ready_seconds),
        json!(live.progress_deadline_seconds),
        json!(live.revision_history_limit),
    ];
    let pairs = build_settings(&wanted.spec).into_iter().zip(have);
    pairs
        .filter(|((_, want), have)| want != have)
        .map(|((f, want), have)| (f, want, have))
        .collect()
}

/// The whole Deployment, for a POST: always unpaused, because a paused one gets no pods.
#[must_use]
pub fn build_deployment(
    observed: &Observed,
    wanted: &ObservedModelDeployment,
    target: &DeploymentTarget<'_>,
) -> Value {
    let spec = &wanted.spec;
    let mut labels = build_labels(&observed.name, &spec.model);
    labels.insert(DECISION.into(), DecisionLabel { paused: false, ..target.label }.to_string());
    let mut body = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": target.name, "namespace": observed.namespace,
            "labels": labels, "annotations": {CHANGE_CAUSE: target.cause},
            "ownerReferences": [build_owner(wanted, &observed.name)],
        },
        "spec": {
            "selector": {"matchLabels": build_selector(&observed.name, target.track)},
            "template": build_template(
                target.rendering,
                target.track,
                target.newest.restarted_at.as_deref(),
            ),
        },
    });
    for (field, value) in build_settings(spec) {
        body["spec"][field] = value;
    }
    body
}

/// The operations that set the label of the decision and the change cause.
#[must_use]
pub fn build_label_ops(live: &Meta, label: &str, cause: &str) -> Vec<Value> {
    let mut ops = build_map_ops("/metadata/labels", live.labels.is_empty(), DECISION, label);
    ops.extend(build_cause_ops(live, cause));
    ops
}

/// The operation that says what a Deployment's template is for, in `kubectl rollout history`.
#[must_use]
pub fn build_cause_ops(live: &Meta, cause: &str) -> Vec<Value> {
    // The annotations of others are not observed: only their number tells that the map is there.
    let empty = live.annotations.is_empty() && !live.has_annotations;
    build_map_ops("/metadata/annotations", empty, CHANGE_CAUSE, cause)
}

fn build_map_ops(path: &str, is_absent: bool, key: &str, value: &str) -> Vec<Value> {
    if is_absent {
        return vec![add_op(path, json!({key: value}))];
    }
    vec![add_op(&format!("{path}/{}", escape_key(key)), json!(value))]
}

/// The operations that give a child our labels and, where it is adopted, its owner.
#[must_use]
pub fn build_meta_ops(
    observed: &Observed,
    wanted: &ObservedModelDeployment,
    live: &Meta,
    ownership: &Ownership,
) -> Vec<Value> {
    let mut ops = Vec::new();
    if *ownership == Ownership::Adoptable {
        let owner = build_owner(wanted, &observed.name);
        ops.push(add_op("/metadata/ownerReferences", json!([owner])));
    }
    let want = build_labels(&observed.name, &wanted.spec.model);
    let missing: Vec<_> = want.iter().filter(|(k, v)| live.labels.get(*k) != Some(v)).collect();
    if live.labels.is_empty() && !missing.is_empty() {
        ops.push(add_op("/metadata/labels", json!(want)));
    } else {
        ops.extend(missing.into_iter().map(|(key, value)| {
            add_op(&format!("/metadata/labels/{}", escape_key(key)), json!(value))
        }));
    }
    ops
}

/// The whole Service, for a POST.
#[must_use]
pub fn build_service(
    observed: &Observed,
    wanted: &ObservedModelDeployment,
    port: &Port,
    target: &Value,
) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": observed.name, "namespace": observed.namespace,
            "labels": build_labels(&observed.name, &wanted.spec.model),
            "ownerReferences": [build_owner(wanted, &observed.name)],
        },
        "spec": {
            "type": service_type(&wanted.spec),
            "selector": build_selector(&observed.name, TRACK_MAIN),
            "ports": [build_service_port(&wanted.spec, port, target)],
        },
    })
}

fn service_type(spec: &ModelDeploymentSpec) -> Value {
    json!(spec.service.as_ref().and_then(|s| s.type_).unwrap_or_default())
}

fn build_service_port(spec: &ModelDeploymentSpec, port: &Port, target: &Value) -> Value {
    let number = spec.service.as_ref().and_then(|s| s.port).unwrap_or(80);
    json!({"name": port.name, "port": number, "protocol": "TCP", "targetPort": target})
}

/// The JSON patch that makes the Service what it has to be, empty when it is, with each value that
/// it reverts. Ports that nodes gave are kept; a value in `came_back` is left.
#[must_use]
pub fn patch_service(
    observed: &Observed,
    wanted: &ObservedModelDeployment,
    live: &Service,
    port: Option<(Port, Value)>,
    ownership: &Ownership,
    came_back: &BTreeSet<String>,
) -> (Vec<String>, Vec<Value>) {
    let mut ops = build_meta_ops(observed, wanted, &live.meta, ownership);
    let mut reverts = Vec::new();
    let mut revert = |field: &str, want: Value, have: Value| {
        let revert = format!("service.{field}={have}");
        if !came_back.contains(&revert) {
            reverts.push(revert);
            ops.push(add_op(&format!("/spec/{field}"), want));
        }
    };
    let selector = build_selector(&observed.name, TRACK_MAIN);
    if live.selector != selector {
        revert("selector", json!(selector), json!(live.selector));
    }
    if let Some((port, target)) = port {
        let want = build_service_port(&wanted.spec, &port, &target);
        let fields = ["name", "port", "protocol", "targetPort"];
        let same = |have: &Value| fields.iter().all(|f| have[*f] == want[*f]);
        if live.ports.len() != 1 || !live.ports.iter().all(same) {
            revert("ports", json!([want]), json!(live.ports));
        }
    }
    let type_ = service_type(&wanted.spec);
    if type_ != json!(live.type_) {
        revert("type", type_, json!(live.type_));
    }
    (reverts, guard_version(&live.meta.uid, &live.meta.resource_version, ops))
}
