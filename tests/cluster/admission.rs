//! A cluster with and without the shipped admission policies (docs/design.md, Invariants).

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Cluster, Options,
    operator::Operator,
    proxy::Proxy,
    root,
    story::{Story, condition, deployment, version_of},
};

const HOME: &str = "rollmodel-system";

/// A namespace of a cluster of its own, with the CRDs, the roles and the operator's ServiceAccount,
/// and without the admission policies.
fn begin(cluster: &'static Cluster) -> Story {
    cluster.apply_crds();
    for file in ["namespace", "rbac", "user-roles"] {
        apply_shipped(cluster, file);
    }
    Story { cluster, namespace: cluster.namespace("admission"), operator: None }
}

fn apply_shipped(cluster: &Cluster, file: &str) {
    let path = root().join(format!("deploy/{file}.yaml")).display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &path]);
}

/// Starts the operator (again) as its ServiceAccount.
fn start_operator(story: &mut Story) {
    story.kill_operator();
    let kubeconfig = story.cluster.kubeconfig_of(HOME, "rollmodel");
    let flags = ["--leader-elect=false"];
    let operator = Operator::start(story.cluster, &kubeconfig, &flags);
    operator.wait_ready(story.cluster);
    story.operator = Some(operator);
}

/// The value of the metric; None where there is none.
fn read_metric(story: &Story) -> Option<String> {
    let text = story.operator.as_ref().unwrap().get("/metrics").1;
    let line =
        |l: &str| l.strip_prefix("rollmodel_admission_policies_installed ").map(str::to_owned);
    text.lines().find_map(line)
}

fn missing(object: &Value) -> Value {
    condition(object, "AdmissionPoliciesMissing")
}

#[test]
fn a_cluster_without_the_policies_says_so_in_a_condition_and_a_metric_until_they_are_installed() {
    let own = Cluster::own(Options::default());
    let mut story = begin(own.cluster());
    start_operator(&mut story);
    story.version("6", "6");
    story.deploy("6");
    let mdep = story.serves("6");
    let told = missing(&mdep);
    assert_eq!((&told["status"], &told["reason"]), (&json!("True"), &json!("NotInstalled")));
    let message = told["message"].as_str().unwrap();
    for name in ["requested-by", "own-rights", "records"] {
        assert!(message.contains(&format!("rollmodel-{name} is not installed")), "{message}");
    }
    assert!(message.contains("Apply deploy/admission.yaml"), "{message}");
    assert_eq!(condition(&mdep, "Ready")["status"], "True", "it is a warning, not a failure");
    assert_eq!(read_metric(&story).as_deref(), Some("0"));

    apply_shipped(story.cluster, "admission");
    start_operator(&mut story);
    story.until("the condition is gone", |o| missing(o).is_null());
    assert_eq!(read_metric(&story).as_deref(), Some("1"));
    // A binding that someone limits or deletes is one that does not protect every namespace.
    story.kubectl(&["delete", "validatingadmissionpolicybinding", "rollmodel-records"]);
    start_operator(&mut story);
    let mdep = story.until("the condition is back", |o| missing(o)["status"] == "True");
    let phrase = "ValidatingAdmissionPolicyBinding rollmodel-records is not installed.";
    assert!(missing(&mdep)["message"].as_str().unwrap().starts_with(phrase), "{mdep}");
    assert_eq!(read_metric(&story).as_deref(), Some("0"));

    // Its rights are of the ClusterRole alone: without them it says that it does not know.
    story.kubectl(&[
        "patch",
        "clusterrole",
        "rollmodel",
        "--type=json",
        "-p",
        &json!([{"op": "remove", "path": format!("/rules/{}", find_rule(&story))}]).to_string(),
    ]);
    start_operator(&mut story);
    let mdep = story.until("it is unknown", |o| missing(o)["status"] == "Unknown");
    assert_eq!(missing(&mdep)["reason"], "NotReadable");
    assert_eq!(read_metric(&story).as_deref(), Some("0"));
}

/// The index of the rule by which the operator reads the policies.
fn find_rule(story: &Story) -> usize {
    let role = story.get("clusterrole", "rollmodel");
    let rules = role["rules"].as_array().unwrap();
    let is_rule = |rule: &Value| rule["apiGroups"] == json!(["admissionregistration.k8s.io"]);
    rules.iter().position(is_rule).unwrap()
}

