//! Writing only what the served schemas know. While a CRD is older than this build, its schema
//! lacks fields that this build writes, and a strict write or an apply that holds one is refused
//! whole. They are left out instead, as the API server would prune them, so that going back and
//! answering requests still work.

use serde_json::Value;

/// Leaves out of an object of ours whatever its schema does not know.
pub fn prune_object(schema: &Value, object: &mut Value) {
    for part in ["spec", "status"] {
        if let (Some(known), Some(value)) = (schema["properties"].get(part), object.get_mut(part)) {
            prune_value(known, value);
        }
    }
}

fn prune_value(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| find_field(schema, name).is_some());
            for (name, value) in fields {
                if let Some(Field::Known(schema)) = find_field(schema, name) {
                    prune_value(schema, value);
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| prune_value(&schema["items"], item));
        }
        _ => {}
    }
}

/// A field that a schema knows.
enum Field<'a> {
    Known(&'a Value),
    /// Anything may be below it.
    Free,
}

fn find_field<'a>(schema: &'a Value, name: &str) -> Option<Field<'a>> {
    if let Some(known) = schema["properties"].get(name) {
        return Some(Field::Known(known));
    }
    match &schema["additionalProperties"] {
        Value::Object(_) => return Some(Field::Known(&schema["additionalProperties"])),
        Value::Bool(true) => return Some(Field::Free),
        _ => {}
    }
    (schema["x-kubernetes-preserve-unknown-fields"] == true).then_some(Field::Free)
}

/// The operations of a JSON Patch that the schema knows, and the paths of those that it does not.
#[must_use]
pub fn prune_patch(schema: &Value, ops: &[Value]) -> (Vec<Value>, Vec<String>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for op in ops {
        let path = op["path"].as_str().unwrap_or_default();
        match find_path(schema, path) {
            Some(Field::Known(schema)) => {
                let mut op = op.clone();
                if let Some(value) = op.get_mut("value") {
                    prune_value(schema, value);
                }
                known.push(op);
            }
            Some(Field::Free) => known.push(op.clone()),
            None => unknown.push(path.trim_start_matches('/').replace('/', ".")),
        }
    }
    (known, unknown)
}

fn find_path<'a>(schema: &'a Value, path: &str) -> Option<Field<'a>> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if !matches!(segments.first(), Some(&("spec" | "status"))) {
        return Some(Field::Free);
    }
    let mut at = schema;
    for segment in segments {
        at = match at.get("items") {
            Some(items) => items,
            None => match find_field(at, segment)? {
                Field::Known(known) => known,
                Field::Free => return Some(Field::Free),
            },
        };
    }
    Some(Field::Known(at))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        let decision = json!({"type": "object", "properties": {"number": {}, "verb": {}}});
        json!({"properties": {
            "metadata": {"type": "object"},
            "spec": {"properties": {
                "number": {"type": "integer"},
                "labels": {"additionalProperties": {"type": "string"}},
                "template": {"x-kubernetes-preserve-unknown-fields": true},
                "decisions": {"items": decision},
            }},
        }})
    }

    #[test]
    fn only_what_the_schema_knows_is_left_of_an_object() {
        let mut object = json!({
            "metadata": {"name": "fraud-1"},
            "spec": {"number": 1, "standsOn": [1], "labels": {"a": "b"}, "template": {"any": {"x": 1}},
                "decisions": [{"number": 1, "verb": "Pause", "until": "noon"}]},
        });
        prune_object(&schema(), &mut object);
        let left = json!({
            "metadata": {"name": "fraud-1"},
            "spec": {"number": 1, "labels": {"a": "b"}, "template": {"any": {"x": 1}},
                "decisions": [{"number": 1, "verb": "Pause"}]},
        });
        assert_eq!(object, left);
    }

    #[test]
    fn operations_on_unknown_fields_are_left_out_of_a_patch_and_named() {
        let ops = [
            json!({"op": "test", "path": "/metadata/uid", "value": "u"}),
            json!({"op": "add", "path": "/spec/servedUntil", "value": "now"}),
            json!({"op": "add", "path": "/spec/decisions", "value": [{"number": 1, "until": "noon"}]}),
            json!({"op": "add", "path": "/spec/decisions/0/verb", "value": "Pause"}),
            json!({"op": "add", "path": "/spec/decisions/0/until", "value": "noon"}),
            json!({"op": "add", "path": "/spec/template/any/x", "value": 2}),
        ];
        let (known, unknown) = prune_patch(&schema(), &ops);
        assert_eq!(unknown, ["spec.servedUntil", "spec.decisions.0.until"]);
        assert_eq!(known[1]["value"], json!([{"number": 1}]));
        assert_eq!(known.len(), 4);
    }
}
