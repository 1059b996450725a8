//! Sending writes. Only the metadata of what they left is read, so nothing else is asked for.

use http::{Request, header};
use kube::{
    Client, Resource,
    api::{Patch, PatchParams},
    core,
};
use serde::Serialize;
use serde_json::Value;

use super::Answer;
use crate::{api::names, run::kinds::Kind};

/// Asks for the metadata of an object alone (Kubernetes API Concepts, "Metadata-only fetches").
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Where the objects of a kind in one namespace are.
pub(super) fn path(kind: Kind, namespace: &str) -> String {
    Answer::url_path(&kind.resource(), Some(namespace))
}

/// POSTs with our manager, and strictly: a field that the server does not know is an error, not a
/// loss (kube's own parameters cannot say so).
pub(super) async fn post(client: &Client, path: &str, body: &Value) -> Result<Answer, kube::Error> {
    let bytes = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
    let url = format!("{path}?fieldManager={}&fieldValidation=Strict", names::MANAGER);
    let request = Request::post(url).header(header::CONTENT_TYPE, "application/json").body(bytes);
    send(client, request.map_err(kube::Error::HttpError)?).await
}

/// Patches an object, or its status alone.
pub(super) async fn patch<P: Serialize>(
    client: &Client,
    kind: Kind,
    (namespace, name): (&str, &str),
    subresource: Option<&str>,
    params: &PatchParams,
    patch: &Patch<P>,
) -> Result<Answer, kube::Error> {
    let request = core::Request::new(path(kind, namespace));
    let request = match subresource {
        Some(subresource) => request.patch_subresource(subresource, name, params, patch),
        None => request.patch(name, params, patch),
    };
    send(client, request.map_err(kube::Error::BuildRequest)?).await
}

async fn send(client: &Client, mut request: Request<Vec<u8>>) -> Result<Answer, kube::Error> {
    let metadata_only = header::HeaderValue::from_static(METADATA_ONLY);
    request.headers_mut().insert(header::ACCEPT, metadata_only);
    client.request(request).await
}
