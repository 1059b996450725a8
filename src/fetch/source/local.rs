//! `pvc://` and paths of this machine.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::{Entry, Listing, Place, Shape, Source, Stream, named};
use crate::fetch::{
    error::{Error, Reason},
    name::escaped,
};

/// A file or a directory.
pub struct Local {
    path: PathBuf,
    /// Whether what is no part of a directory's digest is passed over.
    ignores: bool,
}

impl Local {
    /// An artifact at a path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, ignores: true }
    }

    /// Everything that is at a path.
    #[must_use]
    pub fn exactly(path: PathBuf) -> Self {
        Self { path, ignores: false }
    }

    /// At a path in a volume, which no link leads out of.
    ///
    /// # Errors
    /// When it is not there, or leads elsewhere.
    pub fn below(volume: &Path, path: &str) -> Result<Self, Error> {
        let shown = escaped(path);
        let found = |path: &Path| {
            fs::canonicalize(path)
                .map_err(|e| Error::unread(format_args!("{shown} in the volume of the claim"), &e))
        };
        let (root, whole) = (found(volume)?, found(&volume.join(path))?);
        if !whole.starts_with(&root) {
            return Err(Error::new(
                Reason::UnsafeArchive,
                format!("{shown} is a link that leads out of its volume."),
            ));
        }
        Ok(Self::new(whole))
    }

    fn entries(&self) -> Result<Listing, Error> {
        let kind = fs::metadata(&self.path)
            .map_err(|e| Error::unread(escaped(self.path.to_string_lossy().as_ref()), &e))?;
        if kind.is_file() {
            let name =
                self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            return Ok(Listing {
                shape: Shape::File,
                entries: vec![entry(&name, String::new(), kind.len())?],
            });
        }
        let mut entries = Vec::new();
        self.walk("", &mut entries)?;
        Ok(Listing { shape: Shape::Directory, entries })
    }

    fn walk(&self, below: &str, found: &mut Vec<Entry>) -> Result<(), Error> {
        let failed =
            |e: &std::io::Error| Error::io(format!("read directory {}", escaped(below)), e);
        for each in fs::read_dir(self.path.join(below)).map_err(|e| failed(&e))? {
            let each = each.map_err(|e| failed(&e))?;
            let name = each.file_name();
            let name = name.to_str().ok_or_else(|| {
                Error::new(
                    Reason::UnsafeArchive,
                    format!(
                        "The name {} is not UTF-8: rename it.",
                        escaped(each.file_name().as_encoded_bytes())
                    ),
                )
            })?;
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            if self.ignores && crate::fetch::digest::ignored(&path) {
                continue;
            }
            let kind = each.metadata().map_err(|e| failed(&e))?;
            match () {
                () if kind.is_dir() => self.walk(&path, found)?,
                () if kind.is_file() => found.push(entry(&path, path.clone(), kind.len())?),
                () => {
                    let what = if kind.is_symlink() {
                        "a symbolic link"
                    } else {
                        "neither a file nor a directory"
                    };
                    return Err(Error::new(
                        Reason::Unsupported,
                        format!("{} is {what}: put a copy in its place.", escaped(&path)),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn entry(name: &str, key: String, size: u64) -> Result<Entry, Error> {
    Ok(Entry {
        place: Place::File(named("a file", name)?),
        key,
        size: Some(size),
        ranges: true,
        pin: None,
        digest: None,
    })
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

    fn path(&self, entry: &Entry) -> Option<PathBuf> {
        Some(if entry.key.is_empty() { self.path.clone() } else { self.path.join(&entry.key) })
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Stream, Error> {
        let path = self.path(entry).unwrap_or_default();
        let all =
            fs::read(path).map_err(|e| Error::io(format!("read {}", escaped(&entry.key)), &e))?;
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
        let part = Bytes::copy_from_slice(&all[at(range.start)..at(range.end)]);
        Ok(stream::once(async { Ok(part) }).boxed())
    }
}
