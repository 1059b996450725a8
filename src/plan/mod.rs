//! Deciding: pure, synchronous and total. Nothing here is async, does I/O, reads a clock or draws a
//! random number.
//!
//! Read [`plan`] first, then [`decide::decide`]: the order of decisions, top to bottom. Where to
//! change what:
//!
//! | to change | open |
//! |---|---|
//! | what counts as a failure, and what as the environment's trouble | [`health`] |
//! | what is decided, and in which order | [`decide`] |
//! | a verb of a RolloutRequest | [`request`] |
//! | where going back leads, what is rejected | [`history`] |
//! | whose write that was | [`blame`] |
//! | what makes a pod of a version | [`render`] |
//! | what a version has to be before that | [`delivery`] |
//! | when an artifact is verified, and what follows | [`verify`] |
//! | what is written to carry a decision out | [`converge`], [`children`] |
//! | a ModelRegistry's importer | [`registry`] |
//! | what people and tools read | [`status`] |
//! | what is kept | [`keep`] |

pub mod action;
pub mod blame;
pub mod blocked;
pub mod children;
pub mod content;
pub mod converge;
pub mod decide;
pub mod delivery;
pub mod draft;
pub mod drift;
pub mod fetcher;
pub mod gone;
pub mod health;
pub mod history;
pub mod keep;
pub mod observed;
pub mod registry;
pub mod render;
pub mod request;
pub mod status;
pub mod verify;
pub mod version;

pub use action::{Action, Lookup, Plan, Prunable};
pub use observed::Observed;

use draft::Draft;
use jiff::Timestamp;
use observed::{Blocked, Wanted};

/// What is to be done about one ModelDeployment: decisions become records, and everything else
/// follows from the records.
#[must_use]
pub fn plan(seen: &Observed, now: Timestamp) -> Plan {
    let mut plan = match seen.deployment.as_ref().filter(|d| !d.deleting) {
        Some(wanted) => carry_out(seen, wanted, now),
        None => gone::plan(seen, now),
    };
    blocked::leave_out(seen, &mut plan);
    plan
}

fn carry_out(seen: &Observed, wanted: &Wanted, now: Timestamp) -> Plan {
    let mut draft = Draft::new(seen, wanted, now);
    if draft.made_anew() {
        // The old one ends first, as if it had been seen to go; what the new one wants is decided
        // once that is written.
        return Plan {
            actions: gone::end(seen, Some(&wanted.uid), now),
            requeue_after_seconds: Some(0),
            why: "Ends the records of the ModelDeployment before.".into(),
            ..Plan::default()
        };
    }
    decide::decide(&mut draft);
    decide::settle(&mut draft);
    let children = converge::children(&mut draft);
    let records = converge::records(&draft);
    if let Some(refused) = blocked::among(seen, &records).find(|b| b.deciding && !b.due) {
        return undecided(seen, wanted, refused, now);
    }
    let (deletions, due) = keep::prune(seen, &draft.history, wanted.spec.history_limit(), now);
    draft.after.extend(deletions);
    if let Some(seconds) = due {
        draft.again_in(seconds);
    }
    status::note_problem(&mut draft);
    let actions: Vec<Action> =
        records.into_iter().chain(children).chain(draft.after.drain(..)).collect();
    if let Some(refused) = blocked::among(seen, &actions).next() {
        blocked::tell(&mut draft, refused);
    }
    let (status, why) = status::status(&mut draft);
    draft.finish(actions, status, why)
}

/// The plan while a decision cannot be written down: it is told, and nothing is decided or done
/// that would stand on it.
fn undecided(seen: &Observed, wanted: &Wanted, refused: &Blocked, now: Timestamp) -> Plan {
    let mut draft = Draft::new(seen, wanted, now);
    blocked::tell(&mut draft, refused);
    let (status, why) = status::status(&mut draft);
    draft.finish(Vec::new(), status, why)
}
