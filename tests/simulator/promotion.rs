//! What the witness says of promotions: a rollout is complete, and its version is named and
//! admitted.

use std::collections::BTreeSet;

use rollmodel::api::{ModelRolloutSpec, names};

use super::{
    cluster::Cluster,
    deployment_controller::resolve_limits,
    objects::{Pod, Workload},
};

impl Cluster {
    pub fn witness_amendment(&mut self, name: &str) {
        let find = |r: &&&ModelRolloutSpec| {
            names::record_name(&r.model_deployment_ref.name, r.number) == name
        };
        let Some(record) = self.history().iter().find(find).map(|r| (*r).clone()) else { return };
        let now = Some(super::operator::timestamp(self.now));
        let just_promoted = record.is_promoted() && record.end_time.as_ref().map(|t| t.0) == now;
        if !just_promoted || self.truth.was_stale {
            return;
        }
        self.witness_completeness(&record);
        let spec_version = self.spec().map(|s| s.version.clone()).unwrap_or_default();
        let served_before = (self.history().into_iter().rev())
            .find(|r| r.number < record.number && r.is_promoted())
            .map(|r| (r.content_hash.clone(), r.record_digest.clone()));
        let newly = served_before.as_ref().is_none_or(|(core, _)| *core != record.content_hash);
        // What a person is going back to counts as what serves (rule 2 of docs/design.md).
        let is_returned_to = (self.history().into_iter().rev())
            .take_while(|r| r.number >= record.number || !r.is_promoted())
            .any(|r| r.goes_back() && r.content_hash == record.content_hash);
        let newly = newly && !is_returned_to;
        let forward = !record.goes_back() && newly && !self.faults.older_crds;
        if forward && spec_version != record.version {
            let sentence = format!(
                "rollout {} promoted version {}, and the spec names {spec_version}",
                record.number, record.version
            );
            self.violate("named-when-promoted", sentence);
        }
        let another = served_before.is_none_or(|(_, digest)| digest != record.record_digest);
        if forward && another && self.is_yanked(&record) {
            let sentence = format!("version {} is yanked and was promoted", record.version);
            self.violate("only-admitted-is-newly-served", sentence);
        }
        self.truth.named = BTreeSet::from([spec_version]);
    }

    /// Rule 5 of docs/design.md.
    fn witness_completeness(&mut self, record: &ModelRolloutSpec) {
        let Some(deployment) = &self.workload.deployment else { return };
        let replicas = deployment.spec.replicas - count_prevented(&self.workload, record);
        let (_, max_unavailable) = resolve_limits(deployment);
        let least = (replicas - max_unavailable).max(1);
        let minimum = deployment.spec.min_ready_seconds;
        let own = self.workload.pods.iter().filter(|p| p.is_active() && is_pod_of(p, record));
        let available = own.filter(|p| p.is_available(minimum, self.now)).count();
        let others = self.workload.pods.iter().filter(|p| p.is_active() && !is_pod_of(p, record));
        let (available, others) = (i32::try_from(available).unwrap(), others.count());
        if available < least || others > 0 {
            let sentence = format!(
                "rollout {} was promoted with {available} available pods of {least}, beside \
                 {others} others",
                record.number
            );
            self.violate("promoted-with-available-pods", sentence);
        }
    }
}

fn is_pod_of(pod: &Pod, record: &ModelRolloutSpec) -> bool {
    pod.template.label(names::REVISION) == names::short_hash(&record.revision_hash)
        && pod.template.annotation(names::RESTARTED_AT) == record.restarted_at.as_deref()
}

/// The replicas that no node has room for, or that a quota prevents.
fn count_prevented(workload: &Workload, record: &ModelRolloutSpec) -> i32 {
    let own = || workload.pods.iter().filter(|p| p.is_active() && is_pod_of(p, record));
    let without_node = own().filter(|p| !p.state.scheduled).count();
    let refused = workload.replica_sets.iter().filter(|s| s.failure.is_some());
    let missing = refused.map(|s| {
        let made = workload.pods.iter().filter(|p| p.is_active() && p.replica_set == s.name);
        (s.replicas - i32::try_from(made.count()).unwrap()).max(0)
    });
    i32::try_from(without_node).unwrap() + missing.sum::<i32>()
}
