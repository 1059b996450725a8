//! The observation of the simulated operator, as `src/run/observe.rs` makes it.

use rollmodel::{
    api::names,
    plan::{
        self, Lookup, Observed,
        observed::{
            DeploymentCondition, DeploymentSpec, DeploymentStatus, Memory, Meta,
            ObservedModelDeployment, RefusedWrite, ReplicaSet,
        },
    },
};

use super::{
    api_server::read_controller,
    cluster::{Cluster, NAME},
    kubelet::observe_pod,
    operator::{StaleKind, timestamp},
    others::read_foreign_fields,
};

impl Cluster {
    /// Everything that the operator sees, with what its memory holds.
    pub fn observe(&self, looked_up: &[Lookup]) -> Observed {
        let now = self.now;
        let memory = Memory {
            refused: (self.operator.refused.iter())
                .map(|r| RefusedWrite { due: r.until <= now, ..r.what.clone() })
                .collect(),
            came_back: self.operator.came_back.clone(),
            desired: self.operator.desired.clone(),
            unneeded_since: (self.operator.unneeded_since.iter())
                .map(|(name, at)| (name.clone(), timestamp(*at)))
                .collect(),
            replica_sets: self.observe_replica_sets(looked_up),
            status_written: self.operator.status_written.map(timestamp),
            looked_up: looked_up.to_vec(),
            crds_older: self.faults.older_crds,
            requesters_verified: true,
            fetch_image: Some("registry.example.com/rollmodel:1".into()),
            ..Memory::default()
        };
        let mut observed = Observed {
            namespace: "risk".into(),
            name: NAME.into(),
            model_deployment: self.model_deployment.as_ref().map(|d| ObservedModelDeployment {
                uid: d.uid.clone(),
                generation: d.generation,
                deleting: false,
                spec: d.spec.clone().into(),
                status: d.status.clone(),
            }),
            versions: self.observe_versions(),
            records: self.records.clone(),
            revisions: self.revisions.clone(),
            tracks: self
                .observe_deployment()
                .map(|d| (names::TRACK_MAIN.into(), d))
                .into_iter()
                .collect(),
            service: self.service.clone(),
            pods: self.workload.pods.iter().map(observe_pod).collect(),
            requests: self.requests.clone(),
            autoscalers: self.observe_autoscalers(),
            memory,
            ..Observed::default()
        };
        if let Some(stale) = self.operator.stale.as_deref().filter(|_| looked_up.is_empty()) {
            show_stale(&mut observed, stale);
        }
        observed
    }

    fn observe_replica_sets(&self, looked_up: &[Lookup]) -> Vec<ReplicaSet> {
        if !looked_up.contains(&Lookup::ReplicaSets) {
            return Vec::new();
        }
        let sets = self.workload.replica_sets.iter();
        let read = |s: &super::objects::ReplicaSet| ReplicaSet {
            name: s.name.clone(),
            template: (*s.template.value).clone(),
            ..ReplicaSet::default()
        };
        sets.map(read).collect()
    }

    fn observe_versions(&self) -> Vec<plan::observed::Version> {
        let mut versions = self.versions.clone();
        for version in &mut versions {
            if self.faults.older_crds {
                // A field that the older CRD prunes is missing from the digest.
                version.record_digest = format!("sha256:{:f>64}", version.version);
            }
            let others = self.records.iter().map(|r| &r.spec).filter(|r| {
                (&r.model, &r.version) == (&version.model, &version.version)
                    && r.record_digest != version.record_digest
            });
            let pinned = self.records.iter().map(|r| &r.spec).find(|r| {
                (&r.model, &r.version) == (&version.model, &version.version)
                    && r.record_digest == version.record_digest
                    && r.artifact_digest.is_some()
            });
            let recorded = || pinned.and_then(|r| r.artifact_digest.clone());
            version.pin = version.pin.take().or_else(recorded);
            version.bound_to = others.min_by_key(|r| r.number).map(|r| r.record_digest.clone());
        }
        versions
    }

    fn observe_deployment(&self) -> Option<plan::observed::Deployment> {
        let (body, deployment) = (self.deployment.as_deref()?, self.workload.deployment.as_ref()?);
        let meta = &body["metadata"];
        let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
        let map = |field: &str| serde_json::from_value(meta[field].clone()).unwrap_or_default();
        let (spec, status) = (&deployment.spec, &deployment.status);
        Some(plan::observed::Deployment {
            meta: Meta {
                name: text("name"),
                uid: text("uid"),
                resource_version: text("resourceVersion"),
                labels: map("labels"),
                annotations: map("annotations"),
                has_annotations: meta["annotations"].is_object(),
                controller: read_controller(&meta["ownerReferences"]),
                deleting: false,
            },
            generation: deployment.generation,
            spec: DeploymentSpec {
                replicas: spec.replicas,
                paused: spec.paused,
                selector: serde_json::from_value(body["spec"]["selector"]["matchLabels"].clone())
                    .unwrap_or_default(),
                strategy: body["spec"]["strategy"].clone(),
                min_ready_seconds: spec.min_ready_seconds,
                progress_deadline_seconds: spec.progress_deadline_seconds,
                revision_history_limit: spec.revision_history_limit,
                template: spec.template.value.clone(),
            },
            foreign: read_foreign_fields(body),
            status: DeploymentStatus {
                observed_generation: status.observed_generation,
                replicas: status.replicas,
                updated_replicas: status.updated_replicas,
                ready_replicas: status.ready_replicas,
                available_replicas: status.available_replicas,
                conditions: observe_conditions(status),
            },
        })
    }
}

fn observe_conditions(status: &super::objects::DeploymentStatus) -> Vec<DeploymentCondition> {
    let all = [
        ("Available", &status.available),
        ("Progressing", &status.progressing),
        ("ReplicaFailure", &status.replica_failure),
    ];
    let shown = all.into_iter().filter_map(|(type_, condition)| {
        let condition = condition.as_ref()?;
        Some(DeploymentCondition {
            type_: type_.into(),
            status: condition.status.into(),
            reason: condition.reason.into(),
            message: condition.message.clone(),
        })
    });
    shown.collect()
}

fn show_stale(observed: &mut Observed, (kind, past): &(StaleKind, Observed)) {
    match kind {
        StaleKind::ModelDeployment => observed.model_deployment.clone_from(&past.model_deployment),
        StaleKind::Records => observed.records.clone_from(&past.records),
        StaleKind::Deployment => observed.tracks.clone_from(&past.tracks),
        StaleKind::Pods => observed.pods.clone_from(&past.pods),
        StaleKind::Versions => observed.versions.clone_from(&past.versions),
    }
}
