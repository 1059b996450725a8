//! From the caches to what the planner sees: reads of memory only.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    api::{ModelDeploymentSpec, names},
    plan::{
        Lookup, Observed,
        observed::{
            AdmissionPolicies, Deployment, Memory, ObservedModelDeployment, Pod, Policy, Record,
            ReplicaSet, Request, RevisionBody, Service, StoredRevision,
        },
    },
};

use super::{
    cache::{Entry, Readiness, Shared, Touched},
    kinds::{KINDS, Key, Kind, Watched},
    memory::{Left, Write, lock},
    recent::{Recent, Shareable},
    reduced::{Autoscaler, ContentEntry, Schema, ServiceEntry, VersionEntry},
    registries::RegistryEntry,
    verification::JobEntry,
    wanted::WantedEntry,
    workload::WorkloadEntry,
};

mod binding;
mod version;

/// Every cache.
pub struct Caches {
    /// ModelDeployments.
    pub wanted: Shared<WantedEntry>,
    /// Specs of them that were read lately.
    pub recent_specs: Recent<ModelDeploymentSpec>,
    /// ModelVersions.
    pub versions: Shared<VersionEntry>,
    /// ModelRollouts.
    pub records: Shared<Record>,
    /// RolloutRequests.
    pub requests: Shared<Request>,
    /// ModelPolicies.
    pub policies: Shared<Policy>,
    /// ModelRegistries.
    pub registries: Shared<RegistryEntry>,
    /// ControllerRevisions.
    pub contents: Shared<ContentEntry>,
    /// Bodies of them that were read lately.
    pub recent_bodies: Recent<RevisionBody>,
    /// Deployments.
    pub workloads: Shared<WorkloadEntry>,
    /// Those of them that were read lately.
    pub recent_workloads: Recent<Deployment>,
    /// Services.
    pub services: Shared<ServiceEntry>,
    /// Pods.
    pub pods: Shared<Pod>,
    /// Verification Jobs.
    pub jobs: Shared<JobEntry>,
    /// HorizontalPodAutoscalers.
    pub autoscalers: Shared<Autoscaler>,
    /// CustomResourceDefinitions.
    pub schemas: Shared<Schema>,
    /// Which of them are synced.
    pub readiness: Readiness,
    /// The minor version of Kubernetes 1 that the API server told; 0 until it did.
    pub kubernetes: AtomicU32,
    /// State of the shipped admission policies; None until they were read.
    pub admission: Mutex<Option<AdmissionPolicies>>,
    /// Whether the bodies of all contents are kept, as a dump needs them.
    pub keep_bodies: bool,
}

impl Default for Caches {
    fn default() -> Self {
        Self {
            wanted: Shared::default(),
            recent_specs: Recent::default(),
            versions: Shared::default(),
            records: Shared::default(),
            requests: Shared::default(),
            policies: Shared::default(),
            registries: Shared::default(),
            contents: Shared::default(),
            recent_bodies: Recent::default(),
            workloads: Shared::default(),
            recent_workloads: Recent::default(),
            services: Shared::default(),
            pods: Shared::default(),
            jobs: Shared::default(),
            autoscalers: Shared::default(),
            schemas: Shared::default(),
            readiness: Readiness::new(&KINDS),
            kubernetes: AtomicU32::new(0),
            admission: Mutex::default(),
            keep_bodies: false,
        }
    }
}

/// What was read past the caches in one pass, and takes precedence over them.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What was looked up, also what turned out to be absent.
    pub looked_up: Vec<Lookup>,
    /// Contents by name; None: there is none.
    pub contents: BTreeMap<String, Option<StoredRevision>>,
    /// Every record.
    pub records: Option<Vec<Record>>,
    /// The ReplicaSets of the Deployment.
    pub replica_sets: Option<Vec<ReplicaSet>>,
    /// The Deployment.
    pub workload: Option<Deployment>,
    /// The Service.
    pub service: Option<Service>,
}

/// Something that is needed cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "read {kind} {key} from the cache: {why}; nothing is done about what it belongs to until this operator can read it (is it older than the CRDs?)"
)]
pub struct Unreadable {
    kind: &'static str,
    key: Key,
    why: String,
}

