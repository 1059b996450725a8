//! `cargo run --example cluster -- up | down | run COMMAND…`: the test cluster for people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::{
    ffi::OsString,
    fs,
    io::{Read, Seek},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use harness::{Cluster, Options, process, root};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A real Kubernetes on loopback.
#[derive(Parser)]
enum Cli {
    /// Starts one that stays, and prints the KUBECONFIG to export.
    Up(Setup),
    /// Ends it: every process and every file.
    Down(Place),
    /// Starts one, runs a command on it, ends it, and passes the exit code on.
    Run {
        #[command(flatten)]
        size: Size,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    #[command(hide = true)]
    Serve(Setup),
}

#[derive(clap::Args, Clone)]
struct Setup {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    size: Size,
}

#[derive(clap::Args, Clone)]
struct Place {
    /// Where its files are [default: target/cluster].
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(clap::Args, Clone)]
struct Size {
    /// How many fake nodes.
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// Let etcd wait for the disk, as where something is measured.
    #[arg(long)]
    fsync: bool,
}

impl Place {
    fn path(&self) -> PathBuf {
        std::path::absolute(self.dir.clone().unwrap_or_else(|| root().join("target/cluster")))
            .expect("a directory")
    }
}

impl Size {
    fn options(&self, dir: PathBuf) -> Options {
        Options { fsync: self.fsync, nodes: self.nodes, dir: Some(dir), ..Options::default() }
    }
}

/// What somebody who interrupts a shell command sees.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse() {
        Cli::Up(setup) => up(&setup).await,
        Cli::Down(place) => {
            down(&place.path());
            println!("The cluster is gone.");
            ExitCode::SUCCESS
        }
        Cli::Serve(setup) => serve(&setup),
        Cli::Run { size, command } => run(&size, &command).await,
    }
}

/// Ctrl-C, and the signals of a supervisor or a closed terminal.
struct Interrupts(Signal, Signal, Signal);

impl Interrupts {
    fn listen() -> Self {
        let [int, term, hup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
                .map(|kind| signal(kind).unwrap());
        Self(int, term, hup)
    }

    /// Waits for one, and says whether it was Ctrl-C.
    async fn next(&mut self) -> bool {
        tokio::select! { _ = self.0.recv() => true, _ = self.1.recv() => false, _ = self.2.recv() => false }
    }
}

/// The id of the process that holds the cluster in a directory, if it still runs and is ours.
fn keeper(dir: &Path) -> Option<u32> {
    let pid = fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let has = |word: &str| command.split('\0').any(|w| w == word);
    (has("serve") && has(dir.to_str()?)).then_some(pid)
}

async fn up(setup: &Setup) -> ExitCode {
    let dir = setup.place.path();
    if keeper(&dir).is_none() {
        harness::tools();
        let mut interrupts = Interrupts::listen();
        let started = tokio::select! { started = start_keeper(setup, &dir) => started, _ = interrupts.next() => Err((INTERRUPTED, String::new())) };
        if let Err((code, why)) = started {
            down(&dir);
            eprint!("{why}");
            return ExitCode::from(code);
        }
    }
    println!(
        "export KUBECONFIG={}\nexport PATH={}:$PATH",
        dir.join("kubeconfig").display(),
        harness::tools().display()
    );
    ExitCode::SUCCESS
}

/// Starts the process that holds the cluster, in a session of its own so that it survives the
/// terminal.
#[allow(clippy::zombie_processes)] // it outlives this process on purpose
async fn start_keeper(setup: &Setup, dir: &Path) -> Result<(), (u8, String)> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).unwrap();
    let mut log = fs::File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(dir.join("serve.log"))
        .unwrap();
    let mut command = Command::new("setsid");
    command
        .arg(std::env::current_exe().unwrap())
        .args(["serve", "--nodes", &setup.size.nodes.to_string(), "--dir"])
        .arg(dir);
    command
        .args(setup.size.fsync.then_some("--fsync"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log.try_clone().unwrap());
    let mut child = command.spawn().expect("setsid (util-linux)");
    // setsid becomes what it starts, so the id stays.
    fs::write(dir.join("pid"), child.id().to_string()).unwrap();
    let began = Instant::now();
    while !dir.join("ready").exists() {
        if child.try_wait().unwrap().is_some() || began.elapsed() > Duration::from_secs(200) {
            // Read by its handle: a cluster that fails to start removes its files.
            let mut text = String::new();
            log.rewind().and_then(|()| log.read_to_string(&mut text)).unwrap();
            return Err((1, format!("the cluster did not start:\n{text}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn serve(setup: &Setup) -> ExitCode {
    let dir = setup.place.path();
    let _cluster = Cluster::start(setup.size.options(dir.clone()));
    fs::write(dir.join("ready"), "").unwrap();
    loop {
        std::thread::park();
    }
}

/// Ends the keeper, waits until its children have died with it, and removes every file.
fn down(dir: &Path) {
    if let Some(pid) = keeper(dir) {
        let mut all = process::children(pid);
        all.push(pid);
        end(&[pid], &all);
    }
    let _ = fs::remove_dir_all(dir);
}

/// Ends processes with SIGKILL, and waits until others are gone too.
fn end(pids: &[u32], all: &[u32]) {
    let _ = Command::new("kill")
        .arg("-9")
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
    let began = Instant::now();
    while !all.iter().all(|&pid| process::gone(pid)) {
        assert!(began.elapsed() < Duration::from_secs(30), "still running: {all:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

async fn run(size: &Size, command: &[OsString]) -> ExitCode {
    harness::tools();
    let mut interrupts = Interrupts::listen();
    let dir = root().join(format!("target/tmp/cluster-{}-run", std::process::id()));
    let options = size.options(dir.clone());
    let starting = tokio::task::spawn_blocking(move || Cluster::start(options));
    let cluster = tokio::select! {
        cluster = starting => cluster.unwrap_or_else(|_| std::process::exit(1)), // the panic said why
        _ = interrupts.next() => {
            let all = process::children(std::process::id());
            end(&all, &all);
            let _ = fs::remove_dir_all(dir);
            // The runtime would wait for the start to end.
            std::process::exit(INTERRUPTED.into());
        }
    };
    let code = execute(&cluster, command, &mut interrupts).await;
    drop(cluster);
    ExitCode::from(code)
}

async fn execute(cluster: &Cluster, command: &[OsString], interrupts: &mut Interrupts) -> u8 {
    let path =
        format!("{}:{}", cluster.tools().display(), std::env::var("PATH").unwrap_or_default());
    let mut started = tokio::process::Command::new(&command[0]);
    started.args(&command[1..]).env("KUBECONFIG", cluster.kubeconfig()).env("PATH", path);
    let mut child = match started.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("run {}: {error}", command[0].display());
            return 127;
        }
    };
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.unwrap();
                let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
                return u8::try_from(code).unwrap_or(1);
            }
            // The terminal gives Ctrl-C to the command too, and it decides how to end; other
            // signals came to this process alone.
            ctrl_c = interrupts.next() => if let (false, Some(pid)) = (ctrl_c, child.id()) {
                let _ = Command::new("kill").arg(pid.to_string()).status();
            }
        }
    }
}
