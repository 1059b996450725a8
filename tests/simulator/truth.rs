//! The witness: it knows what people did and what versions do, watches every write, and says which
//! property of the design a history violates.

use std::collections::BTreeSet;

use rollmodel::{
    api::{
        ModelRolloutSpec, names,
        request::{RequestResult, Verb},
        rollout::Trigger,
        version::LifecycleState,
    },
    plan::{Action, Observed, Plan, Prunable, action::Purpose},
};
use serde_json::Value;

use super::{
    acts::Act,
    cluster::Cluster,
    faults::Trouble,
    objects::Seconds,
    operator::BACKOFF_MAX,
    others::is_of_another_owner,
    protection::{Protection, is_same_pods},
    rejections::Rejections,
};

/// The most seconds from an edit of the spec to its record.
const SOON: Seconds = 60;

/// A property of the design that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub property: &'static str,
    pub sentence: String,
}

/// What the witness remembers.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub violations: Vec<Violation>,
    pub rejections: Rejections,
    /// Versions that the spec named since what serves was promoted.
    pub named: BTreeSet<String>,
    /// Versions that ever had a fault of their own.
    pub faulty: BTreeSet<String>,
    /// Labels of revisions whose template the API server refused.
    pub refused_templates: BTreeSet<String>,
    /// The newest decision, and where an Undo could lead, when the last plan was made.
    pub decision: String,
    pub undo_target: Option<String>,
    /// The property for which pods are protected once the next decision is carried out.
    pub to_protect: Option<&'static str>,
    /// Pods that no decision may replace.
    pub protected: Option<Protection>,
    /// Records since the cluster last settled, and how many the acts since then may lead to.
    pub records: usize,
    pub records_allowed: usize,
    /// When the last act happened.
    pub last_act: Seconds,
    /// Verbs of kubectl since the cluster last settled, less those that are recorded.
    pub kubectl_runs: usize,
    pub is_restoring: bool,
    pub had_endpoints: bool,
    /// Caches showed the past since the last act: wrong acts are judged by others.
    pub was_stale: bool,
    /// The generation of the spec when a refusal was last lifted.
    pub refusal_lifted_at: Option<i64>,
    /// Since the cluster was calm, nothing happened but that others changed the Deployment.
    pub is_only_drift: bool,
    pub secret_was_rotated: bool,
    /// Someone deleted records: all requests but a Retry are refused where they are missed.
    pub were_records_lost: bool,
    /// This cluster is a copy, of which the witness tries something.
    pub is_tried: bool,
}

impl Cluster {
    pub fn violate(&mut self, property: &'static str, sentence: impl Into<String>) {
        let violation = Violation { property, sentence: sentence.into() };
        if !self.truth.violations.contains(&violation) {
            self.truth.violations.push(violation);
        }
    }

    pub fn witness_act(&mut self, act: &Act) {
        self.witness_event();
        self.truth.protected = None;
        self.truth.to_protect = None;
        let mends = matches!(act, Act::Heal | Act::Refuse(..));
        if mends && !self.faults.refusals.is_empty() {
            self.truth.refusal_lifted_at = self.generation();
        }
        self.truth.was_stale = matches!(act, Act::Stale(_)) || self.operator.stale.is_some();
        let is_drift = matches!(act, Act::AddFields(_) | Act::EditImage);
        self.truth.is_only_drift = is_drift && (self.truth.is_only_drift || self.is_calm());
        match act {
            Act::KubectlUndo(_) | Act::KubectlRestart | Act::KubectlPause(_) => {
                self.truth.kubectl_runs += 1;
            }
            Act::LoseRecords | Act::LoseRecord(_) => self.truth.were_records_lost = true,
            Act::Want(version) | Act::Recreate(_, version) => self.witness_named(version),
            Act::Behave(version, behavior) if behavior.is_faulty() => {
                self.truth.faulty.insert(version.clone());
            }
            Act::Age => self.truth.last_act = self.now + 90 * 24 * 3600,
            Act::Trouble(Trouble::Secret) => self.truth.secret_was_rotated = true,
            _ => {}
        }
    }

    /// Something happened outside: it may lead to two records.
    pub fn witness_event(&mut self) {
        self.truth.last_act = self.now;
        self.truth.records_allowed += 2;
    }

    pub fn witness_named(&mut self, version: &str) {
        self.truth.named.insert(version.into());
    }

