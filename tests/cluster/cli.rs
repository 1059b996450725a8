//! `cargo run --example cluster -- up | down | run COMMAND…`: the test cluster for people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use harness::{Cluster, Options, root};

const HELP: &str = "cluster: a real Kubernetes on loopback

  up            starts one that stays, and prints the KUBECONFIG to export
  down          ends it: every process and every file
  run CMD ARG…  starts one, runs the command on it, ends it, and passes the exit code on";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("up") => up(),
        Some("down") => down(),
        Some("serve") => serve(),
        Some("run") if args.len() > 1 => run(&args[1..]),
        _ => {
            println!("{HELP}");
            ExitCode::from(2)
        }
    }
}

/// Where the cluster that stays is.
fn dir() -> PathBuf {
    root().join("target/cluster")
}

/// The id of the process that holds it, if it still runs and is ours.
fn keeper() -> Option<u32> {
    let pid = fs::read_to_string(dir().join("pid")).ok()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).into_owned();
    (command.contains("cluster") && command.contains("serve")).then_some(pid)
}

#[allow(clippy::zombie_processes)] // the keeper outlives this process on purpose
fn up() -> ExitCode {
    if keeper().is_none() {
        let _ = fs::remove_dir_all(dir());
        fs::create_dir_all(dir()).unwrap();
        harness::tools();
        let log = fs::File::create(dir().join("serve.log")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("serve").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let mut child = command.spawn().unwrap();
        fs::write(dir().join("pid"), child.id().to_string()).unwrap();
        let began = std::time::Instant::now();
        while !dir().join("ready").exists() {
            if child.try_wait().unwrap().is_some() || began.elapsed().as_secs() > 120 {
                eprintln!("the cluster did not start:\n{}", harness::tail(&dir().join("serve.log")));
                return ExitCode::FAILURE;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(100));
        }
    }
    println!("export KUBECONFIG={}", dir().join("kubeconfig").display());
    println!("export PATH={}:$PATH", harness::tools().display());
    ExitCode::SUCCESS
}

fn serve() -> ExitCode {
    let cluster = Cluster::start(Options { dir: Some(dir()), ..Options::default() });
    fs::write(dir().join("ready"), "").unwrap();
    loop {
        std::thread::park();
        let _ = &cluster;
    }
}

fn down() -> ExitCode {
    if let Some(pid) = keeper() {
        // Its children die with it.
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        while keeper().is_some() {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }
    let _ = fs::remove_dir_all(dir());
    println!("The cluster is gone.");
    ExitCode::SUCCESS
}

fn run(command: &[String]) -> ExitCode {
    let cluster = Cluster::start(Options::default());
    let path = format!("{}:{}", cluster.tools().display(), std::env::var("PATH").unwrap_or_default());
    // In the foreground group, so that Ctrl-C reaches it; the cluster's own processes die with this one whatever happens.
    let status = Command::new(&command[0]).args(&command[1..]).env("KUBECONFIG", cluster.kubeconfig()).env("PATH", path).status();
    drop(cluster);
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("run {}: {error}", command[0]);
            ExitCode::FAILURE
        }
    }
}
