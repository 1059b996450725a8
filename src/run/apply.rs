//! Doing: executes a plan's actions in order and writes the status last. Nothing but this file,
//! `version` and `registry` writes, and they decide nothing.

mod children;
mod error;
mod registry;
mod revision;
mod send;
mod status;
mod taken;
mod version;

use std::{borrow::Cow, fmt::Debug, sync::Mutex};

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    cache,
    client::said,
    event::{self, NOTE_MAX, Regarding},
    kinds::{Key, Kind},
    lease::Leads,
    memory::{BEHIND_FOR, Left, Memo, lock},
    metrics::Metrics,
    object::{Kept, NameOnly, Whole},
    observe::Caches,
    schemas::{prune_object, prune_patch},
    watch::api,
};
use crate::{
    api::{ModelRolloutSpec, names},
    plan::{Action, Observed, Plan, Prunable, action::Purpose},
};

use children::Patched;
use send::{path, post};
use taken::is_name_taken;

pub use error::Error;

/// What is read of the answer to a write.
pub type Answer = Kept<NameOnly>;

/// What applying a plan came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All of it is done.
    Done,
    /// It is done, and no watch will tell that it changed what there is to decide: plan again once
    /// the rest is done.
    Unanswered,
    /// Something else was learned: plan again as soon as the caches show what was written.
    Again,
    /// The caches are behind: plan again when they have caught up.
    Behind,
}

/// Carries out plans for one ModelDeployment name, one ModelVersion or one ModelRegistry.
pub struct Hand<'a, Seen> {
    /// The client.
    pub client: &'a Client,
    /// The caches, which know the schemas that are served.
    pub caches: &'a Caches,
    /// What is counted.
    pub metrics: &'a Metrics,
    /// Whether this process leads.
    pub leads: &'a watch::Receiver<Leads>,
    /// What the plan is about.
    pub key: &'a Key,
    /// What is remembered of it.
    pub memo: &'a Mutex<Memo>,
    /// What was observed when it was planned.
    pub seen: &'a Seen,
}

impl<Seen> Hand<'_, Seen> {
    fn memo(&self) -> std::sync::MutexGuard<'_, Memo> {
        lock(self.memo)
    }

    async fn post(&self, kind: Kind, body: &Value) -> Result<Answer, kube::Error> {
        let mut body = Cow::Borrowed(body);
        if let Some(schema) = self.caches.find_older_schema(kind) {
            prune_object(&schema, body.to_mut());
        }
        let answer = post(self.client, &path(kind, &self.key.namespace), &body).await?;
        self.wrote(kind, &answer);
        Ok(answer)
    }

    async fn send_patch(
        &self,
        kind: Kind,
        name: &str,
        ops: &[Value],
    ) -> Result<Result<Answer, kube::Error>, Error> {
        let ops = self.leave_out_unknown(kind, name, ops)?;
        let ops = serde_json::from_value(Value::Array(ops))
            .map_err(|source| Error::Patch { what: self.what(name), source })?;
        let params =
            PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() }
                .validation_strict();
        let (client, at) = (self.client, (&*self.key.namespace, name));
        let answer = send::patch(client, kind, at, None, &params, &Patch::Json::<()>(ops)).await;
        if let Ok(answer) = &answer {
            self.wrote(kind, answer);
        }
        Ok(answer)
    }

    /// The operations of a patch that the served schema knows.
    ///
    /// # Errors
    /// When nothing would be left of the patch: it has to wait for the CRDs.
    fn leave_out_unknown(
        &self,
        kind: Kind,
        name: &str,
        ops: &[Value],
    ) -> Result<Vec<Value>, Error> {
        let Some(schema) = self.caches.find_older_schema(kind) else { return Ok(ops.to_vec()) };
        let (known, unknown) = prune_patch(&schema, ops);
        if !unknown.is_empty() && known.iter().all(|op| op["op"] == "test") {
            let fields = unknown.join(", ");
            return Err(Error::OlderSchema { fields, kind: kind.name(), what: self.what(name) });
        }
        Ok(known)
    }

    fn wrote(&self, kind: Kind, answer: &Answer) {
        let name = answer.0.metadata.name.as_deref().unwrap_or_default();
        self.memo().wrote(kind, name, Left::Version(cache::version(&answer.0.metadata)));
    }

    fn what(&self, name: &str) -> String {
        format!("{}/{name}", self.key.namespace)
    }

    fn error(&self, verb: &'static str, name: &str, source: kube::Error) -> Error {
        Error::Request { verb, what: self.what(name), source: Box::new(source) }
    }
}

