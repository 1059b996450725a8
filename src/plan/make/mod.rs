//! Rendering: makes the complete pod template of a revision, once.
//!
//! Fields that the user wrote in `spec.template` stay as they are; the container `model` is
//! completed with the missing fields.

use serde_json::{Map, Value, json};

use self::template::{take_list, take_object};
use super::drift::is_empty_value;
use crate::api::{
    ModelPolicySpec,
    deployment::{Delivery, DeliveryMode, Protocol},
    names,
    reason::Reason,
    version::Artifact,
};

mod artifact;
pub mod fetch_container;
mod template;

/// Seconds for which a pod continues to serve after it left the endpoints, so that no request meets
/// a closed port.
const DRAIN_SECONDS: i64 = 5;

/// Name of the port for clients, where the user did not name it.
const MODEL_PORT: &str = "model";

/// The delivery of an artifact to the pods.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivered<'a> {
    /// Mode in which the artifact is delivered.
    pub mode: DeliveryMode,
    /// Expected digest of the files; always set except with InImage.
    pub digest: Option<&'a str>,
}

/// The input of a rendering.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name of the ModelDeployment.
    pub deployment: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// Version of the model.
    pub version: &'a str,
    /// Complete revisionHash of the revision.
    pub hash: &'a str,
    /// Protocol of the model server.
    pub protocol: Protocol,
    /// Image that the version names.
    pub image: Option<&'a str>,
    /// Artifact that the version records.
    pub artifact: Option<&'a Artifact>,
    /// Delivery mode and expected digest.
    pub delivered: Delivered<'a>,
    /// Delivery settings that the user wrote.
    pub delivery: Option<&'a Delivery>,
    /// The policy of the namespace.
    pub policy: Option<&'a ModelPolicySpec>,
    /// The image that fetches artifacts.
    pub fetch_image: Option<&'a str>,
    /// Digest of the serving artifact, which stays in the cache while this one is fetched.
    pub before: Option<&'a str>,
    /// Field `spec.template` as the user wrote it.
    pub template: Option<&'a Value>,
}

/// Reasons why there is no rendering; each message says what to change.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    /// The template is too large to be stored twice. The number is its size in bytes.
    #[error(
        "spec.template has {} KiB as JSON and may have {}: move what is large, such as data in env \
         or args, into a ConfigMap.",
        .0.div_ceil(1024), template::MAX / 1024
    )]
    TooLarge(usize),
    /// A field that pod templates do not have.
    #[error("{0} is not a field of a Kubernetes 1.37 pod template: remove it or correct its name.")]
    UnknownField(String),
    /// A value of the wrong type.
    #[error("{path} is {found} and has to be {wanted}.")]
    WrongType {
        /// Path of the field.
        path: String,
        /// Type of the value.
        found: &'static str,
        /// Type that the field expects.
        wanted: &'static str,
    },
    /// A value that is not a valid quantity.
    #[error(
        "{path} is {value}, which is not a quantity: write a number with or without a suffix, such \
         as 500m, 2 or 4Gi."
    )]
    NotAQuantity {
        /// Path of the field.
        path: String,
        /// Value of the field.
        value: String,
    },
    /// Metadata that a Deployment's pods cannot have.
    #[error(
        "{0} cannot be set, since the metadata of a pod template holds labels and annotations \
         only: remove it."
    )]
    Metadata(String),
    /// A label that only the operator may set.
    #[error(
        "{0} cannot be set, since labels in {group}/ are the operator's: remove it.",
        group = names::GROUP
    )]
    OwnLabel(String),
    /// A container without a name.
    #[error(
        "{0} is missing: name the container; the one that serves the model is named {container}.",
        container = names::CONTAINER
    )]
    Unnamed(String),
    /// A name that two containers share.
    #[error(
        "{path} is {name}, which is another container's name too: give each container its own."
    )]
    SameName {
        /// Path of the second container.
        path: String,
        /// Name of both containers.
        name: String,
    },
    /// A port of another container with the name of the port that clients talk to.
    #[error(
        "{path} is {name}, the name of the port that clients talk to in container {container}: \
         give it another name.",
        container = names::CONTAINER
    )]
    SamePort {
        /// Path of the other port's name.
        path: String,
        /// Name of the port.
        name: String,
    },
    /// No port of the container `model` is one that the Service can lead to.
    #[error(
        "spec.template.spec.containers: container {container} has no port with protocol TCP, which \
         clients use: add one, or remove its ports for the default.",
        container = names::CONTAINER
    )]
    NoTcpPort,
    /// A restart policy that a Deployment cannot have.
    #[error(
        "spec.template.spec.restartPolicy is {0}, and pods of a Deployment always restart: remove \
         it."
    )]
    RestartPolicy(String),
    /// Neither the version nor the template names an image.
    #[error(
        "Neither ModelVersion {0} nor spec.template names an image: set image of the container \
         {container} in spec.template, or register a version with an image.",
        container = names::CONTAINER
    )]
    NoImage(String),
    /// Another volume is mounted at the path of the artifact.
    #[error(
        "{0} is at {dir} or below, where the artifact is mounted: mount it elsewhere.",
        dir = artifact::MODELS
    )]
    MountTaken(String),
    /// A volume with a name that the operator uses.
    #[error(
        "{path} is {name}, which is the name of a volume that the operator adds: give it another \
         name."
    )]
    VolumeTaken {
        /// Path of the volume's name.
        path: String,
        /// Name of the volume.
        name: String,
    },
    /// An address from which no container can read.
    #[error(
        "ModelVersion {0} has its artifact in a claim, and {1:?} cannot be the name of one: \
         register it with pvc://CLAIM/PATH."
    )]
    NoClaim(String, String),
    /// A value that is not a valid size.
    #[error("spec.delivery.cache.sizeLimit is {0}, which is not a size: write one such as 200Gi.")]
    NoSize(String),
    /// The operator has no image that fetches artifacts.
    #[error(
        "The artifact of ModelVersion {0} cannot be fetched, since this operator was started \
         without --fetch-image: have its administrator set it (ROLLMODEL_FETCH_IMAGE), or set \
         spec.delivery.mode to InImage if the image holds the model or fetches it by itself."
    )]
    NoFetchImage(String),
}

