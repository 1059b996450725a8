//! Observe, plan, apply: one pass over one key, and the loop that runs passes.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use tokio::{
    sync::{Semaphore, watch},
    task::{Id, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace, warn};

use super::{
    apply::{self, Applied, Hand},
    kinds::Key,
    lease::Leads,
    lookup,
    memory::{BACKOFF_MAX, Memo, Memories, UNCACHED_FOR, lock, spread},
    metrics::Metrics,
    observe::{Caches, Found, Unreadable},
    queue::Queue,
    registries,
};
use crate::plan::{self, Observed, observed, registry::plan_registry, version::plan_version};

/// The longest that one pass may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often a pass plans anew because it had to look past the caches.
const ROUNDS: usize = 4;
/// How soon a pass follows that learned something, or left something to decide.
const SOON: Duration = Duration::from_millis(20);
/// How soon a pass follows when the caches are behind, and again as long as they have been so; their
/// events come sooner as a rule.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Every key is planned again this often although nothing changed, spread by up to a fifth.
const RESYNC: Duration = Duration::from_secs(600);
/// How long passes that run may go on when the process is asked to end.
const DRAIN: Duration = Duration::from_secs(4);

/// What one pass needs.
pub struct Context {
    /// The client.
    pub client: Client,
    /// The caches.
    pub caches: Arc<Caches>,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether this process leads.
    pub leads: watch::Receiver<Leads>,
    /// What is remembered of ModelDeployments.
    pub deployments: Arc<Memories>,
    /// What is remembered of ModelVersions.
    pub versions: Arc<Memories>,
    /// What is remembered of ModelRegistries.
    pub registries: Arc<Memories>,
    /// What the flags say that the planner has to know.
    pub settings: Settings,
}

/// What the flags say that the planner has to know.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `--requesters-verified`.
    pub requesters_verified: bool,
    /// `--record-retention-days`.
    pub record_retention_days: i64,
    /// `--fetch-image`.
    pub fetch_image: Option<String>,
    /// `--prune-grace-seconds`.
    pub prune_grace_seconds: Option<i64>,
}

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is not readable.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A read past the caches failed.
    #[error(transparent)]
    Lookup(#[from] lookup::Error),
    /// A write failed.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The planner asked again and again.
    #[error("plan {0}: it still asked for reads past the caches after {ROUNDS} rounds")]
    Undecided(Key),
    /// It took too long.
    #[error("reconcile {0}: it took longer than {DEADLINE:?}")]
    Timeout(Key),
    /// A bug of ours.
    #[error("reconcile {0}: it panicked; this is a bug")]
    Panic(Key),
}

impl Error {
    /// A closed label for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Lookup(_) => "lookup",
            Self::Apply(error) => error.label(),
            Self::Undecided(_) => "undecided",
            Self::Timeout(_) => "timeout",
            Self::Panic(_) => "panic",
        }
    }
}

/// What is reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A ModelDeployment name.
    Deployment,
    /// A ModelVersion.
    Version,
    /// A ModelRegistry.
    Registry,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployment => "deployment",
            Self::Version => "version",
            Self::Registry => "registry",
        })
    }
}

impl Context {
    /// One pass over a key, within its deadline; when to come back although nothing changes.
    ///
    /// # Errors
    /// When the pass failed; it is to be tried again later.
    pub async fn pass(&self, what: What, key: &Key) -> Result<Option<Duration>, Error> {
        let pass = async {
            match what {
                What::Deployment => self.deployment(key).await,
                What::Version => self.version(key).await,
                What::Registry => self.registry(key).await,
            }
        };
        tokio::time::timeout(DEADLINE, pass).await.map_err(|_| Error::Timeout(key.clone()))?
    }

    async fn deployment(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let memo = self.deployments.of(key);
        if let Some(wait) = self.unshown(key, &memo) {
            return Ok(Some(wait));
        }
        let mut found = self.found(key, &memo).await?;
        for _ in 0..ROUNDS {
            let seen = self.caches.observe(key, &found, self.memory(&memo))?;
            if is_empty(&seen) {
                self.deployments.forget(key);
                return Ok(None);
            }
            let plan = plan::plan(&seen, Timestamp::now());
            trace!(deployment = %key, actions = plan.actions.len(), status = plan.status.is_some(), waits_on = ?plan.waiting.on, says = plan.waiting.sentence, "planned");
            if plan.lookups.is_empty() {
                let applied = self.make_hand(key, &memo, &seen).apply(&plan).await?;
                let mut memo = lock(&memo);
                memo.succeeded();
                memo.desired.clone_from(&plan.desired);
                memo.note_unneeded(&plan.unneeded, Timestamp::now());
                return Ok(next(&mut memo, plan.requeue_after_seconds, applied));
            }
            for lookup in &plan.lookups {
                lookup::look(&self.client, &self.caches, key, lookup, &mut found).await?;
            }
        }
        Err(Error::Undecided(key.clone()))
    }

