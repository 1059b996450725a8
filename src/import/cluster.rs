//! The API server as an importer sees it: its ModelRegistry and the namespace's ModelVersions are
//! watched, and little is written.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::decide::Existing;
use crate::{
    api::{
        ModelRegistry, ModelRegistryStatus, ModelRollout, ModelVersion, ModelVersionSpec,
        condition::truncate_text,
        names,
        version::{Metric, Origin},
    },
    run::{
        client::said,
        event::{self, Regarding},
        kinds::{Key, Kind},
        object::{Kept, Object, Usual},
        reduced::record_digest,
        watch::api,
    },
};

/// Why the API server could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ServiceAccount has not the rights.
    #[error("RBACMissing: this ServiceAccount may not {what} in namespace {namespace}: bind ClusterRole rollmodel-importer to it ({})", bind(.namespace))]
    Forbidden {
        /// What was attempted.
        what: &'static str,
        /// Where.
        namespace: String,
    },
    /// Anything else.
    #[error("{what}: {}", said(source))]
    Request {
        /// What was attempted.
        what: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A record that is none.
    #[error("write the record of {0} as JSON: {1}")]
    Json(String, serde_json::Error),
}

fn bind(namespace: &str) -> String {
    format!(
        "kubectl create rolebinding rollmodel-importer -n {namespace} --clusterrole=rollmodel-importer --serviceaccount={namespace}:NAME"
    )
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there now.
    Created,
    /// Something of that name was there already; the watch will show it.
    Taken,
    /// The API server does not take it, in its words.
    Refused(String),
}

/// A ModelVersion as it is stored.
pub struct Record {
    /// Its uid.
    pub uid: String,
    /// Its spec.
    pub spec: Value,
}

/// The ModelVersions of the namespace, by name.
pub type Versions = Arc<RwLock<BTreeMap<String, Existing>>>;

/// The API server, for one ModelRegistry.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// The ModelRegistry's name.
    pub name: String,
}

/// What is watched.
pub struct Watched {
    /// The ModelRegistry; None where there is none.
    pub registry: watch::Receiver<Option<Arc<ModelRegistry>>>,
    /// The ModelVersions of the namespace.
    pub versions: Versions,
    /// Whether those are all.
    pub synced: watch::Receiver<bool>,
    /// Why it is watched no more.
    pub failed: watch::Receiver<Option<String>>,
}

impl Cluster {
    /// Starts to watch; the tasks end with the receivers.
    #[must_use]
    pub fn watch(&self) -> Watched {
        let (registry, registry_seen) = watch::channel(None);
        let (synced, synced_seen) = watch::channel(false);
        let (failed, failed_seen) = watch::channel(None);
        let versions = Versions::default();
        tokio::spawn(self.clone().watch_registry(registry, failed.clone()));
        tokio::spawn(self.clone().watch_versions(versions.clone(), synced, failed));
        Watched { registry: registry_seen, versions, synced: synced_seen, failed: failed_seen }
    }

