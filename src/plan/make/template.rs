//! Strict validation of `spec.template` against the schema of Kubernetes 1.37 that the API library
//! carries.
//!
//! The schema is used rather than the library's types, because those drop unknown fields, name no
//! path in their errors, and refuse `cpu: 1`, which the API server accepts.

use std::{collections::BTreeSet, sync::LazyLock};

use k8s_openapi::{api::core::v1::PodTemplateSpec, schemars::SchemaGenerator};
use serde_json::{Map, Value};

use super::Error;
use crate::{
    api::names,
    plan::drift::{is_empty_value, parse_quantity},
};

/// Maximum size of a template in bytes of JSON: a revision is stored with its rendering, which
/// contains the template again, within 512 KiB.
pub(super) const MAX: usize = 240 * 1024;
const ROOT: &str = "spec.template";
const QUANTITY: &str = "#/$defs/io.k8s.apimachinery.pkg.api.resource.Quantity";

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema =
        SchemaGenerator::default().into_root_schema_for::<PodTemplateSpec>().to_value();
    drop_descriptions(&mut schema);
    schema
});

/// Removes the descriptions, because most of the schema is text for people.
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

/// Checks that the user's template is a pod template that a Deployment of ours can have.
pub(super) fn check_template(template: &Value) -> Result<(), Error> {
    let size = template.to_string().len();
    if size > MAX {
        return Err(Error::TooLarge(size));
    }
    check_metadata(&template["metadata"])?;
    check_shape(&SCHEMA, template, ROOT)?;
    check_container_names(&template["spec"])?;
    check_port_names(&template["spec"])?;
    match template["spec"]["restartPolicy"].as_str() {
        None | Some("" | "Always") => Ok(()),
        Some(other) => Err(Error::RestartPolicy(other.to_owned())),
    }
}

fn check_metadata(metadata: &Value) -> Result<(), Error> {
    let mut fields = metadata.as_object().into_iter().flatten();
    if let Some((name, _)) = fields
        .find(|(name, value)| *name != "labels" && *name != "annotations" && !is_empty_value(value))
    {
        return Err(Error::Metadata(join_field(&format!("{ROOT}.metadata"), name)));
    }
    let mut labels = metadata["labels"].as_object().into_iter().flatten();
    let ours =
        |name: &str| name.strip_prefix(names::GROUP).is_some_and(|rest| rest.starts_with('/'));
    match labels.find(|(name, _)| ours(name)) {
        Some((name, _)) => {
            Err(Error::OwnLabel(join_field(&format!("{ROOT}.metadata.labels"), name)))
        }
        None => Ok(()),
    }
}

/// Checks that a value has the shape of a schema, all the way down. Null is the same as absent.
fn check_shape(schema: &Value, value: &Value, path: &str) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    if let Some(name) = schema["$ref"].as_str() {
        let definition = name
            .strip_prefix('#')
            .and_then(|pointer| SCHEMA.pointer(pointer))
            .unwrap_or(&Value::Null);
        return if name == QUANTITY {
            check_quantity(value, path)
        } else {
            check_shape(definition, value, path)
        };
    }
    let wrong = |wanted| {
        Err(Error::WrongType { path: path.to_owned(), found: describe_type(value), wanted })
    };
    let integer = || if schema["format"] == "int32" { fits_int32(value) } else { value.is_i64() };
    match (schema["type"].as_str().unwrap_or_default(), value) {
        ("object", Value::Object(fields)) => {
            fields.iter().try_for_each(|(name, value)| check_member(schema, name, value, path))
        }
        ("array", Value::Array(items)) => items.iter().enumerate().try_for_each(|(i, item)| {
            check_element(&schema["items"], item, &format!("{path}[{i}]"))
        }),
        ("object", _) => wrong("an object"),
        ("array", _) => wrong("a list"),
        ("string", Value::Number(_) | Value::Bool(_)) => wrong("a string: put it in quotes"),
        ("string", other) if !other.is_string() => wrong("a string"),
        ("boolean", other) if !other.is_boolean() => wrong("true or false, without quotes"),
        ("integer", Value::String(_)) => wrong("an integer, without quotes"),
        ("integer", _) if !integer() => wrong("an integer of the field's size"),
        ("number", other) if !other.is_number() => wrong("a number, without quotes"),
        // A schema without a type is an IntOrString.
        ("", other) if !(other.is_string() || fits_int32(other)) => wrong("an integer or a string"),
        _ => Ok(()),
    }
}

