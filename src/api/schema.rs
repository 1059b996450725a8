//! From the Rust types to the CRDs in `crds/`: what the derive cannot say is added here, for every
//! kind alike.
//!
//! - `nullable` goes: an absent field is absent, and the API server must never store `null` (it
//!   would change digests).
//! - immutability is generated, one rule a field at spec level, so that fields of the future have
//!   it too.
//! - `status` has the default `{observedGeneration: -1}`, so that nothing reads an empty status as
//!   settled.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{
    ModelDeployment, ModelPolicy, ModelRegistry, ModelRollout, ModelVersion, RolloutRequest, names,
    rollout, version::MUTABLE,
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
        ("modelversions.yaml", finish("ModelVersion", ModelVersion::crd(), version_rule)?),
        ("modeldeployments.yaml", finish("ModelDeployment", ModelDeployment::crd(), |_| None)?),
        ("modelrollouts.yaml", finish("ModelRollout", ModelRollout::crd(), record_rule)?),
        ("rolloutrequests.yaml", finish("RolloutRequest", RolloutRequest::crd(), request_rule)?),
        ("modelpolicies.yaml", finish("ModelPolicy", ModelPolicy::crd(), |_| None)?),
        ("modelregistries.yaml", finish("ModelRegistry", ModelRegistry::crd(), |_| None)?),
    ])
}

/// What may happen to a field after creation.
#[derive(Clone, Copy)]
enum Rule {
    /// Neither changed, nor added, nor removed; with what to do instead.
    Immutable(&'static str),
    /// Added once, then immutable.
    AddedOnce,
    /// A list with keys `number`, which only grows; its items guard themselves.
    Appended,
}

fn version_rule(field: &str) -> Option<Rule> {
    (!MUTABLE.contains(&field)).then_some(Rule::Immutable("register a new version instead"))
}

fn request_rule(_: &str) -> Option<Rule> {
    Some(Rule::Immutable("make a new RolloutRequest instead"))
}

fn record_rule(field: &str) -> Option<Rule> {
    Some(if rollout::ADDED_ONCE.contains(&field) {
        Rule::AddedOnce
    } else if rollout::APPENDED.contains(&field) {
        Rule::Appended
    } else {
        Rule::Immutable("a record is never rewritten")
    })
}

impl Rule {
    fn cel(self, field: &str) -> Value {
        let (rule, message) = match self {
            Self::Immutable(instead) => (
                format!(
                    "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
                ),
                format!("{field} is immutable: {instead}"),
            ),
            Self::AddedOnce => (
                format!(
                    "!has(oldSelf.{field}) || (has(self.{field}) && self.{field} == oldSelf.{field})"
                ),
                format!("{field} is written once: a record is never rewritten"),
            ),
            Self::Appended => (
                format!(
                    "!has(oldSelf.{field}) || (has(self.{field}) && oldSelf.{field}.all(o, self.{field}.exists(n, n.number == o.number)))"
                ),
                format!("{field} are appended, never removed"),
            ),
        };
        json!({"rule": rule, "message": message, "fieldPath": format!(".{field}"), "reason": "FieldValueForbidden"})
    }
}

fn finish(
    kind: &'static str,
    crd: CustomResourceDefinition,
    rule: impl Fn(&str) -> Option<Rule>,
) -> Result<Value, Error> {
    let mut crd = serde_json::to_value(crd).map_err(|source| Error { kind, source })?;
    crd["metadata"]["annotations"] =
        json!({names::SCHEMA_LEVEL: names::SCHEMA_LEVEL_NOW.to_string()});
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
    // Line breaks inside a paragraph belong to the source file, not to `kubectl explain`.
    if let Some(Value::String(text)) = map.get_mut("description") {
        let paragraphs: Vec<String> = text.split("\n\n").map(|p| p.replace('\n', " ")).collect();
        *text = paragraphs.join("\n\n");
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|v| !v.is_null());
    }
    map.values_mut().for_each(strip_nullable);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema of a kind's spec or status.
    fn part(file: &str, part: &str) -> Value {
        let all = crds().unwrap();
        let (_, crd) = all.iter().find(|(name, _)| *name == file).unwrap();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone()
    }

