//! MLflow's tracking server, from PyPI: over a directory, with S3 behind its own artifact proxy,
//! with artifacts straight in S3, and with accounts. What it is told goes through its REST API, as
//! MLflow's client tells it, or through that client itself.

use std::{path::Path, process::Command, sync::OnceLock, time::Duration};

use serde_json::{Value, json};

use super::{Dir, Server, free_port, run, s3::S3, tools, wait};

/// The account that MLflow makes at its first start with accounts.
pub const ADMIN: (&str, &str) = ("admin", "admin-password-1234");

/// A running server; dropping it ends it and removes what it kept.
pub struct Mlflow {
    server: Server,
    admin: bool,
    /// The workspace that it is told things in.
    workspace: Option<&'static str>,
}

/// A model that a run logged.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Its run.
    pub run: String,
    /// Its id.
    pub id: String,
}

impl Mlflow {
    /// The one over a directory that tests share, each in experiments and models of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Mlflow> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One over a directory.
    pub fn start() -> Self {
        Self::start_with(&["--artifacts-destination", "./art"], &[], false)
    }

    /// One that answers to this name only.
    pub fn start_for_host(host: &str) -> Self {
        Self::start_with(&["--artifacts-destination", "./art", "--allowed-hosts", host], &[], false)
    }

    /// One that hands out what it keeps in S3.
    pub fn before(s3: &S3, destination: &str) -> Self {
        let endpoint = s3.endpoint();
        Self::start_with(
            &["--artifacts-destination", destination],
            &[("MLFLOW_S3_ENDPOINT_URL", endpoint.as_str())],
            false,
        )
    }

    /// One whose artifacts are in S3, and that hands out none.
    pub fn beside(s3: &S3, root: &str) -> Self {
        let endpoint = s3.endpoint();
        Self::start_with(
            &["--default-artifact-root", root, "--no-serve-artifacts"],
            &[("MLFLOW_S3_ENDPOINT_URL", endpoint.as_str())],
            false,
        )
    }

    /// One with accounts, which may do nothing until they are told what.
    pub fn with_accounts() -> Self {
        Self::start_with(
            &["--artifacts-destination", "./art", "--app-name", "basic-auth"],
            &[("MLFLOW_FLASK_SERVER_SECRET_KEY", "test")],
            true,
        )
    }

    /// One with workspaces, told things in one that is not the default's.
    pub fn with_workspace(name: &'static str) -> Self {
        let mut server = Self::start_with(
            &["--artifacts-destination", "./art", "--enable-workspaces"],
            &[],
            false,
        );
        server.post("/api/3.0/mlflow/workspaces", json!({"name": name}));
        server.workspace = Some(name);
        server
    }