impl Error {
    /// Reason of the conditions.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoImage(_) => Reason::NoImage,
            Self::NoFetchImage(_) => Reason::NoFetchImage,
            Self::NoClaim(..) => Reason::InvalidArtifact,
            Self::NoSize(_) => Reason::InvalidDelivery,
            _ => Reason::InvalidTemplate,
        }
    }
}

/// A port for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the port.
    pub name: String,
    /// Number of the port.
    pub number: i32,
}

/// Renders the complete pod template.
///
/// # Errors
/// When the template is invalid, or the pod would lack an image or its artifact.
pub fn render_template(source: &Source<'_>) -> Result<Value, Error> {
    let written = source.template.unwrap_or(&Value::Null);
    template::check_template(written)?;
    let mut whole = written.as_object().cloned().unwrap_or_default();
    let mut metadata = take_object(&mut whole, "metadata");
    let mut labels = take_object(&mut metadata, "labels");
    labels.extend(own_labels(source));
    metadata.insert("labels".into(), Value::Object(labels));
    // A restart that the spec asks for belongs to the record, and is added when it is applied.
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(names::RESTARTED_AT);
    }
    let mut spec = take_object(&mut whole, "spec");
    complete_container(source, &mut spec)?;
    artifact::deliver_artifact(source, &mut spec)?;
    whole.insert("metadata".into(), Value::Object(metadata));
    whole.insert("spec".into(), Value::Object(spec));
    Ok(Value::Object(whole))
}

/// Finds the port for clients: the first TCP port of the container `model`.
#[must_use]
pub fn find_client_port(rendering: &Value) -> Port {
    let containers = rendering["spec"]["containers"].as_array().into_iter().flatten();
    let mut model = containers.filter(|c| c["name"] == names::CONTAINER);
    let first = model.find_map(|c| c["ports"].as_array()?.iter().find(|port| is_tcp(port)));
    let number = default_port(Protocol::default());
    Port {
        name: first.and_then(|p| p["name"].as_str()).unwrap_or(MODEL_PORT).to_owned(),
        number: first
            .and_then(|p| p["containerPort"].as_i64())
            .and_then(|n| i32::try_from(n).ok())
            .unwrap_or(number),
    }
}

/// Builds the labels of every pod of the revision. The track is added when the template is applied.
fn own_labels(source: &Source<'_>) -> [(String, Value); 4] {
    [
        (names::MODEL_DEPLOYMENT.into(), json!(source.deployment)),
        (names::MODEL.into(), json!(source.model)),
        (names::VERSION.into(), json!(source.version)),
        (names::REVISION.into(), json!(names::short_hash(source.hash))),
    ]
}

