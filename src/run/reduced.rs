//! What is kept of each kind: what deciding needs, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use super::{
    kinds::{Kind, News, Packed, Watched},
    object::Object,
    recent::Shareable,
};
use crate::{
    api::{
        ModelRollout, ModelRolloutSpec, ModelVersionStatus,
        condition::truncate_text,
        names,
        version::{Lifecycle, LifecycleState, MUTABLE},
    },
    plan::{
        facts::version::SPEC_MAX,
        facts::{health, revision},
        observed::{Controller, Meta, Pod, Record, Request, RevisionBody, Service, Version},
        verify,
    },
};

/// A ModelVersion.
pub struct VersionEntry {
    /// What deciding needs.
    pub version: Version,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Value of the annotation by which people ask for a verification.
    pub asked: Option<String>,
    /// What was last said about it.
    pub status: Option<Packed<ModelVersionStatus>>,
}

/// The longest value of that annotation that is kept.
const ASKED_MAX: usize = 253;

impl Watched for VersionEntry {
    const KIND: Kind = Kind::ModelVersion;

    /// Never fails: a version of a newer operator is hashed as it is stored, and what is not known
    /// of it is left out.
    fn read(mut object: Object, old: Option<&Self>) -> Result<Self, serde_json::Error> {
        let uid = object.metadata.uid.take().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        // The generation counts every change of the spec.
        let unchanged = old.filter(|old| (&old.uid, old.generation) == (&uid, generation));
        let mut version =
            unchanged.map_or_else(|| read_version(&mut object), |old| old.version.clone());
        let status: Option<ModelVersionStatus> = object.status.or_default();
        verify::add_found(&mut version, status.as_ref());
        let asked = object
            .metadata
            .annotations
            .as_mut()
            .and_then(|a| a.remove(names::VERIFY))
            .filter(|value| !value.is_empty());
        Ok(Self {
            version,
            uid,
            generation,
            asked: asked.map(|value| truncate_text(&value, ASKED_MAX)),
            status: status.and_then(|status| Packed::pack(&status).ok()),
        })
    }

    fn owners(_: &Object) -> Vec<String> {
        Vec::new()
    }

    fn versions(&self) -> Vec<String> {
        vec![self.version.name.clone()]
    }

    /// Its status turns nothing, but for what a verification found.
    fn news(old: Option<&Self>, new: Option<&Self>) -> Option<News> {
        let same = |(old, new): (&Self, &Self)| {
            old.version == new.version && old.generation == new.generation
        };
        Some(if old.zip(new).is_some_and(same) { News::Counts } else { News::Turn })
    }

    fn news_to_versions(_: &Self, _: &Self) -> bool {
        true
    }
}

fn read_version(object: &mut Object) -> Version {
    let mut spec: Value = object.spec.or_default();
    drop_nulls(&mut spec);
    let size = serde_json::to_vec(&spec).map_or(0, |bytes| bytes.len());
    Version {
        name: object.metadata.name.take().unwrap_or_default(),
        model: text(&spec, "/model"),
        version: text(&spec, "/version"),
        image: spec.pointer("/image").and_then(Value::as_str).map(str::to_owned),
        artifact: spec.get("artifact").and_then(|a| serde_json::from_value(a.clone()).ok()),
        lifecycle: spec.get("lifecycle").map(read_lifecycle),
        record_digest: record_digest(spec),
        pin: None,
        unverified: None,
        bound_to: None,
        too_large: (size > SPEC_MAX).then_some(size),
    }
}

/// A state that this build does not know is not served newly: whoever made it up had a reason.
fn read_lifecycle(value: &Value) -> Lifecycle {
    serde_json::from_value(value.clone()).unwrap_or_else(|_| Lifecycle {
        state: LifecycleState::Yanked,
        reason: Some(format!(
            "this operator does not know the lifecycle state {}",
            text(value, "/state")
        )),
    })
}

/// The sha256 of the immutable part of a version's stored spec.
#[must_use]
pub fn record_digest(mut spec: Value) -> String {
    drop_nulls(&mut spec);
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, _| !MUTABLE.contains(&name.as_str()));
    }
    revision::compute_digest(&spec)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Seconds by which a record that is not from a backup may be created after its rollout began: the
