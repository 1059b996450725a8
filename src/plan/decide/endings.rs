//! Endings: rollouts that something newer ended, and the newest one when it is complete.

use std::borrow::Cow;

use super::{Decided, spec::is_left_behind};
use crate::{
    api::{
        ModelRolloutSpec,
        rollout::{Outcome, Trigger},
    },
    plan::{
        facts::{
            Facts,
            attribution::{Attribution, ExternalChange},
            health::{is_complete, pods_of},
            history::{Ending, History, is_yanked},
        },
        refused_writes::find_promotion,
    },
};

/// Writes into the history how rollouts ended, and tells people of a promotion.
pub fn close_finished_rollouts(
    facts: &Facts<'_>,
    history: &mut Cow<'_, History>,
    decided: &mut Decided,
) {
    for (number, ending) in find_endings(facts, history) {
        // What is tried again is told if it succeeds.
        let is_refused = find_promotion(facts.observed, number).is_some_and(|r| !r.due);
        if ending.serves && !is_refused {
            let key = format!("promoted-{number}");
            decided.push_event(false, "Promoted", ending.message.clone(), key);
        }
        history.to_mut().record_outcome(number, ending);
    }
}

fn find_endings(facts: &Facts<'_>, history: &History) -> Vec<(i64, Ending)> {
    let mut endings = Vec::new();
    let records: Vec<&ModelRolloutSpec> = history.records().collect();
    for pair in records.windows(2) {
        if pair[0].is_open() {
            endings.push((pair[0].number, describe_superseded(facts, pair[1])));
        }
    }
    if let Some(newest) = history.in_progress().filter(|open| is_finished(facts, history, open)) {
        endings.push((newest.number, describe_promoted(facts, newest)));
    }
    endings
}

/// True if the newest rollout is complete and no later decision leaves it.
fn is_finished(facts: &Facts<'_>, history: &History, open: &ModelRolloutSpec) -> bool {
    let live = facts.deployment_if_up_to_date(open, history);
    may_be_promoted(facts, history, open)
        && live.is_some_and(|live| is_complete(facts.observed, live, open, facts.now))
}

/// True if the newest rollout serves as soon as its pods are available: it is carried out, and no
/// later decision leaves it.
#[must_use]
pub fn may_be_promoted(facts: &Facts<'_>, history: &History, open: &ModelRolloutSpec) -> bool {
    let Some(track) = facts.find_track(&open.deployment_name) else { return false };
    let undisturbed = matches!(&track.attribution, Some(Attribution::Applied(found))
        if !found.iter().any(ExternalChange::is_verb_on_template));
    let newly = !facts.has_serving_content(open) && !open.goes_back();
    undisturbed
        && track.is_up_to_date(history)
        && facts.missing.is_none()
        && !is_left_behind(facts)
        && !(newly && is_yanked(facts.observed, open))
}

fn describe_superseded(facts: &Facts<'_>, next: &ModelRolloutSpec) -> Ending {
    let why = next.decided_by.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    let (outcome, message) = match next.trigger {
        Trigger::Failed | Trigger::Refused | Trigger::Yanked => {
            (Outcome::Failed, format!("Failed{why}."))
        }
        Trigger::Undo | Trigger::Abort => {
            (Outcome::Aborted, format!("Stopped by {}{why}.", next.decided_by.name))
        }
        _ => (
            Outcome::Superseded,
            format!("Rollout {} was decided before it was complete.", next.number),
        ),
    };
    Ending::new(outcome, facts.now, message)
}

fn describe_promoted(facts: &Facts<'_>, record: &ModelRolloutSpec) -> Ending {
    let mut images: Vec<String> = pods_of(facts.observed, record)
        .flat_map(|p| p.containers.iter().filter_map(|c| c.image_id.clone()))
        .filter(|i| !i.is_empty() && i.len() <= 512)
        .collect();
    images.sort();
    images.dedup();
    images.truncate(16);
    let again = if record.goes_back() { " again" } else { "" };
    let message = format!("Serving version {}{again} (rollout {}).", record.version, record.number);
    Ending { serves: true, images, ..Ending::new(Outcome::Promoted, facts.now, message) }
}
