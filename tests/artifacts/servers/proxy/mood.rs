//! What the proxy does to connections.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Counts, Shared};

/// What the proxy does to connections. A new mood takes hold at once, of running ones too, and
/// counts bytes anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Everything passes.
    #[default]
    Through,
    /// Answers pass at this rate, all connections together.
    Slow {
        /// Bytes per second.
        rate: u64,
    },
    /// A connection ends after so many bytes of answers; when so many have ended this way,
    /// everything passes.
    Cut {
        /// Bytes of answers on one connection.
        after: u64,
        /// How many connections.
        times: u64,
    },
    /// A connection falls silent for ever after so many bytes of answers, but stays open; when so
    /// many have, everything passes on others.
    Stall {
        /// Bytes of answers on one connection.
        after: u64,
        /// How many connections.
        times: u64,
    },
    /// Nothing passes after so many bytes of answers on all connections together, until the mood
    /// changes.
    Hold {
        /// Bytes of answers in all.
        after: u64,
    },
    /// Connections end at once, running ones too, as if the server were gone.
    Refuse,
}

/// What becomes of bytes that wait to be passed on.
enum Step {
    /// So many of them pass.
    Pass(usize),
    /// They are looked at again then.
    Later(Instant),
    /// They are looked at again when the mood changes.
    Wait,
    /// None passes on this connection any more, and it stays open.
    Silence,
    /// The connection ends.
    End,
}

/// One connection as its mood sees it.
pub(super) struct Connection {
    mood: watch::Receiver<(u64, Mood)>,
    version: u64,
    /// Bytes of answers that passed on it since the mood was set.
    since: u64,
}

impl Connection {
    pub(super) fn new(shared: &Shared) -> Self {
        Self { mood: shared.mood.subscribe(), version: 0, since: 0 }
    }

    /// Waits until some of `len` bytes may pass, and says how many; None when the connection ends.
    pub(super) async fn may_pass(&mut self, len: usize, shared: &Shared) -> Option<usize> {
        loop {
            let step = self.step(len, &mut shared.counts());
            match step {
                Step::Pass(bytes) => return Some(bytes),
                Step::Later(then) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(then.into()) => {}
                        _ = self.mood.changed() => {}
                    }
                }
                Step::Wait => self.mood.changed().await.ok()?,
                Step::Silence => {
                    shared.changed.notify_all();
                    return pending().await;
                }
                Step::End => {
                    shared.changed.notify_all();
                    return None;
                }
            }
        }
    }

    fn step(&mut self, len: usize, counts: &mut Counts) -> Step {
        // Read while the counts are locked: they and the mood change together.
        let (version, mood) = *self.mood.borrow_and_update();
        if version != self.version {
            (self.version, self.since) = (version, 0);
        }
        let step = match mood {
            Mood::Through => Step::Pass(len),
            Mood::Slow { rate } => slow(len, rate.max(1), counts),
            Mood::Hold { after } => {
                up_to(len, after.saturating_sub(counts.let_through)).map_or(Step::Wait, Step::Pass)
            }
            Mood::Cut { after, times } => self.trouble(len, after, times, counts, Step::End),
            Mood::Stall { after, times } => self.trouble(len, after, times, counts, Step::Silence),
            Mood::Refuse => Step::End,
        };
        if let Step::Pass(bytes) = step {
            self.since += bytes as u64;
            counts.let_through += bytes as u64;
        }
        step
    }

    fn trouble(
        &self,
        len: usize,
        after: u64,
        times: u64,
        counts: &mut Counts,
        trouble: Step,
    ) -> Step {
        if counts.troubled >= times {
            return Step::Pass(len);
        }
        up_to(len, after.saturating_sub(self.since)).map_or_else(
            || {
                counts.troubled += 1;
                trouble
            },
            Step::Pass,
        )
    }
}

/// The smaller of both, when it is not nothing.
fn up_to(len: usize, left: u64) -> Option<usize> {
    let some = usize::try_from(left).unwrap_or(usize::MAX).min(len);
    (some > 0).then_some(some)
}

/// Passes a twentieth of a second's worth at a time.
fn slow(len: usize, rate: u64, counts: &mut Counts) -> Step {
    let now = Instant::now();
    match counts.next {
        Some(next) if next > now => Step::Later(next),
        _ => {
            let bytes = up_to(len, (rate / 20).max(1)).unwrap_or_default();
            counts.next = Some(now + Duration::from_secs_f64(bytes as f64 / rate as f64));
            Step::Pass(bytes)
        }
    }
}
