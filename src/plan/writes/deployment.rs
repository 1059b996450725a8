//! A Deployment: created whole, then patched twice at the most: its settings, and the decision.

use serde_json::{Value, json};

use super::{
    Outgoing,
    children::{self, DeploymentTarget},
    describe_change_cause, is_recorded_rendering, label_decision,
};
use crate::{
    api::{ModelRolloutSpec, names},
    plan::{
        action::{Action, Purpose},
        decide::spec::stays_where_it_is,
        facts::{
            Facts,
            attribution::{
                Attribution, ExternalChange, compare_rendering, read_decision_label,
                read_restarted_at, read_revision,
            },
            history::History,
            ownership::Ownership,
            track::TrackFacts,
        },
        observed::Deployment,
        patch::{add_op, replace_op},
        refused_writes,
        strategy::{self, TrackTarget},
    },
};

/// Plans the writes of one Deployment. Without a rendering the template stays as it is.
pub fn write_deployment(
    facts: &Facts<'_>,
    history: &History,
    target: &TrackTarget<'_>,
    rendering: Option<&Value>,
    out: &mut Outgoing,
    actions: &mut Vec<Action>,
) {
    let Some(track) = facts.find_track(target.deployment_name) else {
        let record = target.record.filter(|r| !stays_where_it_is(facts, r));
        if let (Some(record), Some(rendering)) = (record, rendering) {
            actions.extend(create_deployment(facts, target, record, rendering, out));
        }
        return;
    };
    if track.deployment().is_none() {
        return;
    }
    actions.extend(patch_settings(facts, track, out));
    // Without its records nobody knows which decision the Deployment should carry.
    if let Some(record) = target.record.filter(|_| facts.missing.is_none()) {
        actions.extend(patch_decision(facts, history, track, record, rendering, out));
    }
}

fn create_deployment(
    facts: &Facts<'_>,
    target: &TrackTarget<'_>,
    record: &ModelRolloutSpec,
    rendering: &Value,
    out: &mut Outgoing,
) -> Option<Action> {
    if !is_recorded_rendering(record, rendering) {
        out.revision_lost = true;
        return None;
    }
    if record.is_promoted() {
        tell_created_again(facts, target.deployment_name, record, out);
    }
    let wanted = DeploymentTarget {
        name: target.deployment_name,
        track: target.track,
        newest: record,
        rendering,
        label: label_decision(record, false),
        cause: describe_change_cause(record),
    };
    let body = children::build_deployment(facts.observed, facts.wanted, &wanted);
    let name = target.deployment_name.to_owned();
    Some(Action::CreateDeployment { name, rollout: record.number, body })
}

/// What served is not there any more, and every pod of it starts anew.
fn tell_created_again(
    facts: &Facts<'_>,
    name: &str,
    record: &ModelRolloutSpec,
    out: &mut Outgoing,
) {
    let version = &record.version;
    let message =
        format!("Deployment {name} is gone: it is created again, with version {version}.");
    // It may be deleted more than once.
    let key = format!("created-again-{}-{}", record.number, facts.now.as_second() / 600);
    out.push_event(true, "DeploymentDeleted", message, key);
}

fn make_patch(
    live: &Deployment,
    purpose: Purpose,
    reverts: Vec<String>,
    ops: Vec<Value>,
) -> Option<Action> {
    (!ops.is_empty()).then(|| Action::PatchDeployment {
        name: live.meta.name.clone(),
        purpose,
        uid: live.meta.uid.clone(),
        generation: live.generation,
        reverts,
        ops,
    })
}

/// Replicas, strategy, seconds and limits, converged whoever changed them, with our labels and the
/// owner. A value that came back after it was reverted is set by a webhook or a controller: it is
/// told once, and left as long as it is remembered.
fn patch_settings(facts: &Facts<'_>, track: &TrackFacts<'_>, out: &mut Outgoing) -> Option<Action> {
    let (live, ownership) = (track.track.deployment, &track.ownership);
    let mut ops = children::build_meta_ops(facts.observed, facts.wanted, &live.meta, ownership);
    let mut reverts = Vec::new();
    for (field, want, have) in children::compare_settings(facts.wanted, &live.spec) {
        let revert = describe_setting(facts, field, &have);
        if facts.observed.memory.came_back.contains(&revert) {
            let key = format!("{field}-{have}-{want}");
            tell_came_back(facts, &live.meta.name, field, &key, out);
            continue;
        }
        if field == "replicas" {
            tell_scaled(facts, track, &have, &want, out);
        }
        reverts.push(revert);
        ops.push(add_op(&format!("/spec/{field}"), want));
    }
    make_patch(live, Purpose::Settings, reverts, ops)
}

