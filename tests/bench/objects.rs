//! What is created and changed: ModelVersions, ModelDeployments, and bare Deployments of the very
//! same pods.

use futures::{StreamExt, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use rollmodel::api::{ModelDeployment, ModelVersion};
use serde_json::{Map, Value, json};

use super::harness::story;

/// Requests in flight.
const IN_FLIGHT: usize = 32;

/// The objects of a kind in a namespace.
pub fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
    let resource = match kind {
        "ModelDeployment" => ApiResource::erase::<ModelDeployment>(&()),
        "ModelVersion" => ApiResource::erase::<ModelVersion>(&()),
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        other => panic!("{other} is no kind of this benchmark"),
    };
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Creates all of them, many at once.
pub async fn create(client: &Client, namespace: &str, objects: Vec<Value>) {
    let one = |object: Value| async move {
        let api = api(client, namespace, object["kind"].as_str().unwrap());
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .expect("it is created");
    };
    stream::iter(objects).map(one).buffer_unordered(IN_FLIGHT).collect::<()>().await;
}

/// Changes one object of each name, many at once, by a merge patch or a JSON patch.
pub async fn patch(client: &Client, namespace: &str, kind: &str, names: &[String], change: &Value) {
    let api = api(client, namespace, kind);
    let one = |name: &String| {
        let (api, name) = (api.clone(), name.clone());
        async move {
            let params = PatchParams::default();
            match change {
                Value::Array(_) => {
                    let ops = serde_json::from_value(change.clone()).unwrap();
                    api.patch(&name, &params, &Patch::Json::<()>(ops)).await
                }
                _ => api.patch(&name, &params, &Patch::Merge(change)).await,
            }
            .expect("it is patched");
        }
    };
    stream::iter(names).map(one).buffer_unordered(IN_FLIGHT).collect::<()>().await;
}

/// Names of that many objects.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("model-{n:04}")).collect()
}

/// Where the bytes of a version are: by digest, as it should be.
pub fn image(version: &str) -> String {
    format!("registry.example.com/models/serve@sha256:{version:0>64}")
}

/// Versions of each model.
pub fn versions(names: &[String], versions: &[&str]) -> Vec<Value> {
    let one = |name: &String, version: &str| {
        let metrics = json!([{"name": "auc", "value": 0.91}]);
        story::version_of(
            name,
            version,
            json!({"image": image(version), "metrics": metrics, "description": "trained nightly"}),
        )
    };
    names.iter().flat_map(|name| versions.iter().map(move |version| one(name, version))).collect()
}

/// The template that users write, different in each roll after the first.
fn template(roll: usize) -> Value {
    let mut env = vec![json!({"name": "WORKERS", "value": "2"})];
    if roll > 1 {
        env.push(json!({"name": "ROLL", "value": roll.to_string()}));
    }
    let room = json!({"cpu": "10m", "memory": "16Mi"});
    json!({"spec": {"containers": [{"name": "model", "resources": {"requests": room, "limits": room}, "env": env}]}})
}

/// ModelDeployments, each of the model of its name.
pub fn deployments(names: &[String], version: &str) -> Vec<Value> {
    let spec = |name: &String| json!({"model": name, "version": version, "replicas": 2, "template": template(0)});
    names.iter().map(|name| story::deployment(name, spec(name))).collect()
}

/// The change that rolls a ModelDeployment: another version, and from the second roll on a template
/// that was not there before.
pub fn roll(roll: usize, version: &str) -> Value {
    json!({"spec": {"version": version, "template": template(roll)}})
}

/// Bare Deployments and Services, the same as these but for names and labels.
pub fn bare(names: &[String], deployment: &Value, service: &Value) -> Vec<Value> {
    let make = |name: &String| {
        let mut spec = deployment["spec"].clone();
        let of = deployment["metadata"]["name"].as_str().unwrap();
        rename(&mut spec, of, name);
        let mut ports = service["spec"]["ports"].clone();
        ports
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|p| drop(p.as_object_mut().unwrap().remove("nodePort")));
        let selector = spec["selector"]["matchLabels"].clone();
        [
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": selector, "ports": ports}}),
        ]
    };
    names.iter().flat_map(make).collect()
}

/// Names that the operator would watch become others, and values that name the ModelDeployment name
/// the bare one.
fn rename(value: &mut Value, of: &str, name: &str) {
    match value {
        Value::Object(fields) => {
            let renamed: Map<String, Value> = std::mem::take(fields)
                .into_iter()
                .map(|(field, mut inner)| {
                    rename(&mut inner, of, name);
                    (field.replace("rollmodel.dev/", "bare.example.com/"), inner)
                })
                .collect();
            *fields = renamed;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, of, name)),
        Value::String(text) if text == of => *text = name.into(),
        Value::String(text) if text == "rollmodel" => *text = "bare".into(),
        _ => {}
    }
}

/// The change that rolls a bare Deployment.
pub fn roll_bare(version: &str) -> Value {
    json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image(version)}])
}
