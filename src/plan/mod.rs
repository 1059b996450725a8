//! Deciding: pure, synchronous and total. Nothing here is async, does I/O, reads a clock or draws a random number.
//!
//! Read [`plan`] first, then [`decide::decide`]: the order of decisions, top to bottom. Where to change what:
//!
//! | to change | open |
//! |---|---|
//! | what counts as a failure, and what as the environment's trouble | [`health`] |
//! | what is decided, and in which order | [`decide`] |
//! | a verb of a RolloutRequest | [`request`] |
//! | where going back leads, what is rejected | [`history`] |
//! | whose write that was | [`blame`] |
//! | what makes a pod of a version | [`render`] |
//! | what is written to carry a decision out | [`converge`], [`children`] |
//! | what people and tools read | [`status`] |
//! | what is kept | [`keep`] |

pub mod action;
pub mod blame;
pub mod children;
pub mod content;
pub mod converge;
pub mod decide;
pub mod draft;
pub mod drift;
pub mod gone;
pub mod health;
pub mod history;
pub mod keep;
pub mod observed;
pub mod render;
pub mod request;
pub mod status;
pub mod version;

pub use action::{Action, Lookup, Plan, Prunable};
pub use observed::Observed;

use draft::Draft;
use jiff::Timestamp;

/// What is to be done about one ModelDeployment: decisions become records, and everything else follows from the records.
#[must_use]
pub fn plan(seen: &Observed, now: Timestamp) -> Plan {
    let Some(wanted) = seen.deployment.as_ref().filter(|d| !d.deleting) else { return gone::plan(seen, now) };
    let mut draft = Draft::new(seen, wanted, now);
    if seen.memory.blocked.as_ref().is_some_and(|b| b.deciding) {
        let (status, why) = status::status(&mut draft);
        draft.event(true, "Blocked", why.clone(), format!("blocked-{}", wanted.generation));
        return draft.finish(Vec::new(), Vec::new(), status, why);
    }
    if draft.made_anew() {
        // The old one ends first, as if it had been seen to go; what the new one wants is decided once that is written.
        return Plan {
            actions: gone::end(seen, Some(&wanted.uid), now),
            why: "Ends the records of the ModelDeployment before.".into(),
            ..Plan::default()
        };
    }
    decide::decide(&mut draft);
    decide::settle(&mut draft);
    let children = converge::children(&mut draft);
    let records = converge::records(&draft);
    let (deletions, due) = keep::prune(seen, &draft.history, wanted.spec.history_limit(), now);
    draft.after.extend(deletions);
    if let Some(seconds) = due {
        draft.again_in(seconds);
    }
    status::note_problem(&mut draft);
    let (status, why) = status::status(&mut draft);
    draft.finish(records, children, status, why)
}
