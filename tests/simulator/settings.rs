//! The acts that change settings of the spec, which roll nothing out.

use serde_json::json;

use super::{acts::Act, cluster::Cluster, faults::Behavior};

/// A version that needs a minute to load fails of itself with a shorter deadline than this.
const DEADLINE_OF_SLOW: i32 = 90;
/// Restarts of a version that crashes at first.
const RESTARTS_OF_FLAKY: i32 = 2;

impl Cluster {
    pub fn perform_on_settings(&mut self, act: &Act) {
        self.edit_spec(|s| match act {
            Act::Scale(replicas) => s.replicas = *replicas,
            Act::SpecPaused(paused) => s.paused = *paused,
            Act::HistoryLimit(limit) => s.revision_history_limit = Some(*limit),
            Act::MinReadySeconds(seconds) => s.min_ready_seconds = Some(*seconds),
            Act::ProgressDeadline(seconds) => s.progress_deadline_seconds = Some(*seconds),
            Act::RestartLimit(limit) => s.restart_limit = Some(*limit),
            Act::Bounds(surge, unavailable) => {
                let bounds = json!({"rollingUpdate": {
                    "maxSurge": surge, "maxUnavailable": unavailable}});
                s.strategy = serde_json::from_value(bounds).unwrap();
            }
            _ => unreachable!("{act:?} is no edit of the spec"),
        });
        self.note_faulty_versions();
    }

    /// Whether the limits of the spec make a behavior the version's fault.
    fn is_at_fault(&self, behavior: Behavior) -> bool {
        let spec = self.spec();
        let deadline = spec.and_then(|s| s.progress_deadline_seconds);
        let restarts = spec.and_then(|s| s.restart_limit);
        match behavior {
            Behavior::Slow => deadline.is_some_and(|d| d < DEADLINE_OF_SLOW),
            Behavior::Flaky => restarts.is_some_and(|r| r <= RESTARTS_OF_FLAKY),
            _ => behavior.is_faulty(),
        }
    }

    /// The witness remembers which versions had a fault with the limits of that time.
    pub fn note_faulty_versions(&mut self) {
        let behaviors = self.faults.behaviors.clone();
        let faulty = behaviors.into_iter().filter(|(_, behavior)| self.is_at_fault(*behavior));
        let faulty: Vec<String> = faulty.map(|(version, _)| version).collect();
        self.truth.faulty.extend(faulty);
    }
}
