//! Paths relative to one root: a Deployment's `spec`, or a pod template.
//!
//! Fields are joined by dots, whatever their names contain
//! (`template.metadata.labels.rollmodel.dev/revision`). An item of a list of maps carries its keys,
//! sorted (`containers[name=model].ports[containerPort=8080,protocol=TCP]`), an item of a set its
//! value (`[v=a]`), and any other item its index (`[0]`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::is_empty_value;

/// A place in the tree: the facts about the way there.
#[derive(Clone, Copy, Default)]
pub(super) struct Place<'a> {
    /// The field that holds the value, or the list it is an item of.
    pub field: &'a str,
    /// True if the value is a quantity.
    pub quantity: bool,
    /// True if another manager owns it as part of a whole object.
    pub owned: bool,
}

/// Reports whether a field of a pod template is a quantity, by its own name and that of the field
/// around it.
pub(in crate::plan) fn is_quantity(parent: &str, name: &str) -> bool {
    match parent {
        "requests" | "limits" | "overhead" => true,
        "emptyDir" => name == "sizeLimit",
        "resourceFieldRef" => name == "divisor",
        _ => false,
    }
}

impl Place<'_> {
    /// The place of a field of what is here.
    pub fn at_field(self, name: &str) -> Place<'_> {
        Place { field: name, quantity: is_quantity(self.field, name), owned: self.owned }
    }
}

/// Formats a string or number for a path.
pub(super) fn format_scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Formats the keys of a list's items for paths; None where an item has no key, or two have the
/// same.
pub(super) fn format_item_keys(field: &str, items: &[Value]) -> Option<Vec<String>> {
    let keys: Vec<String> =
        items.iter().map(|item| format_item_key(field, item)).collect::<Option<_>>()?;
    let distinct: BTreeSet<&String> = keys.iter().collect();
    (distinct.len() == keys.len()).then_some(keys)
}

fn format_item_key(field: &str, item: &Value) -> Option<String> {
    let names: &[&str] = match field {
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "hostAliases" => &["ip"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "ports" if item.get("containerPort").is_some() => &["containerPort", "protocol"],
        "ports" => &["port", "protocol"],
        _ => &["name"],
    };
    let pair = |name: &&str| {
        let value = item.get(*name).filter(|value| !is_empty_value(value)).and_then(format_scalar);
        let value = value.or_else(|| (*name == "protocol").then(|| "TCP".to_owned()))?;
        Some((String::from(*name), value))
    };
    Some(format_keys(names.iter().map(pair).collect::<Option<_>>()?))
}

pub(super) fn format_keys(mut pairs: Vec<(String, String)>) -> String {
    pairs.sort();
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("[{}]", pairs.join(","))
}

pub(super) fn join_path(path: &str, name: &str) -> String {
    let mut joined = path.to_owned();
    append_field(&mut joined, name);
    joined
}

/// Appends a field to a path.
pub(super) fn append_field(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}
