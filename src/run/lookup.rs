//! Reads past the caches, of just what the planner asks for.

mod replica_sets;

use self::replica_sets::list_replica_sets;

use kube::{Client, api::ListParams};

use super::{
    client::said,
    kinds::{Key, Kind, Watched},
    object::{Kept, Object, StatusOnly, Whole},
    observe::{Caches, Found},
    reduced::{digest_body, read_body, read_service},
    verification::last_words,
    watch::api,
    workload::read_workload,
};
use crate::plan::{
    Lookup,
    observed::Heard,
    observed::{Record, StoredRevision},
};

/// Records a page.
const PAGE: u32 = 100;

/// A look past the caches that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or nothing.
    #[error("read {what} past the cache: {}", said(source))]
    Request {
        /// What was read.
        what: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// What was read is not what this build knows.
    #[error("read {what} past the cache: it is not what this operator knows: {source}")]
    Decode {
        /// What was read.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Reads what is asked for, and adds it to what was found.
///
/// # Errors
/// When the API server does not answer, or answers what this build cannot read.
pub async fn look(
    client: &Client,
    caches: &Caches,
    key: &Key,
    lookup: &Lookup,
    found: &mut Found,
) -> Result<(), Error> {
    match lookup {
        Lookup::Revision(name) => {
            let content = get(client, Kind::ControllerRevision, key, name)
                .await?
                .map(|object| stored(name, object));
            if let Some(body) = content.as_ref().and_then(|c| c.body.as_ref()) {
                caches.keep_body(&Key::new(key.namespace.clone(), name.as_str()), body);
            }
            found.contents.insert(name.clone(), content);
        }
        Lookup::Records => found.records = Some(records(client, key).await?),
        Lookup::Deployment(name) => {
            let object = get(client, Kind::Deployment, key, name).await?;
            found.workload =
                object.map(read_workload).transpose().map_err(|e| decode("Deployment", key, e))?;
        }
        Lookup::ReplicaSets => {
            let live = match &found.workload {
                Some(live) => Some(live.meta.uid.clone()),
                None => caches.find_deployment_uid(key),
            };
            found.replica_sets = Some(list_replica_sets(client, key, live).await?);
        }
        Lookup::Service(name) => {
            let object = get(client, Kind::Service, key, name).await?;
            found.service =
                object.map(read_service).transpose().map_err(|e| decode("Service", key, e))?;
        }
    }
    found.looked_up.push(lookup.clone());
    Ok(())
}

fn stored(name: &str, mut object: Object) -> StoredRevision {
    let body = read_body(&object);
    StoredRevision {
        name: name.to_owned(),
        uid: object.metadata.uid.take().unwrap_or_default(),
        resource_version: object.metadata.resource_version.take().unwrap_or_default(),
        rendering_digest: Some(digest_body(body.as_ref())),
        body: body.map(Into::into),
    }
}

async fn get(client: &Client, kind: Kind, key: &Key, name: &str) -> Result<Option<Object>, Error> {
    let what = || format!("{} {}/{name}", kind.name(), key.namespace);
    let object = api::<Kept<Whole>>(client, kind, Some(&key.namespace)).get_opt(name).await;
    Ok(object
        .map_err(|source| Error::Request { what: what(), source: Box::new(source) })?
        .map(|kept| kept.0))
}

async fn records(client: &Client, key: &Key) -> Result<Vec<Record>, Error> {
    let mut params = ListParams::default()
        .fields(&format!("spec.modelDeploymentRef.name={}", key.name))
        .limit(PAGE);
    let mut records = Vec::new();
    loop {
        let page = api::<Kept<Whole>>(client, Kind::ModelRollout, Some(&key.namespace))
            .list(&params)
            .await;
        let page = page.map_err(|source| Error::Request {
            what: format!("the ModelRollouts of {key}"),
            source: Box::new(source),
        })?;
        for object in page.items {
            records.push(Record::read(object.0, None).map_err(|e| decode("ModelRollout", key, e))?);
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(records);
        }
    }
}

/// What the pods of an ended Job said last.
///
/// # Errors
/// When the API server does not answer.
pub async fn hear(client: &Client, key: &Key, job: &str) -> Result<Heard, Error> {
    let params = ListParams::default()
        .labels(&format!("batch.kubernetes.io/controller-uid={job}"))
        .limit(PAGE);
    let pods = api::<Kept<StatusOnly>>(client, Kind::Pod, Some(&key.namespace)).list(&params).await;
    let pods = pods.map_err(|source| Error::Request {
        what: format!("the pods of Job {job} of {key}"),
        source: Box::new(source),
    })?;
    Ok(Heard {
        job: job.to_owned(),
        words: pods.items.iter().filter_map(|pod| last_words(&pod.0, job)).collect(),
    })
}

fn decode(kind: &str, key: &Key, source: serde_json::Error) -> Error {
    Error::Decode { what: format!("{kind} {key}"), source }
}
