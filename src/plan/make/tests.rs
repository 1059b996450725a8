//! What a rendering is made into.

use super::*;
use crate::{
    api::deployment::DeliveryMode,
    plan::arbitrary::{self, build_source},
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use proptest::prelude::*;

fn rendered(template: Value) -> Value {
    render_template(&build_source(Some(&template))).unwrap()
}

/// The container `model` made of what the user wrote of it.
fn model(written: Value) -> Value {
    let whole = rendered(json!({"spec": {"containers": [written]}}));
    serde_json::from_value::<PodTemplateSpec>(whole.clone()).unwrap();
    whole["spec"]["containers"][0].clone()
}

fn artifact(digest: Option<&str>) -> Artifact {
    serde_json::from_value(json!({"uri": "s3://models/fraud/7/", "digest": digest})).unwrap()
}

#[test]
fn clients_use_the_first_port_of_tcp_and_a_model_without_one_is_refused() {
    let udp = json!({"name": "trace", "containerPort": 6831, "protocol": "UDP"});
    let tcp = json!({"name": "grpc", "containerPort": 9000, "protocol": "TCP"});
    let template =
        |ports: Value| json!({"spec": {"containers": [{"name": "model", "ports": ports}]}});
    let port = find_client_port(&rendered(template(json!([udp, tcp]))));
    assert_eq!((port.name.as_str(), port.number), ("grpc", 9000));
    let source = template(json!([udp]));
    let error = render_template(&build_source(Some(&source))).unwrap_err().to_string();
    assert!(error.contains("container model has no port with protocol TCP"), "{error}");
}

#[test]
fn without_a_template_the_pod_is_the_versions_image_completed() {
    let want = json!({
        "metadata": {"labels": {
            "rollmodel.dev/model-deployment": "risk", "rollmodel.dev/model": "fraud",
            "rollmodel.dev/version": "7", "rollmodel.dev/revision": "0123456789abcdef",
        }},
        "spec": {"containers": [{
            "name": "model", "image": "a:1",
            "env": [{"name": "MODEL_NAME", "value": "fraud"}, {"name": "MODEL_VERSION", "value": "7"}],
            "ports": [{"name": "model", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/v2/models/fraud/ready", "port": 8080}, "periodSeconds": 5, "failureThreshold": 3},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}, "terminationMessagePolicy": "FallbackToLogsOnError",
        }]},
    });
    assert_eq!(render_template(&build_source(None)), Ok(want.clone()));
    assert_eq!(rendered(json!({"metadata": null, "spec": {"containers": []}})), want);
}

#[test]
fn what_the_user_wrote_stays_as_it_is_written() {
    let written = json!({
        "metadata": {"labels": {"team": "risk"}, "annotations": {"a": "b"}},
        "spec": {
            "serviceAccountName": "fraud", "hostNetwork": false,
            "containers": [{"name": "proxy", "image": "p", "resources": {"limits": {"cpu": 1}}}, {"name": "model", "image": "mine", "tty": null}],
        },
    });
    let whole = rendered(written.clone());
    assert_eq!(whole["metadata"]["annotations"], written["metadata"]["annotations"]);
    assert_eq!(whole["metadata"]["labels"]["team"], "risk");
    assert_eq!(whole["spec"]["hostNetwork"], false);
    assert_eq!(whole["spec"]["containers"][0], written["spec"]["containers"][0]);
    assert_eq!(whole["spec"]["containers"][1]["image"], "mine");
    assert_eq!(whole["spec"]["containers"][1]["tty"], Value::Null);
}

#[test]
fn the_container_model_is_added_first_where_it_is_absent() {
    let whole = rendered(json!({"spec": {"containers": [{"name": "proxy", "image": "p"}]}}));
    assert_eq!(whole["spec"]["containers"][0]["name"], "model");
    assert_eq!(whole["spec"]["containers"][1]["name"], "proxy");
}

#[test]
fn an_empty_image_is_no_image() {
    assert_eq!(model(json!({"name": "model", "image": ""}))["image"], "a:1");
    let nobody = render_template(&Source { image: None, ..build_source(None) }).unwrap_err();
    assert_eq!(nobody.reason(), Reason::NoImage);
    assert_eq!(
        nobody.to_string(),
        "Neither ModelVersion fraud-7 nor spec.template names an image: set image of the container model in spec.template, or register a version with an image."
    );
}

#[test]
fn the_users_variables_win_and_ours_follow() {
    let env = model(json!({"name": "model", "env": [{"name": "MODEL_VERSION", "value": "x"}, {"name": "A", "value": "b"}]}))["env"].clone();
    assert_eq!(
        env,
        json!([{"name": "MODEL_VERSION", "value": "x"}, {"name": "A", "value": "b"}, {"name": "MODEL_NAME", "value": "fraud"}])
    );
}

#[test]
fn an_artifact_in_the_image_is_told_to_the_server_and_nothing_else() {
    for digest in [None, Some("sha256:aa")] {
        let artifact = artifact(digest);
        let delivered = Delivered { mode: DeliveryMode::InImage, digest };
        let whole =
            render_template(&Source { artifact: Some(&artifact), delivered, ..build_source(None) })
                .unwrap();
        let env = &whole["spec"]["containers"][0]["env"];
        assert_eq!(env[2], json!({"name": "MODEL_URI", "value": "s3://models/fraud/7/"}));
        assert_eq!(env[3]["value"].as_str(), digest);
        assert!(
            whole["spec"].get("volumes").is_none() && whole["spec"].get("initContainers").is_none()
        );
    }
}

#[test]
fn port_and_probe_follow_the_protocol() {
    let cases = [
        (
            Protocol::OpenInferenceV2,
            "model",
            8080,
            json!({"path": "/v2/models/fraud/ready", "port": 8080}),
            "httpGet",
        ),
        (Protocol::HTTP, "model", 8080, json!({"path": "/ping", "port": 8080}), "httpGet"),
        (Protocol::GRPC, "model", 8081, json!({"port": 8081}), "grpc"),
    ];
    for (protocol, name, number, probe, kind) in cases {
        let whole = render_template(&Source { protocol, ..build_source(None) }).unwrap();
        assert_eq!(find_client_port(&whole), Port { name: name.into(), number });
        assert_eq!(whole["spec"]["containers"][0]["readinessProbe"][kind], probe);
    }
}

#[test]
fn the_users_first_port_is_the_one_that_clients_talk_to() {
    let cases = [
        (json!([{"containerPort": 9000}, {"name": "http", "containerPort": 1}]), "model", 9000),
        (json!([{"name": "web", "containerPort": 9000}]), "web", 9000),
    ];
    for (ports, name, number) in cases {
        let whole = rendered(json!({"spec": {"containers": [{"name": "model", "ports": ports}]}}));
        assert_eq!(find_client_port(&whole), Port { name: name.into(), number });
        assert_eq!(whole["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"], number);
    }
}

#[test]
fn a_sidecars_port_never_renames_the_port_that_clients_talk_to() {
    let ports = json!([{"name": "http", "containerPort": 80}]);
    let proxy = json!({"name": "proxy", "ports": ports});
    let whole = rendered(json!({"spec": {"containers": [proxy]}}));
    assert_eq!(find_client_port(&whole), Port { name: "model".into(), number: 8080 });
}

#[test]
fn the_users_probe_and_lifecycle_stay() {
    let written = json!({"name": "model", "readinessProbe": {"tcpSocket": {"port": 1}}, "lifecycle": {"postStart": {"exec": {"command": ["a"]}}}});
    let model = model(written.clone());
    assert_eq!(model["readinessProbe"], written["readinessProbe"]);
    assert_eq!(model["lifecycle"], written["lifecycle"]);
    assert_eq!(model.get("livenessProbe"), None);
}

#[test]
fn the_drain_leaves_the_server_half_of_its_grace_period() {
    for (grace, seconds) in [
        (json!(null), Some(5)),
        (json!(600), Some(5)),
        (json!(4), Some(2)),
        (json!(1), None),
        (json!(0), None),
    ] {
        let whole = rendered(json!({"spec": {"terminationGracePeriodSeconds": grace}}));
        assert_eq!(
            whole["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64(),
            seconds
        );
    }
}

#[test]
fn the_port_of_what_is_no_rendering_is_the_usual_one() {
    for garbage in [
        json!(null),
        json!([]),
        json!({"spec": {"containers": [{"name": "model", "ports": [{"containerPort": 1e30}]}]}}),
    ] {
        assert_eq!(find_client_port(&garbage), Port { name: "model".into(), number: 8080 });
    }
}

const NAMES: &str = "metadata|labels|spec|containers|initContainers|name|image|env|value|ports|\
                     containerPort|lifecycle|readinessProbe|resources|limits|\
                     terminationGracePeriodSeconds|[a-z]{1,3}";

fn json_value() -> impl Strategy<Value = Value> {
    arbitrary::any_json("model|http|a|Always|1Gi|", NAMES)
}

fn template() -> impl Strategy<Value = Value> {
    (json_value(), json_value(), json_value()).prop_map(|(any, spec, containers)| match &any {
        Value::Bool(true) => json!({"spec": {"containers": containers}}),
        Value::Bool(false) => json!({"spec": {"containers": [containers]}}),
        Value::Null => json!({"spec": spec}),
        _ => any,
    })
}

proptest! {
    #[test]
    fn any_template_is_rendered_or_told_in_a_sentence(template in template(), grpc in any::<bool>()) {
        let protocol = if grpc { Protocol::GRPC } else { Protocol::HTTP };
        match render_template(&Source { protocol, ..build_source(Some(&template)) }) {
            Ok(whole) => prop_assert!(!find_client_port(&whole).name.is_empty()),
            Err(error) => prop_assert!(error.to_string().ends_with('.') && error.reason() == Reason::InvalidTemplate),
        }
    }
}
