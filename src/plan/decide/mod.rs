//! Deciding: at most one decision for each pass, as a value. Nothing here writes.
//!
//! The order: verbs of kubectl, requests of people, trouble of the rollout in progress, the spec.
//!
//! | to change | open |
//! |---|---|
//! | what a verb of plain kubectl on the Deployment does | [`kubectl`] |
//! | a verb of a RolloutRequest | [`requests`] |
//! | what an open rollout is left for | [`trouble`] |
//! | what a changed spec does | [`spec`] |
//! | what happens to a revision that was lost before it was carried out | [`lost`] |
//! | when a rollout ends, and how | [`endings`] |
//! | what a new record says | [`rollout`] |

pub mod endings;
pub mod kubectl;
pub mod lost;
pub mod requests;
pub mod rollout;
pub mod spec;
pub mod trouble;

use self::rollout::{NewRollout, Target};
use super::{
    action::{Action, Lookup},
    facts::{Facts, health::Failure, history::History, problem::Problem},
};
use crate::api::{
    condition::Time,
    rollout::{self as record, DecidedBy, DecisionVerb},
};

/// A decision that is recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Serve a revision.
    Roll(Box<NewRollout>),
    /// Pause or resume the rollout.
    Append(record::Decision),
}

/// What decisions follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A verb of plain kubectl.
    Kubectl,
    /// A RolloutRequest.
    Requests,
    /// The rollout in progress, which is left.
    Trouble,
    /// A revision that was lost.
    Lost,
    /// The spec.
    Spec,
}

/// A rule that may decide something.
type Rule = fn(&Facts<'_>, &mut Decided);

/// Who decides, in order.
const RULES: [(Source, Rule); 5] = [
    (Source::Kubectl, kubectl::handle_kubectl_verbs),
    (Source::Requests, requests::answer_requests),
    (Source::Trouble, trouble::roll_back_if_failed),
    (Source::Lost, lost::repeat_if_lost),
    (Source::Spec, spec::follow_spec),
];

/// The outcome of deciding.
#[derive(Debug, Default)]
pub struct Decided {
    /// The decision, where one is due.
    pub decision: Option<Decision>,
    /// What the decision follows from.
    pub source: Option<Source>,
    /// Sources of decisions that are due and cannot be recorded.
    pub passed_over: Vec<Source>,
    /// Answers to the RolloutRequests.
    pub answers: Vec<Action>,
    /// Events that explain the decision.
    pub events: Vec<Action>,
    /// The reason why the spec is not carried out.
    pub problem: Option<Problem>,
    /// The failure that caused the decision, with the quoted message that no record may hold.
    pub failure: Option<Failure>,
    /// Live reads that have to come first.
    pub lookups: Vec<Lookup>,
}

impl Decided {
    fn decide_rollout(&mut self, new: NewRollout) {
        self.decision = Some(Decision::Roll(Box::new(new)));
    }

    /// True if neither a decision nor a live read is due yet.
    fn is_undecided(&self) -> bool {
        self.decision.is_none() && self.lookups.is_empty()
    }

    /// Finds the target of a rollback (rule 1), or asks for the live read that is required first.
    fn find_rollback_target(&mut self, facts: &Facts<'_>) -> Option<Target> {
        match facts.find_rollback_target() {
            Ok(target) => target.map(|record| Target::of_record(facts, record)),
            Err(lookup) => {
                self.lookups.push(lookup);
                None
            }
        }
    }

    /// True if someone changed the Deployment by a verb of kubectl that cannot be recorded yet. It
    /// stays as it is until then, unless something newer is decided.
    #[must_use]
    pub fn leaves_kubectl_alone(&self) -> bool {
        self.decision.is_none() && self.passed_over.contains(&Source::Kubectl)
    }

    /// Emits an Event, once for each key.
    pub fn push_event(&mut self, warning: bool, reason: &str, message: String, key: String) {
        self.events.push(Action::Event { warning, reason: reason.into(), message, key });
    }

    /// The history with the decision in it.
    #[must_use]
    pub fn apply_to(&self, history: &History) -> History {
        let mut history = history.clone();
        match &self.decision {
            Some(Decision::Roll(new)) => history.push_record(new.record.clone()),
            Some(Decision::Append(decision)) => history.append_decision(decision.clone()),
            None => {}
        }
        history
    }
}

/// Makes the first decision that is due, less those that follow from what is passed over.
#[must_use]
pub fn decide(facts: &Facts<'_>, passed_over: &[Source]) -> Decided {
    let mut decided = Decided::default();
    for (source, rule) in RULES {
        let is_by_person = matches!(source, Source::Kubectl | Source::Requests);
        let may_decide = is_by_person || facts.missing.is_none();
        if decided.is_undecided() && may_decide && !passed_over.contains(&source) {
            rule(facts, &mut decided);
            decided.source = decided.decision.as_ref().map(|_| source);
        }
    }
    decided
}

/// A pause or resume as the newest record's next decision.
fn make_decision(facts: &Facts<'_>, verb: DecisionVerb, decided_by: DecidedBy) -> record::Decision {
    let number = facts.history.latest().map_or(1, |r| r.decisions.len() + 1);
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    record::Decision { number, verb, decided_by, at: Time(facts.now) }
}

/// True if the newest record has room for a pause or resume. The last place is reserved for a
/// resume, so that a pause can always be lifted.
fn has_room_for(facts: &Facts<'_>, verb: DecisionVerb) -> bool {
    let most = match verb {
        DecisionVerb::Pause => record::DECISIONS_MAX - 1,
        DecisionVerb::Resume => record::DECISIONS_MAX,
    };
    facts.history.latest().is_some_and(|r| r.decisions.len() < most)
}

#[cfg(test)]
mod tests;
