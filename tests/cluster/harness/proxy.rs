//! A proxy between one operator and the API server, which ends the operator with SIGKILL at a write
//! of one's choice: before the API server sees it, or after it was carried out and before the
//! operator hears of it.
//!
//! The operator speaks plain HTTP to it on loopback; it speaks to the API server as an
//! administrator. Watches stream through.

use std::{
    convert::Infallible,
    fs,
    future::pending,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, response::IntoResponse};
use http::{Method, Request, Response, StatusCode, header};
use kube::Client;

use super::{Cluster, rest::runtime};

/// When the operator dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the API server sees the write.
    Before,
    /// After the write was carried out, before the operator is told.
    After,
}

/// What happens at which write.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The write, counted from 1 since the fault was set.
    pub write: usize,
    /// When, seen from that write.
    pub when: When,
    /// The operator's process id.
    pub pid: u32,
}

#[derive(Default)]
struct Gate {
    fault: Option<Fault>,
    /// Nothing may be written any more: who wrote is dead, or as good as.
    shut: bool,
    struck: bool,
    reads: Vec<String>,
    writes: Vec<String>,
    last: Option<Instant>,
}

/// A running proxy.
pub struct Proxy {
    gate: Arc<Mutex<Gate>>,
    kubeconfig: PathBuf,
    server: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts one in front of a cluster's API server.
    pub fn start(cluster: &Cluster) -> Self {
        let gate = Arc::new(Mutex::new(Gate::default()));
        let (client, listener) = runtime().block_on(async {
            let config =
                kube::config::Kubeconfig::read_from(cluster.kubeconfig()).expect("kubeconfig");
            let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default())
                .await
                .expect("config");
            // What the API server answers is the operator's to see.
            config.default_retry = false;
            (
                Client::try_from(config).expect("client"),
                tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            )
        });
        let port = listener.local_addr().expect("its address").port();
        let kubeconfig = cluster.dir().join(format!("proxy-{port}.kubeconfig"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: p\ncontexts: [{{name: p, context: {{cluster: p, user: p}}}}]\n\
             clusters: [{{name: p, cluster: {{server: \"http://127.0.0.1:{port}\"}}}}]\nusers: [{{name: p, user: {{}}}}]\n"
        );
        fs::write(&kubeconfig, text).expect("kubeconfig");
        let through = (gate.clone(), client);
        let router = Router::new().fallback(move |request| pass(through.clone(), request));
        let server = runtime().spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { gate, kubeconfig, server }
    }

    /// The kubeconfig of an operator that goes through it.
    pub fn kubeconfig(&self) -> &PathBuf {
        &self.kubeconfig
    }

    /// Counts writes anew, and lets everything through but what the fault says.
    pub fn open(&self, fault: Option<Fault>) {
        *lock(&self.gate) = Gate { fault, last: Some(Instant::now()), ..Gate::default() };
    }

    /// Whether the fault came.
    pub fn struck(&self) -> bool {
        lock(&self.gate).struck
    }

    /// The writes since it was opened.
    pub fn writes(&self) -> Vec<String> {
        lock(&self.gate).writes.clone()
    }

    /// The reads since it was opened, watches among them.
    pub fn reads(&self) -> Vec<String> {
        lock(&self.gate).reads.clone()
    }

    /// How long nothing was written.
    pub fn quiet(&self) -> Duration {
        lock(&self.gate).last.map(|at| at.elapsed()).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().expect("nobody panics with it")
}

/// Takes a write down; the fault, if it is this one's. No other write comes between this one and
/// the signal.
fn count(gate: &Mutex<Gate>, request: &Request<Body>) -> Option<Fault> {
    let mut gate = lock(gate);
    gate.writes.push(format!("{} {}", request.method(), request.uri().path()));
    gate.last = Some(Instant::now());
    let fault = gate.fault.filter(|fault| fault.write == gate.writes.len());
    gate.shut |= fault.is_some();
    fault
}

async fn pass(
    (gate, client): (Arc<Mutex<Gate>>, Client),
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let writes = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    if writes && lock(&gate).shut {
        return pending().await;
    }
    if !writes {
        lock(&gate).reads.push(format!("{} {}", request.method(), request.uri()));
    }
    let fault = writes.then(|| count(&gate, &request)).flatten();
    if let Some(fault) = fault.filter(|f| f.when == When::Before) {
        return strike(&gate, fault).await;
    }
    let answer = match upstream(&client, request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => return Ok((StatusCode::BAD_GATEWAY, error).into_response()),
    };
    match fault {
        Some(fault) => {
            let _ = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
            strike(&gate, fault).await
        }
        None => Ok(answer),
    }
}

async fn upstream(
    client: &Client,
    request: Request<Body>,
) -> Result<Response<kube::client::Body>, String> {
    let (mut parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|e| e.to_string())?;
    for name in
        [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
    {
        parts.headers.remove(name);
    }
    client
        .send(Request::from_parts(parts, kube::client::Body::from(body.to_vec())))
        .await
        .map_err(|e| e.to_string())
}

/// Ends the operator, and never answers.
async fn strike(gate: &Mutex<Gate>, fault: Fault) -> Result<Response<Body>, Infallible> {
    let _ = Command::new("kill").args(["-9", &fault.pid.to_string()]).status();
    lock(gate).struck = true;
    pending().await
}
