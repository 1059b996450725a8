//! What becomes of pods: those with an image whose tag holds `behave-<what>`, with the annotation
//! `test.rollmodel.dev/behave: <what>` in their template, or with `behave-fetch-<what>` in an
//! argument of an init container, behave so; every other pod is ready at once.
//!
//! | tag | the pods |
//! |---|---|
//! | `behave-crash-loop` | crash again and again, the last time with "model file is corrupt" |
//! | `behave-crash-once` | crash once, then are ready |
//! | `behave-never-ready` | run and never become ready |
//! | `behave-image-pull` | wait for an image that cannot be pulled |
//! | `behave-bad-config` | wait for a Secret that is not there |
//! | `behave-invalid-image` | have an image name that is none |
//! | `behave-slow` | are ready after three seconds |
//! | `behave-init-waits` | have an init container that waits for something else |
//! | `restarted-<what>` | behave so once they are restarted |
//! | `behave-fetch-mismatch` | have an init container that got wrong bytes, and ended with exit code 3 |
//! | `behave-fetch-unreachable` | have one that reached nothing, seven times, and ended with exit code 1 |
//!
//! The pods of Jobs run until [`ends`] ends them.
//!
//! A pod with the annotation `test.rollmodel.dev/heal` becomes ready whatever else it says; see
//! [`heal`]. A pod that no node has room for needs no lever: it asks for more than there is, or for
//! a label of nodes that [`label_node`] gives one.

use std::{fs, path::Path};

use rollmodel::api::deployment::RESTART_LIMIT;

use super::Cluster;

const BEHAVE: &str = r#"if .metadata.annotations["test.rollmodel.dev/heal"] then empty else (.metadata.annotations["test.rollmodel.dev/behave"] // (select(.metadata.annotations["kubectl.kubernetes.io/restartedAt"]) | .spec.containers[].image | capture("restarted-(?<what>[a-z-]+)") | .what) // (.spec.containers[].image | capture("behave-(?<what>[a-z-]+)") | .what) // (.spec.initContainers[]?.args[]? | capture("behave-(?<what>fetch-[a-z]+)") | .what)) end"#;

/// kwok's configuration: its own stages, which leave alone what behaves, and a stage for each
/// behaviour.
pub fn configuration(stages: &Path) -> String {
    let mut out = String::from(
        "apiVersion: config.kwok.x-k8s.io/v1alpha1\nkind: KwokConfiguration\noptions: {podPlayStageParallelism: 16, nodePlayStageParallelism: 4, nodeLeaseParallelism: 4}\n",
    );
    let text = fs::read_to_string(stages).expect("kwok's stages");
    let mut ready = String::new();
    for document in text.split("---\n").filter(|d| !d.trim().is_empty()) {
        if document.contains("name: pod-complete\n") {
            continue;
        }
        if document.contains("name: pod-ready\n") {
            let template = document.split("statusTemplate: |\n").nth(1).expect("a status template");
            let id = "      - image: {{ .image | Quote }}\n        imageID: {{ printf \"%s@sha256:%064d\" .image 7 | Quote }}";
            // A pod that becomes ready again keeps its address; a second one would be refused.
            ready = template
                .replace("      - image: {{ .image | Quote }}", id)
                .replace("{{ with $podIPs }}", "{{ if not .status.podIP }}{{ with $podIPs }}")
                .replace("      phase: Running", "      {{ end }}\n      phase: Running");
            assert!(ready.contains("{{ if not .status.podIP }}"), "kwok's template of addresses");
            continue;
        }
        out.push_str("---\n");
        out.push_str(document);
    }
    out.push_str(&stage("pod-ready", &[not_ready(), when("DoesNotExist", &[])], 0, &ready));
    out.push_str(&stage("pod-slow", &[not_ready(), when("In", &["slow"])], 3000, &ready));
    let again = ready.replace("restartCount: 0", "restartCount: 1");
    out.push_str(&stage(
        "pod-crashed-once",
        &[not_ready(), when("In", &["crash-once"])],
        1500,
        &again,
    ));
    for (what, template) in behaviours() {
        out.push_str(&stage(
            &format!("pod-{what}"),
            &[unseen(), when("In", &[what])],
            0,
            &template,
        ));
    }
    out
}

