//! What is kept of a serving Deployment.

use std::{collections::BTreeMap, sync::Arc};

use kube::api::DynamicObject;
use serde_json::Value;

use super::{
    kinds::{Kind, News, Packed, Watched},
    memory::hash,
    reduced::{meta, name_and_label, optional, optional_value},
};
use crate::{
    api::names,
    plan::{
        drift::foreign_paths,
        health::Turn,
        observed::{Workload, WorkloadSpec, WorkloadStatus},
    },
};

/// The Deployment of a ModelDeployment, in two parts: its status changes often, and the rest seldom.
pub struct WorkloadEntry {
    written: Arc<Written>,
    status: Packed<WorkloadStatus>,
    resource_version: String,
    /// What its status says, less the numbers.
    turn: Turn,
}

/// All of a Deployment but its status and its resourceVersion.
struct Written {
    generation: i64,
    meta: u64,
    workload: Packed<Workload>,
    hash: u64,
}

impl WorkloadEntry {
    /// All of it.
    ///
    /// # Errors
    /// When what was packed does not come out again.
    pub fn unpack(&self) -> Result<Workload, serde_json::Error> {
        let mut workload = self.written.workload.unpack()?;
        workload.status = self.status.unpack()?;
        workload.meta.resource_version.clone_from(&self.resource_version);
        Ok(workload)
    }
}

impl Watched for WorkloadEntry {
    const KIND: Kind = Kind::Deployment;

    fn read(mut object: DynamicObject, old: Option<&Self>) -> Result<Self, serde_json::Error> {
        let resource_version = object.metadata.resource_version.take().unwrap_or_default();
        let sketch = sketch(&mut object)?;
        let metadata = &object.metadata;
        let meta =
            hash(&format!("{:?}", (&metadata.labels, &metadata.annotations, &metadata.owner_references, &metadata.deletion_timestamp)));
        // A Deployment's generation counts every change of its spec.
        let unchanged = old.filter(|old| old.written.generation == sketch.generation && old.written.meta == meta);
        let written = match unchanged {
            Some(old) => old.written.clone(),
            None => {
                let workload = Packed::pack(&read_workload(object)?)?;
                Arc::new(Written { generation: sketch.generation, meta, hash: workload.hash(), workload })
            }
        };
        Ok(Self { written, turn: Turn::of(&sketch), status: Packed::pack(&sketch.status)?, resource_version })
    }

    fn news(old: Option<&Self>, new: Option<&Self>) -> Option<News> {
        let turns = match (old, new) {
            (Some(old), Some(new)) => old.written.hash != new.written.hash || old.turn != new.turn,
            _ => true,
        };
        Some(if turns { News::Turn } else { News::Counts })
    }

    fn owners(object: &DynamicObject) -> Vec<String> {
        name_and_label(&object.metadata)
    }
}

