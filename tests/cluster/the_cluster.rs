//! The cluster itself, before anything of ours is on it.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use crate::harness::{
    Cluster, audit, levers,
    process::{children, gone},
    rest::within,
    root,
};

#[test]
fn it_is_the_pinned_kubernetes() {
    let version = Cluster::shared().kubectl(&["get", "--raw", "/version"]);
    assert!(version.contains("v1.37.2"), "{version}");
}

fn deployment(name: &str, tag: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: 1\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {name}, rollmodel.dev/model-deployment: {name}}}}}\n    spec: {{containers: [{{name: model, image: \"x:{tag}\"}}]}}\n"
    )
}

fn said(namespace: &str, app: &str, path: &str) -> String {
    let path = format!("jsonpath={{.items[0].status.containerStatuses[0].{path}}}");
    Cluster::shared().kubectl(&[
        "get",
        "pod",
        "-n",
        namespace,
        "-l",
        &format!("app={app}"),
        "-o",
        &path,
    ])
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
    for (tag, ..) in
        cases.iter().chain(&[("fine", "", ""), ("slow", "", ""), ("crash-once", "", "")])
    {
        cluster.kubectl_in(
            &["apply", "-n", &namespace, "-f", "-"],
            &deployment(tag, &format!("behave-{tag}").replace("behave-fine", "1")),
        );
    }
    for name in ["fine", "slow", "crash-once"] {
        cluster.kubectl(&[
            "rollout",
            "status",
            "-n",
            &namespace,
            &format!("deployment/{name}"),
            "--timeout=60s",
        ]);
    }
    assert_eq!(said(&namespace, "crash-once", "restartCount"), "1");
    for (tag, path, want) in cases {
        cluster.until(&format!("pods of {tag} say {want}"), || said(&namespace, tag, path) == want);
        levers::heal(cluster, &namespace, tag);
        cluster.kubectl(&[
            "rollout",
            "status",
            "-n",
            &namespace,
            &format!("deployment/{tag}"),
            "--timeout=60s",
        ]);
    }
}

#[test]
fn requests_are_counted_by_user_agent() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace("audit");
    let mark = audit::mark(cluster);
    cluster.kubectl(&["create", "configmap", "one", "-n", &namespace]);
    cluster.until("the audit log is written", || {
        audit::total(&mark.count("kubectl", Some(&namespace))) > 0
    });
    assert_eq!(
        mark.count("kubectl", Some(&namespace)).get(&("create".into(), "configmaps".into())),
        Some(&1)
    );
    assert!(mark.count("rollmodel", Some(&namespace)).is_empty());
}

#[test]
fn a_client_is_counted_by_the_user_agent_it_gives_and_watches_only_where_asked() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace("agent");
    let client = crate::harness::rest::runtime().block_on(cluster.client_as("teller/1"));
    let mark = audit::mark(cluster);
    let ask = |query: &str| {
        let request = http::Request::get(format!("/api/v1/namespaces/{namespace}/pods?{query}"))
            .body(Vec::new())
            .unwrap();
        crate::harness::rest::runtime().block_on(client.request_text(request)).unwrap();
    };
    ask("");
    ask("watch=true&timeoutSeconds=1");
    cluster.until("both are told of", || {
        audit::total(&mark.count_with("teller", None, true, false)) == 2
    });
    let counts = mark.count("teller", Some(&namespace));
    assert_eq!(audit::total(&counts), 1, "{}", audit::listing(&counts));
}

#[test]
fn an_annotation_pulls_a_lever_too_and_a_label_of_a_node_makes_room() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace("annotated");
    let patched = |name: &str, what: &str| {
        deployment(name, "1")
            .replace("template:\n    metadata: {", &format!("template:\n    metadata: {{{what}, "))
    };
    cluster.kubectl_in(
        &["apply", "-n", &namespace, "-f", "-"],
        &patched("bad", "annotations: {test.rollmodel.dev/behave: image-pull}"),
    );
    cluster.until("the image is not pulled", || {
        said(&namespace, "bad", "state.waiting.reason") == "ImagePullBackOff"
    });
    let homeless = deployment("homeless", "1")
        .replace("spec: {containers", "spec: {nodeSelector: {disk: fast}, containers");
    cluster.kubectl_in(&["apply", "-n", &namespace, "-f", "-"], &homeless);
    let path = "jsonpath={.items[*].status.conditions[?(@.type==\"PodScheduled\")].reason}";
    let reason =
        || cluster.kubectl(&["get", "pod", "-n", &namespace, "-l", "app=homeless", "-o", path]);
    cluster.until("no node fits", || reason() == "Unschedulable");
    levers::label_node(cluster, "node-0", "disk=fast");
    cluster.kubectl(&[
        "rollout",
        "status",
        "-n",
        &namespace,
        "deployment/homeless",
        "--timeout=60s",
    ]);
    levers::label_node(cluster, "node-0", "disk-");
}

