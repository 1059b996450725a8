//! metav1.Condition, and the one rule about it: the transition time moves only when the status
//! flips.

use jiff::Timestamp;

use super::reason::Reason;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The longest message that is written; the API server refuses more than 32768.
pub const MESSAGE_MAX: usize = 1024;

/// A condition that holds (or not) for `generation`, at `now` unless `old` already said so.
#[must_use]
pub fn condition(
    old: &[Condition],
    kind: &str,
    holds: bool,
    reason: Reason,
    message: &str,
    generation: i64,
    now: Timestamp,
) -> Condition {
    said(old, kind, if holds { "True" } else { "False" }, reason, message, generation, now)
}

/// As [`condition`], with any status: True, False or Unknown.
#[must_use]
pub fn said(
    old: &[Condition],
    kind: &str,
    status: &str,
    reason: Reason,
    message: &str,
    generation: i64,
    now: Timestamp,
) -> Condition {
    let since = old
        .iter()
        .find(|c| c.type_ == kind && c.status == status)
        .map_or(Time(now), |c| c.last_transition_time.clone());
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.to_string(),
        message: bounded(message, MESSAGE_MAX),
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}

/// The condition of that type, if it is there and True.
#[must_use]
pub fn holds<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind && c.status == "True")
}

/// `text` cut to at most `max` bytes, at a character, with an ellipsis where something was cut.
#[must_use]
pub fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let (t0, t1) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let first = condition(&[], "Ready", false, Reason::Rolling, "", 1, t0);
        let again =
            condition(std::slice::from_ref(&first), "Ready", false, Reason::Failed, "", 1, t1);
        assert_eq!(again.last_transition_time.0, t0);
        let flipped = condition(&[again], "Ready", true, Reason::Serving, "", 1, t1);
        assert_eq!(flipped.last_transition_time.0, t1);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        assert_eq!(bounded("ééé", 5), "é…");
        assert_eq!(bounded("short", 5), "short");
    }
}
