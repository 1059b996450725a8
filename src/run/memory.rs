//! What the process knows about a key beside the objects: its own writes, refusals, failures.
//! Forgetting it is never wrong.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    cache::Shown,
    kinds::{Key, Kind},
};
use crate::plan::{
    Lookup,
    action::decision_prefix,
    observed::{Deployment, KnownRevision, RefusedWrite, Service},
};

/// How long a write of ours is waited for in the caches.
pub const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long an object that no cache shows is believed to be as it was read.
pub const UNCACHED_FOR: Duration = Duration::from_secs(30);
/// The longest wait after failures.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// How long an object that has the name of a new one is waited for before people are told.
pub const BEHIND_FOR: Duration = Duration::from_secs(30);
/// How many Events of one key are remembered as told.
const TOLD_MAX: usize = 256;

/// What a write of ours left, and the caches have to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The object at this resourceVersion.
    Version(u64),
    /// No object of this uid.
    Gone(String),
}

/// A write of ours.
#[derive(Clone, Debug)]
pub struct Write {
    /// Kind of the object.
    pub kind: Kind,
    /// Name of the object.
    pub name: String,
    /// What it left.
    pub left: Left,
    /// Until when it is waited for.
    pub until: Instant,
}

/// What was tried in vain, how often in a row, and when it is tried again.
#[derive(Clone, Debug)]
struct Tried<T> {
    what: T,
    attempts: u32,
    again: Instant,
}

/// Remembers what was tried in vain; again and again waits longer. Returns what was remembered of it
/// before.
fn postpone<T>(list: &mut Vec<Tried<T>>, what: T, is_same: impl Fn(&T) -> bool) -> Option<T> {
    let at = list.iter().position(|tried| is_same(&tried.what));
    let before = at.map(|at| list.remove(at));
    let attempts = before.as_ref().map_or(1, |before| before.attempts.saturating_add(1));
    list.push(Tried { what, attempts, again: Instant::now() + forbidden_for(attempts) });
    before.map(|before| before.what)
}

impl<T> Tried<T> {
    /// What stands; None once it is time to try again.
    fn standing(&self) -> Option<&T> {
        (self.again > Instant::now()).then_some(&self.what)
    }
}

/// What is remembered of one key.
#[derive(Default)]
pub struct Memo {
    /// Writes that the caches did not show when the last pass began.
    pub writes: Vec<Write>,
    /// Whether a pass waits until the caches show them.
    pub waits: bool,
    /// Reads past the caches to do first.
    pub asked: Vec<Lookup>,
    /// The Deployment of that name, which no cache shows.
    pub workload: Option<(Box<Deployment>, Instant)>,
    /// The Service of that name, which no cache shows.
    pub service: Option<(Box<Service>, Instant)>,
    /// Values that came back in the answer to the write that reverted them, as `path=value`.
    pub came_back: BTreeSet<String>,
    /// Objects that are kept no longer, with the time at which that was first seen.
    pub unneeded_since: BTreeMap<String, Timestamp>,
    /// The revision that the spec was found to name.
    pub desired: Option<Arc<KnownRevision>>,
    /// When status was last written.
    pub status_written: Option<Timestamp>,
    /// What people should know of and was last logged.
    pub logged: Option<String>,
    refused: Vec<Tried<RefusedWrite>>,
    /// Values that were reverted: one that comes back meanwhile is left.
    reverted: Vec<Tried<String>>,
    /// Patches that were answered 422 without causes: a precondition failed, or something refused
    /// them. The same patch of the same state, answered so again, was refused.
    unclear: HashSet<u64>,
    /// Since when every pass ended because the caches are behind.
    behind_since: Option<Instant>,
    failures: u32,
    told: HashSet<u64>,
}

impl Memo {
    /// Remembers a write.
    pub fn wrote(&mut self, kind: Kind, name: &str, left: Left) {
        self.writes.retain(|w| w.kind != kind || w.name != name);
        self.writes.push(Write {
            kind,
            name: name.into(),
            left,
            until: Instant::now() + SHOWN_WITHIN,
        });
    }