fn stage(name: &str, selectors: &[String], delay: u32, template: &str) -> String {
    let alive = "    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}\n    - {key: .spec.nodeName, operator: Exists}\n";
    format!(
        "---\napiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {{name: {name}}}\nspec:\n  resourceRef: {{apiGroup: v1, kind: Pod}}\n  \
         selector:\n    matchExpressions:\n{alive}{}  delay: {{durationMilliseconds: {delay}}}\n  next:\n    statusTemplate: |\n{template}\n",
        selectors.concat()
    )
}

fn when(operator: &str, values: &[&str]) -> String {
    let values =
        if values.is_empty() { String::new() } else { format!("\n      values: {values:?}") };
    format!("    - key: '{BEHAVE}'\n      operator: {operator}{values}\n")
}

fn not_ready() -> String {
    "    - key: '.status.conditions.[] | select( .type == \"Ready\" ) | .status'\n      operator: NotIn\n      values: ['True']\n".into()
}

/// Behaviours are told once; the pods then stay as they are.
fn unseen() -> String {
    "    - key: '.status.containerStatuses.[].name'\n      operator: DoesNotExist\n".into()
}

fn behaviours() -> Vec<(&'static str, String)> {
    let waiting = |reason: &str, message: &str| {
        format!("waiting: {{reason: {reason}, message: '{message}'}}")
    };
    let last = "terminated: {exitCode: 1, reason: Error, message: \"model file is corrupt: bad magic number\", startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}";
    let running = "running: {startedAt: {{ $now | Quote }}}";
    vec![
        (
            "crash-loop",
            status(
                "Running",
                RESTART_LIMIT,
                &waiting("CrashLoopBackOff", "back-off 40s restarting failed container"),
                last,
            ),
        ),
        ("crash-once", status("Running", 1, running, last)),
        ("never-ready", status("Running", 0, running, "")),
        ("init-waits", initializing(running)),
        (
            "image-pull",
            status(
                "Pending",
                0,
                &waiting("ImagePullBackOff", "Back-off pulling image: not found"),
                "",
            ),
        ),
        (
            "bad-config",
            status(
                "Pending",
                0,
                &waiting("CreateContainerConfigError", "secret \"models-s3\" not found"),
                "",
            ),
        ),
        (
            "fetch-mismatch",
            fetching(3, 1, "Mismatch: the digest is sha256:bb, and has to be sha256:aa."),
        ),
        ("fetch-unreachable", fetching(1, 7, "Unreachable: s3.example.com does not answer.")),
        (
            "invalid-image",
            status("Pending", 0, &waiting("InvalidImageName", "couldn''t parse image name"), ""),
        ),
    ]
}

fn status(phase: &str, restarts: i32, state: &str, last: &str) -> String {
    let last =
        if last.is_empty() { String::new() } else { format!("        lastState: {{{last}}}\n") };
    format!(
        "      {{{{ $now := Now }}}}\n      conditions:\n      - {{type: Initialized, status: \"True\", lastTransitionTime: {{{{ $now | Quote }}}}}}\n      \
         - {{type: Ready, status: \"False\", reason: ContainersNotReady, lastTransitionTime: {{{{ $now | Quote }}}}}}\n      \
         - {{type: ContainersReady, status: \"False\", lastTransitionTime: {{{{ $now | Quote }}}}}}\n      containerStatuses:\n      {{{{ range .spec.containers }}}}\n      \
         - image: {{{{ .image | Quote }}}}\n        imageID: \"\"\n        name: {{{{ .name | Quote }}}}\n        ready: false\n        restartCount: {restarts}\n        \
         state: {{{state}}}\n{last}      {{{{ end }}}}\n      phase: {phase}\n      startTime: {{{{ $now | Quote }}}}"
    )
}

