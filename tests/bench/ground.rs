//! A control plane that waits for its disk, an operator on it as it is shipped, and what is seen of
//! both.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::{
    Client,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    figures::say,
    harness::{Cluster, Options, audit, free_port, operator},
    objects,
};

/// The beginning of the operator's user agent.
const AGENT: &str = "rollmodel/";
/// How long the operator has to be silent: its counters are written up to 30 s late.
const QUIET: Duration = Duration::from_secs(35);
/// How long nobody may write before the next is measured.
const CALM: Duration = Duration::from_secs(4);
/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A cluster with an operator.
pub struct Ground {
    /// The cluster.
    pub cluster: Cluster,
    /// An administrator.
    pub client: Client,
    /// The operator.
    pub operator: operator::Operator,
}

impl Ground {
    /// Starts both.
    pub async fn start() -> Self {
        let options = Options { fsync: true, endpoints: false, ..Options::default() };
        let cluster = Cluster::start(options);
        cluster.apply_crds();
        let client = cluster.client().await;
        let operator = start_operator(&cluster);
        Self { cluster, client, operator }
    }

    /// Ends the operator in order and starts it again.
    pub fn restart(&mut self) {
        self.operator.process.terminate();
        self.operator = start_operator(&self.cluster);
    }

    /// A namespace.
    pub fn namespace(&self, name: &str) {
        self.cluster.kubectl(&["create", "namespace", name]);
    }

    /// Waits until the operator asks for nothing any more.
    pub async fn quiet(&self) {
        self.without(QUIET, |mark| audit::total(&mark.count(AGENT, None))).await;
    }

    /// Waits until nobody writes anything, so that what is measured next does not pay for what was
    /// before.
    pub async fn calm(&self) {
        let writes = |mark: &audit::Mark| {
            mark.count("", None)
                .keys()
                .filter(|(verb, _)| !["get", "list"].contains(&verb.as_str()))
                .count()
        };
        self.without(CALM, writes).await;
    }

    async fn without(&self, wait: Duration, requests: impl Fn(&audit::Mark) -> usize) {
        let began = Instant::now();
        let mut silent = Instant::now();
        while silent.elapsed() < wait {
            let mark = audit::mark(&self.cluster);
            tokio::time::sleep(Duration::from_secs(1)).await;
            if requests(&mark) > 0 {
                silent = Instant::now();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "it is never quiet:\n{}",
                self.operator.process.log()
            );
        }
    }

    /// CPU time of the operator so far, in milliseconds.
    pub fn cpu(&self) -> f64 {
        cpu(self.operator.process.id())
    }

    /// CPU time of everything on the machine that takes part so far, in milliseconds.
    pub fn everyone(&self) -> BTreeMap<&'static str, f64> {
        let others = [("rollmodel", self.operator.process.id()), ("benchmark", std::process::id())];
        self.cluster.ids().into_iter().chain(others).map(|(name, id)| (name, cpu(id))).collect()
    }

    /// How many passes the operator ran so far.
    pub fn passes(&self) -> u64 {
        let (_, text) = self.operator.get("/metrics");
        let counts = text
            .lines()
            .filter(|line| line.starts_with("rollmodel_reconcile_duration_seconds_count"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Resident memory of the operator in MB, now and at most.
    pub fn memory(&self) -> (f64, f64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.operator.process.id()))
            .expect("the operator runs");
        let find = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
        };
        (find("VmRSS:"), find("VmHWM:"))
    }
}

/// CPU time of a process so far, in milliseconds.
fn cpu(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() * 10.0).sum()
}

/// As deploy/operator.yaml runs it.
fn start_operator(cluster: &Cluster) -> operator::Operator {
    let binary = std::env::var_os("BENCH_OPERATOR").map_or_else(operator::binary, PathBuf::from);
    let port = free_port();
    let args = [
        "--admin-address",
        &format!("127.0.0.1:{port}"),
        "--log-format=json",
        "--lease-namespace=default",
    ]
    .map(str::to_owned);
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let env = [("KUBECONFIG".to_owned(), kubeconfig)];
    let process =
        cluster.spawn(&binary, &args, &env, &cluster.dir().join(format!("operator-{port}.log")));
    let operator = operator::Operator { process, port };
    operator.wait_ready(cluster);
    operator
}

/// The operator's requests since a mark: how many by verb and resource, watches and leases left
/// out.
pub fn requests(mark: &audit::Mark) -> (usize, Value) {
    let counts = mark.count(AGENT, None);
    (audit::total(&counts), named(&counts))
}

fn named(counts: &audit::Counts) -> Value {
    counts
        .iter()
        .map(|((verb, resource), count)| (format!("{verb} {resource}"), json!(count)))
        .collect()
}

