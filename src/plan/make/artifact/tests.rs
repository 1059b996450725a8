//! How the artifact gets into a pod.

use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::*;
use crate::{
    api::{ModelPolicySpec, deployment::Delivery, reason::Reason},
    plan::{
        arbitrary::build_source,
        make::{Delivered, render_template},
    },
};

const DIGEST: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";
const BEFORE: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const IMAGE: &str = "registry.example.com/rollmodel:1";

/// What is rendered of an artifact, a delivery, a policy and a template.
struct Case {
    artifact: Value,
    delivery: Value,
    policy: Value,
    template: Value,
    fetch_image: Option<&'static str>,
}

impl Case {
    fn of(artifact: Value) -> Self {
        Self {
            artifact,
            delivery: json!({}),
            policy: Value::Null,
            template: json!({}),
            fetch_image: Some(IMAGE),
        }
    }

    fn delivery(self, delivery: Value) -> Self {
        Self { delivery, ..self }
    }

    fn policy(self, policy: Value) -> Self {
        Self { policy, ..self }
    }

    fn template(self, template: Value) -> Self {
        Self { template, ..self }
    }

    fn render(&self) -> Result<Value, Error> {
        let artifact: Artifact = serde_json::from_value(self.artifact.clone()).unwrap();
        let delivery: Delivery = serde_json::from_value(self.delivery.clone()).unwrap();
        let policy: Option<ModelPolicySpec> = serde_json::from_value(self.policy.clone()).unwrap();
        render_template(&Source {
            artifact: Some(&artifact),
            delivered: Delivered {
                mode: delivery.mode.unwrap_or(DeliveryMode::Init),
                digest: Some(DIGEST),
            },
            delivery: Some(&delivery),
            policy: policy.as_ref(),
            fetch_image: self.fetch_image,
            before: Some(BEFORE),
            ..build_source(Some(&self.template))
        })
    }

    /// The pod's spec, which Kubernetes' own types have to read.
    fn spec(&self) -> Value {
        let whole = self.render().unwrap();
        serde_json::from_value::<PodTemplateSpec>(whole.clone()).unwrap();
        whole["spec"].clone()
    }

    fn error(&self) -> (Reason, String) {
        let error = self.render().unwrap_err();
        (error.reason(), error.to_string())
    }
}

fn s3() -> Case {
    Case::of(json!({"uri": "s3://models/fraud/7/"}))
}

fn items<'a>(list: &'a Value, field: &str, value: &str) -> Vec<&'a Value> {
    list.as_array().into_iter().flatten().filter(|item| item[field] == value).collect()
}

/// The value of one variable of a container.
fn variable(container: &Value, name: &str) -> Option<String> {
    items(&container["env"], "name", name)
        .first()
        .and_then(|e| e["value"].as_str())
        .map(str::to_owned)
}

