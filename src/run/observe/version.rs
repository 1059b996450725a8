//! From the caches to what is planned about a ModelVersion.

use super::Caches;
use crate::{
    api::version::{Role, UsedBy},
    plan::observed::{Job, ObservedVersion, Version},
    run::{cache::Entry, kinds::Key, wanted::WantedEntry},
};

impl Caches {
    /// Everything that is known about one ModelVersion; None when there is none.
    #[must_use]
    pub fn observe_version(&self, key: &Key) -> Option<ObservedVersion> {
        let versions = self.versions.read();
        let entry = versions.get(key)?.value.as_ref().ok()?;
        Some(ObservedVersion {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid: entry.uid.clone(),
            generation: entry.generation,
            asked: entry.asked.clone(),
            status: entry.status.as_ref().and_then(|status| status.unpack().ok()),
            facts: self.bind_version(&key.namespace, &entry.version),
            used_by: self.used_by(key, &entry.version),
            crds_older: self.crds_older(),
            image_digest: self.image_digest(key, &entry.version),
            // One that cannot be read verifies nothing; rollouts say so.
            policy: self.policy(&key.namespace).ok().flatten(),
            jobs: self.jobs(key, &entry.uid),
            ..ObservedVersion::default()
        })
    }

    /// The verification Jobs of a version.
    fn jobs(&self, key: &Key, uid: &str) -> Vec<Job> {
        let jobs = self.jobs.read();
        let entries = jobs.of_version(key).filter_map(|(_, entry)| entry.value.as_ref().ok());
        entries.filter(|entry| entry.owner == uid).map(|entry| entry.job.clone()).collect()
    }

    /// The digest of a version's image that pods of its first rollout really ran, where its record
    /// names the image by a tag.
    fn image_digest(&self, key: &Key, version: &Version) -> Option<String> {
        let image = version.image.as_deref().filter(|image| !image.contains('@'))?;
        let records = self.records.read();
        let ours = records.of_version(key).filter_map(|(_, entry)| entry.value.as_ref().ok());
        let first = ours
            .filter(|r| !r.spec.observed_images.is_empty())
            .min_by_key(|r| r.spec.start_time.0)?;
        first.spec.observed_images.iter().find_map(|ran| {
            let (name, digest) = ran.split_once('@')?;
            (repository(name) == repository(image)
                && digest.starts_with("sha256:")
                && digest.len() == 71)
                .then(|| digest.to_owned())
        })
    }

    fn used_by(&self, key: &Key, version: &Version) -> Vec<UsedBy> {
        let wanted = self.wanted.read();
        let serves = |(name, entry): (&str, &Entry<WantedEntry>)| {
            let entry = entry.value.as_ref().ok()?;
            let serving = entry
                .serving
                .as_ref()
                .filter(|s| entry.model() == version.model && s.version == version.version)?;
            Some(UsedBy {
                model_deployment: name.to_owned(),
                role: Role::Serving,
                rollout: serving.rollout,
                since: serving.since.clone(),
            })
        };
        wanted.of_version(key).filter_map(serves).collect()
    }
}

/// An image's name without scheme and tag.
fn repository(image: &str) -> &str {
    let image = image.split_once("://").map_or(image, |(_, rest)| rest);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_same_repository_whatever_its_tag_or_scheme() {
        for image in [
            "registry.example.com:5000/a/fraud",
            "registry.example.com:5000/a/fraud:7",
            "docker-pullable://registry.example.com:5000/a/fraud:8",
        ] {
            assert_eq!(repository(image), "registry.example.com:5000/a/fraud");
        }
    }
}
