//! A real node: containerd, runc, a CNI bridge, kubelet and kube-proxy beside the control plane of
//! `tests/cluster`, on the machine that `enter.sh` made. What is started here ends with that
//! machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock},
    thread,
    time::Duration,
};

use crate::{
    harness::{Cluster, Options, certs::NODE, process::Process, root, tail},
    servers::run,
};

/// Image that fetches artifacts, with this tree's programs in it.
pub const FETCH_IMAGE: &str = "localhost/rollmodel:1";
/// Image of MLServer.
pub const MLSERVER: &str = "localhost/mlserver:1";

const SOCKET: &str = "/run/containerd/containerd.sock";
/// Real pods share two cores: a rollout of two takes most of a minute.
const PATIENCE: Duration = Duration::from_secs(400);

/// The control plane with one real node that is ready.
pub struct Node {
    /// The control plane; its one fake node takes no pods of ours.
    pub cluster: Cluster,
    dir: PathBuf,
    debian: PathBuf,
    running: Mutex<Vec<(&'static str, Process)>>,
}

/// The directory of a group of tools: found or made.
pub fn tools(group: &str) -> PathBuf {
    let out = Command::new(root().join("tests/e2e/tools/build.sh"))
        .arg(group)
        .stderr(Stdio::inherit())
        .output()
        .expect("build.sh runs");
    assert!(out.status.success(), "the {group} of tests/e2e could not be made: see above");
    PathBuf::from(String::from_utf8(out.stdout).expect("a path").trim())
}

/// A variable that `enter.sh` sets.
fn given(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests with `make e2e`, as root"))
}

/// The node's address, at which pods reach what listens on it.
pub fn address() -> String {
    given("ROLLMODEL_E2E_NODE")
}

impl Node {
    /// The one node of this test process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Node> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let dir = root().join("target/tmp/node");
        fs::create_dir_all(&dir).expect("the node's directory");
        let cluster = Cluster::start(Options {
            nodes: 1,
            audit: false,
            patience: PATIENCE,
            address: Some(address()),
            ..Options::default()
        });
        let node = Self { cluster, dir, debian: tools("debian"), running: Mutex::default() };
        node.cluster.kubectl(&["taint", "node", "node-0", "kwok.x-k8s.io/node=fake:NoSchedule"]);
        node.cluster.apply_crds();
        node.cluster.kubectl(&[
            "apply",
            "-f",
            &root().join("deploy/user-roles.yaml").display().to_string(),
        ]);
        node.write_configurations();
        node.run_containerd();
        thread::scope(|scope| {
            scope.spawn(|| node.import_images());
            node.run_kubelet();
            node.run_proxy();
            node.cluster.until("the node is registered", || {
                node.cluster.try_kubectl(&["get", "node", NODE]).status.success()
            });
            let out = node.cluster.try_kubectl(&[
                "wait",
                "--for=condition=Ready",
                "node",
                NODE,
                "--timeout=240s",
            ]);
            assert!(
                out.status.success(),
                "the node is not ready: {}\n{}",
                String::from_utf8_lossy(&out.stderr),
                node.log_ends()
            );
        });
        node
    }

