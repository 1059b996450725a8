//! Installed as its users install it: kustomize and Helm, each by the real tool, and the operator
//! then runs as its ServiceAccount with the flags of its Deployment. (The fake nodes run no
//! container, so its process is started beside them.)

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    Cluster, Options,
    operator::Operator,
    root,
    story::{deployment, version_of},
};

/// Starts the installed operator by what its Deployment says, and has it serve, undo and record a
/// requester that admission vouches for.
fn serves(cluster: &Cluster, home: &str) {
    cluster.kubectl(&["rollout", "status", "deployment/rollmodel", "-n", home, "--timeout=60s"]);
    let installed: Value = serde_json::from_str(&cluster.kubectl(&[
        "get",
        "deployment",
        "rollmodel",
        "-n",
        home,
        "-o",
        "json",
    ]))
    .unwrap();
    let pod = &installed["spec"]["template"]["spec"];
    let args = pod["containers"][0]["args"].as_array().unwrap();
    let args: Vec<&str> =
        args.iter().filter_map(Value::as_str).filter(|a| !a.starts_with("--log-format")).collect();
    let kubeconfig = cluster.kubeconfig_of(home, pod["serviceAccountName"].as_str().unwrap());
    let operator =
        Operator::start(cluster, &kubeconfig, &[&args[..], &["--lease-namespace", home]].concat());
    operator.wait_ready(cluster);

    let namespace = cluster.namespace("installed");
    let apply = |object: Value| {
        cluster.kubectl_in(&["apply", "-n", &namespace, "-f", "-"], &object.to_string())
    };
    for version in ["6", "7"] {
        apply(version_of(
            "fraud",
            version,
            json!({"image": format!("registry.example.com/fraud:{version}")}),
        ));
    }
    for version in ["6", "7"] {
        apply(deployment("fraud", json!({"model": "fraud", "version": version})));
        cluster.kubectl(&[
            "wait",
            "mdep/fraud",
            "-n",
            &namespace,
            &format!("--for=jsonpath={{.status.serving.version}}={version}"),
            "--timeout=60s",
        ]);
    }
    apply(
        json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "RolloutRequest", "metadata": {"name": "back"},
        "spec": {"modelDeployment": "fraud", "verb": "Undo", "ifDecision": "2.0", "requestedBy": "admin"}}),
    );
    cluster.kubectl(&[
        "wait",
        "mdep/fraud",
        "-n",
        &namespace,
        "--for=jsonpath={.status.state}=Held",
        "--timeout=60s",
    ]);
    let by: Value = serde_json::from_str(&cluster.kubectl(&[
        "get",
        "mro",
        "fraud-3",
        "-n",
        &namespace,
        "-o",
        "jsonpath={.spec.decidedBy}",
    ]))
    .unwrap();
    assert_eq!((by["name"].as_str(), by["verified"].as_bool()), (Some("admin"), Some(true)));

    let forged = json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "RolloutRequest", "metadata": {"name": "forged"},
        "spec": {"modelDeployment": "fraud", "verb": "Undo", "ifDecision": "3.0", "requestedBy": "somebody-else"}});
    let refused =
        cluster.try_kubectl_in(&["create", "-n", &namespace, "-f", "-"], &forged.to_string());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("requestedBy"), "{said}");
    assert!(!operator.process.log().contains("forbidden"), "{}", operator.process.log());
    cluster.kubectl(&["delete", "namespace", &namespace, "--wait=true"]);
}

#[test]
fn kustomize_and_helm_install_an_operator_that_serves_as_its_service_account() {
    let cluster = Cluster::start(Options::default());
    let deploy = root().join("deploy").display().to_string();
    cluster.kubectl(&["apply", "-k", &deploy]);
    serves(&cluster, "rollmodel-system");
    cluster.kubectl(&["delete", "-k", &deploy, "--wait=true"]);

    let helm = |args: &[&str]| {
        let mut command = Command::new(cluster.tools().join("helm"));
        let out = command
            .args(args)
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("HOME", cluster.dir())
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "helm {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&out.stderr)
        );
    };
    let chart = root().join("charts/rollmodel").display().to_string();
    helm(&[
        "install",
        "rollmodel",
        &chart,
        "--namespace",
        "models",
        "--create-namespace",
        "--wait",
    ]);
    serves(&cluster, "models");
    helm(&["uninstall", "rollmodel", "--namespace", "models", "--wait"]);
    let kept = cluster.kubectl(&["get", "crd", "modelversions.rollmodel.dev", "-o", "name"]);
    assert!(
        kept.contains("modelversions"),
        "an uninstall keeps the CRDs, and every record with them"
    );
}