/// Tells who scaled the Deployment, which `kubectl scale` does by habit, what to scale instead. The
/// spec was carried out before, so that the difference is not its own.
fn tell_scaled(
    facts: &Facts<'_>,
    track: &TrackFacts<'_>,
    have: &Value,
    want: &Value,
    out: &mut Outgoing,
) {
    let told = facts.wanted.status.as_ref().and_then(|status| status.observed_generation);
    let (name, model_deployment) = (&track.track.deployment.meta.name, &facts.observed.name);
    let is_told = told == Some(facts.wanted.generation);
    let is_refused = refused_writes::find_settings(facts.observed, name).is_some();
    if track.ownership != Ownership::Ours || !is_told || is_refused {
        return;
    }
    let message = format!(
        "Deployment {name} was scaled to {have}, and is set to the {want} replicas that \
         ModelDeployment {model_deployment} asks for: scale that, with kubectl scale \
         modeldeployment {model_deployment}."
    );
    out.push_event(true, "DriftCorrected", message, format!("scaled-{have}-{want}"));
}

/// A live setting and what it was reverted for. It is set again at once when the ModelDeployment
/// changes, or what scales the Deployment.
fn describe_setting(facts: &Facts<'_>, field: &str, have: &Value) -> String {
    let (generation, autoscalers) = (facts.wanted.generation, &facts.observed.autoscalers);
    format!("{field}={have} at generation {generation} with autoscalers {autoscalers:?}")
}

fn tell_came_back(facts: &Facts<'_>, name: &str, fields: &str, key: &str, out: &mut Outgoing) {
    let message = format!(
        "Deployment {name} has another value of {fields} again after it was set back: an admission \
         webhook, an autoscaler or another controller sets it. It is left as it is for now: set \
         the same value in ModelDeployment {}, or change the webhook or controller.",
        facts.observed.name
    );
    out.push_event(true, "RevertIneffective", message, format!("came-back-{key}"));
}

/// Template, paused, the label of the decision and the change cause.
fn patch_decision(
    facts: &Facts<'_>,
    history: &History,
    track: &TrackFacts<'_>,
    newest: &ModelRolloutSpec,
    rendering: Option<&Value>,
    out: &mut Outgoing,
) -> Option<Action> {
    let live = track.track.deployment;
    if waits_for_service(facts, newest, out) && !has_template_of(live, newest) {
        return None;
    }
    if rendering.is_none() && !has_template_of(live, newest) {
        // The decision cannot be carried out, and the label must not say that it was.
        return None;
    }
    let paused = strategy::should_be_paused(facts, history, newest);
    let label = label_decision(newest, paused).to_string();
    let cause = describe_change_cause(newest);
    let mut ops = Vec::new();
    let mut reverts = Vec::new();
    if let Some(rendering) = rendering.filter(|_| !is_compared(facts, track, history)) {
        let mut paths = compare_rendering(track.track, rendering);
        // A restart of ours that is taken back is no addition of anyone else.
        if read_restarted_at(&live.spec.template) != newest.restarted_at.as_deref() {
            paths.push("metadata.annotations.restartedAt".into());
        }
        let came_back = &facts.observed.memory.came_back;
        let all_came_back = !came_back.is_empty()
            && !paths.is_empty()
            && paths.iter().all(|p| came_back.contains(&describe_revert(&live.spec.template, p)));
        if all_came_back {
            let key = describe_revert(&live.spec.template, &paths[0]);
            tell_came_back(facts, &live.meta.name, &show_paths(&paths), &key, out);
        } else if !paths.is_empty() && is_recorded_rendering(newest, rendering) {
            if is_revert(facts, track, history) {
                reverts.extend(paths.iter().map(|p| describe_revert(&live.spec.template, p)));
                if !is_refused_verb(track) {
                    tell_reverted(live, &paths, out);
                }
            }
            let want = children::build_template(
                rendering,
                track.track.name,
                newest.restarted_at.as_deref(),
            );
            ops.push(replace_op("/spec/template", want));
        } else if !paths.is_empty() {
            out.revision_lost = true;
        }
    }
    if live.spec.paused != paused {
        ops.push(add_op("/spec/paused", json!(paused)));
    }
    if live.meta.labels.get(names::DECISION) != Some(&label) {
        if is_overtaking(facts, track, history) {
            tell_overtaken(facts, history, live, newest, out);
        }
        ops.extend(children::build_label_ops(&live.meta, &label, &cause));
    } else if !reverts.is_empty() && live.meta.annotations.get(names::CHANGE_CAUSE) != Some(&cause)
    {
        // kubectl rollout undo took over the cause of the template that it chose.
        ops.extend(children::build_cause_ops(&live.meta, &cause));
    }
    make_patch(live, Purpose::Decision(newest.number), reverts, ops)
}