fn fits_int32(value: &Value) -> bool {
    value.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
}

fn check_member(schema: &Value, name: &str, value: &Value, path: &str) -> Result<(), Error> {
    let path = join_field(path, name);
    match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
        Some(schema) => check_shape(schema, value, &path),
        None => Err(Error::UnknownField(path)),
    }
}

fn check_element(schema: &Value, item: &Value, path: &str) -> Result<(), Error> {
    if item.is_null() {
        return Err(Error::WrongType {
            path: path.to_owned(),
            found: "null",
            wanted: "something: remove it",
        });
    }
    check_shape(schema, item, path)
}

fn check_quantity(value: &Value, path: &str) -> Result<(), Error> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match parse_quantity(&text) {
        Some(_) => Ok(()),
        None => Err(Error::NotAQuantity { path: path.to_owned(), value: value.to_string() }),
    }
}

fn check_container_names(spec: &Value) -> Result<(), Error> {
    // The container `model` is added where it is absent, so that its name is always taken.
    let absent = !list_items(&spec["containers"]).any(|c| c["name"] == names::CONTAINER);
    let mut taken: BTreeSet<&str> = absent.then_some(names::CONTAINER).into_iter().collect();
    for list in ["containers", "initContainers"] {
        for (index, container) in list_items(&spec[list]).enumerate() {
            let path = format!("{ROOT}.spec.{list}[{index}].name");
            match container["name"].as_str().unwrap_or_default() {
                "" => return Err(Error::Unnamed(path)),
                name if !taken.insert(name) => {
                    return Err(Error::SameName { path, name: name.to_owned() });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Checks names of ports: a Service finds a named port in the first container that has one of that
/// name, which has to be the model's.
fn check_port_names(spec: &Value) -> Result<(), Error> {
    let first = list_items(&spec["containers"])
        .find(|c| c["name"] == names::CONTAINER)
        .and_then(|c| c["ports"].get(0)?["name"].as_str());
    let name = first.filter(|name| !name.is_empty()).unwrap_or(super::MODEL_PORT);
    let own =
        list_items(&spec["containers"]).enumerate().filter(|(_, c)| c["name"] == names::CONTAINER);
    for (index, container) in own {
        let again = list_items(&container["ports"]).skip(1).position(|p| p["name"] == name);
        if let Some(port) = again {
            return Err(Error::SamePort {
                path: format!("{ROOT}.spec.containers[{index}].ports[{}].name", port + 1),
                name: name.to_owned(),
            });
        }
    }
    let others =
        list_items(&spec["containers"]).enumerate().filter(|(_, c)| c["name"] != names::CONTAINER);
    for (index, container) in others {
        if let Some(port) = list_items(&container["ports"]).position(|p| p["name"] == name) {
            return Err(Error::SamePort {
                path: format!("{ROOT}.spec.containers[{index}].ports[{port}].name"),
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

/// Removes an object from its parent and returns it; an empty one if it is absent.
pub(super) fn take_object(parent: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match parent.remove(name) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Removes a list from its parent and returns it; an empty one if it is absent.
pub(super) fn take_list(parent: &mut Map<String, Value>, name: &str) -> Vec<Value> {
    match parent.remove(name) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn list_items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Appends a field to a path as the API server writes it: names with dots or slashes in brackets.
fn join_field(path: &str, name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain { format!("{path}.{name}") } else { format!("{path}[{name}]") }
}

fn describe_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// What is said about a template.
    fn said(template: Value) -> String {
        check_template(&template).err().map(|e| e.to_string()).unwrap_or_default()
    }

    fn container(fields: Value) -> Value {
        let mut container = json!({"name": "model"});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"spec": {"containers": [container]}})
    }

    fn large() -> Value {
        json!({
            "metadata": {"labels": {"team": "risk"}, "annotations": {"example.com/note": "a"}},
            "spec": {
                "serviceAccountName": "fraud", "hostNetwork": false, "nodeSelector": {"disk": "ssd"}, "overhead": {"cpu": 1},
                "securityContext": {"runAsUser": 1000, "supplementalGroups": [1, 2], "seccompProfile": {"type": "RuntimeDefault"}},
                "tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}], "resources": {"limits": {"cpu": "2"}},
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}},
                "volumes": [
                    {"name": "cache", "emptyDir": {"sizeLimit": "1.5Gi"}}, {"name": "config", "configMap": {"name": "c", "items": [{"key": "a", "path": "b", "mode": 420}]}},
                    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}},
                ],
                "initContainers": [{"name": "proxy", "image": "p", "restartPolicy": "Always"}],
                "containers": [{
                    "name": "model", "image": "a", "args": ["--verbose"], "tty": null, "ports": [{"name": "http", "containerPort": 9000}],
                    "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}, {"name": "B", "value": ""}],
                    "resources": {"requests": {"cpu": 1, "memory": "2Gi", "example.com/gpu": "1"}, "limits": {"cpu": 1.5, "memory": "3e9"}},
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http", "httpHeaders": [{"name": "a", "value": "b"}]}},
                }],
            },
        })
    }

    #[test]
    fn what_kubernetes_takes_is_taken() {
        let nothing = [
            Value::Null,
            json!({}),
            json!({"spec": null}),
            json!({"spec": {"containers": null}}),
            json!({"metadata": {"creationTimestamp": null}}),
        ];
        for template in nothing.into_iter().chain([large()]) {
            assert_eq!(said(template), "");
        }
    }

    #[test]
    fn what_is_taken_is_what_the_librarys_types_read() {
        let mut template = large();
        let spec = &mut template["spec"];
        spec["overhead"]["cpu"] = json!("1");
        spec["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
        serde_json::from_value::<PodTemplateSpec>(template).unwrap();
    }

    #[test]
    fn an_empty_value_says_nothing_and_an_unknown_field_is_an_error_even_where_it_is_empty() {
        assert_eq!(said(container(json!({"args": [], "resources": {"limits": null}}))), "");
        for unknown in [json!({"imagee": null}), json!({"emptydir": {}}), json!({"z": ""})] {
            let sentence = said(container(unknown.clone()));
            assert!(sentence.contains("is not a field of"), "{unknown}: {sentence}");
        }
    }

    #[test]
    fn each_mistake_is_told_by_its_path_and_what_to_do() {
        let cases = [
            (json!("text"), "spec.template is a string and has to be an object."),
            (
                json!({"spek": {"a": 1}}),
                "spec.template.spek is not a field of a Kubernetes 1.37 pod template: remove it or \
                 correct its name.",
            ),
            (
                container(json!({"imagee": "a"})),
                "spec.template.spec.containers[0].imagee is not a field of a Kubernetes 1.37 pod \
                 template: remove it or correct its name.",
            ),
            (
                container(json!({"image": 5})),
                "spec.template.spec.containers[0].image is a number and has to be a string: put it \
                 in quotes.",
            ),
            (
                container(json!({"env": [{"name": "A", "value": true}]})),
                "spec.template.spec.containers[0].env[0].value is a boolean and has to be a \
                 string: put it in quotes.",
            ),
            (
                container(json!({"env": {"A": "1"}})),
                "spec.template.spec.containers[0].env is an object and has to be a list.",
            ),
            (
                container(json!({"args": [null]})),
                "spec.template.spec.containers[0].args[0] is null and has to be something: remove \
                 it.",
            ),
            (
                container(json!({"tty": "yes"})),
                "spec.template.spec.containers[0].tty is a string and has to be true or false, \
                 without quotes.",
            ),
            (
                container(json!({"ports": [{"containerPort": "80"}]})),
                "spec.template.spec.containers[0].ports[0].containerPort is a string and has to be \
                 an integer, without quotes.",
            ),
            (
                container(json!({"ports": [{"containerPort": 9_000_000_000_i64}]})),
                "spec.template.spec.containers[0].ports[0].containerPort is a number and has to be \
                 an integer of the field's size.",
            ),
            (
                container(json!({"readinessProbe": {"httpGet": {"port": 1.5}}})),
                "spec.template.spec.containers[0].readinessProbe.httpGet.port is a number and has \
                 to be an integer or a string.",
            ),
            (
                container(json!({"resources": {"limits": {"memory": "4GB"}}})),
                "spec.template.spec.containers[0].resources.limits.memory is \"4GB\", which is not \
                 a quantity: write a number with or without a suffix, such as 500m, 2 or 4Gi.",
            ),
            (
                json!({"spec": {"resources": {"limits": {"cpu": true}}}}),
                "spec.template.spec.resources.limits.cpu is true, which is not a quantity: write a \
                 number with or without a suffix, such as 500m, 2 or 4Gi.",
            ),
            (
                json!({"spec": {"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "x"}}]}}),
                "spec.template.spec.volumes[0].emptyDir.sizeLimit is \"x\", which is not a \
                 quantity: write a number with or without a suffix, such as 500m, 2 or 4Gi.",
            ),
            (
                json!({"metadata": {"name": "fraud"}}),
                "spec.template.metadata.name cannot be set, since the metadata of a pod template \
                 holds labels and annotations only: remove it.",
            ),
            (
                json!({"metadata": {"labels": {"a/b.c": 7}}}),
                "spec.template.metadata.labels[a/b.c] is a number and has to be a string: put it \
                 in quotes.",
            ),
            (
                json!({"metadata": {"labels": {"rollmodel.dev/track": "a"}}}),
                "spec.template.metadata.labels[rollmodel.dev/track] cannot be set, since labels in \
                 rollmodel.dev/ are the operator's: remove it.",
            ),
            (
                json!({"spec": {"containers": [{"image": "a"}]}}),
                "spec.template.spec.containers[0].name is missing: name the container; the one \
                 that serves the model is named model.",
            ),
            (
                json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}),
                "spec.template.spec.containers[1].name is a, which is another container's name \
                 too: give each container its own.",
            ),
            (
                json!({"spec": {"initContainers": [{"name": "model"}]}}),
                "spec.template.spec.initContainers[0].name is model, which is another container's \
                 name too: give each container its own.",
            ),
            (
                json!({"spec": {"restartPolicy": "Never"}}),
                "spec.template.spec.restartPolicy is Never, and pods of a Deployment always \
                 restart: remove it.",
            ),
            (
                json!({"spec": {"containers": [{"name": "a", "ports": [{"name": "web", "containerPort": 1}]}, {"name": "model", "ports": [{"name": "web", "containerPort": 2}]}]}}),
                "spec.template.spec.containers[0].ports[0].name is web, the name of the port that \
                 clients talk to in container model: give it another name.",
            ),
        ];
        for (template, sentence) in cases {
            assert_eq!(said(template), sentence);
        }
    }

    #[test]
    fn a_template_too_large_to_be_stored_twice_is_told_by_its_size() {
        let of = |size: usize| container(json!({"args": ["a".repeat(size)]}));
        assert_eq!(said(of(MAX - 100)), "");
        let sentence = "spec.template has 241 KiB as JSON and may have 240: move what is large, \
                        such as data in env or args, into a ConfigMap.";
        assert_eq!(said(of(MAX)), sentence);
    }

    #[test]
    fn labels_that_only_look_like_the_operators_are_the_users() {
        assert_eq!(
            said(
                json!({"metadata": {"labels": {"rollmodel.devil/x": "a", "x.rollmodel.dev/y": "a"}}})
            ),
            ""
        );
    }

    proptest! {
        #[test]
        fn any_field_of_no_pod_template_is_found(name in "[a-z]{3}Q[a-z]{3}", deep in any::<bool>()) {
            let template = if deep { container(json!({(name.clone()): 1})) } else { json!({"spec": {(name.clone()): 1}}) };
            let sentence = format!("{name} is not a field");
            prop_assert!(said(template).contains(&sentence));
        }
    }
}