    fn start_with(args: &[&str], env: &[(&str, &str)], admin: bool) -> Self {
        let (dir, port) = (Dir::fresh("mlflow"), free_port());
        let listen = port.to_string();
        let home = dir.path().to_str().expect("a path").to_owned();
        let config = dir.join("auth.ini");
        let lines = format!(
            "[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{home}/auth.db\nadmin_username = {}\nadmin_password = {}\n\
             authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
            ADMIN.0, ADMIN.1
        );
        std::fs::write(&config, lines).expect("its accounts' configuration");
        let config = config.to_str().expect("a path").to_owned();
        let launcher = super::root().join("tests/artifacts/mlflow/serve.py").display().to_string();
        let mut all = vec![
            launcher.as_str(),
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            &listen,
            "--workers",
            "1",
            "--backend-store-uri",
            "sqlite:///mlflow.db",
        ];
        all.extend(args);
        let bin = tools("mlflow").join("bin");
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let mut environment = vec![
            ("PATH", path.as_str()),
            ("HOME", home.as_str()),
            ("MLFLOW_AUTH_CONFIG_PATH", config.as_str()),
        ];
        // Else it starts seven more processes for jobs, which outlive it, and then never sleep.
        environment.push(("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"));
        environment.extend(S3::env());
        environment.extend(env);
        let mut server = Server::start(&bin.join("python"), &all, &environment, port, dir);
        // The port is open before the worker behind it answers.
        server.until("it answers", || {
            let health = Command::new("curl")
                .args(["-sf", "-o", "/dev/null", &format!("http://127.0.0.1:{port}/health")])
                .status();
            health.is_ok_and(|status| status.success())
        });
        Self { server, admin, workspace: None }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Its directory; artifacts are in `art` of it.
    pub fn dir(&self) -> &Path {
        self.server.dir()
    }

    /// One request to its API, below `api/2.0/mlflow` unless the path begins with `/`; its answer,
    /// which has to be a good one.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = self.send(method, path, body.to_string().into_bytes());
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn send(&self, method: &str, path: &str, body: Vec<u8>) -> String {
        let url = match path.starts_with('/') {
            true => format!("{}{path}", self.url()),
            false => format!("{}/api/2.0/mlflow/{path}", self.url()),
        };
        let (method, admin, told) =
            (method.parse().expect("a method"), self.admin, format!("{method} {path}"));
        let workspace = self.workspace.unwrap_or_default();
        let (status, text) = wait(async move {
            static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
            let make = || {
                // It asks for cryptography even where there is no TLS.
                let _ = rustls::crypto::ring::default_provider().install_default();
                reqwest::Client::new()
            };
            let request =
                CLIENT.get_or_init(make).request(method, url).timeout(Duration::from_secs(60));
            let request = if admin { request.basic_auth(ADMIN.0, Some(ADMIN.1)) } else { request };
            let request = if workspace.is_empty() {
                request
            } else {
                request.header("x-mlflow-workspace", workspace)
            };
            let answer = request
                .header("content-type", "application/json")
                .body(body)
                .send()
                .await
                .expect("an answer");
            (answer.status(), answer.text().await.expect("a text"))
        });
        assert!(status.is_success(), "{told}: {status} {text}");
        text
    }

    /// POSTs to its API.
    pub fn post(&self, path: &str, body: Value) -> Value {
        self.ask("POST", path, &body)
    }

    /// A run that goes on; its experiment is made where it is not there yet.
    pub fn begin_run(&self, experiment: &str) -> String {
        let id = self.experiment(experiment);
        let tags = json!([{"key": "mlflow.user", "value": "alice"}]);
        let run = self.post(
            "runs/create",
            json!({"experiment_id": id, "start_time": 1_795_800_000_000_i64, "tags": tags}),
        );
        run["run"]["info"]["run_id"].as_str().expect("a run").to_owned()
    }

    /// The id of an experiment, which is made where it is not there yet.
    pub fn experiment(&self, name: &str) -> String {
        let all = self.post("experiments/search", json!({"max_results": 1000}));
        let found = all["experiments"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|e| e["name"] == name)
            .cloned();
        let experiment =
            found.unwrap_or_else(|| self.post("experiments/create", json!({"name": name})));
        experiment["experiment_id"].as_str().expect("an id").to_owned()
    }

    /// Logs a number in a run, now.
    pub fn log_metric(&self, run: &str, key: &str, value: f64) {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("a time")
            .as_millis();
        let now = u64::try_from(now).expect("a time");
        self.post(
            "runs/log-metric",
            json!({"run_id": run, "key": key, "value": value, "timestamp": now}),
        );
    }

    /// Ends a run.
    pub fn end_run(&self, run: &str, status: &str) {
        self.post(
            "runs/update",
            json!({"run_id": run, "status": status, "end_time": 1_795_800_100_000_i64}),
        );
    }

    /// Logs a model in a run at a step, with files and tags.
    pub fn log_model(
        &self,
        experiment: &str,
        run: &str,
        step: i64,
        files: &[(&str, &[u8])],
        tags: Value,
    ) -> Logged {
        let made = self.post(
            "logged-models",
            json!({"experiment_id": self.experiment(experiment), "name": "model", "source_run_id": run, "tags": tags,
                "params": [{"key": "C", "value": "1.0"}]}),
        );
        let id = made["model"]["info"]["model_id"].as_str().expect("an id").to_owned();
        let uri = made["model"]["info"]["artifact_uri"].as_str().expect("an address").to_owned();
        if let Some(path) = uri.strip_prefix("mlflow-artifacts:/") {
            files.iter().for_each(|(name, bytes)| self.put(&format!("{path}/{name}"), bytes));
        }
        self.ask(
            "PATCH",
            &format!("logged-models/{id}"),
            &json!({"model_id": id, "status": "LOGGED_MODEL_READY"}),
        );
        self.post(
            "runs/outputs",
            json!({"run_id": run, "models": [{"model_id": id, "step": step}]}),
        );
        Logged { run: run.to_owned(), id }
    }

    /// Puts a file where it keeps artifacts.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.send(
            "PUT",
            &format!("/api/2.0/mlflow-artifacts/artifacts/{}", super::escaped(path)),
            bytes.to_vec(),
        );
    }

    /// A finished run with one small model.
    pub fn trained(&self, experiment: &str) -> Logged {
        let run = self.begin_run(experiment);
        let logged = self.log_model(
            experiment,
            &run,
            0,
            &[("MLmodel", MLMODEL), ("model.bin", run.as_bytes())],
            json!([]),
        );
        self.end_run(&run, "FINISHED");
        logged
    }

    /// Registers a logged model as the next version of a model, which is made where it is not there
    /// yet; its number.
    pub fn register(&self, name: &str, logged: &Logged) -> String {
        if !self.is_registered(name) {
            self.post("registered-models/create", json!({"name": name}));
        }
        let source = format!("models:/{}", logged.id);
        self.register_from(
            name,
            json!({"name": name, "source": source, "run_id": logged.run, "model_id": logged.id}),
        )
    }

    /// Makes a version of a model that is there.
    pub fn register_from(&self, _: &str, version: Value) -> String {
        let made = self.post("model-versions/create", version);
        made["model_version"]["version"].as_str().expect("a number").to_owned()
    }

    fn is_registered(&self, name: &str) -> bool {
        let found = self.ask("GET", "registered-models/search?max_results=1000", &Value::Null);
        found["registered_models"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|model| model["name"] == name)
    }

    /// Runs a script with MLflow's client, told where the server is by the environment alone; what
    /// it printed.
    pub fn python(&self, script: &str, args: &[&str], env: &[(&str, &str)]) -> String {
        let mut python = Command::new(tools("mlflow").join("bin/python"));
        python
            .arg(super::root().join("tests/artifacts/mlflow").join(script))
            .args(args)
            .current_dir(self.dir());
        python
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir())
            .env("MLFLOW_TRACKING_URI", self.url());
        python.envs(env.iter().copied());
        String::from_utf8(run(&mut python)).expect("a text")
    }
}

/// The file `MLmodel` of a small model.
pub const MLMODEL: &[u8] =
    b"flavors:\n  python_function: {env: {}}\n  sklearn: {sklearn_version: 1.9.1}\n";
