//! How far a fetch is, on standard error: one line that moves for a person, a line now and then for
//! a log.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How often a person sees the line move.
const FRAME: Duration = Duration::from_millis(200);
/// How often a log gets a line.
const LINE: Duration = Duration::from_secs(15);

/// What was done so far, counted by whoever does it.
#[derive(Debug)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    began: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { done: AtomicU64::new(0), total: AtomicU64::new(0), began: Instant::now() }
    }
}

impl Progress {
    /// Bytes there are in all.
    pub fn of(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// More bytes are done.
    pub fn more(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were counted have to be done again.
    pub fn less(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// What is told in the end.
    #[must_use]
    pub fn summary(&self) -> String {
        let (done, took) = (self.done(), self.began.elapsed());
        format!(
            "{} in {:.1} s ({}/s)",
            size(done),
            took.as_secs_f64(),
            size((done as f64 / took.as_secs_f64().max(0.001)) as u64)
        )
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> String {
        line(self.done(), self.total.load(Ordering::Relaxed), self.began.elapsed())
    }
}

fn line(done: u64, total: u64, took: Duration) -> String {
    // As f64 for a person: exact to 2^53 bytes.
    let rate = done as f64 / took.as_secs_f64().max(0.001);
    let rate_said = format!("{}/s", size(rate as u64));
    if total == 0 {
        return format!("{} at {rate_said}", size(done));
    }
    let percent = done.min(total) * 100 / total;
    let left = if rate < 1.0 || done == 0 {
        String::new()
    } else {
        format!(", {} left", time((total.saturating_sub(done)) as f64 / rate))
    };
    format!("{percent:>3} %  {} of {} at {rate_said}{left}", size(done), size(total))
}

/// A size for people, in binary units as Kubernetes writes them.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

fn time(seconds: f64) -> String {
    match seconds.ceil() as u64 {
        s @ 0..=99 => format!("{s} s"),
        s @ 100..=5999 => format!("{} min", s.div_ceil(60)),
        s => format!("{:.1} h", s as f64 / 3600.0),
    }
}

/// Shows progress until it is dropped.
#[derive(Debug)]
pub struct Shown {
    task: tokio::task::JoinHandle<()>,
    live: bool,
}

impl Shown {
    /// Begins to show it.
    #[must_use]
    pub fn start(progress: Arc<Progress>, what: String) -> Self {
        let live = std::io::stderr().is_terminal();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(if live { FRAME } else { LINE });
            // The first tick is at once, when there is nothing to tell.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                if live {
                    eprint!("\r\x1b[K{what}  {}", progress.line());
                    let _ = std::io::stderr().flush();
                } else {
                    eprintln!("{what}  {}", progress.line());
                }
            }
        });
        Self { task, live }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.task.abort();
        if self.live {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_how_fast_and_how_long_still() {
        let mib = 1024 * 1024;
        for (done, total, seconds, want) in [
            (0, 100 * mib, 1, "  0 %  0 B of 100.0 MiB at 0 B/s"),
            (50 * mib, 100 * mib, 5, " 50 %  50.0 MiB of 100.0 MiB at 10.0 MiB/s, 5 s left"),
            (
                1024 * mib,
                70 * 1024 * mib,
                10,
                "  1 %  1.0 GiB of 70.0 GiB at 102.4 MiB/s, 12 min left",
            ),
            (5 * mib, 0, 5, "5.0 MiB at 1.0 MiB/s"),
            (100, 100, 1, "100 %  100 B of 100 B at 100 B/s, 0 s left"),
        ] {
            assert_eq!(line(done, total, Duration::from_secs(seconds)), want);
        }
    }
}
