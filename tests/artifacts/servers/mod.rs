//! Real servers on loopback that artifacts are fetched from, out of what `tools/build.sh` finds or
//! installs: each has an endpoint, credentials, and a way to put objects that goes through its own
//! API.
//!
//! Every process dies with the one that started it (see [`process`]), so a failure, Ctrl-C or
//! SIGKILL leaves nothing running.
#![allow(dead_code)] // each target that includes this module uses a part of it

pub mod azurite;
pub mod certs;
pub mod gcs;
pub mod hub;
pub mod irsa;
pub mod mlflow;
pub mod nginx;
#[path = "../../cluster/harness/process.rs"]
pub mod process;
pub mod proxy;
pub mod registry;
pub mod s3;
pub mod serve;

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    time::{Duration, Instant},
};

use process::{Process, Spawner};
use tokio::runtime::Runtime;

/// How long anything may take to become ready.
const DEADLINE: Duration = Duration::from_secs(90);

/// Where tools/build.sh is, seen from the repository's top.
const BUILD: &str = "tests/artifacts/tools/build.sh";

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The directory of a group of tools: found or installed.
pub fn tools(group: &str) -> PathBuf {
    let out = Command::new(root().join(BUILD))
        .arg(group)
        .stderr(Stdio::inherit())
        .output()
        .expect("tools/build.sh runs");
    assert!(
        out.status.success(),
        "the {group} tools of the artifact tests could not be installed: see above"
    );
    PathBuf::from(String::from_utf8(out.stdout).expect("a path").trim())
}

/// What servers within this process run on: it lives as long as the process.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let make = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    };
    RUNTIME.get_or_init(make)
}

/// Carries out a future on [`runtime`] and waits for it, from an asynchronous test too.
pub fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (answer, answered) = channel();
    runtime().spawn(async move {
        let _ = answer.send(future.await);
    });
    answered.recv().expect("what is waited for does not panic")
}

/// A directory of one server, removed with it.
#[derive(Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// A fresh one under `target/tmp`.
    pub fn fresh(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        static SWEPT: OnceLock<()> = OnceLock::new();
        SWEPT.get_or_init(sweep_stale);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = root().join(format!("target/tmp/servers-{}-{count}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a server's directory");
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what servers of processes that are gone left.
fn sweep_stale() {
    let Ok(entries) = fs::read_dir(root().join("target/tmp")) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let Some(pid) = name.strip_prefix("servers-").and_then(|rest| rest.split('-').next())
        else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// A running server process; dropping it ends it and removes its files.
pub struct Server {
    // Ends before its directory goes: fields are dropped in this order.
    process: Process,
    port: u16,
    dir: Dir,
}

impl Server {
    /// Starts `program` in `dir`, and waits until it listens on `port`.
    fn start(program: &Path, args: &[&str], env: &[(&str, &str)], port: u16, dir: Dir) -> Self {
        static SPAWNER: OnceLock<Spawner> = OnceLock::new();
        let spawner = SPAWNER.get_or_init(Spawner::start);
        let args: Vec<String> = args.iter().map(|&a| a.to_owned()).collect();
        let env: Vec<(String, String)> =
            env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let process = spawner.spawn(program, &args, &env, dir.path(), &dir.join("log"));
        let mut server = Self { process, port, dir };
        server.until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// Waits for something, and fails with the log's end; at once if the process has ended by
    /// itself.
    fn until(&mut self, what: &str, mut is: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is() {
            let ended = self.process.ended();
            assert!(
                ended.is_none(),
                "the server ended by itself, with {ended:?}:\n{}",
                self.process.log_end()
            );
            assert!(
                began.elapsed() < DEADLINE,
                "{what}: not within {DEADLINE:?}\n{}",
                self.process.log_end()
            );
            // A process has no event to watch for while it starts.
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Runs a command that has to succeed, and gives what it printed.
pub fn run(command: &mut Command) -> Vec<u8> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        status.success(),
        "{command:?} ended with {status}:\n{}{}",
        said(&stdout),
        said(&stderr)
    );
    stdout
}

/// The path of an object in a URL: every byte but `/` and what RFC 3986 calls unreserved is
/// escaped, as SigV4 asks for.
pub fn escaped(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    key.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The last lines of a log.
pub fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(12).collect();
    lines.into_iter().rev().map(|l| format!("{l}\n")).collect()
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

/// Bytes as hexadecimal digits.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
