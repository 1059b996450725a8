//! The operator's shell in the simulation: it observes, plans and applies as `src/run` does, may
//! die between two writes, and remembers what `src/run/memory.rs` remembers.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rollmodel::plan::{
    self, Action, Lookup, Observed, Plan,
    action::{Purpose, decision_prefix, identify_patch},
    observed::{KnownRevision, RefusedWrite},
};
use serde_json::{Value, json};

use super::{
    api_server::{ApiError, TEMPLATE},
    cluster::Cluster,
    faults::WriteKind,
    objects::Seconds,
};

/// Within what time a write that was refused is tried again.
pub const BACKOFF_MAX: Seconds = 300;

/// The time of second 0 of a history, in seconds since 1970.
pub const EPOCH: i64 = 1_700_000_000;

/// The time of a second of a history.
pub fn timestamp(at: Seconds) -> jiff::Timestamp {
    jiff::Timestamp::from_second(EPOCH + at).unwrap()
}

#[derive(Clone, Debug)]
pub struct Refused<T> {
    pub what: T,
    pub attempts: u32,
    pub until: Seconds,
}

/// One process of the operator. A crash replaces it.
#[derive(Clone, Debug, Default)]
pub struct Operator {
    /// Something changed that the operator did not write itself.
    pub is_awake: bool,
    /// When it plans again although nothing changes.
    pub due: Option<Seconds>,
    /// The writes that are left until it dies; None: it lives.
    pub dies_after: Option<u32>,
    /// Caches that show the past: what the operator last saw of one kind.
    pub stale: Option<Box<(StaleKind, Observed)>>,
    /// Not running at all.
    pub is_down: bool,
    pub refused: Vec<Refused<RefusedWrite>>,
    /// Patches that were answered 422 without causes.
    pub unclear: HashSet<String>,
    /// The generation of the Deployment after the last patch of the plan that is applied.
    pub answered_generation: Option<i64>,
    pub asked: Vec<Lookup>,
    pub came_back: BTreeSet<String>,
    pub desired: Option<std::sync::Arc<KnownRevision>>,
    pub unneeded_since: BTreeMap<String, Seconds>,
    pub status_written: Option<Seconds>,
    told: HashSet<String>,
    pub failures: u32,
    /// All writes so far, in words.
    pub writes: Vec<&'static str>,
}

/// A kind whose watch is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StaleKind {
    ModelDeployment,
    Records,
    Deployment,
    Pods,
    Versions,
}

enum Applied {
    Done,
    Again,
    Behind,
    Failed,
    Died,
}

impl Operator {
    /// A watch event arrives.
    pub fn wake(&mut self) {
        self.is_awake = true;
    }

    /// A new process knows nothing, and lists everything.
    pub fn restart(&mut self) {
        let writes = std::mem::take(&mut self.writes);
        *self = Self { is_awake: true, writes, ..Self::default() };
    }
}

impl Cluster {
    /// One pass of the operator where one is due; whether it wrote anything.
    pub fn run_operator(&mut self) -> bool {
        let due = self.operator.due.is_some_and(|at| at <= self.now);
        if self.operator.is_down || !(self.operator.is_awake || due) {
            return false;
        }
        self.operator.is_awake = false;
        self.operator.due = None;
        let before = self.operator.writes.len();
        let mut looked_up = std::mem::take(&mut self.operator.asked);
        for _ in 0..4 {
            let observed = self.observe(&looked_up);
            let plan = plan::plan(&observed, timestamp(self.now));
            self.witness_plan(&observed, &plan);
            if plan.lookups.is_empty() {
                let applied = self.apply(&observed, &plan);
                self.requeue(&plan, applied);
                return self.operator.writes.len() > before;
            }
            looked_up.extend(plan.lookups);
        }
        panic!("the planner still asks for live reads after four rounds");
    }

