//! Rendering: the whole pod template that a content is made into, once.
//!
//! What the user wrote in `spec.template` stays as it is written; the container `model` is completed with what is missing.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use self::template::{list, object};
use super::drift::empty;
use crate::api::{
    deployment::{Delivery, Protocol},
    names,
    version::Artifact,
};

mod template;

/// Seconds that a pod goes on serving after it left the endpoints, so that no request meets a closed port.
const DRAIN_SECONDS: i64 = 5;

/// What a rendering is made from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name of the ModelDeployment.
    pub deployment: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// Version of the model.
    pub version: &'a str,
    /// Whole hash of the content.
    pub hash: &'a str,
    /// How clients talk to the server.
    pub protocol: Protocol,
    /// Image that the version names.
    pub image: Option<&'a str>,
    /// Artifact that the version records.
    pub artifact: Option<&'a Artifact>,
    /// How the artifact reaches the pod.
    pub delivery: Option<&'a Delivery>,
    /// What the user wrote in `spec.template`.
    pub template: Option<&'a Value>,
}

/// Why there is no rendering, in a sentence that says what to change.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    /// More than can be stored twice.
    #[error("spec.template has {} KiB as JSON and may have {}: move what is large, such as data in env or args, into a ConfigMap.", .0.div_ceil(1024), template::MAX / 1024)]
    TooLarge(usize),
    /// A field that a pod template does not have.
    #[error("{0} is not a field of a Kubernetes 1.37 pod template: remove it or correct its name.")]
    UnknownField(String),
    /// A value of the wrong type.
    #[error("{path} is {found} and has to be {wanted}.")]
    WrongType {
        /// Path of the field.
        path: String,
        /// What is there.
        found: &'static str,
        /// What belongs there.
        wanted: &'static str,
    },
    /// A quantity that is none.
    #[error("{path} is {value}, which is not a quantity: write a number with or without a suffix, such as 500m, 2 or 4Gi.")]
    NotAQuantity {
        /// Path of the field.
        path: String,
        /// What is there.
        value: String,
    },
    /// Metadata that a Deployment's pods cannot have.
    #[error("{0} cannot be set, since the metadata of a pod template holds labels and annotations only: remove it.")]
    Metadata(String),
    /// A label that is the operator's.
    #[error("{0} cannot be set, since labels in {group}/ are the operator's: remove it.", group = names::GROUP)]
    OwnLabel(String),
    /// A container without a name.
    #[error("{0} is missing: name the container; the one that serves the model is named {container}.", container = names::CONTAINER)]
    Unnamed(String),
    /// A name that two containers have.
    #[error("{path} is {name}, which is another container's name too: give each container its own.")]
    SameName {
        /// Path of the second.
        path: String,
        /// The name.
        name: String,
    },
    /// A port of another container with the name of the port that clients talk to.
    #[error("{path} is {name}, the name of the port that clients talk to in container {container}: give it another name.", container = names::CONTAINER)]
    SamePort {
        /// Path of the other port's name.
        path: String,
        /// The name.
        name: String,
    },
    /// A restart policy that a Deployment cannot have.
    #[error("spec.template.spec.restartPolicy is {0}, and pods of a Deployment always restart: remove it.")]
    RestartPolicy(String),
    /// Nobody names an image.
    #[error(
        "Neither ModelVersion {0} nor spec.template names an image: set image of the container {container} in spec.template, or register a version with an image.",
        container = names::CONTAINER
    )]
    NoImage(String),
    /// An artifact that nothing brings to the pod.
    #[error(
        "ModelVersion {0} records an artifact, and this release does not fetch artifacts: set spec.delivery.mode to InImage if the image holds the model or fetches it by itself (from MODEL_URI)."
    )]
    DeliveryRequired(String),
}

impl Error {
    /// The reason for conditions.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoImage(_) => "NoImage",
            Self::DeliveryRequired(_) => "DeliveryRequired",
            _ => "InvalidTemplate",
        }
    }
}

/// The port that clients talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: i32,
}