    /// Whether an event of a watch shows a write of ours and nothing else, and no pass waits for
    /// it: then it is no news.
    #[must_use]
    pub fn expected(&self, kind: Kind, name: &str, shown: Shown) -> bool {
        let left = |write: &Write| match (&write.left, shown) {
            (Left::Version(left), Shown::Version(version)) => *left == version,
            (Left::Gone(_), Shown::Gone) => true,
            _ => false,
        };
        !self.waits && self.writes.iter().any(|w| w.kind == kind && w.name == name && left(w))
    }

    /// Whether an Event is told for the first time by this process.
    pub fn tell(&mut self, key: &str) -> bool {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(hash(&key))
    }

    /// An Event could not be told after all.
    pub fn untell(&mut self, key: &str) {
        self.told.remove(&hash(&key));
    }

    /// Remembers that a write was refused, and says whether that is news; again and again waits
    /// longer.
    pub fn refuse(&mut self, refused: RefusedWrite) -> bool {
        let is_same = |other: &RefusedWrite| other.write == refused.write;
        postpone(&mut self.refused, refused.clone(), is_same).is_none_or(|before| before != refused)
    }

    /// A write was taken; whether it had been refused before.
    pub fn accept(&mut self, write: &str) -> bool {
        self.take_refused(write).is_some()
    }

    /// The decision of a rollout was carried out: whatever was refused of it before is over; whether
    /// anything was.
    pub fn accept_decision(&mut self, rollout: i64) -> bool {
        let (prefix, before) = (decision_prefix(rollout), self.refused.len());
        self.refused.retain(|r| !r.what.write.starts_with(&prefix));
        self.refused.len() < before
    }

    /// Whether any write is remembered as refused.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Whether a write is remembered as refused, due again or not.
    #[must_use]
    pub fn is_refused(&self, write: &str) -> bool {
        self.refused.iter().any(|r| r.what.write == write)
    }

    fn take_refused(&mut self, write: &str) -> Option<Tried<RefusedWrite>> {
        let at = self.refused.iter().position(|r| r.what.write == write)?;
        Some(self.refused.remove(at))
    }

    /// The refused writes, each due once it is time to try again.
    #[must_use]
    pub fn list_refused(&self) -> Vec<RefusedWrite> {
        self.refused
            .iter()
            .map(|r| RefusedWrite { due: r.standing().is_none(), ..r.what.clone() })
            .collect()
    }

    /// Whether the same patch of the same state was answered without a cause before, so that
    /// something refuses it.
    pub fn is_answered_again(&mut self, patch: &impl Hash) -> bool {
        if self.unclear.len() >= TOLD_MAX {
            self.unclear.clear();
        }
        !self.unclear.insert(hash(patch))
    }

    /// Remembers since when objects are kept no longer, and forgets those that are needed again.
    pub fn note_unneeded(&mut self, names: &[String], now: Timestamp) {
        self.unneeded_since.retain(|name, _| names.contains(name));
        for name in names {
            self.unneeded_since.entry(name.clone()).or_insert(now);
        }
    }

    /// Remembers values that were reverted. Each that comes back again and again is left for longer
    /// each time; one that stayed away is forgotten.
    pub fn note_reverts(&mut self, reverts: &[String]) {
        let now = Instant::now();
        self.reverted.retain(|r| r.again + BACKOFF_MAX > now);
        for what in reverts {
            postpone(&mut self.reverted, what.clone(), |other| other == what);
        }
    }

    /// The values that are left where they come back.
    #[must_use]
    pub fn list_came_back(&self) -> BTreeSet<String> {
        let standing = self.reverted.iter().filter_map(Tried::standing);
        self.came_back.iter().chain(standing).cloned().collect()
    }