#[test]
fn a_restart_without_the_policies_writes_nothing() {
    let own = Cluster::own(Options::default());
    let mut story = begin(own.cluster());
    let proxy = Proxy::start(story.cluster);
    let start = |story: &Story| {
        let flags = ["--namespace", &story.namespace, "--leader-elect=false"];
        let operator = Operator::start(story.cluster, proxy.kubeconfig(), &flags);
        operator.wait_ready(story.cluster);
        operator
    };
    story.operator = Some(start(&story));
    story.version("6", "6");
    story.deploy("6");
    story.serves("6");
    story.until("the condition is there", |o| missing(o)["status"] == "True");
    story.until_true("it has settled", || proxy.quiet() > Duration::from_secs(2));
    story.kill_operator();
    proxy.open(None);
    story.operator = Some(start(&story));
    story.until_true("nothing follows", || proxy.quiet() > Duration::from_secs(2));
    assert_eq!(proxy.writes(), [""; 0]);
}

/// Runs kubectl as someone with an object; what it says where that is refused, else nothing.
fn refuse(story: &Story, user: &str, args: &[&str], object: &Value) -> String {
    let user = format!("--as={user}");
    let args = [&["-n", story.namespace.as_str(), user.as_str()], args].concat();
    let out = story.cluster.try_kubectl_in(&args, &object.to_string());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() { String::new() } else { said }
}

#[test]
fn records_are_written_by_the_operator_and_restored_by_whoever_may_restore_the_whole_cluster() {
    let own = Cluster::own(Options::default());
    let mut story = begin(own.cluster());
    apply_shipped(story.cluster, "admission");
    start_operator(&mut story);
    let bind = |kind: &str, name: &str, role: &str, user: &str| {
        story.kubectl(&["create", kind, name, role, &format!("--user={user}")]);
    };
    bind("rolebinding", "edit", "--clusterrole=edit", "editor");
    // Someone owns the namespace, with every right there, also that to restore records.
    let all = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    story.apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "owner"}, "rules": [all]}));
    bind("rolebinding", "owner", "--role=owner", "owner");
    bind("rolebinding", "restore", "--clusterrole=rollmodel-restore", "owner");
    bind("clusterrolebinding", "restore", "--clusterrole=rollmodel-restore", "velero");
    for version in ["6", "7"] {
        let image = json!({"image": format!("registry.example.com/fraud:{version}")});
        assert_eq!(
            refuse(&story, "owner", &["apply", "-f", "-"], &version_of("fraud", version, image)),
            ""
        );
        let spec = json!({"model": "fraud", "version": version});
        assert_eq!(refuse(&story, "editor", &["apply", "-f", "-"], &deployment("fraud", spec)), "");
        story.serves(version);
    }
    assert_eq!(story.record(2)["outcome"], "Promoted", "the operator wrote it, and its end");

    let mut forged = story.get("mro", "fraud-1");
    forged["metadata"] = json!({"name": "fraud-9", "labels": forged["metadata"]["labels"]});
    forged["spec"]["number"] = json!(9);
    let create = ["create", "-f", "-"];
    let policy = "only the operator (system:serviceaccount:rollmodel-system:rollmodel) writes \
                  ModelRollouts, and owner may not restore them";
    let patches = [
        json!({"spec": {"servedUntil": "2026-12-01T00:00:00Z"}}),
        json!({"metadata": {"labels": {"a": "b"}}}),
        json!({"metadata": {"finalizers": ["example.com/keep"]}}),
    ]
    .map(|patch| patch.to_string());
    let patch = |at: usize| ["patch", "mro", "fraud-2", "--type=merge", "-p", &patches[at]];
    story.until_true("the policy is in force", || {
        refuse(&story, "owner", &["create", "--dry-run=server", "-f", "-"], &forged)
            .contains(policy)
    });
    for args in [&create[..], &patch(0), &patch(1), &patch(2)] {
        let said = refuse(&story, "editor", args, &forged);
        assert!(said.contains("modelrollouts"), "RBAC refuses {args:?}: {said:?}");
        let said = refuse(&story, "owner", args, &forged);
        assert!(said.contains(policy), "the policy refuses {args:?}: {said:?}");
    }
    assert_eq!(story.rollouts(), 2);
    // An administrator's tool brings a record back; a deletion is whose RBAC allows it, and the
    // garbage collector finishes it.
    let mut first = story.get("mro", "fraud-1");
    let delete = ["delete", "mro", "fraud-1", "--cascade=foreground", "--timeout=60s"];
    assert_eq!(refuse(&story, "owner", &delete, &Value::Null), "");
    first["metadata"] = json!({"name": "fraud-1", "labels": first["metadata"]["labels"]});
    assert!(refuse(&story, "owner", &create, &first).contains(policy));
    assert_eq!(refuse(&story, "velero", &create, &first), "");
    assert_eq!(story.record(1), first["spec"]);
}
