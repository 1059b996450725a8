//! Writes: from the newest decision to the actions that carry it out. Records come first, then the
//! Deployment, then the Service, then whatever only tells or prunes.

pub mod children;
mod deployment;
pub mod prune;
mod service;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::{
    action::{Action, Lookup, requeue_sooner},
    decide::{Decided, Decision},
    facts::{
        Facts,
        history::{DecisionLabel, History},
        revision::compute_digest,
    },
    observed::{Observed, Record},
    patch::{add_op, guard_version},
    refused_writes::find_refused,
    strategy,
};
use crate::api::{
    ModelRolloutSpec,
    condition::truncate_text,
    names::{self, MANAGED_BY, MANAGER, MODEL_DEPLOYMENT, REVISION},
    rollout::{ADDED_ONCE, Trigger},
};

/// The Events, live reads and waiting times that result while writes are planned.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Events, after the writes that they tell of.
    pub events: Vec<Action>,
    /// Live reads that are required first.
    pub lookups: Vec<Lookup>,
    /// Seconds until something is due by time alone.
    pub requeue_after: Option<i64>,
    /// The stored revision of the newest rollout is lost, and its template lives on in the
    /// Deployment alone.
    pub revision_lost: bool,
    /// The Service has to find old and new pods alike before another template is rolled out: the
    /// API server may refuse that.
    pub service_pending: bool,
    /// The API server refused that.
    pub service_refused: bool,
}

impl Outgoing {
    /// Plans again after so many seconds, at the latest.
    pub fn requeue_in(&mut self, seconds: i64) {
        self.requeue_after = requeue_sooner(self.requeue_after, seconds);
    }

    /// Plans again as soon as the caches show the writes, because no watch event may follow.
    pub fn requeue_at_once(&mut self) {
        self.requeue_after = Some(0);
    }

    /// Asks for a live read that has to come first.
    pub fn push_lookup(&mut self, lookup: Lookup) {
        if !self.lookups.contains(&lookup) {
            self.lookups.push(lookup);
        }
    }

    /// Emits an Event, once for each key.
    pub fn push_event(&mut self, warning: bool, reason: &str, message: String, key: String) {
        self.events.push(Action::Event { warning, reason: reason.into(), message, key });
    }
}

/// The writes of records and stored revisions: whatever the history holds that is not stored yet.
#[must_use]
pub fn write_records(facts: &Facts<'_>, decided: &Decided, history: &History) -> Vec<Action> {
    let mut actions = Vec::new();
    if let Some(Decision::Roll(new)) = &decided.decision {
        if let Some((name, body)) = &new.store {
            let labels = revision_labels(&facts.observed.name, &body.revision_hash);
            let (name, body) = (name.clone(), body.clone());
            actions.push(Action::StoreRevision { name, labels, body });
        }
        actions.push(Action::CreateRecord { spec: Box::new(new.record.clone()) });
    }
    actions.extend(amend_records(facts.observed, history));
    actions
}

fn revision_labels(name: &str, revision_hash: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.into(), MANAGER.into()),
        (MODEL_DEPLOYMENT.into(), name.into()),
        (REVISION.into(), names::short_hash(revision_hash).into()),
    ])
}

/// The writes that add to stored records what the history adds to them.
#[must_use]
pub fn amend_records(observed: &Observed, history: &History) -> Vec<Action> {
    let stored_before: HashMap<&str, &Record> =
        observed.records.iter().map(|r| (r.uid.as_str(), r)).collect();
    let before = |record: &Record| stored_before.get(record.uid.as_str());
    let stored = history.all_records().iter().filter(|r| !r.uid.is_empty());
    let changed = stored.filter_map(|record| amend_record(observed, record, &before(record)?.spec));
    changed.collect()
}

