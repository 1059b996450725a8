//! The process: looks when it is time or the spec changed, says what came of it, and waits longer
//! each time the system does not answer.

use std::{fs, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    cluster::{self, Cluster, Watched},
    status::{Told, status},
    system::Means,
    work::{Looked, Work},
};
use crate::{
    api::{ModelRegistry, ModelRegistryStatus},
    fetch::http::System,
    run::{args, client, memory::spread, metrics::Metrics},
};

/// The longest wait for a system that does not answer.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Where Kubernetes reads a container's last words.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why the process ended, if not because it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No client.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The API server does not do its part.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// What is watched may not be.
    #[error("{0}")]
    Watch(String),
    /// No signals.
    #[error("listen for SIGTERM: {0}")]
    Signal(std::io::Error),
    /// The watch ended by itself.
    #[error("watch the ModelRegistry: it ended by itself; this is a bug")]
    Ended,
}

/// Runs until SIGTERM or Ctrl-C; ends by itself where it has not the rights, with its last words
/// for people.
///
/// # Errors
/// Whatever is in the way of working at all.
pub async fn run(args: args::Import) -> Result<(), Error> {
    let ended = tokio::select! {
        ended = import(&args) => ended,
        stopped = stopped() => stopped,
    };
    if let Err(error) = &ended {
        let log = args.termination_log.as_deref().unwrap_or(Path::new(TERMINATION_LOG));
        if args.termination_log.is_some() || log.exists() {
            // Best effort: the same is in the log.
            let _ = fs::write(log, error.to_string());
        }
    }
    ended
}

async fn stopped() -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    info!("asked to end");
    Ok(())
}

async fn import(args: &args::Import) -> Result<(), Error> {
    let config = client::config().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = client::client(config, &Metrics::new())?;
    let cluster = Cluster { client, namespace, name: args.registry.clone() };
    let means = Means {
        registry: args.registry.clone(),
        credentials: Arc::default(),
        allowed: args.allowed.iter().flat_map(|list| list.0.clone()).collect(),
        resolve: Arc::new(System),
    };
    let credentials = args.credentials.clone().filter(|path| !path.as_os_str().is_empty());
    let watched = cluster.watch();
    let mut failed = watched.failed.clone();
    let refused =
        async move { failed.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()) };
    tokio::select! {
        ended = work(&cluster, watched, Work::new(means, credentials, args.recheck_seconds)) => ended,
        Some(why) = refused => Err(Error::Watch(why)),
    }
}

/// Looks for ever.
async fn work(cluster: &Cluster, mut watched: Watched, mut work: Work) -> Result<(), Error> {
    watched.synced.wait_for(|synced| *synced).await.map_err(|_| Error::Ended)?;
    let (mut due, mut generation, mut failures) = (Instant::now(), None, 0_u32);
    loop {
        let registry = watched.registry.borrow_and_update().clone();
        if let Some(registry) = registry.filter(|registry| !registry.spec.suspend) {
            if generation != registry.metadata.generation {
                (due, generation, failures) = (Instant::now(), registry.metadata.generation, 0);
            }
            if due <= Instant::now() {
                let looked = work.look(cluster, &registry, &watched.versions).await?;
                failures = if looked.look.trouble.as_ref().is_some_and(|t| t.kind.passes()) {
                    failures.saturating_add(1)
                } else {
                    0
                };
                let wait = wait(&registry, failures);
                tell(cluster, &registry, &looked, wait).await?;
                due = Instant::now() + wait;
            }
        }
        tokio::select! {
            changed = watched.registry.changed() => changed.map_err(|_| Error::Ended)?,
            () = tokio::time::sleep_until(due.max(Instant::now() + Duration::from_millis(10))) => {}
        }
    }
}

/// How long until the next look: the spec's interval, or less at first and more later where the
/// system does not answer; never twice the same.
fn wait(registry: &ModelRegistry, failures: u32) -> Duration {
    let interval = Duration::from_secs(registry.spec.poll_interval_seconds());
    let wait = match failures {
        0 => interval,
        n => Duration::from_secs(1 << n.min(10)).clamp(Duration::from_secs(1), BACKOFF_MAX),
    };
    wait.mul_f64(
        0.9 + 0.2 * spread(&(registry.metadata.uid.as_deref(), Timestamp::now().as_nanosecond())),
    )
}

/// Writes the status where it says something new, and an Event for each new problem.
async fn tell(
    cluster: &Cluster,
    registry: &ModelRegistry,
    looked: &Looked,
    wait: Duration,
) -> Result<(), Error> {
    if let Some(trouble) = &looked.look.trouble {
        warn!(reason = %trouble.kind.reason(), says = trouble.sentence, next_look_in = ?wait, "the look failed");
    }
    let old = registry.status.clone().unwrap_or_default();
    let told = Told {
        registry: &cluster.name,
        generation: registry.metadata.generation.unwrap_or_default(),
        old: &old,
        existing: &looked.existing,
        look: &looked.look,
        now: Timestamp::now(),
    };
    let Some(new) = status(&told) else { return Ok(()) };
    let uid = registry.metadata.uid.as_deref().unwrap_or_default();
    if cluster.status(uid, &new).await?.is_some() {
        problems(cluster, uid, &old, &new).await;
    }
    Ok(())
}

async fn problems(
    cluster: &Cluster,
    uid: &str,
    old: &ModelRegistryStatus,
    new: &ModelRegistryStatus,
) {
    let known = |p: &crate::api::registry::Problem| {
        old.problems
            .iter()
            .any(|o| (&o.model, &o.version, &o.reason) == (&p.model, &p.version, &p.reason))
    };
    for problem in new.problems.iter().filter(|p| !known(p)) {
        let version = problem.version.as_deref().unwrap_or_default();
        let says = format!("{} {version}: {}", problem.model, problem.message);
        let key = format!(
            "{}-{version}-{}-{}",
            problem.model,
            problem.reason,
            problem.since.0.as_second()
        );
        cluster.tell(uid, true, (&problem.reason, &says, &key)).await;
    }
}
