//! A work queue: one entry a key, delayed, the earliest time wins, and no key runs twice at once.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

struct State<K> {
    due: BTreeSet<(Instant, K)>,
    when: HashMap<K, Instant>,
    /// Keys that run, and when they are to run again because something came in meanwhile.
    running: HashMap<K, Option<Instant>>,
}

/// The queue.
pub struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

impl<K: Clone + Ord + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                due: BTreeSet::new(),
                when: HashMap::new(),
                running: HashMap::new(),
            }),
            changed: Notify::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `key` at `at`, or earlier where that was asked before.
    pub fn add(&self, key: K, at: Instant) {
        let is_next = {
            let mut state = self.state();
            if let Some(again) = state.running.get_mut(&key) {
                *again = Some(again.map_or(at, |old| old.min(at)));
                return;
            }
            state.schedule(key, at)
        };
        if is_next {
            self.changed.notify_one();
        }
    }

    /// The next key that is due; it counts as running until [`Queue::done`]. One task alone may
    /// wait here.
    pub async fn next(&self) -> K {
        loop {
            let first = match self.state().take(Instant::now()) {
                Ok(key) => return key,
                Err(first) => first,
            };
            match first {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// `key` has run; it runs again at `again`, or earlier where something came in meanwhile.
    pub fn done(&self, key: K, again: Option<Instant>) {
        let is_next = {
            let mut state = self.state();
            let asked = state.running.remove(&key).flatten();
            let at = asked.into_iter().chain(again).min();
            at.is_some_and(|at| state.schedule(key, at))
        };
        if is_next {
            self.changed.notify_one();
        }
    }

    /// How many keys are due by now, and wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let now = Instant::now();
        self.state().due.iter().take_while(|(at, _)| *at <= now).count()
    }
}

impl<K: Clone + Ord + Hash> State<K> {
    /// Takes in a key; true if it is now the first, so that whoever waits for the first has to look
    /// again.
    fn schedule(&mut self, key: K, at: Instant) -> bool {
        match self.when.get(&key) {
            Some(old) if *old <= at => return false,
            Some(old) => {
                self.due.remove(&(*old, key.clone()));
            }
            None => {}
        }
        self.when.insert(key.clone(), at);
        self.due.insert((at, key));
        self.due.first().is_some_and(|(first, _)| *first == at)
    }

    /// A key that is due, or when the first one will be.
    fn take(&mut self, now: Instant) -> Result<K, Option<Instant>> {
        let Some((at, key)) = self.due.first().cloned() else { return Err(None) };
        if at > now {
            return Err(Some(at));
        }
        self.due.remove(&(at, key.clone()));
        self.when.remove(&key);
        self.running.insert(key.clone(), None);
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_at_the_earliest_time() {
        let queue = Queue::default();
        let now = Instant::now();
        queue.add("a", now + Duration::from_secs(10));
        queue.add("a", now + Duration::from_secs(2));
        queue.add("a", now + Duration::from_secs(5));
        assert_eq!(queue.next().await, "a");
        assert_eq!(now.elapsed().as_secs(), 2);
        queue.done("a", None);
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_never_runs_twice_at_once_and_runs_again_for_what_came_meanwhile() {
        let queue = Queue::default();
        let now = Instant::now();
        queue.add("a", now);
        assert_eq!(queue.next().await, "a");
        queue.add("a", now);
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        queue.done("a", Some(now + Duration::from_secs(600)));
        assert_eq!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await, Ok("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_an_earlier_key() {
        let queue = std::sync::Arc::new(Queue::default());
        queue.add("late", Instant::now() + Duration::from_secs(100));
        let waiter = tokio::spawn({
            let q = queue.clone();
            async move { q.next().await }
        });
        tokio::task::yield_now().await;
        queue.add("now", Instant::now());
        assert_eq!(waiter.await.unwrap(), "now");
    }
}
