//! Whose write was that? The decision label on the Deployment tells our writes from other people's
//! (design §3): every write of ours to the template or to `paused` sets it, and kubectl's verbs
//! leave it alone.

use super::{
    drift,
    history::{DecisionLabel, History},
    observed::{Meta, Observed, Workload},
};
use crate::api::{ModelRolloutSpec, names};

/// Whether a child is ours to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Ownership {
    /// Its controller is this ModelDeployment.
    Ours,
    /// It has no controller and carries our selector: a backup stripped the owner.
    Adoptable,
    /// Its controller is a ModelDeployment of this name that is gone, or it is being deleted
    /// itself: it goes by itself.
    Leaving,
    /// It is somebody else's.
    Foreign(String),
}

/// Whose a child is; `selects` is whether it carries our selector.
#[must_use]
pub fn ownership(meta: &Meta, owner_uid: &str, name: &str, selects: bool) -> Ownership {
    match &meta.controller {
        _ if meta.deleting => Ownership::Leaving,
        Some(c) if c.uid == owner_uid => Ownership::Ours,
        Some(c) if c.kind == "ModelDeployment" && c.name == name => Ownership::Leaving,
        Some(c) => Ownership::Foreign(format!("{} {} controls it", c.kind, c.name)),
        None if selects => Ownership::Adoptable,
        None => Ownership::Foreign("it was made by someone else".into()),
    }
}

/// What the Deployment's label and its difference from what we wrote amount to.
#[derive(Clone, Debug, PartialEq)]
pub enum Blame {
    /// A decision is recorded that is not carried out yet: our own write is due, and nothing is
    /// attributed to anyone.
    Pending,
    /// The newest decision is carried out, and these are differences that someone else made.
    Carried(Vec<Foreign>),
    /// The label names a decision that the caches lack.
    Ahead(DecisionLabel),
}

/// One thing that someone else did to the Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The template carries another content's label: `kubectl rollout undo`.
    Template {
        /// The label `rollmodel.dev/revision`.
        hash16: String,
    },
    /// The same content with another restartedAt: `kubectl rollout restart`.
    RestartedAt(Option<String>),
    /// `kubectl rollout pause` or `resume`.
    Paused(bool),
    /// Anything else in the template, by path.
    Drift(Vec<String>),
}

/// Compares a Deployment of ours with the newest decision. `rendering` is that of the newest
/// record, where it is at hand.
#[must_use]
pub fn blame(
    history: &History,
    workload: &Workload,
    rendering: Option<&serde_json::Value>,
) -> Blame {
    let label = workload.meta.labels.get(names::DECISION).and_then(|v| DecisionLabel::parse(v));
    let (Some(label), Some(decision)) = (label, history.decision()) else {
        return label.map_or(Blame::Pending, Blame::Ahead);
    };
    match label.decision().cmp(&decision) {
        std::cmp::Ordering::Less => Blame::Pending,
        std::cmp::Ordering::Greater => Blame::Ahead(label),
        std::cmp::Ordering::Equal => Blame::Carried(foreign(history, workload, rendering, label)),
    }
}

fn foreign(
    history: &History,
    workload: &Workload,
    rendering: Option<&serde_json::Value>,
    label: DecisionLabel,
) -> Vec<Foreign> {
    let Some(newest) = history.newest() else { return Vec::new() };
    let mut found: Vec<Foreign> = template(workload, newest, rendering).into_iter().collect();
    if workload.spec.paused != label.paused {
        found.push(Foreign::Paused(workload.spec.paused));
    }
    found
}

fn template(
    workload: &Workload,
    newest: &ModelRolloutSpec,
    rendering: Option<&serde_json::Value>,
) -> Option<Foreign> {
    let live = &workload.spec.template;
    let hash16 = live["metadata"]["labels"][names::REVISION].as_str().unwrap_or_default();
    if !hash16.is_empty() && hash16 != names::hash16(&newest.revision_hash) {
        return Some(Foreign::Template { hash16: hash16.to_owned() });
    }
    let restarted_at = live["metadata"]["annotations"][names::RESTARTED_AT].as_str();
    if !hash16.is_empty() && restarted_at != newest.restarted_at.as_deref() {
        return Some(Foreign::RestartedAt(restarted_at.map(str::to_owned)));
    }
    let want = super::children::template(rendering?, newest.restarted_at.as_deref());
    let paths = drift::differences(&want, live, &under(&workload.foreign, "template."));
    (!paths.is_empty()).then_some(Foreign::Drift(paths))
}

/// The paths below `root`, relative to it.
#[must_use]
pub fn under(paths: &[String], root: &str) -> Vec<String> {
    paths.iter().filter_map(|p| p.strip_prefix(root)).map(str::to_owned).collect()
}

/// Whether the Deployment that was observed is ours, or may be.
#[must_use]
pub fn workload_ownership(seen: &Observed, workload: &Workload, uid: &str) -> Ownership {
    ownership(
        &workload.meta,
        uid,
        &seen.name,
        workload.spec.selector == super::children::selector(&seen.name),
    )
}
