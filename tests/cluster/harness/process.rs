//! Processes that die with the one that started them: `setpriv --pdeathsig KILL` asks the kernel for it.
//!
//! The signal comes when the *thread* that started a process ends, and test threads end early: one thread starts them all and lives on.

use std::{
    fs::File,
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
            // The thread must outlive every process it started; only the end of this process ends it.
            loop {
                std::thread::park();
            }
        });
        Self(sender)
    }

    /// Starts `program` in `dir`, its output in `log`.
    pub fn spawn(&self, program: &Path, args: &[String], env: &[(String, String)], dir: &Path, log: &Path) -> Process {
        let out = File::options().create(true).append(true).open(log).expect("the log");
        let err = out.try_clone().expect("the log again");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args).envs(env.iter().map(|(k, v)| (k, v)));
        command.current_dir(dir).stdin(Stdio::null()).stdout(out).stderr(err);
        let (answer, spawned) = channel();
        self.0.send((command, answer)).expect("the spawner lives");
        let child = spawned
            .recv()
            .expect("the spawner answers")
            .unwrap_or_else(|e| panic!("start {} through setpriv (util-linux): {e}", program.display()));
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

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
