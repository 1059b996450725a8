//! Attribution of changes. The decision label on the Deployment distinguishes the operator's writes
//! from those of others: every write of ours to the template or to `paused` sets it, and kubectl's
//! verbs do not touch it (docs/design.md, "Attribution").

use serde_json::Value;

use super::history::{DecisionLabel, History};
use crate::{
    api::{ModelRolloutSpec, names},
    plan::{
        drift,
        observed::{Deployment, Track},
    },
};

/// The result of comparing a Deployment's label and fields with the recorded decisions.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribution {
    /// A decision is recorded that is not carried out yet: our own write is due, and nothing is
    /// attributed to anyone.
    NotYetApplied,
    /// The decision that the label names is carried out, and these are changes by someone else.
    Applied(Vec<ExternalChange>),
    /// The label names a decision that the caches lack.
    CacheBehind(DecisionLabel),
}

/// One change of the Deployment by someone else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalChange {
    /// The template carries another revision's label: `kubectl rollout undo`.
    Template {
        /// The label `rollmodel.dev/revision` of that template.
        hash16: String,
        /// The annotation restartedAt of that template.
        restarted_at: Option<String>,
    },
    /// The same revision with another restartedAt: `kubectl rollout restart`, or an undo of one.
    RestartedAt(Option<String>),
    /// `kubectl rollout pause` or `resume`.
    Paused(bool),
    /// Anything else in the template, by path.
    Drift(Vec<String>),
}

impl ExternalChange {
    /// True for a verb of kubectl that changes the template: undo or restart.
    #[must_use]
    pub fn is_verb_on_template(&self) -> bool {
        matches!(self, Self::Template { .. } | Self::RestartedAt(_))
    }
}

/// Reads the decision that was carried out on the Deployment, from its label.
#[must_use]
pub fn read_decision_label(live: &Deployment) -> Option<DecisionLabel> {
    live.meta.labels.get(names::DECISION).and_then(|value| DecisionLabel::parse(value))
}

/// Reads the revision of a template from the label `rollmodel.dev/revision`; empty if it has none.
#[must_use]
pub fn read_revision(template: &Value) -> &str {
    template["metadata"]["labels"][names::REVISION].as_str().unwrap_or_default()
}

/// Reads the time at which a template's pods were restarted, as `kubectl rollout restart` writes
/// it.
#[must_use]
pub fn read_restarted_at(template: &Value) -> Option<&str> {
    template["metadata"]["annotations"][names::RESTARTED_AT].as_str()
}

/// Compares a Deployment of ours with the newest decision on it. If the API server refused that
/// decision, the Deployment is compared with the decision that the label names: a refused decision
/// is not pending until it succeeds, so a verb of kubectl makes a newer one. `find_rendering`
/// returns the stored template of a record, if it is at hand.
#[must_use]
pub fn attribute_changes<'a>(
    history: &History,
    track: Track<'_>,
    newest_is_refused: bool,
    find_rendering: impl Fn(&ModelRolloutSpec) -> Option<&'a Value>,
) -> Attribution {
    let live = track.deployment;
    let (Some(label), Some(newest)) =
        (read_decision_label(live), history.newest_decision_on(&live.meta.name))
    else {
        return read_decision_label(live)
            .map_or(Attribution::NotYetApplied, Attribution::CacheBehind);
    };
    let base = match label.decision_numbers().cmp(&newest) {
        std::cmp::Ordering::Greater => return Attribution::CacheBehind(label),
        std::cmp::Ordering::Less if !newest_is_refused => return Attribution::NotYetApplied,
        std::cmp::Ordering::Less => history.find_labelled(label),
        std::cmp::Ordering::Equal => history.newest_on(&live.meta.name),
    };
    let Some(base) = base else { return Attribution::Applied(Vec::new()) };
    let mut changes: Vec<ExternalChange> =
        compare_template(track, base, find_rendering(base)).into_iter().collect();
    if live.spec.paused != label.paused {
        changes.push(ExternalChange::Paused(live.spec.paused));
    }
    if label.decision_numbers() < newest {
        changes.retain(|change| !is_recorded(history, base, change));
    }
    Attribution::Applied(changes)
}

