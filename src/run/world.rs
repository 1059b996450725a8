//! An API server of the tests: it stores, it counts, it answers badly when told to, and it plays
//! Kubernetes' Deployment controller.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response};
use kube::{Client, client::Body, runtime::watcher::Event};
use serde_json::{Value, json};

use super::{
    cache::{Shared, Sync},
    kinds::{KINDS, Key, Watched},
    lease::Leads,
    memory::{hash, lock},
    metrics::Metrics,
    object::{Object, sent},
    observe::Caches,
    reconcile::{Context, Settings, What},
};

/// The answer that never comes.
pub const SILENCE: u16 = 0;

/// What is stored, by path, and what was asked.
#[derive(Default)]
pub struct Store {
    pub objects: BTreeMap<String, Value>,
    pub log: Vec<String>,
    pub answers: Vec<(String, u16, Value)>,
    /// What a webhook makes of each object that is written.
    pub admit: Option<fn(&mut Value)>,
    fed: BTreeMap<String, (u64, Value)>,
    version: u64,
}

/// The store, and the context that works on it.
pub struct World {
    pub store: Arc<Mutex<Store>>,
    pub context: Context,
}

pub fn key() -> Key {
    Key::new("ml", "fraud")
}

impl World {
    /// A ModelVersion and a ModelDeployment that names it.
    pub fn new() -> Self {
        Self::led(Leads::Always)
    }

    pub fn led(leads: Leads) -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        let served = store.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let store = served.clone();
            async move { Ok::<_, tower::BoxError>(serve(&store, request).await) }
        });
        let context = Context {
            client: Client::new(service, "default"),
            caches: Arc::new(Caches::default()),
            metrics: Metrics::new(),
            leads: tokio::sync::watch::channel(leads).1,
            deployments: Arc::default(),
            versions: Arc::default(),
            registries: Arc::default(),
            settings: Settings::default(),
        };
        for kind in KINDS {
            context.caches.readiness.set(kind, Sync::Synced);
        }
        let world = Self { store, context };
        world.put(
            "rollmodel.dev/v1alpha1",
            "ModelVersion",
            "modelversions",
            "fraud-1",
            json!({"model": "fraud", "version": "1", "image": "models/fraud:1"}),
        );
        world.put(
            "rollmodel.dev/v1alpha1",
            "ModelDeployment",
            "modeldeployments",
            "fraud",
            json!({"model": "fraud", "version": "1", "replicas": 2}),
        );
        world
    }

    pub fn put(&self, version: &str, kind: &str, plural: &str, name: &str, spec: Value) {
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "ml"}, "spec": spec});
        lock(&self.store).create(&format!("/apis/{version}/namespaces/ml/{plural}"), object);
        self.feed();
    }

    /// Answers the next request that begins so with a failure, or never.
    pub fn answer(&self, request: &str, code: u16, causes: bool) {
        let causes = if causes {
            json!([{"reason": "FieldValueInvalid", "message": "m", "field": "spec"}])
        } else {
            json!([])
        };
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": format!("answered {code}"),
            "reason": "", "details": {"causes": causes}});
        lock(&self.store).answers.push((request.into(), code, status));
    }

    /// Shows the caches everything that was written.
    pub fn feed(&self) {
        let events = lock(&self.store).events();
        let caches = &self.context.caches;
        for (kind, event) in events {
            match kind.as_str() {
                "ModelDeployment" => take(&caches.wanted, event),
                "ModelVersion" => take(&caches.versions, event),
                "ModelRollout" => take(&caches.records, event),
                "RolloutRequest" => take(&caches.requests, event),
                "ModelPolicy" => take(&caches.policies, event),
                "ModelRegistry" => take(&caches.registries, event),
                "Job" => take(&caches.jobs, event),
                "ControllerRevision" => take(&caches.contents, event),
                "Deployment" => take(&caches.workloads, event),
                "Service" => take(&caches.services, event),
                "Pod" => take(&caches.pods, event),
                _ => {}
            }
        }
    }

    /// One pass; what it asked of the server.
    pub async fn pass(&self) -> Vec<String> {
        lock(&self.store).log.clear();
        self.context.pass(What::Deployment, &key()).await.unwrap();
        std::mem::take(&mut lock(&self.store).log)
    }

    /// Passes, the Deployment controller doing its work and the caches following in between, until
    /// one asks for nothing.
    pub async fn settle(&self) -> usize {
        let mut requests = 0;
        for _ in 0..20 {
            self.roll();
            self.feed();
            let asked = self.pass().await.len();
            requests += asked;
            if asked == 0 {
                return requests;
            }
        }
        panic!("it does not settle: {:?}", self.pass().await);
    }

    /// The pods of the Deployment's template, all of them ready, and the status that Kubernetes'
    /// Deployment controller then writes.
    pub fn roll(&self) {
        let mut store = lock(&self.store);
        let path = "/apis/apps/v1/namespaces/ml/deployments/fraud";
        let Some(mut object) = store.objects.get(path).cloned() else { return };
        store.replace_pods(&object["spec"]);
        let replicas = object["spec"]["replicas"].clone();
        let status = json!({"observedGeneration": object["metadata"]["generation"], "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": replicas, "availableReplicas": replicas,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": ""},
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": ""}]});
        if object["status"] != status {
            object["status"] = status;
            store.keep(path, object);
        }
    }

    pub fn object(&self, path: &str) -> Value {
        lock(&self.store).objects.get(path).cloned().unwrap_or_default()
    }

    pub fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        self.edit_unseen(path, edit);
        self.feed();
    }

    /// As [`World::edit`]; the caches do not show it yet.
    pub fn edit_unseen(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.object(path);
        edit(&mut object);
        object["metadata"]["generation"] =
            json!(object["metadata"]["generation"].as_i64().unwrap_or_default() + 1);
        lock(&self.store).keep(path, object);
    }
}

