//! The real Deployment controller: writes, and a watch that shows when it rests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Namespace, ResourceQuota, ServiceAccount},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    history::{History, Write},
    snapshot::Snapshot,
};
use crate::simulator::replica_set_controller::QUOTA;

/// Requests at a time.
const PARALLEL: usize = 16;
/// The controllers rest if nothing they write changes for so long. It also keeps ReplicaSets of
/// two steps apart: Kubernetes orders them by creation in whole seconds.
const QUIET: Duration = Duration::from_millis(1100);
/// How long one step of all histories may take.
const PATIENCE: Duration = Duration::from_secs(90);

enum Change {
    Deployment(watcher::Event<Deployment>),
    ReplicaSet(watcher::Event<ReplicaSet>),
}

pub struct Real {
    client: Client,
    namespace: String,
    changes: BoxStream<'static, watcher::Result<Change>>,
    deployments: BTreeMap<String, Deployment>,
    sets: BTreeMap<String, ReplicaSet>,
    nudges: usize,
}

fn store_event<K: ResourceExt>(objects: &mut BTreeMap<String, K>, event: watcher::Event<K>) {
    match event {
        watcher::Event::Init => objects.clear(),
        watcher::Event::InitDone => {}
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            objects.insert(object.name_any(), object);
        }
        watcher::Event::Delete(object) => {
            objects.remove(&object.name_any());
        }
    }
}

impl Real {
    /// Watches the whole cluster, which has no other Deployments.
    pub fn start(client: Client, namespace: &str) -> Self {
        let config = watcher::Config::default;
        let deployments = Api::<Deployment>::all(client.clone());
        let deployments = watcher(deployments, config()).map_ok(Change::Deployment);
        let sets = Api::<ReplicaSet>::all(client.clone());
        let sets = watcher(sets, config()).map_ok(Change::ReplicaSet);
        Self {
            client,
            namespace: namespace.into(),
            changes: futures::stream::select(deployments, sets).boxed(),
            deployments: BTreeMap::new(),
            sets: BTreeMap::new(),
            nudges: 0,
        }
    }