    fn write_configurations(&self) {
        let cgroup = given("ROLLMODEL_E2E_CGROUP");
        let (dir, debian) = (self.dir.display(), self.debian.display());
        fs::create_dir_all(self.dir.join("cni")).expect("a directory");
        let containerd = format!(
            "version = 2\nroot = \"{dir}/containerd\"\nstate = \"/run/containerd\"\n\
             disabled_plugins = [{DISABLED}]\n[grpc]\naddress = \"{SOCKET}\"\n[plugins.\"io.containerd.grpc.v1.cri\"]\n\
             sandbox_image = \"localhost/pause:1\"\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{debian}/usr/lib/cni\"\nconf_dir = \"{dir}/cni\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = false\nBinaryName = \"{debian}/usr/sbin/runc\"\n"
        );
        let kubelet = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\naddress: 0.0.0.0\n\
             authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: false}}, x509: {{clientCAFile: {}/ca.crt}}}}\n\
             authorization: {{mode: AlwaysAllow}}\ncontainerRuntimeEndpoint: unix://{SOCKET}\ncgroupDriver: cgroupfs\ncgroupRoot: /{cgroup}\n\
             failCgroupV1: false\nfailSwapOn: false\nresolvConf: \"\"\nimageGCHighThresholdPercent: 100\nserializeImagePulls: false\n\
             evictionHard: {{memory.available: 1Mi, nodefs.available: 1Mi, imagefs.available: 1Mi, nodefs.inodesFree: 1%, imagefs.inodesFree: 1%}}\n\
             crashLoopBackOff: {{maxContainerRestartPeriod: 1s}}\n",
            self.cluster.dir().display()
        );
        let network = "{\"cniVersion\": \"0.4.0\", \"name\": \"pods\", \"plugins\": [{\"type\": \"bridge\", \"bridge\": \"pods0\", \"isGateway\": true, \
             \"hairpinMode\": true, \"ipam\": {\"type\": \"host-local\", \"ranges\": [[{\"subnet\": \"10.244.0.0/24\"}]], \"routes\": [{\"dst\": \"0.0.0.0/0\"}]}}]}";
        for (name, text) in [
            ("containerd.toml", &*containerd),
            ("kubelet.yaml", &kubelet),
            ("cni/pods.conflist", network),
        ] {
            fs::write(self.dir.join(name), text).expect("a configuration");
        }
    }

    /// Starts one of the node's programs, with Debian's programs and their libraries at hand.
    fn run(&self, name: &'static str, program: &Path, args: &str) {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let env = self.environment();
        let process =
            self.cluster.spawn(program, &args, &env, &self.dir.join(format!("{name}.log")));
        self.running.lock().expect("processes").push((name, process));
    }

    fn environment(&self) -> [(String, String); 2] {
        let debian = self.debian.display();
        let path = std::env::var("PATH").unwrap_or_default();
        let machine = std::env::consts::ARCH;
        let libraries =
            format!("{debian}/usr/lib/{machine}-linux-gnu:{debian}/lib/{machine}-linux-gnu");
        [
            ("PATH".into(), format!("{debian}/usr/bin:{debian}/usr/sbin:{debian}/sbin:{path}")),
            ("LD_LIBRARY_PATH".into(), libraries),
        ]
    }

    fn run_containerd(&self) {
        self.run(
            "containerd",
            &self.debian.join("usr/bin/containerd"),
            &format!("--config {}/containerd.toml", self.dir.display()),
        );
        self.cluster.until("containerd answers", || {
            self.ctr(&["version"]).output().expect("ctr runs").status.success()
        });
    }

    /// Starts the kubelet (again).
    pub fn run_kubelet(&self) {
        let dir = self.dir.display();
        let kubeconfig = self.cluster.kubeconfig_of_node();
        let args = format!(
            "--config {dir}/kubelet.yaml --kubeconfig {} --hostname-override {NODE} --node-ip {} --root-dir {dir}/kubelet --cert-dir {dir}/kubelet/pki",
            kubeconfig.display(),
            address()
        );
        self.run("kubelet", &tools("kubernetes").join("kubelet"), &args);
    }

    fn run_proxy(&self) {
        let cluster = &self.cluster;
        cluster.kubectl(&["create", "serviceaccount", "kube-proxy", "-n", "kube-system"]);
        let role = ["--clusterrole=system:node-proxier", "--serviceaccount=kube-system:kube-proxy"];
        cluster.kubectl(&[&["create", "clusterrolebinding", "kube-proxy"][..], &role].concat());
        let kubeconfig = cluster.kubeconfig_of("kube-system", "kube-proxy");
        let args = format!(
            "--kubeconfig {} --proxy-mode=nftables --hostname-override {NODE} --conntrack-max-per-core=0 --cluster-cidr=10.244.0.0/24 \
             --healthz-bind-address= --metrics-bind-address=127.0.0.1:10249",
            kubeconfig.display()
        );
        self.run("kube-proxy", &tools("kubernetes").join("kube-proxy"), &args);
    }

    /// Ends the kubelet with SIGKILL.
    pub fn kill_kubelet(&self) {
        self.running.lock().expect("processes").retain(|(name, _)| *name != "kubelet");
    }

    fn ctr(&self, args: &[&str]) -> Command {
        let mut ctr = Command::new(self.debian.join("usr/bin/ctr"));
        ctr.envs(self.environment())
            .args(["--address", SOCKET, "--namespace", "k8s.io"])
            .args(args);
        ctr
    }

    /// Gives containerd the images: the servers' from the cache, and one with this tree's programs.
    fn import_images(&self) {
        let images = tools("images");
        let script = root().join("tests/e2e/tools/images/build.py");
        let fetch = env!("CARGO_BIN_EXE_rollmodel-fetch");
        run(Command::new("python3")
            .arg(script)
            .arg("programs")
            .arg(&self.dir)
            .args([env!("CARGO_BIN_EXE_rollmodel"), fetch]));
        for file in
            [images.join("pause.tar"), self.dir.join("rollmodel.tar"), images.join("serving.tar")]
        {
            run(&mut self.ctr(&["images", "import", &file.display().to_string()]));
        }
    }

    /// The last lines of each program's log.
    pub fn log_ends(&self) -> String {
        let names = ["containerd", "kubelet", "kube-proxy"];
        // Some of the kubelet's lines fill a screen each.
        let short = |line: &str| line.chars().take(240).chain(['\n']).collect::<String>();
        let end = |name: &&str| {
            tail(&self.dir.join(format!("{name}.log"))).lines().map(short).collect::<String>()
        };
        names.iter().map(|name| format!("--- {name}\n{}", end(name))).collect()
    }
}

/// Plugins of containerd that a machine may lack the means for.
const DISABLED: &str = "\"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \
                        \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.internal.v1.opt\"";
