//! The watches: one a kind, each feeding one index, with backoff, for ever.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream::BoxStream};
use kube::{
    Api, Client, Resource,
    api::ApiResource,
    core::DynamicResourceScope,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    cache::{Shared, Sync, Touched},
    client::said,
    kinds::{Kind, Watched},
    object::{Detail, Kept, Object, StatusOnly, Usual, Whole},
    observe::Caches,
};

/// Objects a page, where lists are not streamed.
const PAGE: u32 = 100;
/// The first minor version of Kubernetes 1 that streams lists by default (1.33 does not, and the
/// watcher has no fallback).
const STREAMS_FROM: u32 = 34;

/// Who is told what a watch touched.
pub type Tell = Arc<dyn Fn(Kind, &Touched) + Send + std::marker::Sync>;

/// What all watches share.
#[derive(Clone)]
pub struct Watches {
    /// The client.
    pub client: Client,
    /// The one namespace that is watched; None: all.
    pub namespace: Option<String>,
    /// Whether the server streams lists.
    pub streaming: bool,
    /// What is fed.
    pub caches: Arc<Caches>,
    /// Who is told.
    pub tell: Tell,
}

impl Watches {
    /// Starts one watch a kind; they end with `stop`.
    pub fn start(&self, stop: &CancellationToken) {
        self.one(stop, |c| &c.wanted);
        self.one(stop, |c| &c.versions);
        self.one(stop, |c| &c.records);
        self.one(stop, |c| &c.requests);
        self.one(stop, |c| &c.policies);
        self.one(stop, |c| &c.registries);
        self.one(stop, |c| &c.contents);
        self.one(stop, |c| &c.workloads);
        self.one(stop, |c| &c.services);
        self.one(stop, |c| &c.pods);
        self.one(stop, |c| &c.jobs);
        self.one(stop, |c| &c.autoscalers);
        self.one(stop, |c| &c.schemas);
    }

    fn one<T: Watched>(&self, stop: &CancellationToken, cache: fn(&Caches) -> &Shared<T>) {
        let (watches, stop) = (self.clone(), stop.clone());
        tokio::spawn(async move {
            let events = watches.events(T::KIND);
            tokio::select! {
                () = watches.feed(events, cache) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    fn events(&self, kind: Kind) -> BoxStream<'static, watcher::Result<Event<Object>>> {
        let config = if self.streaming {
            watcher::Config::default().streaming_lists()
        } else {
            watcher::Config::default().page_size(PAGE)
        };
        let config = kind.selector().map_or(config.clone(), |selector| config.labels(selector));
        match kind {
            // Who owns which of its fields tells drift from defaults.
            Kind::Deployment => self.kept::<Whole>(kind, config),
            Kind::Pod => self.kept::<StatusOnly>(kind, config),
            _ => self.kept::<Usual>(kind, config),
        }
    }

    fn kept<D: Detail>(
        &self,
        kind: Kind,
        config: watcher::Config,
    ) -> BoxStream<'static, watcher::Result<Event<Object>>> {
        let is_namespaced = kind != Kind::CustomResourceDefinition;
        let namespace = self.namespace.as_deref().filter(|_| is_namespaced);
        let events = watcher(api::<Kept<D>>(&self.client, kind, namespace), config);
        events.map(|event| event.map(|e| each(e, |kept| kept.0))).default_backoff().boxed()
    }

    /// Feeds until the stream ends, or the kind is forbidden and not needed.
    async fn feed<T: Watched>(
        &self,
        events: impl Stream<Item = watcher::Result<Event<Object>>>,
        cache: fn(&Caches) -> &Shared<T>,
    ) {
        let mut events = std::pin::pin!(events);
        let mut failing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    failing = false;
                    self.take(event, cache(&self.caches));
                }
                Err(error) => {
                    if self.failed(T::KIND, &error, failing) {
                        return;
                    }
                    failing = true;
                }
            }
        }
    }

    fn take<T: Watched>(&self, event: Event<Object>, cache: &Shared<T>) {
        let done = matches!(event, Event::InitDone);
        let touched = cache.write().feed(event);
        for touched in &touched {
            (self.tell)(T::KIND, touched);
        }
        if done && self.caches.readiness.set(T::KIND, Sync::Synced) {
            debug!(kind = T::KIND.name(), objects = cache.read().len(), "listed");
        }
    }

    /// Says what failed, once until it works again; true where there is nothing to wait for.
    fn failed(&self, kind: Kind, error: &watcher::Error, again: bool) -> bool {
        let answer = answer(error);
        if kind.optional() && matches!(answer, Some(403 | 404)) {
            info!(
                kind = kind.name(),
                why = sentence(error),
                "not readable; the operator works without it"
            );
            self.caches.readiness.set(kind, Sync::Skipped);
            return true;
        }
        let why = match answer {
            Some(404) => {
                format!("the API server does not serve {} yet: apply crds/", kind.resource().plural)
            }
            Some(403) => {
                format!("this operator may not list {}: check its Role", kind.resource().plural)
            }
            _ => format!("watching it fails: {}", sentence(error)),
        };
        match again {
            true => debug!(kind = kind.name(), why, "watch fails still"),
            false => warn!(kind = kind.name(), why, "watch failed; it is tried again"),
        }
        if self.caches.readiness.get(kind) != Some(Sync::Synced) {
            self.caches.readiness.set(kind, Sync::Waiting(why));
        }
        false
    }
}

