//! An OCI registry: Debian's docker-registry, open, with a password, or with tokens.

use std::{fs, path::PathBuf, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Dir, Server, certs::Authority, free_port, run, tools};

mod tokens;
use tokens::Tokens;

/// The user that an [`Auth::Basic`] registry and the token server of an [`Auth::Token`] one know.
pub const USER: &str = "rollmodel";
/// The password of [`USER`].
pub const PASSWORD: &str = "rollmodel-test-secret";
/// [`USER`] and [`PASSWORD`] as htpasswd writes them; the registry takes nothing but bcrypt.
const HTPASSWD: &str = "rollmodel:$2b$04$m.pb98YBsImd7BA.X9H6NeGHP/3EfmORAL8w4hOK.BXIX/g1A.0mi\n";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Who may read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everybody.
    Open,
    /// Who sends the password with each request.
    Basic,
    /// Who sends a token, which a token server gives for the password.
    Token,
}

/// A running registry; dropping it ends it and removes what was pushed.
pub struct Registry {
    server: Server,
    auth: Auth,
    /// The address of this machine that it is reached by.
    address: String,
    tokens: Option<Tokens>,
    /// The authority that its certificate is of, when it speaks TLS.
    authority: Option<PathBuf>,
}

impl Registry {
    /// Starts one; with an authority it speaks TLS.
    pub fn start(auth: Auth, authority: Option<&Authority>) -> Self {
        Self::start_at("127.0.0.1", auth, authority)
    }

    /// Starts one that is reached by another address of this machine too, for pods.
    pub fn start_at(address: &str, auth: Auth, authority: Option<&Authority>) -> Self {
        let (dir, port) = (Dir::fresh("registry"), free_port());
        let tokens = (auth == Auth::Token).then(|| Tokens::start(authority));
        // JSON is YAML.
        let listen = if address == "127.0.0.1" { address } else { "0.0.0.0" };
        let mut http = json!({"addr": format!("{listen}:{port}"), "secret": "rollmodel-test"});
        if let Some(authority) = authority {
            authority.sign_for(&dir, &["127.0.0.1", "localhost", address]);
            http["tls"] = json!({"certificate": "server.crt", "key": "server.key"});
        }
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": "pushed"}, "delete": {"enabled": true}},
            "http": http,
        });
        if auth == Auth::Basic {
            fs::write(dir.join("htpasswd"), HTPASSWD).expect("htpasswd");
            config["auth"] = json!({"htpasswd": {"realm": "rollmodel-test", "path": "htpasswd"}});
        }
        if let Some(tokens) = &tokens {
            fs::write(dir.join("tokens.crt"), tokens.certificate()).expect("tokens.crt");
            config["auth"] = json!({"token": tokens.configuration("tokens.crt")});
        }
        fs::write(dir.join("config.yml"), config.to_string()).expect("config.yml");
        // What it would send spans to is not there.
        let env = [("OTEL_TRACES_EXPORTER", "none")];
        let program = tools("debian").join("usr/bin/docker-registry");
        let server = Server::start(&program, &["serve", "config.yml"], &env, port, dir);
        Self {
            server,
            auth,
            address: address.to_owned(),
            tokens,
            authority: authority.map(Authority::certificate),
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Its name as references to images begin with it.
    pub fn host(&self) -> String {
        format!("{}:{}", self.address, self.port())
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", if self.authority.is_some() { "https" } else { "http" }, self.host())
    }

    /// A docker `config.json` (a pull secret's `.dockerconfigjson`) for it, behind any name that it
    /// is reached by.
    pub fn docker_config(host: &str) -> Value {
        json!({"auths": {host: {"auth": STANDARD.encode(format!("{USER}:{PASSWORD}"))}}})
    }

    /// curl as it may read and write a repository, without an address.
    pub fn curl(&self, repository: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body"]);
        match &self.tokens {
            Some(tokens) => curl.arg("-H").arg(format!(
                "Authorization: Bearer {}",
                tokens.token(repository, &["pull", "push"])
            )),
            None if self.auth == Auth::Basic => {
                curl.arg("--user").arg(format!("{USER}:{PASSWORD}"))
            }
            None => &mut curl,
        };
        if let Some(authority) = &self.authority {
            curl.arg("--cacert").arg(authority);
        }
        curl
    }

    /// Pushes a blob, and gives its digest.
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let dir = Dir::fresh("blob");
        fs::write(dir.join("blob"), bytes).expect("the blob");
        let begin = format!("{}/v2/{repository}/blobs/uploads/", self.endpoint());
        // "Pushing a blob monolithically", POST then PUT: where to put it is the Location.
        let head = run(self.curl(repository).args([
            "-X",
            "POST",
            "-H",
            "Content-Length: 0",
            "-D",
            "-",
            "-o",
            "/dev/null",
            &begin,
        ]));
        let head = String::from_utf8(head).expect("a head");
        let location = head
            .lines()
            .find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case("location")));
        let location = location.expect("a Location").1.trim();
        let digest = digest(bytes);
        let end =
            format!("{location}{}digest={digest}", if location.contains('?') { '&' } else { '?' });
        run(self
            .curl(repository)
            .args(["-H", "Content-Type: application/octet-stream", "-T"])
            .arg(dir.join("blob"))
            .arg(end));
        digest
    }

    /// Pushes a manifest under a tag or its digest, and gives the digest.
    pub fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> String {
        let dir = Dir::fresh("manifest");
        fs::write(dir.join("manifest"), bytes).expect("the manifest");
        let url = format!("{}/v2/{repository}/manifests/{reference}", self.endpoint());
        run(self
            .curl(repository)
            .args(["-H", &format!("Content-Type: {media_type}"), "-T"])
            .arg(dir.join("manifest"))
            .arg(url));
        digest(bytes)
    }

    /// Pushes files as an artifact, a layer each with its name in the title annotation as ORAS
    /// does, and gives the manifest's digest.
    pub fn push_artifact(
        &self,
        repository: &str,
        tag: &str,
        artifact_type: &str,
        files: &[(&str, &[u8])],
    ) -> String {
        let descriptor = |media_type: &str, bytes: &[u8]| {
            let digest = self.push_blob(repository, bytes);
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let layer = |&(name, bytes): &(&str, &[u8])| {
            let mut layer = descriptor("application/octet-stream", bytes);
            layer["annotations"] = json!({"org.opencontainers.image.title": name});
            layer
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": files.iter().map(layer).collect::<Vec<_>>(),
        });
        self.push_manifest(repository, tag, MANIFEST, manifest.to_string().as_bytes())
    }

    /// Where the bytes of a blob are on the disk: to change them behind the registry's back.
    pub fn file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a sha256");
        self.server
            .dir()
            .join("pushed/docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }
}

/// The digest of bytes as OCI writes it.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", super::hex(Sha256::digest(bytes)))
}
