//! Drift: differences between a live object and the object that was written.
//!
//! The written object is compared as a subset, because the API server and admission add fields. An
//! addition that nobody else owns is not drift.
//!
//! Paths, in differences and in the fields of other managers, are written as [`path`] says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

pub use self::{
    foreign::{FOREIGN_MAX, foreign_paths},
    quantity::parse_quantity,
};

pub(in crate::plan) use path::is_quantity;
use path::{Place, append_field, format_item_keys, format_scalar};

mod foreign;
mod path;
mod quantity;

/// Numbers and flags of which the API server drops a zero, or replaces it by its default: for them,
/// absent and zero are the same.
const ZERO_IS_ABSENT: [&str; 14] = [
    "failureThreshold",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "partition",
    "periodSeconds",
    "readOnly",
    "stdin",
    "stdinOnce",
    "successThreshold",
    "timeoutSeconds",
    "tty",
];

/// Ends of paths with the default that the API server sets when nothing is written. A manager that
/// restores a backup owns these too.
const DEFAULTS: [(&str, &str); 16] = [
    ("].imagePullPolicy", "IfNotPresent"),
    ("].protocol", "TCP"),
    ("].terminationMessagePath", "/dev/termination-log"),
    ("].terminationMessagePolicy", "File"),
    (".defaultMode", "420"),
    (".fieldRef.apiVersion", "v1"),
    (".httpGet.scheme", "HTTP"),
    (".resourceFieldRef.divisor", "0"),
    ("Probe.failureThreshold", "3"),
    ("Probe.periodSeconds", "10"),
    ("Probe.successThreshold", "1"),
    ("Probe.timeoutSeconds", "1"),
    // Not those of containers and probes, which mean something else.
    ("spec.dnsPolicy", "ClusterFirst"),
    ("spec.restartPolicy", "Always"),
    ("spec.schedulerName", "default-scheduler"),
    ("spec.terminationGracePeriodSeconds", "30"),
];

/// Paths at which `live` differs from `want`, or has something that a manager of the `foreign`
/// paths added, in the order of the fields.
#[must_use]
pub fn find_differences(want: &Value, live: &Value, foreign: &[String]) -> Vec<String> {
    let foreign = foreign.iter().map(String::as_str).collect();
    let mut walk = Walk { foreign, path: String::new(), found: Vec::new() };
    walk.compare_value(Place::default(), want, live);
    walk.found
}

/// A walk through two trees. The path is written once, in one place: nearly all of what is compared
/// is equal, and has no use for a path of its own.
struct Walk<'a> {
    foreign: BTreeSet<&'a str>,
    path: String,
    found: Vec<String>,
}

