//! A real Kubernetes on loopback, from the tools that `tests/cluster/tools/build.sh` finds or
//! builds. Its nodes are kwok's: pods are objects with a status, and [`levers`] decide what becomes
//! of them.
//!
//! Every process dies with the one that started it (see [`process`]), so a failure, Ctrl-C or
//! SIGKILL leaves nothing running.
#![allow(dead_code)] // each target that includes this module uses a part of it

mod access;
pub mod audit;
pub mod certs;
pub mod levers;
pub mod operator;
pub mod process;
pub mod proxy;
pub mod rest;
pub mod story;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use process::{Process, Spawner};

/// What a cluster is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether etcd waits for the disk: only where something is measured.
    pub fsync: bool,
    /// An older minor that the API server plays, such as `1.35`.
    pub emulated_version: Option<String>,
    /// Whether requests are logged, to be counted.
    pub audit: bool,
    /// Whether Services get endpoints: not where something is measured beside an older commit,
    /// whose clusters have none.
    pub endpoints: bool,
    /// How many fake nodes.
    pub nodes: usize,
    /// Where its files are; a fresh directory under `target/tmp` when None.
    pub dir: Option<PathBuf>,
    /// How long anything in a story may take.
    pub patience: Duration,
    /// An address of this machine at which pods reach the API server; without one none does.
    pub address: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync: false,
            emulated_version: None,
            audit: true,
            endpoints: true,
            nodes: 4,
            dir: None,
            patience: Duration::from_secs(60),
            address: None,
        }
    }
}

/// A running cluster; dropping it ends it and removes its files.
pub struct Cluster {
    dir: PathBuf,
    tools: PathBuf,
    ports: Ports,
    options: Options,
    spawner: Spawner,
    processes: Mutex<BTreeMap<&'static str, Process>>,
    /// Whether its processes and files are another process's.
    attached: bool,
}

#[derive(Clone, Copy)]
struct Ports {
    etcd: u16,
    peers: u16,
    api: u16,
}

/// How long anything may take to become ready.
const DEADLINE: Duration = Duration::from_secs(90);

