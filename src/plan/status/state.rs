//! A state as a value: its word, the reason of its conditions, its sentence, and who has to act.

use super::View;
use crate::{
    api::{
        deployment::State,
        reason::{Reason, WaitingOn},
    },
    plan::action::Waiting,
};

/// A state, the reason of its conditions, and its sentence.
pub struct Phase {
    /// One word for people.
    pub state: State,
    /// The reason of the conditions.
    pub reason: Reason,
    /// The message in one sentence.
    pub message: String,
    /// The actor that has to change something first.
    waiting_on: WaitingOn,
}

impl Phase {
    /// A phase that waits for whoever its reason names.
    pub fn new(state: State, reason: Reason, message: impl Into<String>) -> Self {
        let waiting_on = reason.waiting_on();
        Self { state, reason, message: message.into(), waiting_on }
    }

    /// The same, waiting for something more special than its reason says.
    pub fn waiting_on(self, waiting_on: WaitingOn) -> Self {
        Self { waiting_on, ..self }
    }

    /// Returns the actor and the sentence that the plan waits for.
    pub fn into_waiting(self) -> Waiting {
        Waiting { on: self.waiting_on, reason: Some(self.reason), sentence: self.message }
    }
}

/// Names who paused, and why, as the end of a clause.
pub fn name_pauser(view: &View<'_>) -> String {
    let Some(decision) = view.history.standing_pause() else { return " by spec.paused".into() };
    let reason = decision.decided_by.reason.as_ref().map(|reason| format!(" ({reason})"));
    format!(" by {}{}", decision.decided_by.name, reason.unwrap_or_default())
}
