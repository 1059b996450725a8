//! The operator: builds the parts, joins them, and ends them in order.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, trace, warn};

use super::{
    admin::{self, Admin},
    admission::Inspector,
    apply, args, cache, client,
    kinds::{Key, Kind, News},
    lease::{self, Elector, Leads},
    memory::{Memo, Memories, lock, spread},
    metrics::Metrics,
    observe::Caches,
    queue::Queue,
    reconcile::{Context, Loop, Settings, What, sweep},
    watch::{self, Watches},
};
use crate::{api::names, plan::registry::importer};

/// How often everything is planned again, so that what a deletion left is found even where its
/// event was lost.
const SWEEP: Duration = Duration::from_secs(3600);
/// How long events are gathered before an object is planned: what may turn a decision for a moment,
/// numbers that come and go with pods for longer.
fn gather(news: News) -> Duration {
    Duration::from_millis(match news {
        News::Turn => 50,
        News::Counts => 15_000,
    })
}
/// The longest time over which all ModelDeployments are planned again when the admission policies
/// change, and the share of each of them: every one then writes its status.
const REPLAN_WITHIN: Duration = Duration::from_secs(30);
const REPLAN_EACH: Duration = Duration::from_millis(10);
/// How often the gauges of the queues are set.
const GAUGES: Duration = Duration::from_secs(5);

/// Why the operator ended, if not because it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No client.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// No port.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// No leadership any more.
    #[error(transparent)]
    Lease(#[from] lease::Error),
    /// A part ended that never should.
    #[error("run {0}: it ended by itself; this is a bug")]
    Part(&'static str),
    /// No signals.
    #[error("listen for SIGTERM: {0}")]
    Signal(std::io::Error),
}

/// What is to be planned.
#[derive(Default)]
struct Queues {
    deployments: Plans,
    versions: Plans,
    registries: Plans,
}

/// Names to plan, and what is remembered of them.
#[derive(Default)]
struct Plans {
    queue: Arc<Queue<Key>>,
    memories: Arc<Memories>,
}

impl Plans {
    /// Queues a name that an event touched, unless the event shows no more than what we wrote
    /// ourselves.
    fn touched(&self, key: Key, kind: Kind, by: &cache::Touched) {
        let expected = |memo: Arc<Mutex<Memo>>| lock(&memo).expected(kind, &by.key.name, by.shown);
        if self.memories.known(&key).is_some_and(expected) {
            return;
        }
        trace!(%key, kind = kind.name(), object = %by.key, news = ?by.news, "touched");
        self.queue.add(key, Instant::now() + gather(by.news));
    }
}

/// Runs until SIGTERM or Ctrl-C, then drains, gives the Lease up and returns; or fails because
/// leadership was lost.
///
/// # Errors
/// When a part cannot be started, or leadership is lost.
pub async fn run(args: args::Run) -> Result<(), Error> {
    let stop = signals()?;
    let port = admin::open(args.admin_address).await?;
    let metrics = Metrics::new();
    let config = client::config().await?;
    let home = args.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let elector_client = client::plain(config.clone(), &metrics)?;
    let client = client::client(config, &metrics)?;
    let caches = Arc::new(Caches::default());
    let queues = Arc::new(Queues::default());
    let beats = [now(), now(), now()];

    let admin = Admin { caches: caches.clone(), metrics: metrics.clone(), beats: beats.to_vec() };
    let admin = tokio::spawn(admin.serve(port, stop.clone()));
    let inspector = Inspector {
        client: client.clone(),
        prefix: args.admission_policies.clone(),
        caches: caches.clone(),
    };
    let namespace = args.namespace.clone();
    let watches = tokio::spawn(watch_all(inspector, namespace, queues.clone(), stop.clone()));

    let release = CancellationToken::new();
    let (leads, lease) = lead(&args, elector_client, &home, &release);
    let context = Arc::new(Context {
        client,
        caches,
        metrics: metrics.clone(),
        leads,
        deployments: queues.deployments.memories.clone(),
        versions: queues.versions.memories.clone(),
        registries: queues.registries.memories.clone(),
        settings: Settings {
            requesters_verified: args.requesters_verified,
            record_retention_days: args.record_retention_days,
            fetch_image: args.fetch_image.clone().filter(|image| !image.is_empty()),
            prune_grace_seconds: args.prune_grace_seconds,
        },
    });
    let work = tokio::spawn(work(context, queues, beats, args.concurrency, stop.clone()));
    let result = first_end(admin, lease, work, &stop, &release).await;
    watches.abort();
    metrics.leads(false);
    result
}

fn now() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(u64::try_from(Timestamp::now().as_second()).unwrap_or_default()))
}