/// The whole pod template.
///
/// # Errors
/// When the template is not one, or the pod would lack an image or its artifact.
pub fn render(source: &Source<'_>) -> Result<Value, Error> {
    let written = source.template.unwrap_or(&Value::Null);
    template::check(written)?;
    if source.artifact.is_some() && source.delivery.is_none() {
        return Err(Error::DeliveryRequired(names::version_name(source.model, source.version)));
    }
    let mut whole = written.as_object().cloned().unwrap_or_default();
    let mut metadata = object(&mut whole, "metadata");
    let mut labels = object(&mut metadata, "labels");
    labels.extend(own_labels(source));
    metadata.insert("labels".into(), Value::Object(labels));
    let mut spec = object(&mut whole, "spec");
    complete(source, &mut spec)?;
    whole.insert("metadata".into(), Value::Object(metadata));
    whole.insert("spec".into(), Value::Object(spec));
    Ok(Value::Object(whole))
}

/// The port that clients talk to: the first of the container `model`.
#[must_use]
pub fn port(rendering: &Value) -> Port {
    let containers = rendering["spec"]["containers"].as_array().into_iter().flatten();
    let first = containers.filter(|c| c["name"] == names::CONTAINER).find_map(|c| c["ports"].get(0));
    let (name, number) = default_port(Protocol::default());
    Port {
        name: first.and_then(|p| p["name"].as_str()).unwrap_or(name).to_owned(),
        number: first.and_then(|p| p["containerPort"].as_i64()).and_then(|n| i32::try_from(n).ok()).unwrap_or(number),
    }
}

fn own_labels(source: &Source<'_>) -> [(String, Value); 5] {
    [
        (names::DEPLOYMENT.into(), json!(source.deployment)),
        (names::TRACK.into(), json!(names::TRACK_MAIN)),
        (names::MODEL.into(), json!(source.model)),
        (names::VERSION.into(), json!(source.version)),
        (names::HASH.into(), json!(names::hash16(source.hash))),
    ]
}

/// Completes the container `model`, and adds it where it is absent.
fn complete(source: &Source<'_>, spec: &mut Map<String, Value>) -> Result<(), Error> {
    let mut containers = list(spec, "containers");
    let index = containers.iter().position(|c| c["name"] == names::CONTAINER).unwrap_or_else(|| {
        containers.insert(0, json!({"name": names::CONTAINER}));
        0
    });
    let mut model = containers.get(index).and_then(Value::as_object).cloned().unwrap_or_default();
    set_image(source, &mut model)?;
    set_env(source, &mut model);
    let taken = containers.iter().enumerate().filter(|(i, _)| *i != index).flat_map(|(_, c)| template::port_names(c)).collect();
    let port = set_ports(source.protocol, &mut model, &taken);
    set_probe(source, &mut model, port);
    set_drain(spec, &mut model);
    if let Some(slot) = containers.get_mut(index) {
        *slot = Value::Object(model);
    }
    spec.insert("containers".into(), Value::Array(containers));
    Ok(())
}

fn set_image(source: &Source<'_>, model: &mut Map<String, Value>) -> Result<(), Error> {
    if absent(model, "image") {
        let image = source.image.ok_or_else(|| Error::NoImage(names::version_name(source.model, source.version)))?;
        model.insert("image".into(), json!(image));
    }
    Ok(())
}

fn set_env(source: &Source<'_>, model: &mut Map<String, Value>) {
    let mut env = list(model, "env");
    let ours = [
        ("MODEL_NAME", Some(source.model)),
        ("MODEL_VERSION", Some(source.version)),
        ("MODEL_URI", source.artifact.map(|a| a.uri.as_str())),
        ("MODEL_DIGEST", source.artifact.and_then(|a| a.digest.as_deref())),
    ];
    for (name, value) in ours {
        if let Some(value) = value.filter(|_| !env.iter().any(|e| e["name"] == name)) {
            env.push(json!({"name": name, "value": value}));
        }
    }
    model.insert("env".into(), Value::Array(env));
}