impl Caches {
    /// Everything that is known about one ModelDeployment name.
    ///
    /// # Errors
    /// When an object of it cannot be read by this build.
    pub fn observe(
        &self,
        key: &Key,
        found: &Found,
        memory: Memory,
    ) -> Result<Observed, Unreadable> {
        let deployment = self.deployment(key)?;
        let records = match &found.records {
            Some(records) => records.clone(),
            None => owned(&self.records, key, |_, record| Ok(record.clone()))?,
        };
        Ok(Observed {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            versions: self.versions(key, deployment.as_ref(), &records),
            revisions: self.contents(key, &records, found)?,
            tracks: self.tracks(key, found)?,
            service: found.service.clone().map_or_else(|| self.service(key), |s| Ok(Some(s)))?,
            pods: owned(&self.pods, key, |_, pod| Ok(pod.clone()))?,
            requests: owned(&self.requests, key, |_, request| Ok(request.clone()))?,
            autoscalers: owned(&self.autoscalers, key, |name, _| Ok(name.to_owned()))?,
            policy: self.policy(&key.namespace)?,
            memory: Memory {
                crds_older: self.crds_older(),
                admission_policies: lock(&self.admission).clone(),
                looked_up: found.looked_up.clone(),
                replica_sets: found.replica_sets.clone().unwrap_or_default(),
                kubernetes: Some(self.kubernetes.load(Ordering::Relaxed))
                    .filter(|minor| *minor > 0),
                ..memory
            },
            model_deployment: deployment,
            records,
        })
    }

    fn deployment(&self, key: &Key) -> Result<Option<ObservedModelDeployment>, Unreadable> {
        self.wanted
            .read()
            .get(key)
            .map(|entry| readable::<WantedEntry, _>(key, entry, |e| e.unpack(&self.recent_specs)))
            .transpose()
    }

    /// The tracks of a name: today the one whose Deployment has that name.
    fn tracks(&self, key: &Key, found: &Found) -> Result<BTreeMap<String, Deployment>, Unreadable> {
        let deployment = match &found.workload {
            Some(deployment) => Some(deployment.clone()),
            None => self.workload(key)?,
        };
        let track = names::TRACK_MAIN.to_owned();
        Ok(deployment.map(|deployment| (track, deployment)).into_iter().collect())
    }

    /// The Deployment of that name.
    pub(super) fn workload(&self, key: &Key) -> Result<Option<Deployment>, Unreadable> {
        self.workloads
            .read()
            .get(key)
            .map(|entry| {
                readable::<WorkloadEntry, _>(key, entry, |e| e.unpack(&self.recent_workloads))
            })
            .transpose()
    }

    /// The uid of the Deployment of that name, where it is cached.
    #[must_use]
    pub fn find_deployment_uid(&self, key: &Key) -> Option<String> {
        Some(self.workload(key).ok()??.meta.uid)
    }

    /// The ModelPolicy of a namespace.
    fn policy(&self, namespace: &Arc<str>) -> Result<Option<Policy>, Unreadable> {
        let key = Key::new(namespace.clone(), names::POLICY);
        self.policies
            .read()
            .get(&key)
            .map(|entry| readable::<Policy, _>(&key, entry, |policy| Ok(policy.clone())))
            .transpose()
    }

    fn service(&self, key: &Key) -> Result<Option<Service>, Unreadable> {
        self.services
            .read()
            .get(key)
            .map(|entry| readable::<ServiceEntry, _>(key, entry, |e| e.0.unpack()))
            .transpose()
    }

    fn contents(
        &self,
        key: &Key,
        records: &[Record],
        found: &Found,
    ) -> Result<Vec<StoredRevision>, Unreadable> {
        if !self.keep_bodies {
            self.drop_bodies(key, records);
        }
        let mut contents = owned(&self.contents, key, |name, entry| {
            let body =
                entry.body.as_ref().map(|body| self.recent_bodies.unpack(body)).transpose()?;
            Ok(StoredRevision {
                name: name.to_owned(),
                uid: entry.uid.clone(),
                resource_version: entry.resource_version.clone(),
                rendering_digest: Some(entry.rendering_digest.clone()),
                body,
            })
        })?;
        contents.retain(|c| !found.contents.contains_key(&c.name));
        contents.extend(found.contents.values().flatten().cloned());
        Ok(contents)
    }

