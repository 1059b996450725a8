//! What is kept of a pod: what tells a content's failure from the environment's trouble.

use serde_json::Value;

use super::object::Object;
use crate::{
    api::{condition::truncate_text, names},
    plan::observed::{Container, Pod, Why},
};

/// The longest message that is kept of a container or the scheduler.
const MESSAGE_MAX: usize = 1024;

/// Reduces a pod; whatever is absent or strange in it counts as not there.
#[must_use]
pub fn read(object: &Object) -> Pod {
    let meta = &object.metadata;
    let status: &Value = &object.status.or_default();
    let ready = find_condition(status, "Ready");
    let initialized = find_condition(status, "Initialized").filter(|c| c["status"] == "True");
    let lists = [("initContainerStatuses", true), ("containerStatuses", false)];
    let label = |name: &str| meta.labels.as_ref().and_then(|l| l.get(name)).cloned();
    let owners = meta.owner_references.iter().flatten();
    let controller = owners
        .filter(|o| o.controller == Some(true) && o.kind == "ReplicaSet")
        .map(|o| o.name.clone())
        .next();
    let finished = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    Pod {
        name: meta.name.clone().unwrap_or_default(),
        hash: label(names::REVISION).unwrap_or_default(),
        restarted_at: meta.annotations.as_ref().and_then(|a| a.get(names::RESTARTED_AT)).cloned(),
        created: meta.creation_timestamp.as_ref().map(|t| t.0),
        replica_set: controller,
        template_hash: label("pod-template-hash").unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        finished,
        ended: (finished && status["reason"].is_string()).then(|| read_why(status)),
        ready: ready.is_some_and(|c| c["status"] == "True"),
        ready_changed: ready.and_then(|c| read_time(c, "lastTransitionTime")),
        unschedulable: find_condition(status, "PodScheduled")
            .filter(|c| c["status"] == "False")
            .map(|c| text(c, "message")),
        initialized: initialized.and_then(|c| read_time(c, "lastTransitionTime")),
        containers: lists
            .iter()
            .filter_map(|(list, init)| Some((status.get(list)?.as_array()?, *init)))
            .flat_map(|(all, init)| all.iter().map(move |c| read_container(c, init)))
            .collect(),
    }
}

fn find_condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status.get("conditions")?.as_array()?.iter().find(|c| c["type"] == kind)
}

fn read_time(value: &Value, field: &str) -> Option<jiff::Timestamp> {
    value[field].as_str()?.parse().ok()
}

fn read_container(status: &Value, init: bool) -> Container {
    let ended =
        status.pointer("/state/terminated").or_else(|| status.pointer("/lastState/terminated"));
    Container {
        name: text(status, "name"),
        init,
        running: status.pointer("/state/running").is_some(),
        started: status.pointer("/state/running").and_then(|s| read_time(s, "startedAt")),
        ready: status["ready"] == true,
        restarts: status["restartCount"]
            .as_i64()
            .and_then(|n| i32::try_from(n).ok())
            .unwrap_or_default(),
        waiting: status.pointer("/state/waiting").map(read_why),
        terminated: ended.map(read_why),
        image_id: status["imageID"].as_str().filter(|id| !id.is_empty()).map(str::to_owned),
    }
}

fn read_why(state: &Value) -> Why {
    Why {
        reason: text(state, "reason"),
        message: text(state, "message"),
        exit_code: state["exitCode"].as_i64().and_then(|n| i32::try_from(n).ok()),
    }
}

fn text(value: &Value, field: &str) -> String {
    truncate_text(value[field].as_str().unwrap_or_default(), MESSAGE_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::object::sent;

    #[test]
    fn a_pod_tells_why_it_waits() {
        let object = sent(&json!({
            "metadata": {"name": "p", "labels": {"rollmodel.dev/revision": "h"}, "annotations": {"kubectl.kubernetes.io/restartedAt": "t"}},
            "status": {
                "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}],
                "initContainerStatuses": [{"name": "i", "state": {"terminated": {"reason": "Error", "message": "digest mismatch", "exitCode": 3}}}],
                "containerStatuses": [{"name": "model", "restartCount": 4, "imageID": "", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}}));
        let pod = read(&object);
        assert_eq!(
            (pod.hash.as_str(), pod.restarted_at.as_deref(), pod.unschedulable.as_deref()),
            ("h", Some("t"), Some("no room"))
        );
        assert_eq!(pod.containers[0].terminated.as_ref().unwrap().message, "digest mismatch");
        assert_eq!(pod.containers[1].restarts, 4);
        assert_eq!(pod.containers[1].waiting.as_ref().unwrap().reason, "CrashLoopBackOff");
        assert_eq!(pod.containers[1].terminated.as_ref().unwrap().exit_code, Some(137));
        assert_eq!(pod.containers[1].image_id, None);
        assert!(!pod.ready);
        assert_eq!((pod.created, pod.replica_set, pod.template_hash.as_str()), (None, None, ""));
    }

    #[test]
    fn a_pod_tells_who_made_it_and_since_when_it_runs() {
        let at = |second: u8| format!("2026-01-01T00:00:0{second}Z");
        let owner = |kind: &str, name: &str, controller: bool| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": controller});
        let condition = |kind: &str, status: &str, second| json!({"type": kind, "status": status, "lastTransitionTime": at(second)});
        let object = |owners: Value| {
            sent(&json!({
            "metadata": {"name": "p", "creationTimestamp": at(1), "labels": {"pod-template-hash": "abc"}, "ownerReferences": owners},
            "status": {"phase": "Running",
                "conditions": [condition("Initialized", "True", 2), condition("Ready", "False", 4), condition("PodScheduled", "True", 1)],
                "containerStatuses": [{"name": "model", "state": {"running": {"startedAt": at(3)}}}]}}))
        };
        let time = |second| Some(at(second).parse().unwrap());
        let owners = json!([owner("Team", "risk", false), owner("ReplicaSet", "fraud-abc", true)]);
        let pod = read(&object(owners));
        assert_eq!(pod.replica_set.as_deref(), Some("fraud-abc"));
        assert_eq!(pod.template_hash, "abc");
        assert_eq!((pod.created, pod.initialized, pod.ready_changed), (time(1), time(2), time(4)));
        assert_eq!((pod.containers[0].started, pod.finished, pod.ended), (time(3), false, None));
        for owners in [
            json!([]),
            json!([owner("ReplicaSet", "fraud-abc", false)]),
            json!([owner("StatefulSet", "fraud", true)]),
        ] {
            assert_eq!(read(&object(owners)).replica_set, None, "no ReplicaSet controls it");
        }
    }

    #[test]
    fn an_evicted_pod_tells_why_it_ended() {
        let object = sent(&json!({"metadata": {"name": "p"},
            "status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}));
        let pod = read(&object);
        assert!(pod.finished);
        assert_eq!(pod.ended.map(|why| why.reason).as_deref(), Some("Evicted"));
    }
}