/// Sees to it that there is a port and that the first has a name; gives its number.
fn set_ports(protocol: Protocol, model: &mut Map<String, Value>, taken: &BTreeSet<String>) -> i64 {
    let mut ports = list(model, "ports");
    let (name, number) = default_port(protocol);
    if ports.is_empty() {
        ports.push(json!({"containerPort": number}));
    }
    let own: BTreeSet<String> = ports.iter().filter_map(|p| p["name"].as_str()).map(str::to_owned).collect();
    let number = ports.first().and_then(|p| p["containerPort"].as_i64()).unwrap_or_default();
    if let Some(first) = ports.first_mut().and_then(Value::as_object_mut).filter(|first| absent(first, "name")) {
        // A Service finds a named port in the first container that has one of that name.
        let free = !own.contains(name) && !taken.contains(name);
        first.insert("name".into(), if free { json!(name) } else { json!(format!("model-{number}")) });
    }
    model.insert("ports".into(), Value::Array(ports));
    number
}

/// A pod is ready when its model is.
///
/// There is no liveness probe by default: a server that crashes is restarted without one, a model may load for many minutes, and a
/// limit for that guessed here would kill pods which the progress deadline still gives time, and loaded ones which only answer late.
fn set_probe(source: &Source<'_>, model: &mut Map<String, Value>, port: i64) {
    if !absent(model, "readinessProbe") {
        return;
    }
    let mut probe = match source.protocol {
        Protocol::OpenInferenceV2 => json!({"httpGet": {"path": format!("/v2/models/{}/ready", source.model), "port": port}}),
        Protocol::HTTP => json!({"httpGet": {"path": "/ping", "port": port}}),
        Protocol::GRPC => json!({"grpc": {"port": port}}),
    };
    probe["periodSeconds"] = json!(5);
    probe["failureThreshold"] = json!(3);
    model.insert("readinessProbe".into(), probe);
}

fn set_drain(spec: &Map<String, Value>, model: &mut Map<String, Value>) {
    // The API server refuses a sleep longer than the grace period, and the server needs some of it to finish.
    let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
    let seconds = DRAIN_SECONDS.min(grace / 2);
    if absent(model, "lifecycle") && seconds > 0 {
        model.insert("lifecycle".into(), json!({"preStop": {"sleep": {"seconds": seconds}}}));
    }
}

fn default_port(protocol: Protocol) -> (&'static str, i32) {
    match protocol {
        Protocol::OpenInferenceV2 | Protocol::HTTP => ("http", 8080),
        Protocol::GRPC => ("grpc", 8081),
    }
}

