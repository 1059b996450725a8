//! Processes that die with the one that started them: `setpriv --pdeathsig KILL` asks the kernel
//! for it.
//!
//! The signal comes when the *thread* that started a process ends, and test threads end early: one
//! thread starts them all and lives on.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Sender, channel},
};

type Request = (Command, Sender<std::io::Result<Child>>);

/// The thread that starts processes.
pub struct Spawner(Sender<Request>);

impl Spawner {
    /// Starts the thread.
    pub fn start() -> Self {
        let (sender, requests) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in requests {
                let _ = answer.send(command.spawn());
            }
            // The thread must outlive every process it started; only the end of this process ends
            // it.
            loop {
                std::thread::park();
            }
        });
        Self(sender)
    }

    /// Starts `program` in `dir`, its output in `log`.
    pub fn spawn(
        &self,
        program: &Path,
        args: &[String],
        env: &[(String, String)],
        dir: &Path,
        log: &Path,
    ) -> Process {
        let out = File::options().create(true).append(true).open(log).expect("the log");
        let err = out.try_clone().expect("the log again");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .envs(env.iter().map(|(k, v)| (k, v)));
        // A group of its own: Ctrl-C reaches what runs on a cluster, which may want to tidy up
        // there, and not the cluster.
        command.current_dir(dir).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let (answer, spawned) = channel();
        self.0.send((command, answer)).expect("the spawner lives");
        let child = spawned.recv().expect("the spawner answers").unwrap_or_else(|e| {
            panic!("start {} through setpriv (util-linux): {e}", program.display())
        });
        Process { child, log: log.to_owned() }
    }
}

/// A running process; dropping it ends it.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of it.
    pub fn log_end(&self) -> String {
        super::tail(&self.log)
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end with SIGTERM, and gives its exit code and how long it took.
    pub fn terminate(&mut self) -> (Option<i32>, std::time::Duration) {
        let began = std::time::Instant::now();
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let code = self.child.wait().ok().and_then(|s| s.code());
        (code, began.elapsed())
    }

    /// The exit code, if it ended by itself.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().ok().flatten().map(|s| s.code())
    }
}

/// The processes that a process started and that have not ended.
pub fn children(parent: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|(state, of)| state != 'Z' && of == parent)).collect()
}

/// Whether a process has ended, reaped or not.
pub fn gone(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == 'Z')
}

/// The state of a process, and its parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses, and may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