impl Walk<'_> {
    fn compare_value(&mut self, at: Place<'_>, want: &Value, live: &Value) {
        if is_same_as_absent(at.field, want) {
            return self.report_extra(at, live);
        }
        let at = Place { owned: self.is_owned(at), ..at };
        match (want, live) {
            (Value::Object(want), Value::Object(live)) => self.compare_fields(at, want, live),
            (Value::Array(want), Value::Array(live)) => self.compare_items(at, want, live),
            _ if values_match(want, live, at.quantity) => {}
            _ => self.report(),
        }
    }

    fn compare_fields(
        &mut self,
        at: Place<'_>,
        want: &Map<String, Value>,
        live: &Map<String, Value>,
    ) {
        for (name, value) in want {
            let there = live.get(name).unwrap_or(&Value::Null);
            self.in_field(at, name, |walk, at| walk.compare_value(at, value, there));
        }
        for (name, value) in live.iter().filter(|(name, _)| !want.contains_key(*name)) {
            self.in_field(at, name, |walk, at| walk.report_extra(at, value));
        }
    }

    fn compare_items(&mut self, at: Place<'_>, want: &[Value], live: &[Value]) {
        let (Some(wanted), Some(there)) =
            (format_item_keys(at.field, want), format_item_keys(at.field, live))
        else {
            return self.compare_by_index(at, want, live);
        };
        let place: BTreeMap<&str, usize> =
            there.iter().enumerate().map(|(index, key)| (key.as_str(), index)).collect();
        let mut order = Vec::new();
        for (key, item) in wanted.iter().zip(want) {
            let found = place.get(key.as_str()).copied();
            order.extend(found);
            let there = found.and_then(|index| live.get(index)).unwrap_or(&Value::Null);
            self.in_item(key, |walk| walk.compare_value(at, item, there));
        }
        // Init containers run in order, and a variable can refer only to those before it.
        if !order.is_sorted() {
            self.report();
        }
        let wanted: BTreeSet<&String> = wanted.iter().collect();
        for (key, item) in there.iter().zip(live).filter(|(key, _)| !wanted.contains(key)) {
            self.in_item(key, |walk| walk.report_extra_item(at, item));
        }
    }

    fn compare_by_index(&mut self, at: Place<'_>, want: &[Value], live: &[Value]) {
        if want.len() != live.len() {
            return self.report();
        }
        for (index, (want, live)) in want.iter().zip(live).enumerate() {
            self.in_item(&format!("[{index}]"), |walk| walk.compare_value(at, want, live));
        }
    }

    /// Handles a live value that was not written: it is drift if another manager set it.
    fn report_extra(&mut self, at: Place<'_>, live: &Value) {
        // Nearly always nobody else owns anything, and then nothing that was added is drift.
        let all_ours = self.foreign.is_empty() && !at.owned;
        if all_ours || is_empty_value(live) || is_default(&self.path, live) {
            return;
        }
        if self.is_owned(at) {
            return self.report();
        }
        match live {
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.in_field(at, name, |walk, at| walk.report_extra(at, value));
                }
            }
            Value::Array(items) => {
                let keys = format_item_keys(at.field, items).unwrap_or_default();
                for (key, item) in keys.iter().zip(items) {
                    self.in_item(key, |walk| walk.report_extra_item(at, item));
                }
            }
            _ => {}
        }
    }

    /// Reports an added list item once, not field by field.
    fn report_extra_item(&mut self, at: Place<'_>, live: &Value) {
        if !is_empty_value(live)
            && (at.owned || self.foreign.iter().any(|path| path.starts_with(&self.path)))
        {
            self.report();
        }
    }

    /// Reports the place where the walk is.
    fn report(&mut self) {
        self.found.push(self.path.clone());
    }

    /// Walks into a field.
    fn in_field<'b>(
        &mut self,
        at: Place<'_>,
        name: &'b str,
        visit: impl FnOnce(&mut Self, Place<'b>),
    ) {
        let left = self.path.len();
        append_field(&mut self.path, name);
        visit(self, at.at_field(name));
        self.path.truncate(left);
    }

    /// Walks into an item of the list where the walk is.
    fn in_item(&mut self, key: &str, visit: impl FnOnce(&mut Self)) {
        let left = self.path.len();
        self.path.push_str(key);
        visit(self);
        self.path.truncate(left);
    }

    fn is_owned(&self, at: Place<'_>) -> bool {
        at.owned || self.foreign.contains(self.path.as_str())
    }
}

/// Reports whether a value is null or empty, which is the same as absent.
#[must_use]
pub fn is_empty_value(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty_value),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_same_as_absent(field: &str, want: &Value) -> bool {
    let zero = *want == Value::Bool(false) || want.as_f64() == Some(0.0);
    is_empty_value(want) || (zero && ZERO_IS_ABSENT.contains(&field))
}

fn is_default(path: &str, live: &Value) -> bool {
    // The deprecated serviceAccount mirrors serviceAccountName, which wins.
    let is = |(end, value): &(&str, &str)| {
        path.ends_with(end) && format_scalar(live).is_some_and(|live| live == *value)
    };
    path.ends_with("spec.serviceAccount") || DEFAULTS.iter().any(is)
}

fn values_match(want: &Value, live: &Value, quantity: bool) -> bool {
    if want == live {
        return true;
    }
    let (Some(a), Some(b)) = (format_scalar(want), format_scalar(live)) else {
        return false;
    };
    // One text is one value: a field's type is fixed, but for IntOrString and quantities, which may
    // be a number or a string.
    a == b
        || (quantity && parse_quantity(&a).is_some() && parse_quantity(&a) == parse_quantity(&b))
        || numbers_match(want, live)
}

fn numbers_match(want: &Value, live: &Value) -> bool {
    // Compared as floats only if one is a float, because large integers can share a float.
    let floats = want.is_f64() || live.is_f64();
    floats && want.as_f64().is_some() && want.as_f64() == live.as_f64()
}

#[cfg(test)]
mod tests;