fn absent(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).is_none_or(empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::deployment::DeliveryMode;
    use k8s_openapi::api::core::v1::PodTemplateSpec;
    use proptest::prelude::*;

    const HASH: &str = "v1:sha256:0123456789abcdef0123456789abcdef";
    const IN_IMAGE: Delivery = Delivery { mode: DeliveryMode::InImage };

    fn source(template: Option<&Value>) -> Source<'_> {
        Source {
            deployment: "risk",
            model: "fraud",
            version: "7",
            hash: HASH,
            protocol: Protocol::OpenInferenceV2,
            image: Some("a:1"),
            artifact: None,
            delivery: None,
            template,
        }
    }

    fn rendered(template: Value) -> Value {
        render(&source(Some(&template))).unwrap()
    }

    /// The container `model` made of what the user wrote of it.
    fn model(written: Value) -> Value {
        let whole = rendered(json!({"spec": {"containers": [written]}}));
        serde_json::from_value::<PodTemplateSpec>(whole.clone()).unwrap();
        whole["spec"]["containers"][0].clone()
    }

    fn artifact(digest: Option<&str>) -> Artifact {
        serde_json::from_value(json!({"uri": "s3://models/fraud/7/", "digest": digest})).unwrap()
    }

    #[test]
    fn without_a_template_the_pod_is_the_versions_image_completed() {
        let want = json!({
            "metadata": {"labels": {
                "rollmodel.dev/deployment": "risk", "rollmodel.dev/track": "main", "rollmodel.dev/model": "fraud",
                "rollmodel.dev/version": "7", "rollmodel.dev/hash": "0123456789abcdef",
            }},
            "spec": {"containers": [{
                "name": "model", "image": "a:1",
                "env": [{"name": "MODEL_NAME", "value": "fraud"}, {"name": "MODEL_VERSION", "value": "7"}],
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/v2/models/fraud/ready", "port": 8080}, "periodSeconds": 5, "failureThreshold": 3},
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            }]},
        });
        assert_eq!(render(&source(None)), Ok(want.clone()));
        assert_eq!(rendered(json!({"metadata": null, "spec": {"containers": []}})), want);
    }

    #[test]
    fn what_the_user_wrote_stays_as_it_is_written() {
        let written = json!({
            "metadata": {"labels": {"team": "risk"}, "annotations": {"a": "b"}},
            "spec": {
                "serviceAccountName": "fraud", "hostNetwork": false,
                "containers": [{"name": "proxy", "image": "p", "resources": {"limits": {"cpu": 1}}}, {"name": "model", "image": "mine", "tty": null}],
            },
        });
        let whole = rendered(written.clone());
        assert_eq!(whole["metadata"]["annotations"], written["metadata"]["annotations"]);
        assert_eq!(whole["metadata"]["labels"]["team"], "risk");
        assert_eq!(whole["spec"]["hostNetwork"], false);
        assert_eq!(whole["spec"]["containers"][0], written["spec"]["containers"][0]);
        assert_eq!(whole["spec"]["containers"][1]["image"], "mine");
        assert_eq!(whole["spec"]["containers"][1]["tty"], Value::Null);
    }

    #[test]
    fn the_container_model_is_added_first_where_it_is_absent() {
        let whole = rendered(json!({"spec": {"containers": [{"name": "proxy", "image": "p"}]}}));
        assert_eq!(whole["spec"]["containers"][0]["name"], "model");
        assert_eq!(whole["spec"]["containers"][1]["name"], "proxy");
    }

    #[test]
    fn an_empty_image_is_no_image() {
        assert_eq!(model(json!({"name": "model", "image": ""}))["image"], "a:1");
        let nobody = render(&Source { image: None, ..source(None) }).unwrap_err();
        assert_eq!(nobody.reason(), "NoImage");
        assert_eq!(
            nobody.to_string(),
            "Neither ModelVersion fraud-7 nor spec.template names an image: set image of the container model in spec.template, or register a version with an image."
        );
    }

    #[test]
    fn the_users_variables_win_and_ours_follow() {
        let env =
            model(json!({"name": "model", "env": [{"name": "MODEL_VERSION", "value": "x"}, {"name": "A", "value": "b"}]}))["env"].clone();
        assert_eq!(
            env,
            json!([{"name": "MODEL_VERSION", "value": "x"}, {"name": "A", "value": "b"}, {"name": "MODEL_NAME", "value": "fraud"}])
        );
    }

    #[test]
    fn an_artifact_is_told_to_the_server_and_needs_a_delivery() {
        for digest in [None, Some("sha256:aa")] {
            let artifact = artifact(digest);
            let undelivered = Source { artifact: Some(&artifact), ..source(None) };
            assert_eq!(render(&undelivered).unwrap_err().reason(), "DeliveryRequired");
            let whole = render(&Source { delivery: Some(&IN_IMAGE), ..undelivered }).unwrap();
            let env = &whole["spec"]["containers"][0]["env"];
            assert_eq!(env[2], json!({"name": "MODEL_URI", "value": "s3://models/fraud/7/"}));
            assert_eq!(env[3]["value"].as_str(), digest);
        }
    }

    #[test]
    fn port_and_probe_follow_the_protocol() {
        let cases = [
            (Protocol::OpenInferenceV2, "http", 8080, json!({"path": "/v2/models/fraud/ready", "port": 8080}), "httpGet"),
            (Protocol::HTTP, "http", 8080, json!({"path": "/ping", "port": 8080}), "httpGet"),
            (Protocol::GRPC, "grpc", 8081, json!({"port": 8081}), "grpc"),
        ];
        for (protocol, name, number, probe, kind) in cases {
            let whole = render(&Source { protocol, ..source(None) }).unwrap();
            assert_eq!(port(&whole), Port { name: name.into(), number });
            assert_eq!(whole["spec"]["containers"][0]["readinessProbe"][kind], probe);
        }
    }

    #[test]
    fn the_users_first_port_is_the_one_that_clients_talk_to() {
        let cases = [
            (json!([{"containerPort": 9000}, {"name": "metrics", "containerPort": 1}]), "http", 9000),
            (json!([{"name": "web", "containerPort": 9000}]), "web", 9000),
            (json!([{"containerPort": 9000}, {"name": "http", "containerPort": 1}]), "model-9000", 9000),
        ];
        for (ports, name, number) in cases {
            let whole = rendered(json!({"spec": {"containers": [{"name": "model", "ports": ports}]}}));
            assert_eq!(port(&whole), Port { name: name.into(), number });
            assert_eq!(whole["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"], number);
        }
    }

    #[test]
    fn a_given_name_is_no_other_containers() {
        let whole = rendered(json!({"spec": {"containers": [{"name": "proxy", "ports": [{"name": "http", "containerPort": 80}]}]}}));
        assert_eq!(port(&whole), Port { name: "model-8080".into(), number: 8080 });
    }

    #[test]
    fn the_users_probe_and_lifecycle_stay() {
        let written = json!({"name": "model", "readinessProbe": {"tcpSocket": {"port": 1}}, "lifecycle": {"postStart": {"exec": {"command": ["a"]}}}});
        let model = model(written.clone());
        assert_eq!(model["readinessProbe"], written["readinessProbe"]);
        assert_eq!(model["lifecycle"], written["lifecycle"]);
        assert_eq!(model.get("livenessProbe"), None);
    }

    #[test]
    fn the_drain_leaves_the_server_half_of_its_grace_period() {
        for (grace, seconds) in [(json!(null), Some(5)), (json!(600), Some(5)), (json!(4), Some(2)), (json!(1), None), (json!(0), None)] {
            let whole = rendered(json!({"spec": {"terminationGracePeriodSeconds": grace}}));
            assert_eq!(whole["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64(), seconds);
        }
    }

    #[test]
    fn the_port_of_what_is_no_rendering_is_the_usual_one() {
        for garbage in [json!(null), json!([]), json!({"spec": {"containers": [{"name": "model", "ports": [{"containerPort": 1e30}]}]}})] {
            assert_eq!(port(&garbage), Port { name: "http".into(), number: 8080 });
        }
    }

    /// JSON with the names that a pod template has, so that it gets deep.
    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "model|http|a|Always|1Gi|".prop_map(Value::from)
        ];
        let name = "metadata|labels|spec|containers|initContainers|name|image|env|value|ports|containerPort|lifecycle|readinessProbe|resources|limits|terminationGracePeriodSeconds|[a-z]{1,3}";
        leaf.prop_recursive(6, 64, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..5).prop_map(|m| json!(m))
            ]
        })
    }

    fn template() -> impl Strategy<Value = Value> {
        (json_value(), json_value(), json_value()).prop_map(|(any, spec, containers)| match &any {
            Value::Bool(true) => json!({"spec": {"containers": containers}}),
            Value::Bool(false) => json!({"spec": {"containers": [containers]}}),
            Value::Null => json!({"spec": spec}),
            _ => any,
        })
    }

    proptest! {
        #[test]
        fn any_template_is_rendered_or_told_in_a_sentence(template in template(), grpc in any::<bool>()) {
            let protocol = if grpc { Protocol::GRPC } else { Protocol::HTTP };
            match render(&Source { protocol, ..source(Some(&template)) }) {
                Ok(whole) => prop_assert!(!port(&whole).name.is_empty()),
                Err(error) => prop_assert!(error.to_string().ends_with('.') && error.reason() == "InvalidTemplate"),
            }
        }
    }
}
