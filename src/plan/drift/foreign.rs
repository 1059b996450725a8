//! Fields that other managers own, read from `metadata.managedFields`.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::path::{format_keys, format_scalar, join_path};

/// Maximum number of paths of other managers that are kept.
pub const FOREIGN_MAX: usize = 256;

/// Paths under `spec` that managers other than `ours` own and `ours` does not: leaves only, sorted,
/// at most [`FOREIGN_MAX`].
#[must_use]
pub fn foreign_paths(managed_fields: &[ManagedFieldsEntry], ours: &str) -> Vec<String> {
    let (mut mine, mut theirs) = (BTreeSet::new(), BTreeSet::new());
    // An entry of a subresource is a status or a scale, which is never drift.
    for entry in managed_fields
        .iter()
        .filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty())
    {
        let Some(spec) = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec")) else {
            continue;
        };
        collect_leaves(
            spec,
            "",
            if entry.manager.as_deref() == Some(ours) { &mut mine } else { &mut theirs },
        );
    }
    theirs.difference(&mine).take(FOREIGN_MAX).cloned().collect()
}

fn collect_leaves(node: &Value, path: &str, out: &mut BTreeSet<String>) {
    let children: Vec<_> =
        node.as_object().into_iter().flatten().filter(|(element, _)| *element != ".").collect();
    if children.is_empty() && !path.is_empty() {
        out.insert(path.to_owned());
    }
    for (element, child) in children {
        collect_leaves(child, &append_element(path, element), out);
    }
}

/// Appends one element of FieldsV1 to a path: `f:name`, `k:{"name":"model"}`, `v:"a"` or `i:0`.
fn append_element(path: &str, element: &str) -> String {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    match element.split_once(':') {
        Some(("f", name)) => join_path(path, name),
        Some(("k", keys)) => {
            let keys = json(keys);
            let pairs = keys
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), format_value(value)))
                .collect();
            format!("{path}{}", format_keys(pairs))
        }
        Some(("v", value)) => format!("{path}[v={}]", format_value(&json(value))),
        Some(("i", index)) => format!("{path}[{index}]"),
        _ => join_path(path, element),
    }
}

fn format_value(value: &Value) -> String {
    format_scalar(value).unwrap_or_else(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::{Map, json};

    fn entry(manager: &str, subresource: &str, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.into()),
            subresource: Some(subresource.into()),
            fields_v1: Some(FieldsV1(fields)),
            ..Default::default()
        }
    }

    #[test]
    fn managed_fields_are_read_as_paths_of_other_managers() {
        let containers = json!({"f:containers": {"k:{\"name\":\"model\"}": {
            ".": {}, "f:image": {}, "f:ports": {".": {}, "k:{\"protocol\":\"TCP\",\"containerPort\":8080}": {".": {}}},
        }}});
        let template = json!({"f:template": {
            "f:metadata": {"f:labels": {".": {}, "f:rollmodel.dev/revision": {}}}, "f:spec": containers, "f:set": {"v:\"a\"": {}, "v:1": {}, "i:0": {}},
        }});
        let entries = [
            entry("kubectl-edit", "", json!({"f:metadata": {"f:labels": {}}, "f:spec": template})),
            entry("hpa", "scale", json!({"f:spec": {"f:replicas": {}}})),
            entry("controller", "status", json!({"f:spec": {"f:paused": {}}})),
            entry(
                "rollmodel",
                "",
                json!({"f:spec": {"f:template": {"f:set": {"v:1": {}}}, "f:replicas": {}}}),
            ),
            ManagedFieldsEntry::default(),
        ];
        let paths = [
            "template.metadata.labels.rollmodel.dev/revision",
            "template.set[0]",
            "template.set[v=a]",
            "template.spec.containers[name=model].image",
            "template.spec.containers[name=model].ports[containerPort=8080,protocol=TCP]",
        ];
        assert_eq!(foreign_paths(&entries, "rollmodel"), paths);
    }

    #[test]
    fn managed_fields_that_are_odd_or_many_do_no_harm() {
        let many: Map<String, Value> = (0..1000).map(|n| (format!("f:{n}"), json!({}))).collect();
        assert_eq!(
            foreign_paths(&[entry("a", "", json!({"f:spec": many}))], "rollmodel").len(),
            FOREIGN_MAX
        );
        for odd in [json!(null), json!({"f:spec": {}}), json!({"f:spec": {".": {}}}), json!([])] {
            assert_eq!(foreign_paths(&[entry("a", "", odd)], "rollmodel"), [""; 0]);
        }
        assert_eq!(
            foreign_paths(&[entry("a", "", json!({"f:spec": {"k:{": {}, "x": 1}}))], "rollmodel"),
            ["[]", "x"]
        );
    }
}
