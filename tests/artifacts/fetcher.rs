//! Running the program as a pod does: with nothing in its environment but what it is given.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rollmodel::fetch::digest::Digest;

use crate::servers::{Dir, certs::Authority};

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; None where a signal ended it.
    pub code: Option<i32>,
    /// Its termination message.
    pub message: String,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// Fails unless all is well; gives the termination message.
    pub fn verified(&self) -> &str {
        assert!(self.code == Some(0) && self.message.starts_with("Verified: "), "{self:?}");
        &self.message
    }

    /// Fails unless it ended for this reason, which trying again does not help; gives the sentence.
    pub fn failed(&self, reason: &str) -> &str {
        self.ended(3, reason)
    }

    /// Fails unless it ended for this reason, which may pass; gives the sentence.
    pub fn troubled(&self, reason: &str) -> &str {
        self.ended(1, reason)
    }

    fn ended(&self, code: i32, reason: &str) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.message.lines().count(), 1, "{self:?}");
        self.message
            .strip_prefix(&format!("{reason}: "))
            .unwrap_or_else(|| panic!("{reason}: {self:?}"))
    }
}

/// A place to fetch to, and the environment to do it in.
pub struct Fetcher {
    dir: Dir,
    env: Vec<(String, String)>,
}

impl Fetcher {
    /// A fresh place, with leave to fetch from this machine.
    pub fn new() -> Self {
        let dir = Dir::fresh("fetcher");
        fs::create_dir(dir.join("secret")).unwrap();
        let env = vec![("ROLLMODEL_ALLOWED_HOSTS".into(), "127.0.0.0/8".into())];
        Self { dir, env }
    }

    /// A fresh place, with the authority of the tests among those that are trusted.
    pub fn trusting(authority: &Authority) -> Self {
        let ca = fs::read_to_string(authority.certificate()).unwrap();
        Self::new().secret([("ca.crt", ca.as_str())])
    }

    /// With variables in the environment.
    pub fn env<K: Into<String>, V: Into<String>>(
        mut self,
        more: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        for (name, value) in more {
            let name = name.into();
            self.env.retain(|(n, _)| *n != name);
            self.env.push((name, value.into()));
        }
        self
    }

    /// With keys of a Secret that is mounted.
    pub fn secret<'a>(mut self, keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        for (name, value) in keys {
            fs::write(self.dir.join("secret").join(name), value).unwrap();
        }
        let secret = self.dir.join("secret").to_str().unwrap().to_owned();
        self.env.push(("ROLLMODEL_CREDENTIALS".into(), secret));
        self
    }

    /// A path in the place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where artifacts are fetched to: what a serving container mounts.
    pub fn model(&self) -> PathBuf {
        self.dir.join("volume/model")
    }

    /// The program with arguments, not run yet.
    pub fn command(&self, args: &[&str]) -> Command {
        fs::create_dir_all(self.dir.join("volume")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollmodel-fetch"));
        command.args(args).arg("--termination-log").arg(self.dir.join("termination-log"));
        command.env_clear().envs(self.env.iter().map(|(n, v)| (n, v)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it.
    pub fn run(&self, args: &[&str]) -> Ran {
        let _ = fs::remove_file(self.dir.join("termination-log"));
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let message = fs::read_to_string(self.dir.join("termination-log")).unwrap_or_default();
        Ran { code: status.code(), message, stdout: text(stdout), stderr: text(stderr) }
    }

    /// Fetches to [`Fetcher::model`].
    pub fn fetch(&self, uri: &str, more: &[&str]) -> Ran {
        let to = self.model();
        self.run(&[&["fetch", uri, "--to", to.to_str().unwrap()], more].concat())
    }

    /// Begins to fetch to [`Fetcher::model`], from an S3 at an address.
    pub fn begin_at(&self, endpoint: &str, uri: &str, more: &[&str]) -> Child {
        let to = self.model();
        let mut command =
            self.command(&[&["fetch", uri, "--to", to.to_str().unwrap()], more].concat());
        command.env("AWS_ENDPOINT_URL", endpoint);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Nothing is visible, and nothing of a fetch is left behind.
    pub fn assert_nothing(&self) {
        assert!(!self.model().exists(), "{:?} is visible", self.model());
        let left: Vec<PathBuf> =
            tree(&self.dir.join("volume")).into_iter().map(|(path, _)| path).collect();
        assert!(left.iter().all(|path| path.extension().is_some_and(|e| e == "json")), "{left:?}");
    }
}

/// The files below a directory, with their bytes, by their paths.
pub fn tree(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path)
            } else {
                found.push((
                    path.strip_prefix(directory).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                ))
            }
        }
    }
    found.sort();
    found
}

/// Bytes that compress badly and differ by seed.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// The digest of bytes, as it is written.
pub fn sha256(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}