    /// What carries out the plan of what was seen of a key.
    fn make_hand<'a, Seen>(
        &'a self,
        key: &'a Key,
        memo: &'a std::sync::Mutex<Memo>,
        seen: &'a Seen,
    ) -> Hand<'a, Seen> {
        let (client, metrics, leads) = (&self.client, &self.metrics, &self.leads);
        Hand { client, caches: &self.caches, metrics, leads, key, memo, seen }
    }

    /// How long to wait for the caches to show our own writes; None when they show them, or had
    /// long enough.
    fn unshown(&self, key: &Key, memo: &std::sync::Mutex<Memo>) -> Option<Duration> {
        let (now, mut memo) = (Instant::now(), lock(memo));
        memo.writes.retain(|w| w.until > now && !self.caches.shows(&key.namespace, w));
        memo.waits = !memo.writes.is_empty();
        memo.writes.iter().map(|w| w.until - now).max()
    }

    /// What was read past the caches before and is believed still, and what the pass before asked
    /// for.
    async fn found(&self, key: &Key, memo: &std::sync::Mutex<Memo>) -> Result<Found, Error> {
        let (asked, mut found) = {
            let mut memo = lock(memo);
            memo.expire();
            if self.caches.workloads.read().get(key).is_some() {
                memo.workload = None;
            }
            if self.caches.services.read().get(key).is_some() {
                memo.service = None;
            }
            let kept = |kind, there| if there { vec![kind] } else { Vec::new() };
            let mut looked_up =
                kept(plan::Lookup::Deployment(key.name.to_string()), memo.workload.is_some());
            looked_up
                .extend(kept(plan::Lookup::Service(key.name.to_string()), memo.service.is_some()));
            let workload = memo.workload.as_ref().map(|(w, _)| (**w).clone());
            let service = memo.service.as_ref().map(|(s, _)| (**s).clone());
            (memo.asked.clone(), Found { looked_up, workload, service, ..Found::default() })
        };
        for lookup in &asked {
            lookup::look(&self.client, &self.caches, key, lookup, &mut found).await?;
        }
        let (until, mut memo) = (Instant::now() + UNCACHED_FOR, lock(memo));
        memo.asked.retain(|l| !asked.contains(l));
        if asked.iter().any(|l| matches!(l, plan::Lookup::Deployment(_))) {
            memo.workload = found.workload.clone().map(|w| (Box::new(w), until));
        }
        if asked.iter().any(|l| matches!(l, plan::Lookup::Service(_))) {
            memo.service = found.service.clone().map(|s| (Box::new(s), until));
        }
        Ok(found)
    }

    fn memory(&self, memo: &std::sync::Mutex<Memo>) -> observed::Memory {
        let memo = lock(memo);
        observed::Memory {
            refused: memo.list_refused(),
            came_back: memo.list_came_back(),
            desired: memo.desired.clone(),
            unneeded_since: memo.unneeded_since.clone(),
            prune_grace_seconds: self.settings.prune_grace_seconds,
            status_written: memo.status_written,
            requesters_verified: self.settings.requesters_verified,
            record_retention_days: self.settings.record_retention_days,
            fetch_image: self.settings.fetch_image.clone(),
            ..observed::Memory::default()
        }
    }

    async fn version(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let memo = self.versions.of(key);
        if let Some(wait) = self.unshown(key, &memo) {
            return Ok(Some(wait));
        }
        let mut heard = None;
        for _ in 0..ROUNDS {
            let Some(mut seen) = self.caches.observe_version(key) else {
                self.versions.forget(key);
                return Ok(None);
            };
            seen.heard = heard.take();
            seen.fetch_image.clone_from(&self.settings.fetch_image);
            seen.blocked = lock(&memo).list_refused();
            let plan = plan_version(&seen, Timestamp::now());
            let Some(job) = &plan.lookup else {
                let applied = self.make_hand(key, &memo, &seen).apply(&plan).await?;
                let mut memo = lock(&memo);
                memo.succeeded();
                return Ok(next(&mut memo, plan.requeue_after_seconds, applied));
            };
            heard = Some(lookup::hear(&self.client, key, job).await?);
        }
        Err(Error::Undecided(key.clone()))
    }

    async fn registry(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let memo = self.registries.of(key);
        if let Some(wait) = self.unshown(key, &memo) {
            return Ok(Some(wait));
        }
        let mut words = None;
        for _ in 0..ROUNDS {
            let Some(mut seen) = self.caches.observe_registry(key) else {
                self.registries.forget(key);
                return Ok(None);
            };
            seen.words = words.take();
            seen.image.clone_from(&self.settings.fetch_image);
            seen.blocked = lock(&memo).list_refused();
            let plan = plan_registry(&seen, Timestamp::now());
            if !plan.hear {
                let applied = self.make_hand(key, &memo, &seen).apply(&plan).await?;
                let mut memo = lock(&memo);
                memo.succeeded();
                return Ok(next(&mut memo, plan.requeue_after_seconds, applied));
            }
            words = Some(registries::hear(&self.client, key).await?);
        }
        Err(Error::Undecided(key.clone()))
    }

    fn memories(&self, what: What) -> &Memories {
        match what {
            What::Deployment => &self.deployments,
            What::Version => &self.versions,
            What::Registry => &self.registries,
        }
    }

    /// When to come back after a pass: by its own word, after a failure later each time.
    fn after(
        &self,
        what: What,
        key: &Key,
        result: Result<Option<Duration>, Error>,
    ) -> Option<Instant> {
        let wait = match result {
            Ok(again) => {
                let resync =
                    RESYNC.mul_f64(0.8 + 0.4 * spread(&(key, Timestamp::now().as_second())));
                // A key of which nothing is left is not planned again.
                self.memories(what).known(key)?;
                again.map_or(resync, |a| a.min(resync))
            }
            Err(error) => {
                self.metrics.failed(error.label());
                let memo = self.memories(what).of(key);
                let wait = lock(&memo).failed(key);
                match error {
                    // The cache said so once, when it was fed; until the object changes this is no
                    // news.
                    Error::Unreadable(error) => debug!(%what, %key, %error, "left alone"),
                    error => warn!(%what, %key, %error, retry_in = ?wait, "reconcile failed"),
                }
                wait
            }
        };
        Some(Instant::now() + wait)
    }
}

