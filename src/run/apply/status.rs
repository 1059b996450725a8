//! Writing the status of an object, whole.

use std::fmt::Debug;

use kube::api::{ApiResource, Patch, PatchParams};
use serde::Serialize;
use serde_json::json;

use super::{Answer, Hand, send};
use crate::{
    api::names,
    run::{kinds::Kind, schemas::prune_object},
};

/// An object of which only the status is written; the uid guards against writing onto an object
/// that took the name meanwhile.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusPatch<'a, S> {
    api_version: String,
    kind: String,
    metadata: Metadata<'a>,
    status: &'a S,
}

#[derive(Debug, Serialize)]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
}

impl<Seen> Hand<'_, Seen> {
    /// Writes a whole status, less what the served schema does not know of it.
    pub(super) async fn put_status(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        status: &(impl Serialize + Debug),
    ) -> Result<Answer, kube::Error> {
        let Some(schema) = self.caches.find_older_schema(kind) else {
            return self.apply_status(kind, name, uid, status).await;
        };
        let mut object = json!({"status": status});
        prune_object(&schema, &mut object);
        self.apply_status(kind, name, uid, &object["status"]).await
    }

    async fn apply_status<S: Serialize + Debug>(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        status: &S,
    ) -> Result<Answer, kube::Error> {
        let namespace = &self.key.namespace;
        let ApiResource { api_version, kind: kind_name, .. } = kind.resource();
        let metadata = Metadata { name, namespace, uid };
        let patch = StatusPatch { api_version, kind: kind_name, metadata, status };
        let params = PatchParams::apply(names::MANAGER).force();
        let (client, at) = (self.client, (&**namespace, name));
        send::patch(client, kind, at, Some("status"), &params, &Patch::Apply(patch)).await
    }
}