/// The status code of an API server's answer in an error.
fn answer(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

fn sentence(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => said(error),
        other => other.to_string(),
    }
}

/// The same event of the same object in another form.
fn each<K>(event: Event<K>, make: impl Fn(K) -> Object) -> Event<Object> {
    match event {
        Event::Apply(object) => Event::Apply(make(object)),
        Event::Delete(object) => Event::Delete(make(object)),
        Event::InitApply(object) => Event::InitApply(make(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// The API of a kind, in one namespace or in all.
#[must_use]
pub fn api<K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>>(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind.resource()),
        None => Api::all_with(client.clone(), &kind.resource()),
    }
}

/// The minor version of Kubernetes 1 that the API server tells, the highest number where it is no
/// Kubernetes 1 any more.
///
/// # Errors
/// When it does not tell.
pub async fn minor(client: &Client) -> Result<u32, kube::Error> {
    let version = client.apiserver_version().await?;
    // A server that plays an older one has no more than that one's features. Some distributions
    // write `34+`.
    let (major, minor) = match (version.emulation_major, version.emulation_minor) {
        (Some(major), Some(minor)) if !minor.is_empty() => (major, minor),
        _ => (version.major, version.minor),
    };
    let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
    Ok(if major == "1" { minor.parse().unwrap_or_default() } else { u32::MAX })
}

/// Whether an API server of that minor version streams lists.
#[must_use]
pub fn streams_lists(minor: u32) -> bool {
    minor >= STREAMS_FROM
}

/// The API server's minor version; asked until it answers.
pub async fn version(client: &Client, within: Duration) -> u32 {
    let mut wait = Duration::from_millis(200);
    loop {
        match tokio::time::timeout(within, minor(client)).await {
            Ok(Ok(minor)) => return minor,
            Ok(Err(error)) => warn!(
                error = said(&error),
                "the API server does not tell its version; it is asked again"
            ),
            Err(_) => warn!("the API server does not answer; it is asked again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(10));
    }
}

/// Lists every kind of one namespace once, for a look from outside.
///
/// # Errors
/// When a kind that is needed cannot be listed.
pub async fn fill(caches: &Caches, client: &Client, namespace: &str) -> Result<(), kube::Error> {
    list(client, namespace, &caches.wanted).await?;
    list(client, namespace, &caches.versions).await?;
    list(client, namespace, &caches.records).await?;
    list(client, namespace, &caches.requests).await?;
    list(client, namespace, &caches.policies).await?;
    list(client, namespace, &caches.contents).await?;
    list(client, namespace, &caches.workloads).await?;
    list(client, namespace, &caches.services).await?;
    list(client, namespace, &caches.pods).await?;
    list(client, namespace, &caches.jobs).await?;
    list(client, namespace, &caches.autoscalers).await?;
    list(client, namespace, &caches.registries).await?;
    list(client, namespace, &caches.schemas).await
}

async fn list<T: Watched>(
    client: &Client,
    namespace: &str,
    cache: &Shared<T>,
) -> Result<(), kube::Error> {
    let namespace = (T::KIND != Kind::CustomResourceDefinition).then_some(namespace);
    let api: Api<Kept<Whole>> = api(client, T::KIND, namespace);
    let mut params = kube::api::ListParams::default().limit(PAGE);
    params.label_selector = T::KIND.selector().map(str::to_owned);
    loop {
        let page = match api.list(&params).await {
            Err(kube::Error::Api(status))
                if T::KIND.optional() && matches!(status.code, 403 | 404) =>
            {
                return Ok(());
            }
            page => page?,
        };
        for object in page.items {
            cache.write().feed(Event::InitApply(object.0));
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(());
        }
    }
}