    /// Drops the bodies of contents that neither what serves nor the newest record needs; one that
    /// no record names yet is new, and kept.
    fn drop_bodies(&self, key: &Key, records: &[Record]) {
        let newest = records.iter().max_by_key(|r| r.spec.number);
        let serving =
            records.iter().filter(|r| r.spec.served_from.is_some()).max_by_key(|r| r.spec.number);
        let kept = |name: &str| {
            [newest, serving].into_iter().flatten().any(|r| r.spec.revision_name == name)
        };
        let idle = |name: &str| !kept(name) && records.iter().any(|r| r.spec.revision_name == name);
        let has_body =
            |entry: &Entry<ContentEntry>| entry.value.as_ref().is_ok_and(|e| e.body.is_some());
        let drop: Vec<Key> = (self.contents.read().of_owner(key))
            .filter(|(name, entry)| has_body(entry) && idle(name))
            .map(|(name, _)| Key::new(key.namespace.clone(), name))
            .collect();
        if drop.is_empty() {
            return;
        }
        let mut index = self.contents.write();
        for name in drop {
            if let Some(Ok(entry)) = index.get_mut(&name).map(|e| e.value.as_mut()) {
                entry.body = None;
            }
        }
    }

    /// Keeps a body that was looked up, so that it is not asked for again.
    pub fn keep_body(&self, key: &Key, body: &RevisionBody) {
        if let Some(Ok(entry)) = self.contents.write().get_mut(key).map(|e| e.value.as_mut()) {
            entry.body = Shareable::pack(body).ok();
        }
    }

    /// Whether a CRD that is served is older than this build.
    #[must_use]
    pub fn crds_older(&self) -> bool {
        self.schemas
            .read()
            .all()
            .any(|(_, e)| e.value.as_ref().is_ok_and(|s| s.level < names::SCHEMA_LEVEL_NOW))
    }

    /// The schema of a kind of ours, where the CRD that is served is older than this build.
    #[must_use]
    pub fn find_older_schema(&self, kind: Kind) -> Option<Arc<serde_json::Value>> {
        let resource = kind.resource();
        let name = format!("{}.{}", resource.plural, resource.group);
        let schemas = self.schemas.read();
        schemas.get(&Key::new("", name))?.value.as_ref().ok()?.older.clone()
    }

    /// One sentence for each CRD that is older than this build.
    #[must_use]
    pub fn older(&self) -> Vec<String> {
        let sentence = |(key, entry): (&Key, &Entry<Schema>)| {
            let level = entry
                .value
                .as_ref()
                .ok()
                .map(|s| s.level)
                .filter(|l| *l < names::SCHEMA_LEVEL_NOW)?;
            Some(format!(
                "CRD {} is older than this operator (schema level {level}, needed {}): apply crds/; until then no rollout begins.",
                key.name,
                names::SCHEMA_LEVEL_NOW
            ))
        };
        self.schemas.read().all().filter_map(sentence).collect()
    }

    /// Every ModelDeployment name that there is anything to plan for: the object, or what it left.
    #[must_use]
    pub fn names(&self) -> BTreeSet<Key> {
        let mut all: BTreeSet<Key> = self.wanted.read().owners().cloned().collect();
        all.extend(self.records.read().owners().cloned());
        all.extend(self.contents.read().owners().cloned());
        all.extend(self.requests.read().owners().cloned());
        all
    }

    /// As [`Caches::names`], of one namespace.
    #[must_use]
    pub fn names_in(&self, namespace: &str) -> Vec<Key> {
        let here = |key: &&Key| &*key.namespace == namespace;
        let mut all: BTreeSet<Key> = self.wanted.read().owners().filter(here).cloned().collect();
        all.extend(self.records.read().owners().filter(here).cloned());
        all.extend(self.contents.read().owners().filter(here).cloned());
        all.extend(self.requests.read().owners().filter(here).cloned());
        all.into_iter().collect()
    }

    /// Every ModelVersion of one namespace.
    #[must_use]
    pub fn version_names_in(&self, namespace: &str) -> Vec<Key> {
        self.versions
            .read()
            .all()
            .map(|(key, _)| key)
            .filter(|key| &*key.namespace == namespace)
            .cloned()
            .collect()
    }

    /// Every ModelVersion.
    #[must_use]
    pub fn version_names(&self) -> Vec<Key> {
        self.versions.read().all().map(|(key, _)| key.clone()).collect()
    }