/// What the label selector of a watch does not match is not there for it.
fn take<T: Watched>(cache: &Shared<T>, event: Event<Object>) {
    let event = match event {
        Event::Apply(object) if T::KIND.selector().is_some() && !is_managed::<T>(&object) => {
            Event::Delete(object)
        }
        event => event,
    };
    cache.write().feed(event);
}

fn is_managed<T: Watched>(object: &Object) -> bool {
    let (key, value) = (T::KIND.selector()).map_or(("", None), |selector| {
        selector.split_once('=').map_or((selector, None), |(key, value)| (key, Some(value)))
    });
    let live = object.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    live.is_some_and(|live| value.is_none_or(|value| live == value))
}

impl Store {
    fn keep(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.into(), object);
    }

    pub fn create(&mut self, collection: &str, mut object: Value) -> Value {
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap());
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.keep(&path, object);
        self.objects[&path].clone()
    }

    /// Leaves ready pods of a Deployment's template only, as many as it asks for.
    fn replace_pods(&mut self, spec: &Value) {
        let collection = "/api/v1/namespaces/ml/pods";
        let metadata = &spec["template"]["metadata"];
        let hash = format!("{:x}", hash(&spec["template"].to_string()));
        let name = |n: i64| format!("fraud-{hash}-{n}");
        let names: Vec<String> = (0..spec["replicas"].as_i64().unwrap_or(1)).map(name).collect();
        let path = |name: &String| format!("{collection}/{name}");
        let wanted: Vec<String> = names.iter().map(path).collect();
        let is_pod = |path: &String| path.starts_with("/api/v1/namespaces/ml/pods/");
        self.objects.retain(|path, _| !is_pod(path) || wanted.contains(path));
        for name in &names {
            if self.objects.contains_key(&path(name)) {
                continue;
            }
            let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": format!("fraud-{hash}"), "uid": "uid"});
            let mut metadata = metadata.clone();
            metadata["labels"]["pod-template-hash"] = json!(hash);
            (metadata["name"], metadata["namespace"]) = (json!(name), json!("ml"));
            metadata["ownerReferences"] = json!([owner]);
            let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "model", "ready": true, "state": {"running": {}}}]});
            let pod =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status});
            self.create(collection, pod);
        }
    }

    fn events(&mut self) -> Vec<(String, Event<Object>)> {
        let version =
            |o: &Value| o["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
        let kind = |o: &Value| o["kind"].as_str().unwrap_or_default().to_owned();
        let mut all: Vec<(u64, String, Event<Object>)> = Vec::new();
        for (path, object) in &self.objects {
            if self.fed.get(path).is_none_or(|(v, _)| *v < version(object)) {
                all.push((version(object), kind(object), Event::Apply(sent(object))));
            }
        }
        for (path, (_, object)) in &self.fed {
            if !self.objects.contains_key(path) {
                self.version += 1;
                let mut gone = object.clone();
                gone["metadata"]["resourceVersion"] = json!(self.version.to_string());
                all.push((self.version, kind(&gone), Event::Delete(sent(&gone))));
            }
        }
        self.fed = self.objects.iter().map(|(p, o)| (p.clone(), (version(o), o.clone()))).collect();
        all.sort_by_key(|(v, ..)| *v);
        all.into_iter().map(|(_, kind, event)| (kind, event)).collect()
    }
}

