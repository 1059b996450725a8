//! Versions as the rollouts of a namespace bind them: to a recordDigest, and to the digest of an
//! artifact.

use std::{collections::BTreeSet, sync::Arc};

use super::{Caches, Key};
use crate::{
    api::{ModelRolloutSpec, names},
    plan::observed::{ObservedModelDeployment, Record, Version},
};

impl Caches {
    /// The versions that the spec or a record names, each under its own name, whatever it says it
    /// is.
    pub(super) fn versions(
        &self,
        key: &Key,
        deployment: Option<&ObservedModelDeployment>,
        records: &[Record],
    ) -> Vec<Version> {
        let asked = deployment.map(|d| names::version_name(&d.spec.model, &d.spec.version));
        let named = records.iter().map(|r| names::version_name(&r.spec.model, &r.spec.version));
        let all: BTreeSet<String> = asked.into_iter().chain(named).collect();
        let versions = self.versions.read();
        let find = |name: String| {
            let entry = versions.get(&Key::new(key.namespace.clone(), name))?;
            let version = &entry.value.as_ref().ok()?.version;
            Some(self.bind_version(&key.namespace, version))
        };
        all.into_iter().filter_map(find).collect()
    }

    /// A version with what any rollout in the namespace bound it to: its recordDigest, and the digest
    /// of its artifact, which an erased status must not lose.
    pub(super) fn bind_version(&self, namespace: &str, version: &Version) -> Version {
        let bound_to = self.bound_to(namespace, version);
        let pin = version.pin.clone().or_else(|| self.recorded_pin(namespace, version));
        Version { bound_to, pin, ..version.clone() }
    }

    /// The digest of a version's artifact that the earliest rollout in the namespace recorded.
    fn recorded_pin(&self, namespace: &str, version: &Version) -> Option<String> {
        version.artifact.as_ref()?;
        let pins = |r: &ModelRolloutSpec| {
            r.record_digest == version.record_digest && r.artifact_digest.is_some()
        };
        self.earliest_rollout(namespace, version, pins)?.artifact_digest.clone()
    }

    /// The recordDigest that the earliest rollout in the namespace bound a version to, where it is
    /// another than the version's.
    fn bound_to(&self, namespace: &str, version: &Version) -> Option<String> {
        let is_other = |r: &ModelRolloutSpec| {
            r.model == version.model
                && r.version == version.version
                && r.record_digest != version.record_digest
        };
        Some(self.earliest_rollout(namespace, version, is_other)?.record_digest.clone())
    }

    /// The earliest of those rollouts of a version's name for which `holds` is true.
    fn earliest_rollout(
        &self,
        namespace: &str,
        version: &Version,
        holds: impl Fn(&ModelRolloutSpec) -> bool,
    ) -> Option<Arc<ModelRolloutSpec>> {
        let records = self.records.read();
        records
            .of_version(&Key::new(namespace, version.name.as_str()))
            .filter_map(|(_, entry)| entry.value.as_ref().ok())
            .map(|record| &record.spec)
            .filter(|spec| holds(spec))
            .min_by_key(|spec| spec.start_time.0)
            .cloned()
    }
}
