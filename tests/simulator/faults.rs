//! What breaks: versions that do not work, an environment that does not, and writes that the API
//! server refuses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the pods of one version do. All but `Fine`, `Slow` and `Flaky` are the version's fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Behavior {
    /// Ready two seconds after the start.
    #[default]
    Fine,
    /// Ready a minute after the start.
    Slow,
    /// Crashes twice, then is ready.
    Flaky,
    /// Crashes again and again.
    Crash,
    /// Runs, and is never ready.
    NeverReady,
}

impl Behavior {
    pub fn is_faulty(self) -> bool {
        matches!(self, Self::Crash | Self::NeverReady)
    }
}

/// Trouble of the environment, for every pod that starts while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trouble {
    /// No node has room.
    NoNode,
    /// No image can be pulled.
    NoImage,
    /// An init container of the user waits for a database.
    InitWaits,
    /// Containers crash, since a Secret was rotated.
    Secret,
    /// The quota admits no further pod.
    Quota,
}

/// A kind of write that the API server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WriteKind {
    /// A Deployment patch or POST that changes the template.
    Template,
    /// One that asks for more than five replicas.
    Replicas,
    /// The patch of replicas, strategy, seconds and limits, whatever it changes.
    Settings,
    /// The patch of template, pause and decision label, whatever it changes.
    Decision,
    /// Any POST of a Deployment.
    CreateDeployment,
    StoreRevision,
    CreateRecord,
    AmendRecord,
    Service,
    Answer,
    Status,
    Delete,
}

/// How the API server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Code {
    /// 403: a quota, RBAC, an admission webhook.
    Forbidden,
    /// 409, once: somebody else wrote meanwhile.
    Conflict,
    /// 422 with causes: a ValidatingAdmissionPolicy, as a rule.
    Invalid,
    /// 422 without causes.
    Unprocessable,
    /// 500, once.
    ServerError,
}

#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// By version; absent: Fine.
    pub behaviors: BTreeMap<String, Behavior>,
    pub trouble: Vec<Trouble>,
    pub refusals: BTreeMap<WriteKind, Code>,
    /// A webhook that sets `revisionHistoryLimit: 3` in every Deployment.
    pub webhook: bool,
    /// The CRDs served are older than the operator: fields of versions are pruned when read.
    pub older_crds: bool,
}

impl Faults {
    pub fn behavior(&self, version: &str) -> Behavior {
        self.behaviors.get(version).copied().unwrap_or_default()
    }

    pub fn has(&self, trouble: Trouble) -> bool {
        self.trouble.contains(&trouble)
    }

    /// The refusal of a write, taken away where it comes once.
    pub fn refuse(&mut self, write: WriteKind) -> Option<Code> {
        let code = *self.refusals.get(&write)?;
        if matches!(code, Code::Conflict | Code::ServerError) {
            self.refusals.remove(&write);
        }
        Some(code)
    }

    /// The environment, not the versions, is in order again.
    pub fn heal_environment(&mut self) {
        self.trouble.clear();
        self.refusals.clear();
        self.webhook = false;
        self.older_crds = false;
    }
}
