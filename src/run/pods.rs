//! What is kept of a pod: what tells a content's failure from the environment's trouble.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::object::Object;
use crate::{
    api::{condition::truncate_text, names},
    plan::observed::{Container, Pod, Why},
};

/// The longest message that is kept of a container or the scheduler.
const MESSAGE_MAX: usize = 1024;

/// Reduces a pod; whatever is absent in it, or a status that is none, counts as not there.
#[must_use]
pub fn read(object: &Object) -> Pod {
    let meta = &object.metadata;
    let status: PodStatus = object.status.or_default();
    let find = |kind: &str| status.conditions.iter().flatten().find(|c| c.type_ == kind);
    let (ready, initialized) = (find("Ready"), find("Initialized"));
    let label = |name: &str| meta.labels.as_ref().and_then(|l| l.get(name)).cloned();
    let owners = meta.owner_references.iter().flatten();
    let controller = owners
        .filter(|o| o.controller == Some(true) && o.kind == "ReplicaSet")
        .map(|o| o.name.clone())
        .next();
    let finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let ended = status.reason.as_ref().filter(|_| finished);
    let unschedulable = find("PodScheduled").filter(|c| c.status == "False");
    let time = |time: &Time| time.0;
    let init = status.init_container_statuses.iter().flatten().map(|c| read_container(c, true));
    let containers = status.container_statuses.iter().flatten().map(|c| read_container(c, false));
    Pod {
        name: meta.name.clone().unwrap_or_default(),
        hash: label(names::REVISION).unwrap_or_default(),
        restarted_at: meta.annotations.as_ref().and_then(|a| a.get(names::RESTARTED_AT)).cloned(),
        created: meta.creation_timestamp.as_ref().map(time),
        replica_set: controller,
        template_hash: label("pod-template-hash").unwrap_or_default(),
        unselected: label(names::TRACK).is_none(),
        deleting: meta.deletion_timestamp.is_some(),
        finished,
        ended: ended.map(|_| make_why(&status.reason, &status.message, None)),
        ready: ready.is_some_and(|c| c.status == "True"),
        ready_changed: ready.and_then(|c| c.last_transition_time.as_ref()).map(time),
        unschedulable: unschedulable.map(|c| truncate(&c.message)),
        initialized: initialized
            .filter(|c| c.status == "True")
            .and_then(|c| c.last_transition_time.as_ref())
            .map(time),
        containers: init.chain(containers).collect(),
    }
}

fn read_container(status: &ContainerStatus, init: bool) -> Container {
    let state = status.state.as_ref();
    let last = status.last_state.as_ref();
    let running = state.and_then(|s| s.running.as_ref());
    let waiting = state.and_then(|s| s.waiting.as_ref());
    let ended = [state, last].into_iter().flatten().find_map(|s| s.terminated.as_ref());
    Container {
        name: truncate_text(&status.name, MESSAGE_MAX),
        init,
        running: running.is_some(),
        started: running.and_then(|r| r.started_at.as_ref()).map(|t| t.0),
        ready: status.ready,
        restarts: status.restart_count,
        waiting: waiting.map(|w| make_why(&w.reason, &w.message, None)),
        terminated: ended.map(|e| make_why(&e.reason, &e.message, Some(e.exit_code))),
        image_id: Some(&status.image_id).filter(|id| !id.is_empty()).cloned(),
    }
}

fn make_why(reason: &Option<String>, message: &Option<String>, exit_code: Option<i32>) -> Why {
    Why { reason: truncate(reason), message: truncate(message), exit_code }
}

fn truncate(text: &Option<String>) -> String {
    truncate_text(text.as_deref().unwrap_or_default(), MESSAGE_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