/// Requests of everybody since a mark, by the first word of the user agent, verb and resource;
/// watches and leases left out.
pub fn everybody(mark: &audit::Mark) -> Value {
    let mut counts = BTreeMap::<String, BTreeMap<String, usize>>::new();
    for entry in mark.entries() {
        let text = |path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if text("/verb") != "watch" && text("/objectRef/resource") != "leases" {
            let agent = text("/userAgent").split('/').next().unwrap_or_default();
            let of = counts
                .entry(if agent.is_empty() { "the benchmark" } else { agent }.into())
                .or_default();
            let sub = text("/objectRef/subresource");
            *of.entry(format!(
                "{} {}{}{sub}",
                text("/verb"),
                text("/objectRef/resource"),
                if sub.is_empty() { "" } else { "/" }
            ))
            .or_default() += 1;
        }
    }
    json!(counts)
}

/// What an operator that starts asks for since a mark: requests by resource, watches counted when
/// they open.
pub fn opened(mark: &audit::Mark) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in mark.entries() {
        let text = |path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let ended_watch = text("/verb") == "watch" && text("/stage") != "ResponseStarted";
        let resource = text("/objectRef/resource");
        if text("/userAgent").starts_with(AGENT) && !ended_watch && resource != "leases" {
            let name = if resource.is_empty() { text("/requestURI") } else { resource };
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

type Seen = Arc<Mutex<HashMap<String, Value>>>;

/// Watches ModelDeployments and Deployments of one namespace.
pub struct Progress {
    wanted: Seen,
    workloads: Seen,
    tasks: Vec<JoinHandle<()>>,
}

impl Progress {
    /// Starts to watch.
    pub fn start(client: &Client, namespace: &str) -> Self {
        let (wanted, workloads) = (Seen::default(), Seen::default());
        let watch = |kind: &str, seen: &Seen| {
            let (api, seen) = (objects::api(client, namespace, kind), seen.clone());
            tokio::spawn(async move {
                let mut events =
                    watcher(api, Config::default().streaming_lists()).default_backoff().boxed();
                while let Some(event) = events.next().await {
                    if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
                        let (name, object) = slim(object);
                        seen.lock().unwrap().insert(name, object);
                    }
                }
            })
        };
        let tasks = vec![watch("ModelDeployment", &wanted), watch("Deployment", &workloads)];
        Self { wanted, workloads, tasks }
    }

    /// Waits until every ModelDeployment serves that version as its newest spec asks, and its
    /// Deployment is complete.
    pub async fn serving(&self, names: &[String], version: &str) {
        let serves = |name: &str| {
            let wanted = self.wanted.lock().unwrap().get(name).cloned().unwrap_or_default();
            wanted["version"] == version
                && wanted["generation"] == wanted["status"]["observedGeneration"]
                && wanted["status"]["state"] == "Serving"
                && wanted["status"]["serving"]["version"] == version
        };
        self.until(&format!("every ModelDeployment serves version {version}"), names, |name| {
            serves(name) && self.complete(name, version)
        })
        .await;
    }

    /// Waits until every Deployment runs the image of that version only.
    pub async fn rolled(&self, names: &[String], version: &str) {
        self.until(&format!("every Deployment runs version {version}"), names, |name| {
            self.complete(name, version)
        })
        .await;
    }

    fn complete(&self, name: &str, version: &str) -> bool {
        let workloads = self.workloads.lock().unwrap();
        let Some(workload) = workloads.get(name) else { return false };
        let status = &workload["status"];
        workload["image"] == objects::image(version)
            && workload["generation"] == status["observedGeneration"]
            && ["replicas", "updatedReplicas", "availableReplicas"]
                .iter()
                .all(|count| status[count] == 2)
    }

    async fn until(&self, what: &str, names: &[String], done: impl Fn(&str) -> bool) {
        let began = Instant::now();
        let mut pending: HashSet<&String> = names.iter().collect();
        let mut said = 0;
        while !pending.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            pending.retain(|name| !done(name));
            if began.elapsed().as_secs() / 30 > said {
                said += 1;
                say(&format!("  {what}: {} of {} still do not", pending.len(), names.len()));
            }
            let one =
                pending.iter().next().map(|name| self.wanted.lock().unwrap().get(*name).cloned());
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: not within {PATIENCE:?}; one of them: {one:?}"
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What progress is told by.
fn slim(mut object: DynamicObject) -> (String, Value) {
    let spec = &object.data["spec"];
    let kept = json!({
        "generation": object.metadata.generation, "version": spec["version"], "image": spec["template"]["spec"]["containers"][0]["image"],
        "status": object.data["status"],
    });
    (object.metadata.name.take().unwrap_or_default(), kept)
}