/// Whether there is nothing of that name, and nothing to plan.
fn is_empty(seen: &Observed) -> bool {
    seen.model_deployment.is_none()
        && seen.records.is_empty()
        && seen.revisions.is_empty()
        && seen.requests.is_empty()
}

/// When to come back although nothing changes.
fn next(memo: &mut Memo, requeue_after_seconds: Option<i64>, applied: Applied) -> Option<Duration> {
    let now = Instant::now();
    if applied != Applied::Behind {
        memo.caught_up();
    }
    let planned = match applied {
        Applied::Again | Applied::Unanswered => Some(SOON),
        Applied::Behind => Some(memo.wait_for_caches().clamp(CATCH_UP, BACKOFF_MAX)),
        Applied::Done => requeue_after_seconds
            .map(|s| Duration::from_secs(u64::try_from(s).unwrap_or_default()).max(SOON)),
    };
    // What was refused is tried again, and what no watch shows is looked at again.
    let refused = memo.tried_again();
    let uncached = memo
        .workload
        .iter()
        .map(|(_, until)| *until)
        .chain(memo.service.iter().map(|(_, until)| *until));
    let due =
        refused.into_iter().chain(uncached).map(|at| at.saturating_duration_since(now).max(SOON));
    planned.into_iter().chain(due).min()
}

/// A loop that runs the passes of one queue.
pub struct Loop {
    /// What is reconciled.
    pub what: What,
    /// The queue.
    pub queue: Arc<Queue<Key>>,
    /// What passes need.
    pub context: Arc<Context>,
    /// How many passes run at once.
    pub concurrency: usize,
    /// When the loop last moved, in seconds since 1970.
    pub beat: Arc<AtomicU64>,
}

impl Loop {
    /// Runs until `stop`, then lets running passes end for a few seconds.
    pub async fn run(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.concurrency.max(1)));
        let mut passes: JoinSet<Option<Instant>> = JoinSet::new();
        let mut keys: HashMap<Id, Key> = HashMap::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = passes.join_next_with_id() => self.ended(ended, &mut keys),
                _ = ticks.tick() => self.beat(),
                (permit, key) = async { (slots.clone().acquire_owned().await, self.queue.next().await) } => {
                    let (context, what, mine) = (self.context.clone(), self.what, key.clone());
                    let task = passes.spawn(async move {
                        let _permit = permit;
                        let _timer = context.metrics.pass(what);
                        let result = context.pass(what, &mine).await;
                        context.after(what, &mine, result)
                    });
                    keys.insert(task.id(), key);
                }
            }
        }
        let drained = async { while passes.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            warn!(what = %self.what, "some passes did not end in time; what they wrote is found again at the next start");
        }
    }

    fn ended(
        &self,
        ended: Result<(Id, Option<Instant>), tokio::task::JoinError>,
        keys: &mut HashMap<Id, Key>,
    ) {
        let (id, again) = match ended {
            Ok((id, again)) => (id, again),
            Err(error) => {
                let again = keys.get(&error.id()).and_then(|key| {
                    self.context.after(self.what, key, Err(Error::Panic(key.clone())))
                });
                (error.id(), again)
            }
        };
        if let Some(key) = keys.remove(&id) {
            self.queue.done(key, again);
        }
        self.beat();
    }

    fn beat(&self) {
        self.beat.store(
            u64::try_from(Timestamp::now().as_second()).unwrap_or_default(),
            Ordering::Relaxed,
        );
    }
}

/// Queues every key there is anything to plan for: at start, every hour, and whenever the schemas
/// change.
pub fn sweep(
    caches: &Caches,
    deployments: &Queue<Key>,
    versions: &Queue<Key>,
    registries: &Queue<Key>,
) {
    let now = Instant::now();
    let names = caches.names();
    debug!(deployments = names.len(), "sweep");
    names.into_iter().for_each(|key| deployments.add(key, now));
    caches.version_names().into_iter().for_each(|key| versions.add(key, now));
    caches.registry_names().into_iter().for_each(|key| registries.add(key, now));
}