impl Hand<'_, Observed> {
    /// Does what the plan says, in its order, the status last.
    ///
    /// # Errors
    /// When the API server does not do its part; what was done before stays done.
    pub async fn apply(&self, plan: &Plan) -> Result<Applied, Error> {
        let mut learned = false;
        // The state of the Deployment after the last patch of this plan.
        let mut patched = None;
        for action in &plan.actions {
            sure(self.leads, self.key)?;
            let result = self.act(action, &mut patched).await;
            match result.and_then(|applied| self.bound_waiting(action, applied)) {
                Ok(Applied::Done) => learned |= self.accept(action),
                Ok(Applied::Unanswered) => learned = true,
                Ok(other) => return Ok(other),
                // No trouble of the system that passes: people have to know, and the next pass
                // tells them.
                Err(error) => {
                    learned |= self.refuse(action, error)?;
                    if action.is_prerequisite() {
                        return Ok(Applied::Again);
                    }
                }
            }
        }
        // The status was planned from what was known before.
        if learned {
            return Ok(Applied::Again);
        }
        self.write_own_status(plan).await
    }

    async fn write_own_status(&self, plan: &Plan) -> Result<Applied, Error> {
        let (Some(status), Some(wanted)) = (&plan.status, &self.seen.model_deployment) else {
            return Ok(Applied::Done);
        };
        sure(self.leads, self.key)?;
        let written =
            self.status(Kind::ModelDeployment, &self.key.name, &wanted.uid, status).await?;
        if written == Applied::Done {
            self.memo().status_written = Some(Timestamp::now());
            debug!(deployment = %self.key, state = ?status.state, says = status.message, "status written");
        }
        Ok(written)
    }

    /// Waits for the caches, but not for ever for an object that has the name of a new one and that
    /// they never show.
    ///
    /// # Errors
    /// When they have not shown it for too long.
    fn bound_waiting(&self, action: &Action, applied: Applied) -> Result<Applied, Error> {
        if applied != Applied::Behind {
            return Ok(applied);
        }
        let waited = self.memo().wait_for_caches();
        let (verb, kind, name) = match action {
            Action::StoreRevision { name, .. } => {
                ("store content", Kind::ControllerRevision, name.clone())
            }
            Action::CreateRecord { spec } => {
                let name = names::record_name(&spec.model_deployment_ref.name, spec.number);
                ("record rollout", Kind::ModelRollout, name)
            }
            _ => return Ok(applied),
        };
        let was_refused = action.identify_write().is_some_and(|w| self.memo().is_refused(&w));
        if waited <= BEHIND_FOR && !was_refused {
            return Ok(applied);
        }
        let (namespace, owner) = (self.key.namespace.to_string(), self.key.name.to_string());
        Err(Error::NotShown { verb, kind: kind.name(), namespace, name, owner })
    }

    /// Forgets that a write was refused before; whether it was.
    fn accept(&self, action: &Action) -> bool {
        let mut memo = self.memo();
        if !memo.has_refused() {
            return false;
        }
        if let Action::PatchDeployment { purpose: Purpose::Decision(rollout), .. }
        | Action::CreateDeployment { rollout, .. } = action
        {
            return memo.accept_decision(*rollout);
        }
        action.identify_write().is_some_and(|write| memo.accept(&write))
    }

    /// Remembers a refused write; whether that is news.
    ///
    /// # Errors
    /// The error itself, where it is trouble that passes.
    fn refuse(&self, action: &Action, error: Error) -> Result<bool, Error> {
        let Some(write) = action.identify_write() else { return Err(error) };
        let Some(refused) = error.to_refused_write(write, action.records_decision()) else {
            return Err(error);
        };
        let says = refused.message.clone();
        let news = self.memo().refuse(refused);
        if news {
            warn!(deployment = %self.key, says, "the API server refused a write");
        }
        Ok(news)
    }

    fn api(&self, kind: Kind) -> Api<Kept<Whole>> {
        api(self.client, kind, Some(&self.key.namespace))
    }

    async fn act(&self, action: &Action, patched: &mut Option<Patched>) -> Result<Applied, Error> {
        match action {
            Action::StoreRevision { name, labels, body } => {
                self.store_revision(name, &json!(labels), body).await
            }
            Action::CreateRecord { spec } => self.record(spec).await,
            Action::AmendRecord { name, ops, .. } => {
                self.patch(Kind::ModelRollout, name, ops, &[]).await
            }
            Action::CreateDeployment { name, body, .. } => self.create_workload(name, body).await,
            Action::PatchDeployment { .. } => self.patch_workload(action, patched).await,
            Action::CreateService { name, body } => self.create_service(name, body).await,
            Action::PatchService { name, reverts, ops } => {
                self.patch(Kind::Service, name, ops, reverts).await
            }
            Action::AnswerRequest { name, status } => {
                let uid = self
                    .seen
                    .requests
                    .iter()
                    .find(|r| r.name == *name)
                    .map(|r| r.uid.as_str())
                    .unwrap_or_default();
                self.count("answer_request", Kind::RolloutRequest, name);
                self.status(Kind::RolloutRequest, name, uid, status).await
            }
            Action::Delete { kind, name, uid, resource_version } => {
                self.delete(*kind, name, uid, resource_version).await
            }
            Action::Event { warning, reason, message, key } => {
                if let Some(wanted) = self.seen.model_deployment.as_ref() {
                    let regarding =
                        Regarding { kind: Kind::ModelDeployment, key: self.key, uid: &wanted.uid };
                    tell(self.client, self.memo, &regarding, *warning, (reason, message, key))
                        .await;
                }
                Ok(Applied::Done)
            }
        }
    }

    /// Counts a change. One of what serves is a line of the log; one of our own records follows
    /// from a rollout, which has its own line.
    fn count(&self, action: &'static str, kind: Kind, name: &str) {
        self.metrics.action(action);
        match kind {
            Kind::Deployment | Kind::Service => {
                info!(deployment = %self.key, action, kind = kind.name(), name, "changed");
            }
            _ => debug!(deployment = %self.key, action, kind = kind.name(), name, "changed"),
        }
    }

    async fn record(&self, spec: &ModelRolloutSpec) -> Result<Applied, Error> {
        let name = names::record_name(&spec.model_deployment_ref.name, spec.number);
        let object = json!({
            "apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelRollout",
            "metadata": {"name": name, "namespace": self.key.namespace, "labels": {
                names::MANAGED_BY: names::MANAGER, names::MODEL_DEPLOYMENT: spec.model_deployment_ref.name, names::MODEL: spec.model, names::VERSION: spec.version,
            }},
            "spec": spec,
        });
        match self.post(Kind::ModelRollout, &object).await {
            Ok(_) => {
                self.metrics.action("create_record");
                let trigger = format!("{:?}", spec.trigger);
                info!(deployment = %self.key, rollout = spec.number, version = spec.version, trigger, by = spec.decided_by.name, "rollout recorded");
                Ok(Applied::Done)
            }
            Err(error) if is_name_taken(&error) => Ok(Applied::Behind),
            Err(source) => Err(self.error("record rollout", &name, source)),
        }
    }

    async fn delete(
        &self,
        kind: Prunable,
        name: &str,
        uid: &str,
        resource_version: &str,
    ) -> Result<Applied, Error> {
        let kind = match kind {
            Prunable::ControllerRevision => Kind::ControllerRevision,
            Prunable::ModelRollout => Kind::ModelRollout,
            Prunable::RolloutRequest => Kind::RolloutRequest,
        };
        let preconditions = Preconditions {
            uid: Some(uid.into()),
            resource_version: Some(resource_version.into()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.api(kind).delete(name, &params).await {
            Ok(_) => {
                self.memo().wrote(kind, name, Left::Gone(uid.into()));
                self.count("delete", kind, name);
                Ok(Applied::Done)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                Ok(Applied::Behind)
            }
            Err(source) => Err(self.error("delete", name, source)),
        }
    }

    async fn status(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        status: &(impl Serialize + Debug),
    ) -> Result<Applied, Error> {
        match self.put_status(kind, name, uid, status).await {
            Ok(answer) => {
                self.wrote(kind, &answer);
                Ok(Applied::Done)
            }
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {
                Ok(Applied::Behind)
            }
            Err(source) => Err(self.error("write the status of", name, source)),
        }
    }
}

/// Writes an Event (reason, message, and the key that makes it this one), once. Best effort: one
/// that is lost is logged, and fails nothing.
async fn tell(
    client: &Client,
    memo: &Mutex<Memo>,
    about: &Regarding<'_>,
    warning: bool,
    (reason, message, key): (&str, &str, &str),
) {
    if !lock(memo).tell(key) {
        return;
    }
    let event = event::event("operator", about, warning, (reason, message, key));
    match post(client, &event::path(&about.key.namespace), &event).await {
        Ok(_) => info!(object = %about.key, reason, says = message, "event"),
        Err(error) if is_name_taken(&error) => {}
        Err(error) => {
            // An Event that the API server refuses would be refused in every pass.
            let is_refused =
                matches!(&error, kube::Error::Api(s) if matches!(s.code, 400 | 403 | 404 | 422));
            if !is_refused {
                lock(memo).untell(key);
            }
            warn!(object = %about.key, reason, says = message, error = said(&error), "this Event could not be written");
        }
    }
}

/// Nothing is written but by who surely leads.
///
/// # Errors
/// When this process does not, or not surely.
pub fn sure(leads: &watch::Receiver<Leads>, key: &Key) -> Result<(), Error> {
    if leads.borrow().now() { Ok(()) } else { Err(Error::NotLeading { what: key.to_string() }) }
}

/// This process, as Events and the Lease name it.
#[must_use]
pub fn instance() -> String {
    std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| format!("{}-{}", names::MANAGER, std::process::id()))
}
