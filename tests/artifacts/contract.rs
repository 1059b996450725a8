//! What the operator renders is what the program takes: the containers that it writes into pods and
//! Jobs are run as they are, with their paths moved into a directory.

use std::fs;

use rollmodel::{
    api::{ModelDeploymentSpec, ModelPolicySpec, ModelVersionSpec},
    plan::{Observed, observed::Version},
};
use serde_json::{Value, json};

use crate::{
    fetcher::{Fetcher, sha256, tree},
    servers::s3::S3,
};

/// The pod template that the planner makes of a version and a ModelDeployment.
fn rendered(version: &Value, deployment: &Value, policy: Option<Value>) -> Value {
    let version: ModelVersionSpec = serde_json::from_value(version.clone()).unwrap();
    let spec: ModelDeploymentSpec = serde_json::from_value(deployment.clone()).unwrap();
    let known = Version {
        name: "fraud-7".into(),
        model: version.model,
        version: version.version,
        record_digest: format!("sha256:{}", "d".repeat(64)),
        image: version.image,
        artifact: version.artifact,
        ..Version::default()
    };
    let mut seen = Observed {
        namespace: "risk".into(),
        name: "fraud".into(),
        versions: vec![known],
        ..Observed::default()
    };
    seen.memory.fetch_image = Some("rollmodel:dev".into());
    if let Some(policy) = policy {
        let spec: ModelPolicySpec = serde_json::from_value(policy).unwrap();
        seen.policy = Some(rollmodel::plan::observed::Policy { spec, ..Default::default() });
    }
    let content = rollmodel::plan::facts::revision::find_desired_revision(&seen, &spec).unwrap();
    rollmodel::plan::facts::revision::render_revision(&seen, &spec, &content).unwrap()
}

/// Runs the init container as the kubelet would, its mounts below the fetcher's place.
fn run(fetcher: Fetcher, container: &Value) -> (crate::fetcher::Ran, Fetcher) {
    assert_eq!(container["command"], json!(["/rollmodel-fetch"]));
    let moved = |text: &str| {
        text.replace("/mnt/", &format!("{}/", fetcher.path("mnt").display())).replace(
            "/var/run/rollmodel/credentials",
            &fetcher.path("secret").display().to_string(),
        )
    };
    for mount in container["volumeMounts"].as_array().unwrap() {
        fs::create_dir_all(moved(mount["mountPath"].as_str().unwrap())).unwrap();
    }
    let args: Vec<String> =
        container["args"].as_array().unwrap().iter().map(|a| moved(a.as_str().unwrap())).collect();
    let env: Vec<(String, String)> = container["env"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| (e["name"].as_str().unwrap().into(), moved(e["value"].as_str().unwrap())))
        .collect();
    let fetcher = fetcher.env(env);
    let ran = fetcher.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    (ran, fetcher)
}

/// The directory that the container `model` mounts at /mnt/models.
fn served(fetcher: &Fetcher, rendering: &Value) -> std::path::PathBuf {
    let spec = &rendering["spec"];
    let mounts = spec["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|m| m["mountPath"] == "/mnt/models").unwrap();
    assert_eq!(mount["readOnly"], true);
    let theirs = spec["initContainers"][0]["volumeMounts"].as_array().unwrap();
    let at =
        theirs.iter().find(|m| m["name"] == mount["name"]).unwrap()["mountPath"].as_str().unwrap();
    fetcher.path(at.trim_start_matches('/')).join(mount["subPath"].as_str().unwrap())
}

#[test]
fn the_init_container_that_is_rendered_fetches_to_where_the_server_looks() {
    let s3 = S3::start();
    s3.make_bucket("models");
    s3.put("models", "fraud/7/model.bin", b"weights");
    let digest = sha256(b"weights");
    let version = |artifact: Value| json!({"model": "fraud", "version": "7", "image": "a:1", "artifact": artifact});
    let deployment =
        |delivery: Value| json!({"model": "fraud", "version": "7", "delivery": delivery});
    let hosts = json!({"delivery": {"allowedHosts": ["127.0.0.0/8", "registry.risk:5000"], "credentialsSecret": {"name": "models-s3"}}});
    let file = json!({"uri": "s3://models/fraud/7/model.bin", "digest": digest, "size": 7});
    for delivery in [
        json!({}),
        json!({"credentialsSecret": {"name": "other"}}),
        json!({"cache": {"claimName": "cache", "sizeLimit": "1Gi"}}),
    ] {
        let rendering =
            rendered(&version(file.clone()), &deployment(delivery), Some(hosts.clone()));
        let keys = [
            ("AWS_ACCESS_KEY_ID", crate::servers::s3::KEY),
            ("AWS_SECRET_ACCESS_KEY", crate::servers::s3::SECRET),
        ];
        let endpoint = s3.endpoint();
        let place =
            [("AWS_REGION", crate::servers::s3::REGION), ("AWS_ENDPOINT_URL", endpoint.as_str())];
        let fetcher = Fetcher::new().secret(keys).secret(place);
        let (ran, fetcher) = run(fetcher, &rendering["spec"]["initContainers"][0]);
        ran.verified();
        assert_eq!(
            tree(&served(&fetcher, &rendering)),
            [("model.bin".into(), b"weights".to_vec())]
        );
    }
}

#[test]
fn a_claim_is_copied_from_where_the_pod_mounts_it() {
    let version = json!({"model": "fraud", "version": "7", "image": "a:1", "artifact": {"uri": "pvc://models/fraud/7", "digest": sha256(b"weights")}});
    let rendering = rendered(&version, &json!({"model": "fraud", "version": "7"}), None);
    let fetcher = Fetcher::new();
    let claim = fetcher.path("mnt/rollmodel-pvc/models/fraud");
    fs::create_dir_all(&claim).unwrap();
    fs::write(claim.join("7"), b"weights").unwrap();
    let root = fetcher.path("mnt/rollmodel-pvc").display().to_string();
    let (ran, fetcher) =
        run(fetcher.env([("ROLLMODEL_PVC_ROOT", root)]), &rendering["spec"]["initContainers"][0]);
    ran.verified();
    assert_eq!(tree(&served(&fetcher, &rendering)), [("7".into(), b"weights".to_vec())]);
}