/// The directory of etcd, Kubernetes' binaries, kwok and helm: found or built.
pub fn tools() -> PathBuf {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let script = root().join("tests/cluster/tools/build.sh");
        let out = Command::new(&script)
            .stderr(std::process::Stdio::inherit())
            .output()
            .expect("tests/cluster/tools/build.sh runs");
        assert!(
            out.status.success(),
            "the tools of the test cluster could not be built: see above"
        );
        PathBuf::from(String::from_utf8(out.stdout).expect("a path").trim())
    };
    TOOLS.get_or_init(find).clone()
}

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Cluster {
    /// The one cluster of this test process; with `ROLLMODEL_TEST_KUBECONFIG`, the one that
    /// `cluster up` printed it for.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let given = std::env::var_os("ROLLMODEL_TEST_KUBECONFIG");
            let cluster = given.map_or_else(
                || Self::start(Options::default()),
                |path| Self::attach(Path::new(&path)),
            );
            cluster.apply_crds();
            cluster
        })
    }

    /// A cluster of one test's own, with nothing of ours on it yet; it ends with what is returned.
    pub fn own(options: Options) -> Own {
        Own(Box::leak(Box::new(Self::start(options))))
    }

    /// A cluster that another process holds, by the kubeconfig in its directory: its processes and
    /// files are left alone.
    pub fn attach(kubeconfig: &Path) -> Self {
        let text = fs::read_to_string(kubeconfig)
            .unwrap_or_else(|e| panic!("{}: {e}", kubeconfig.display()));
        let port = text
            .split_once("https://127.0.0.1:")
            .and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
        let api = port.unwrap_or_else(|| {
            panic!("{} is not of a cluster that `cluster up` started", kubeconfig.display())
        });
        let dir = kubeconfig
            .canonicalize()
            .expect("the kubeconfig")
            .parent()
            .expect("its directory")
            .to_owned();
        let ports = Ports { etcd: 0, peers: 0, api };
        let options = Options { dir: Some(dir.clone()), ..Options::default() };
        let cluster = Self::new(dir, ports, options, true);
        cluster.wait_api();
        cluster
    }

    fn new(dir: PathBuf, ports: Ports, options: Options, attached: bool) -> Self {
        let (tools, spawner, processes) = (tools(), Spawner::start(), Mutex::default());
        Self { dir, tools, ports, options, spawner, processes, attached }
    }

    /// Starts a cluster and waits until its nodes are ready.
    pub fn start(options: Options) -> Self {
        sweep_stale();
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let fresh = || {
            root().join(format!(
                "target/tmp/cluster-{}-{}",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            ))
        };
        let dir = options.dir.clone().unwrap_or_else(fresh);
        fs::create_dir_all(&dir).expect("the cluster's directory");
        let ports = Ports { etcd: free_port(), peers: free_port(), api: free_port() };
        let cluster = Self::new(dir, ports, options, false);
        certs::write(&cluster.dir);
        fs::write(cluster.kubeconfig(), cluster.kubeconfig_text("admin.crt", "admin.key"))
            .expect("kubeconfig");
        fs::write(cluster.dir.join("audit.yaml"), audit::POLICY).expect("audit policy");
        fs::write(
            cluster.dir.join("kwok.yaml"),
            levers::configuration(&cluster.tools.join("stages.yaml")),
        )
        .expect("kwok.yaml");
        for name in ["etcd", "kube-apiserver"] {
            cluster.run(name);
        }
        cluster.wait_api();
        for name in ["kube-controller-manager", "kube-scheduler", "kwok"] {
            cluster.run(name);
        }
        cluster.make_nodes();
        cluster
    }

    /// Starts one of its processes (again).
    pub fn run(&self, name: &'static str) {
        assert!(!self.attached, "{name} is held by the process that started this cluster");
        let mut args = self.args(name);
        let program = self.tools.join(name);
        let log = self.dir.join(format!("{name}.log"));
        // With the small heaps of a test, Go's collector took a third of the API server's time.
        let env = [("GOGC".to_owned(), "400".to_owned())];
        let process =
            self.spawner.spawn(&program, &std::mem::take(&mut args), &env, &self.dir, &log);
        self.processes.lock().expect("processes").insert(name, process);
    }

    /// The ids of its processes, by name.
    pub fn ids(&self) -> Vec<(&'static str, u32)> {
        self.processes
            .lock()
            .expect("processes")
            .iter()
            .map(|(name, process)| (*name, process.id()))
            .collect()
    }

    /// Ends one of its processes with SIGKILL.
    pub fn kill(&self, name: &str) {
        if let Some(mut process) = self.processes.lock().expect("processes").remove(name) {
            process.kill();
        }
    }

    fn args(&self, name: &str) -> Vec<String> {
        let emulated = self
            .options
            .emulated_version
            .as_ref()
            .map(|v| format!("--emulated-version={v}"))
            .unwrap_or_default();
        let endpoints = if self.options.endpoints { ",endpointslice-controller" } else { "" };
        let text = match name {
            "etcd" => self.etcd_args(),
            "kube-apiserver" => self.api_args(),
            "kube-controller-manager" => format!(
                "--kubeconfig kubeconfig --leader-elect=false --use-service-account-credentials=true --service-account-private-key-file sa.key \
                 --root-ca-file ca.crt --kube-api-qps=1000 --kube-api-burst=2000 \
                 --controllers={CONTROLLERS}{endpoints} --secure-port=0 \
                 --horizontal-pod-autoscaler-sync-period=2s {emulated}"
            ),
            "kube-scheduler" => {
                format!("--kubeconfig kubeconfig --leader-elect=false --kube-api-qps=1000 --kube-api-burst=2000 --secure-port=0 {emulated}")
            }
            "kwok" => "--kubeconfig kubeconfig --config kwok.yaml --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
                 --node-lease-duration-seconds=40"
                .into(),
            other => panic!("{other} is no process of a cluster"),
        };
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn etcd_args(&self) -> String {
        let Ports { etcd, peers, .. } = self.ports;
        let unsafe_sync = if self.options.fsync { "" } else { "--unsafe-no-fsync" };
        format!(
            "--data-dir etcd --listen-client-urls http://127.0.0.1:{etcd} --advertise-client-urls http://127.0.0.1:{etcd} \
             --listen-peer-urls http://127.0.0.1:{peers} --initial-advertise-peer-urls http://127.0.0.1:{peers} \
             --initial-cluster default=http://127.0.0.1:{peers} {unsafe_sync}"
        )
    }

    fn api_args(&self) -> String {
        let audit = if self.options.audit { audit::FLAGS } else { "" };
        let emulated = self
            .options
            .emulated_version
            .as_ref()
            .map(|v| format!("--emulated-version={v}"))
            .unwrap_or_default();
        let (bind, advertised, reconciler) = match &self.options.address {
            None => ("127.0.0.1", "127.0.0.1", "none"),
            Some(address) => ("0.0.0.0", address.as_str(), "lease"),
        };
        format!(
            "--etcd-servers http://127.0.0.1:{} --bind-address={bind} --advertise-address={advertised} --secure-port {} \
             --tls-cert-file server.crt --tls-private-key-file server.key --client-ca-file ca.crt --service-account-key-file sa.pub \
             --service-account-signing-key-file sa.key --service-account-issuer=https://kubernetes.default.svc --authorization-mode=Node,RBAC \
             --service-cluster-ip-range=10.0.0.0/16 --endpoint-reconciler-type={reconciler} --allow-privileged=true \
             --kubelet-preferred-address-types=InternalIP --kubelet-client-certificate admin.crt --kubelet-client-key admin.key {audit} {emulated}",
            self.ports.etcd, self.ports.api
        )
    }

    /// The kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Its directory, with a log of each process.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of its binaries.
    pub fn tools(&self) -> &Path {
        &self.tools
    }

    /// How long anything in a story may take.
    pub fn patience(&self) -> Duration {
        self.options.patience
    }

    /// The address of its API server.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    /// Waits until the API server is ready, also after it was killed; fails at once if a process
    /// has ended by itself.
    pub fn wait_api(&self) {
        let ready = || {
            self.assert_all_run();
            self.try_kubectl(&["get", "--raw", "/readyz"]).status.success()
        };
        self.until("the API server is ready", ready);
    }

    /// Waits for something, and fails with the logs' ends.
    pub fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(
                began.elapsed() < DEADLINE,
                "{what}: not within {DEADLINE:?}\n{}",
                self.log_ends()
            );
            // A process has no event to watch for while it starts.
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn assert_all_run(&self) {
        let ended = |process: &mut Process| process.ended().map(|code| (code, process.log_end()));
        let first = self
            .processes
            .lock()
            .expect("processes")
            .iter_mut()
            .find_map(|(&name, process)| Some((name, ended(process)?)));
        if let Some((name, (code, log))) = first {
            panic!("{name} ended by itself, with {code:?}:\n{log}");
        }
    }

    fn log_ends(&self) -> String {
        let names: Vec<_> = self.processes.lock().expect("processes").keys().copied().collect();
        names
            .iter()
            .map(|name| format!("--- {name}\n{}", tail(&self.dir.join(format!("{name}.log")))))
            .collect()
    }

    fn make_nodes(&self) {
        let nodes: String = (0..self.options.nodes).map(node).collect();
        self.kubectl_in(&["apply", "-f", "-"], &nodes);
        let out =
            self.try_kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
        assert!(
            out.status.success(),
            "the nodes are not ready: {}\n{}",
            String::from_utf8_lossy(&out.stderr),
            self.log_ends()
        );
    }

    /// A namespace of its own for one test.
    pub fn namespace(&self, hint: &str) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // A cluster from outside may have seen other runs.
        let name = if self.attached {
            format!("{hint}-{}-{count}", std::process::id())
        } else {
            format!("{hint}-{count}")
        };
        self.kubectl(&["create", "namespace", &name]);
        // Pods are refused until their ServiceAccount is there, and retried with a backoff that a
        // test would wait for.
        self.kubectl(&[
            "wait",
            "--for=create",
            "serviceaccount/default",
            "-n",
            &name,
            "--timeout=60s",
        ]);
        name
    }

    /// Starts a process that dies with this cluster's.
    pub fn spawn(
        &self,
        program: &Path,
        args: &[String],
        env: &[(String, String)],
        log: &Path,
    ) -> Process {
        self.spawner.spawn(program, args, env, &self.dir, log)
    }
}