/// Waits for the first part to end. Asked to stop: work drains, then the Lease is given up, for who
/// takes it must find nobody working.
async fn first_end(
    mut admin: JoinHandle<Result<(), admin::Error>>,
    mut lease: JoinHandle<Result<(), lease::Error>>,
    mut work: JoinHandle<()>,
    stop: &CancellationToken,
    release: &CancellationToken,
) -> Result<(), Error> {
    let ended = tokio::select! {
        biased;
        ended = &mut lease => match ended {
            // Lost: every pass that still runs is cut off, now.
            Ok(Err(error)) => { work.abort(); Err(error.into()) }
            _ => Err(Error::Part("the Lease's loop")),
        },
        ended = &mut admin, if !stop.is_cancelled() => match ended {
            Ok(Err(error)) => Err(error.into()),
            _ if stop.is_cancelled() => Ok(()),
            _ => Err(Error::Part("the admin port")),
        },
        ended = &mut work => if ended.is_ok() && stop.is_cancelled() { Ok(()) } else { Err(Error::Part("the work loop")) },
    };
    stop.cancel();
    if !work.is_finished() && tokio::time::timeout(Duration::from_secs(5), &mut work).await.is_err()
    {
        work.abort();
    }
    release.cancel();
    if !lease.is_finished() {
        let _ = tokio::time::timeout(Duration::from_secs(2), lease).await;
    }
    if ended.is_ok() {
        info!("ended in order");
    }
    ended
}

/// Cancelled by SIGTERM or Ctrl-C.
fn signals() -> Result<CancellationToken, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("asked to end; running work is finished first");
        cancel.cancel();
    });
    Ok(stop)
}

/// Starts the election, or leads at once where there is none.
fn lead(
    args: &args::Run,
    client: Client,
    home: &str,
    release: &CancellationToken,
) -> (tokio::sync::watch::Receiver<Leads>, JoinHandle<Result<(), lease::Error>>) {
    let (sender, receiver) =
        tokio::sync::watch::channel(if args.leader_elect { Leads::No } else { Leads::Always });
    let release = release.clone();
    if !args.leader_elect {
        let wait = async move {
            release.cancelled().await;
            Ok(())
        };
        // The sender lives as long as somebody may listen.
        return (
            receiver,
            tokio::spawn(async move {
                let _sender = sender;
                wait.await
            }),
        );
    }
    let me = format!("{}_{:x}", apply::instance(), Timestamp::now().as_nanosecond());
    let elector = Elector::new(Api::<Lease>::namespaced(client, home), names::MANAGER, me);
    (receiver, tokio::spawn(async move { elector.hold(&sender, &release).await }))
}

/// Starts every watch once the server has told its version; what they touch is queued. The
/// admission policies are read before and from then on.
async fn watch_all(
    inspector: Inspector,
    namespace: Option<String>,
    queues: Arc<Queues>,
    stop: CancellationToken,
) {
    let (client, caches) = (inspector.client.clone(), inspector.caches.clone());
    let minor = watch::version(&client, client::ANSWER_WITHIN).await;
    caches.kubernetes.store(minor, Ordering::Relaxed);
    let streaming = watch::streams_lists(minor);
    inspector.read_first().await;
    let (index, told) = (caches.clone(), queues.clone());
    let tell: watch::Tell = Arc::new(move |kind, touched| told.touched(&index, kind, touched));
    Watches { client, namespace, streaming, caches, tell }.start(&stop);
    tokio::select! {
        () = inspector.run(|| queues.replan_deployments(&inspector.caches)) => {}
        () = stop.cancelled() => {}
    }
}

impl Queues {
    /// Queues what an event touched, gathered for a moment.
    fn touched(&self, caches: &Caches, kind: Kind, touched: &cache::Touched) {
        let key = |name: &String| Key::new(touched.key.namespace.clone(), name.as_str());
        match kind {
            Kind::CustomResourceDefinition => self.sweep(caches),
            // It says something to everything beside it.
            Kind::ModelPolicy => {
                caches
                    .names_in(&touched.key.namespace)
                    .into_iter()
                    .for_each(|key| self.deployments.touched(key, kind, touched));
                caches
                    .version_names_in(&touched.key.namespace)
                    .into_iter()
                    .for_each(|key| self.versions.touched(key, kind, touched));
            }
            Kind::ModelVersion if touched.news == News::Counts => {}
            Kind::ModelVersion => caches
                .touched_by_versions(touched)
                .into_iter()
                .for_each(|key| self.deployments.touched(key, kind, touched)),
            Kind::ModelRegistry => self.registries.touched(touched.key.clone(), kind, touched),
            _ => touched
                .owners
                .iter()
                .for_each(|name| self.deployments.touched(key(name), kind, touched)),
        }
        if let Some(name) =
            importer::find_registry(&touched.key.name).filter(|_| kind == Kind::Deployment)
        {
            self.registries.touched(key(&name.to_owned()), kind, touched);
        }
        touched.versions.iter().for_each(|name| self.versions.touched(key(name), kind, touched));
    }