    fn fields(schema: &Value) -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    /// The CEL rules of a schema that speak of a field.
    fn rules_of(schema: &Value, field: &str) -> Vec<String> {
        let all = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        all.filter(|r| r["fieldPath"] == format!(".{field}"))
            .map(|r| r["rule"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Calls `see` with every schema of ours under `schema`, and its path. What a condition holds
    /// is Kubernetes' own.
    fn walk(schema: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
        see(path, schema);
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            walk(field, &format!("{path}.{name}"), see);
        }
        if schema["items"].is_object() && !path.ends_with("status.conditions") {
            walk(&schema["items"], &format!("{path}[]"), see);
        }
        if schema["additionalProperties"].is_object() {
            walk(&schema["additionalProperties"], &format!("{path}{{}}"), see);
        }
    }

    /// What is wrong with every schema of ours, by a sentence for each.
    fn complaints(see: impl Fn(&str, &Value) -> Option<&'static str>) -> Vec<String> {
        let mut found = Vec::new();
        for (file, crd) in crds().unwrap() {
            let root = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
            for name in ["spec", "status"].into_iter().filter(|name| root[*name].is_object()) {
                walk(&root[name], &format!("{file} {name}"), &mut |path, schema| {
                    found.extend(see(path, schema).map(|what| format!("{path} {what}")));
                });
            }
        }
        found
    }

    const IMMUTABLE: &str =
        "has(self.x) == has(oldSelf.x) && (!has(self.x) || self.x == oldSelf.x)";

    #[test]
    fn every_field_of_a_version_is_immutable_but_the_three_that_can_change() {
        let spec = part("modelversions.yaml", "spec");
        for field in fields(&spec) {
            let want = if MUTABLE.contains(&field.as_str()) {
                vec![]
            } else {
                vec![IMMUTABLE.replace(".x", &format!(".{field}"))]
            };
            assert_eq!(rules_of(&spec, &field), want, "{field}");
        }
        assert!(MUTABLE.iter().all(|f| spec["properties"][*f].is_object()));
    }

    #[test]
    fn a_field_of_the_future_is_immutable_too() {
        let mut crd = ModelVersion::crd();
        let schema =
            crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
        spec.properties.as_mut().unwrap().insert("future".into(), Default::default());
        let crd = finish("ModelVersion", crd, version_rule).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_eq!(rules_of(spec, "future"), [IMMUTABLE.replace(".x", ".future")]);
    }

    #[test]
    fn every_field_of_a_request_is_immutable_and_every_field_of_a_record_is_guarded() {
        let request = part("rolloutrequests.yaml", "spec");
        for field in fields(&request) {
            assert_eq!(rules_of(&request, &field), [IMMUTABLE.replace(".x", &format!(".{field}"))]);
        }
        let record = part("modelrollouts.yaml", "spec");
        for field in fields(&record) {
            assert_eq!(rules_of(&record, &field).len(), 1, "{field}");
        }
        let later = rollout::ADDED_ONCE.iter().chain(&rollout::APPENDED);
        assert!(later.clone().all(|f| record["properties"][*f].is_object()));
        assert!(later.clone().all(|f| !record["required"].as_array().unwrap().contains(&json!(f))));
    }

    #[test]
    fn a_request_names_the_decision_that_the_person_saw() {
        let spec = part("rolloutrequests.yaml", "spec");
        assert!(spec["required"].as_array().unwrap().contains(&json!("ifDecision")));
        let decision = &spec["properties"]["ifDecision"];
        assert_eq!(decision["pattern"], "^(0|[1-9][0-9]{0,15})([.](0|[1-9][0-9]?))?$");
        assert_eq!((&decision["minLength"], &decision["maxLength"]), (&json!(1), &json!(32)));
    }

    #[test]
    fn every_field_explains_itself_in_a_sentence() {
        let silent = complaints(|path, schema| {
            let text = schema["description"].as_str().unwrap_or_default();
            let nameless = path.ends_with("[]") || path.ends_with("{}");
            (!nameless && !text.ends_with('.')).then_some("has no sentence")
        });
        assert!(silent.is_empty(), "{silent:#?}");
    }

    #[test]
    fn every_string_list_and_map_is_bounded() {
        let unbounded = complaints(|_, schema| {
            let has = |keys: &[&str]| keys.iter().any(|k| !schema[*k].is_null());
            match schema["type"].as_str() {
                Some("string") if !has(&["maxLength", "enum", "format"]) => {
                    Some("is a string of any length")
                }
                Some("array") if !has(&["maxItems"]) => Some("is a list of any length"),
                Some("object") if has(&["additionalProperties"]) && !has(&["maxProperties"]) => {
                    Some("is a map of any size")
                }
                None if schema["x-kubernetes-int-or-string"] != true => Some("has no type"),
                _ => None,
            }
        });
        assert!(unbounded.is_empty(), "{unbounded:#?}");
    }

    #[test]
    fn every_integer_of_a_version_is_read_alike_by_everyone() {
        // Canonical JSON (RFC 8785), of which the recordDigest is taken, knows integers up to 2^53
        // - 1 only.
        let mut wide = Vec::new();
        walk(&part("modelversions.yaml", "spec"), "spec", &mut |path, schema| {
            let within = |bound: &str| {
                schema[bound].as_f64().is_some_and(|n| n.abs() <= 9_007_199_254_740_991.0)
            };
            if schema["type"] == "integer" && !(within("minimum") && within("maximum")) {
                wide.push(path.to_owned());
            }
        });
        assert!(wide.is_empty(), "{wide:?}");
    }

    #[test]
    fn nothing_is_nullable_and_every_status_begins_unseen() {
        let nullable =
            complaints(|_, schema| (!schema["nullable"].is_null()).then_some("is nullable"));
        assert!(nullable.is_empty(), "{nullable:?}");
        for file in ["modelversions.yaml", "modeldeployments.yaml", "rolloutrequests.yaml"] {
            let status = part(file, "status");
            assert_eq!(
                (&status["default"], &status["properties"]["observedGeneration"]["default"]),
                (&json!({"observedGeneration": -1}), &json!(-1))
            );
        }
    }

    #[test]
    fn every_crd_is_small_enough_for_a_client_side_apply() {
        for (file, crd) in crds().unwrap() {
            assert!(crd.to_string().len() < 256 * 1024, "{file}");
        }
    }
}