    /// When what stands refused, or was reverted, is tried again.
    #[must_use]
    pub fn tried_again(&self) -> Option<Instant> {
        let refused = self.refused.iter().filter(|r| r.standing().is_some()).map(|r| r.again);
        let reverted = self.reverted.iter().filter(|r| r.standing().is_some()).map(|r| r.again);
        refused.chain(reverted).min()
    }

    /// How long every pass has ended because the caches are behind, this one included.
    pub fn wait_for_caches(&mut self) -> Duration {
        self.behind_since.get_or_insert_with(Instant::now).elapsed()
    }

    /// A pass ended otherwise.
    pub fn caught_up(&mut self) {
        self.behind_since = None;
    }

    /// Counts a failure, and says how long to wait.
    pub fn failed(&mut self, key: &impl Hash) -> Duration {
        self.failures = self.failures.saturating_add(1);
        backoff(key, self.failures)
    }

    /// Forgets the failures, and refusals of what was due and is not to be done any more.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.refused.retain(|r| r.standing().is_some());
    }

    /// Drops objects past the caches that were read too long ago.
    pub fn expire(&mut self) {
        let now = Instant::now();
        self.workload.take_if(|(_, until)| *until <= now);
        self.service.take_if(|(_, until)| *until <= now);
    }
}

/// 30 s, doubling, at most 5 minutes.
fn forbidden_for(attempts: u32) -> Duration {
    BACKOFF_MAX.min(Duration::from_secs(30).saturating_mul(1 << attempts.saturating_sub(1).min(4)))
}

/// 1 s, doubling, at most 5 minutes, each spread by up to a fifth either way so that what failed
/// together does not return together.
#[must_use]
pub fn backoff(key: &impl Hash, attempt: u32) -> Duration {
    let base = BACKOFF_MAX.min(Duration::from_secs(1 << attempt.saturating_sub(1).min(9)));
    base.mul_f64(0.8 + 0.4 * spread(&(hash(key), attempt)))
}

/// A number from 0 to 1 that the same value always gives.
#[must_use]
pub fn spread(value: &impl Hash) -> f64 {
    f64::from(u16::try_from(hash(value) % 10_000).unwrap_or_default()) / 10_000.0
}

/// A hash that is the same as long as the process runs.
#[must_use]
pub fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The memos of every key. Each is locked for moments only, and by one reconcile at a time.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<Key, Arc<Mutex<Memo>>>>);

impl Memories {
    /// The memo of a key.
    #[must_use]
    pub fn of(&self, key: &Key) -> Arc<Mutex<Memo>> {
        lock(&self.0).entry(key.clone()).or_default().clone()
    }

    /// The memo of a key, unless it was forgotten.
    #[must_use]
    pub fn known(&self, key: &Key) -> Option<Arc<Mutex<Memo>>> {
        lock(&self.0).get(key).cloned()
    }

    /// Forgets a key of which nothing is left.
    pub fn forget(&self, key: &Key) {
        lock(&self.0).remove(key);
    }
}

