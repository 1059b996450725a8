//! The API server without kubectl: where a test asks so often that starting a process each time
//! would be the load.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Cluster;

/// What tests run their own asynchronous parts on: it lives as long as the process.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let make = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    };
    RUNTIME.get_or_init(make)
}

/// An administrator's view of one namespace.
#[derive(Clone)]
pub struct Rest {
    client: Client,
    namespace: String,
}

impl Rest {
    /// Of a namespace.
    pub fn new(cluster: &Cluster, namespace: &str) -> Self {
        Self { client: runtime().block_on(cluster.client()), namespace: namespace.into() }
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where a kind of this namespace is: of ours by plural, of others by group and version too.
    pub fn path(&self, what: &str) -> String {
        let (plural, _) = what.split_once('/').unwrap_or((what, ""));
        let group = match plural {
            "deployments" | "controllerrevisions" | "replicasets" => "/apis/apps/v1",
            "services" | "pods" => "/api/v1",
            "leases" => "/apis/coordination.k8s.io/v1",
            _ => "/apis/rollmodel.dev/v1alpha1",
        };
        format!("{group}/namespaces/{}/{what}", self.namespace)
    }

    /// One object, such as `modeldeployments/fraud`; None where it is not there.
    pub fn get(&self, what: &str) -> Option<Value> {
        match self.send(&Method::GET, what, &Value::Null) {
            Ok(object) => Some(object),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("get {what}: {error}"),
        }
    }

    /// Every object of a kind, by name.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let list = self.get(kind).unwrap_or_default();
        let mut items = list["items"].as_array().cloned().unwrap_or_default();
        items.sort_by_key(|o| o["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        items
    }

    /// Creates an object of a kind.
    pub fn create(&self, kind: &str, object: &Value) {
        self.send(&Method::POST, kind, object)
            .unwrap_or_else(|error| panic!("create {kind}: {error}: {object}"));
    }

    /// Merges into an object, or into its status (`rolloutrequests/ask/status`).
    pub fn merge(&self, what: &str, object: &Value) {
        self.send(&Method::PATCH, what, object)
            .unwrap_or_else(|error| panic!("patch {what}: {error}: {object}"));
    }

    /// Deletes an object with all that it owns, if it is there.
    pub fn delete(&self, what: &str) {
        let _ = self.send(&Method::DELETE, what, &json!({"propagationPolicy": "Background"}));
    }

    /// One request.
    pub fn send(&self, method: &Method, what: &str, body: &Value) -> kube::Result<Value> {
        let kind = if *method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request =
            Request::builder().method(method).uri(self.path(what)).header("content-type", kind);
        runtime().block_on(self.client.request(request.body(bytes).expect("a request")))
    }
}

/// Waits until something is so, and fails with what `why` says.
pub fn within(patience: Duration, mut is: impl FnMut() -> bool, why: impl FnOnce() -> String) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < patience, "not within {patience:?}: {}", why());
        std::thread::park_timeout(Duration::from_millis(100));
    }
}
