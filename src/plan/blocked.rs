//! Writes that the API server refused: each is told as long as it is still to be done, and left out
//! until it is tried again.
//!
//! The Deployment is not among them: its refusal belongs to its decision (`Refusal`), and may roll
//! it back.

use super::{
    action::{Action, Plan},
    draft::Draft,
    observed::{Blocked, Observed},
};

/// The refused writes that are among what is to be done, whether they are tried again now or not.
pub fn among<'a>(seen: &'a Observed, actions: &[Action]) -> impl Iterator<Item = &'a Blocked> {
    seen.memory.blocked.iter().filter(|blocked| actions.iter().any(|action| is(blocked, action)))
}

/// Leaves out what was refused and is not to be tried again yet; then nothing is planned at once
/// that would leave it out again.
pub fn leave_out(seen: &Observed, plan: &mut Plan) {
    let all = plan.actions.len();
    plan.actions.retain(|action| {
        !seen.memory.blocked.iter().any(|blocked| !blocked.due && is(blocked, action))
    });
    if plan.actions.len() < all {
        plan.requeue_after_seconds = plan.requeue_after_seconds.filter(|seconds| *seconds > 0);
    }
}

fn is(blocked: &Blocked, action: &Action) -> bool {
    action.write().as_ref() == Some(&blocked.write)
}

/// Has people told of a refused write, in an Event and, unless something weightier goes on, in the
/// status.
pub fn tell<'a>(draft: &mut Draft<'a>, blocked: &'a Blocked) {
    draft.event(
        true,
        "Blocked",
        sentence(blocked),
        format!("blocked-{}-{}", draft.wanted.generation, blocked.write),
    );
    draft.refused = Some(blocked);
}

/// What is told of it.
#[must_use]
pub fn sentence(blocked: &Blocked) -> String {
    format!("Cannot {}. It is tried again.", blocked.message.trim_end_matches('.'))
}
