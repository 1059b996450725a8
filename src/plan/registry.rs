//! Plans for a ModelRegistry: the Deployment of its importer, and the conditions while the importer
//! does not report them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    observed::{Deployment, RefusedWrite},
    refused_writes,
};
use crate::api::{
    ModelRegistrySpec, ModelRegistryStatus,
    condition::{Condition, build_condition_with_status},
    reason::Reason,
};

pub mod importer;

/// Seconds between two looks at an importer that does not run.
const AGAIN: i64 = 30;
/// Seconds after which the last poll of an importer that does not run is too old to be trusted. An
/// importer reports a poll at least every five minutes.
const STALE: i64 = 400;
/// Prefix of the termination message of an importer that lacks permissions.
const RBAC_MISSING: &str = "RBACMissing: ";
/// Reasons that the operator sets, rather than the importer.
const OURS: [Reason; 5] = [
    Reason::ImporterNotReady,
    Reason::FirstPoll,
    Reason::RBACMissing,
    Reason::Suspended,
    Reason::NameTaken,
];

/// Everything that is known about one ModelRegistry.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedRegistry {
    /// Namespace of the ModelRegistry.
    pub namespace: String,
    /// Name of the ModelRegistry.
    pub name: String,
    /// Uid of the ModelRegistry.
    pub uid: String,
    /// The resourceVersion on which conditions are written, because the importer may have written
    /// since.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Generation of the ModelRegistry.
    pub generation: i64,
    /// Spec of the ModelRegistry.
    pub spec: ModelRegistrySpec,
    /// Status as it was last written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ModelRegistryStatus>,
    /// Deployment with the name of the importer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Deployment>,
    /// Flag `--fetch-image`: the image that contains the importer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Termination message of the importer's pods, where it was read; empty if they left none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// Writes that the API server refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<RefusedWrite>,
}

/// One write about a ModelRegistry.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RegistryAction {
    /// Creates the Deployment.
    CreateDeployment {
        /// Complete Deployment.
        body: Value,
    },
    /// Patches the Deployment.
    PatchDeployment {
        /// Name of the Deployment.
        name: String,
        /// JSON Patch operations, which begin with tests.
        ops: Vec<Value>,
    },
}

impl RegistryAction {
    /// Identifies the write, so that the same write of a later plan is recognized.
    #[must_use]
    pub fn identify_write(&self) -> &'static str {
        match self {
            Self::CreateDeployment { .. } => "create the importer's Deployment",
            Self::PatchDeployment { .. } => "patch the importer's Deployment",
        }
    }
}

/// The plan for one ModelRegistry: actions and conditions.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryPlan {
    /// True if the termination messages of the importer's pods have to be read before anything is
    /// decided; then nothing else is in the plan.
    pub hear: bool,
    /// Actions in the order in which they are carried out.
    pub actions: Vec<RegistryAction>,
    /// Conditions to write last; absent where they are written already, or the importer reports
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Seconds until the next plan, although nothing changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeue_after_seconds: Option<i64>,
}

