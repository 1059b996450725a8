//! The operator as a process, as its users run it.

use std::path::{Path, PathBuf};

use super::{Cluster, free_port, process::Process, root};

/// The image that fetches artifacts.
pub const FETCH_IMAGE: &str = "registry.example.com/rollmodel:test";

/// Lets the operator prune at once what nothing needs any more, instead of an hour later.
pub const PRUNE_AT_ONCE: &str = "--prune-grace-seconds=0";

/// A running operator.
pub struct Operator {
    /// The process.
    pub process: Process,
    /// The port of /metrics, /healthz and /readyz.
    pub port: u16,
}

/// The binary that this test run built.
pub fn binary() -> PathBuf {
    option_env!("CARGO_BIN_EXE_rollmodel")
        .map_or_else(|| root().join("target/debug/rollmodel"), PathBuf::from)
}

impl Operator {
    /// Starts the operator as a cluster administrator, on one namespace, without leader election.
    pub fn namespaced(cluster: &Cluster, namespace: &str) -> Self {
        Self::start(
            cluster,
            &cluster.kubeconfig(),
            &["--namespace", namespace, "--leader-elect=false"],
        )
    }

    /// Starts the operator with a kubeconfig and flags.
    pub fn start(cluster: &Cluster, kubeconfig: &Path, flags: &[&str]) -> Self {
        let port = free_port();
        let mut args: Vec<String> = vec![
            "--admin-address".into(),
            format!("127.0.0.1:{port}"),
            "--log-format".into(),
            "text".into(),
        ];
        args.extend(flags.iter().map(|&f| f.to_owned()));
        let env = [
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("NO_COLOR", "1".into()),
            ("ROLLMODEL_FETCH_IMAGE", FETCH_IMAGE.into()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        let log = cluster.dir().join(format!("operator-{port}.log"));
        Self { process: cluster.spawn(&binary(), &args, &env, &log), port }
    }

    /// What one of its pages says, and the HTTP status.
    pub fn get(&self, path: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) else {
            return (0, String::new());
        };
        let _ =
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        let status =
            text.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
        (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// Waits until /readyz says yes.
    pub fn wait_ready(&self, cluster: &Cluster) {
        cluster.until("the operator is ready", || self.get("/readyz").0 == 200);
    }
}
