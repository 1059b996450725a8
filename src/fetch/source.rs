//! Where bytes come from: one small module a scheme, behind one trait.

use std::{ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::{
    credentials::Credentials,
    digest::Digest,
    error::{Error, Reason},
    guard::{Allowed, Guard, Trusted},
    http::{Http, Resolve},
    name::RelativePath,
    uri::Address,
};

mod hf;
mod https;
mod local;
pub mod mlflow;
mod oci;
mod ranged;
mod store;

/// Bytes as they arrive.
pub type Stream = BoxStream<'static, Result<Bytes, Error>>;

/// What there is at an address.
#[derive(Clone, Debug)]
pub struct Listing {
    /// What its digest is taken over.
    pub shape: Shape,
    /// What is to be read.
    pub entries: Vec<Entry>,
}

/// What a digest is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The bytes of one file.
    File,
    /// The files of a directory.
    Directory,
    /// An OCI manifest, which names the digests of everything below it; this is its own.
    Manifest(Digest),
}

/// One thing to read.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it belongs.
    pub place: Place,
    /// What the source calls it.
    pub key: String,
    /// Its size in bytes, where the source says.
    pub size: Option<u64>,
    /// Whether parts of it can be read.
    pub ranges: bool,
    /// What holds it to the state that was listed: an ETag or a commit.
    pub pin: Option<String>,
    /// What the source says its digest is, and that has to hold.
    pub digest: Option<Digest>,
}

/// Where an entry belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is this file.
    File(RelativePath),
    /// It is an archive of files, of which those below a directory belong here, or all.
    Archive {
        /// The directory, which is stripped.
        below: Option<RelativePath>,
    },
}

/// Something that can be listed and read.
#[async_trait]
pub trait Source: Send + Sync {
    /// What there is.
    async fn list(&self) -> Result<Listing, Error>;

    /// Whether it is asked as by anybody, without credentials.
    fn anonymous(&self) -> bool {
        false
    }

    /// Where an entry is on this machine, if it is: it is read from there.
    fn path(&self, _: &Entry) -> Option<PathBuf> {
        None
    }

    /// The bytes of an entry in a range; up to its end, where its size is not known.
    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Stream, Error>;
}

/// What sources are made with.
#[derive(Clone)]
pub struct Means {
    /// Credentials of the pod.
    pub credentials: Arc<Credentials>,
    /// Hosts that an administrator allows.
    pub allowed: Vec<Allowed>,
    /// How names of hosts are resolved.
    pub resolve: Arc<dyn Resolve>,
    /// Where volumes of `pvc://` are mounted, each under its claim's name.
    pub volumes: PathBuf,
}

impl Means {
    /// Connections to hosts that somebody named, and to the host that gives this pod its identity,
    /// where there is one.
    ///
    /// # Errors
    /// When certificates are given that are none.
    pub fn http(&self, trusted: Trusted, identity: Option<String>) -> Result<Http, Error> {
        let guard = Guard { allowed: self.allowed.clone(), trusted, identity };
        Http::new(guard, &self.credentials.certificates()?, self.resolve.clone())
    }
}

/// The source at an address.
///
/// # Errors
/// When credentials or configuration make no sense.
pub async fn open(address: &Address, means: &Means) -> Result<Arc<dyn Source>, Error> {
    Ok(match address {
        Address::S3 { bucket, key } => Arc::new(store::s3(bucket, key, means)?),
        Address::Gs { bucket, key } => Arc::new(store::gs(bucket, key, means).await?),
        Address::Az { account, container, key } => {
            Arc::new(store::az(account.as_deref(), container, key, means)?)
        }
        Address::Https(url) => Arc::new(https::Https::new(url, means)?),
        Address::Hf { repository, revision, path } => {
            Arc::new(hf::Hub::new(repository, revision, path, means)?)
        }
        Address::Mlflow { server, path } => Arc::new(mlflow::Storage::new(server, path, means)?),
        Address::Oci(reference) => Arc::new(oci::Registry::new(reference, means)?),
        Address::Pvc { claim, path } => {
            Arc::new(local::Local::below(&means.volumes.join(claim), path)?)
        }
        Address::Local(path) => Arc::new(local::Local::new(path.into())),
    })
}

/// Everything that is at a path of this machine, to see whether it is what it was.
#[must_use]
pub fn exactly(path: PathBuf) -> Arc<dyn Source> {
    Arc::new(local::Local::exactly(path))
}

/// A name that a source gave, as one of a file.
///
/// # Errors
/// When no file may be called so.
pub fn named(what: &str, name: &str) -> Result<RelativePath, Error> {
    RelativePath::parse(name)
        .map_err(|error| Error::new(Reason::UnsafeArchive, format!("Cannot take {what}: {error}.")))
}
