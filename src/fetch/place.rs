//! Putting an artifact in its place: written aside, synced, and then made visible as a whole by one
//! rename. What a killed fetch left behind is swept away by the next.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{
    digest::{self, Digest, Files},
    error::{Error, Reason},
    progress::size,
    transfer::Target,
};

/// Where everything of ours is kept beside what is visible.
pub const OWN: &str = ".rollmodel";

/// A directory of its own for one fetch; it goes with it.
#[derive(Debug)]
pub struct Staging {
    own: PathBuf,
    directory: PathBuf,
    /// Held as long as the fetch lives: by it the next one knows a directory that nobody uses any
    /// more.
    _lock: File,
}

impl Staging {
    /// Makes one in the directory where the artifact is to appear, and sweeps away those of fetches
    /// that were killed.
    ///
    /// # Errors
    /// When the volume cannot be written to.
    pub fn new(parent: &Path) -> Result<Self, Error> {
        let own = parent.join(OWN);
        let failed = |e: &io::Error| Error::io(format!("write to {}", parent.display()), e);
        fs::create_dir_all(&own).map_err(|e| failed(&e))?;
        sweep(&own);
        let (directory, lock) = claim(&own).map_err(|e| failed(&e))?;
        for part in ["tree", "archives"] {
            fs::create_dir_all(directory.join(part)).map_err(|e| failed(&e))?;
        }
        Ok(Self { own, directory, _lock: lock })
    }

    /// Where the transfer writes.
    #[must_use]
    pub fn target(&self) -> Target {
        Target { tree: self.directory.join("tree"), archives: self.directory.join("archives") }
    }

    /// An empty directory more.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn another(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        fs::create_dir(&path).map_err(|e| Error::io("make a directory", &e))?;
        Ok(path)
    }

    /// Makes a tree visible at a place, as a whole; what was there before is gone then.
    ///
    /// # Errors
    /// When it cannot be synced or renamed; nothing is visible then that was not before.
    pub fn publish(&self, tree: &Path, place: &Path) -> Result<(), Error> {
        let failed = |e: &io::Error| Error::io(format!("make {} visible", place.display()), e);
        sync(tree).map_err(|e| failed(&e))?;
        if place.exists() {
            fs::rename(place, self.directory.join("before")).map_err(|e| failed(&e))?;
        }
        fs::rename(tree, place).map_err(|e| failed(&e))?;
        let parent = place.parent().unwrap_or(place);
        File::open(parent).and_then(|directory| directory.sync_all()).map_err(|e| failed(&e))
    }

    /// Where what is known of a visible artifact is kept.
    #[must_use]
    pub fn record(parent: &Path, name: &str) -> PathBuf {
        parent.join(OWN).join(format!("{name}.json"))
    }

    /// The directory of ours.
    #[must_use]
    pub fn own(&self) -> &Path {
        &self.own
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_file(locked_by(&self.directory));
    }
}

/// A name for a directory, and the lock that holds it. The lock comes first, so that a sweeper
/// never finds a directory without one; where a sweeper took it before it was locked, there is
/// another name.
fn claim(own: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let directory = own.join(format!("fetch-{:x}-{}", nanoseconds(), std::process::id()));
        let lock = File::create_new(locked_by(&directory))?;
        lock.lock()?;
        if locked_by(&directory).exists() {
            return Ok((directory, lock));
        }
    }
}

fn nanoseconds() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos())
}

fn locked_by(directory: &Path) -> PathBuf {
    directory.with_extension("lock")
}

/// Removes the directories of fetches that were killed: those whose lock nobody holds.
fn sweep(own: &Path) {
    let Ok(entries) = fs::read_dir(own) else { return };
    for path in entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "lock"))
    {
        let Ok(lock) = File::open(&path) else { continue };
        if try_lock(&lock).unwrap_or(false) {
            let _ = fs::remove_dir_all(path.with_extension(""));
            let _ = fs::remove_file(&path);
        }
    }
}

/// Has everything written of the file system that a tree is on; one call for thousands of files.
fn sync(tree: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(tree)?.as_fd()).map_err(io::Error::from)
}

/// The free bytes of a volume, where it says.
fn free(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Fails at once where a volume has less room than is needed.
///
/// # Errors
/// When there is less.
pub fn room(parent: &Path, needed: u64) -> Result<(), Error> {
    let Some(free) = free(parent).filter(|free| *free < needed) else { return Ok(()) };
    let sentence = format!(
        "The volume at {} has {} free and the artifact needs {}: give it more room.",
        parent.display(),
        size(free),
        size(needed)
    );
    Err(Error::new(Reason::NoSpace, sentence))
}

/// What is kept of a visible artifact, to know it again.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Record {
    /// The digest of the artifact.
    pub digest: String,
    /// The root over the visible files, which for an unpacked archive or an OCI artifact is another
    /// than the digest.
    pub root: String,
    /// The artifact's bytes.
    pub size: u64,
    /// Bytes that are visible.
    pub visible: u64,
    /// How many files are visible.
    pub files: usize,
    /// Whether the root is also the digest, or the one file's: then the record need not be
    /// believed.
    pub plain: bool,
}

impl Record {
    /// Reads one; None where there is none that can be read.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Whether these visible files are the artifact of that digest.
    #[must_use]
    pub fn fits(&self, digest: &Digest, files: &Files) -> bool {
        let root = digest::root(files);
        let one = files.values().next().filter(|_| files.len() == 1);
        match self.plain {
            true => root == *digest || one == Some(digest),
            false => self.digest == digest.to_string() && self.root == root.to_string(),
        }
    }

    /// Writes one, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |e: &io::Error| Error::io("note what was fetched", e);
        let text = serde_json::to_vec(self).map_err(|e| failed(&e.into()))?;
        write_whole(path, &text).map_err(|e| failed(&e))
    }
}

/// Writes a small file, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension(format!("{:x}-{}", nanoseconds(), std::process::id()));
    fs::write(&aside, bytes)?;
    fs::rename(&aside, path)
}

/// Takes a lock without waiting; false where somebody holds it.
///
/// # Errors
/// When locks do not work there.
pub fn try_lock(file: &File) -> Result<bool, Error> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(Error::io("lock a file of the volume", &error)),
    }
}
