//! What is kept of a serving Deployment.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde::Deserialize;
use serde_json::Value;

use super::{
    kinds::{Kind, News, Watched},
    memory::hash,
    object::Object,
    recent::{Recent, Shareable},
    reduced::{meta, name_and_label},
};
use crate::{
    api::names,
    plan::{
        drift::foreign_paths,
        facts::health::RolloutSignals,
        observed::{Deployment, DeploymentSpec, DeploymentStatus},
    },
};

/// The annotation in which Kubernetes counts the templates of a Deployment; it changes alone after
/// each of them.
const NUMBER: &str = "deployment.kubernetes.io/revision";

/// The Deployment of a ModelDeployment, in two parts: its status changes often, and the rest
/// seldom.
pub struct WorkloadEntry {
    written: Arc<Written>,
    status: DeploymentStatus,
    resource_version: String,
    /// What its status says, less the numbers.
    turn: RolloutSignals,
}

/// All of a Deployment but its status and its resourceVersion.
struct Written {
    generation: i64,
    meta: u64,
    workload: Shareable<Deployment>,
    hash: u64,
}

impl WorkloadEntry {
    /// All of it.
    ///
    /// # Errors
    /// When what was packed does not come out again.
    pub fn unpack(&self, recent: &Recent<Deployment>) -> Result<Deployment, serde_json::Error> {
        let mut workload = Deployment::clone(&*recent.unpack(&self.written.workload)?);
        workload.status.clone_from(&self.status);
        workload.meta.resource_version.clone_from(&self.resource_version);
        Ok(workload)
    }
}

impl Watched for WorkloadEntry {
    const KIND: Kind = Kind::Deployment;

    fn read(mut object: Object, old: Option<&Self>) -> Result<Self, serde_json::Error> {
        let resource_version = object.metadata.resource_version.take().unwrap_or_default();
        let sketch = sketch(&mut object)?;
        let metadata = &object.metadata;
        let owners = metadata.owner_references.iter().flatten();
        let annotations = metadata.annotations.iter().flatten();
        let meta = hash(&(
            &metadata.uid,
            &metadata.labels,
            metadata.annotations.as_ref().is_none_or(BTreeMap::is_empty),
            annotations.filter(|(name, _)| *name != NUMBER).collect::<Vec<_>>(),
            owners.map(|o| (&o.uid, &o.kind, &o.name, o.controller)).collect::<Vec<_>>(),
            metadata.deletion_timestamp.is_some(),
        ));
        // A Deployment's generation counts every change of its spec.
        let unchanged = old
            .filter(|old| old.written.generation == sketch.generation && old.written.meta == meta);
        let written = match unchanged {
            Some(old) => old.written.clone(),
            None => {
                let workload = Shareable::pack(&read_workload(object)?)?;
                Arc::new(Written {
                    generation: sketch.generation,
                    meta,
                    hash: workload.hash(),
                    workload,
                })
            }
        };
        Ok(Self {
            written,
            turn: RolloutSignals::new(&sketch),
            status: sketch.status,
            resource_version,
        })
    }

    fn news(old: Option<&Self>, new: Option<&Self>) -> Option<News> {
        let turns = match (old, new) {
            (Some(old), Some(new)) => old.written.hash != new.written.hash || old.turn != new.turn,
            _ => true,
        };
        Some(if turns { News::Turn } else { News::Counts })
    }

    fn owners(object: &Object) -> Vec<String> {
        name_and_label(&object.metadata)
    }
}

/// A Deployment's status, which is taken out of it, and what of its spec a status is measured by.
fn sketch(object: &mut Object) -> Result<Deployment, serde_json::Error> {
    let Sketch { replicas, strategy } = object.spec.read()?.unwrap_or_default();
    let spec = DeploymentSpec { replicas, strategy, ..DeploymentSpec::default() };
    let status = std::mem::take(&mut object.status).read()?.unwrap_or_default();
    Ok(Deployment {
        generation: object.metadata.generation.unwrap_or_default(),
        spec,
        status,
        ..Deployment::default()
    })
}

/// What of a spec a status is measured by.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Sketch {
    replicas: i32,
    strategy: Value,
}

/// What of a spec is kept, as it is sent.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    replicas: i32,
    paused: bool,
    selector: Selector,
    strategy: Value,
    min_ready_seconds: i32,
    progress_deadline_seconds: i32,
    revision_history_limit: i32,
    template: Arc<Value>,
}

/// A selector; one with expressions is none of ours, which is told by its being empty.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
    match_expressions: Value,
}

