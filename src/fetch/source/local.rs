//! `pvc://` and paths of this machine.

use std::{
    fs::{self, File},
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Entry, Listing, Place, Shape, Source, Stream, named};
use crate::fetch::{
    error::{Error, Reason},
    name::escaped,
};

/// How much is read at once, in bytes.
const BLOCK: u64 = 1024 * 1024;

/// A file or a directory.
pub struct Local {
    path: PathBuf,
}

impl Local {
    /// At a path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// At a path in a volume, which no link leads out of.
    ///
    /// # Errors
    /// When it is not there, or leads elsewhere.
    pub fn below(volume: &Path, path: &str) -> Result<Self, Error> {
        let shown = escaped(path);
        let found = |path: &Path| fs::canonicalize(path).map_err(|e| Error::io(format!("open {shown} in the volume"), &e));
        let (root, whole) = (found(volume)?, found(&volume.join(path))?);
        if !whole.starts_with(&root) {
            return Err(Error::new(Reason::UnsafeArchive, format!("{shown} is a link that leads out of its volume.")));
        }
        Ok(Self::new(whole))
    }

    fn entries(&self) -> Result<Listing, Error> {
        let kind = fs::metadata(&self.path).map_err(|e| Error::io(format!("open {}", escaped(self.path.to_string_lossy().as_ref())), &e))?;
        if kind.is_file() {
            let name = self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            return Ok(Listing { shape: Shape::File, entries: vec![entry(&name, String::new(), kind.len())?] });
        }
        let mut entries = Vec::new();
        self.walk("", &mut entries)?;
        Ok(Listing { shape: Shape::Directory, entries })
    }

    fn walk(&self, below: &str, found: &mut Vec<Entry>) -> Result<(), Error> {
        let failed = |e: &std::io::Error| Error::io(format!("read directory {}", escaped(below)), e);
        for each in fs::read_dir(self.path.join(below)).map_err(|e| failed(&e))? {
            let each = each.map_err(|e| failed(&e))?;
            let name = each.file_name();
            let name = name.to_str().ok_or_else(|| Error::new(Reason::UnsafeArchive, format!("A name in {} is not UTF-8.", escaped(below))))?;
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            if crate::fetch::digest::ignored(&path) {
                continue;
            }
            let kind = each.metadata().map_err(|e| failed(&e))?;
            match () {
                () if kind.is_dir() => self.walk(&path, found)?,
                () if kind.is_file() => found.push(entry(&path, path.clone(), kind.len())?),
                () => {
                    let what = if kind.is_symlink() { "a symbolic link" } else { "neither a file nor a directory" };
                    return Err(Error::new(Reason::Unsupported, format!("{} is {what}: put a copy in its place.", escaped(&path))));
                }
            }
        }
        Ok(())
    }
}

fn entry(name: &str, key: String, size: u64) -> Result<Entry, Error> {
    Ok(Entry { place: Place::File(named("a file", name)?), key, size: Some(size), ranges: true, pin: None, digest: None })
}

#[async_trait]
impl Source for Local {
    async fn list(&self) -> Result<Listing, Error> {
        let listing = self.entries()?;
        if listing.entries.is_empty() {
            return Err(Error::new(Reason::NotFound, "The directory holds no file."));
        }
        Ok(listing)
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Stream, Error> {
        let path = if entry.key.is_empty() { self.path.clone() } else { self.path.join(&entry.key) };
        let shown = escaped(&entry.key);
        let end = range.end.min(entry.size.unwrap_or_default());
        // O_NOFOLLOW: what was a file when it was listed may have become a link.
        let open = move || fs::OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path);
        let file = blocking(open).await.map_err(|e| Error::io(format!("open {shown}"), &e))?;
        let blocks = stream::try_unfold((file, range.start), move |(file, at)| {
            let shown = shown.clone();
            async move {
                if at >= end {
                    return Ok(None);
                }
                let (file, block) = blocking(move || block(file, at, end)).await.map_err(|e| Error::io(format!("read {shown}"), &e))?;
                let next = at + block.len() as u64;
                Ok(Some((block, (file, next))))
            }
        });
        Ok(blocks.into_stream().boxed())
    }
}

fn block(file: File, at: u64, end: u64) -> std::io::Result<(File, Bytes)> {
    let mut block = vec![0; usize::try_from((end - at).min(BLOCK)).unwrap_or_default()];
    file.read_exact_at(&mut block, at)?;
    Ok((file, block.into()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(std::io::Error::other("the work was stopped")))
}
