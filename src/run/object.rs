//! Objects as the API server sends them: the metadata is read, every other part stays as it came until somebody asks for it.
//!
//! Most of the bytes are never asked for: the specs of pods, and what a change of status leaves as it was.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{Resource, api::ApiResource, core::DynamicResourceScope};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// An object of any kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Sent")]
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

/// An object as it is sent. A part is kept as text only where it is decoded straight from the bytes, not where serde holds it in
/// between; so in a watch event `type` has to come before `object`, as Kubernetes writes it (metav1.WatchEvent).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Sent {
    metadata: Metadata,
    spec: Part,
    status: Part,
    data: Part,
}

/// What is read of metadata.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
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
    managed_fields: Part,
}

impl From<Sent> for Object {
    fn from(sent: Sent) -> Self {
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
        Self { metadata, managed_fields: from.managed_fields, spec: sent.spec, status: sent.status, data: sent.data }
    }
}

impl Resource for Object {
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

/// The object that an API server would send so.
#[cfg(test)]
pub fn sent(object: &serde_json::Value) -> Object {
    serde_json::from_str(&object.to_string()).unwrap()
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
        assert_eq!(object.managed_fields.or_default::<Vec<ManagedFieldsEntry>>()[0].manager.as_deref(), Some("kubectl"));
        assert_eq!((object.spec.or_default::<Value>(), object.data.or_default::<Value>()), (json!({"replicas": 2}), json!({"x": 1})));
        assert_eq!(object.status.read::<Value>().unwrap(), None, "null is as if it were absent");
        assert!(object.status.needed::<Vec<u8>>().is_err() && object.spec.read::<Vec<u8>>().is_err());
    }

    #[test]
    fn an_object_is_read_from_a_watch_event_and_from_a_list() {
        let event = format!(r#"{{"type": "MODIFIED", "object": {}}}"#, deployment());
        match serde_json::from_str(&event).unwrap() {
            WatchEvent::Modified(object) => is_read(&object),
            other => panic!("{other:?}"),
        }
        let list =
            json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {"resourceVersion": "9"}, "items": [deployment()]});
        let list: ObjectList<Object> = serde_json::from_str(&list.to_string()).unwrap();
        is_read(&list.items[0]);
    }

    #[test]
    fn an_object_without_anything_is_read() {
        let object = sent(&json!({}));
        assert!(object.metadata.name.is_none() && object.spec.or_default::<Value>().is_null());
    }
}
