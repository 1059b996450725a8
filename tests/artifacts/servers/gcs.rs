//! Google Cloud Storage: a fake-gcs-server. It takes every token and none; [`Gcs::start_guarded`]
//! puts an nginx before it that takes one, and a metadata server that gives it, as GKE's pods get
//! theirs.

use std::{fs, path::Path, process::Command};

use axum::{Router, extract::State, response::Response, routing::get};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::{
    Dir, Server, escaped, free_port,
    nginx::Nginx,
    run,
    serve::{Serving, json as answer},
    tools,
};

/// The access token that a guarded server takes.
pub const TOKEN: &str = "ya29.rollmodel-test";

/// A running server; dropping it ends it and removes its objects.
pub struct Gcs {
    server: Server,
    guard: Option<(Nginx, Serving)>,
}

impl Gcs {
    /// Starts one that everybody may read.
    pub fn start() -> Self {
        let (dir, port) = (Dir::fresh("gcs"), free_port());
        let (listen, url) = (port.to_string(), format!("http://127.0.0.1:{port}"));
        let mut args =
            vec!["-scheme", "http", "-host", "127.0.0.1", "-port", &listen, "-external-url", &url];
        // A public host without a port is one at any port: proxies may stand before it.
        args.extend([
            "-public-host",
            "127.0.0.1",
            "-backend",
            "filesystem",
            "-filesystem-root",
            "objects",
            "-data",
            "",
            "-log-level",
            "warn",
        ]);
        let server = Server::start(&tools("gcs").join("fake-gcs-server"), &args, &[], port, dir);
        Self { server, guard: None }
    }

    /// Starts one that takes nothing but [`TOKEN`].
    pub fn start_guarded() -> Self {
        let open = Self::start();
        let rules = format!(
            "location / {{ if ($http_authorization != \"Bearer {TOKEN}\") {{ return 401; }}
             proxy_pass http://127.0.0.1:{}; proxy_http_version 1.1; proxy_buffering off; proxy_set_header Host $http_host; }}",
            open.server.port()
        );
        let metadata = Router::new()
            .route("/computeMetadata/v1/instance/service-accounts/default/{what}", get(metadata));
        let guard = Some((Nginx::start(&rules, None), Serving::start(metadata.with_state(TOKEN))));
        Self { guard, ..open }
    }

    /// Its port on 127.0.0.1; the guard's when it has one.
    pub fn port(&self) -> u16 {
        self.guard.as_ref().map_or(self.server.port(), |(nginx, _)| nginx.port())
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The metadata server of a guarded one, as `GCE_METADATA_HOST` names it.
    pub fn metadata_host(&self) -> String {
        let (_, metadata) = self.guard.as_ref().expect("a guarded server");
        metadata.address().to_string()
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, bucket: &str) {
        let body = json!({"name": bucket}).to_string();
        let url = format!("{}/storage/v1/b", self.endpoint());
        run(curl().args(["-H", "Content-Type: application/json", "-d", &body, &url]));
    }

    /// Puts an object.
    pub fn put(&self, bucket: &str, name: &str, bytes: &[u8]) {
        let file = Dir::fresh("object");
        fs::write(file.join("object"), bytes).expect("the object");
        self.put_file(bucket, name, &file.join("object"));
    }

    /// Puts a file as an object.
    pub fn put_file(&self, bucket: &str, name: &str, file: &Path) {
        let name = escaped(name).replace('/', "%2F");
        let url = format!(
            "{}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}",
            self.endpoint()
        );
        run(curl()
            .args(["-H", "Content-Type: application/octet-stream", "-X", "POST", "-T"])
            .arg(file)
            .arg(url));
    }
}

fn curl() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail-with-body", "-o", "/dev/null", "-H"])
        .arg(format!("Authorization: Bearer {TOKEN}"));
    curl
}

/// "View and query VM metadata": a request without the header is refused.
async fn metadata(
    State(token): State<&'static str>,
    path: axum::extract::Path<String>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    if headers.get("Metadata-Flavor").is_none_or(|flavor| flavor != "Google") {
        return Err(StatusCode::FORBIDDEN);
    }
    match path.as_str() {
        "token" => {
            Ok(answer(&json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})))
        }
        _ => Err(StatusCode::NOT_FOUND),
    }
}