/// True if another template would cut clients, because the Service cannot lead to its pods yet. A
/// rollout that goes back waits only where the API server refused the Service and a pod is ready:
/// otherwise nothing that answers is lost.
fn waits_for_service(facts: &Facts<'_>, newest: &ModelRolloutSpec, out: &Outgoing) -> bool {
    let answers = || facts.observed.pods.iter().any(|pod| pod.lives() && pod.ready);
    out.service_pending && (!newest.goes_back() || (out.service_refused && answers()))
}

/// True if the Deployment has the template of a rollout, by its revision and restartedAt.
fn has_template_of(live: &Deployment, record: &ModelRolloutSpec) -> bool {
    let template = &live.spec.template;
    read_revision(template) == names::short_hash(&record.revision_hash)
        && read_restarted_at(template) == record.restarted_at.as_deref()
}

/// A changed path of the template and the digest of the live one, so that the same value is known
/// when it comes back. People are told the path alone.
fn describe_revert(template: &Value, path: &str) -> String {
    let value = crate::plan::facts::revision::compute_digest(template);
    format!("template.{path}={}", names::short_hash(&value))
}

/// True if attribution found that the template is the one that the newest decision, carried out
/// before this plan, wrote.
fn is_compared(facts: &Facts<'_>, track: &TrackFacts<'_>, history: &History) -> bool {
    let name = &track.track.deployment.meta.name;
    let body = facts.history.newest_on(name).is_some_and(|r| facts.find_stored_body(r).is_some());
    let only_paused = |found: &[ExternalChange]| {
        found.iter().all(|change| matches!(change, ExternalChange::Paused(_)))
    };
    let same =
        matches!(&track.attribution, Some(Attribution::Applied(found)) if only_paused(found));
    let newest = |h: &History| h.newest_on(name).map(|r| r.number);
    body && same && newest(history) == newest(&facts.history) && track.is_up_to_date(&facts.history)
}

/// True if a patch only reverts changes by others: nothing was decided in this pass.
fn is_revert(facts: &Facts<'_>, track: &TrackFacts<'_>, history: &History) -> bool {
    track.is_up_to_date(&facts.history) && !is_decided_now(facts, track, history)
}

/// True if this pass decides something about the Deployment.
fn is_decided_now(facts: &Facts<'_>, track: &TrackFacts<'_>, history: &History) -> bool {
    let newest = |h: &History| h.newest_decision_on(&track.track.deployment.meta.name);
    newest(history) != newest(&facts.history)
}

/// True if the template was changed by a verb of kubectl, whose refusal was told already.
fn is_refused_verb(track: &TrackFacts<'_>) -> bool {
    matches!(&track.attribution, Some(Attribution::Applied(found))
        if found.iter().any(ExternalChange::is_verb_on_template))
}

fn tell_reverted(live: &Deployment, paths: &[String], out: &mut Outgoing) {
    let message = format!(
        "Someone else changed Deployment {} ({}). The change was reverted: edit the \
         ModelDeployment's spec instead.",
        live.meta.name,
        show_paths(paths)
    );
    out.push_event(true, "DriftCorrected", message, format!("drift-{}", live.generation));
}

/// The first changed paths of a template, for people.
fn show_paths(paths: &[String]) -> String {
    let shown: Vec<String> = paths.iter().take(3).map(|p| format!("template.{p}")).collect();
    shown.join(", ")
}

/// True if the newest decision replaces an older one that the Deployment carries.
fn is_overtaking(facts: &Facts<'_>, track: &TrackFacts<'_>, history: &History) -> bool {
    matches!(track.attribution, Some(Attribution::NotYetApplied))
        && !is_decided_now(facts, track, history)
}

/// An undo by kubectl in the moment before our own patch is overtaken by it; people are told. They
/// are also told of a Deployment that someone replaced after the newest rollout was complete.
fn tell_overtaken(
    facts: &Facts<'_>,
    history: &History,
    live: &Deployment,
    newest: &ModelRolloutSpec,
    out: &mut Outgoing,
) {
    let Some(label) = read_decision_label(live) else { return };
    let Some(before) = history.find_labelled(label) else { return };
    if newest.is_promoted() && label.rollout < newest.number {
        let message = format!(
            "Deployment {} carries decision {label} again: someone replaced it, for example with \
             an old manifest. It is set to rollout {}, which is the newest.",
            live.meta.name, newest.number
        );
        let key = format!("replaced-{label}-{}", live.generation);
        return out.push_event(true, "DriftCorrected", message, key);
    }
    let hash16 = read_revision(&live.spec.template);
    let known = [before, newest].iter().any(|r| names::short_hash(&r.revision_hash) == hash16);
    if hash16.is_empty() || known {
        return;
    }
    let message = format!(
        "kubectl rollout undo on Deployment {} was overtaken by rollout {}, which was decided at \
         the same time: undo again if you still want it.",
        live.meta.name, newest.number
    );
    let key = format!("overtaken-{}-{}", newest.number, facts.wanted.generation);
    out.push_event(true, "UndoOvertaken", message, key);
}
