//! From the Rust types to the CRDs in `crds/`: what the derive cannot say is added here, for every kind alike.
//!
//! - `nullable` goes: an absent field is absent, and the API server must never store `null` (it would change digests).
//! - immutability is generated, one rule a field at spec level, so that fields of the future have it too.
//! - `status` has the default `{observedGeneration: -1}`, so that nothing reads an empty status as settled.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{
    ModelDeployment, ModelRollout, ModelVersion, RolloutRequest, names, rollout,
    version::MUTABLE,
};

/// A CRD that could not be made from its type.
#[derive(Debug, thiserror::Error)]
#[error("make the CRD of {kind}: {source}; mend the type in src/api")]
pub struct Error {
    kind: &'static str,
    source: serde_json::Error,
}

/// Every CRD as (file name in `crds/`, value), in the order they are applied.
///
/// # Errors
/// When a generated CRD does not serialize.
pub fn crds() -> Result<Vec<(&'static str, Value)>, Error> {
    Ok(vec![
        ("modelversions.yaml", finish("ModelVersion", ModelVersion::crd(), |f| (!MUTABLE.contains(&f)).then_some(Rule::Immutable))?),
        ("modeldeployments.yaml", finish("ModelDeployment", ModelDeployment::crd(), |_| None)?),
        ("modelrollouts.yaml", finish("ModelRollout", ModelRollout::crd(), record_rule)?),
        ("rolloutrequests.yaml", finish("RolloutRequest", RolloutRequest::crd(), |_| Some(Rule::Immutable))?),
    ])
}

/// What may happen to a field after creation.
#[derive(Clone, Copy)]
enum Rule {
    /// Neither changed, nor added, nor removed.
    Immutable,
    /// Added once, then immutable.
    AddedOnce,
    /// A list with keys `number`, which only grows; its items guard themselves.
    Appended,
}

fn record_rule(field: &str) -> Option<Rule> {
    Some(if rollout::ADDED_ONCE.contains(&field) {
        Rule::AddedOnce
    } else if rollout::APPENDED.contains(&field) {
        Rule::Appended
    } else {
        Rule::Immutable
    })
}

impl Rule {
    fn cel(self, field: &str) -> Value {
        let (rule, message) = match self {
            Self::Immutable => (
                format!("has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"),
                format!("{field} is immutable"),
            ),
            Self::AddedOnce => (
                format!("!has(oldSelf.{field}) || (has(self.{field}) && self.{field} == oldSelf.{field})"),
                format!("{field} is written once"),
            ),
            Self::Appended => (
                format!("!has(oldSelf.{field}) || (has(self.{field}) && oldSelf.{field}.all(o, self.{field}.exists(n, n.number == o.number)))"),
                format!("{field} are appended, never removed"),
            ),
        };
        json!({"rule": rule, "message": message, "fieldPath": format!(".{field}"), "reason": "FieldValueForbidden"})
    }
}

fn finish(kind: &'static str, crd: CustomResourceDefinition, rule: impl Fn(&str) -> Option<Rule>) -> Result<Value, Error> {
    let mut crd = serde_json::to_value(crd).map_err(|source| Error { kind, source })?;
    crd["metadata"]["annotations"] = json!({names::SCHEMA_LEVEL: names::SCHEMA_LEVEL_NOW.to_string()});
    crd["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "rollmodel"});
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    strip_nullable(schema);
    guard(&mut schema["properties"]["spec"], rule);
    if let Some(status) = schema["properties"].get_mut("status") {
        status["default"] = json!({"observedGeneration": -1});
        status["properties"]["observedGeneration"]["default"] = json!(-1);
    }
    Ok(crd)
}

fn guard(spec: &mut Value, rule: impl Fn(&str) -> Option<Rule>) {
    let Some(fields) = spec["properties"].as_object() else { return };
    let rules: Vec<Value> = fields.keys().filter_map(|f| rule(f).map(|r| r.cel(f))).collect();
    if rules.is_empty() {
        return;
    }
    match spec["x-kubernetes-validations"].as_array_mut() {
        Some(have) => have.extend(rules),
        None => spec["x-kubernetes-validations"] = Value::Array(rules),
    }
}

fn strip_nullable(value: &mut Value) {
    match value {
        Value::Object(map) => strip_object(map),
        Value::Array(items) => items.iter_mut().for_each(strip_nullable),
        _ => {}
    }
}

fn strip_object(map: &mut Map<String, Value>) {
    if map.get("nullable") == Some(&Value::Bool(true)) {
        map.remove("nullable");
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|v| !v.is_null());
    }
    map.values_mut().for_each(strip_nullable);
}