/// clocks of the operator and of the API server differ, and writes are tried again.
const RESTORED_SECONDS: i64 = 300;

impl Watched for Record {
    const KIND: Kind = Kind::ModelRollout;

    fn read(mut object: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        let spec: ModelRolloutSpec = object.spec.needed()?;
        let created = object.metadata.creation_timestamp.take().map(|time| time.0);
        let later = spec.start_time.0.as_second() + RESTORED_SECONDS;
        Ok(Self {
            uid: object.metadata.uid.take().unwrap_or_default(),
            resource_version: object.metadata.resource_version.take().unwrap_or_default(),
            restored: created.filter(|created| created.as_second() > later),
            spec: Arc::new(spec),
        })
    }

    fn owners(object: &Object) -> Vec<String> {
        object.spec.or_default::<RecordOf>().model_deployment_ref.name.into_iter().collect()
    }

    fn versions(&self) -> Vec<String> {
        vec![names::version_name(&self.spec.model, &self.spec.version)]
    }
}

impl Watched for Request {
    const KIND: Kind = Kind::RolloutRequest;

    fn read(mut object: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        let meta = &mut object.metadata;
        Ok(Self {
            name: meta.name.take().unwrap_or_default(),
            uid: meta.uid.take().unwrap_or_default(),
            resource_version: meta.resource_version.take().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            spec: object.spec.needed()?,
            status: object.status.read()?,
        })
    }

    fn owners(object: &Object) -> Vec<String> {
        object.spec.or_default::<RequestOf>().model_deployment.into_iter().collect()
    }
}

/// A ControllerRevision of ours.
pub struct ContentEntry {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// The digest of the rendering that it stores; empty where it stores nothing of ours.
    pub rendering_digest: String,
    /// What it stores; dropped where neither what serves nor the newest record needs it.
    pub body: Option<Shareable<RevisionBody>>,
}

impl Watched for ContentEntry {
    const KIND: Kind = Kind::ControllerRevision;

    fn read(mut object: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        // A stranger's object under our labels must not stop anything: it is there, and stores
        // nothing.
        let body = read_body(&object);
        Ok(Self {
            uid: object.metadata.uid.take().unwrap_or_default(),
            resource_version: object.metadata.resource_version.take().unwrap_or_default(),
            rendering_digest: digest_body(body.as_ref()),
            body: body.and_then(|body| Shareable::pack(&body).ok()),
        })
    }

    fn owners(object: &Object) -> Vec<String> {
        label(&object.metadata, names::MODEL_DEPLOYMENT).into_iter().collect()
    }
}

/// What a ControllerRevision of ours stores.
#[must_use]
pub fn read_body(object: &Object) -> Option<RevisionBody> {
    object.data.or_default()
}

/// The digest of the rendering that a ControllerRevision of ours stores; empty where it stores
/// none.
#[must_use]
pub fn digest_body(body: Option<&RevisionBody>) -> String {
    body.map(|body| revision::compute_digest(&body.rendering)).unwrap_or_default()
}

/// The Service in front of the pods of a ModelDeployment.
pub struct ServiceEntry(pub Packed<Service>);

impl Watched for ServiceEntry {
    const KIND: Kind = Kind::Service;

    fn read(object: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        Ok(Self(Packed::pack(&read_service(object)?)?))
    }

    fn owners(object: &Object) -> Vec<String> {
        name_and_label(&object.metadata)
    }
}

/// What is observed of a Service.
///
/// # Errors
/// When it is not one.
pub fn read_service(object: Object) -> Result<Service, serde_json::Error> {
    let spec: ServiceSpec = object.spec.read()?.unwrap_or_default();
    Ok(Service {
        type_: spec.type_,
        selector: spec.selector.unwrap_or_default(),
        ports: spec.ports.unwrap_or_default(),
        meta: meta(object.metadata),
    })
}

/// What is read of a Service's spec.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    type_: String,
    selector: Option<BTreeMap<String, String>>,
    ports: Option<Vec<Value>>,
}