/// The example `cluster`, built with what this test was built with.
fn command_line() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let profile = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet", "--locked", "--example", "cluster"])
            .current_dir(root())
            .env("CARGO_TARGET_DIR", profile.parent().unwrap());
        cargo.args(profile.ends_with("release").then_some("--release"));
        assert!(cargo.status().unwrap().success(), "the example is not built");
        profile.join("examples/cluster")
    };
    Command::new(BUILT.get_or_init(build))
}

/// A directory for a cluster that is not a child of this process, ended also where the test fails.
struct Kept(PathBuf);

impl Kept {
    fn new(name: &str) -> Self {
        Self(root().join(format!("target/tmp/cluster-{}-{name}", std::process::id())))
    }

    fn call(&self, verb: &str) -> String {
        let out = command_line().args([verb, "--dir"]).arg(&self.0).output().unwrap();
        assert!(out.status.success(), "{verb}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// The process that holds it, and the cluster's own.
    fn processes(&self) -> (u32, Vec<u32>) {
        let keeper = fs::read_to_string(self.0.join("pid")).unwrap().parse().unwrap();
        (keeper, children(keeper))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = command_line().args(["down", "--dir"]).arg(&self.0).output();
    }
}

#[test]
fn a_cluster_that_stays_leaves_nothing_when_it_is_taken_down_or_killed() {
    let kept = Kept::new("kept");
    assert!(
        kept.call("up")
            .contains(&format!("export KUBECONFIG={}\n", kept.0.join("kubeconfig").display()))
    );
    let (keeper, of_it) = kept.processes();
    assert_eq!(
        of_it.len(),
        5,
        "etcd, the API server, the controller manager, the scheduler and kwok"
    );
    let attached = Cluster::attach(&kept.0.join("kubeconfig"));
    assert_eq!(attached.kubectl(&["get", "nodes", "-o", "name"]).lines().count(), 4);
    drop(attached);

    assert!(Command::new("kill").args(["-9", &keeper.to_string()]).status().unwrap().success());
    within(
        Duration::from_secs(10),
        || of_it.iter().all(|&pid| gone(pid)),
        || format!("still running: {of_it:?}"),
    );

    kept.call("up");
    let (keeper, mut of_it) = kept.processes();
    of_it.push(keeper);
    kept.call("down");
    assert!(of_it.iter().all(|&pid| gone(pid)) && !kept.0.exists());
}

#[test]
fn a_command_runs_on_a_cluster_of_its_own_and_may_tidy_up_there_after_ctrl_c() {
    let dir = |pid: u32| root().join(format!("target/tmp/cluster-{pid}-run"));
    let waits = "trap 'kubectl get nodes -o name; exit 9' INT; echo waits; read -r _";
    let mut command = command_line();
    // As a shell starts a job: Ctrl-C reaches its whole group.
    command
        .args(["run", "--nodes", "2", "--", "bash", "-c", waits])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    std::io::BufRead::read_line(&mut out, &mut first).unwrap();
    assert_eq!(first, "waits\n");
    let of_it = children(child.id());
    assert!(
        Command::new("kill")
            .args(["-INT", "--", &format!("-{}", child.id())])
            .status()
            .unwrap()
            .success()
    );
    let rest = std::io::read_to_string(out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9), "{rest}");
    assert_eq!(rest, "node/node-0\nnode/node-1\n");
    assert!(of_it.iter().all(|&pid| gone(pid)) && !Path::exists(&dir(child.id())));
}