/// Locks, whoever panicked before.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_each_time_up_to_five_minutes_and_not_in_step() {
        let waits: Vec<f64> = (1..=12).map(|n| backoff(&"fraud", n).as_secs_f64()).collect();
        assert!((0.8..=1.2).contains(&waits[0]) && (1.6..=2.4).contains(&waits[1]));
        assert!(waits.iter().all(|w| *w <= 360.0) && waits[11] >= 240.0);
        assert_ne!(backoff(&"fraud", 3), backoff(&"churn", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn each_refused_write_is_tried_again_by_itself_and_waits_longer_each_time() {
        let mut memo = Memo::default();
        let refused = |write: &str| RefusedWrite {
            write: write.into(),
            message: "no".into(),
            ..RefusedWrite::default()
        };
        let due = |memo: &Memo| memo.list_refused().iter().map(|b| b.due).collect::<Vec<_>>();
        assert!(
            memo.refuse(refused("a")) && memo.refuse(refused("b")),
            "the second is news too, and hides no first"
        );
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(due(&memo), [true, true]);
        assert!(
            !memo.refuse(refused("a")) && !memo.refuse(refused("b")),
            "the same again is no news"
        );
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(due(&memo), [false, false], "a minute now");
        assert!(memo.accept("a") && !memo.accept("a"));
        tokio::time::advance(Duration::from_secs(31)).await;
        memo.succeeded();
        assert!(
            memo.list_refused().is_empty(),
            "what was due and is not to be done any more is forgotten"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_comes_back_again_and_again_is_left_for_longer_each_time() {
        let mut memo = Memo::default();
        let three = "replicas=3".to_owned();
        for seconds in [30, 60, 120, 240, 300, 300] {
            memo.note_reverts(std::slice::from_ref(&three));
            tokio::time::advance(Duration::from_secs(seconds - 1)).await;
            assert!(memo.list_came_back().contains(&three), "{seconds}");
            assert!(!memo.list_came_back().contains("replicas=4"), "another value");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(memo.list_came_back().is_empty(), "{seconds}");
        }
        tokio::time::advance(BACKOFF_MAX).await;
        memo.note_reverts(std::slice::from_ref(&three));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(memo.list_came_back().is_empty(), "it had stayed away");
    }

    #[test]
    fn what_shows_our_own_write_is_no_news_unless_a_pass_waits_for_it() {
        let mut memo = Memo::default();
        memo.wrote(Kind::Deployment, "fraud", Left::Version(7));
        assert!(memo.expected(Kind::Deployment, "fraud", Shown::Version(7)));
        assert!(
            !memo.expected(Kind::Deployment, "fraud", Shown::Version(8)),
            "somebody wrote after us"
        );
        assert!(
            !memo.expected(Kind::Deployment, "fraud", Shown::Listed),
            "a list may hide what somebody wrote before us"
        );
        assert!(!memo.expected(Kind::Service, "fraud", Shown::Version(7)));
        memo.waits = true;
        assert!(!memo.expected(Kind::Deployment, "fraud", Shown::Version(7)));
        memo.waits = false;
        memo.wrote(Kind::RolloutRequest, "undo", Left::Gone("u".into()));
        assert!(memo.expected(Kind::RolloutRequest, "undo", Shown::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_decision_that_is_carried_out_ends_every_refusal_of_it() {
        let mut memo = Memo::default();
        let writes = [
            "decision of rollout 2 on Deployment fraud with template aa",
            "decision of rollout 2 on new Deployment fraud bb",
            "decision of rollout 21 on Deployment fraud with template cc",
            "settings of Deployment fraud dd",
        ];
        for write in writes {
            memo.refuse(RefusedWrite { write: write.into(), ..RefusedWrite::default() });
        }
        assert!(memo.accept_decision(2) && !memo.accept_decision(2));
        let left: Vec<String> = memo.list_refused().into_iter().map(|r| r.write).collect();
        assert_eq!(left, writes[2..]);
    }

    #[test]
    fn something_unneeded_keeps_the_time_at_which_it_was_first_seen_until_it_is_needed() {
        let mut memo = Memo::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        memo.note_unneeded(&names(&["a", "b"]), at(1));
        memo.note_unneeded(&names(&["a"]), at(2));
        memo.note_unneeded(&names(&["a", "b"]), at(3));
        assert_eq!(
            memo.unneeded_since,
            BTreeMap::from([("a".into(), at(1)), ("b".into(), at(3))]),
            "b was needed in between, and waits from the beginning"
        );
    }

    #[test]
    fn a_patch_of_one_state_that_is_answered_twice_without_a_cause_was_refused() {
        let mut memo = Memo::default();
        assert!(!memo.is_answered_again(&("fraud", "generation 1")));
        assert!(!memo.is_answered_again(&("fraud", "generation 2")), "of another state");
        assert!(memo.is_answered_again(&("fraud", "generation 1")));
    }

    #[test]
    fn an_event_is_told_once() {
        let mut memo = Memo::default();
        assert!(memo.tell("a") && !memo.tell("a"));
        memo.untell("a");
        assert!(memo.tell("a"));
    }
}
