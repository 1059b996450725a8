//! Objects as the API server sends them: the metadata is read, every other part stays as it came
//! until somebody asks for it.
//!
//! Most of the bytes are never asked for: the specs of pods, and what a change of status leaves as
//! it was.

use std::{borrow::Cow, collections::BTreeMap, fmt::Debug, marker::PhantomData};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{Resource, api::ApiResource, core::DynamicResourceScope};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;

/// An object of any kind.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Its metadata, less what is never read.
    pub metadata: ObjectMeta,
    /// Who wrote which of its fields.
    pub managed_fields: Part,
    /// What is wanted.
    pub spec: Part,
    /// What is.
    pub status: Part,
    /// What a ControllerRevision stores.
    pub data: Part,
}

/// A part of an object, as the text that it was sent as.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Part(Option<Box<RawValue>>);

impl Part {
    /// The part, read as something; None where it is absent.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        self.0.as_ref().map(|text| serde_json::from_str(text.get())).transpose()
    }

    /// The part, read as something that has to be there.
    ///
    /// # Errors
    /// When it is absent, or something else.
    pub fn needed<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.as_ref().map_or("null", |text| text.get()))
    }

    /// The part; the default where it is absent, or something else.
    #[must_use]
    pub fn or_default<T: DeserializeOwned + Default>(&self) -> T {
        self.read().ok().flatten().unwrap_or_default()
    }
}

/// An object as it is sent. A part is kept as text only where it is decoded straight from the
/// bytes, not where serde holds it in between; so in a watch event `type` has to come before
/// `object`, as Kubernetes writes it (metav1.WatchEvent).
#[derive(Deserialize)]
#[serde(bound = "")]
struct Sent<D: Detail> {
    #[serde(default)]
    metadata: Metadata<D::Fields>,
    #[serde(default)]
    spec: D::Spec,
    #[serde(default)]
    status: D::Rest,
    #[serde(default)]
    data: D::Rest,
}

/// Which parts of an object are kept; to copy the others costs time and room.
pub trait Detail: Clone + Debug + Send + Sync + 'static {
    /// Its managed fields.
    type Fields: DeserializeOwned + Default + Into<Part>;
    /// Its spec.
    type Spec: DeserializeOwned + Default + Into<Part>;
    /// Everything else.
    type Rest: DeserializeOwned + Default + Into<Part>;
}

/// All.
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
    type Fields = Part;
    type Spec = Part;
    type Rest = Part;
}
impl Detail for Usual {
    type Fields = PassedOver;
    type Spec = Part;
    type Rest = Part;
}
impl Detail for StatusOnly {
    type Fields = PassedOver;
    type Spec = PassedOver;
    type Rest = Part;
}
impl Detail for NameOnly {
    type Fields = PassedOver;
    type Spec = PassedOver;
    type Rest = PassedOver;
}

/// A part that is not kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassedOver;

impl<'de> Deserialize<'de> for PassedOver {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl From<PassedOver> for Part {
    fn from(_: PassedOver) -> Self {
        Self::default()
    }
}

/// An object of which that much is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Sent<D>", bound = "")]
pub struct Kept<D: Detail>(pub Object, PhantomData<D>);

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

impl<D: Detail> From<Sent<D>> for Kept<D> {
    fn from(sent: Sent<D>) -> Self {
        let from = sent.metadata;
        let metadata = ObjectMeta {
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
            ..ObjectMeta::default()
        };
        let object = Object {
            metadata,
            managed_fields: from.managed_fields.into(),
            spec: sent.spec.into(),
            status: sent.status.into(),
            data: sent.data.into(),
        };
        Self(object, PhantomData)
    }
}

impl<D: Detail> Resource for Kept<D> {
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
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

/// The object that an API server would send so.
#[cfg(test)]
pub fn sent(object: &serde_json::Value) -> Object {
    serde_json::from_str::<Kept<Whole>>(&object.to_string()).unwrap().0
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::{Value, json};

    use super::*;

    fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "fraud", "namespace": "ml", "resourceVersion": "9", "selfLink": null, "labels": {"a": "b"},
                "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"replicas": 2}, "status": null, "data": {"x": 1}, "revision": 3})
    }

    fn is_read(object: &Object) {
        assert_eq!(object.metadata.labels.as_ref().unwrap()["a"], "b");
        assert_eq!(object.metadata.resource_version.as_deref(), Some("9"));
        assert_eq!(
            object.managed_fields.or_default::<Vec<ManagedFieldsEntry>>()[0].manager.as_deref(),
            Some("kubectl")
        );
        assert_eq!(
            (object.spec.or_default::<Value>(), object.data.or_default::<Value>()),
            (json!({"replicas": 2}), json!({"x": 1}))
        );
        assert_eq!(object.status.read::<Value>().unwrap(), None, "null is as if it were absent");
        assert!(
            object.status.needed::<Vec<u8>>().is_err() && object.spec.read::<Vec<u8>>().is_err()
        );
    }

    #[test]
    fn an_object_is_read_from_a_watch_event_and_from_a_list() {
        let event = format!(r#"{{"type": "MODIFIED", "object": {}}}"#, deployment());
        match serde_json::from_str(&event).unwrap() {
            WatchEvent::Modified(Kept::<Whole>(object, _)) => is_read(&object),
            other => panic!("{other:?}"),
        }
        let list = json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {"resourceVersion": "9"}, "items": [deployment()]});
        let list: ObjectList<Kept<Whole>> = serde_json::from_str(&list.to_string()).unwrap();
        is_read(&list.items[0].0);
    }

    #[test]
    fn what_is_not_asked_for_is_not_kept() {
        let text = deployment().to_string();
        let Kept::<StatusOnly>(object, _) = serde_json::from_str(&text).unwrap();
        assert!(
            object.spec.or_default::<Value>().is_null()
                && object.managed_fields.or_default::<Value>().is_null()
        );
        assert_eq!(
            (object.data.or_default::<Value>(), object.metadata.name.as_deref()),
            (json!({"x": 1}), Some("fraud"))
        );
        let Kept::<Usual>(object, _) = serde_json::from_str(&text).unwrap();
        assert!(
            object.managed_fields.or_default::<Value>().is_null()
                && !object.spec.or_default::<Value>().is_null()
        );
        let Kept::<NameOnly>(object, _) = serde_json::from_str(&text).unwrap();
        assert!(
            object.data.or_default::<Value>().is_null()
                && object.metadata.resource_version.is_some()
        );
    }

    #[test]
    fn an_object_without_anything_is_read() {
        let object = sent(&json!({}));
        assert!(object.metadata.name.is_none() && object.spec.or_default::<Value>().is_null());
    }
}
