//! Carries out what was planned about a ModelRegistry: its importer's Deployment, and what is said
//! while that does not speak.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{Applied, Error, Hand, children::moved_on, send, sure, taken::is_name_taken};
use crate::{
    api::names,
    plan::registry::{ObservedRegistry, RegistryAction, RegistryPlan, importer},
    run::kinds::Kind,
};

impl Hand<'_, ObservedRegistry> {
    /// Does what the plan says, in its order, the conditions last.
    ///
    /// # Errors
    /// When the API server does not do its part; what was done before stays done.
    pub async fn apply(&self, plan: &RegistryPlan) -> Result<Applied, Error> {
        for action in &plan.actions {
            sure(self.leads, self.key)?;
            match self.act(action).await {
                Ok(Applied::Done) => {
                    self.memo().accept(action.identify_write());
                }
                Ok(other) => return Ok(other),
                // People have to know, and the next pass tells them.
                Err(error) => {
                    let blocked = error
                        .to_refused_write(action.identify_write().to_owned(), false)
                        .ok_or(error)?;
                    let says = blocked.message.clone();
                    if self.memo().refuse(blocked) {
                        warn!(registry = %self.key, says, "the API server refused a write");
                        return Ok(Applied::Again);
                    }
                }
            }
        }
        if let Some(conditions) = &plan.conditions {
            sure(self.leads, self.key)?;
            return self
                .status(
                    &json!({"observedGeneration": self.seen.generation, "conditions": conditions}),
                )
                .await;
        }
        Ok(Applied::Done)
    }

    async fn act(&self, action: &RegistryAction) -> Result<Applied, Error> {
        let name = importer::build_name(&self.key.name);
        let (verb, answer) = match action {
            RegistryAction::CreateDeployment { body } => {
                ("create_importer", self.post(Kind::Deployment, body).await)
            }
            RegistryAction::PatchDeployment { ops, .. } => {
                ("patch_importer", self.send_patch(Kind::Deployment, &name, ops).await?)
            }
        };
        match answer {
            Ok(_) => {
                self.metrics.action(verb);
                info!(registry = %self.key, action = verb, name, "changed");
                Ok(Applied::Done)
            }
            Err(error) if moved_on(&error) && verb == "patch_importer" => Ok(Applied::Behind),
            Err(error) if is_name_taken(&error) => self.check_importer(&name, action).await,
            Err(source) => Err(self.error(
                if verb == "patch_importer" { "patch Deployment" } else { "create Deployment" },
                &name,
                source,
            )),
        }
    }

    /// The Deployment that has the importer's name: once the caches show it, it is planned with.
    async fn check_importer(&self, name: &str, action: &RegistryAction) -> Result<Applied, Error> {
        let (verb, kind) = ("create Deployment", Kind::Deployment);
        if let Some(live) = self.read_taken(verb, kind, name).await? {
            let owners = live.metadata.owner_references.iter().flatten();
            if !owners.into_iter().any(|owner| owner.uid == self.seen.uid) {
                let (what, owner) = (self.what(name), Kind::ModelRegistry.name());
                return Err(Error::OtherObject { verb, what, kind: kind.name(), owner });
            }
            if let RegistryAction::CreateDeployment { body } = action {
                self.check_labels(verb, kind, &live.metadata, &body["metadata"]["labels"])?;
            }
        }
        Ok(Applied::Behind)
    }

    /// The importer writes this status too, and each its words whole: so a merge patch, which
    /// replaces a list, and no apply, which would leave the other's conditions in it. What the
    /// importer wrote since this was planned is never written over.
    async fn status(&self, status: &Value) -> Result<Applied, Error> {
        let body = json!({"metadata": {"uid": self.seen.uid, "resourceVersion": self.seen.resource_version}, "status": status});
        let params =
            PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
        let (kind, at) = (Kind::ModelRegistry, (&*self.key.namespace, &*self.key.name));
        let patch = Patch::Merge(body);
        match send::patch(self.client, kind, at, Some("status"), &params, &patch).await {
            Ok(answer) => {
                self.wrote(Kind::ModelRegistry, &answer);
                self.metrics.action("registry_status");
                let says = status["conditions"][0]["message"].as_str().unwrap_or_default();
                info!(registry = %self.key, says, "status written");
                Ok(Applied::Done)
            }
            // Gone, or another by now, or the importer spoke: it is planned again with what there
            // is then.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {
                Ok(Applied::Behind)
            }
            Err(source) => {
                Err(self.error("write the status of ModelRegistry", &self.key.name, source))
            }
        }
    }
}
