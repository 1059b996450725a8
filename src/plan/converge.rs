//! From the newest decision to the writes that carry it out: records first, then the Deployment,
//! then the Service.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    action::{Action, Lookup},
    blame::{self, Blame, Foreign, Ownership},
    children::{self, Target},
    content::{self},
    draft::Draft,
    health,
    history::DecisionLabel,
    observed::{ContentBody, Record},
};
use crate::api::{
    ModelRolloutSpec,
    names::{self, MANAGED_BY, MANAGER, MODEL_DEPLOYMENT, REVISION},
    rollout::{ADDED_ONCE, Trigger},
};

/// The writes of records and contents: what the history holds that is not stored yet.
#[must_use]
pub fn records(draft: &Draft<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    if let Some((name, body)) = &draft.store {
        actions.push(Action::StoreContent {
            name: name.clone(),
            labels: content_labels(draft, &body.revision_hash),
            body: body.clone(),
        });
    }
    // The new decision first: an outcome that is written before what caused it would read as a
    // deletion.
    let made = draft.history.records().iter().filter(|r| r.uid.is_empty());
    actions.extend(made.map(|r| Action::CreateRecord { spec: Box::new((*r.spec).clone()) }));
    actions.extend(amendments(draft.seen, &draft.history));
    actions
}

fn content_labels(draft: &Draft<'_>, hash: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.into(), MANAGER.into()),
        (MODEL_DEPLOYMENT.into(), draft.seen.name.clone()),
        (REVISION.into(), names::hash16(hash).into()),
    ])
}

/// The writes that add to stored records what the history adds to them.
#[must_use]
pub fn amendments(
    seen: &super::observed::Observed,
    history: &super::history::History,
) -> Vec<Action> {
    let before = |record: &Record| seen.records.iter().find(|r| r.uid == record.uid);
    let changed = history.records().iter().filter(|r| !r.uid.is_empty()).filter_map(|record| {
        let ops = amend(record, &before(record)?.spec)?;
        Some(Action::AmendRecord { name: names::record_name(&seen.name, record.spec.number), ops })
    });
    changed.collect()
}

/// The JSON patch from a stored record to what it says now, None when nothing was added.
fn amend(record: &Record, before: &ModelRolloutSpec) -> Option<Vec<Value>> {
    if std::ptr::eq(&*record.spec, before) || *record.spec == *before {
        return None;
    }
    let (had, has) = (json!(before), json!(*record.spec));
    let mut ops = vec![
        children::test("/metadata/uid", json!(record.uid)),
        children::test("/metadata/resourceVersion", json!(record.resource_version)),
    ];
    let added =
        ADDED_ONCE.into_iter().filter(|field| had.get(field).is_none() && has.get(field).is_some());
    ops.extend(added.map(|field| children::add(&format!("/spec/{field}"), has[field].clone())));
    if before.decisions.len() < record.spec.decisions.len() {
        ops.push(children::add("/spec/decisions", has["decisions"].clone()));
    }
    Some(ops)
}

/// The writes of the Deployment and the Service.
pub fn children(draft: &mut Draft<'_>) -> Vec<Action> {
    let Some(newest) = draft.history.newest().cloned() else { return Vec::new() };
    let Some(body) = body(draft, &newest) else { return Vec::new() };
    let mut actions = Vec::new();
    actions.extend(workload(draft, &newest, &body.rendering));
    actions.extend(service(draft, &body.rendering));
    actions
}

/// The newest record's content: about to be stored, stored, or looked up; made anew where it is
/// lost and the spec still names it.
fn body(draft: &mut Draft<'_>, newest: &ModelRolloutSpec) -> Option<ContentBody> {
    if let Some((name, body)) = &draft.store
        && *name == newest.revision_name
    {
        return Some(body.clone());
    }
    if let Some(body) = draft.stored(&newest.revision_name).and_then(|c| c.body.clone()) {
        return Some(body);
    }
    if draft.need(Lookup::Content(newest.revision_name.clone())) {
        return None;
    }
    let again = draft.desired.clone().ok().filter(|d| d.revision_hash == newest.revision_hash);
    let rendering =
        again.as_ref().and_then(|d| content::rendering(draft.seen, &draft.wanted.spec, d).ok());
    match again.zip(rendering) {
        Some((desired, rendering)) => {
            let body = ContentBody {
                revision_hash: desired.revision_hash,
                content: desired.written,
                rendering,
            };
            draft.store = Some((newest.revision_name.clone(), body.clone()));
            Some(body)
        }
        None => {
            draft.lost = true;
            None
        }
    }
}

/// Whether the Deployment is to be paused now: never at birth, nor while it goes back; put on once
/// something is available.
fn paused_now(draft: &Draft<'_>, newest: &ModelRolloutSpec) -> bool {
    let up = draft.workload().is_some_and(|w| {
        w.status.available_replicas > 0 || (health::complete(w) && draft.carried().is_some())
    });
    let goes_back = newest.trigger.goes_back() && newest.outcome.is_none();
    draft.pause_wanted() && up && !goes_back
}