/// The patch from a stored record to what it says now; None where nothing was added.
fn amend_record(observed: &Observed, record: &Record, before: &ModelRolloutSpec) -> Option<Action> {
    // A record that no decision touched is still the very object that was observed.
    if std::ptr::eq(&raw const *record.spec, before) || *record.spec == *before {
        return None;
    }
    let (had, has) = (json!(before), json!(*record.spec));
    let added =
        ADDED_ONCE.into_iter().filter(|field| had.get(field).is_none() && has.get(field).is_some());
    let mut ops: Vec<Value> =
        added.map(|field| add_op(&format!("/spec/{field}"), has[field].clone())).collect();
    let decides = before.decisions.len() < record.spec.decisions.len();
    if decides {
        ops.push(add_op("/spec/decisions", has["decisions"].clone()));
    }
    let ops = guard_version(&record.uid, &record.resource_version, ops);
    let name = names::record_name(&observed.name, record.spec.number);
    Some(Action::AmendRecord { name, decides, ops })
}

/// The writes of the Deployments and the Service.
pub fn write_children(
    facts: &Facts<'_>,
    decided: &Decided,
    history: &History,
    out: &mut Outgoing,
) -> Vec<Action> {
    let (mut actions, mut service) = (Vec::new(), Vec::new());
    if let Some(newest) = history.newest() {
        let rendering = find_rendering(facts, decided, newest, out);
        service::write_service(facts, history, newest, rendering, out, &mut service);
    }
    let ports = service.iter().find(|action| changes_ports(action));
    out.service_pending = ports.is_some();
    out.service_refused =
        ports.is_some_and(|a| !find_refused(facts.observed, std::slice::from_ref(a)).is_empty());
    if out.service_pending && !out.service_refused {
        out.requeue_at_once();
    }
    for mut target in strategy::list_targets(facts, history) {
        let rendering = target.record.and_then(|r| find_rendering(facts, decided, r, out));
        target.record = target.record.filter(|_| !decided.leaves_kubectl_alone());
        deployment::write_deployment(facts, history, &target, rendering, out, &mut actions);
    }
    actions.append(&mut service);
    actions
}

fn changes_ports(action: &Action) -> bool {
    matches!(action, Action::PatchService { ops, .. }
        if ops.iter().any(|op| op["path"] == "/spec/ports"))
}

/// The template of the newest rollout: about to be stored, stored, or read live. Where it is stored
/// nowhere any more, the Deployment keeps the one that it has.
fn find_rendering<'a>(
    facts: &Facts<'a>,
    decided: &'a Decided,
    newest: &ModelRolloutSpec,
    out: &mut Outgoing,
) -> Option<&'a Value> {
    if let Some(Decision::Roll(new)) = &decided.decision
        && let Some((_, body)) = &new.store
    {
        return Some(&body.rendering);
    }
    match facts.require_stored_body(newest) {
        Ok(Some(body)) => return Some(&body.rendering),
        Ok(None) => out.revision_lost = true,
        Err(lookup) => out.push_lookup(lookup),
    }
    None
}

/// True if a stored template is the recorded one.
#[must_use]
pub fn is_recorded_rendering(record: &ModelRolloutSpec, rendering: &Value) -> bool {
    compute_digest(rendering) == record.rendering_digest
}

/// The decision label of the newest rollout.
fn label_decision(newest: &ModelRolloutSpec, paused: bool) -> DecisionLabel {
    DecisionLabel { rollout: newest.number, decisions: newest.decisions.len(), paused }
}

/// The line that `kubectl rollout history` prints of a rollout.
#[must_use]
pub fn describe_change_cause(record: &ModelRolloutSpec) -> String {
    let back = if record.goes_back() { "back: " } else { "" };
    let why = match record.trigger {
        Trigger::SpecChanged => "the spec changed".to_owned(),
        trigger => {
            let reason = record.decided_by.reason.as_ref();
            let reason = reason.map(|r| format!(": {r}")).unwrap_or_default();
            format!("{trigger:?} by {}{reason}", record.decided_by.name)
        }
    };
    let line = format!("rollout {}: version {} ({back}{why})", record.number, record.version);
    truncate_text(&line, 512)
}
