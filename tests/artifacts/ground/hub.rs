use std::{
    fs,
    process::{Command, Output},
};

use crate::{
    fetcher::noise,
    servers::{
        Dir,
        hub::{Access, Hub, OTHER_TOKEN, TOKEN},
        proxy::Proxy,
        run, tools,
    },
};

const DOWNLOAD: &str = "
import os, sys
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
try:
    snapshot_download(sys.argv[1], revision=sys.argv[2], local_dir=sys.argv[3], token=sys.argv[4] or False)
except HfHubHTTPError as error:
    sys.exit(f'{type(error).__name__} {error.response.status_code}')
";

const ONE_FILE: &str = "
import sys
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
try:
    print(hf_hub_download(sys.argv[1], sys.argv[5], revision=sys.argv[2], local_dir=sys.argv[3], token=sys.argv[4] or False), end='')
except HfHubHTTPError as error:
    sys.exit(f'{type(error).__name__} {error.response.status_code}')
";

fn python(endpoint: &str, script: &str, args: &[&str]) -> (Output, Dir) {
    let dir = Dir::fresh("hf");
    let mut python = Command::new(tools("hub").join("bin/python"));
    python
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HOME", dir.join("home"))
        .env_remove("HF_TOKEN");
    let [id, revision, token, rest @ ..] = args else { panic!("an id, a revision and a token") };
    let out = python
        .args(["-c", script, id, revision])
        .arg(dir.join("out"))
        .arg(token)
        .args(rest)
        .output()
        .unwrap();
    (out, dir)
}

fn refused(hub: &Hub, script: &str, args: &[&str]) -> String {
    let (out, _) = python(&hub.endpoint(), script, args);
    assert!(!out.status.success());
    String::from_utf8_lossy(&out.stderr).trim().lines().last().unwrap_or_default().to_owned()
}

#[test]
fn the_real_client_downloads_a_snapshot_page_by_page() {
    let (hub, weights) = (Hub::start(), noise(1, 2_000_000));
    let network = Proxy::before_address(hub.network());
    let files: [(&str, &[u8]); 5] = [
        ("README.md", b"# Tiny\n"),
        ("config.json", b"{}"),
        ("model-00001-of-00002.safetensors", &weights),
        ("onnx/deep/model.onnx", &weights[..1000]),
        ("onnx/ü b.txt", b"text"),
    ];
    let first = hub.commit("acme/tiny", &files);
    hub.tag("acme/tiny", "v1", &first);
    hub.commit("acme/tiny", &[("config.json", b"{\"newer\": true}")]);
    hub.set_page(2);
    for revision in ["v1", &first] {
        let (out, dir) = python(&hub.endpoint(), DOWNLOAD, &["acme/tiny", revision, ""]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        for (path, bytes) in files {
            assert_eq!(
                fs::read(dir.join("out").join(path)).unwrap(),
                bytes,
                "{path} of {revision}"
            );
        }
    }
    assert_eq!(network.sent(), 0);
    hub.set_network(([127, 0, 0, 1], network.port()).into());
    let args = ["acme/tiny", "v1", TOKEN, "model-00001-of-00002.safetensors"];
    let (out, _dir) = python(&hub.endpoint(), ONE_FILE, &args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(fs::read(String::from_utf8(out.stdout).unwrap()).unwrap(), weights);
    assert!(network.sent() > 2_000_000);
}

#[test]
fn what_may_not_be_read_is_refused_as_the_real_client_understands_it() {
    let hub = Hub::start();
    for (id, access) in [
        ("acme/open", Access::Public),
        ("acme/gated", Access::Gated),
        ("acme/private", Access::Private),
    ] {
        hub.commit(id, &[("config.json", b"{}"), ("model.safetensors", b"weights")]);
        hub.set_access(id, access);
    }
    let file = |id, revision, token, file| refused(&hub, ONE_FILE, &[id, revision, token, file]);
    assert_eq!(file("acme/gated", "main", "", "config.json"), "GatedRepoError 401");
    assert_eq!(file("acme/gated", "main", OTHER_TOKEN, "model.safetensors"), "GatedRepoError 403");
    assert_eq!(
        file("acme/private", "main", OTHER_TOKEN, "config.json"),
        "RepositoryNotFoundError 404"
    );
    assert_eq!(file("acme/open", "v9", "", "config.json"), "RevisionNotFoundError 404");
    assert_eq!(file("acme/open", "main", "", "other.json"), "RemoteEntryNotFoundError 404");
    // Over https the client calls it RepositoryNotFoundError.
    assert_eq!(file("acme/private", "main", "", "config.json"), "HfHubHTTPError 401");
    assert_eq!(file("acme/open", "main", "hf_wrong", "config.json"), "HfHubHTTPError 401");
    assert_eq!(
        refused(&hub, DOWNLOAD, &["acme/none", "main", TOKEN]),
        "RepositoryNotFoundError 404"
    );
    let (out, dir) = python(&hub.endpoint(), DOWNLOAD, &["acme/gated", "main", TOKEN]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(fs::read(dir.join("out/model.safetensors")).unwrap(), b"weights");
}

#[test]
fn links_to_the_network_expire_and_take_no_token() {
    let hub = Hub::start();
    hub.commit("acme/tiny", &[("model.bin", b"weights")]);
    let url = format!("{}/acme/tiny/resolve/main/model.bin", hub.endpoint());
    let location = String::from_utf8(run(Command::new("curl").args([
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{redirect_url}",
        &url,
    ])))
    .unwrap();
    assert!(location.starts_with("http://127.0.0.2:"), "{location}");
    let status = |more: &[&str]| {
        run(Command::new("curl")
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", &location])
            .args(more))
    };
    assert_eq!(run(Command::new("curl").args(["-sS", "-r", "2-4", &location])), b"igh");
    assert_eq!(status(&["-H", "Authorization: Bearer x"]), b"400");
    assert_eq!(status(&["-r", "9-"]), b"416");
    hub.expire_links();
    assert_eq!(status(&[]), b"403");
}
