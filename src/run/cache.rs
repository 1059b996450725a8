//! Caches of our own: one watch of a kind feeds one index and says what it touched, deletions and
//! relists included.
//!
//! An index finds objects by name, by the ModelDeployment they belong to, and by the ModelVersion
//! they name, so that a reconcile never scans everything. An object that this build cannot read
//! stays in it as unreadable: what it belongs to is not planned, for to take it as deleted would be
//! a wrong act.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use tracing::warn;

use super::{
    kinds::{Key, Kind, News, Watched},
    object::Object,
};

/// One object of an index.
pub struct Entry<T> {
    /// Its resourceVersion, which compares as an integer.
    pub resource_version: u64,
    /// What is kept of it, or why it cannot be read.
    pub value: Result<T, String>,
    owners: Vec<String>,
    versions: Vec<String>,
}

/// What an event touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// The object.
    pub key: Key,
    /// What the event showed of it.
    pub shown: Shown,
    /// What the change says.
    pub news: News,
    /// ModelDeployments that the object belongs to, or belonged to.
    pub owners: BTreeSet<String>,
    /// ModelVersions that it says something to.
    pub versions: BTreeSet<String>,
}

/// What an event showed of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Its state in a list, which may stand for several changes.
    #[default]
    Listed,
    /// One change, which left this resourceVersion.
    Version(u64),
    /// That it is gone.
    Gone,
}

/// The objects of one kind.
pub struct Index<T> {
    // Boxed: a table is half empty on average, and a sorted list of few names takes a tenth of a
    // set's room.
    objects: HashMap<Key, Box<Entry<T>>>,
    by_owner: HashMap<Key, Names>,
    by_version: HashMap<Key, Names>,
    /// The namespaces that were ever seen, each once.
    namespaces: HashSet<Arc<str>>,
    /// What the relist that goes on has named so far.
    listed: Option<HashSet<Key>>,
    /// Every change up to this resourceVersion is in here.
    seen: u64,
}

/// Names in order.
type Names = Vec<Arc<str>>;

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            by_owner: HashMap::new(),
            by_version: HashMap::new(),
            namespaces: HashSet::new(),
            listed: None,
            seen: 0,
        }
    }
}

impl Touched {
    /// Notes what a newer state of an object touches that belongs to whom it belonged to.
    fn changed<T: Watched>(&mut self, old: &Entry<T>, new: &Entry<T>) -> Option<News> {
        let (Ok(was), Ok(is)) = (&old.value, &new.value) else {
            return self.replaced(Some(old), Some(new));
        };
        self.owners.extend(new.owners.iter().cloned());
        if T::news_to_versions(was, is) {
            self.versions.extend(new.versions.iter().cloned());
        }
        T::news(Some(was), Some(is))
    }

    /// Notes what the appearance or the end of an object touches, or a change of whom it belongs
    /// to.
    fn replaced<T: Watched>(
        &mut self,
        old: Option<&Entry<T>>,
        new: Option<&Entry<T>>,
    ) -> Option<News> {
        for entry in old.into_iter().chain(new) {
            self.owners.extend(entry.owners.iter().cloned());
            self.versions.extend(entry.versions.iter().cloned());
        }
        let (old, new) = (old.map(|e| e.value.as_ref()), new.map(|e| e.value.as_ref()));
        match (old.transpose(), new.transpose()) {
            (Ok(_), Err(error)) => {
                warn!(kind = T::KIND.name(), object = %self.key, error, "this object cannot be read by this version of the operator; what it belongs to is left alone");
                Some(News::Turn)
            }
            (Err(_), _) => Some(News::Turn),
            // What is no news of itself is news to who had it, and to who has it now.
            (Ok(old), Ok(new)) => T::news(old, new).or(Some(News::Turn)),
        }
    }
}