/// A Deployment's status, which is taken out of it, and what of its spec a status is measured by.
fn sketch(object: &mut DynamicObject) -> Result<Workload, serde_json::Error> {
    let status = optional(&mut object.data, "status")?.unwrap_or_default();
    let spec = &object.data["spec"];
    let spec = WorkloadSpec {
        replicas: spec["replicas"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or_default(),
        strategy: spec["strategy"].clone(),
        ..WorkloadSpec::default()
    };
    Ok(Workload { generation: object.metadata.generation.unwrap_or_default(), spec, status, ..Workload::default() })
}

/// What is observed of a Deployment.
///
/// # Errors
/// When it is not one.
pub fn read_workload(mut object: DynamicObject) -> Result<Workload, serde_json::Error> {
    let foreign = foreign_paths(object.metadata.managed_fields.as_deref().unwrap_or_default(), names::MANAGER);
    let mut spec = object.data.get_mut("spec").map(Value::take).unwrap_or_default();
    // A selector with expressions is none of ours; it is told by being empty.
    let selector = match spec.pointer("/selector/matchExpressions") {
        Some(_) => BTreeMap::new(),
        None => spec.pointer_mut("/selector/matchLabels").map(Value::take).map(serde_json::from_value).transpose()?.unwrap_or_default(),
    };
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("selector");
    }
    Ok(Workload {
        generation: object.metadata.generation.unwrap_or_default(),
        spec: WorkloadSpec { selector, ..optional_value(spec)?.unwrap_or_default() },
        foreign,
        status: optional(&mut object.data, "status")?.unwrap_or_default(),
        meta: meta(object.metadata),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_is_reduced_and_survives_packing() {
        let object: DynamicObject = serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "fraud", "uid": "u", "generation": 3, "resourceVersion": "9",
                "annotations": {"kubernetes.io/change-cause": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "ModelDeployment", "name": "fraud", "uid": "o", "controller": true}]},
            "spec": {"replicas": 2, "paused": true, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"type": "RollingUpdate"},
                "minReadySeconds": 5, "template": {"spec": {"containers": []}}},
            "status": {"observedGeneration": 3, "updatedReplicas": 1,
                "conditions": [{"type": "Progressing", "status": "True", "reason": "R", "message": "M", "lastUpdateTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap();
        let workload = WorkloadEntry::read(object, None).unwrap().unpack().unwrap();
        assert_eq!((workload.spec.replicas, workload.spec.paused, workload.generation), (2, true, 3));
        assert_eq!(workload.spec.selector["a"], "b");
        assert_eq!(workload.meta.annotations.len(), 1);
        assert_eq!(workload.meta.controller.unwrap().uid, "o");
        assert_eq!(workload.status.conditions[0].reason, "R");
    }

    #[test]
    fn numbers_that_come_and_go_with_pods_are_no_turn_and_everything_else_is() {
        let object = |generation: i64, owner: &str, updated: i32, available: i32| -> DynamicObject {
            serde_json::from_value(
                json!({"metadata": {"name": "fraud", "generation": generation, "labels": {"rollmodel.dev/decision": owner}},
                "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": format!("g{generation}")}]}},
                    "strategy": {"rollingUpdate": {"maxUnavailable": 1}}},
                "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": updated, "availableReplicas": available}}),
            )
            .unwrap()
        };
        let old = WorkloadEntry::read(object(1, "a", 1, 3), None).unwrap();
        let news = |new: DynamicObject| WorkloadEntry::news(Some(&old), Some(&WorkloadEntry::read(new, Some(&old)).unwrap()));
        assert_eq!(news(object(1, "a", 2, 2)), Some(News::Counts));
        assert_eq!(news(object(1, "a", 3, 3)), Some(News::Turn), "it is complete");
        assert_eq!(news(object(1, "a", 1, 1)), Some(News::Turn), "fewer are available than its strategy asks for");
        assert_eq!(news(object(1, "b", 1, 3)), Some(News::Turn), "a label changed");
        assert_eq!(news(object(2, "a", 1, 3)), Some(News::Turn), "its spec changed");
        assert_eq!(WorkloadEntry::news(Some(&old), None), Some(News::Turn));
    }

    #[test]
    fn a_status_that_changes_alone_is_read_with_what_was_read_before() {
        let object = |replicas: i32| -> DynamicObject {
            serde_json::from_value(json!({"metadata": {"name": "fraud", "generation": 1, "resourceVersion": replicas.to_string()},
                "spec": {"replicas": 2, "template": {"x": 1}}, "status": {"replicas": replicas}}))
            .unwrap()
        };
        let old = WorkloadEntry::read(object(1), None).unwrap();
        let new = WorkloadEntry::read(object(2), Some(&old)).unwrap();
        assert!(Arc::ptr_eq(&old.written, &new.written));
        let workload = new.unpack().unwrap();
        assert_eq!((workload.status.replicas, workload.meta.resource_version.as_str(), workload.spec.replicas), (2, "2", 2));
        assert_eq!(workload.spec.template, json!({"x": 1}));
    }
}
