//! A real tracking server, `mlflow server` as PyPI has it, with its artifacts in a real S3 server:
//! both on the node, for pods too.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    harness::{
        process::{Process, Spawner},
        rest::within,
    },
    servers::{
        self, Dir, proxy,
        proxy::Proxy,
        run,
        s3::{KEY, REGION, S3, SECRET},
    },
};

/// Where it keeps artifacts.
pub const DESTINATION: &str = "s3://models/mlflow";
const BUCKET: &str = "models";
const PORT: u16 = 5000;
/// It makes its database first, beside a node that starts.
const PATIENCE: Duration = Duration::from_secs(240);

/// A running server.
pub struct Tracking {
    /// Its address, as pods reach it.
    pub url: String,
    address: String,
    s3: S3,
    /// What pods reach the bucket by: it counts what they ask for.
    front: Proxy,
    /// What importers reach the server by.
    looks: Proxy,
    process: Process,
}

/// What the server says of a model that was logged.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Its id.
    pub id: String,
    /// When it was made, in ms since 1970.
    pub created: i64,
    /// Where its files are in the bucket, with a `/` at the end.
    pub uri: String,
}

impl Tracking {
    /// The one of this test process, ready.
    pub fn shared(address: &str) -> &'static Self {
        static SHARED: OnceLock<Tracking> = OnceLock::new();
        SHARED.get_or_init(|| {
            let mut tracking = Self::start(address);
            within(
                PATIENCE,
                || tracking.is_ready(),
                || "the tracking server does not answer".into(),
            );
            tracking
        })
    }

    fn start(address: &str) -> Self {
        static SPAWNER: OnceLock<Spawner> = OnceLock::new();
        let s3 = S3::start();
        s3.make_bucket(BUCKET);
        let front = Proxy::everywhere(SocketAddr::from(([127, 0, 0, 1], s3.port())));
        let looks = Proxy::everywhere(format!("{address}:{PORT}").parse().unwrap());
        let dir = Dir::fresh("mlflow");
        let database = format!("sqlite:///{}/mlflow.db", dir.path().display());
        let port = PORT.to_string();
        let args = ["-m", "mlflow", "server", "--host", address, "--port", &port, "--workers", "1"];
        let args = args.into_iter().chain([
            "--backend-store-uri",
            &database,
            "--artifacts-destination",
            DESTINATION,
        ]);
        let args: Vec<String> = args.map(str::to_owned).collect();
        let mut env: Vec<(String, String)> =
            S3::env().map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        env.push(("MLFLOW_S3_ENDPOINT_URL".into(), s3.endpoint()));
        // Four processes that nothing here asks for.
        env.push(("MLFLOW_SERVER_ENABLE_JOB_EXECUTION".into(), "false".into()));
        let python = servers::tools("mlflow").join("bin/python");
        let process = SPAWNER.get_or_init(Spawner::start).spawn(
            &python,
            &args,
            &env,
            dir.path(),
            &dir.join("log"),
        );
        // Its files go with the machine.
        std::mem::forget(dir);
        Self {
            url: format!("http://{address}:{PORT}"),
            address: address.to_owned(),
            s3,
            front,
            looks,
            process,
        }
    }

    /// Whether it answers; fails if it has ended.
    fn is_ready(&mut self) -> bool {
        assert!(
            self.process.ended().is_none(),
            "mlflow server ended by itself:\n{}",
            self.process.log_end()
        );
        let mut curl = Command::new("curl");
        curl.args(["-sf", "-o", "/dev/null", &format!("{}/health", self.url)])
            .status()
            .is_ok_and(|s| s.success())
    }

    fn ask(&self, curl: &[&str], path: &str) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.url);
        serde_json::from_slice(&run(Command::new("curl")
            .args(["-sS", "--fail-with-body"])
            .args(curl)
            .arg(url)))
        .unwrap()
    }

    /// Every model that was logged in an experiment.
    pub fn logged(&self, experiment: &str) -> Vec<Logged> {
        let found = self.ask(&[], &format!("experiments/get-by-name?experiment_name={experiment}"));
        let body = json!({"experiment_ids": [found["experiment"]["experiment_id"]]}).to_string();
        let models = self
            .ask(&["-H", "Content-Type: application/json", "-d", &body], "logged-models/search");
        let model = |m: &Value| Logged {
            id: m["info"]["model_id"].as_str().unwrap().to_owned(),
            created: m["info"]["creation_timestamp_ms"].as_i64().unwrap(),
            uri: bucket_uri(m["info"]["artifact_uri"].as_str().unwrap()),
        };
        models["models"].as_array().unwrap().iter().map(model).collect()
    }

    /// The versions of a registered model, each with the address of its files in the bucket.
    pub fn versions(&self, model: &str) -> BTreeMap<String, String> {
        let name = servers::escaped(model);
        let found = self.ask(&[], &format!("model-versions/search?filter=name%3D%27{name}%27"));
        let number = |v: &Value| v["version"].as_str().unwrap().to_owned();
        let uri = |v: &String| {
            self.ask(&[], &format!("model-versions/get-download-uri?name={name}&version={v}"))["artifact_uri"].clone()
        };
        let versions = found["model_versions"].as_array().unwrap().iter().map(number);
        versions.map(|v| (v.clone(), bucket_uri(uri(&v).as_str().unwrap()))).collect()
    }

    /// When a version was registered.
    pub fn registered(&self, model: &str, version: &str) -> Timestamp {
        let found = self.ask(
            &[],
            &format!("model-versions/get?name={}&version={version}", servers::escaped(model)),
        );
        Timestamp::from_millisecond(found["model_version"]["creation_timestamp"].as_i64().unwrap())
            .unwrap()
    }

    /// What a client in a pod, or on this machine, reads the bucket with.
    pub fn credentials(&self) -> Vec<(&'static str, String)> {
        let endpoint = format!("http://{}:{}", self.address, self.front.port());
        let keys =
            [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", REGION)];
        keys.into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .chain([("AWS_ENDPOINT_URL", endpoint)])
            .collect()
    }

    /// Its address for importers.
    pub fn url_of_importers(&self) -> String {
        format!("http://{}:{}", self.address, self.looks.port())
    }

    /// What pods asked the bucket for of a model's files.
    pub fn fetched(&self, uri: &str) -> Vec<proxy::Seen> {
        asked(&self.front, uri)
    }

    /// What importers asked the server for of a model's files.
    pub fn imported(&self, uri: &str) -> Vec<proxy::Seen> {
        asked(&self.looks, uri)
    }

    /// The end of its log.
    pub fn log_end(&self) -> String {
        self.process.log_end()
    }

    /// Puts a file beside others.
    pub fn put(&self, uri: &str, file: &Path) {
        let key = uri.strip_prefix(&format!("s3://{BUCKET}/")).unwrap();
        self.s3.put_file(
            BUCKET,
            &format!("{key}{}", file.file_name().unwrap().to_str().unwrap()),
            file,
        );
    }

    /// Where the bytes of an object are on the disk: to change them behind the server's back.
    pub fn file(&self, uri: &str, name: &str) -> PathBuf {
        let key = uri.strip_prefix(&format!("s3://{BUCKET}/")).unwrap();
        self.s3.file(BUCKET, &format!("{key}{name}"))
    }
}

/// The requests for what is of the logged model at an address, by its id.
fn asked(proxy: &Proxy, uri: &str) -> Vec<proxy::Seen> {
    let id = uri.split('/').find(|part| part.starts_with("m-")).unwrap();
    proxy
        .requests()
        .into_iter()
        .filter(|seen| seen.path.contains(id) || seen.query.contains(id))
        .collect()
}

/// Where the server's own proxy keeps what it calls `mlflow-artifacts:/…`.
fn bucket_uri(uri: &str) -> String {
    let path = uri
        .strip_prefix("mlflow-artifacts:/")
        .unwrap_or_else(|| panic!("{uri} is not of the server's proxy"));
    format!("{DESTINATION}/{path}/")
}
