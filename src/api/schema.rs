//! The CRDs in `crds/`, generated from the Rust types. This file adds what the derive macro cannot
//! express, for every kind in the same way:
//!
//! - `nullable` is removed: an optional field is left out, and the API server must never store
//!   `null`, because it would change digests.
//! - Immutability is generated as one rule per field at spec level, so that fields that are added
//!   later are immutable too.
//! - `status` has the default `{observedGeneration: -1}`, so that no tool takes an empty status for
//!   a settled one.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{
    ModelDeployment, ModelPolicy, ModelRegistry, ModelRollout, ModelVersion, RolloutRequest, names,
    rollout, version::MUTABLE,
};

/// Error of a CRD that could not be generated from its type.
#[derive(Debug, thiserror::Error)]
#[error("make the CRD of {kind}: {source}; fix the type in src/api")]
pub struct Error {
    kind: &'static str,
    source: serde_json::Error,
}

/// Builds every CRD, as pairs of its file name in `crds/` and its value, in the order in which they
/// are applied.
///
/// # Errors
///
/// Fails if a generated CRD cannot be serialized.
pub fn build_crds() -> Result<Vec<(&'static str, Value)>, Error> {
    Ok(vec![
        (
            "modelversions.yaml",
            complete_crd("ModelVersion", ModelVersion::crd(), choose_version_rule)?,
        ),
        (
            "modeldeployments.yaml",
            complete_crd("ModelDeployment", ModelDeployment::crd(), |_| None)?,
        ),
        (
            "modelrollouts.yaml",
            complete_crd("ModelRollout", ModelRollout::crd(), choose_record_rule)?,
        ),
        (
            "rolloutrequests.yaml",
            complete_crd("RolloutRequest", RolloutRequest::crd(), choose_request_rule)?,
        ),
        ("modelpolicies.yaml", complete_crd("ModelPolicy", ModelPolicy::crd(), |_| None)?),
        ("modelregistries.yaml", complete_crd("ModelRegistry", ModelRegistry::crd(), |_| None)?),
    ])
}

