//! One fetch from beginning to end.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    cache::{Cache, Held},
    digest::{self, Digest, Files},
    error::{Error, Reason},
    place::{Record, Staging, room},
    progress::{Progress, Shown, size},
    signature::Trust,
    signed,
    source::{self, Means, Place, Shape},
    transfer::{Fetched, Limits, Transfer, blocking},
    unpacked,
    uri::Address,
};

/// What is to be fetched, and what it must be.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it is.
    pub address: Address,
    /// What its digest must be.
    pub digest: Option<Digest>,
    /// How many bytes it must have.
    pub size: Option<u64>,
    /// Where its signature is.
    pub signature: Option<Address>,
    /// Whether it is an archive to unpack.
    pub unpack: bool,
    /// Where it belongs.
    pub to: To,
}

/// Where an artifact belongs.
#[derive(Clone, Debug)]
pub enum To {
    /// Nowhere: it is only looked at.
    Nowhere,
    /// A directory that is not there yet, or holds what an earlier run fetched.
    Directory(PathBuf),
    /// A cache.
    Cache(Cache),
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The artifact's digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// How many files are visible, or were looked at.
    pub files: usize,
    /// The fingerprint of who signed it, where that was asked for.
    pub signer: Option<String>,
    /// Whether it was there already.
    pub cached: bool,
}

/// Everything a fetch is done with.
#[derive(Clone)]
pub struct Fetch {
    /// Credentials, allowed hosts, volumes.
    pub means: Means,
    /// Sizes and patience.
    pub limits: Limits,
    /// Whose signatures are demanded; None: nobody's.
    pub trust: Option<Trust>,
}

/// Where an artifact is made: the directory that holds it, its place, what is known of it, and the
/// cache that it is in.
struct Site<'a> {
    parent: PathBuf,
    place: PathBuf,
    record: PathBuf,
    cache: Option<&'a Cache>,
}

impl Site<'_> {
    /// Has the cache make room for so many bytes.
    async fn make_room(&self, bytes: u64) -> Result<(), Error> {
        let (Some(cache), place) = (self.cache.cloned(), self.place.clone()) else { return Ok(()) };
        blocking(move || cache.make_room(&place, bytes)).await
    }
}

impl Fetch {
    /// Fetches what is asked for.
    ///
    /// # Errors
    /// Whatever is in the way, as one sentence. Nothing is visible then that was not before.
    pub async fn run(&self, request: &Request) -> Result<Outcome, Error> {
        if request.signature.is_some() && self.trust.is_none() {
            eprintln!(
                "the signature is not looked at, since no key is trusted (ModelPolicy requireSignature)"
            );
        }
        match &request.to {
            To::Nowhere => {
                let (seen, shape) = self.transfer(request, None).await?;
                let outcome = checked(request, shape, &seen)?;
                let signer = self.signed(request, shape, &files(&seen), None).await?;
                Ok(Outcome { signer, ..outcome })
            }
            To::Directory(place) => self.to_directory(request, place).await,
            To::Cache(cache) => self.to_cache(request, cache).await,
        }
    }

    async fn to_directory(&self, request: &Request, place: &Path) -> Result<Outcome, Error> {
        let parent = place
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
            .to_owned();
        let name = place.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let site = Site {
            record: Staging::record(&parent, &name),
            parent,
            place: place.to_owned(),
            cache: None,
        };
        match self.known(request, &site).await? {
            Some(found) => Ok(found),
            None => self.make(request, &site).await,
        }
    }

    async fn to_cache(&self, request: &Request, cache: &Cache) -> Result<Outcome, Error> {
        let digest = request.digest.ok_or_else(|| {
            Error::new(Reason::InvalidRequest, "A cache is kept by digest: give --digest.")
        })?;
        let unpack = request.unpack;
        let hold = |alone| {
            let cache = cache.clone();
            blocking(move || cache.hold(&digest, unpack, alone))
        };
        // Many look at once; who has to make it does so alone, and looks again, since another may
        // have made it meanwhile.
        for alone in [false, true] {
            let held = hold(alone).await?;
            let site = |held| Site {
                parent: cache.directory().to_owned(),
                place: Held::place(held).to_owned(),
                record: Held::record(held).to_owned(),
                cache: Some(cache),
            };
            let found = match self.known(request, &site(&held)).await? {
                None if alone => Some(self.make(request, &site(&held)).await?),
                found => found,
            };
            if let Some(found) = found {
                held.used();
                return Ok(found);
            }
        }
        Err(Error::new(Reason::CacheBusy, "The cache did not keep what was put into it."))
    }

