//! A name that is taken: what a POST that was answered 409 would have created is there already.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{Error, Hand};
use crate::{
    api::names,
    run::{
        kinds::Kind,
        object::{Kept, Object, Whole},
        watch::api,
    },
};

/// The labels by which the watches and the caches find what the operator creates.
const FOUND_BY: [&str; 2] = [names::MANAGED_BY, names::MODEL_DEPLOYMENT];

/// True if the name of a new object is taken.
pub(super) fn is_name_taken(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

impl<Seen> Hand<'_, Seen> {
    /// Reads the object whose name is taken; None if it is gone again.
    pub(super) async fn read_taken(
        &self,
        verb: &'static str,
        kind: Kind,
        name: &str,
    ) -> Result<Option<Object>, Error> {
        let api = api::<Kept<Whole>>(self.client, kind, Some(&self.key.namespace));
        let object = api.get_opt(name).await.map_err(|source| self.error(verb, name, source))?;
        Ok(object.map(|kept| kept.0))
    }

    /// Checks that an object of ours has the labels of those it was created with by which it is
    /// found again.
    ///
    /// # Errors
    /// The labels that it lacks, with the command that adds them: no cache will ever show it.
    pub(super) fn check_labels(
        &self,
        verb: &'static str,
        kind: Kind,
        live: &ObjectMeta,
        created_with: &Value,
    ) -> Result<(), Error> {
        let has = |key: &str| live.labels.as_ref().and_then(|labels| labels.get(key));
        let wanted = FOUND_BY.iter().filter_map(|key| Some((*key, created_with[*key].as_str()?)));
        let missing: Vec<String> = wanted
            .filter(|(key, value)| has(key).is_none_or(|live| live != value))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::Unlabelled {
            verb,
            kind: kind.name(),
            namespace: self.key.namespace.to_string(),
            name: live.name.clone().unwrap_or_default(),
            labels: missing.join(" "),
        })
    }
}
