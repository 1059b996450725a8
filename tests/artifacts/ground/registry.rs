use std::process::Command;

use serde_json::Value;

use crate::{
    fetcher::noise,
    servers::{
        certs::Authority,
        registry::{Auth, PASSWORD, Registry, USER, digest},
        run,
    },
};

const OCI: &str = "Accept: application/vnd.oci.image.manifest.v1+json";

/// What is pushed is pulled, whole and in ranges.
fn round_trip(registry: &Registry) {
    let bytes = noise(1, 300_000);
    let files: [(&str, &[u8]); 2] = [("model.safetensors", &bytes), ("config.json", b"{}")];
    let pushed =
        registry.push_artifact("acme/tiny", "v1", "application/vnd.rollmodel.test.v1", &files);
    let get = |path: &str, more: &[&str]| {
        run(registry
            .curl("acme/tiny")
            .args(more)
            .arg(format!("{}/v2/acme/tiny/{path}", registry.endpoint())))
    };
    let manifest = get("manifests/v1", &["-H", OCI]);
    assert_eq!(digest(&manifest), pushed);
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(
        manifest["layers"][0]["annotations"]["org.opencontainers.image.title"],
        "model.safetensors"
    );
    let blob = format!("blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap());
    assert_eq!(get(&blob, &[]), bytes);
    assert_eq!(get(&blob, &["-r", "100-199"]), bytes[100..200]);
    assert_eq!(std::fs::read(registry.file(&digest(&bytes))).unwrap(), bytes);
}

fn status(registry: &Registry, more: &[&str]) -> String {
    let url = format!("{}/v2/acme/tiny/tags/list", registry.endpoint());
    let out = Command::new("curl")
        .args(["-sk", "-o", "/dev/null", "-w", "%{http_code} %header{www-authenticate}", &url])
        .args(more)
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn an_open_registry_gives_what_was_pushed() {
    round_trip(&Registry::start(Auth::Open, None));
}

#[test]
fn a_registry_with_a_password_and_tls_refuses_another_one() {
    let authority = Authority::new();
    let registry = Registry::start(Auth::Basic, Some(&authority));
    round_trip(&registry);
    assert_eq!(status(&registry, &[]), "401 Basic realm=\"rollmodel-test\"");
    assert!(status(&registry, &["--user", "rollmodel:wrong"]).starts_with("401"));
    assert!(status(&registry, &["--user", &format!("{USER}:{PASSWORD}")]).starts_with("200"));
}

#[test]
fn a_registry_with_tokens_says_where_they_are_given_and_takes_them() {
    let registry = Registry::start(Auth::Token, None);
    round_trip(&registry);
    let challenge = status(&registry, &[]);
    let field = |name: &str| {
        challenge.split_once(&format!("{name}=\"")).unwrap().1.split('"').next().unwrap().to_owned()
    };
    assert_eq!(field("scope"), "repository:acme/tiny:pull");
    let url = format!("{}?service={}&scope={}", field("realm"), field("service"), field("scope"));
    let given = run(Command::new("curl").args([
        "-sS",
        "--fail",
        "--user",
        &format!("{USER}:{PASSWORD}"),
        &url,
    ]));
    let given: Value = serde_json::from_slice(&given).unwrap();
    let bearer = format!("Authorization: Bearer {}", given["token"].as_str().unwrap());
    assert!(status(&registry, &["-H", &bearer]).starts_with("200"));
    assert!(status(&registry, &["-H", "Authorization: Bearer wrong"]).starts_with("401"));
    assert!(
        !Command::new("curl")
            .args(["-s", "--fail", "--user", "rollmodel:wrong", &url])
            .status()
            .unwrap()
            .success()
    );
}
