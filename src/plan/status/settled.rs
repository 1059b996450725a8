//! The sentence of a ModelDeployment on which no rollout is in progress: what serves, and why it is
//! not what the spec names.

use super::{
    View,
    state::{Phase, name_pauser},
};
use crate::{
    api::{
        ModelRolloutSpec,
        deployment::{Hold, State},
        names,
        reason::Reason,
        rollout::{Scope, Trigger},
        version::LifecycleState,
    },
    plan::{facts::version::find_pinned_digest, observed::Version},
};

/// Describes what serves where no rollout is in progress.
pub fn describe_settled(view: &View<'_>) -> Phase {
    let facts = view.facts;
    let Ok(desired) = &facts.desired else {
        return describe_older_crds(view);
    };
    let newest = view.history.newest();
    // An older CRD prunes what is read of a version, and so its digest: what serves is then told by
    // its version alone.
    let older = facts.observed.memory.crds_older;
    let serves = |r: &&ModelRolloutSpec| {
        r.revision_hash == desired.revision_hash || (older && r.version == desired.version)
    };
    if let Some(newest) = newest.filter(serves) {
        return Phase::new(State::Serving, Reason::Serving, describe_serving(view, newest));
    }
    if older {
        return describe_older_crds(view);
    }
    if let Some(hold) = view.hold {
        return describe_hold(view, hold, &desired.version);
    }
    if facts.should_pause(view.history) {
        let message = format!("Version {} waits: paused{}.", desired.version, name_pauser(view));
        return Phase::new(State::Paused, Reason::Paused, message);
    }
    let message = format!("Version {} is about to be rolled out.", desired.version);
    Phase::new(State::Rolling, Reason::Rolling, message)
}

fn describe_older_crds(view: &View<'_>) -> Phase {
    let serves = view.history.serving().map(|s| format!("Serving version {}. ", s.version));
    let message = format!(
        "{}The CRDs are older than the operator, and nothing new is rolled out: apply the CRDs of \
         this release.",
        serves.unwrap_or_default()
    );
    Phase::new(State::Pending, Reason::CRDsOlder, message)
}

fn describe_hold(view: &View<'_>, hold: &Hold, desired: &str) -> Phase {
    let newest = view.history.newest();
    let serving = newest.map_or("Nothing serves".to_owned(), |newest| {
        format!("Serving version {}", newest.version)
    });
    let lifecycle = newest.and_then(|newest| {
        let version = view.facts.observed.find_version_of(newest)?;
        Some(describe_lifecycle(view, version, newest))
    });
    let mut message = format!(
        "{serving}: {}{}",
        explain_hold(view, hold, desired),
        lifecycle.unwrap_or_default()
    );
    message.push_str(&describe_pause(view));
    let (state, reason) = match hold.trigger {
        trigger if trigger.is_requested_by_person() => (State::Held, Reason::Held),
        Trigger::Refused => (State::Invalid, Reason::Refused),
        _ => (State::RolledBack, Reason::RolledBack),
    };
    Phase::new(state, reason, message)
}

/// Explains why what the spec names is not served, and what to do.
pub fn explain_hold(view: &View<'_>, hold: &Hold, desired: &str) -> String {
    let newest = view.history.newest();
    let same = newest.is_some_and(|r| Some(&r.version) == hold.rejected.version.as_ref());
    let what = match (&hold.rejected.version, hold.scope) {
        (Some(version), _) if same => format!("the changed template of version {version}"),
        (Some(version), Scope::Version) => format!("version {version}"),
        (Some(version), _) => format!("the template of version {version}"),
        (None, _) => format!("rollout {}", hold.rejected.rollout),
    };
    let why = hold.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    if hold.trigger.is_requested_by_person() {
        let until = match hold.scope {
            Scope::Version => format!("Version {desired} is not served again until a Retry."),
            Scope::Content | Scope::Revision => {
                "That template is not served again until it is changed, or a Retry.".to_owned()
            }
        };
        return format!("{} went back from {what}{why}. {until}", hold.decided_by);
    }
    if hold.trigger == Trigger::Refused {
        return format!(
            "{what} was not rolled out{why}. Correct it in the spec, or ask for a Retry once the \
             API server accepts it."
        );
    }
    let failed = match &hold.rejected.version {
        Some(version) if !same => format!("version {version}"),
        _ => what,
    };
    format!("{failed} failed{why}. Correct it, name another version, or ask for a Retry.")
}

