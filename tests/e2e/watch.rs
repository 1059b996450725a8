//! What happened when: every change of a namespace's objects, with the time at which a watch told
//! of it. Times in objects are of whole seconds.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Instant,
};

use futures::StreamExt;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::harness::{
    rest::{runtime, within},
    story::Story,
};

const KINDS: [(&str, &str); 5] = [
    ("", "Pod"),
    ("rollmodel.dev", "ModelVersion"),
    ("rollmodel.dev", "ModelDeployment"),
    ("rollmodel.dev", "ModelRollout"),
    ("rollmodel.dev", "RolloutRequest"),
];

/// One change, as it was told.
struct Change {
    at: Instant,
    kind: &'static str,
    object: Value,
}

/// Watches of a namespace, which end with it.
pub struct Watch {
    changes: Arc<Mutex<Vec<Change>>>,
    tasks: Vec<JoinHandle<()>>,
    patience: std::time::Duration,
}

impl Watch {
    /// Begins to watch.
    pub fn begin(story: &Story) -> Self {
        let client = runtime().block_on(story.cluster.client());
        let changes = Arc::new(Mutex::new(Vec::new()));
        let task = |(group, kind): (&str, &'static str)| {
            let version = if group.is_empty() { "v1" } else { "v1alpha1" };
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api =
                Api::<DynamicObject>::namespaced_with(client.clone(), &story.namespace, &resource);
            runtime().spawn(note(api, kind, changes.clone()))
        };
        Self { tasks: KINDS.map(task).into(), changes, patience: story.cluster.patience() }
    }

    /// When an object of a kind was first so after an instant; waits for it.
    pub fn first(&self, kind: &str, after: Instant, is: impl Fn(&Value) -> bool) -> Instant {
        let find = || {
            let changes = self.changes.lock().unwrap();
            changes.iter().find(|c| c.at >= after && c.kind == kind && is(&c.object)).map(|c| c.at)
        };
        within(self.patience, || find().is_some(), || format!("no {kind} is as it should be"));
        find().unwrap()
    }

    /// When each of so many pods of a version, made after an instant, was first so, the earliest
    /// first; waits for them.
    pub fn pods(
        &self,
        version: &str,
        count: usize,
        after: Instant,
        is: impl Fn(&Value) -> bool,
    ) -> Vec<Instant> {
        let find = || {
            let changes = self.changes.lock().unwrap();
            let of = |c: &&Change| {
                c.kind == "Pod"
                    && c.object["metadata"]["labels"]["rollmodel.dev/version"] == version
            };
            let uid =
                |c: &Change| c.object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let before: BTreeSet<String> =
                changes.iter().filter(of).filter(|c| c.at < after).map(uid).collect();
            let mut found = BTreeSet::new();
            let new =
                changes.iter().filter(of).filter(|c| !before.contains(&uid(c)) && is(&c.object));
            new.filter(|c| found.insert(uid(c))).map(|c| c.at).collect::<Vec<_>>()
        };
        within(
            self.patience,
            || find().len() >= count,
            || format!("{count} new pods of version {version} are not as they should be"),
        );
        find()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn note(api: Api<DynamicObject>, kind: &'static str, changes: Arc<Mutex<Vec<Change>>>) {
    let told = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
    let told = told.filter_map(|object| async { object.ok() });
    told.for_each(|object| {
        let at = Instant::now();
        changes.lock().unwrap().push(Change {
            at,
            kind,
            object: serde_json::to_value(object).unwrap(),
        });
        async {}
    })
    .await;
}

/// Whether a condition of an object is True.
pub fn holds(object: &Value, condition: &str) -> bool {
    crate::harness::story::condition(object, condition)["status"] == "True"
}