    fn api<K>(&self, history: &History) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace_of(history))
    }

    /// All histories share one namespace, except that each one with a quota has its own.
    fn namespace_of<'a>(&'a self, history: &'a History) -> &'a str {
        if history.workload.quota.is_some() { &history.name } else { &self.namespace }
    }

    pub async fn create_quotas(&self, histories: &[History]) {
        let limited = histories
            .iter()
            .filter_map(|history| Some((self.namespace_of(history), history.workload.quota?)));
        let limited: BTreeMap<_, _> = limited.collect();
        for (name, limit) in &limited {
            let namespaces = Api::<Namespace>::all(self.client.clone());
            create_object(&namespaces, json!({"metadata": {"name": name}})).await;
            let quotas = Api::<ResourceQuota>::namespaced(self.client.clone(), name);
            let spec = json!({"hard": {"pods": limit.to_string()}});
            create_object(&quotas, json!({"metadata": {"name": QUOTA}, "spec": spec})).await;
        }
        // Admission refuses every pod until the quota has a status and the namespace an account.
        let has_status = |quota: &ResourceQuota| {
            quota.status.as_ref().is_some_and(|status| status.used.is_some())
        };
        self.await_objects(&limited, has_status).await;
        self.await_objects(&limited, |account: &ServiceAccount| account.name_any() == "default")
            .await;
    }

    /// Waits until each of these namespaces has such an object.
    async fn await_objects<K>(
        &self,
        namespaces: &BTreeMap<&str, usize>,
        is_ready: impl Fn(&K) -> bool,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut missing: BTreeSet<_> = namespaces.keys().map(|name| (*name).to_owned()).collect();
        let api = Api::<K>::all(self.client.clone());
        let mut events = watcher(api, watcher::Config::default()).boxed();
        while !missing.is_empty() {
            let event = tokio::time::timeout(PATIENCE, events.next()).await;
            let event = event.unwrap_or_else(|_| panic!("no {} in {missing:?}", K::kind(&())));
            match event.expect("a watch does not end").expect("a watch") {
                watcher::Event::Apply(object) | watcher::Event::InitApply(object)
                    if is_ready(&object) =>
                {
                    missing.remove(&object.namespace().unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    pub async fn write_all(&self, writes: Vec<(&History, Write)>) {
        let parameters = PatchParams::default();
        let write_one = async |(history, write): (&History, Write)| match write {
            Write::Create(manifest) => {
                create_object(&self.api::<Deployment>(history), manifest).await;
            }
            Write::Change(spec) => {
                let patch = json!([{"op": "replace", "path": "/spec", "value": spec}]);
                let patch = serde_json::from_value(patch).expect("a JSON patch");
                let patch = Patch::Json::<()>(patch);
                let deployments = self.api::<Deployment>(history);
                let written = deployments.patch(&history.name, &parameters, &patch).await;
                written.expect("the Deployment changes");
            }
            Write::SetQuota(limit) => {
                let patch = Patch::Merge(json!({"spec": {"hard": {"pods": limit.to_string()}}}));
                let quotas = self.api::<ResourceQuota>(history);
                let written = quotas.patch(QUOTA, &parameters, &patch).await;
                written.expect("the quota changes");
            }
        };
        futures::stream::iter(writes).for_each_concurrent(PARALLEL, write_one).await;
    }

    /// Waits until nothing changes any more and the simulation explains everything, or until the
    /// patience has ended. Returns the state of each history by its name.
    pub async fn come_to_rest(&mut self, histories: &mut [History]) -> BTreeMap<String, Snapshot> {
        let began = Instant::now();
        loop {
            if let Ok(change) = tokio::time::timeout(QUIET, self.changes.next()).await {
                match change.expect("a watch does not end").expect("a watch") {
                    Change::Deployment(event) => store_event(&mut self.deployments, event),
                    Change::ReplicaSet(event) => store_event(&mut self.sets, event),
                }
                if began.elapsed() < PATIENCE {
                    continue;
                }
            }
            let actual = self.take_snapshots();
            let is_done = |history: &mut History| {
                actual
                    .get(&history.name)
                    .is_some_and(|actual| history.explain(actual) || history.is_over_quota(actual))
            };
            let waiting: Vec<_> =
                histories.iter_mut().filter_map(|h| (!is_done(h)).then_some(&*h)).collect();
            if waiting.is_empty() || began.elapsed() >= PATIENCE {
                return actual;
            }
            self.nudges += 1;
            for history in waiting.into_iter().filter(|h| h.workload.quota.is_some()) {
                self.nudge_quota(history).await;
            }
        }
    }

    fn take_snapshots(&self) -> BTreeMap<String, Snapshot> {
        let snapshot = |(name, deployment): (&String, &Deployment)| {
            let sets = self.sets.values().filter(|set| is_owned(set, name));
            (name.clone(), Snapshot::from_real(deployment, sets))
        };
        self.deployments.iter().map(snapshot).collect()
    }

    /// A ReplicaSet whose pods were refused is retried with a backoff that grows to minutes, and
    /// a quota whose use was counted from an old cache is counted again after minutes. Any change
    /// of them makes their controllers try at once.
    async fn nudge_quota(&self, history: &History) {
        let parameters = PatchParams::default();
        let hard = json!({"configmaps": (1000 + self.nudges).to_string()});
        let patch = Patch::Merge(json!({"spec": {"hard": hard}}));
        let quotas = self.api::<ResourceQuota>(history);
        quotas.patch(QUOTA, &parameters, &patch).await.expect("the quota changes");
        let nudge = json!({"test.rollmodel.dev/nudge": self.nudges.to_string()});
        let patch = Patch::Merge(json!({"metadata": {"annotations": nudge}}));
        let sets = self.api::<ReplicaSet>(history);
        for set in self.sets.values().filter(|set| is_owned(set, &history.name)) {
            // It may be deleted meanwhile.
            let _ = sets.patch(&set.name_any(), &parameters, &patch).await;
        }
    }
}

fn is_owned(set: &ReplicaSet, deployment: &str) -> bool {
    set.owner_references().iter().any(|owner| owner.name == deployment)
}

async fn create_object<K>(api: &Api<K>, object: Value)
where
    K: Clone + Serialize + DeserializeOwned + Debug,
{
    let object = serde_json::from_value(object).expect("an object of its kind");
    api.create(&PostParams::default(), &object).await.expect("the object is created");
}
