//! Reads an artifact once, from beginning to end, to know its digest. Nothing is kept but the small
//! files that a record is made of, and those as they were when they were hashed.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::fetch::{
    digest::{self, Digest, Files},
    error::{Error, Reason},
    progress::Progress,
    source::{self, Entry, Listing, Place, Shape, Source, Stream},
    transfer::{Limits, Transfer},
    uri::Address,
};

/// The largest file that is read for what it says, in bytes.
const SMALL_MAX: u64 = 1024 * 1024;
/// Little memory: an importer has time.
const LIMITS: (u64, usize) = (1024 * 1024, 2);

/// What there is at an address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Artifact {
    /// The digest of it all, as a ModelVersion writes it.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// The small files that were asked for.
    pub small: BTreeMap<String, Small>,
}

/// A small file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Small {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its digest.
    pub digest: String,
}

/// Reads what is at an address; files of these names, at its top, are kept.
///
/// # Errors
/// When it cannot be read, or there is nothing.
pub async fn read(
    address: &Address,
    means: &source::Means,
    keep: &'static [&'static str],
) -> Result<Artifact, Error> {
    let kept = Arc::new(Kept {
        source: source::open(address, means).await?,
        keep,
        read: Mutex::default(),
    });
    let mut listing = kept.source.list().await?;
    listing.entries.retain(
        |entry| !matches!(&entry.place, Place::File(path) if digest::ignored(path.as_str())),
    );
    if listing.entries.is_empty() {
        return Err(Error::new(Reason::NotFound, format!("There is nothing at {address}.")));
    }
    let (part, parts) = LIMITS;
    let limits = Limits { part, parts, ..Limits::default() };
    let seen = Transfer::new(kept.clone(), None, limits, Arc::new(Progress::default()))
        .run(listing.entries)
        .await?;
    let files: Files = seen
        .iter()
        .filter_map(|f| {
            if let Place::File(path) = &f.place { Some((path.clone(), f.digest)) } else { None }
        })
        .collect();
    let whole = match listing.shape {
        Shape::Manifest(digest) => digest,
        Shape::Directory => digest::root(&files),
        Shape::File => seen.first().map(|f| f.digest).ok_or_else(|| {
            Error::new(Reason::NotFound, format!("There is nothing at {address}."))
        })?,
    };
    let small = kept.small(&files)?;
    Ok(Artifact { digest: whole.to_string(), size: seen.iter().map(|f| f.size).sum(), small })
}

/// How many bytes there are at an address, by its listing alone; None where that does not tell.
///
/// # Errors
/// When it cannot be listed.
pub async fn size(address: &Address, means: &source::Means) -> Result<Option<u64>, Error> {
    size_in(&*source::open(address, means).await?).await
}

/// How many bytes a source has, by its listing alone; None where that does not tell.
///
/// # Errors
/// When it cannot be listed.
pub async fn size_in(source: &dyn Source) -> Result<Option<u64>, Error> {
    let listing = source.list().await?;
    let counts = listing.entries.iter().filter(
        |entry| !matches!(&entry.place, Place::File(path) if digest::ignored(path.as_str())),
    );
    Ok(counts.map(|entry| entry.size).sum())
}

/// A source that keeps what small files say while they are read.
struct Kept {
    source: Arc<dyn Source>,
    keep: &'static [&'static str],
    read: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Kept {
    /// The small files, each as it was hashed.
    fn small(&self, files: &Files) -> Result<BTreeMap<String, Small>, Error> {
        let read = self.read.lock().map(|mut read| std::mem::take(&mut *read)).unwrap_or_default();
        let mut small = BTreeMap::new();
        for (path, want) in files {
            let Some(bytes) = read.get(path.as_str()) else { continue };
            if Digest::of(bytes) != *want {
                return Err(Error::new(
                    Reason::Interrupted,
                    format!("{path} changed while it was read."),
                ));
            }
            small.insert(
                path.as_str().to_owned(),
                Small { bytes: bytes.clone(), digest: want.to_string() },
            );
        }
        Ok(small)
    }

    fn name<'e>(&self, entry: &'e Entry) -> Option<&'e str> {
        let Place::File(path) = &entry.place else { return None };
        (self.keep.contains(&path.as_str()) && entry.size.is_some_and(|size| size <= SMALL_MAX))
            .then_some(path.as_str())
    }
}

#[async_trait]
impl Source for Kept {
    async fn list(&self) -> Result<Listing, Error> {
        self.source.list().await
    }

    fn path(&self, entry: &Entry) -> Option<PathBuf> {
        self.source.path(entry)
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Stream, Error> {
        let stream = self.source.read(entry, range.clone()).await?;
        let Some(name) = self.name(entry) else { return Ok(stream) };
        let most = usize::try_from(SMALL_MAX).unwrap_or_default();
        let bytes = stream
            .try_fold(Vec::new(), |mut all, some: Bytes| async move {
                if all.len() + some.len() > most {
                    return Err(Error::new(
                        Reason::SizeMismatch,
                        "A file has more bytes than its listing says.",
                    ));
                }
                all.extend_from_slice(&some);
                Ok(all)
            })
            .await?;
        if let Ok(mut read) = self.read.lock() {
            // What comes after a broken connection is asked for from where it broke.
            let at = usize::try_from(range.start).unwrap_or_default();
            let all = read.entry(name.to_owned()).or_default();
            all.truncate(at);
            all.extend_from_slice(&bytes);
        }
        Ok(stream::iter([Ok(Bytes::from(bytes))]).boxed())
    }
}
