//! `oci://`, on a real registry.

use std::{fs, io::Write};

use serde_json::{Value, json};

use crate::{
    fetcher::{Fetcher, noise, sha256, tree},
    servers::{
        certs::Authority,
        nginx::Nginx,
        registry::{Auth, PASSWORD, Registry},
    },
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn allowed(authority: &Authority, registry: &Registry) -> Fetcher {
    let config = Registry::docker_config(&registry.host()).to_string();
    Fetcher::trusting(authority).secret([(".dockerconfigjson", config.as_str())])
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Pushes layers of (media type, bytes, annotations), and gives the manifest and its digest.
fn push(registry: &Registry, tag: &str, layers: &[(&str, Vec<u8>, Value)]) -> (Value, String) {
    let layer = |(media, bytes, annotations): &(&str, Vec<u8>, Value)| json!({"mediaType": media, "digest": registry.push_blob("risk/fraud", bytes), "size": bytes.len(), "annotations": annotations});
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": registry.push_blob("risk/fraud", b"{}"), "size": 2});
    let layers: Vec<Value> = layers.iter().map(layer).collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let digest =
        registry.push_manifest("risk/fraud", tag, MANIFEST, manifest.to_string().as_bytes());
    (manifest, digest)
}

#[test]
fn an_artifact_is_fetched_by_password_and_by_token_and_not_without() {
    let authority = Authority::new();
    for auth in [Auth::Basic, Auth::Token] {
        let registry = Registry::start(auth, Some(&authority));
        let weights = noise(1, 9_000_000);
        let digest = registry.push_artifact(
            "risk/fraud",
            "7",
            "application/vnd.example",
            &[("model.bin", &weights), ("deep/config.json", b"{}")],
        );
        let uri = format!("oci://{}/risk/fraud", registry.host());
        for reference in [format!("{uri}:7"), format!("{uri}@{digest}")] {
            let fetcher = allowed(&authority, &registry);
            let ran = fetcher.fetch(&reference, &["--digest", &digest]);
            assert_eq!(ran.verified(), format!("Verified: digest={digest} size=9000002 files=2"));
            assert_eq!(
                tree(&fetcher.model()),
                [
                    ("deep/config.json".into(), b"{}".to_vec()),
                    ("model.bin".into(), weights.clone())
                ]
            );
        }
        let ran = Fetcher::trusting(&authority).fetch(&format!("{uri}:7"), &[]);
        assert!(
            ran.troubled("Unauthorized").contains("no credentials were given"),
            "{auth:?}: {ran:?}"
        );
        let wrong =
            Registry::docker_config(&registry.host()).to_string().replace("cm9sbG", "d3Jvbm");
        let ran = Fetcher::trusting(&authority)
            .secret([("config.json", wrong.as_str())])
            .fetch(&format!("{uri}:7"), &[]);
        ran.troubled("Unauthorized");
        assert!(!format!("{ran:?}").contains(PASSWORD));
    }
}

#[test]
fn modelpack_kitops_and_images_with_models_become_the_same_directory() {
    let authority = Authority::new();
    let registry = Registry::start(Auth::Open, Some(&authority));
    let (weights, config) = (noise(2, 100_000), b"{}".to_vec());
    let path = |name: &str| json!({"org.cncf.model.filepath": name});
    // What a directory's digest leaves out is part of a layer.
    let both: [(&str, &[u8]); 3] =
        [("model.bin", &weights), ("deep/config.json", &config), (".gitattributes", b"a")];
    let image: Vec<(String, &[u8])> = [("etc/passwd", &b"root"[..])]
        .into_iter()
        .chain(both)
        .map(|(n, b)| match n {
            "etc/passwd" => (n.to_owned(), b),
            _ => (format!("models/{n}"), b),
        })
        .collect();
    let image: Vec<(&str, &[u8])> = image.iter().map(|(n, b)| (n.as_str(), *b)).collect();
    let shapes = [
        vec![
            ("application/vnd.cncf.model.weight.v1.raw", weights.clone(), path("model.bin")),
            (
                "application/vnd.cncf.model.weight.config.v1.tar",
                tar(&[("deep/config.json", &config)]),
                path("deep/config.json"),
            ),
        ],
        vec![("application/vnd.kitops.modelkit.model.v1.tar+gzip", gzip(&tar(&both)), json!({}))],
        vec![("application/vnd.oci.image.layer.v1.tar+gzip", gzip(&tar(&image)), json!({}))],
        vec![(
            "application/vnd.oci.image.layer.v1.tar+zstd",
            zstd::encode_all(&tar(&image)[..], 3).unwrap(),
            json!({}),
        )],
    ];
    for (number, layers) in shapes.iter().enumerate() {
        let (_, digest) = push(&registry, &format!("{number}"), layers);
        let fetcher = Fetcher::trusting(&authority);
        let uri = format!("oci://{}/risk/fraud:{number}", registry.host());
        for cached in [false, true] {
            let ran = fetcher.fetch(&uri, &["--digest", &digest]);
            assert_eq!(ran.verified().ends_with("cached=true"), cached, "{ran:?}");
            let mut seen = tree(&fetcher.model());
            seen.retain(|(path, _)| path.as_os_str() != ".gitattributes");
            assert_eq!(
                seen,
                [
                    ("deep/config.json".into(), config.clone()),
                    ("model.bin".into(), weights.clone())
                ],
                "{number}"
            );
        }
    }
}

#[test]
fn an_index_is_followed_to_this_platforms_image_and_keeps_its_own_digest() {
    let authority = Authority::new();
    let registry = Registry::start(Auth::Open, Some(&authority));
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let layer = |text: &str| {
        (
            "application/vnd.oci.image.layer.v1.tar",
            tar(&[("models/model.txt", text.as_bytes())]),
            json!({}),
        )
    };
    let manifests: Vec<Value> = [("riscv64", "another"), (architecture, "ours")]
        .into_iter()
        .map(|(architecture, text)| {
            let (manifest, digest) = push(&registry, architecture, &[layer(text)]);
            json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.to_string().len(), "platform": {"os": "linux", "architecture": architecture}})
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let digest = registry.push_manifest("risk/fraud", "all", INDEX, index.to_string().as_bytes());
    let fetcher = Fetcher::trusting(&authority);
    fetcher
        .fetch(&format!("oci://{}/risk/fraud:all", registry.host()), &["--digest", &digest])
        .verified();
    assert_eq!(tree(&fetcher.model()), [("model.txt".into(), b"ours".to_vec())]);
}

#[test]
fn a_tag_that_moved_between_check_and_pull_is_a_mismatch() {
    let authority = Authority::new();
    let registry = Registry::start(Auth::Open, Some(&authority));
    let checked = registry.push_artifact(
        "risk/fraud",
        "7",
        "application/vnd.example",
        &[("model.bin", b"good")],
    );
    let fetcher = Fetcher::trusting(&authority);
    let uri = format!("oci://{}/risk/fraud:7", registry.host());
    assert!(fetcher.run(&["verify", &uri]).verified().contains(&checked));
    let moved = registry.push_artifact(
        "risk/fraud",
        "7",
        "application/vnd.example",
        &[("model.bin", b"evil")],
    );
    let ran = fetcher.fetch(&uri, &["--digest", &checked]);
    assert!(
        ran.failed("Mismatch")
            .contains(&format!("has digest {moved}, and {checked} is what was registered")),
        "{ran:?}"
    );
    fetcher.assert_nothing();
}

#[test]
fn a_right_manifest_with_a_wrong_layer_is_a_mismatch() {
    let authority = Authority::new();
    let registry = Registry::start(Auth::Open, Some(&authority));
    let digest = registry.push_artifact(
        "risk/fraud",
        "7",
        "application/vnd.example",
        &[("model.bin", b"good")],
    );
    fs::write(registry.file(&sha256(b"good")), b"evil").unwrap();
    let fetcher = Fetcher::trusting(&authority);
    let ran =
        fetcher.fetch(&format!("oci://{}/risk/fraud:7", registry.host()), &["--digest", &digest]);
    assert!(ran.failed("Mismatch").starts_with("model.bin has the sha256 "), "{ran:?}");
    fetcher.assert_nothing();
}

#[test]
fn a_realm_on_another_host_gets_no_password_and_no_visit() {
    let authority = Authority::new();
    let thief = Nginx::start("", Some(&authority));
    for realm in [
        format!("https://localhost:{}/token", thief.port()),
        format!("http://127.0.0.1:{}/token", thief.port()),
    ] {
        let challenge = format!(
            "location / {{ add_header WWW-Authenticate 'Bearer realm=\"{realm}\",service=\"x\"' always; return 401; }}"
        );
        let registry = Nginx::start(&challenge, Some(&authority));
        let host = format!("127.0.0.1:{}", registry.port());
        let fetcher = Fetcher::trusting(&authority)
            .secret([(".dockerconfigjson", Registry::docker_config(&host).to_string().as_str())]);
        let ran = fetcher.fetch(&format!("oci://{host}/risk/fraud:7"), &[]);
        assert!(
            ran.failed("Refused")
                .contains("which is another host or without TLS: no credentials are given."),
            "{ran:?}"
        );
        fetcher.assert_nothing();
    }
    assert_eq!(thief.served(), []);
}

#[test]
fn names_in_a_layer_or_an_annotation_do_not_lead_out() {
    let authority = Authority::new();
    let registry = Registry::start(Auth::Open, Some(&authority));
    for (number, name) in ["../evil", "/etc/evil", "a/../../evil", "a\nb"].iter().enumerate() {
        let (_, digest) = push(
            &registry,
            &format!("{number}"),
            &[(
                "application/octet-stream",
                b"x".to_vec(),
                json!({"org.cncf.model.filepath": name}),
            )],
        );
        let fetcher = Fetcher::trusting(&authority);
        let ran = fetcher.fetch(&format!("oci://{}/risk/fraud@{digest}", registry.host()), &[]);
        ran.failed("UnsafeArchive");
        fetcher.assert_nothing();
    }
}

#[test]
fn a_registry_that_gives_no_parts_is_read_layer_by_layer() {
    let authority = Authority::new();
    let registry = Registry::start(Auth::Open, Some(&authority));
    let weights = noise(9, 9_000_000);
    let digest = registry.push_artifact(
        "risk/fraud",
        "7",
        "application/vnd.example",
        &[("model.bin", &weights)],
    );
    let proxy = format!(
        "location / {{ proxy_pass {}; proxy_set_header Range ''; proxy_ssl_verify off; }}",
        registry.endpoint()
    );
    let front = Nginx::start(&proxy, Some(&authority));
    let fetcher = Fetcher::trusting(&authority);
    fetcher.fetch(&format!("oci://127.0.0.1:{}/risk/fraud@{digest}", front.port()), &[]).verified();
    assert_eq!(tree(&fetcher.model()), [("model.bin".into(), weights)]);
}

#[test]
fn an_open_registry_is_asked_once_for_its_manifest_and_once_for_each_part() {
    let authority = Authority::new();
    let registry = Registry::start(Auth::Open, Some(&authority));
    let digest = registry.push_artifact(
        "risk/fraud",
        "7",
        "application/vnd.example",
        &[("model.bin", &noise(10, 9_000_000))],
    );
    let front = Nginx::start(
        &format!("location / {{ proxy_pass {}; proxy_ssl_verify off; }}", registry.endpoint()),
        Some(&authority),
    );
    let fetcher = Fetcher::trusting(&authority);
    fetcher.fetch(&format!("oci://127.0.0.1:{}/risk/fraud@{digest}", front.port()), &[]).verified();
    // nginx notes a request just after its last byte, and before the next.
    fetcher.run(&["verify", &front.url("end")]).failed("NotFound");
    let asked: Vec<String> =
        front.served().into_iter().map(|s| s.target).filter(|target| target != "/end").collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
}