    /// The spec returns to what serves: its healthy pods stay.
    pub fn witness_return(&mut self) {
        self.truth.to_protect = Some("a-b-a-equals-a");
    }

    /// Whether nothing is on its way: what the spec names is recorded, carried out and promoted.
    pub fn is_calm(&self) -> bool {
        let (Some(newest), Some(spec)) = (self.newest_record(), self.spec()) else { return false };
        let Some(deployment) = &self.workload.deployment else { return false };
        newest.is_promoted()
            && newest.version == spec.version
            && self.status().observed_generation == self.generation()
            && deployment.spec.template.label(names::REVISION)
                == names::short_hash(&newest.revision_hash)
            && deployment.spec.replicas == spec.replicas
            && self.truth.kubectl_runs == 0
            && self.requests.iter().all(|r| r.status.is_some())
    }

    pub fn witness_restore(&mut self, begins: bool) {
        self.truth.is_restoring = begins;
        self.truth.had_endpoints = false;
    }

    /// The newest record that was promoted, of the model that the spec names.
    pub fn serving_record(&self) -> Option<&ModelRolloutSpec> {
        let model = &self.spec()?.model;
        let served = self.history().into_iter().rev().filter(|r| r.model == *model);
        served.into_iter().find(|r| r.is_promoted())
    }

    pub fn witness_plan(&mut self, observed: &Observed, plan: &Plan) {
        self.truth.undo_target = self.undo_target();
        let newest = self.newest_record();
        let decision = newest.map(|r| format!("{}.{}", r.number, r.decisions.len()));
        self.truth.decision = decision.unwrap_or_else(|| "0".into());
        let Some(status) = plan.status.as_ref().filter(|_| plan.lookups.is_empty()) else { return };
        let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let available =
            observed.tracks.get(names::TRACK_MAIN).map_or(0, |w| w.status.available_replicas);
        let replicas = observed.model_deployment.as_ref().map_or(0, |d| d.spec.replicas);
        if ready && replicas > 0 && available == 0 {
            let says = status.message.clone().unwrap_or_default();
            self.violate("ready-implies-available", format!("Ready with no pod available: {says}"));
        }
    }

    pub fn witness_write(&mut self, action: &Action, before: Option<&Value>) {
        match action {
            Action::CreateRecord { spec } => self.witness_record(spec),
            Action::AmendRecord { name, .. } => self.witness_amendment(name),
            Action::PatchDeployment { purpose, .. } => {
                let has_other_owner = before.is_some_and(is_of_another_owner);
                if has_other_owner && !self.truth.was_stale {
                    let sentence = "a Deployment that something else controls was patched";
                    self.violate("what-others-own-is-not-written", sentence);
                }
                if matches!(purpose, Purpose::Decision(_)) {
                    self.witness_patch(before);
                }
            }
            Action::AnswerRequest { name, status } => {
                let result = status.result;
                let message = status.message.clone().unwrap_or_default();
                self.witness_answer(name, result, &message);
            }
            Action::Delete { kind: Prunable::ControllerRevision, name, .. } => {
                let backup = self.backup.as_ref();
                let held = backup.is_some_and(|b| b.needs(name));
                if self.truth.is_restoring && held {
                    let sentence = format!("{name} was pruned while a backup was restored");
                    self.violate("nothing-is-pruned-during-a-restore", sentence);
                }
            }
            _ => {}
        }
    }

