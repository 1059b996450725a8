//! Facts that follow from the Deployment of one track: its owner, and the writers of its changes.

use super::{
    attribution::{Attribution, read_decision_label},
    history::{DecisionLabel, History},
    ownership::Ownership,
};
use crate::plan::observed::{Deployment, Track};

/// The facts of one track.
pub struct TrackFacts<'a> {
    /// The track and its Deployment, whoever owns that.
    pub track: Track<'a>,
    /// The owner of the Deployment.
    pub ownership: Ownership,
    /// The writers of the changes that the Deployment shows; None if it is not ours.
    pub attribution: Option<Attribution>,
    /// The decision that the Deployment carries and whose records are missing, also when read live.
    pub missing: Option<DecisionLabel>,
}

impl<'a> TrackFacts<'a> {
    /// The Deployment, where it is ours or can be adopted.
    #[must_use]
    pub fn deployment(&self) -> Option<&'a Deployment> {
        self.ownership.is_ours().then_some(self.track.deployment)
    }

    /// True if the Deployment carries the newest decision on it in `history`.
    #[must_use]
    pub fn is_up_to_date(&self, history: &History) -> bool {
        let label = self.deployment().and_then(read_decision_label);
        let newest = history.newest_decision_on(&self.track.deployment.meta.name);
        label.is_some_and(|label| Some(label.decision_numbers()) == newest)
    }
}
