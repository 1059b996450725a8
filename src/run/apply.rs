//! Doing: executes a plan's actions in order and writes the status last. Nothing but this file,
//! `version` and `registry` writes, and they decide nothing.

mod error;
mod registry;
mod version;

use std::sync::Mutex;

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::response::Status,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{
    cache,
    client::said,
    event::{self, NOTE_MAX, Regarding},
    kinds::{Key, Kind},
    lease::Leads,
    memory::{Left, Memo, lock},
    metrics::Metrics,
    object::{Kept, NameOnly, Whole},
    reduced::read_body,
    watch::api,
};
use crate::{
    api::{ModelRolloutSpec, condition::bounded, names},
    plan::{
        Action, Lookup, Observed, Plan, Prunable,
        observed::{Blocked, ContentBody, Refusal},
    },
};

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
        let answer = post(self.client, &path(&kind.resource(), &self.key.namespace), body).await?;
        self.wrote(kind, &answer);
        Ok(answer)
    }

    async fn send_patch(
        &self,
        kind: Kind,
        name: &str,
        ops: &[Value],
    ) -> Result<Result<Answer, kube::Error>, Error> {
        let ops = serde_json::from_value(Value::Array(ops.to_vec()))
            .map_err(|source| Error::Patch { what: self.what(name), source })?;
        let params =
            PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() }
                .validation_strict();
        let answer = api::<Answer>(self.client, kind, Some(&self.key.namespace))
            .patch(name, &params, &Patch::Json::<()>(ops))
            .await;
        if let Ok(answer) = &answer {
            self.wrote(kind, answer);
        }
        Ok(answer)
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
        for action in &plan.actions {
            sure(self.leads, self.key)?;
            match (self.act(action).await, action.write()) {
                (Ok(Applied::Done), write) => {
                    learned |= write.is_some_and(|write| self.memo().unblock(&write))
                }
                (Ok(Applied::Unanswered), _) => learned = true,
                (Ok(other), _) => return Ok(other),
                (Err(error), None) => return Err(error),
                // No trouble of the system that passes: people have to know, and the next pass
                // tells them.
                (Err(error), Some(write)) => {
                    learned |= self.blocked(error.blocks(write, action.decides()).ok_or(error)?);
                    if action.decides() {
                        return Ok(if learned { Applied::Again } else { Applied::Done });
                    }
                }
            }
        }
        // The status was planned from what was known before.
        if learned {
            return Ok(Applied::Again);
        }
        if let (Some(status), Some(wanted)) = (&plan.status, &self.seen.deployment) {
            sure(self.leads, self.key)?;
            let written =
                self.status(Kind::ModelDeployment, &self.key.name, &wanted.uid, status).await?;
            if written == Applied::Done {
                self.memo().status_written = Some(Timestamp::now());
                let state = status.state.map(|s| format!("{s:?}")).unwrap_or_default();
                info!(deployment = %self.key, state, says = status.message.as_deref().unwrap_or_default(), "status written");
            }
            return Ok(written);
        }
        Ok(Applied::Done)
    }

    /// Remembers a refused write; whether that is news.
    fn blocked(&self, blocked: Blocked) -> bool {
        let says = blocked.message.clone();
        let news = self.memo().block(blocked);
        if news {
            warn!(deployment = %self.key, says, "the API server refused a write");
        }
        news
    }

    fn api(&self, kind: Kind) -> Api<Kept<Whole>> {
        api(self.client, kind, Some(&self.key.namespace))
    }

    async fn act(&self, action: &Action) -> Result<Applied, Error> {
        match action {
            Action::StoreContent { name, labels, body } => {
                self.store(name, &json!(labels), body).await
            }
            Action::CreateRecord { spec } => self.record(spec).await,
            Action::AmendRecord { name, ops } => self.patch(Kind::ModelRollout, name, ops).await,
            Action::CreateWorkload { rollout, body } => self.create_workload(*rollout, body).await,
            Action::PatchWorkload { rollout, put_back, ops } => {
                self.patch_workload(*rollout, *put_back, ops).await
            }
            Action::CreateService { body } => self.create_service(body).await,
            Action::PatchService { ops } => self.patch(Kind::Service, &self.key.name, ops).await,
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
                if let Some(wanted) = self.seen.deployment.as_ref() {
                    let regarding =
                        Regarding { kind: Kind::ModelDeployment, key: self.key, uid: &wanted.uid };
                    tell(self.client, self.memo, &regarding, *warning, (reason, message, key))
                        .await;
                }
                Ok(Applied::Done)
            }
        }
    }

    /// One line and one count a change.
    fn count(&self, action: &'static str, kind: Kind, name: &str) {
        self.metrics.action(action);
        info!(deployment = %self.key, action, kind = kind.name(), name, "changed");
    }

    async fn store(
        &self,
        name: &str,
        labels: &Value,
        body: &ContentBody,
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
            Err(error) if taken(&error) => self.compare(name, &body.revision_hash).await,
            Err(source) => Err(self.error("store content", name, source)),
        }
    }

    /// A name that is taken must be taken by the same content, its whole hash compared.
    async fn compare(&self, name: &str, hash: &str) -> Result<Applied, Error> {
        let stored = self
            .api(Kind::ControllerRevision)
            .get_opt(name)
            .await
            .map_err(|e| self.error("get content", name, e))?;
        match stored.map(|object| read_body(&object.0)) {
            Some(Some(body)) if body.revision_hash == hash => Ok(Applied::Done),
            Some(_) => Err(Error::OtherContent { what: self.what(name) }),
            None => Ok(Applied::Behind),
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
            Err(error) if taken(&error) => Ok(Applied::Behind),
            Err(source) => Err(self.error("record rollout", &name, source)),
        }
    }

    async fn create_workload(&self, rollout: i64, body: &Value) -> Result<Applied, Error> {
        match self.post(Kind::Deployment, body).await {
            Ok(_) => {
                self.memo().accept();
                self.count("create_workload", Kind::Deployment, &self.key.name);
                Ok(Applied::Done)
            }
            Err(error) if taken(&error) => Ok(self.ask(Lookup::Workload)),
            Err(source) => self.refused(rollout, "create Deployment", source),
        }
    }

    async fn create_service(&self, body: &Value) -> Result<Applied, Error> {
        match self.post(Kind::Service, body).await {
            Ok(_) => {
                self.count("create_service", Kind::Service, &self.key.name);
                Ok(Applied::Done)
            }
            Err(error) if taken(&error) => Ok(self.ask(Lookup::Service)),
            Err(source) => Err(self.error("create Service", &self.key.name, source)),
        }
    }

    /// The next pass reads past the caches first.
    fn ask(&self, lookup: Lookup) -> Applied {
        let mut memo = self.memo();
        if !memo.asked.contains(&lookup) {
            memo.asked.push(lookup);
        }
        Applied::Again
    }

    async fn patch_workload(
        &self,
        rollout: i64,
        put_back: bool,
        ops: &[Value],
    ) -> Result<Applied, Error> {
        let before = self
            .seen
            .workload
            .as_ref()
            .map(|w| w.meta.resource_version.as_str())
            .unwrap_or_default();
        match self.send_patch(Kind::Deployment, &self.key.name, ops).await? {
            Ok(answer) => {
                let unchanged = answer.0.metadata.resource_version.as_deref() == Some(before);
                let mut memo = self.memo();
                memo.accept();
                memo.futile = (put_back && unchanged).then(|| before.to_owned());
                // It may be known from a look past the caches only; that look is over.
                memo.workload = None;
                drop(memo);
                let action = match (put_back, unchanged) {
                    (true, true) => "put_back_in_vain",
                    (true, false) => "put_back",
                    (false, _) => "patch_workload",
                };
                self.count(action, Kind::Deployment, &self.key.name);
                Ok(if self.unanswered(&answer) { Applied::Unanswered } else { Applied::Done })
            }
            Err(error) if moved_on(&error) => Ok(self.moved_on(Kind::Deployment)),
            Err(source) => self.refused(rollout, "patch Deployment", source),
        }
    }

    /// Whether a decision was carried out by labels alone: Kubernetes has nothing to do for it, and
    /// no watch will tell.
    fn unanswered(&self, answer: &Answer) -> bool {
        let now = &answer.0.metadata;
        self.seen.workload.as_ref().is_some_and(|before| {
            let label = now.labels.as_ref().and_then(|l| l.get(names::DECISION));
            now.generation == Some(before.generation)
                && label != before.meta.labels.get(names::DECISION)
        })
    }

    async fn patch(&self, kind: Kind, name: &str, ops: &[Value]) -> Result<Applied, Error> {
        match self.send_patch(kind, name, ops).await? {
            Ok(_) => {
                if kind == Kind::Service {
                    self.memo().service = None;
                }
                self.count("patch", kind, name);
                Ok(Applied::Done)
            }
            Err(error) if moved_on(&error) => Ok(self.moved_on(kind)),
            Err(source) => Err(self.error("patch", name, source)),
        }
    }

    /// The object is not what it was when it was observed; what was read past the caches is
    /// forgotten.
    fn moved_on(&self, kind: Kind) -> Applied {
        let mut memo = self.memo();
        match kind {
            Kind::Deployment => memo.workload = None,
            Kind::Service => memo.service = None,
            _ => {}
        }
        Applied::Behind
    }

    /// A template at fault (422 with causes, 400) or forbidden (403) is something to plan with;
    /// anything else is the system's trouble.
    fn refused(
        &self,
        rollout: i64,
        verb: &'static str,
        source: kube::Error,
    ) -> Result<Applied, Error> {
        let (template, message) = match &source {
            kube::Error::Api(status) if matches!(status.code, 400 | 422) => {
                (true, status.message.clone())
            }
            kube::Error::Api(status) if status.code == 403 => (false, status.message.clone()),
            _ => return Err(self.error(verb, &self.key.name, source)),
        };
        warn!(deployment = %self.key, rollout, says = message, "the API server refused the Deployment");
        self.memo().refuse(Refusal { rollout, template, message: bounded(&message, NOTE_MAX) });
        Ok(Applied::Again)
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
        status: &impl Serialize,
    ) -> Result<Applied, Error> {
        match write_status(
            self.client,
            kind,
            &Key::new(self.key.namespace.clone(), name),
            uid,
            status,
        )
        .await
        {
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
        Err(error) if taken(&error) => {}
        Err(error) => {
            lock(memo).untell(key);
            warn!(object = %about.key, reason, says = message, error = said(&error), "this Event could not be written");
        }
    }
}

