//! Storing a revision, and what its name stands for where that is taken.

use serde_json::{Value, json};

use super::{Applied, Error, Hand, taken::is_name_taken};
use crate::{
    plan::{Observed, facts::revision::compute_digest, observed::RevisionBody},
    run::{kinds::Kind, reduced::read_body},
};

impl Hand<'_, Observed> {
    pub(super) async fn store_revision(
        &self,
        name: &str,
        labels: &Value,
        body: &RevisionBody,
    ) -> Result<Applied, Error> {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {"name": name, "namespace": self.key.namespace, "labels": labels},
            "revision": 1, "data": body,
        });
        match self.post(Kind::ControllerRevision, &object).await {
            Ok(_) => {
                self.count("store_content", Kind::ControllerRevision, name);
                Ok(Applied::Done)
            }
            Err(error) if is_name_taken(&error) => self.compare_stored(name, labels, body).await,
            Err(source) => Err(self.error("store content", name, source)),
        }
    }

    /// A name that is taken must be taken by the same rendering. Another one of the same revision
    /// was stored since: once the caches show it, another name is chosen. They never show one that
    /// lost the labels by which they find it.
    async fn compare_stored(
        &self,
        name: &str,
        labels: &Value,
        ours: &RevisionBody,
    ) -> Result<Applied, Error> {
        let kind = Kind::ControllerRevision;
        let Some(stored) = self.read_taken("get content", kind, name).await? else {
            return Ok(Applied::Behind);
        };
        let body = read_body(&stored).filter(|body| body.revision_hash == ours.revision_hash);
        let body = body.ok_or_else(|| Error::OtherContent { what: self.what(name) })?;
        self.check_labels("store content", kind, &stored.metadata, labels)?;
        let is_same = compute_digest(&body.rendering) == compute_digest(&ours.rendering);
        Ok(if is_same { Applied::Done } else { Applied::Behind })
    }
}