/// Permitted changes of a field after the creation of its object.
#[derive(Clone, Copy)]
enum Rule {
    /// No change, addition or removal. The text says what to do instead.
    Immutable(&'static str),
    /// Added once, then immutable.
    AddedOnce,
    /// A list with keys `number` that only grows. Its items have their own rules.
    Appended,
}

fn choose_version_rule(field: &str) -> Option<Rule> {
    (!MUTABLE.contains(&field)).then_some(Rule::Immutable("register a new version instead"))
}

fn choose_request_rule(_: &str) -> Option<Rule> {
    Some(Rule::Immutable("make a new RolloutRequest instead"))
}

fn choose_record_rule(field: &str) -> Option<Rule> {
    Some(if rollout::ADDED_ONCE.contains(&field) {
        Rule::AddedOnce
    } else if rollout::APPENDED.contains(&field) {
        Rule::Appended
    } else {
        Rule::Immutable("a record is never rewritten")
    })
}

impl Rule {
    fn to_cel(self, field: &str) -> Value {
        let (rule, message) = match self {
            Self::Immutable(instead) => (
                format!(
                    "has(self.{field}) == has(oldSelf.{field}) && \
                     (!has(self.{field}) || self.{field} == oldSelf.{field})"
                ),
                format!("{field} is immutable: {instead}"),
            ),
            Self::AddedOnce => (
                format!(
                    "!has(oldSelf.{field}) || \
                     (has(self.{field}) && self.{field} == oldSelf.{field})"
                ),
                format!("{field} is written once: a record is never rewritten"),
            ),
            Self::Appended => (
                format!(
                    "!has(oldSelf.{field}) || (has(self.{field}) && \
                     oldSelf.{field}.all(o, self.{field}.exists(n, n.number == o.number)))"
                ),
                format!("{field} are appended, never removed"),
            ),
        };
        json!({
            "rule": rule,
            "message": message,
            "fieldPath": format!(".{field}"),
            "reason": "FieldValueForbidden",
        })
    }
}

fn complete_crd(
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
    add_field_rules(&mut schema["properties"]["spec"], rule);
    if let Some(status) = schema["properties"].get_mut("status") {
        status["default"] = json!({"observedGeneration": -1});
        status["properties"]["observedGeneration"]["default"] = json!(-1);
    }
    Ok(crd)
}

fn add_field_rules(spec: &mut Value, rule: impl Fn(&str) -> Option<Rule>) {
    let Some(fields) = spec["properties"].as_object() else { return };
    let rules: Vec<Value> = fields.keys().filter_map(|f| rule(f).map(|r| r.to_cel(f))).collect();
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
    // A line break inside a paragraph is that of the source file: `kubectl explain` wraps lines.
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

    /// Returns the schema of the spec or the status of a kind.
    fn schema_of(file: &str, part: &str) -> Value {
        let all = build_crds().unwrap();
        let (_, crd) = all.iter().find(|(name, _)| *name == file).unwrap();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone()
    }

    fn field_names(schema: &Value) -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    /// Returns the CEL rules of a schema for one field.
    fn rules_of(schema: &Value, field: &str) -> Vec<String> {
        let all = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        all.filter(|r| r["fieldPath"] == format!(".{field}"))
            .map(|r| r["rule"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Calls `see` with the path and the value of every schema of ours under `schema`. The schema
    /// of a condition is Kubernetes' own, so it is skipped.
    fn visit_schemas(schema: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
        see(path, schema);
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            visit_schemas(field, &format!("{path}.{name}"), see);
        }
        if schema["items"].is_object() && !path.ends_with("status.conditions") {
            visit_schemas(&schema["items"], &format!("{path}[]"), see);
        }
        if schema["additionalProperties"].is_object() {
            visit_schemas(&schema["additionalProperties"], &format!("{path}{{}}"), see);
        }
    }

    /// Lists the complaints of `see` about every schema of ours, one sentence each.
    fn collect_complaints(see: impl Fn(&str, &Value) -> Option<&'static str>) -> Vec<String> {
        let mut found = Vec::new();
        for (file, crd) in build_crds().unwrap() {
            let root = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
            for name in ["spec", "status"].into_iter().filter(|name| root[*name].is_object()) {
                visit_schemas(&root[name], &format!("{file} {name}"), &mut |path, schema| {
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
        let spec = schema_of("modelversions.yaml", "spec");
        for field in field_names(&spec) {
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
    fn a_field_that_is_added_later_is_immutable_too() {
        let mut crd = ModelVersion::crd();
        let schema =
            crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
        spec.properties.as_mut().unwrap().insert("future".into(), Default::default());
        let crd = complete_crd("ModelVersion", crd, choose_version_rule).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_eq!(rules_of(spec, "future"), [IMMUTABLE.replace(".x", ".future")]);
    }

    #[test]
    fn every_field_of_a_request_is_immutable_and_every_field_of_a_record_is_guarded() {
        let request = schema_of("rolloutrequests.yaml", "spec");
        for field in field_names(&request) {
            assert_eq!(rules_of(&request, &field), [IMMUTABLE.replace(".x", &format!(".{field}"))]);
        }
        let record = schema_of("modelrollouts.yaml", "spec");
        for field in field_names(&record) {
            assert_eq!(rules_of(&record, &field).len(), 1, "{field}");
        }
        let later = rollout::ADDED_ONCE.iter().chain(&rollout::APPENDED);
        assert!(later.clone().all(|f| record["properties"][*f].is_object()));
        assert!(later.clone().all(|f| !record["required"].as_array().unwrap().contains(&json!(f))));
    }

    #[test]
    fn a_request_names_the_decision_that_the_person_saw() {
        let spec = schema_of("rolloutrequests.yaml", "spec");
        assert!(spec["required"].as_array().unwrap().contains(&json!("ifDecision")));
        let decision = &spec["properties"]["ifDecision"];
        assert_eq!(decision["pattern"], "^(0|[1-9][0-9]{0,15})([.](0|[1-9][0-9]?))?$");
        assert_eq!((&decision["minLength"], &decision["maxLength"]), (&json!(1), &json!(32)));
    }

    #[test]
    fn every_field_has_a_description_in_a_sentence() {
        let silent = collect_complaints(|path, schema| {
            let text = schema["description"].as_str().unwrap_or_default();
            let nameless = path.ends_with("[]") || path.ends_with("{}");
            (!nameless && !text.ends_with('.')).then_some("has no sentence")
        });
        assert!(silent.is_empty(), "{silent:#?}");
    }

    #[test]
    fn every_string_list_and_map_is_bounded() {
        let unbounded = collect_complaints(|_, schema| {
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
    fn every_integer_of_a_version_is_exact_in_canonical_json() {
        // The recordDigest is taken of canonical JSON (RFC 8785), which is exact for integers up to
        // 2^53 - 1 only.
        let mut wide = Vec::new();
        visit_schemas(&schema_of("modelversions.yaml", "spec"), "spec", &mut |path, schema| {
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
    fn nothing_is_nullable_and_every_status_begins_unobserved() {
        let nullable = collect_complaints(|_, schema| {
            (!schema["nullable"].is_null()).then_some("is nullable")
        });
        assert!(nullable.is_empty(), "{nullable:?}");
        for file in ["modelversions.yaml", "modeldeployments.yaml", "rolloutrequests.yaml"] {
            let status = schema_of(file, "status");
            assert_eq!(
                (&status["default"], &status["properties"]["observedGeneration"]["default"]),
                (&json!({"observedGeneration": -1}), &json!(-1))
            );
        }
    }

    #[test]
    fn every_crd_is_small_enough_for_a_client_side_apply() {
        for (file, crd) in build_crds().unwrap() {
            assert!(crd.to_string().len() < 256 * 1024, "{file}");
        }
    }
}