impl Cluster {
    fn end(&self) {
        for (_, mut process) in std::mem::take(&mut *self.processes.lock().expect("processes")) {
            process.kill();
        }
        if !self.attached {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
    }
}

/// A cluster of one test's own. Stories hold the cluster for ever, so that its few words of memory
/// stay; its processes and files go.
pub struct Own(&'static Cluster);

impl Own {
    /// The cluster.
    pub fn cluster(&self) -> &'static Cluster {
        self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The last lines of a log.
pub fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(12).collect();
    lines.into_iter().rev().map(|l| format!("{l}\n")).collect()
}

const CONTROLLERS: &str = "deployment-controller,replicaset-controller,namespace-controller,\
serviceaccount-controller,\
serviceaccount-token-controller,root-ca-certificate-publisher-controller,\
garbage-collector-controller,pod-garbage-collector-controller,disruption-controller,\
clusterrole-aggregation-controller,node-lifecycle-controller,\
taint-eviction-controller,horizontal-pod-autoscaler-controller,job-controller,resourcequota-controller";

fn node(index: usize) -> String {
    // Addresses of its pods, without which a Service has no endpoints.
    let pods = format!("10.{}.{}.0/20", 128 + index / 16, index % 16 * 16);
    let room = "{cpu: \"64\", memory: 512Gi, pods: \"10000\"}";
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{index}, annotations: {{kwok.x-k8s.io/node: fake, node.alpha.kubernetes.io/ttl: \"0\"}}, \
         labels: {{kubernetes.io/hostname: node-{index}}}}}\nspec: {{podCIDR: {pods}, podCIDRs: [{pods}]}}\nstatus: {{allocatable: {room}, capacity: {room}}}\n"
    )
}

/// A random port that is free now. It is below those the kernel gives to outgoing connections, one
/// of which could else take it before its process listens.
pub fn free_port() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    let random =
        || u16::try_from(RandomState::new().hash_one(()) % 22_000).expect("a small number");
    let candidates = std::iter::repeat_with(|| 10_000 + random()).take(1000);
    let mut free =
        candidates.filter(|&port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    free.next().expect("a free port")
}

/// Removes what clusters of processes that are gone left.
fn sweep_stale() {
    let Ok(entries) = fs::read_dir(root().join("target/tmp")) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let Some(pid) = name.strip_prefix("cluster-").and_then(|rest| rest.split('-').next())
        else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