    /// Queues every ModelDeployment, spread over a time that grows with their number.
    fn replan_deployments(&self, caches: &Caches) {
        let keys: Vec<Key> = caches.wanted.read().all().map(|(key, _)| key.clone()).collect();
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let within = REPLAN_EACH.saturating_mul(count).min(REPLAN_WITHIN);
        let now = Instant::now();
        for key in keys {
            let at = now + within.mul_f64(spread(&key));
            self.deployments.queue.add(key, at);
        }
    }

    /// Queues every name there is anything to plan for.
    fn sweep(&self, caches: &Caches) {
        sweep(caches, &self.deployments.queue, &self.versions.queue, &self.registries.queue);
    }
}

/// Works while this process leads and the caches are filled, until `stop`.
async fn work(
    context: Arc<Context>,
    queues: Arc<Queues>,
    beats: [Arc<AtomicU64>; 3],
    concurrency: usize,
    stop: CancellationToken,
) {
    let mut leads = context.leads.clone();
    let start = async {
        context.caches.readiness.ready().await;
        if leads.wait_for(|leads| leads.now()).await.is_err() {
            // The election ended; its own error ends the process.
            std::future::pending::<()>().await;
        }
    };
    let started = tokio::select! {
        () = start => true,
        () = waiting(&beats, &context.caches) => false,
        () = stop.cancelled() => false,
    };
    if !started {
        return;
    }
    context.metrics.leads(true);
    info!(deployments = context.caches.names().len(), "caches are filled; working");
    let [deployments, versions, registries] = beats;
    // A task each, so that what wakes one up costs the others nothing.
    let mut loops = JoinSet::new();
    let mut start = |what, queue, beat| {
        let context = context.clone();
        loops.spawn(Loop { what, queue, context, concurrency, beat }.run(stop.clone()));
    };
    start(What::Deployment, queues.deployments.queue.clone(), deployments);
    start(What::Version, queues.versions.queue.clone(), versions);
    start(What::Registry, queues.registries.queue.clone(), registries);
    tokio::select! {
        _ = loops.join_all() => {}
        () = housekeeping(&context, &queues) => {}
    }
}

/// Keeps the loops' hearts beating while they wait to lead; says once a minute what is missing.
async fn waiting(beats: &[Arc<AtomicU64>; 3], caches: &Caches) {
    let every = Duration::from_secs(5);
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    let mut said = String::new();
    loop {
        ticks.tick().await;
        for beat in beats {
            beat.store(
                u64::try_from(Timestamp::now().as_second()).unwrap_or_default(),
                std::sync::atomic::Ordering::Relaxed,
            );
        }
        let missing = caches.readiness.missing().join(" ");
        if !missing.is_empty() && missing != said {
            warn!(missing, "waits");
            said = missing;
        }
    }
}

/// A cluster that is upgraded can do more than it told at the start.
async fn learn_version(context: &Context) {
    if let Ok(minor) = watch::minor(&context.client).await {
        context.caches.kubernetes.store(minor, Ordering::Relaxed);
    }
}

/// Sweeps at once and every hour, and keeps the gauges of the queues; for ever.
async fn housekeeping(context: &Context, queues: &Queues) {
    let (mut sweeps, mut gauges) = (tokio::time::interval(SWEEP), tokio::time::interval(GAUGES));
    sweeps.tick().await;
    queues.sweep(&context.caches);
    loop {
        tokio::select! {
            _ = sweeps.tick() => {
                learn_version(context).await;
                queues.sweep(&context.caches);
            }
            _ = gauges.tick() => {
                context.metrics.waiting(What::Deployment, queues.deployments.queue.waiting());
                context.metrics.waiting(What::Version, queues.versions.queue.waiting());
                context.metrics.waiting(What::Registry, queues.registries.queue.waiting());
            }
        }
    }
}
