//! What is kept of ModelRegistries, and what is read of their importers' pods.

use kube::{Client, api::ListParams};
use serde_json::Value;

use super::{
    kinds::{Key, Kind, News, Packed, Watched},
    lookup,
    object::{Kept, Object, StatusOnly},
    observe::Caches,
    reduced::text,
    watch::api,
};
use crate::{
    api::{ModelRegistrySpec, ModelRegistryStatus, condition::truncate_text, names},
    plan::registry::{ObservedRegistry, importer},
};

/// The longest termination message that is read, in bytes.
const WORDS_MAX: usize = 700;
/// The most pods of an importer that are looked at.
const PODS: u32 = 10;

/// A ModelRegistry.
pub struct RegistryEntry {
    uid: String,
    resource_version: String,
    generation: i64,
    spec: Packed<ModelRegistrySpec>,
    status: Option<Packed<ModelRegistryStatus>>,
}

impl Watched for RegistryEntry {
    const KIND: Kind = Kind::ModelRegistry;

    fn read(mut object: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        let status: Option<ModelRegistryStatus> = object.status.read().ok().flatten();
        Ok(Self {
            uid: object.metadata.uid.take().unwrap_or_default(),
            resource_version: object.metadata.resource_version.take().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            spec: Packed::pack(&object.spec.needed::<ModelRegistrySpec>()?)?,
            status: status.as_ref().map(Packed::pack).transpose()?,
        })
    }

    fn owners(_: &Object) -> Vec<String> {
        Vec::new()
    }

    fn news(_: Option<&Self>, _: Option<&Self>) -> Option<News> {
        Some(News::Turn)
    }
}

impl Caches {
    /// Everything that is known about one ModelRegistry; None when there is none, or it cannot be
    /// read.
    #[must_use]
    pub fn observe_registry(&self, key: &Key) -> Option<ObservedRegistry> {
        let registries = self.registries.read();
        let entry = registries.get(key)?.value.as_ref().ok()?;
        let workload = Key::new(key.namespace.clone(), importer::build_name(&key.name));
        Some(ObservedRegistry {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid: entry.uid.clone(),
            resource_version: entry.resource_version.clone(),
            generation: entry.generation,
            spec: entry.spec.unpack().ok()?,
            status: entry.status.as_ref().and_then(|status| status.unpack().ok()),
            workload: self.workload(&workload).ok().flatten(),
            ..ObservedRegistry::default()
        })
    }

    /// The names of every ModelRegistry.
    #[must_use]
    pub fn registry_names(&self) -> Vec<Key> {
        self.registries.read().all().map(|(key, _)| key.clone()).collect()
    }
}

/// What the pods of an importer said last; empty where they said nothing.
///
/// # Errors
/// When the API server does not answer.
pub async fn hear(client: &Client, key: &Key) -> Result<String, lookup::Error> {
    let params =
        ListParams::default().labels(&format!("{}={}", names::REGISTRY, key.name)).limit(PODS);
    let pods = api::<Kept<StatusOnly>>(client, Kind::Pod, Some(&key.namespace)).list(&params).await;
    let failed = |source| lookup::Error::Request {
        what: format!("the importer's pods of {key}"),
        source: Box::new(source),
    };
    Ok(pods.map_err(failed)?.items.iter().find_map(|pod| last_words(&pod.0)).unwrap_or_default())
}

/// How the importer in a pod ended the last time.
fn last_words(pod: &Object) -> Option<String> {
    let status: Value = pod.status.or_default();
    let ours = status["containerStatuses"]
        .as_array()?
        .iter()
        .find(|c| c["name"] == importer::CONTAINER)?;
    let words =
        ["/state/terminated/message", "/lastState/terminated/message"].map(|path| text(ours, path));
    words
        .into_iter()
        .map(|words| truncate_text(words.trim(), WORDS_MAX))
        .find(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::object::sent;

    #[test]
    fn an_importer_that_waits_to_be_started_again_said_something_before() {
        let pod = |status: Value| {
            sent(&json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}}))
        };
        let waits = json!({"name": "importer", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "message": "RBACMissing: no\n"}}});
        assert_eq!(last_words(&pod(waits)).as_deref(), Some("RBACMissing: no"));
        assert_eq!(last_words(&pod(json!({"name": "importer", "state": {"running": {}}}))), None);
        assert_eq!(
            last_words(&pod(json!({"name": "proxy", "state": {"terminated": {"message": "x"}}}))),
            None
        );
    }
}
