//! Carries out what was planned about a ModelVersion: its verification Job, Events, its status
//! last.

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use serde_json::Value;
use tracing::{debug, info, warn};

use super::{Applied, Error, Hand, Regarding, sure, taken::is_name_taken, tell};
use crate::{
    api::names,
    plan::{observed::ObservedVersion, verify::VersionAction, version::VersionPlan},
    run::{
        kinds::Kind,
        object::{Kept, NameOnly},
        watch::api,
    },
};

impl Hand<'_, ObservedVersion> {
    /// Does what the plan says, in its order, the status last.
    ///
    /// # Errors
    /// When the API server does not do its part; what was done before stays done.
    pub async fn apply(&self, plan: &VersionPlan) -> Result<Applied, Error> {
        let mut learned = false;
        for action in &plan.actions {
            sure(self.leads, self.key)?;
            match (self.act(action).await, action.identify_write()) {
                (Ok(()), write) => learned |= write.is_some_and(|write| self.memo().accept(&write)),
                (Err(error), None) => return Err(error),
                // People have to know, and the next pass tells them.
                (Err(error), Some(write)) => {
                    let blocked = error.to_refused_write(write, false).ok_or(error)?;
                    let says = blocked.message.clone();
                    if self.memo().refuse(blocked) {
                        warn!(version = %self.key, says, "the API server refused a write");
                        learned = true;
                    }
                }
            }
        }
        match &plan.status {
            _ if learned => Ok(Applied::Again),
            Some(status) => {
                sure(self.leads, self.key)?;
                self.status(status).await
            }
            None => Ok(Applied::Done),
        }
    }

    async fn act(&self, action: &VersionAction) -> Result<(), Error> {
        match action {
            VersionAction::CreateJob { name, body } => self.create(name, body).await,
            VersionAction::DeleteJob { name, uid } => self.delete(name, uid).await,
            VersionAction::Event { warning, reason, message, key } => {
                let about =
                    Regarding { kind: Kind::ModelVersion, key: self.key, uid: &self.seen.uid };
                tell(self.client, self.memo, &about, *warning, (reason, message, key)).await;
                Ok(())
            }
        }
    }

    async fn create(&self, name: &str, body: &Value) -> Result<(), Error> {
        match self.post(Kind::Job, body).await {
            Ok(_) => {
                self.count("create_job", name);
                Ok(())
            }
            // The operator may not read a single Job, and its watch shows none of that name.
            Err(error) if is_name_taken(&error) => Err(Error::OtherJob {
                namespace: self.key.namespace.to_string(),
                name: name.to_owned(),
                version: self.key.name.to_string(),
                label: format!("{}={}", names::MANAGED_BY, names::MANAGER),
            }),
            Err(source) => Err(self.error("create Job", name, source)),
        }
    }

    async fn delete(&self, name: &str, uid: &str) -> Result<(), Error> {
        let params = DeleteParams {
            // Without it the API server leaves the pods of a Job behind.
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: Some(uid.into()), resource_version: None }),
            ..DeleteParams::default()
        };
        match api::<Kept<NameOnly>>(self.client, Kind::Job, Some(&self.key.namespace))
            .delete(name, &params)
            .await
        {
            Ok(_) => {
                self.count("delete_job", name);
                Ok(())
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(self.error("delete Job", name, source)),
        }
    }

    async fn status(&self, status: &crate::api::ModelVersionStatus) -> Result<Applied, Error> {
        match self.put_status(Kind::ModelVersion, &self.key.name, &self.seen.uid, status).await {
            Ok(answer) => {
                self.wrote(Kind::ModelVersion, &answer);
                self.metrics.action("version_status");
                debug!(version = %self.key, says = status.message, "status written");
                Ok(Applied::Done)
            }
            // Gone, or another by now: its event comes.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(Applied::Done),
            Err(source) => {
                Err(self.error("write the status of ModelVersion", &self.key.name, source))
            }
        }
    }

    fn count(&self, action: &'static str, name: &str) {
        self.metrics.action(action);
        info!(version = %self.key, action, kind = Kind::Job.name(), name, "changed");
    }
}