impl<T: Watched> Index<T> {
    /// Takes in one event, and says what it touched.
    pub fn feed(&mut self, event: Event<Object>) -> Vec<Touched> {
        match event {
            Event::Init => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listed) = self.listed.as_mut() {
                    listed.insert(Key::of(&object.metadata));
                }
                self.insert(object, Shown::Listed).into_iter().collect()
            }
            Event::InitDone => self.finish_list(),
            Event::Apply(object) => {
                let version = version(&object.metadata);
                self.seen = self.seen.max(version);
                self.insert(object, Shown::Version(version)).into_iter().collect()
            }
            Event::Delete(object) => {
                self.seen = self.seen.max(version(&object.metadata));
                self.remove(&Key::of(&object.metadata), Shown::Gone).into_iter().collect()
            }
        }
    }

    /// What vanished while nobody watched is removed, and touches like a deletion.
    fn finish_list(&mut self) -> Vec<Touched> {
        let listed = self.listed.take().unwrap_or_default();
        let vanished: Vec<Key> =
            self.objects.keys().filter(|k| !listed.contains(*k)).cloned().collect();
        let newest = self.objects.values().map(|e| e.resource_version).max().unwrap_or_default();
        self.seen = self.seen.max(newest);
        vanished.iter().filter_map(|key| self.remove(key, Shown::Listed)).collect()
    }

    fn insert(&mut self, object: Object, shown: Shown) -> Option<Touched> {
        let key = self.key(&object.metadata);
        let resource_version = version(&object.metadata);
        if self.objects.get(&key).is_some_and(|old| old.resource_version == resource_version) {
            return None;
        }
        let owners = T::owners(&object);
        let old = self.objects.get(&key).and_then(|old| old.value.as_ref().ok());
        let value = T::read(object, old).map_err(|error| error.to_string());
        let versions = value.as_ref().map(T::versions).unwrap_or_default();
        let new = Box::new(Entry { resource_version, value, owners, versions });
        let mut touched = Touched { key: key.clone(), shown, ..Touched::default() };
        let news = match self.objects.get_mut(&key) {
            Some(old) if old.owners == new.owners && old.versions == new.versions => {
                let news = touched.changed(old, &new);
                *old = new;
                news
            }
            _ => {
                let old = self.take(&key);
                let news = touched.replaced(old.as_deref(), Some(&new));
                link(&mut self.by_owner, &key, &new.owners);
                link(&mut self.by_version, &key, &new.versions);
                self.objects.insert(key, new);
                news
            }
        };
        touched.news = news?;
        Some(touched)
    }

    /// The key of an object, its namespace shared with every other's.
    fn key(&mut self, meta: &ObjectMeta) -> Key {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        if !self.namespaces.contains(namespace) {
            self.namespaces.insert(namespace.into());
        }
        let shared = self.namespaces.get(namespace).cloned().unwrap_or_default();
        Key::new(shared, meta.name.as_deref().unwrap_or_default())
    }

    fn remove(&mut self, key: &Key, shown: Shown) -> Option<Touched> {
        let old = self.take(key)?;
        let mut touched = Touched { key: key.clone(), shown, ..Touched::default() };
        touched.news = touched.replaced(Some(&old), None)?;
        Some(touched)
    }

    fn take(&mut self, key: &Key) -> Option<Box<Entry<T>>> {
        let old = self.objects.remove(key)?;
        unlink(&mut self.by_owner, key, &old.owners);
        unlink(&mut self.by_version, key, &old.versions);
        Some(old)
    }

    /// The object of that name.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Entry<T>> {
        self.objects.get(key).map(AsRef::as_ref)
    }

    /// The object of that name, to change what is kept of it.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Entry<T>> {
        self.objects.get_mut(key).map(AsMut::as_mut)
    }

    /// The objects that belong to a ModelDeployment, by name.
    pub fn of_owner<'a>(
        &'a self,
        owner: &Key,
    ) -> impl Iterator<Item = (&'a str, &'a Entry<T>)> + use<'a, T> {
        self.named(self.by_owner.get_key_value(owner))
    }

    /// The objects that name a ModelVersion, by name.
    pub fn of_version<'a>(
        &'a self,
        version: &Key,
    ) -> impl Iterator<Item = (&'a str, &'a Entry<T>)> + use<'a, T> {
        self.named(self.by_version.get_key_value(version))
    }

    fn named<'a>(
        &'a self,
        found: Option<(&'a Key, &'a Names)>,
    ) -> impl Iterator<Item = (&'a str, &'a Entry<T>)> + use<'a, T> {
        found
            .into_iter()
            .flat_map(|(by, names)| {
                names.iter().map(|name| (&**name, Key::new(by.namespace.clone(), name.clone())))
            })
            .filter_map(|(name, key)| self.get(&key).map(|entry| (name, entry)))
    }

    /// The ModelDeployments that any object belongs to.
    pub fn owners(&self) -> impl Iterator<Item = &Key> {
        self.by_owner.keys()
    }

    /// Every object.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Entry<T>)> {
        self.objects.iter().map(|(key, entry)| (key, entry.as_ref()))
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether a write that was answered with this resourceVersion is in here: the object is that
    /// new, or anything newer was seen.
    #[must_use]
    pub fn shows(&self, key: &Key, resource_version: u64) -> bool {
        self.seen >= resource_version
            || self.objects.get(key).is_some_and(|e| e.resource_version >= resource_version)
    }
}