    fn witness_record(&mut self, record: &ModelRolloutSpec) {
        self.truth.records += 1;
        self.truth.protected = None;
        let (records, allowed) = (self.truth.records, self.truth.records_allowed);
        if records > allowed && !self.truth.is_restoring {
            let sentence = format!("rollout {} is one of {records}", record.number);
            self.violate("two-records-per-event", sentence);
        }
        let before: Vec<ModelRolloutSpec> =
            (self.history().into_iter()).filter(|r| r.number < record.number).cloned().collect();
        let left = before.last().filter(|r| r.model == record.model).cloned();
        let serving = self.serving_record().cloned();
        self.witness_cause(record);
        let in_order = self.faults.trouble.is_empty() && self.faults.refusals.is_empty();
        let waited = self.now - self.truth.last_act;
        let soon = if self.waits_for_backoff() { BACKOFF_MAX } else { SOON };
        if record.trigger == Trigger::SpecChanged && in_order && waited > soon {
            let sentence = format!("rollout {} came {waited} s after the spec", record.number);
            self.violate("a-spec-is-acted-on-at-once", sentence);
        }
        self.truth.refusal_lifted_at = None;
        if self.truth.is_only_drift {
            let sentence = format!("rollout {} came of a change by others", record.number);
            self.violate("drift-makes-no-record", sentence);
        }
        self.witness_model(record);
        self.witness_admission(record, serving.as_ref());
        self.witness_version(record, left.as_ref(), serving.as_ref());
        self.witness_verdict(record, left.as_ref(), serving.as_ref());
        self.witness_rejection(record);
        if let (Some(left), Some(serving)) = (&left, &serving)
            && left.outcome.is_none()
            && is_same_pods(serving, record)
            && record.goes_back()
        {
            self.truth.to_protect = Some("going-back-keeps-healthy-pods");
        }
        self.note_rejection_by_people(record, left.as_ref());
    }

    /// One request or one verb of kubectl leads to one record.
    fn witness_cause(&mut self, record: &ModelRolloutSpec) {
        if record.decided_by.name.starts_with("kubectl") {
            if self.truth.kubectl_runs == 0 {
                let sentence = format!("rollout {} is by kubectl, which nobody ran", record.number);
                self.violate("only-people-are-kubectl", sentence);
            }
            self.truth.kubectl_runs = self.truth.kubectl_runs.saturating_sub(1);
        }
        let Some(request) = &record.decided_by.request else { return };
        let is_same = |other: &&ModelRolloutSpec| {
            let by = other.decided_by.request.as_ref();
            other.number != record.number && by.is_some_and(|by| by.uid == request.uid)
        };
        if let Some(other) = self.history().into_iter().find(is_same).map(|r| r.number) {
            let sentence = format!("rollouts {other} and {} are of one request", record.number);
            self.violate("two-records-per-event", sentence);
        }
    }

    fn witness_model(&mut self, record: &ModelRolloutSpec) {
        let model = self.spec().map(|s| s.model.clone()).unwrap_or_default();
        let of_another = self
            .versions
            .iter()
            .any(|v| v.record_digest == record.record_digest && v.model != model);
        if record.model != model || of_another {
            let sentence =
                format!("rollout {} of model {model} serves another model", record.number);
            self.violate("one-model", sentence);
        }
    }

    pub fn is_yanked(&self, record: &ModelRolloutSpec) -> bool {
        let mut same = self.versions.iter();
        same.any(|v| {
            v.model == record.model
                && v.version == record.version
                && (v.lifecycle.as_ref().is_some_and(|l| l.state == LifecycleState::Yanked)
                    || v.record_digest != record.record_digest)
        })
    }

    /// The versions that a new record may serve follow from what people did, not from the planner.
    fn witness_version(
        &mut self,
        record: &ModelRolloutSpec,
        left: Option<&ModelRolloutSpec>,
        serving: Option<&ModelRolloutSpec>,
    ) {
        let Some(serving) = serving else { return };
        // What serves, rolled out once more (a Retry, a recreation), leads back beyond it.
        let open_forward = left
            .is_some_and(|l| l.outcome.is_none() && !l.goes_back() && !is_same_pods(l, serving));
        let may_return = !self.truth.rejections.versions.contains(&serving.record_digest);
        let allowed = match record.trigger {
            // A lost revision is rolled out once more.
            Trigger::Recreated if left.is_some_and(|l| l.version == record.version) => true,
            Trigger::Undo | Trigger::Recreated => {
                !open_forward
                    || !may_return
                    || record.version == serving.version
                    || self.names_target()
                    || record.decided_by.name.starts_with("kubectl")
            }
            Trigger::Abort => record.version == serving.version || !may_return || !open_forward,
            Trigger::Failed | Trigger::Refused | Trigger::Yanked => {
                record.version == serving.version || !may_return
            }
            // Where the newest decision is refused, kubectl restarts what the Deployment carries.
            Trigger::Restart => {
                let is_refused = !self.faults.refusals.is_empty();
                left.is_some_and(|l| l.version == record.version)
                    || (is_refused && record.version == serving.version)
            }
            _ => {
                record.version == serving.version
                    || self.truth.named.contains(&record.version)
                    || !may_return
            }
        };
        if !allowed {
            let sentence = format!(
                "rollout {} ({:?}) leads to version {} although version {} serves",
                record.number, record.trigger, record.version, serving.version
            );
            self.violate("acts-do-not-change-the-version", sentence);
        }
    }