impl Watched for Pod {
    const KIND: Kind = Kind::Pod;

    fn read(object: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        Ok(super::pods::read(&object))
    }

    fn owners(object: &Object) -> Vec<String> {
        label(&object.metadata, names::MODEL_DEPLOYMENT).into_iter().collect()
    }

    fn news(old: Option<&Self>, new: Option<&Self>) -> Option<News> {
        let says = |pod: Option<&Self>| pod.and_then(health::describe_pod);
        match (old, new) {
            (Some(old), Some(new)) if old == new => None,
            _ => Some(if says(old) == says(new) { News::Counts } else { News::Turn }),
        }
    }
}

/// A HorizontalPodAutoscaler that scales a Deployment; its name is all that is needed.
pub struct Autoscaler;

impl Watched for Autoscaler {
    const KIND: Kind = Kind::HorizontalPodAutoscaler;

    fn read(_: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        Ok(Self)
    }

    fn owners(object: &Object) -> Vec<String> {
        let target = object.spec.or_default::<AutoscalerOf>().scale_target_ref;
        target.name.filter(|_| target.kind.as_deref() == Some("Deployment")).into_iter().collect()
    }
}

/// A CustomResourceDefinition of ours.
pub struct Schema {
    /// The level of its schema; 0 where it does not say.
    pub level: u32,
    /// The schema, where it is older than this build.
    pub older: Option<Arc<Value>>,
}

impl Watched for Schema {
    const KIND: Kind = Kind::CustomResourceDefinition;

    fn read(object: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        let level = object
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(names::SCHEMA_LEVEL))
            .and_then(|l| l.parse().ok());
        let level = level.unwrap_or_default();
        let is_older = level < names::SCHEMA_LEVEL_NOW;
        let older = is_older.then(|| find_schema(&object)).flatten().map(Arc::new);
        Ok(Self { level, older })
    }

    fn owners(_: &Object) -> Vec<String> {
        Vec::new()
    }
}

/// The schema of the version that this build reads and writes.
fn find_schema(object: &Object) -> Option<Value> {
    let mut spec: Value = object.spec.or_default();
    let ours = ModelRollout::version(&());
    let mut versions = spec["versions"].as_array_mut()?.iter_mut();
    let version = versions.find(|v| v["name"] == *ours)?;
    Some(version.pointer_mut("/schema/openAPIV3Schema")?.take())
}

/// What is kept of a child's metadata.
pub(super) fn meta(from: ObjectMeta) -> Meta {
    let controller =
        from.owner_references.unwrap_or_default().into_iter().find(|o| o.controller == Some(true));
    let mut annotations = from.annotations.unwrap_or_default();
    let has_annotations = !annotations.is_empty();
    annotations.retain(|name, _| name == names::CHANGE_CAUSE);
    Meta {
        name: from.name.unwrap_or_default(),
        uid: from.uid.unwrap_or_default(),
        resource_version: from.resource_version.unwrap_or_default(),
        labels: from.labels.unwrap_or_default(),
        annotations,
        has_annotations,
        controller: controller.map(|o| Controller { kind: o.kind, name: o.name, uid: o.uid }),
        deleting: from.deletion_timestamp.is_some(),
    }
}

fn label(meta: &ObjectMeta, name: &str) -> Option<String> {
    meta.labels.as_ref().and_then(|l| l.get(name)).cloned()
}

/// A child belongs to the ModelDeployment of its name, and to the one its label names.
pub(super) fn name_and_label(meta: &ObjectMeta) -> Vec<String> {
    let mut all: Vec<String> =
        meta.name.iter().cloned().chain(label(meta, names::MODEL_DEPLOYMENT)).collect();
    all.dedup();
    all
}

pub(super) fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Whose record it is; read of every record, whatever else is in it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RecordOf {
    model_deployment_ref: Named,
}

/// Whom a request is for; read of every request, whatever else is in it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RequestOf {
    model_deployment: Option<String>,
}

/// What an autoscaler scales.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AutoscalerOf {
    scale_target_ref: Named,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    kind: Option<String>,
    name: Option<String>,
}

#[cfg(test)]
mod tests;