/// A pod whose first init container runs.
fn initializing(running: &str) -> String {
    let waits = status("Pending", 0, "waiting: {reason: PodInitializing}", "");
    let waits = waits
        .replace("type: Initialized, status: \"True\"", "type: Initialized, status: \"False\"");
    format!(
        "{waits}\n      initContainerStatuses:\n      {{{{ range .spec.initContainers }}}}\n      \
         - image: {{{{ .image | Quote }}}}\n        imageID: \"\"\n        name: {{{{ .name | Quote }}}}\n        ready: false\n        \
         restartCount: 0\n        state: {{{running}}}\n      {{{{ end }}}}"
    )
}

/// A pod whose init container `rollmodel-fetch` ended so, and waits to be tried again.
fn fetching(code: u8, restarts: i32, message: &str) -> String {
    let waits = status("Pending", 0, "waiting: {reason: PodInitializing}", "");
    let last = format!(
        "terminated: {{exitCode: {code}, reason: Error, message: \"{message}\", startedAt: {{{{ $now | Quote }}}}, finishedAt: {{{{ $now | Quote }}}}}}"
    );
    format!(
        "{waits}\n      initContainerStatuses:\n      - image: fetch\n        imageID: \"\"\n        name: rollmodel-fetch\n        ready: false\n        \
         restartCount: {restarts}\n        state: {{waiting: {{reason: CrashLoopBackOff, message: back-off}}}}\n        lastState: {{{last}}}"
    )
}

/// Ends the running pod of a Job as its container would: with an exit code and last words.
pub fn ends(cluster: &Cluster, namespace: &str, job: &str, code: i32, message: &str) {
    let selector = format!("batch.kubernetes.io/job-name={job}");
    let running = || {
        let args = [
            "get",
            "pod",
            "-n",
            namespace,
            "-l",
            &selector,
            "--field-selector=status.phase=Running",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ];
        cluster.kubectl(&args).trim().to_owned()
    };
    cluster.until(&format!("a pod of Job {job} runs"), || !running().is_empty());
    let (phase, now) = (if code == 0 { "Succeeded" } else { "Failed" }, "2026-01-01T00:00:00Z");
    let ended = serde_json::json!({"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "message": message, "startedAt": now, "finishedAt": now});
    let container = serde_json::json!({"name": "rollmodel-fetch", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": ended}});
    let status = serde_json::json!({"status": {"phase": phase, "containerStatuses": [container]}})
        .to_string();
    cluster.kubectl(&[
        "patch",
        "pod",
        "-n",
        namespace,
        &running(),
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ]);
}

/// Gives a node a label (`disk=fast`), or takes it away (`disk-`).
pub fn label_node(cluster: &Cluster, node: &str, label: &str) {
    cluster.kubectl(&["label", "node", node, label, "--overwrite"]);
}

/// Makes every pod that a Deployment has now unready, until they are healed.
pub fn make_unready(cluster: &Cluster, namespace: &str, deployment: &str) {
    let selector = format!("rollmodel.dev/model-deployment={deployment}");
    let of = ["-n", namespace, "-l", &selector];
    cluster.kubectl(
        &[&["annotate", "pod", "test.rollmodel.dev/behave=never-ready"], &of[..]].concat(),
    );
    let unready = r#"{"status":{"conditions":[{"type":"Ready","status":"False","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    for pod in cluster.kubectl(&[&["get", "pod", "-o", "name"], &of[..]].concat()).lines() {
        cluster.kubectl(&["patch", pod, "-n", namespace, "--subresource=status", "-p", unready]);
    }
}

/// Ends the lever of every pod that a Deployment has now: they become ready.
pub fn heal(cluster: &Cluster, namespace: &str, deployment: &str) {
    let selector = format!("rollmodel.dev/model-deployment={deployment}");
    // A pod may go while it is annotated: then there is nothing to heal about it.
    cluster.try_kubectl(&[
        "annotate",
        "pod",
        "-n",
        namespace,
        "-l",
        &selector,
        "test.rollmodel.dev/heal=yes",
        "--overwrite",
    ]);
}