/// What is observed of a Deployment.
///
/// # Errors
/// When it is not one.
pub fn read_workload(object: Object) -> Result<Deployment, serde_json::Error> {
    let foreign = foreign_paths(
        &object.managed_fields.or_default::<Vec<ManagedFieldsEntry>>(),
        names::MANAGER,
    );
    let spec: Spec = object.spec.read()?.unwrap_or_default();
    let has_expressions = !spec.selector.match_expressions.is_null();
    let selector = if has_expressions { BTreeMap::new() } else { spec.selector.match_labels };
    Ok(Deployment {
        generation: object.metadata.generation.unwrap_or_default(),
        spec: DeploymentSpec {
            replicas: spec.replicas,
            paused: spec.paused,
            selector,
            strategy: spec.strategy,
            min_ready_seconds: spec.min_ready_seconds,
            progress_deadline_seconds: spec.progress_deadline_seconds,
            revision_history_limit: spec.revision_history_limit,
            template: spec.template,
        },
        foreign,
        status: object.status.read()?.unwrap_or_default(),
        meta: meta(object.metadata),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::object::sent;

    #[test]
    fn a_deployment_is_reduced_and_survives_packing() {
        let object = sent(&json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "fraud", "uid": "u", "generation": 3, "resourceVersion": "9",
                "annotations": {"kubernetes.io/change-cause": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "ModelDeployment", "name": "fraud", "uid": "o", "controller": true}]},
            "spec": {"replicas": 2, "paused": true, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"type": "RollingUpdate"},
                "minReadySeconds": 5, "template": {"spec": {"containers": []}}},
            "status": {"observedGeneration": 3, "updatedReplicas": 1,
                "conditions": [{"type": "Progressing", "status": "True", "reason": "R", "message": "M", "lastUpdateTime": "2026-01-01T00:00:00Z"}]}}));
        let workload =
            WorkloadEntry::read(object, None).unwrap().unpack(&Recent::default()).unwrap();
        assert_eq!(
            (workload.spec.replicas, workload.spec.paused, workload.generation),
            (2, true, 3)
        );
        assert_eq!(workload.spec.selector["a"], "b");
        assert_eq!(workload.meta.annotations.len(), 1);
        assert_eq!(workload.meta.controller.unwrap().uid, "o");
        assert_eq!(workload.status.conditions[0].reason, "R");
    }

    #[test]
    fn numbers_that_come_and_go_with_pods_are_no_turn_and_everything_else_is() {
        let object = |generation: i64, owner: &str, updated: i32, available: i32| {
            sent(
                &json!({"metadata": {"name": "fraud", "generation": generation, "labels": {"rollmodel.dev/decision": owner},
                    "annotations": {"kubernetes.io/change-cause": "rollout 1"}},
                "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": format!("g{generation}")}]}},
                    "strategy": {"rollingUpdate": {"maxUnavailable": 1}}},
                "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": updated, "availableReplicas": available}}),
            )
        };
        let old = WorkloadEntry::read(object(1, "a", 1, 3), None).unwrap();
        let news = |new: Object| {
            WorkloadEntry::news(Some(&old), Some(&WorkloadEntry::read(new, Some(&old)).unwrap()))
        };
        assert_eq!(news(object(1, "a", 2, 2)), Some(News::Counts));
        assert_eq!(news(object(1, "a", 3, 3)), Some(News::Turn), "it is complete");
        assert_eq!(
            news(object(1, "a", 1, 1)),
            Some(News::Turn),
            "fewer are available than its strategy asks for"
        );
        assert_eq!(news(object(1, "b", 1, 3)), Some(News::Turn), "a label changed");
        assert_eq!(news(object(2, "a", 1, 3)), Some(News::Turn), "its spec changed");
        assert_eq!(WorkloadEntry::news(Some(&old), None), Some(News::Turn));
        let mut numbered = object(1, "a", 2, 2);
        let number = (NUMBER.into(), "2".into());
        numbered.metadata.annotations.as_mut().unwrap().extend([number]);
        assert_eq!(
            news(numbered),
            Some(News::Counts),
            "Kubernetes' own annotation beside them says nothing more"
        );
    }

    #[test]
    fn a_status_that_changes_alone_is_read_with_what_was_read_before() {
        let object = |replicas: i32| {
            sent(&json!({"metadata": {"name": "fraud", "generation": 1,
                    "resourceVersion": replicas.to_string(), "annotations": {"a": "b"}},
                "spec": {"replicas": 2, "template": {"x": 1}}, "status": {"replicas": replicas}}))
        };
        let old = WorkloadEntry::read(object(1), None).unwrap();
        let new = WorkloadEntry::read(object(2), Some(&old)).unwrap();
        assert!(Arc::ptr_eq(&old.written, &new.written));
        let mut numbered = object(2);
        let number = [(NUMBER.to_owned(), "2".to_owned())];
        numbered.metadata.annotations.as_mut().unwrap().extend(number.clone());
        let numbered = WorkloadEntry::read(numbered, Some(&old)).unwrap();
        assert!(Arc::ptr_eq(&old.written, &numbered.written));
        let mut alone = object(2);
        alone.metadata.annotations = None;
        let without = WorkloadEntry::read(alone.clone(), None).unwrap();
        alone.metadata.annotations = Some(number.into());
        alone.metadata.resource_version = Some("3".into());
        let alone =
            WorkloadEntry::read(alone, Some(&without)).unwrap().unpack(&Recent::default()).unwrap();
        assert!(alone.meta.has_annotations, "a patch must not replace them");
        let workload = new.unpack(&Recent::default()).unwrap();
        assert_eq!(
            (
                workload.status.replicas,
                workload.meta.resource_version.as_str(),
                workload.spec.replicas
            ),
            (2, "2", 2)
        );
        assert_eq!(*workload.spec.template, json!({"x": 1}));
    }
}