/// Where a resource's objects of one namespace are.
fn path(resource: &kube::api::ApiResource, namespace: &str) -> String {
    let root = if resource.group.is_empty() { "api" } else { "apis" };
    format!("/{root}/{}/namespaces/{namespace}/{}", resource.api_version, resource.plural)
}

/// POSTs with our manager, and strictly: a field that the server does not know is an error, not a
/// loss (kube's own parameters cannot say so).
async fn post(client: &Client, path: &str, body: &Value) -> Result<Answer, kube::Error> {
    let bytes = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(format!(
        "{path}?fieldManager={}&fieldValidation=Strict",
        names::MANAGER
    ))
    .header(http::header::CONTENT_TYPE, "application/json")
    .body(bytes)
    .map_err(kube::Error::HttpError)?;
    client.request(request).await
}

/// Writes a whole status by server-side apply; the uid guards against writing onto an object that
/// took the name meanwhile.
///
/// # Errors
/// When the API server does not take it.
pub async fn write_status(
    client: &Client,
    kind: Kind,
    key: &Key,
    uid: &str,
    status: &impl Serialize,
) -> Result<Answer, kube::Error> {
    let resource = kind.resource();
    let mut metadata = json!({"name": key.name, "namespace": key.namespace});
    if !uid.is_empty() {
        metadata["uid"] = json!(uid);
    }
    let body = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "status": status});
    let params = PatchParams::apply(names::MANAGER).force();
    api::<Answer>(client, kind, Some(&key.namespace))
        .patch_status(&key.name, &params, &Patch::Apply(body))
        .await
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

fn taken(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// A patch whose preconditions do not hold any more: 404, 409, or a 422 that names no field.
fn moved_on(error: &kube::Error) -> bool {
    let causes = |status: &Status| status.details.as_ref().is_some_and(|d| !d.causes.is_empty());
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409) || (status.code == 422 && !causes(status)))
}