    /// The ModelDeployments to plan after a ModelVersion changed: who asks for it, and who has
    /// rolled it out.
    #[must_use]
    pub fn touched_by_versions(&self, touched: &Touched) -> BTreeSet<Key> {
        let mut all = BTreeSet::new();
        let beside = |name: &str| Key::new(touched.key.namespace.clone(), name);
        for name in &touched.versions {
            let key = beside(name);
            all.extend(self.wanted.read().of_version(&key).map(|(name, _)| beside(name)));
            let records = self.records.read();
            let owners = records
                .of_version(&key)
                .filter_map(|(_, e)| e.value.as_ref().ok())
                .map(|r| r.spec.model_deployment_ref.name.as_str());
            all.extend(owners.map(beside));
        }
        all
    }

    /// Whether the caches show a write of ours.
    #[must_use]
    pub fn shows(&self, namespace: &str, write: &Write) -> bool {
        let key = Key::new(namespace, write.name.as_str());
        match write.kind {
            Kind::ModelDeployment => shows(&self.wanted, &key, &write.left, |_| ""),
            Kind::ModelVersion => shows(&self.versions, &key, &write.left, |v| &v.uid),
            Kind::ModelRollout => shows(&self.records, &key, &write.left, |r| &r.uid),
            Kind::RolloutRequest => shows(&self.requests, &key, &write.left, |r| &r.uid),
            Kind::Job => shows(&self.jobs, &key, &write.left, |j| &j.job.uid),
            Kind::ControllerRevision => shows(&self.contents, &key, &write.left, |c| &c.uid),
            Kind::Deployment => shows(&self.workloads, &key, &write.left, |_| ""),
            Kind::Service => shows(&self.services, &key, &write.left, |_| ""),
            Kind::ModelRegistry => shows(&self.registries, &key, &write.left, |_| ""),
            Kind::ModelPolicy
            | Kind::Pod
            | Kind::HorizontalPodAutoscaler
            | Kind::CustomResourceDefinition => true,
        }
    }

    /// How many objects of each kind are cached.
    #[must_use]
    pub fn sizes(&self) -> [(Kind, usize); 13] {
        [
            (Kind::ModelDeployment, self.wanted.read().len()),
            (Kind::ModelVersion, self.versions.read().len()),
            (Kind::ModelRollout, self.records.read().len()),
            (Kind::RolloutRequest, self.requests.read().len()),
            (Kind::ModelPolicy, self.policies.read().len()),
            (Kind::ModelRegistry, self.registries.read().len()),
            (Kind::ControllerRevision, self.contents.read().len()),
            (Kind::Deployment, self.workloads.read().len()),
            (Kind::Service, self.services.read().len()),
            (Kind::Pod, self.pods.read().len()),
            (Kind::Job, self.jobs.read().len()),
            (Kind::HorizontalPodAutoscaler, self.autoscalers.read().len()),
            (Kind::CustomResourceDefinition, self.schemas.read().len()),
        ]
    }
}

fn shows<T: Watched>(cache: &Shared<T>, key: &Key, left: &Left, uid: impl Fn(&T) -> &str) -> bool {
    let index = cache.read();
    match left {
        Left::Version(version) => index.shows(key, *version),
        Left::Gone(gone) => {
            index.get(key).is_none_or(|e| e.value.as_ref().is_ok_and(|v| uid(v) != gone))
        }
    }
}

/// What is made of every object of a kind that belongs to `key`, by name.
fn owned<T: Watched, U>(
    cache: &Shared<T>,
    key: &Key,
    make: impl Fn(&str, &T) -> Result<U, serde_json::Error>,
) -> Result<Vec<U>, Unreadable> {
    let index = cache.read();
    index
        .of_owner(key)
        .map(|(name, entry)| {
            readable::<T, U>(&Key::new(key.namespace.clone(), name), entry, |v| make(name, v))
        })
        .collect()
}

fn readable<T: Watched, U>(
    key: &Key,
    entry: &Entry<T>,
    make: impl FnOnce(&T) -> Result<U, serde_json::Error>,
) -> Result<U, Unreadable> {
    let unreadable = |why: String| Unreadable { kind: T::KIND.name(), key: key.clone(), why };
    let value = entry.value.as_ref().map_err(|why| unreadable(why.clone()))?;
    make(value).map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod tests;
