//! metav1.Condition, and its one rule: the transition time changes only when the status changes.

use jiff::Timestamp;

use super::reason::Reason;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Maximum length in bytes of a message that the operator writes. The API server refuses more than
/// 32768.
pub const MESSAGE_MAX: usize = 1024;

/// Builds a condition for `generation` with status True if `holds`, else False. The transition time
/// is that of the condition in `old` if the status is unchanged, else `now`.
#[must_use]
pub fn build_condition(
    old: &[Condition],
    kind: &str,
    holds: bool,
    reason: Reason,
    message: &str,
    generation: i64,
    now: Timestamp,
) -> Condition {
    build_condition_with_status(
        old,
        kind,
        if holds { "True" } else { "False" },
        reason,
        message,
        generation,
        now,
    )
}

/// Builds a condition as [`build_condition`] does, with any status: True, False or Unknown.
#[must_use]
pub fn build_condition_with_status(
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
        message: truncate_text(message, MESSAGE_MAX),
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}

/// Returns the condition of this type if its status is True.
#[must_use]
pub fn find_true_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind && c.status == "True")
}

/// Cuts `text` to at most `max` bytes, at a character boundary. An ellipsis marks the cut.
#[must_use]
pub fn truncate_text(text: &str, max: usize) -> String {
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
        let first = build_condition(&[], "Ready", false, Reason::Rolling, "", 1, t0);
        let again = build_condition(
            std::slice::from_ref(&first),
            "Ready",
            false,
            Reason::Failed,
            "",
            1,
            t1,
        );
        assert_eq!(again.last_transition_time.0, t0);
        let flipped = build_condition(&[again], "Ready", true, Reason::Serving, "", 1, t1);
        assert_eq!(flipped.last_transition_time.0, t1);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        assert_eq!(truncate_text("ééé", 5), "é…");
        assert_eq!(truncate_text("short", 5), "short");
    }
}
