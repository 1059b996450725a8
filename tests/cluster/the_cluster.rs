//! The cluster itself, before anything of ours is on it.

use crate::harness::{Cluster, audit, levers};

#[test]
fn it_is_the_pinned_kubernetes() {
    let version = Cluster::shared().kubectl(&["get", "--raw", "/version"]);
    assert!(version.contains("v1.37.2"), "{version}");
}

fn deployment(name: &str, tag: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: 1\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {name}, rollmodel.dev/deployment: {name}}}}}\n    spec: {{containers: [{{name: model, image: \"x:{tag}\"}}]}}\n"
    )
}

fn said(namespace: &str, app: &str, path: &str) -> String {
    let path = format!("jsonpath={{.items[0].status.containerStatuses[0].{path}}}");
    Cluster::shared().kubectl(&["get", "pod", "-n", namespace, "-l", &format!("app={app}"), "-o", &path])
}

#[test]
fn pods_become_ready_at_once_unless_a_lever_says_otherwise() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace("levers");
    let cases = [
        ("crash-loop", "state.waiting.reason", "CrashLoopBackOff"),
        ("never-ready", "ready", "false"),
        ("image-pull", "state.waiting.reason", "ImagePullBackOff"),
        ("bad-config", "state.waiting.reason", "CreateContainerConfigError"),
        ("invalid-image", "state.waiting.reason", "InvalidImageName"),
    ];
    for (tag, ..) in cases.iter().chain(&[("fine", "", ""), ("slow", "", ""), ("crash-once", "", "")]) {
        cluster.kubectl_in(&["apply", "-n", &namespace, "-f", "-"], &deployment(tag, &format!("behave-{tag}").replace("behave-fine", "1")));
    }
    for name in ["fine", "slow", "crash-once"] {
        cluster.kubectl(&["rollout", "status", "-n", &namespace, &format!("deployment/{name}"), "--timeout=60s"]);
    }
    assert_eq!(said(&namespace, "crash-once", "restartCount"), "1");
    for (tag, path, want) in cases {
        cluster.until(&format!("pods of {tag} say {want}"), || said(&namespace, tag, path) == want);
        levers::heal(cluster, &namespace, tag);
        cluster.kubectl(&["rollout", "status", "-n", &namespace, &format!("deployment/{tag}"), "--timeout=60s"]);
    }
}

#[test]
fn requests_are_counted_by_user_agent() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace("audit");
    let mark = audit::mark(cluster);
    cluster.kubectl(&["create", "configmap", "one", "-n", &namespace]);
    cluster.until("the audit log is written", || audit::total(&mark.count("kubectl", Some(&namespace))) > 0);
    assert_eq!(mark.count("kubectl", Some(&namespace)).get(&("create".into(), "configmaps".into())), Some(&1));
    assert!(mark.count("rollmodel", Some(&namespace)).is_empty());
}