/// True if a decision after `base`, which the API server refused, already says what a change asks
/// for: one verb of kubectl makes one record, however long its write is refused.
fn is_recorded(history: &History, base: &ModelRolloutSpec, change: &ExternalChange) -> bool {
    let mut newer = history.records().filter(|r| r.number > base.number);
    match change {
        ExternalChange::Template { hash16, restarted_at } => newer.any(|r| {
            names::short_hash(&r.revision_hash) == hash16 && r.restarted_at == *restarted_at
        }),
        ExternalChange::RestartedAt(at) => {
            newer.any(|r| r.revision_hash == base.revision_hash && r.restarted_at == *at)
        }
        ExternalChange::Paused(paused) => history.standing_pause().is_some() == *paused,
        ExternalChange::Drift(_) => false,
    }
}

fn compare_template(
    track: Track<'_>,
    base: &ModelRolloutSpec,
    rendering: Option<&Value>,
) -> Option<ExternalChange> {
    let template = &track.deployment.spec.template;
    let (hash16, at) = (read_revision(template), read_restarted_at(template));
    if !hash16.is_empty() && hash16 != names::short_hash(&base.revision_hash) {
        let (hash16, restarted_at) = (hash16.to_owned(), at.map(str::to_owned));
        return Some(ExternalChange::Template { hash16, restarted_at });
    }
    if !hash16.is_empty() && at != base.restarted_at.as_deref() {
        return Some(ExternalChange::RestartedAt(at.map(str::to_owned)));
    }
    let paths = compare_rendering(track, rendering?);
    (!paths.is_empty()).then_some(ExternalChange::Drift(paths))
}

/// Finds the paths at which the live template of a track differs from a stored one, apart from
/// restartedAt. The track label is not part of a stored template.
#[must_use]
pub fn compare_rendering(track: Track<'_>, rendering: &Value) -> Vec<String> {
    let template = &track.deployment.spec.template;
    let owned_by_others = paths_below(&track.deployment.foreign, "template.");
    let mut paths = drift::find_differences(rendering, template, &owned_by_others);
    // After a verb of kubectl, its manager owns the annotation, whoever writes the same value again.
    paths.retain(|path| !path.ends_with(names::RESTARTED_AT));
    // A manager that restores the Deployment owns the track label, which is ours all the same.
    let track_path = format!("metadata.labels.{}", names::TRACK);
    paths.retain(|path| *path != track_path);
    if template["metadata"]["labels"][names::TRACK] != track.name {
        paths.push(track_path);
    }
    paths
}

