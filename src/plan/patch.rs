//! JSON Patches (RFC 6902): their operations, and the tests that come before them.

use serde_json::{Value, json};

/// A JSON Patch `test`.
fn test_op(path: &str, value: Value) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

/// A JSON Patch `add`.
#[must_use]
pub fn add_op(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

/// A JSON Patch `replace`.
#[must_use]
pub fn replace_op(path: &str, value: Value) -> Value {
    json!({"op": "replace", "path": path, "value": value})
}

/// A key as a segment of a JSON Pointer (RFC 6901).
#[must_use]
pub fn escape_key(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Puts tests before operations: the object has the observed uid and is in the observed state.
/// `state` is the metadata field that identifies a state. An empty list stays empty.
fn guard_state(uid: &str, state: &str, value: Value, ops: Vec<Value>) -> Vec<Value> {
    if ops.is_empty() {
        return ops;
    }
    let mut all =
        vec![test_op("/metadata/uid", json!(uid)), test_op(&format!("/metadata/{state}"), value)];
    all.extend(ops);
    all
}

/// Puts tests of uid and generation before the operations of a Deployment's patch, because its
/// status may have changed since. An empty list stays empty.
#[must_use]
pub fn guard_generation(uid: &str, generation: i64, ops: Vec<Value>) -> Vec<Value> {
    guard_state(uid, "generation", json!(generation), ops)
}

/// Puts tests of uid and resourceVersion before the operations of a patch. An empty list stays
/// empty.
#[must_use]
pub fn guard_version(uid: &str, resource_version: &str, ops: Vec<Value>) -> Vec<Value> {
    guard_state(uid, "resourceVersion", json!(resource_version), ops)
}