    fn requeue(&mut self, plan: &Plan, applied: Applied) {
        let now = self.now;
        if !matches!(applied, Applied::Failed | Applied::Died) {
            self.operator.failures = 0;
            self.operator.refused.retain(|r| r.until > now);
            self.operator.desired.clone_from(&plan.desired);
            self.operator.unneeded_since.retain(|name, _| plan.unneeded.contains(name));
            for name in &plan.unneeded {
                self.operator.unneeded_since.entry(name.clone()).or_insert(now);
            }
        }
        let wait = match applied {
            Applied::Again => Some(0),
            Applied::Behind => {
                self.operator.stale = None;
                Some(1)
            }
            Applied::Failed => {
                self.operator.failures += 1;
                Some(1 << self.operator.failures.min(8))
            }
            Applied::Died => {
                self.operator.restart();
                None
            }
            Applied::Done => plan.requeue_after_seconds,
        };
        let refused = self.operator.refused.iter().map(|r| r.until);
        let due = refused.filter(|at| *at > now);
        self.operator.due = due.chain(wait.map(|w| now + w)).min();
    }

    fn apply(&mut self, observed: &Observed, plan: &Plan) -> Applied {
        let mut learned = false;
        self.operator.answered_generation = None;
        for action in &plan.actions {
            if let Action::Event { key, .. } = action {
                self.operator.told.insert(key.clone());
                continue;
            }
            if self.spend_write(name_action(action)) {
                return Applied::Died;
            }
            match self.write_and_remember(action) {
                Ok(news) => learned |= news,
                Err(Applied::Done) => return if learned { Applied::Again } else { Applied::Done },
                Err(other) => return other,
            }
        }
        if learned {
            return Applied::Again;
        }
        self.write_status(observed, plan)
    }

    fn write_status(&mut self, observed: &Observed, plan: &Plan) -> Applied {
        let (Some(status), Some(seen)) = (&plan.status, &observed.model_deployment) else {
            return Applied::Done;
        };
        if self.spend_write("status") {
            return Applied::Died;
        }
        if self.admit(WriteKind::Status, "status").is_err() {
            return Applied::Failed;
        }
        match self.model_deployment.as_mut().filter(|d| d.uid == seen.uid) {
            Some(object) => object.status = Some(status.clone()),
            None => return Applied::Behind,
        }
        self.operator.status_written = Some(self.now);
        Applied::Done
    }

    /// Counts a write; whether the process dies before it.
    fn spend_write(&mut self, name: &'static str) -> bool {
        match self.operator.dies_after {
            Some(0) => return true,
            Some(left) => self.operator.dies_after = Some(left - 1),
            None => {}
        }
        self.operator.writes.push(name);
        false
    }

    /// Writes, and remembers a refusal as `src/run/memory.rs` does; Ok(true) where something was
    /// learned that the next plan needs.
    fn write_and_remember(&mut self, action: &Action) -> Result<bool, Applied> {
        let before = self.deployment.clone();
        let answer = self.write(action);
        match answer {
            Ok(()) => {
                self.witness_write(action, before.as_deref());
                let by_label_alone = self.note_deployment_write(action, before.as_deref())?;
                Ok(self.accept(action) || by_label_alone)
            }
            Err(ApiError::Conflict) => Err(Applied::Behind),
            Err(ApiError::Server) => Err(Applied::Failed),
            Err(ApiError::AlreadyExists) => match action {
                Action::CreateDeployment { .. } => {
                    self.ask(Lookup::Deployment(super::cluster::NAME.into()))
                }
                Action::CreateService { .. } => {
                    self.ask(Lookup::Service(super::cluster::NAME.into()))
                }
                Action::StoreRevision { .. } => Ok(false),
                _ => Err(Applied::Behind),
            },
            Err(ApiError::Invalid { causes: false, message }) if is_patch(action) => {
                // A precondition or a webhook: the same answer to the same patch of the same state
                // is a webhook's.
                let state = identify_action(action);
                if self.operator.unclear.insert(state) {
                    return Err(Applied::Behind);
                }
                self.remember(action, false, false, message)
            }
            Err(ApiError::Forbidden(message)) => self.remember(action, true, false, message),
            Err(ApiError::Invalid { message, causes }) => {
                self.remember(action, false, causes, message)
            }
        }
    }