async fn serve(store: &Mutex<Store>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body: Value =
        serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let line = match parts.method {
        Method::POST => {
            format!("POST {path}/{}", body["metadata"]["name"].as_str().unwrap_or_default())
        }
        _ => format!("{} {path}", parts.method),
    };
    let (code, answer) = {
        let mut store = lock(store);
        store.log.push(line.clone());
        match store.answers.iter().position(|(begin, ..)| line.starts_with(begin)) {
            Some(found) => {
                let (_, code, status) = store.answers.remove(found);
                (code, status)
            }
            None => act(&mut store, &parts.method, &path, body),
        }
    };
    if code == SILENCE {
        std::future::pending::<()>().await;
    }
    Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer).unwrap())).unwrap()
}

fn act(store: &mut Store, method: &Method, path: &str, body: Value) -> (u16, Value) {
    let failure = |code: u16| {
        (
            code,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": ""}),
        )
    };
    let main = path.trim_end_matches("/status").to_owned();
    let Some(object) = store.objects.get(&main).cloned() else {
        return match *method {
            Method::POST
                if store.objects.contains_key(&format!(
                    "{path}/{}",
                    body["metadata"]["name"].as_str().unwrap()
                )) =>
            {
                failure(409)
            }
            Method::POST => {
                let mut body = body;
                store.admit.iter().for_each(|admit| admit(&mut body));
                (201, store.create(path, body))
            }
            _ => failure(404),
        };
    };
    let mut next = object.clone();
    match (method, body) {
        (&Method::GET, _) => return (200, object),
        (&Method::DELETE, _) => {
            store.objects.remove(&main);
            return (200, object);
        }
        (_, Value::Array(ops)) => {
            let patch: json_patch::Patch = serde_json::from_value(Value::Array(ops)).unwrap();
            if json_patch::patch(&mut next, &patch).is_err() {
                return failure(422);
            }
            store.admit.iter().for_each(|admit| admit(&mut next));
            if next["spec"] != object["spec"] {
                next["metadata"]["generation"] =
                    json!(object["metadata"]["generation"].as_i64().unwrap() + 1);
            }
        }
        (_, other)
            if other["metadata"]
                .get("resourceVersion")
                .is_some_and(|v| *v != object["metadata"]["resourceVersion"]) =>
        {
            return failure(409);
        }
        (_, apply) => next["status"] = apply["status"].clone(),
    }
    if next != object {
        store.keep(&main, next);
    }
    (200, store.objects[&main].clone())
}
