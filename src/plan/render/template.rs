//! The strict reading of `spec.template`, against the schema of Kubernetes 1.37 that the API library carries.
//!
//! The schema rather than the library's types: those drop what they do not know, name no path in their errors, and refuse `cpu: 1`,
//! which the API server takes.

use std::{collections::BTreeSet, sync::LazyLock};

use k8s_openapi::{api::core::v1::PodTemplateSpec, schemars::SchemaGenerator};
use serde_json::{Map, Value};

use super::Error;
use crate::{
    api::names,
    plan::drift::{empty, nanos},
};

const ROOT: &str = "spec.template";
const QUANTITY: &str = "#/$defs/io.k8s.apimachinery.pkg.api.resource.Quantity";

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<PodTemplateSpec>().to_value();
    drop_descriptions(&mut schema);
    schema
});

/// Most of the schema is text for people.
fn drop_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(drop_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_descriptions),
        _ => {}
    }
}

/// Whether what the user wrote is a pod template that a Deployment of ours can have.
pub(super) fn check(template: &Value) -> Result<(), Error> {
    metadata(&template["metadata"])?;
    shape(&SCHEMA, template, ROOT)?;
    names_of_containers(&template["spec"])?;
    ports(&template["spec"])?;
    match template["spec"]["restartPolicy"].as_str() {
        None | Some("" | "Always") => Ok(()),
        Some(other) => Err(Error::RestartPolicy(other.to_owned())),
    }
}

fn metadata(metadata: &Value) -> Result<(), Error> {
    let fields = metadata.as_object().into_iter().flatten();
    for (name, _) in fields.filter(|(name, value)| *name != "labels" && *name != "annotations" && !empty(value)) {
        return Err(Error::Metadata(field(&format!("{ROOT}.metadata"), name)));
    }
    let labels = metadata["labels"].as_object().into_iter().flatten();
    for (name, _) in labels.filter(|(name, _)| name.strip_prefix(names::GROUP).is_some_and(|rest| rest.starts_with('/'))) {
        return Err(Error::OwnLabel(field(&format!("{ROOT}.metadata.labels"), name)));
    }
    Ok(())
}

/// Whether a value has the shape that a schema asks for, all the way down. Null is as good as absent.
fn shape(schema: &Value, value: &Value, path: &str) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    if let Some(name) = schema["$ref"].as_str() {
        let definition = name.strip_prefix('#').and_then(|pointer| SCHEMA.pointer(pointer)).unwrap_or(&Value::Null);
        return if name == QUANTITY { quantity(value, path) } else { shape(definition, value, path) };
    }
    let wrong = |wanted| Err(Error::WrongType { path: path.to_owned(), found: kind(value), wanted });
    let integer = || value.as_i64().filter(|n| schema["format"] != "int32" || i32::try_from(*n).is_ok());
    match (schema["type"].as_str().unwrap_or_default(), value) {
        ("object", Value::Object(fields)) => fields.iter().try_for_each(|(name, value)| member(schema, name, value, path)),
        ("array", Value::Array(items)) => items.iter().enumerate().try_for_each(|(i, item)| element(&schema["items"], item, &format!("{path}[{i}]"))),
        ("object", _) => wrong("an object"),
        ("array", _) => wrong("a list"),
        ("string", Value::Number(_) | Value::Bool(_)) => wrong("a string: put it in quotes"),
        ("string", other) if !other.is_string() => wrong("a string"),
        ("boolean", other) if !other.is_boolean() => wrong("true or false, without quotes"),
        ("integer", _) if integer().is_none() => wrong(if schema["format"] == "int32" { "an integer of at most 32 bits, without quotes" } else { "an integer, without quotes" }),
        ("number", other) if !other.is_number() => wrong("a number, without quotes"),
        ("", other) if schema["x-kubernetes-int-or-string"] == true && !(other.is_string() || other.is_i64()) => wrong("an integer or a string"),
        _ => Ok(()),
    }
}

fn member(schema: &Value, name: &str, value: &Value, path: &str) -> Result<(), Error> {
    let path = field(path, name);
    match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
        Some(schema) => shape(schema, value, &path),
        None if empty(value) => Ok(()),
        None => Err(Error::UnknownField(path)),
    }
}

fn element(schema: &Value, item: &Value, path: &str) -> Result<(), Error> {
    if item.is_null() {
        return Err(Error::WrongType { path: path.to_owned(), found: "null", wanted: "something: remove it" });
    }
    shape(schema, item, path)
}

fn quantity(value: &Value, path: &str) -> Result<(), Error> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match nanos(&text) {
        Some(_) => Ok(()),
        None => Err(Error::NotAQuantity { path: path.to_owned(), value: value.to_string() }),
    }
}

fn names_of_containers(spec: &Value) -> Result<(), Error> {
    // The container `model` is added where it is absent, so that its name is always taken.
    let absent = !items(&spec["containers"]).any(|c| c["name"] == names::CONTAINER);
    let mut seen: BTreeSet<&str> = absent.then_some(names::CONTAINER).into_iter().collect();
    for list in ["containers", "initContainers"] {
        for (index, container) in items(&spec[list]).enumerate() {
            let path = format!("{ROOT}.spec.{list}[{index}].name");
            match container["name"].as_str().unwrap_or_default() {
                "" => return Err(Error::Unnamed(path)),
                name if !seen.insert(name) => return Err(Error::SameName { path, name: name.to_owned() }),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A Service finds a named port in the first container that has one of that name, which has to be the model's.
fn ports(spec: &Value) -> Result<(), Error> {
    let first = items(&spec["containers"]).find(|c| c["name"] == names::CONTAINER).and_then(|c| c["ports"].get(0)?["name"].as_str());
    let Some(name) = first.filter(|name| !name.is_empty()) else { return Ok(()) };
    let others = items(&spec["containers"]).enumerate().filter(|(_, c)| c["name"] != names::CONTAINER);
    for (index, container) in others {
        if let Some(port) = items(&container["ports"]).position(|p| p["name"] == name) {
            return Err(Error::SamePort { path: format!("{ROOT}.spec.containers[{index}].ports[{port}].name"), name: name.to_owned() });
        }
    }
    Ok(())
}

/// The names of a container's ports.
pub(super) fn port_names(container: &Value) -> BTreeSet<String> {
    items(&container["ports"]).filter_map(|p| p["name"].as_str()).map(str::to_owned).collect()
}

/// Takes an object out of its parent; an empty one where there is none.
pub(super) fn object(parent: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match parent.remove(name) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Takes a list out of its parent; an empty one where there is none.
pub(super) fn list(parent: &mut Map<String, Value>, name: &str) -> Vec<Value> {
    match parent.remove(name) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A field's path as the API server writes it: names that hold dots or slashes in brackets.
fn field(path: &str, name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain { format!("{path}.{name}") } else { format!("{path}[{name}]") }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