fn workload(draft: &mut Draft<'_>, newest: &ModelRolloutSpec, rendering: &Value) -> Option<Action> {
    let put_back = put_back(draft, newest);
    let refused = draft.seen.memory.refusal.as_ref().is_some_and(|r| r.rollout == newest.number);
    let target = Target {
        wanted: draft.wanted,
        record: newest,
        rendering,
        label: DecisionLabel {
            rollout: newest.number,
            decisions: newest.decisions.len(),
            paused: paused_now(draft, newest),
        },
        change_cause: change_cause(newest),
        leave_template: undisturbed(draft, newest) || (put_back && futile(draft)),
    };
    match (&draft.ownership, draft.seen.workload.as_ref()) {
        // A template that was refused is refused again; only a new decision, or time where it was
        // forbidden, changes that.
        _ if refused => None,
        (None, _) | (_, None) => Some(Action::CreateWorkload {
            rollout: newest.number,
            body: children::workload(draft.seen, &target),
        }),
        (Some(Ownership::Leaving | Ownership::Foreign(_)), _) => None,
        (Some(ownership @ (Ownership::Ours | Ownership::Adoptable)), Some(live)) => {
            let (ops, paths) = children::patch_workload(draft.seen, live, &target, ownership);
            if ops.is_empty() {
                return None;
            }
            tell_put_back(draft, put_back, &paths);
            Some(Action::PatchWorkload { rollout: newest.number, put_back, ops })
        }
    }
}

/// Whether the template was found to be what the newest decision, carried out before this plan,
/// wrote: blame compared it.
fn undisturbed(draft: &Draft<'_>, newest: &ModelRolloutSpec) -> bool {
    let compared = draft.stored(&newest.revision_name).is_some_and(|c| c.body.is_some());
    let same = matches!(&draft.blame, Some(Blame::Carried(found)) if found.iter().all(|f| matches!(f, Foreign::Paused(_))));
    compared && same && draft.seen.records.iter().any(|r| r.spec.number == newest.number)
}

/// Whether a patch only puts back what someone else changed: the newest decision was carried out
/// before this plan, and still is the newest.
fn put_back(draft: &Draft<'_>, newest: &ModelRolloutSpec) -> bool {
    let drifted = matches!(&draft.blame, Some(Blame::Carried(found)) if found.iter().any(|f| matches!(f, Foreign::Drift(_))));
    drifted
        && draft.seen.records.iter().any(|r| {
            r.spec.number == newest.number && r.spec.decisions.len() == newest.decisions.len()
        })
}

/// Whether putting this very state of the Deployment back changed nothing.
fn futile(draft: &Draft<'_>) -> bool {
    let live = draft.seen.workload.as_ref().map(|w| w.meta.resource_version.as_str());
    live.is_some() && draft.seen.memory.futile.as_deref() == live
}

fn tell_put_back(draft: &mut Draft<'_>, put_back: bool, paths: &[String]) {
    let shown: Vec<&str> =
        paths.iter().filter(|p| p.starts_with("template.")).take(3).map(String::as_str).collect();
    let Some(live) = draft.seen.workload.as_ref().filter(|_| put_back && !shown.is_empty()) else {
        return;
    };
    let message = format!(
        "Someone else changed Deployment {} ({}); it was put back. Change the ModelDeployment's spec instead.",
        live.meta.name,
        shown.join(", ")
    );
    draft.event(true, "DriftCorrected", message, format!("drift-{}", live.meta.resource_version));
}

fn service(draft: &mut Draft<'_>, rendering: &Value) -> Option<Action> {
    let Some(live) = &draft.seen.service else {
        return Some(Action::CreateService {
            body: children::service(draft.seen, draft.wanted, rendering),
        });
    };
    let selects = live.selector == children::selector(&draft.seen.name);
    match blame::ownership(&live.meta, &draft.wanted.uid, &draft.seen.name, selects) {
        Ownership::Leaving | Ownership::Foreign(_) => None,
        ownership => {
            let ops =
                children::patch_service(draft.seen, live, draft.wanted, rendering, &ownership);
            (!ops.is_empty()).then_some(Action::PatchService { ops })
        }
    }
}

/// What `kubectl rollout history` prints of a rollout.
#[must_use]
pub fn change_cause(record: &ModelRolloutSpec) -> String {
    let back = match record.trigger {
        t if t.goes_back() => "back: ",
        _ => "",
    };
    let why = match record.trigger {
        Trigger::SpecChanged => "the spec changed".to_owned(),
        trigger => {
            let reason =
                record.decided_by.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            format!("{trigger:?} by {}{reason}", record.decided_by.name)
        }
    };
    crate::api::condition::bounded(
        &format!("rollout {}: version {} ({back}{why})", record.number, record.version),
        512,
    )
}