/// An object's resourceVersion as the integer it is.
#[must_use]
pub fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

fn place(names: &Names, name: &str) -> Result<usize, usize> {
    names.binary_search_by(|have| (**have).cmp(name))
}

fn link(index: &mut HashMap<Key, Names>, key: &Key, names: &[String]) {
    for name in names {
        let of = index
            .entry(Key::new(key.namespace.clone(), name.as_str()))
            .or_insert_with(|| Vec::with_capacity(1));
        if let Err(at) = place(of, &key.name) {
            of.insert(at, key.name.clone());
        }
    }
}

fn unlink(index: &mut HashMap<Key, Names>, key: &Key, names: &[String]) {
    for name in names {
        let by = Key::new(key.namespace.clone(), name.as_str());
        if let Some(of) = index.get_mut(&by) {
            if let Ok(at) = place(of, &key.name) {
                of.remove(at);
            }
            if of.is_empty() {
                index.remove(&by);
            }
        }
    }
}

/// An index that is read and fed from many tasks; no lock is ever held across an await.
pub struct Shared<T>(RwLock<Index<T>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> Shared<T> {
    /// For reading.
    pub fn read(&self) -> RwLockReadGuard<'_, Index<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For feeding.
    pub fn write(&self) -> RwLockWriteGuard<'_, Index<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the watch of one kind is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Not listed yet, and why.
    Waiting(String),
    /// Listed, and watched since.
    Synced,
    /// Forbidden, and not needed.
    Skipped,
}

/// Which kinds are synced; whoever waits is woken by every change (kube's own store wakes one
/// waiter only).
pub struct Readiness(tokio::sync::watch::Sender<BTreeMap<Kind, Sync>>);

impl Readiness {
    /// Nothing is synced yet.
    #[must_use]
    pub fn new(kinds: &[Kind]) -> Self {
        let all = kinds
            .iter()
            .map(|k| (*k, Sync::Waiting("it is being listed for the first time".into())))
            .collect();
        Self(tokio::sync::watch::Sender::new(all))
    }

    /// Says how far the watch of a kind is; true where that is news.
    pub fn set(&self, kind: Kind, now: Sync) -> bool {
        self.0.send_if_modified(|all| {
            let news = all.get(&kind) != Some(&now);
            all.insert(kind, now);
            news
        })
    }

    /// How far the watch of a kind is.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<Sync> {
        self.0.borrow().get(&kind).cloned()
    }

    /// One sentence for each kind that is not synced.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let sentence = |(kind, sync): (&Kind, &Sync)| match sync {
            Sync::Waiting(why) => Some(format!("{} is not ready: {why}.", kind.name())),
            Sync::Synced | Sync::Skipped => None,
        };
        self.0.borrow().iter().filter_map(sentence).collect()
    }

    /// Waits until every kind is synced.
    pub async fn ready(&self) {
        let synced =
            |all: &BTreeMap<Kind, Sync>| all.values().all(|s| !matches!(s, Sync::Waiting(_)));
        // The sender lives as long as self, so this ends only when it is so.
        let _ = self.0.subscribe().wait_for(synced).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        plan::observed::{Pod, Request},
        run::object::sent,
    };

    fn pod(name: &str, of: &str, rv: u64) -> Object {
        pod_that(name, of, rv, &json!({}))
    }

    fn pod_that(name: &str, of: &str, rv: u64, status: &Value) -> Object {
        sent(
            &json!({"metadata": {"namespace": "ml", "name": name, "resourceVersion": rv.to_string(),
            "labels": {"rollmodel.dev/model-deployment": of}}, "status": status}),
        )
    }

    fn names(index: &Index<Pod>, owner: &str) -> Vec<String> {
        index.of_owner(&Key::new("ml", owner)).map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn a_relist_removes_what_vanished_and_touches_its_owner() {
        let mut index = Index::<Pod>::default();
        index.feed(Event::Init);
        index.feed(Event::InitApply(pod("a", "fraud", 1)));
        index.feed(Event::InitApply(pod("b", "churn", 2)));
        assert!(index.feed(Event::InitDone).is_empty());
        index.feed(Event::Init);
        assert!(
            index.feed(Event::InitApply(pod("b", "churn", 2))).is_empty(),
            "what did not change touches nothing"
        );
        let touched = index.feed(Event::InitDone);
        assert_eq!(touched.len(), 1);
        assert!(touched[0].owners.contains("fraud"));
        assert!(names(&index, "fraud").is_empty());
        assert_eq!(names(&index, "churn"), ["b"]);
    }

    #[test]
    fn a_pod_that_comes_and_goes_counts_and_one_in_trouble_may_turn_a_decision() {
        let mut index: Index<Pod> = Index::default();
        let waiting = |rv: u64, reason: &str| {
            let status = json!({"containerStatuses": [{"name": "model", "state": {"waiting": {"reason": reason}}}]});
            Event::Apply(pod_that("a", "fraud", rv, &status))
        };
        let news = |touched: Vec<Touched>| touched[0].news;
        assert_eq!(news(index.feed(Event::Apply(pod("a", "fraud", 1)))), News::Counts);
        assert_eq!(news(index.feed(waiting(2, "ContainerCreating"))), News::Counts);
        assert_eq!(news(index.feed(waiting(3, "ImagePullBackOff"))), News::Turn);
        assert_eq!(
            news(index.feed(Event::Delete(pod("a", "fraud", 4)))),
            News::Turn,
            "its trouble is over"
        );
    }

    #[test]
    fn a_pod_whose_news_nobody_reads_touches_nothing() {
        let mut index: Index<Pod> = Index::default();
        assert_eq!(index.feed(Event::Apply(pod("a", "fraud", 1))).len(), 1);
        assert!(index.feed(Event::Apply(pod("a", "fraud", 2))).is_empty());
        let key = Key::new("ml", "a");
        assert!(index.get(&key).is_some_and(|e| e.resource_version == 2) && index.shows(&key, 2));
    }

    #[test]
    fn an_object_that_changes_its_owner_touches_both() {
        let mut index = Index::<Pod>::default();
        index.feed(Event::Apply(pod("a", "fraud", 1)));
        let touched = index.feed(Event::Apply(pod("a", "churn", 2)));
        assert_eq!(touched[0].owners.len(), 2);
        assert!(names(&index, "fraud").is_empty());
        index.feed(Event::Delete(pod("a", "churn", 3)));
        assert!(index.is_empty() && index.owners().next().is_none());
    }

    #[test]
    fn own_writes_are_shown_by_the_object_by_anything_newer_and_by_its_deletion_but_not_by_half_a_list()
     {
        let mut index = Index::<Pod>::default();
        let key = Key::new("ml", "a");
        index.feed(Event::Init);
        index.feed(Event::InitApply(pod("b", "x", 9)));
        assert!(!index.shows(&key, 5));
        index.feed(Event::InitApply(pod("a", "x", 5)));
        assert!(index.shows(&key, 5));
        index.feed(Event::InitDone);
        index.feed(Event::Delete(pod("a", "x", 12)));
        assert!(index.shows(&key, 11));
        assert!(!index.shows(&key, 13));
    }

    #[test]
    fn what_cannot_be_read_is_unreadable_and_not_absent() {
        let mut index = Index::<Request>::default();
        let object = json!({"metadata": {"namespace": "ml", "name": "r", "resourceVersion": "1"}, "spec": {"modelDeployment": "fraud", "verb": "Dance"}});
        let touched = index.feed(Event::Apply(sent(&object)));
        assert!(touched[0].owners.contains("fraud"));
        assert!(index.of_owner(&Key::new("ml", "fraud")).all(|(_, e)| e.value.is_err()));
    }

    #[tokio::test]
    async fn every_waiter_is_woken_once_all_kinds_are_synced() {
        let readiness = std::sync::Arc::new(Readiness::new(&[Kind::Pod]));
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                tokio::spawn({
                    let r = readiness.clone();
                    async move { r.ready().await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(readiness.missing().len(), 1);
        assert!(readiness.set(Kind::Pod, Sync::Synced));
        assert!(!readiness.set(Kind::Pod, Sync::Synced));
        for waiter in waiters {
            waiter.await.unwrap();
        }
    }
}