/// Status of Ready, reason and sentence.
type Word = (&'static str, Reason, String);

/// Plans for one ModelRegistry.
#[must_use]
pub fn plan_registry(observed: &ObservedRegistry, now: Timestamp) -> RegistryPlan {
    let runs = observed.workload.as_ref().is_some_and(|w| w.status.ready_replicas > 0);
    let waits = observed.workload.as_ref().is_some_and(|w| is_ours(observed, w))
        && !runs
        && !observed.spec.suspend;
    if waits && observed.words.is_none() {
        return RegistryPlan { hear: true, ..RegistryPlan::default() };
    }
    let (actions, word) = build_actions(observed);
    let due = |action: &RegistryAction| {
        observed.blocked.iter().find(|b| b.write == action.identify_write()).is_none_or(|b| b.due)
    };
    let word = word
        .or_else(|| report_refused(observed, &actions))
        .or_else(|| report_importer(observed, runs, now));
    RegistryPlan {
        hear: false,
        actions: actions.into_iter().filter(due).collect(),
        conditions: word.and_then(|word| build_conditions(observed, &word, now)),
        requeue_after_seconds: waits.then_some(AGAIN),
    }
}

fn is_ours(observed: &ObservedRegistry, workload: &Deployment) -> bool {
    workload.meta.controller.as_ref().is_some_and(|owner| owner.uid == observed.uid)
}

/// Builds the actions, or the reason why nothing can be done.
fn build_actions(observed: &ObservedRegistry) -> (Vec<RegistryAction>, Option<Word>) {
    let Some(image) = &observed.image else {
        let sentence = "Nothing is imported, since this operator was started without \
                        --fetch-image: have its administrator set it (ROLLMODEL_FETCH_IMAGE).";
        return (Vec::new(), Some(("False", Reason::ImporterNotReady, sentence.into())));
    };
    let body = importer::build_deployment(observed, image);
    match &observed.workload {
        None => (vec![RegistryAction::CreateDeployment { body }], None),
        Some(live) if live.meta.deleting => (Vec::new(), None),
        Some(live) if !is_ours(observed, live) => {
            let sentence = format!(
                "Deployment {} is there already and is not this ModelRegistry's: rename one of the \
                 two, or delete it.",
                live.meta.name
            );
            (Vec::new(), Some(("False", Reason::NameTaken, sentence)))
        }
        Some(live) => {
            let ops = importer::build_patch(live, &body);
            let patch = (!ops.is_empty())
                .then(|| RegistryAction::PatchDeployment { name: live.meta.name.clone(), ops });
            (patch.into_iter().collect(), None)
        }
    }
}

fn report_refused(observed: &ObservedRegistry, actions: &[RegistryAction]) -> Option<Word> {
    let refused = observed
        .blocked
        .iter()
        .find(|b| actions.iter().any(|action| action.identify_write() == b.write))?;
    Some(("False", Reason::ImporterNotReady, refused_writes::describe_refused(refused)))
}

/// Builds the conditions while the importer does not report them.
fn report_importer(observed: &ObservedRegistry, runs: bool, now: Timestamp) -> Option<Word> {
    if observed.spec.suspend {
        return Some((
            "True",
            Reason::Suspended,
            "Nothing is imported while spec.suspend is true; what was imported stays.".into(),
        ));
    }
    let status = observed.status.clone().unwrap_or_default();
    let theirs = status
        .conditions
        .iter()
        .any(|c| c.type_ == "Ready" && !OURS.iter().any(|ours| c.reason == ours.as_ref()));
    if runs {
        // An importer that exits immediately, for example because it lacks permissions, was never
        // available, so that its last condition stays.
        let stays = observed.workload.as_ref().is_some_and(|w| w.status.available_replicas > 0);
        return (stays && !theirs).then(|| ("False", Reason::FirstPoll, first_poll(observed)));
    }
    let words = observed.words.as_deref().unwrap_or_default().trim();
    if let Some(why) = words.strip_prefix(RBAC_MISSING) {
        return Some((
            "False",
            Reason::RBACMissing,
            why.replace(":NAME)", &format!(":{})", observed.spec.service_account_name)),
        ));
    }
    if !words.is_empty() {
        return Some((
            "False",
            Reason::ImporterNotReady,
            format!("The importer ended and is started again: {words}"),
        ));
    }
    // The importer may have reported before Kubernetes reports it as running.
    let fresh =
        status.last_poll_time.is_some_and(|time| now.as_second() - time.0.as_second() < STALE);
    if fresh && theirs {
        return None;
    }
    let name = importer::build_name(&observed.name);
    let sentence = format!(
        "No pod of Deployment {name} runs: `kubectl describe deployment {name}` and its pods say \
         why; look for ServiceAccount {}, the Secret, a quota, and the image.",
        observed.spec.service_account_name
    );
    Some(("False", Reason::ImporterNotReady, sentence))
}

fn first_poll(observed: &ObservedRegistry) -> String {
    let url = observed.spec.mlflow.as_ref().map(|mlflow| mlflow.url.as_str()).unwrap_or_default();
    format!("The importer runs; its first look at {url} is under way.")
}

/// Builds the conditions to write; None where they are written already.
fn build_conditions(
    observed: &ObservedRegistry,
    (ready, reason, sentence): &Word,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let status = observed.status.clone().unwrap_or_default();
    let make = |kind, value| {
        build_condition_with_status(
            &status.conditions,
            kind,
            value,
            *reason,
            sentence,
            observed.generation,
            now,
        )
    };
    let mut all = vec![make("Ready", ready)];
    match *reason {
        Reason::Suspended => {}
        Reason::ImporterNotReady | Reason::FirstPoll => all.push(make("Reconciling", "True")),
        _ => all.push(make("Stalled", "True")),
    }
    (status.conditions != all || status.observed_generation != Some(observed.generation))
        .then_some(all)
}

#[cfg(test)]
mod tests;
