//! The witness tries a Resume wherever a cluster rests paused.

use rollmodel::api::{
    deployment::State,
    request::{RequestResult, Verb},
};

use super::{acts::Act, cluster::Cluster};

impl Cluster {
    /// A pause that only a request put on can be lifted by one. The cluster stays as it is: a copy
    /// of it is asked.
    pub fn witness_resume(&mut self) {
        let paused_by_spec = self.spec().is_none_or(|s| s.paused);
        if self.truth.is_tried || paused_by_spec || self.status().state != Some(State::Paused) {
            return;
        }
        let mut copy = self.clone();
        copy.truth.is_tried = true;
        copy.perform(&Act::Ask(Verb::Resume));
        copy.settle();
        let status = copy.requests.last().and_then(|r| r.status.clone()).unwrap_or_default();
        let message = status.message.unwrap_or_default();
        if status.result == Some(RequestResult::Refused) {
            self.violate("a-pause-can-be-lifted", format!("Resume was refused: {message}"));
        } else if copy.is_paused() || copy.status().state == Some(State::Paused) {
            self.violate("a-pause-can-be-lifted", format!("paused after a Resume: {message}"));
        }
    }
}