/// Selects the paths below `root`, and makes them relative to it.
#[must_use]
pub fn paths_below(paths: &[String], root: &str) -> Vec<String> {
    paths.iter().filter_map(|p| p.strip_prefix(root)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::plan::arbitrary::{observed, promoted, record, workload};

    fn on_main(deployment: &Deployment) -> Track<'_> {
        Track { name: names::TRACK_MAIN, deployment }
    }

    #[test]
    fn until_a_refused_decision_succeeds_changes_are_compared_with_the_one_before() {
        let history = History::new(&observed("7", vec![promoted(1, "6"), record(2, "7")]), "fraud");
        let mut live = workload("1.0", &record(1, "6"));
        live.spec.paused = true;
        let attribute =
            |is_refused| attribute_changes(&history, on_main(&live), is_refused, |_| None);
        assert_eq!(attribute(false), Attribution::NotYetApplied);
        let paused = vec![ExternalChange::Paused(true)];
        assert_eq!(attribute(true), Attribution::Applied(paused));
    }

    #[test]
    fn a_verb_of_kubectl_beside_a_refused_decision_is_recorded_once() {
        let restarted = |number, version| ModelRolloutSpec {
            restarted_at: Some("t".into()),
            ..record(number, version)
        };
        let attribute = |live: &Deployment, later: Vec<ModelRolloutSpec>| {
            let records = [vec![promoted(1, "6"), record(2, "7")], later].concat();
            let history = History::new(&observed("7", records), "fraud");
            match attribute_changes(&history, on_main(live), true, |_| None) {
                Attribution::Applied(changes) => changes,
                other => panic!("{other:?}"),
            }
        };
        let mut live = workload("1.0", &record(1, "6"));
        Arc::make_mut(&mut live.spec.template)["metadata"]["annotations"] =
            json!({names::RESTARTED_AT: "t"});
        let restart = [ExternalChange::RestartedAt(Some("t".into()))];
        assert_eq!(attribute(&live, Vec::new()), restart);
        assert_eq!(attribute(&live, vec![restarted(3, "7")]), restart, "of another revision");
        assert_eq!(attribute(&live, vec![record(3, "6")]), restart, "at another time");
        assert_eq!(attribute(&live, vec![restarted(3, "6"), record(4, "7")]), []);

        let live = workload("1.0", &record(1, "8"));
        assert_eq!(attribute(&live, Vec::new()).len(), 1);
        assert_eq!(attribute(&live, vec![restarted(3, "8")]).len(), 1, "at another time");
        assert_eq!(attribute(&live, vec![record(3, "8"), record(4, "7")]), []);

        let mut live = workload("1.0", &record(1, "6"));
        live.spec.paused = true;
        assert_eq!(attribute(&live, Vec::new()), [ExternalChange::Paused(true)]);
    }

    #[test]
    fn an_addition_to_the_template_is_drift_only_if_another_manager_owns_it() {
        let mut live = workload("1.0", &record(1, "6"));
        let mut rendering = Value::clone(&live.spec.template);
        rendering["metadata"]["labels"].as_object_mut().unwrap().remove(names::TRACK);
        Arc::make_mut(&mut live.spec.template)["spec"] = json!({"hostname": "added"});
        assert!(compare_rendering(on_main(&live), &rendering).is_empty());
        live.foreign = vec!["template.spec.hostname".into(), "replicas".into()];
        assert_eq!(compare_rendering(on_main(&live), &rendering), ["spec.hostname"]);
    }

    #[test]
    fn the_track_label_that_a_restore_owns_is_no_drift() {
        let mut live = workload("1.0", &record(1, "6"));
        let mut rendering = Value::clone(&live.spec.template);
        rendering["metadata"]["labels"].as_object_mut().unwrap().remove(names::TRACK);
        live.foreign = vec![format!("template.metadata.labels.{}", names::TRACK)];
        assert!(compare_rendering(on_main(&live), &rendering).is_empty());
        let labels = &mut Arc::make_mut(&mut live.spec.template)["metadata"]["labels"];
        labels[names::TRACK] = json!("another");
        let path = format!("metadata.labels.{}", names::TRACK);
        assert_eq!(compare_rendering(on_main(&live), &rendering), [path]);
    }

    #[test]
    fn a_restart_that_kubectl_owns_is_no_drift() {
        let mut live = workload("1.0", &record(1, "6"));
        let rendering = Value::clone(&live.spec.template);
        Arc::make_mut(&mut live.spec.template)["metadata"]["annotations"] =
            json!({names::RESTARTED_AT: "t"});
        let path = format!("template.metadata.annotations.{}", names::RESTARTED_AT);
        live.foreign = vec![path];
        assert!(compare_rendering(on_main(&live), &rendering).is_empty());
    }

    #[test]
    fn paths_are_taken_relative_to_their_root() {
        let paths = ["template.spec".to_owned(), "replicas".into()];
        assert_eq!(paths_below(&paths, "template."), ["spec"]);
    }
}