    async fn watch_registry(
        self,
        seen: watch::Sender<Option<Arc<ModelRegistry>>>,
        failed: watch::Sender<Option<String>>,
    ) {
        let all = Api::<ModelRegistry>::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut events = std::pin::pin!(watcher(all, config).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    drop(seen.send(Some(Arc::new(object))))
                }
                Ok(Event::Delete(_)) => drop(seen.send(None)),
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => self.trouble(&error, "list and watch modelregistries", &failed),
            }
        }
    }

    async fn watch_versions(
        self,
        versions: Versions,
        synced: watch::Sender<bool>,
        failed: watch::Sender<Option<String>>,
    ) {
        let all = api::<Kept<Usual>>(&self.client, Kind::ModelVersion, Some(&self.namespace));
        let mut events = std::pin::pin!(
            watcher(all, watcher::Config::default().page_size(100)).default_backoff()
        );
        let mut listed = None;
        while let Some(event) = events.next().await {
            let mut versions = versions.write().unwrap_or_else(PoisonError::into_inner);
            match event {
                Ok(Event::Init) => listed = Some(BTreeMap::new()),
                Ok(Event::InitApply(object)) => {
                    let (name, existing) = read(object.0);
                    listed.get_or_insert_default().insert(name, existing);
                }
                Ok(Event::InitDone) => {
                    *versions = listed.take().unwrap_or_default();
                    let _ = synced.send(true);
                }
                Ok(Event::Apply(object)) => {
                    let (name, existing) = read(object.0);
                    versions.insert(name, existing);
                }
                Ok(Event::Delete(object)) => {
                    versions.remove(&read(object.0).0);
                }
                Err(error) => self.trouble(&error, "list and watch modelversions", &failed),
            }
        }
    }

    /// Says what is in the way of a watch; what will not pass by itself ends the process, whose
    /// next start is put off by the kubelet.
    fn trouble(
        &self,
        error: &watcher::Error,
        what: &'static str,
        failed: &watch::Sender<Option<String>>,
    ) {
        let source = match error {
            watcher::Error::InitialListFailed(source)
            | watcher::Error::WatchStartFailed(source)
            | watcher::Error::WatchFailed(source) => source,
            other => return warn!(error = %other, what, "this fails; it is tried again"),
        };
        if is(source, 403) {
            let error = Error::Forbidden { what, namespace: self.namespace.clone() };
            let _ = failed.send(Some(error.to_string()));
            return;
        }
        warn!(error = said(source), what, "this fails; it is tried again");
    }

    /// The recordDigests that rollouts bound a version to.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn bound(&self, model: &str, version: &str) -> Result<Vec<String>, Error> {
        let all = Api::<ModelRollout>::namespaced(self.client.clone(), &self.namespace);
        let params =
            ListParams::default().fields(&format!("spec.model={model},spec.version={version}"));
        let list =
            all.list(&params).await.map_err(|source| self.error("list modelrollouts", source))?;
        Ok(list.items.into_iter().map(|rollout| rollout.spec.record_digest).collect())
    }

    /// The recordDigest that a spec will have.
    ///
    /// # Errors
    /// When it does not serialize.
    pub fn digest_of(spec: &ModelVersionSpec) -> Result<String, Error> {
        let name = names::version_name(&spec.model, &spec.version);
        serde_json::to_value(spec).map(record_digest).map_err(|source| Error::Json(name, source))
    }

    /// Writes a record.
    ///
    /// # Errors
    /// When the API server does not answer, or forbids it.
    pub async fn create(
        &self,
        spec: &ModelVersionSpec,
        left_out: &[String],
    ) -> Result<Written, Error> {
        let name = names::version_name(&spec.model, &spec.version);
        let mut version = ModelVersion::new(&name, spec.clone());
        version.metadata = ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(self.namespace.clone()),
            labels: Some(BTreeMap::from([(names::REGISTRY.into(), self.name.clone())])),
            annotations: (!left_out.is_empty()).then(|| {
                BTreeMap::from([(
                    names::LEFT_OUT.into(),
                    truncate_text(&left_out.join("; "), 2048),
                )])
            }),
            ..ObjectMeta::default()
        };
        let params =
            PostParams { field_manager: Some(names::IMPORTER.into()), ..PostParams::default() };
        match Api::<ModelVersion>::namespaced(self.client.clone(), &self.namespace)
            .create(&params, &version)
            .await
        {
            Ok(_) => {
                info!(version = name, "imported");
                Ok(Written::Created)
            }
            Err(error) if is(&error, 409) => Ok(Written::Taken),
            Err(kube::Error::Api(answer)) if matches!(answer.code, 400 | 422) => {
                Ok(Written::Refused(answer.message.clone()))
            }
            // Admission and quota forbid too, in their own words.
            Err(kube::Error::Api(answer))
                if answer.code == 403 && !answer.message.contains("cannot create resource") =>
            {
                Ok(Written::Refused(answer.message.clone()))
            }
            Err(error) if is(&error, 403) => Err(Error::Forbidden {
                what: "create modelversions",
                namespace: self.namespace.clone(),
            }),
            Err(source) => Err(self.error(&format!("create ModelVersion {name}"), source)),
        }
    }

    /// One ModelVersion, past the cache, which keeps little of it.
    ///
    /// # Errors
    /// When the API server does not answer, or forbids it.
    pub async fn record(&self, name: &str) -> Result<Option<Record>, Error> {
        let all = api::<Kept<Usual>>(&self.client, Kind::ModelVersion, Some(&self.namespace));
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        let list =
            all.list(&params).await.map_err(|source| self.error("list modelversions", source))?;
        let read = |object: Object| Record {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            spec: object.spec.or_default(),
        };
        Ok(list.items.into_iter().next().map(|object| read(object.0)))
    }

    /// Writes a version's evaluations, unless they are somebody else's. What is refused is logged,
    /// and fails nothing.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn evaluate(
        &self,
        name: &str,
        uid: &str,
        evaluations: &[Metric],
    ) -> Result<(), Error> {
        let body = json!({
            "apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelVersion", "metadata": {"name": name, "uid": uid},
            "spec": {"evaluations": evaluations},
        });
        let versions = Api::<ModelVersion>::namespaced(self.client.clone(), &self.namespace);
        match versions
            .patch_metadata(name, &PatchParams::apply(names::IMPORTER), &Patch::Apply(body))
            .await
        {
            Ok(_) => {
                info!(version = name, evaluations = evaluations.len(), "evaluations written down")
            }
            // Also where it is gone meanwhile, or another.
            Err(error) if is(&error, 409) => debug!(
                version = name,
                says = said(&error),
                "its evaluations are left to who owns them"
            ),
            Err(error) if is(&error, 403) => {
                warn!(
                    version = name,
                    error = said(&error),
                    "its evaluations are not written: ClusterRole rollmodel-importer is older than this importer, or something else forbids it"
                );
            }
            Err(kube::Error::Api(answer)) if matches!(answer.code, 400 | 404 | 422) => {
                warn!(version = name, error = answer.message, "its evaluations are not taken");
            }
            Err(source) => {
                return Err(
                    self.error(&format!("write the evaluations of ModelVersion {name}"), source)
                );
            }
        }
        Ok(())
    }

    /// Writes the status; gives the object as it is then. None where it is gone, or another by now.
    ///
    /// # Errors
    /// When the API server does not answer, or forbids it.
    pub async fn status(
        &self,
        uid: &str,
        status: &ModelRegistryStatus,
    ) -> Result<Option<ModelRegistry>, Error> {
        // The operator writes this status too while the importer does not run, and each its words
        // whole: so a merge patch, which replaces a list, and no apply, which would leave the
        // other's conditions in it. What is absent now is null.
        let absent =
            ["conditions", "lastPollTime", "serverVersion", "imported", "models", "problems"]
                .map(|field| (field.to_owned(), Value::Null));
        let mut all: serde_json::Map<String, Value> = absent.into_iter().collect();
        let said = serde_json::to_value(status)
            .map_err(|source| Error::Json(self.name.clone(), source))?;
        all.extend(said.as_object().cloned().unwrap_or_default());
        let body = json!({"metadata": {"uid": uid}, "status": all});
        let params =
            PatchParams { field_manager: Some(names::IMPORTER.into()), ..PatchParams::default() };
        let registries = Api::<ModelRegistry>::namespaced(self.client.clone(), &self.namespace);
        match registries.patch_status(&self.name, &params, &Patch::Merge(body)).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(None),
            Err(error) if is(&error, 403) => Err(Error::Forbidden {
                what: "patch modelregistries/status",
                namespace: self.namespace.clone(),
            }),
            Err(source) => Err(self.error("write the status", source)),
        }
    }

    /// Writes an Event about the ModelRegistry, once for each key. One that is lost is logged, and
    /// fails nothing.
    pub async fn tell(&self, uid: &str, warning: bool, (reason, message, key): (&str, &str, &str)) {
        let about = Regarding {
            kind: Kind::ModelRegistry,
            key: &Key::new(self.namespace.as_str(), self.name.as_str()),
            uid,
        };
        let event = event::event("importer", &about, warning, (reason, message, key));
        let request = http::Request::post(event::path(&self.namespace))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(event.to_string().into_bytes());
        let Ok(request) = request else { return };
        match self.client.request::<Value>(request).await {
            Ok(_) => info!(reason, says = message, "event"),
            Err(error) if is(&error, 409) => debug!(reason, "this Event is there already"),
            Err(error) => warn!(
                reason,
                says = message,
                error = said(&error),
                "this Event could not be written"
            ),
        }
    }

    fn error(&self, what: &str, source: kube::Error) -> Error {
        Error::Request {
            what: format!("{what} in namespace {}", self.namespace),
            source: Box::new(source),
        }
    }
}

fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// What is read of a ModelVersion.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Brief {
    model: String,
    version: String,
    image: Option<String>,
    artifact: Option<BriefArtifact>,
    origin: Option<Origin>,
    run: Option<BriefRun>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BriefRun {
    end_time: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BriefArtifact {
    digest: Option<String>,
    size: Option<i64>,
}

fn read(object: Object) -> (String, Existing) {
    let brief: Brief = object.spec.or_default();
    let artifact = brief.artifact.unwrap_or_default();
    let existing = Existing {
        model: brief.model,
        version: brief.version,
        image: brief.image,
        digest: artifact.digest,
        size: artifact.size,
        origin: brief.origin,
        goes_on: brief.run.is_some_and(|run| run.end_time.is_none()),
    };
    (object.metadata.name.unwrap_or_default(), existing)
}
