//! What the witness says of pods: which have to stay, which have to answer, and which rollouts can
//! be gone back to.

use std::collections::BTreeSet;

use rollmodel::api::{ModelRolloutSpec, names, rollout::Trigger};
use serde_json::Value;

use super::{cluster::Cluster, others::has_additions, rest::find_port};

/// Healthy pods that have to stay, less those that Kubernetes was about to delete anyway.
#[derive(Clone, Debug)]
pub struct Protection {
    pub property: &'static str,
    pub pods: BTreeSet<String>,
    pub losses_allowed: usize,
}

impl Cluster {
    /// Pods that a person scaled away and that are still there. Kubernetes chooses which go: it
    /// shrinks all active ReplicaSets in proportion, ready or not.
    fn count_scaled_away(&self) -> usize {
        let wanted = self.spec().map_or(0, |s| s.replicas);
        let active = || self.workload.replica_sets.iter().filter(|s| s.replicas > 0);
        let sized_for = active().map(|s| s.desired_replicas).max().unwrap_or(0);
        if sized_for <= wanted {
            return 0;
        }
        let pods: i32 = active().map(|s| s.replicas).sum();
        usize::try_from(pods - wanted).unwrap_or(0)
    }

    pub fn protect_pods(&mut self, record: &ModelRolloutSpec, property: &'static str) {
        let hash16 = names::short_hash(&record.revision_hash);
        let healthy = self.workload.pods.iter().filter(|p| {
            !p.deleting
                && p.state.ready_since.is_some()
                && !has_additions(&p.template.value)
                && p.template.label(names::REVISION) == hash16
                && p.template.annotation(names::RESTARTED_AT) == record.restarted_at.as_deref()
        });
        let pods: BTreeSet<String> = healthy.map(|p| p.name.clone()).collect();
        let set = pods.first().and_then(|name| {
            let pod = self.workload.pods.iter().find(|p| p.name == *name)?;
            self.workload.replica_sets.iter().find(|s| s.name == pod.replica_set)
        });
        let kept = set.map_or(0, |s| usize::try_from(s.replicas).unwrap_or(0));
        let losses_allowed = pods.len().saturating_sub(kept) + self.count_scaled_away();
        self.truth.protected = Some(Protection { property, pods, losses_allowed });
    }

    pub fn witness_tick(&mut self) {
        self.witness_endpoints();
        let Some(protection) = &self.truth.protected else { return };
        let lives =
            |name: &&String| self.workload.pods.iter().any(|p| p.name == **name && !p.deleting);
        let lost = protection.pods.len() - protection.pods.iter().filter(lives).count();
        if lost > protection.losses_allowed {
            let property = protection.property;
            self.truth.protected = None;
            self.violate(property, format!("{lost} healthy pods were replaced"));
        }
    }

    fn witness_endpoints(&mut self) {
        let Some(service) = &self.service else {
            self.truth.had_endpoints = false;
            return;
        };
        let ready: Vec<&super::objects::Pod> = (self.workload.pods.iter())
            .filter(|p| !p.deleting && p.state.ready_since.is_some())
            .collect();
        let port = service.ports.first().cloned().unwrap_or_default();
        let answering = ready.iter().filter(|p| has_port(&p.template.value, &port)).count();
        let cut = self.truth.had_endpoints
            && answering == 0
            && !ready.is_empty()
            && !self.goes_back_to_another_port();
        self.truth.had_endpoints = answering > 0;
        if cut {
            let sentence =
                format!("no pod has the Service's port {port}, and {} are ready", ready.len());
            self.violate("endpoints-never-empty", sentence);
        }
    }

    /// Whether the newest rollout goes back to a port that the pods that it replaces share neither
    /// by name nor by number, as after a re-creation with another port: no Service finds both.
    fn goes_back_to_another_port(&self) -> bool {
        let find_port = |record: &ModelRolloutSpec| {
            let stored = self.revisions.iter().find(|r| r.name == record.revision_name)?;
            find_port(&stored.body.as_ref()?.rendering).cloned()
        };
        let Some(newest) = self.newest_record().filter(|r| r.goes_back()) else { return false };
        let left = self.history().into_iter().find(|r| Some(r.number) == newest.previous_rollout);
        let (Some(new), Some(old)) = (find_port(newest), left.and_then(find_port)) else {
            return false;
        };
        new["name"] != old["name"] && new["containerPort"] != old["containerPort"]
    }

    /// Whether the newest request names its target.
    pub fn names_target(&self) -> bool {
        self.requests.iter().any(|r| r.status.is_none() && r.spec.to_rollout.is_some())
    }

    /// A promoted content within the limit, other than the newest, that nothing forbids.
    pub fn undo_target(&self) -> Option<String> {
        let limit = self.spec()?.history_limit();
        let newest = self.newest_record()?;
        let model = &self.spec()?.model;
        let mut contents: Vec<&str> = Vec::new();
        for record in self.history().into_iter().rev().filter(|r| r.model == *model) {
            if !record.is_promoted() || record.served_from.is_none() {
                continue;
            }
            if !contents.contains(&record.content_hash.as_str()) {
                contents.push(&record.content_hash);
            }
            let within = contents.len() <= limit;
            let failed = self.truth.faulty.contains(&record.version)
                || self.failed_by_a_secret(record)
                || self.truth.rejections.versions.contains(&record.record_digest)
                || self.truth.rejections.left_within_a_version.contains(&record.content_hash);
            let refused = !self.truth.refused_templates.is_empty() || !self.has_template(record);
            if within
                && record.content_hash != newest.content_hash
                && !failed
                && !refused
                && !self.is_yanked(record)
            {
                return Some(record.version.clone());
            }
        }
        None
    }

    /// Whether a record's content was failed after a Secret was rotated: its pods crash like those
    /// of a bad version.
    fn failed_by_a_secret(&self, record: &ModelRolloutSpec) -> bool {
        let rejects = |r: &&ModelRolloutSpec| {
            r.trigger == Trigger::Failed
                && r.rejects.as_ref().is_some_and(|rejects| rejects.key == record.content_hash)
        };
        self.truth.secret_was_rotated && self.history().iter().any(rejects)
    }

    /// Whether the template of a record is stored, or lives on in a ReplicaSet.
    pub fn has_template(&self, record: &ModelRolloutSpec) -> bool {
        let hash16 = names::short_hash(&record.revision_hash);
        let mut sets = self.workload.replica_sets.iter();
        self.revisions.iter().any(|r| r.name == record.revision_name)
            || sets.any(|s| s.template.label(names::REVISION) == hash16)
    }
}

/// Whether two records have the same pods; a restart has others.
pub fn is_same_pods(a: &ModelRolloutSpec, b: &ModelRolloutSpec) -> bool {
    (&a.revision_hash, &a.rendering_digest, &a.restarted_at)
        == (&b.revision_hash, &b.rendering_digest, &b.restarted_at)
}

/// Whether a pod answers at the targetPort of a Service's port, which is one of its protocol.
fn has_port(template: &Value, service: &Value) -> bool {
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    let (target, wanted) = (&service["targetPort"], protocol(service));
    let containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    ports.any(|p| (p["name"] == *target || p["containerPort"] == *target) && protocol(p) == wanted)
}