    /// Forgets that a write was refused; whether it was.
    fn accept(&mut self, action: &Action) -> bool {
        let known = self.operator.refused.len();
        if let Action::PatchDeployment { purpose: Purpose::Decision(rollout), .. }
        | Action::CreateDeployment { rollout, .. } = action
        {
            let prefix = decision_prefix(*rollout);
            self.operator.refused.retain(|r| !r.what.write.starts_with(&prefix));
        } else {
            let name = action.identify_write();
            self.operator.refused.retain(|r| Some(&r.what.write) != name.as_ref());
        }
        self.operator.refused.len() < known
    }

    fn ask(&mut self, lookup: Lookup) -> Result<bool, Applied> {
        self.operator.asked.push(lookup);
        Err(Applied::Again)
    }

    /// Remembers the answer to a write of the Deployment. True if nobody tells of it; a revert in
    /// vain ends the pass.
    fn note_deployment_write(
        &mut self,
        action: &Action,
        before: Option<&Value>,
    ) -> Result<bool, Applied> {
        let Action::PatchDeployment { purpose, reverts, .. } = action else { return Ok(false) };
        let Some(before) = before else { return Ok(false) };
        let now = self.deployment.clone().unwrap();
        let same = |pointer: &str| before.pointer(pointer) == now.pointer(pointer);
        let unchanged = same("/metadata/resourceVersion");
        self.operator.answered_generation = now["metadata"]["generation"].as_i64();
        if !reverts.is_empty() && same("/metadata/generation") {
            self.operator.came_back.extend(reverts.iter().cloned());
            return Err(Applied::Again);
        }
        // A decision that is carried out by a label alone is answered by nobody.
        let is_decision = matches!(purpose, Purpose::Decision(_));
        Ok(is_decision && same("/metadata/generation") && !unchanged)
    }

    fn remember(
        &mut self,
        action: &Action,
        forbidden: bool,
        causes: bool,
        message: String,
    ) -> Result<bool, Applied> {
        let wait = |attempts: u32| Seconds::min(BACKOFF_MAX, 30 << (attempts - 1).min(4));
        let now = self.now;
        let Some(write) = action.identify_write() else { return Ok(false) };
        let at = self.operator.refused.iter().position(|r| r.what.write == write);
        let before = at.map(|at| self.operator.refused.remove(at));
        let attempts = before.as_ref().map_or(1, |r| r.attempts + 1);
        let deciding = action.records_decision();
        let mut message = message;
        message.truncate(1024);
        let names_template = causes && message.contains(TEMPLATE);
        let what = RefusedWrite { write, due: false, deciding, forbidden, names_template, message };
        let news = before.is_none_or(|r| r.what != what);
        self.operator.refused.push(Refused { what, attempts, until: now + wait(attempts) });
        if action.is_prerequisite() { Err(Applied::Again) } else { Ok(news) }
    }
}

/// An action and the state that it patches.
fn identify_action(action: &Action) -> String {
    match action {
        Action::AmendRecord { name, ops, .. } => format!("{name} {}", identify_patch(ops)),
        Action::PatchDeployment { generation, ops, .. } => {
            format!("{generation} {}", identify_patch(ops))
        }
        Action::PatchService { ops, .. } => identify_patch(ops),
        _ => String::new(),
    }
}

fn is_patch(action: &Action) -> bool {
    matches!(
        action,
        Action::PatchDeployment { .. } | Action::PatchService { .. } | Action::AmendRecord { .. }
    )
}

fn name_action(action: &Action) -> &'static str {
    match action {
        Action::StoreRevision { .. } => "store revision",
        Action::CreateRecord { .. } => "create record",
        Action::AmendRecord { .. } => "amend record",
        Action::CreateDeployment { .. } => "create Deployment",
        Action::PatchDeployment { .. } => "patch Deployment",
        Action::CreateService { .. } => "create Service",
        Action::PatchService { .. } => "patch Service",
        Action::AnswerRequest { .. } => "answer request",
        Action::Delete { .. } => "delete",
        Action::Event { .. } => "event",
    }
}

/// The rest of a body that a restore keeps of an object's metadata.
pub fn keep_restored_metadata(body: &mut Value, uid: String) {
    let meta = body["metadata"].as_object_mut().unwrap();
    meta.retain(|field, _| {
        matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations")
    });
    meta.insert("uid".into(), json!(uid));
}
