//! Objects as the API server sends them, decoded to what may be kept of them: `managedFields` and the specs of pods are most of the
//! bytes, and are passed over where nobody reads them.

use std::{borrow::Cow, collections::BTreeMap, fmt::Debug, marker::PhantomData};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use kube::{
    Resource,
    api::{ApiResource, DynamicObject},
    core::DynamicResourceScope,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Map, Value};

/// How much of an object is decoded.
pub trait Detail: Clone + Debug + Send + Sync + 'static {
    /// Its managed fields.
    type Fields: DeserializeOwned + Default + Into<Option<Vec<ManagedFieldsEntry>>>;
    /// Its spec.
    type Spec: DeserializeOwned + Default + Into<Value> + Clone + Debug + Send + Sync;
    /// Everything else.
    type Rest: DeserializeOwned + Default + Into<Value> + Clone + Debug + Send + Sync;
}

/// All that is ever read.
#[derive(Clone, Debug)]
pub enum Whole {}
/// No managed fields.
#[derive(Clone, Debug)]
pub enum Usual {}
/// Metadata and status.
#[derive(Clone, Debug)]
pub enum StatusOnly {}
/// Metadata.
#[derive(Clone, Debug)]
pub enum NameOnly {}

impl Detail for Whole {
    type Fields = Option<Vec<ManagedFieldsEntry>>;
    type Spec = Value;
    type Rest = Value;
}
impl Detail for Usual {
    type Fields = PassedOver;
    type Spec = Value;
    type Rest = Value;
}
impl Detail for StatusOnly {
    type Fields = PassedOver;
    type Spec = PassedOver;
    type Rest = Value;
}
impl Detail for NameOnly {
    type Fields = PassedOver;
    type Spec = PassedOver;
    type Rest = PassedOver;
}

/// A part that nobody reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassedOver;

impl<'de> Deserialize<'de> for PassedOver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl From<PassedOver> for Value {
    fn from(_: PassedOver) -> Self {
        Self::Null
    }
}

impl From<PassedOver> for Option<Vec<ManagedFieldsEntry>> {
    fn from(_: PassedOver) -> Self {
        None
    }
}

/// An object in that much detail.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
pub struct Object<D: Detail> {
    /// Its metadata, less what is never read.
    #[serde(default, deserialize_with = "metadata::<D, _>")]
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: D::Spec,
    #[serde(default)]
    status: D::Rest,
    #[serde(default)]
    data: D::Rest,
    #[serde(skip)]
    detail: PhantomData<D>,
}

impl<D: Detail> From<Object<D>> for DynamicObject {
    fn from(object: Object<D>) -> Self {
        let parts = [("spec", object.spec.into()), ("status", object.status.into()), ("data", object.data.into())];
        let data: Map<String, Value> = parts.into_iter().filter(|(_, v)| !v.is_null()).map(|(name, v)| (name.to_owned(), v)).collect();
        Self { types: None, metadata: object.metadata, data: Value::Object(data) }
    }
}

impl<D: Detail> Resource for Object<D> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is read of metadata.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<F> {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    managed_fields: F,
}

fn metadata<'de, D: Detail, R: Deserializer<'de>>(deserializer: R) -> Result<ObjectMeta, R::Error> {
    let from = Metadata::<D::Fields>::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: from.name,
        namespace: from.namespace,
        uid: from.uid,
        resource_version: from.resource_version,
        generation: from.generation,
        creation_timestamp: from.creation_timestamp,
        deletion_timestamp: from.deletion_timestamp,
        labels: from.labels,
        annotations: from.annotations,
        owner_references: from.owner_references,
        managed_fields: from.managed_fields.into(),
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests {
    use kube::core::WatchEvent;
    use serde_json::json;

    use super::*;

    fn decoded<D: Detail>() -> DynamicObject {
        let event = json!({"type": "MODIFIED", "object": {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "fraud", "namespace": "ml", "resourceVersion": "9", "selfLink": null, "labels": {"a": "b"},
                "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"replicas": 2}, "status": {"replicas": 1}, "data": {"x": 1}, "revision": 3}});
        match serde_json::from_value(event).unwrap() {
            WatchEvent::Modified(object) => Object::<D>::into(object),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_read_is_decoded_and_the_rest_passed_over() {
        let whole = decoded::<Whole>();
        assert_eq!(whole.data, json!({"spec": {"replicas": 2}, "status": {"replicas": 1}, "data": {"x": 1}}));
        assert_eq!(whole.metadata.managed_fields.as_ref().unwrap()[0].manager.as_deref(), Some("kubectl"));
        assert_eq!(whole.metadata.labels.as_ref().unwrap()["a"], "b");
        let usual = decoded::<Usual>();
        assert!(usual.data == whole.data && usual.metadata.managed_fields.is_none());
        assert_eq!(decoded::<StatusOnly>().data, json!({"status": {"replicas": 1}, "data": {"x": 1}}));
        assert_eq!(decoded::<NameOnly>().data, json!({}));
        assert_eq!(decoded::<NameOnly>().metadata.resource_version.as_deref(), Some("9"));
    }
}