/// The serving version, and whatever a person should know about it.
fn describe_serving(view: &View<'_>, newest: &ModelRolloutSpec) -> String {
    let observed = view.facts.observed;
    let without_pods = view.facts.wanted.spec.replicas == 0;
    let replicas = if without_pods { ", with 0 replicas" } else { "" };
    let mut sentence = format!("Serving version {}{replicas}.", newest.version);
    match observed.find_version_of(newest) {
        None => sentence.push_str(&format!(
            " Its ModelVersion {} was deleted.",
            names::version_name(&newest.model, &newest.version)
        )),
        Some(version) => sentence.push_str(&describe_lifecycle(view, version, newest)),
    }
    if let Some(twin) = find_rejected_twin(view, newest) {
        sentence.push_str(&format!(" Its bytes are those of version {twin}, which was rejected."));
    }
    sentence.push_str(&describe_pause(view));
    if let Some(name) = observed.autoscalers.first() {
        sentence.push_str(&format!(
            " HorizontalPodAutoscaler {name} scales the Deployment: let it scale ModelDeployment \
             {} instead.",
            observed.name
        ));
    }
    sentence
}

/// The pause that the next change meets; empty where there is none.
fn describe_pause(view: &View<'_>) -> String {
    match view.facts.should_pause(view.history) {
        true => format!(" Paused{}: the next change waits.", name_pauser(view)),
        false => String::new(),
    }
}

fn describe_lifecycle(view: &View<'_>, version: &Version, newest: &ModelRolloutSpec) -> String {
    let lifecycle = version.lifecycle.as_ref().map(|l| (l.state, l.reason.as_deref()));
    let word = match lifecycle {
        Some((LifecycleState::Yanked, _)) => "yanked",
        Some((LifecycleState::Deprecated, _)) => "deprecated",
        _ if view.facts.observed.memory.crds_older => return String::new(),
        _ if version.record_digest != newest.record_digest => {
            return " Its ModelVersion has another record now.".into();
        }
        _ => return String::new(),
    };
    let reason = lifecycle.and_then(|(_, reason)| reason);
    let reason = reason.map(|r| format!(": {r}")).unwrap_or_default();
    format!(" Version {} is {word}{reason}.", newest.version)
}

/// A rejected version with the same pinned image and artifact under another number.
fn find_rejected_twin(view: &View<'_>, newest: &ModelRolloutSpec) -> Option<String> {
    let versions = &view.facts.observed.versions;
    let find = |digest: &str| versions.iter().find(|v| v.record_digest == digest);
    let bytes = |v: &Version| {
        // An image by tag says nothing about its bytes.
        let pinned = |i: &&String| i.contains("@sha256:");
        let image = match &v.image {
            Some(image) => Some(Some(image).filter(pinned)?.clone()),
            None => None,
        };
        let artifact = match &v.artifact {
            Some(_) => Some(find_pinned_digest(v)?.to_owned()),
            None => None,
        };
        (image.is_some() || artifact.is_some()).then_some((image, artifact))
    };
    let mine = bytes(find(&newest.record_digest)?)?;
    let rejections = view.history.list_rejections();
    let mut twins = rejections
        .iter()
        .filter_map(|(r, _)| find(&view.history.get(r.rollout)?.record_digest))
        .filter(|v| v.record_digest != newest.record_digest && bytes(v).as_ref() == Some(&mine));
    twins.next().map(|v| v.version.clone())
}