/// Completes the container `model`, and adds it where it is absent.
fn complete_container(source: &Source<'_>, spec: &mut Map<String, Value>) -> Result<(), Error> {
    let mut containers = take_list(spec, "containers");
    let index =
        containers.iter().position(|c| c["name"] == names::CONTAINER).unwrap_or_else(|| {
            containers.insert(0, json!({"name": names::CONTAINER}));
            0
        });
    let mut model = containers.get(index).and_then(Value::as_object).cloned().unwrap_or_default();
    set_image(source, &mut model)?;
    set_env(source, &mut model);
    let port = set_ports(source.protocol, &mut model)?;
    set_probe(source, &mut model, port);
    set_drain(spec, &mut model);
    // A server that exits usually logs the reason, and a condition has to quote it.
    model.entry("terminationMessagePolicy").or_insert(json!("FallbackToLogsOnError"));
    if let Some(slot) = containers.get_mut(index) {
        *slot = Value::Object(model);
    }
    spec.insert("containers".into(), Value::Array(containers));
    Ok(())
}

fn set_image(source: &Source<'_>, model: &mut Map<String, Value>) -> Result<(), Error> {
    if lacks_field(model, "image") {
        let image = source
            .image
            .ok_or_else(|| Error::NoImage(names::version_name(source.model, source.version)))?;
        model.insert("image".into(), json!(image));
    }
    Ok(())
}

fn set_env(source: &Source<'_>, model: &mut Map<String, Value>) {
    let mut env = take_list(model, "env");
    let ours = [
        ("MODEL_NAME", Some(source.model)),
        ("MODEL_VERSION", Some(source.version)),
        ("MODEL_URI", source.artifact.map(|a| a.uri.as_str())),
        ("MODEL_DIGEST", source.delivered.digest),
    ];
    for (name, value) in ours {
        if let Some(value) = value.filter(|_| !env.iter().any(|e| e["name"] == name)) {
            env.push(json!({"name": name, "value": value}));
        }
    }
    model.insert("env".into(), Value::Array(env));
}

/// Adds the port where it is absent, names the first port, and returns its number. A port that the
/// user did not name has the same name with every protocol and beside every sidecar, so that the
/// Service finds it in old and new pods alike.
fn set_ports(protocol: Protocol, model: &mut Map<String, Value>) -> Result<i64, Error> {
    let mut ports = take_list(model, "ports");
    if ports.is_empty() {
        ports.push(json!({"containerPort": default_port(protocol)}));
    }
    let first = ports.iter_mut().find(|port| is_tcp(port)).ok_or(Error::NoTcpPort)?;
    let number = first["containerPort"].as_i64().unwrap_or_default();
    if let Some(first) = first.as_object_mut().filter(|first| lacks_field(first, "name")) {
        first.insert("name".into(), json!(MODEL_PORT));
    }
    model.insert("ports".into(), Value::Array(ports));
    Ok(number)
}

/// True if a container port is one of TCP, as the port of the Service is: a Service finds no port
/// of another protocol.
fn is_tcp(port: &Value) -> bool {
    is_empty_value(&port["protocol"]) || port["protocol"] == "TCP"
}

/// Sets the readiness probe: a pod is ready when its model is loaded.
///
/// There is no liveness probe by default. A server that crashes is restarted without one. A model
/// may load for many minutes, so that a guessed limit would kill pods which the progress deadline
/// still allows, and loaded pods which only answer late.
fn set_probe(source: &Source<'_>, model: &mut Map<String, Value>, port: i64) {
    if !lacks_field(model, "readinessProbe") {
        return;
    }
    let mut probe = match source.protocol {
        Protocol::OpenInferenceV2 => {
            json!({"httpGet": {"path": format!("/v2/models/{}/ready", source.model), "port": port}})
        }
        Protocol::HTTP => json!({"httpGet": {"path": "/ping", "port": port}}),
        Protocol::GRPC => json!({"grpc": {"port": port}}),
    };
    probe["periodSeconds"] = json!(5);
    probe["failureThreshold"] = json!(3);
    model.insert("readinessProbe".into(), probe);
}

fn set_drain(spec: &Map<String, Value>, model: &mut Map<String, Value>) {
    // The API server refuses a sleep longer than the grace period, and the server needs some of it
    // to finish.
    let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
    let seconds = DRAIN_SECONDS.min(grace / 2);
    if lacks_field(model, "lifecycle") && seconds > 0 {
        model.insert("lifecycle".into(), json!({"preStop": {"sleep": {"seconds": seconds}}}));
    }
}

fn default_port(protocol: Protocol) -> i32 {
    match protocol {
        Protocol::OpenInferenceV2 | Protocol::HTTP => 8080,
        Protocol::GRPC => 8081,
    }
}

fn lacks_field(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).is_none_or(is_empty_value)
}

#[cfg(test)]
mod tests;