    fn witness_verdict(
        &mut self,
        record: &ModelRolloutSpec,
        left: Option<&ModelRolloutSpec>,
        serving: Option<&ModelRolloutSpec>,
    ) {
        let Some(left) = left else { return };
        let same_content = serving.is_some_and(|s| s.content_hash == left.content_hash);
        let faulty = self.faults.behavior(&left.version).is_faulty()
            || self.truth.faulty.contains(&left.version);
        let just = match record.trigger {
            Trigger::Failed => (faulty || self.faults.has(Trouble::Secret)) && !same_content,
            Trigger::Refused => {
                self.truth.refused_templates.contains(names::short_hash(&left.revision_hash))
            }
            _ => return,
        };
        if !just {
            let sentence = format!(
                "rollout {} of version {} is called {:?}, and its content is not at fault",
                left.number, left.version, record.trigger
            );
            self.violate("only-faulty-content-is-failed", sentence);
        }
    }

    fn witness_patch(&mut self, before: Option<&Value>) {
        let template = |body: Option<&Value>| body.map(|b| b["spec"]["template"].clone());
        if template(before) != template(self.deployment.as_deref())
            && let Some(property) = self.truth.to_protect
            && let Some(serving) = self.serving_record().cloned()
            && self.newest_record().is_some_and(|r| r.revision_hash == serving.revision_hash)
        {
            self.truth.to_protect = None;
            self.protect_pods(&serving, property);
        }
        let paused = |body: Option<&Value>| body.is_some_and(|b| b["spec"]["paused"] == true);
        let lifted = paused(before) && !paused(self.deployment.as_deref());
        let goes_back = self.newest_record().is_some_and(|r| r.goes_back() && r.outcome.is_none());
        // A pause that someone else, or a restore, put on before it was wanted is not ours to keep.
        let restored = self.workload.replica_sets.is_empty();
        let ours = before
            .and_then(|b| b["metadata"]["labels"][names::DECISION].as_str())
            .is_some_and(|label| label.ends_with("-paused"));
        if lifted && ours && !restored && self.is_paused() && !goes_back && !self.truth.was_stale {
            let sentence = "the operator lifted a pause that a person put on and did not lift";
            self.violate("paused-stays-paused", sentence);
        }
        let recorded =
            self.decision_label().and_then(|l| l.split_once('.')).is_some_and(|(number, _)| {
                self.history().iter().any(|r| r.number.to_string() == number)
            });
        if !recorded {
            self.violate("a-record-before-the-rollout", "the Deployment names no recorded rollout");
        }
    }

    fn witness_answer(&mut self, name: &str, result: Option<RequestResult>, message: &str) {
        let Some(request) = self.requests.iter().find(|r| r.name == name).cloned() else { return };
        let is = |by: &rollmodel::api::rollout::DecidedBy| {
            by.request.as_ref().is_some_and(|r| r.uid == request.uid)
        };
        let recorded = (self.history().iter())
            .any(|r| is(&r.decided_by) || r.decisions.iter().any(|d| is(&d.decided_by)));
        if result == Some(RequestResult::Done) && !recorded {
            let sentence = format!("{:?} was answered Done: {message}", request.spec.verb);
            self.violate("done-implies-a-record", sentence);
        }
        let current = request.spec.if_decision == self.truth.decision;
        if request.spec.verb == Verb::Undo
            && request.spec.to_rollout.is_none()
            && result == Some(RequestResult::Refused)
            && request.spec.to_version.is_none()
            && current
            && !self.truth.was_stale
            && !self.has_other_owner()
            && !self.truth.were_records_lost
            && let Some(target) = self.truth.undo_target.clone()
        {
            let sentence =
                format!("Undo was refused although version {target} served before: {message}");
            self.violate("undo-is-possible", sentence);
        }
    }

    /// The cluster settled: what follows has other causes.
    pub fn witness_settled(&mut self) {
        self.truth.protected = None;
        self.truth.records = 0;
        self.truth.records_allowed = 0;
        // Commits settle one by one.
        self.truth.kubectl_runs = 0;
    }
}
