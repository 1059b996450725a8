//! Carries out what was planned about a ModelRegistry: its importer's Deployment, and what is said while that does not speak.

use std::sync::Mutex;

use kube::{
    Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Answer, Applied, Error, moved_on, path, post, sure, taken};
use crate::{
    api::names,
    plan::registry::{ObservedRegistry, RegistryAction, RegistryPlan, importer},
    run::{
        cache,
        kinds::{Key, Kind},
        lease::Leads,
        memory::{Left, Memo, lock},
        metrics::Metrics,
        watch::api,
    },
};

/// Carries out plans for one ModelRegistry.
pub struct RegistryHand<'a> {
    /// The client.
    pub client: &'a Client,
    /// What is counted.
    pub metrics: &'a Metrics,
    /// Whether this process leads.
    pub leads: &'a watch::Receiver<Leads>,
    /// The ModelRegistry.
    pub key: &'a Key,
    /// What is remembered of it.
    pub memo: &'a Mutex<Memo>,
    /// What was observed when it was planned.
    pub seen: &'a ObservedRegistry,
}

impl RegistryHand<'_> {
    /// Does what the plan says, in its order, the conditions last.
    ///
    /// # Errors
    /// When the API server does not do its part; what was done before stays done.
    pub async fn apply(&self, plan: &RegistryPlan) -> Result<Applied, Error> {
        for action in &plan.actions {
            sure(self.leads, self.key)?;
            match self.act(action).await {
                Ok(Applied::Done) => {
                    lock(self.memo).unblock(action.write());
                }
                Ok(other) => return Ok(other),
                // People have to know, and the next pass tells them.
                Err(error) => {
                    let blocked = error.blocks(action.write().to_owned(), false).ok_or(error)?;
                    let says = blocked.message.clone();
                    if lock(self.memo).block(blocked) {
                        warn!(registry = %self.key, says, "the API server refused a write");
                        return Ok(Applied::Again);
                    }
                }
            }
        }
        if let Some(conditions) = &plan.conditions {
            sure(self.leads, self.key)?;
            self.status(&json!({"observedGeneration": self.seen.generation, "conditions": conditions})).await?;
        }
        Ok(Applied::Done)
    }

    async fn act(&self, action: &RegistryAction) -> Result<Applied, Error> {
        let name = importer::name(&self.key.name);
        let (verb, answer) = match action {
            RegistryAction::CreateWorkload { body } => {
                ("create_importer", post(self.client, &path(&Kind::Deployment.resource(), &self.key.namespace), body).await)
            }
            RegistryAction::PatchWorkload { ops, .. } => ("patch_importer", self.patch(&name, ops).await?),
        };
        match answer {
            Ok(answer) => {
                lock(self.memo).wrote(Kind::Deployment, &name, Left::Version(cache::version(&answer.0.metadata)));
                self.metrics.action(verb);
                info!(registry = %self.key, action = verb, name, "changed");
                Ok(Applied::Done)
            }
            Err(error) if taken(&error) || (moved_on(&error) && verb == "patch_importer") => Ok(Applied::Behind),
            Err(source) => Err(self.error(if verb == "patch_importer" { "patch Deployment" } else { "create Deployment" }, &name, source)),
        }
    }

    async fn patch(&self, name: &str, ops: &[Value]) -> Result<Result<Answer, kube::Error>, Error> {
        let what = || format!("{}/{name}", self.key.namespace);
        let ops = serde_json::from_value(Value::Array(ops.to_vec())).map_err(|source| Error::Patch { what: what(), source })?;
        let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() }.validation_strict();
        Ok(api::<Answer>(self.client, Kind::Deployment, Some(&self.key.namespace)).patch(name, &params, &Patch::Json::<()>(ops)).await)
    }

    /// The importer writes this status too, and each its words whole: so a merge patch, which replaces a list, and no apply, which would
    /// leave the other's conditions in it.
    async fn status(&self, status: &Value) -> Result<(), Error> {
        let body = json!({"metadata": {"uid": self.seen.uid}, "status": status});
        let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
        let all = api::<Answer>(self.client, Kind::ModelRegistry, Some(&self.key.namespace));
        match all.patch_status(&self.key.name, &params, &Patch::Merge(body)).await {
            Ok(answer) => {
                lock(self.memo).wrote(Kind::ModelRegistry, &self.key.name, Left::Version(cache::version(&answer.0.metadata)));
                self.metrics.action("registry_status");
                let says = status["conditions"][0]["message"].as_str().unwrap_or_default();
                info!(registry = %self.key, says, "status written");
                Ok(())
            }
            // Gone, or another by now: its event comes.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
            Err(source) => Err(self.error("write the status of ModelRegistry", &self.key.name, source)),
        }
    }

    fn error(&self, verb: &'static str, name: &str, source: kube::Error) -> Error {
        Error::Request { verb, what: format!("{}/{name}", self.key.namespace), source: Box::new(source) }
    }
}
