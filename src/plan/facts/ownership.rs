//! Ownership of child objects: whether the operator may write them.

use std::collections::BTreeMap;

use crate::{
    api::names::{MODEL, MODEL_DEPLOYMENT, TRACK, TRACK_MAIN},
    plan::observed::{Meta, Observed, ObservedModelDeployment, Track},
};

/// The owner of a child object.
#[derive(Clone, Debug, PartialEq)]
pub enum Ownership {
    /// Its controller is this ModelDeployment.
    Ours,
    /// It has no controller, and carries our selector and the label of our model: a backup stripped
    /// the owner reference.
    Adoptable,
    /// It is being deleted, or the garbage collector will delete it: its controller is a deleted
    /// ModelDeployment of this name.
    Terminating,
    /// Something else owns it; the reason, as the end of a sentence.
    OwnedByOther(String),
}

impl Ownership {
    /// True if the child is ours, or can be adopted.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours | Self::Adoptable)
    }
}

/// Finds the owner of a child; `selects` is true if it carries our selector.
fn find_ownership(
    meta: &Meta,
    wanted: &ObservedModelDeployment,
    name: &str,
    selects: bool,
) -> Ownership {
    let model = meta.labels.get(MODEL);
    match &meta.controller {
        _ if meta.deleting => Ownership::Terminating,
        Some(c) if c.uid == wanted.uid => Ownership::Ours,
        Some(c) if c.kind == "ModelDeployment" && c.name == name => Ownership::Terminating,
        Some(c) => Ownership::OwnedByOther(format!("{} {} controls it", c.kind, c.name)),
        None if selects && model == Some(&wanted.spec.model) => Ownership::Adoptable,
        None if selects && model.is_some() => {
            let other = model.map(String::as_str).unwrap_or_default();
            Ownership::OwnedByOther(format!("it serves model {other}"))
        }
        None => Ownership::OwnedByOther("it was made by someone else".into()),
    }
}

/// Finds the owner of the Deployment of a track.
#[must_use]
pub fn find_track_ownership(
    observed: &Observed,
    track: Track<'_>,
    wanted: &ObservedModelDeployment,
) -> Ownership {
    let live = track.deployment;
    let selects = live.spec.selector == build_selector(&observed.name, track.name);
    find_ownership(&live.meta, wanted, &observed.name, selects)
}

/// Finds the owner of the Service; None if there is none.
#[must_use]
pub fn find_service_ownership(
    observed: &Observed,
    wanted: &ObservedModelDeployment,
) -> Option<Ownership> {
    let live = observed.service.as_ref()?;
    let selects = live.selector == build_selector(&observed.name, TRACK_MAIN);
    Some(find_ownership(&live.meta, wanted, &observed.name, selects))
}

/// Builds the selector of a Deployment and of a Service: ModelDeployment and track, never a
/// version, so that both outlive every rollout.
#[must_use]
pub fn build_selector(model_deployment: &str, track: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MODEL_DEPLOYMENT.into(), model_deployment.into()),
        (TRACK.into(), track.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{arbitrary::observed, observed::Controller};

    fn controlled(kind: &str, name: &str, uid: &str) -> Meta {
        let controller = Controller { kind: kind.into(), name: name.into(), uid: uid.into() };
        Meta { controller: Some(controller), ..Meta::default() }
    }

    fn owner(meta: &Meta, selects: bool) -> Ownership {
        let wanted = observed("6", Vec::new()).model_deployment.unwrap();
        find_ownership(meta, &wanted, "fraud", selects)
    }

    /// A child without a controller, of a model.
    fn orphan(model: &str) -> Meta {
        let labels = BTreeMap::from([(MODEL.to_owned(), model.to_owned())]);
        Meta { labels, ..Meta::default() }
    }

    #[test]
    fn a_child_that_this_model_deployment_controls_is_ours() {
        let child = controlled("ModelDeployment", "fraud", "u");
        assert_eq!(owner(&child, false), Ownership::Ours);
    }

    #[test]
    fn a_child_of_a_model_deployment_of_this_name_that_is_gone_is_terminating() {
        let child = controlled("ModelDeployment", "fraud", "earlier");
        assert_eq!(owner(&child, true), Ownership::Terminating);
    }

    #[test]
    fn a_child_of_another_kind_or_another_name_belongs_to_that_one() {
        let of = |kind, name| owner(&controlled(kind, name, "other"), true);
        let by = |who: &str| Ownership::OwnedByOther(format!("{who} controls it"));
        assert_eq!(of("Rollout", "fraud"), by("Rollout fraud"));
        assert_eq!(of("ModelDeployment", "spam"), by("ModelDeployment spam"));
    }

    #[test]
    fn a_child_that_is_being_deleted_is_terminating_whoever_controls_it() {
        let child = controlled("ModelDeployment", "fraud", "u");
        let child = Meta { deleting: true, ..child };
        assert_eq!(owner(&child, true), Ownership::Terminating);
    }

    #[test]
    fn a_child_without_a_controller_is_adopted_only_with_our_selector_and_our_model() {
        assert_eq!(owner(&orphan("fraud"), true), Ownership::Adoptable);
        let other = |why: &str| Ownership::OwnedByOther(why.into());
        assert_eq!(owner(&orphan("churn"), true), other("it serves model churn"));
        for (meta, selects) in [(orphan("fraud"), false), (Meta::default(), true)] {
            assert_eq!(owner(&meta, selects), other("it was made by someone else"));
        }
    }
}