    /// What is visible already, if it is what is asked for. It is read and hashed each time: a disk
    /// may rot, and a volume may have others who write to it.
    async fn known(&self, request: &Request, site: &Site<'_>) -> Result<Option<Outcome>, Error> {
        let (Some(wanted), Some(record), true) =
            (request.digest, Record::read(&site.record), site.place.exists())
        else {
            return Ok(None);
        };
        // What was unpacked, or was not, is not what is asked for now.
        if record.plain == (request.unpack || matches!(request.address, Address::Oci(_))) {
            return Ok(None);
        }
        let seen = self.contents(&site.place, "checking what is there").await;
        // What cannot be listed or read is not the artifact either.
        let files = files(seen.as_deref().unwrap_or_default());
        if !record.fits(&wanted, &files) {
            let why = seen
                .err()
                .map(|error| format!(" ({})", error.sentence.trim_end_matches('.')))
                .unwrap_or_default();
            eprintln!(
                "what is at {} is not {wanted}{why}: it is fetched anew",
                site.place.display()
            );
            return Ok(None);
        }
        // Of an archive it is the archive that was signed, and its digest is known.
        let (shape, artifact) = match &request.address {
            Address::Oci(_) => (Shape::Manifest(wanted), Files::new()),
            _ if record.plain => (Shape::Directory, files.clone()),
            address => (
                Shape::File,
                Files::from([(source::named("the archive", &address.file_name())?, wanted)]),
            ),
        };
        let signer =
            self.still_signed(request, shape, &artifact, signed::kept(&site.record)).await?;
        Ok(Some(Outcome {
            digest: wanted,
            size: record.size,
            files: files.len(),
            signer,
            cached: true,
        }))
    }

    /// Everything that is in a directory, hashed: what was put there is looked at in the same way
    /// when it is made and when it is found again.
    async fn contents(&self, directory: &Path, doing: &str) -> Result<Vec<Fetched>, Error> {
        let progress = Arc::new(Progress::default());
        let _shown = Shown::start(progress.clone(), doing.into());
        let source = source::exactly(directory.to_owned());
        let entries = source.list().await?.entries;
        Transfer::new(source, None, self.limits, progress).run(entries).await
    }

    async fn make(&self, request: &Request, site: &Site<'_>) -> Result<Outcome, Error> {
        let parent = site.parent.clone();
        let staging = blocking(move || Staging::new(&parent)).await?;
        let (seen, shape) = self.transfer(request, Some((&staging, site))).await?;
        let outcome = checked(request, shape, &seen)?;
        let bundle = if self.trust.is_some() { Some(self.bundle(request).await?) } else { None };
        let signer = self.signed(request, shape, &files(&seen), bundle.as_deref()).await?;
        let plain = !request.unpack && !matches!(shape, Shape::Manifest(_));
        let (unpack, most) = (request.unpack, site.cache.and_then(Cache::limit));
        let (staging, seen, tree) = if plain {
            let tree = staging.target().tree;
            (staging, seen, tree)
        } else {
            let (staging, tree) = blocking(move || {
                unpacked::unpack(&staging, &seen, unpack, most).map(|tree| (staging, tree))
            })
            .await?;
            let seen = self.contents(&tree, "checking what was unpacked").await?;
            (staging, seen, tree)
        };
        let (files, visible) = (files(&seen), seen.iter().map(|f| f.size).sum());
        if !plain {
            site.make_room(visible).await?;
        }
        let note = Record {
            digest: outcome.digest.to_string(),
            root: digest::root(&files).to_string(),
            size: outcome.size,
            visible,
            files: files.len(),
            plain,
        };
        let (place, record) = (site.place.clone(), site.record.clone());
        blocking(move || {
            if let Some(bundle) = bundle {
                signed::keep(&record, &bundle)?;
            }
            // The record is there before the artifact is: it says nothing of an artifact that is
            // not.
            note.write(&record)?;
            staging.publish(&tree, &place)
        })
        .await?;
        Ok(Outcome { files: files.len(), signer, ..outcome })
    }

