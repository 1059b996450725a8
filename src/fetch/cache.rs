//! The cache: a volume that many pods share, where each artifact is kept once, under its digest.
//!
//! ```text
//! models/sha256-<hex>            what pods mount, read-only; -unpacked behind it where it is
//! .rollmodel/sha256-<hex>.json   what is known of it
//! .rollmodel/locks/sha256-<hex>  locked (flock) while it is read or made; a kill lets go of it; its time is that of the last use
//! .rollmodel/fetch-…             what is being fetched
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    digest::Digest,
    error::{Error, Reason},
    place::{OWN, Record, Staging, try_lock},
    progress::size,
};

/// A cache on a volume.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    limit: Option<u64>,
    keep: Vec<Digest>,
}

/// One artifact's place in the cache, held against others as long as it lives.
#[derive(Debug)]
pub struct Held {
    lock: File,
    place: PathBuf,
    record: PathBuf,
}

impl Cache {
    /// The cache in a directory, of at most `limit` bytes, for which the artifacts of `keep` do not
    /// make room.
    ///
    /// # Errors
    /// When the volume cannot be written to.
    pub fn open(directory: &Path, limit: Option<u64>, keep: Vec<Digest>) -> Result<Self, Error> {
        let failed =
            |e: &io::Error| Error::io(format!("write to the cache at {}", directory.display()), e);
        let cache = Self { directory: directory.to_owned(), limit, keep };
        for part in [cache.models(), cache.locks()] {
            fs::create_dir_all(part).map_err(|e| failed(&e))?;
        }
        Ok(cache)
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The most bytes that it may hold.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    fn name(digest: &Digest, unpacked: bool) -> String {
        format!("sha256-{}{}", digest.hex(), if unpacked { "-unpacked" } else { "" })
    }

    /// Waits for an artifact's place, to read it (with others) or to make it (alone).
    ///
    /// # Errors
    /// When the volume does not lock files.
    pub fn hold(&self, digest: &Digest, unpacked: bool, alone: bool) -> Result<Held, Error> {
        let name = Self::name(digest, unpacked);
        let lock = self.lock_file(&name)?;
        let waited = if alone { lock.lock() } else { lock.lock_shared() };
        waited.map_err(|e| Error::io("lock a file of the cache", &e))?;
        Ok(Held { lock, place: self.models().join(&name), record: self.record(&name) })
    }

    fn record(&self, name: &str) -> PathBuf {
        Staging::record(&self.directory, name)
    }

    fn models(&self) -> PathBuf {
        self.directory.join("models")
    }

    fn locks(&self) -> PathBuf {
        self.directory.join(OWN).join("locks")
    }

    fn lock_file(&self, name: &str) -> Result<File, Error> {
        let path = self.locks().join(name);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| Error::io("open a lock of the cache", &e))
    }

    /// Makes room for the artifact at a place: those that were used longest ago go, until what is
    /// left and this one are within the limit. One that somebody reads or makes stays.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn make_room(&self, keep: &Path, needed: u64) -> Result<(), Error> {
        let Some(limit) = self.limit else { return Ok(()) };
        if needed > limit {
            let sentence = format!(
                "The artifact has {} and the cache's sizeLimit is {}: raise it.",
                size(needed),
                size(limit)
            );
            return Err(Error::new(Reason::Refused, sentence));
        }
        // One at a time, so that two do not both count on the same room.
        let turn = self.lock_file("room")?;
        turn.lock().map_err(|e| Error::io("lock a file of the cache", &e))?;
        let mut kept = self.kept(keep)?;
        kept.sort_by_key(|(used, ..)| *used);
        let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, name) in kept {
            if total + needed <= limit {
                return Ok(());
            }
            let kept = [false, true].iter().any(|unpacked| {
                self.keep.iter().any(|digest| name == Self::name(digest, *unpacked))
            });
            if !kept && self.evict(&name)? {
                total -= bytes;
            }
        }
        if total + needed <= limit {
            return Ok(());
        }
        let sentence = format!(
            "The cache has no room for {} within its sizeLimit of {}, since what it holds is in use: raise the limit.",
            size(needed),
            size(limit)
        );
        Err(Error::new(Reason::CacheBusy, sentence))
    }

    /// What else is kept: when it was used last, its bytes, its name.
    fn kept(&self, keep: &Path) -> Result<Vec<(SystemTime, u64, String)>, Error> {
        let failed = |e: &io::Error| Error::io("read the cache", e);
        let mut found = Vec::new();
        for entry in fs::read_dir(self.models()).map_err(|e| failed(&e))? {
            let entry = entry.map_err(|e| failed(&e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path() == keep {
                continue;
            }
            let used = fs::metadata(self.locks().join(&name)).and_then(|m| m.modified());
            let bytes = Record::read(&self.record(&name)).map_or(0, |record| record.visible);
            found.push((used.unwrap_or(SystemTime::UNIX_EPOCH), bytes, name));
        }
        Ok(found)
    }

    fn evict(&self, name: &str) -> Result<bool, Error> {
        let lock = self.lock_file(name)?;
        if !try_lock(&lock)? {
            return Ok(false);
        }
        eprintln!("evicting {name} from the cache, which was used longest ago");
        let place = self.models().join(name);
        fs::remove_dir_all(&place)
            .map_err(|e| Error::io(format!("evict {name} from the cache"), &e))?;
        // The lock stays: another pod may just have opened it, and would hold a lock that nobody
        // else sees.
        let _ = fs::remove_file(self.record(name));
        Ok(true)
    }
}

impl Held {
    /// Where it is visible.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Where what is known of it is kept.
    #[must_use]
    pub fn record(&self) -> &Path {
        &self.record
    }

    /// Notes that it is used now.
    pub fn used(&self) {
        let _ = self.lock.set_modified(SystemTime::now());
    }
}