#[test]
fn an_artifact_is_fetched_by_an_init_container_and_mounted_read_only() {
    let spec = s3().spec();
    assert_eq!(
        spec["initContainers"],
        json!([{
            "name": "rollmodel-fetch", "image": IMAGE, "command": ["/rollmodel-fetch"],
            "args": ["fetch", "s3://models/fraud/7/", "--to", "/mnt/rollmodel/model", "--digest", DIGEST],
            "volumeMounts": [{"name": "rollmodel-artifact", "mountPath": "/mnt/rollmodel"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
                "seccompProfile": {"type": "RuntimeDefault"}},
        }])
    );
    assert_eq!(spec["volumes"], json!([{"name": "rollmodel-artifact", "emptyDir": {}}]));
    let model = &spec["containers"][0];
    let mount = json!([{"name": "rollmodel-artifact", "mountPath": "/mnt/models", "subPath": "model", "readOnly": true}]);
    assert_eq!(model["volumeMounts"], mount);
    for (name, value) in [
        ("MODEL_DIR", "/mnt/models"),
        ("MODEL_URI", "s3://models/fraud/7/"),
        ("MODEL_DIGEST", DIGEST),
    ] {
        assert_eq!(variable(model, name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn what_the_record_and_the_policy_say_becomes_arguments_and_variables() {
    let artifact = json!({"uri": "s3://m/7.zip", "size": 5, "unpack": true, "signature": {"uri": "s3://m/7.sig"}});
    let keys = json!({"requireSignature": {"publicKeys": ["K1", "K2"], "certificates": ["C"]},
        "delivery": {"allowedHosts": ["minio.storage:9000", "10.0.0.0/8"], "credentialsSecret": {"name": "usual"}}});
    let init = Case::of(artifact.clone()).policy(keys.clone()).spec()["initContainers"][0].clone();
    let want = [
        "fetch",
        "s3://m/7.zip",
        "--to",
        "/mnt/rollmodel/model",
        "--digest",
        DIGEST,
        "--size",
        "5",
        "--signature=s3://m/7.sig",
        "--unpack",
    ];
    assert_eq!(init["args"], json!(want));
    let variables = [
        ("ROLLMODEL_ALLOWED_HOSTS", "minio.storage:9000,10.0.0.0/8"),
        ("ROLLMODEL_TRUSTED_KEYS", "K1\nK2"),
        ("ROLLMODEL_TRUSTED_CERTIFICATES", "C"),
        ("ROLLMODEL_CREDENTIALS", "/var/run/rollmodel/credentials"),
    ];
    for (name, value) in variables {
        assert_eq!(variable(&init, name).as_deref(), Some(value), "{name}");
    }
    let bare = Case::of(artifact).spec()["initContainers"][0].clone();
    assert!(
        !bare["args"].to_string().contains("--signature"),
        "with no key to trust there is nothing to check"
    );
    assert!(bare.get("env").is_none());
}

#[test]
fn the_secret_that_the_model_deployment_names_wins_and_only_the_init_container_has_it() {
    let policy = json!({"delivery": {"credentialsSecret": {"name": "usual"}}});
    for (delivery, secret) in
        [(json!({}), "usual"), (json!({"credentialsSecret": {"name": "mine"}}), "mine")]
    {
        let spec = s3().policy(policy.clone()).delivery(delivery).spec();
        assert_eq!(
            items(&spec["volumes"], "name", "rollmodel-credentials")[0]["secret"]["secretName"],
            secret
        );
        let mounts = |container: &Value| {
            items(&container["volumeMounts"], "name", "rollmodel-credentials").len()
        };
        assert_eq!((mounts(&spec["initContainers"][0]), mounts(&spec["containers"][0])), (1, 0));
    }
}

#[test]
fn a_cache_is_mounted_by_digest() {
    let cache = |limit: Value| json!({"cache": {"claimName": "models", "sizeLimit": limit}});
    for (unpack, directory) in [
        (false, DIGEST.replace(':', "-")),
        (true, format!("{}-unpacked", DIGEST.replace(':', "-"))),
    ] {
        let spec = Case::of(json!({"uri": "s3://m/7", "unpack": unpack}))
            .delivery(cache(json!("1Gi")))
            .spec();
        let args = spec["initContainers"][0]["args"].to_string();
        assert!(
            args.contains(r#""--cache","/mnt/rollmodel-cache","--cache-size-limit","1073741824""#)
                && !args.contains("--to"),
            "{args}"
        );
        assert!(
            args.contains(&format!("\"--cache-keep={BEFORE}\"")),
            "what serves makes room: {args}"
        );
        assert_eq!(
            spec["volumes"],
            json!([{"name": "rollmodel-cache", "persistentVolumeClaim": {"claimName": "models"}}])
        );
        let mount = json!([{"name": "rollmodel-cache", "mountPath": "/mnt/models", "subPath": format!("models/{directory}"), "readOnly": true}]);
        assert_eq!(spec["containers"][0]["volumeMounts"], mount);
    }
    let unlimited =
        s3().delivery(cache(Value::Null)).spec()["initContainers"][0]["args"].to_string();
    assert!(!unlimited.contains("--cache-size-limit"));
}

#[test]
fn an_artifact_in_a_claim_is_read_by_the_init_container_alone() {
    let spec = Case::of(json!({"uri": "pvc://models/fraud/7"})).spec();
    let volume = json!({"name": "rollmodel-source", "persistentVolumeClaim": {"claimName": "models", "readOnly": true}});
    assert_eq!(items(&spec["volumes"], "name", "rollmodel-source"), [&volume]);
    let mount = json!({"name": "rollmodel-source", "mountPath": "/mnt/rollmodel-pvc/models", "readOnly": true});
    assert_eq!(
        items(&spec["initContainers"][0]["volumeMounts"], "name", "rollmodel-source"),
        [&mount]
    );
    let (reason, sentence) = Case::of(json!({"uri": "pvc://Models_1/fraud"})).error();
    assert_eq!(reason, Reason::InvalidArtifact);
    assert!(sentence.contains("\"Models_1\" cannot be the name of one"), "{sentence}");
}

#[test]
fn an_image_is_mounted_by_the_kubelet() {
    let case = || Case::of(json!({"uri": "oci://registry.example.com/models/fraud:7"}));
    let spec = case().delivery(json!({"mode": "ImageVolume", "subPath": "models"})).spec();
    let reference = format!("registry.example.com/models/fraud@{DIGEST}");
    let volume = json!([{"name": "rollmodel-artifact", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}]);
    assert_eq!(spec["volumes"], volume);
    let mount = json!([{"name": "rollmodel-artifact", "mountPath": "/mnt/models", "readOnly": true, "subPath": "models"}]);
    assert_eq!(spec["containers"][0]["volumeMounts"], mount);
    assert!(spec.get("initContainers").is_none());
    let whole = case().delivery(json!({"mode": "ImageVolume"})).spec();
    assert!(whole["containers"][0]["volumeMounts"][0].get("subPath").is_none());
}

#[test]
fn an_init_container_that_the_user_wrote_is_completed_where_he_wrote_it() {
    let theirs = json!({
        "name": "rollmodel-fetch", "image": "mine:1", "command": ["/bin/sh"], "restartPolicy": "Always", "terminationMessagePath": "/x",
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}, {"name": "ROLLMODEL_CREDENTIALS", "value": "/x"}],
        "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}, {"name": "ca", "mountPath": "/mnt/rollmodel"}],
        "resources": {"limits": {"memory": "1Gi"}},
    });
    let template = json!({"spec": {"initContainers": [{"name": "proxy", "image": "p"}, theirs], "volumes": [{"name": "ca", "emptyDir": {}}]}});
    let case = Case {
        fetch_image: None,
        ..s3().template(template).delivery(json!({"credentialsSecret": {"name": "s"}}))
    };
    let spec = case.spec();
    assert_eq!(spec["initContainers"][0]["name"], "proxy");
    let init = &spec["initContainers"][1];
    assert_eq!(
        (&init["image"], &init["command"]),
        (&json!("mine:1"), &json!(["/rollmodel-fetch"]))
    );
    assert_eq!(init["resources"], json!({"limits": {"memory": "1Gi"}}));
    assert_eq!(init["securityContext"]["readOnlyRootFilesystem"], true);
    assert!(init.get("restartPolicy").is_none() && init.get("terminationMessagePath").is_none());
    assert_eq!(variable(init, "HTTPS_PROXY").as_deref(), Some("http://proxy"));
    assert_eq!(
        variable(init, "ROLLMODEL_CREDENTIALS").as_deref(),
        Some("/var/run/rollmodel/credentials")
    );
    assert_eq!(items(&init["volumeMounts"], "mountPath", "/etc/ca").len(), 1);
    assert_eq!(
        items(&init["volumeMounts"], "mountPath", "/mnt/rollmodel")[0]["name"],
        "rollmodel-artifact"
    );
}

#[test]
fn what_is_in_the_way_is_told_by_its_path() {
    let mounted = |path: &str| json!({"spec": {"containers": [{"name": "model", "volumeMounts": [{"name": "a", "mountPath": path}]}]}});
    for path in ["/mnt/models", "/mnt/models/", "/mnt/models/base"] {
        let sentence = "spec.template.spec.containers[0].volumeMounts[0].mountPath is at /mnt/models or below, where the artifact is mounted: mount it elsewhere.";
        assert_eq!(
            s3().template(mounted(path)).error(),
            (Reason::InvalidTemplate, sentence.to_owned()),
            "{path}"
        );
    }
    assert!(s3().template(mounted("/mnt/models-cache")).render().is_ok());
    let volume =
        json!({"spec": {"volumes": [{"name": "a"}, {"name": "rollmodel-cache", "emptyDir": {}}]}});
    let sentence = "spec.template.spec.volumes[1].name is rollmodel-cache, which is the name of a volume that the operator adds: give it another name.";
    assert_eq!(
        s3().template(volume.clone()).error(),
        (Reason::InvalidTemplate, sentence.to_owned())
    );
    let inside = s3().template(volume).delivery(json!({"mode": "InImage"}));
    assert!(inside.render().is_ok(), "nothing of ours is there");
}

#[test]
fn without_an_image_to_fetch_with_the_administrator_is_told() {
    let (reason, sentence) = Case { fetch_image: None, ..s3() }.error();
    assert_eq!(reason, Reason::NoFetchImage);
    assert!(
        sentence
            .starts_with("The artifact of ModelVersion fraud-7 cannot be fetched, since this operator was started without --fetch-image:")
    );
}
