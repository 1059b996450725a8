//! The importer's Deployment as a value. Fields that the user wrote in `spec.template` stay; the
//! container `importer` is completed.

use serde_json::{Map, Value, json};

use super::ObservedRegistry;
use crate::{
    api::names::{MANAGED_BY, MANAGER, REGISTRY, REVISION, short_hash},
    plan::{
        drift,
        facts::{attribution::paths_below, revision},
        make::fetch_container,
        observed::Deployment,
        patch::{add_op, escape_key, guard_generation, replace_op},
    },
};

/// Name of the container that imports.
pub const CONTAINER: &str = "importer";
/// Path of the program in the image.
const PROGRAM: &str = "/rollmodel";
/// Mount path of the credentials, and the name of their volume.
const CREDENTIALS: &str = "/var/run/rollmodel/credentials";
const VOLUME: &str = "rollmodel-credentials";

/// Builds the name of a ModelRegistry's importer.
#[must_use]
pub fn build_name(registry: &str) -> String {
    format!("{registry}-importer")
}

/// Finds the ModelRegistry whose importer has that name.
#[must_use]
pub fn find_registry(deployment: &str) -> Option<&str> {
    deployment.strip_suffix("-importer").filter(|name| !name.is_empty())
}

/// Builds the complete Deployment. It runs one process at a time, because two would only do
/// everything twice.
#[must_use]
pub fn build_deployment(observed: &ObservedRegistry, image: &str) -> Value {
    let template = build_template(observed, image);
    let digest = revision::compute_digest(&template);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": build_name(&observed.name), "namespace": observed.namespace,
            "labels": {MANAGED_BY: MANAGER, REGISTRY: observed.name, REVISION: short_hash(&digest)},
            "ownerReferences": [{
                "apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelRegistry",
                "name": observed.name, "uid": observed.uid, "controller": true,
            }],
        },
        "spec": {
            "replicas": i32::from(!observed.spec.suspend),
            "strategy": {"type": "Recreate"},
            // An importer that cannot work exits within moments.
            "minReadySeconds": 5,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": {REGISTRY: observed.name}},
            "template": template,
        },
    })
}

/// Builds the operations that change a Deployment to the wanted one; none where it is up to date.
#[must_use]
pub fn build_patch(live: &Deployment, want: &Value) -> Vec<Value> {
    let mut ops = Vec::new();
    // Additions by admission are left, so that only the label shows what the user removed.
    let (label, have) = (&want["metadata"]["labels"][REVISION], live.meta.labels.get(REVISION));
    let other = label.as_str() != have.map(String::as_str);
    if other
        || !drift::find_differences(
            &want["spec"]["template"],
            &live.spec.template,
            &paths_below(&live.foreign, "template."),
        )
        .is_empty()
    {
        ops.push(replace_op("/spec/template", want["spec"]["template"].clone()));
    }
    if other {
        ops.push(add_op(&format!("/metadata/labels/{}", escape_key(REVISION)), label.clone()));
    }
    if json!(live.spec.replicas) != want["spec"]["replicas"] {
        ops.push(replace_op("/spec/replicas", want["spec"]["replicas"].clone()));
    }
    guard_generation(&live.meta.uid, live.generation, ops)
}

fn build_template(observed: &ObservedRegistry, image: &str) -> Value {
    let mut template = into_object(observed.spec.template.clone().unwrap_or_default());
    let mut metadata = into_object(template.remove("metadata").unwrap_or_default());
    let mut labels = into_object(metadata.remove("labels").unwrap_or_default());
    labels.insert(REGISTRY.into(), json!(observed.name));
    labels.insert(MANAGED_BY.into(), json!(MANAGER));
    metadata.insert("labels".into(), labels.into());
    let spec =
        complete_pod(observed, image, into_object(template.remove("spec").unwrap_or_default()));
    template.insert("metadata".into(), metadata.into());
    template.insert("spec".into(), spec.into());
    template.into()
}

fn complete_pod(
    observed: &ObservedRegistry,
    image: &str,
    mut spec: Map<String, Value>,
) -> Map<String, Value> {
    spec.insert("serviceAccountName".into(), json!(observed.spec.service_account_name));
    spec.entry("enableServiceLinks").or_insert(json!(false));
    spec.entry("terminationGracePeriodSeconds").or_insert(json!(5));
    spec.entry("securityContext")
        .or_insert(json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}));
    let mut containers = into_list(spec.remove("containers").unwrap_or_default());
    let place = containers.iter().position(|c| c["name"] == CONTAINER).unwrap_or_else(|| {
        containers.insert(0, json!({"name": CONTAINER}));
        0
    });
    if let Some(own) = containers.get_mut(place) {
        *own = complete_container(observed, image, into_object(own.take())).into();
    }
    spec.insert("containers".into(), containers.into());
    if let Some(secret) = &observed.spec.credentials_secret {
        let mut volumes = into_list(spec.remove("volumes").unwrap_or_default());
        volumes.push(json!({"name": VOLUME, "secret": {"secretName": secret.name}}));
        spec.insert("volumes".into(), volumes.into());
    }
    spec
}

fn complete_container(
    observed: &ObservedRegistry,
    image: &str,
    mut own: Map<String, Value>,
) -> Map<String, Value> {
    own.entry("image").or_insert(json!(image));
    own.insert("command".into(), json!([PROGRAM, "import"]));
    let from_field = |name: &str, path: &str| {
        let source = json!({"fieldRef": {"fieldPath": path}});
        json!({"name": name, "valueFrom": source})
    };
    let mut env = vec![
        json!({"name": "ROLLMODEL_REGISTRY", "value": observed.name}),
        from_field("ROLLMODEL_NAMESPACE", "metadata.namespace"),
        from_field("POD_NAME", "metadata.name"),
        json!({"name": "ROLLMODEL_LOG_FORMAT", "value": "json"}),
    ];
    if observed.spec.credentials_secret.is_some() {
        env.push(json!({"name": "ROLLMODEL_CREDENTIALS", "value": CREDENTIALS}));
        let mut mounts = into_list(own.remove("volumeMounts").unwrap_or_default());
        mounts.push(json!({"name": VOLUME, "mountPath": CREDENTIALS, "readOnly": true}));
        own.insert("volumeMounts".into(), mounts.into());
    }
    // The user's entries come first, so that ours take precedence.
    let names: Vec<Value> = env.iter().map(|e| e["name"].clone()).collect();
    let mut given = into_list(own.remove("env").unwrap_or_default());
    given.retain(|e| !names.contains(&e["name"]));
    given.extend(env);
    own.insert("env".into(), given.into());
    // The importer streams what it hashes and holds only listings, whatever the models' size.
    own.entry("resources").or_insert(
        json!({"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}),
    );
    own.entry("securityContext").or_insert_with(fetch_container::build_security_context);
    own
}

fn into_object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

fn into_list(value: Value) -> Vec<Value> {
    if let Value::Array(items) = value { items } else { Vec::new() }
}