    async fn transfer(
        &self,
        request: &Request,
        into: Option<(&Staging, &Site<'_>)>,
    ) -> Result<(Vec<Fetched>, Shape), Error> {
        let source = source::open(&request.address, &self.means).await?;
        let mut listing = source.list().await?;
        if listing.shape == Shape::Directory {
            listing.entries.retain(|entry| !matches!(&entry.place, Place::File(path) if digest::ignored(path.as_str())));
        }
        if let Some(signature) =
            request.signature.as_ref().and_then(|s| within(&request.address, s))
        {
            // Like model.sig at the top: the signature is no part of what it signs, and nobody
            // vouches for it.
            listing.entries.retain(
                |entry| !matches!(&entry.place, Place::File(path) if path.as_str() == signature),
            );
        }
        let said: Option<u64> = listing.entries.iter().map(|e| e.size).sum();
        if let (Some(want), Some(said)) = (request.size, said)
            && want != said
            && !matches!(listing.shape, Shape::Manifest(_))
        {
            return Err(wrong_size(request, said, want));
        }
        if let Some((staging, site)) = into {
            let needed = said.or(request.size).unwrap_or_default();
            site.make_room(needed).await?;
            room(staging.own(), needed)?;
        }
        let progress = Arc::new(Progress::default());
        let shown = Shown::start(progress.clone(), request.address.to_string());
        let limits = Limits { unsaid: request.size, ..self.limits };
        let target = into.map(|(staging, _)| staging.target());
        let seen =
            Transfer::new(source, target, limits, progress.clone()).run(listing.entries).await?;
        drop(shown);
        eprintln!("{}  {}", request.address, progress.summary());
        Ok((seen, listing.shape))
    }
}

/// The path of a signature within the directory that it signs.
fn within(artifact: &Address, signature: &Address) -> Option<String> {
    let (artifact, signature) = (artifact.to_string(), signature.to_string());
    signature.strip_prefix(artifact.trim_end_matches('/'))?.strip_prefix('/').map(str::to_owned)
}

/// The files among what was read.
pub(super) fn files(seen: &[Fetched]) -> Files {
    let file = |f: &Fetched| match &f.place {
        Place::File(path) => Some((path.clone(), f.digest)),
        Place::Archive { .. } => None,
    };
    seen.iter().filter_map(file).collect()
}

/// Whether what was read is what was registered.
fn checked(request: &Request, shape: Shape, seen: &[Fetched]) -> Result<Outcome, Error> {
    let bytes = seen.iter().map(|f| f.size).sum();
    let found = match shape {
        Shape::Manifest(digest) => digest,
        Shape::Directory => digest::root(&files(seen)),
        Shape::File => seen.first().map(|f| f.digest).ok_or_else(|| {
            Error::new(Reason::NotFound, format!("There is nothing at {}.", request.address))
        })?,
    };
    if let Some(want) = request.digest.filter(|want| *want != found) {
        let sentence = format!(
            "{} has digest {found}, and {want} is what was registered: the bytes are others, and are not made visible.",
            request.address
        );
        return Err(Error::new(Reason::Mismatch, sentence));
    }
    if let Some(want) =
        request.size.filter(|want| *want != bytes && !matches!(shape, Shape::Manifest(_)))
    {
        return Err(wrong_size(request, bytes, want));
    }
    Ok(Outcome { digest: found, size: bytes, files: seen.len(), signer: None, cached: false })
}

fn wrong_size(request: &Request, found: u64, want: u64) -> Error {
    let sentence = format!(
        "{} has {found} bytes ({}), and {want} ({}) is what was registered.",
        request.address,
        size(found),
        size(want)
    );
    Error::new(Reason::SizeMismatch, sentence)
}
