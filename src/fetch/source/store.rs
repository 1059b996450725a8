//! What `s3://`, `gs://`, `az://` and `abfs://` have in common: object stores, by the
//! `object_store` library over guarded connections.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Full};
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpResponseBody, HttpService,
    },
    path::Path,
};

use super::{Entry, Listing, Means, Place, Shape, Source, Stream, named};
use crate::fetch::{
    error::{Again, Error, Reason},
    guard::Trusted,
    http::Http,
    name::escaped,
};

mod az;
mod gs;
mod s3;

pub use az::az;
pub use gs::gs;
pub use s3::s3;

/// The most objects below one address.
const OBJECTS: usize = 100_000;

/// All below a key of a bucket, or the one object of that name.
pub struct Store {
    store: Arc<dyn ObjectStore>,
    /// For people.
    shown: String,
    key: String,
    anonymous: bool,
    /// Whether a read can be held to an ETag.
    pins: bool,
}

/// What the library says of credentials may quote them, so it is not told.
fn unusable(system: &str, keys: &str) -> Error {
    Error::new(
        Reason::InvalidRequest,
        format!("The credentials for {system} cannot be used as they are: look at {keys}."),
    )
}

fn connector(means: &Means, identity: Option<String>) -> Result<Connector, Error> {
    means.http(Trusted::All, identity).map(Connector)
}

/// Reads are tried again by the transfer, which knows how far it came; this is for listings and
/// tokens.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

impl Store {
    fn new(
        store: Arc<dyn ObjectStore>,
        bucket: String,
        key: &str,
        anonymous: bool,
        pins: bool,
    ) -> Self {
        Self {
            store,
            shown: format!("{bucket}/{}", escaped(key)),
            key: key.to_owned(),
            anonymous,
            pins,
        }
    }

    fn path(&self, key: &str) -> Result<Path, Error> {
        Path::parse(key).map_err(|_| {
            Error::new(
                Reason::UnsafeArchive,
                format!("A key below {} has empty parts, or `.` or `..`.", self.shown),
            )
        })
    }

    fn failed(&self, error: &object_store::Error) -> Error {
        use object_store::Error as E;
        let what = &self.shown;
        match error {
            E::NotFound { .. } => {
                Error::new(Reason::NotFound, format!("There is nothing at {what}."))
            }
            E::PermissionDenied { .. } => self.denied(http::StatusCode::FORBIDDEN, error),
            E::Unauthenticated { .. } => self.denied(http::StatusCode::UNAUTHORIZED, error),
            E::Precondition { .. } => {
                Error::new(Reason::Interrupted, format!("{what} changed while it was read."))
            }
            E::InvalidPath { .. } => Error::new(
                Reason::UnsafeArchive,
                format!("A key below {what} has empty parts, or `.` or `..`."),
            ),
            other => ours(other).unwrap_or_else(|| match status(other) {
                Some(status) => self.denied(status, other),
                None => Error::transient(format!("{what} is not answered as the protocol says.")),
            }),
        }
    }

    fn denied(&self, status: http::StatusCode, error: &object_store::Error) -> Error {
        let denied = crate::fetch::http::denied(&self.shown, status, !self.anonymous);
        if status.is_redirection() {
            let sentence = format!(
                "{} is in another region or at another endpoint: name it with the credentials (AWS_REGION, AWS_ENDPOINT_URL).",
                self.shown
            );
            return Error::new(Reason::InvalidRequest, sentence);
        }
        let said = code(error).map(|code| format!(" The store says {code}.")).unwrap_or_default();
        Error { sentence: format!("{}{said}", denied.sentence), ..denied }
    }

    async fn one(&self) -> Result<Option<ObjectMeta>, Error> {
        if self.key.is_empty() || self.key.ends_with('/') {
            return Ok(None);
        }
        match self.store.head(&self.path(&self.key)?).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            // Who may list and not read a missing object is told 403: the listing says whether
            // there is one.
            Err(object_store::Error::PermissionDenied { .. })
                if !self.below().await?.is_empty() =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn below(&self) -> Result<Vec<ObjectMeta>, Error> {
        let prefix = self.path(self.key.trim_end_matches('/'))?;
        let all: Vec<ObjectMeta> = self
            .store
            .list(Some(&prefix))
            .take(OBJECTS + 1)
            .try_collect()
            .await
            .map_err(|error| self.failed(&error))?;
        if all.len() > OBJECTS {
            return Err(Error::new(
                Reason::Unsupported,
                format!(
                    "{} holds more than {OBJECTS} objects: pack them into an archive.",
                    self.shown
                ),
            ));
        }
        Ok(all)
    }

    fn entry(&self, meta: &ObjectMeta, name: &str) -> Result<Entry, Error> {
        Ok(Entry {
            place: Place::File(named(&self.shown, name)?),
            key: meta.location.to_string(),
            size: Some(meta.size),
            ranges: true,
            pin: meta.e_tag.clone().filter(|_| self.pins),
            digest: None,
        })
    }
}

#[async_trait]
impl Source for Store {
    async fn list(&self) -> Result<Listing, Error> {
        if let Some(meta) = self.one().await? {
            let name = self.key.rsplit('/').next().unwrap_or_default();
            return Ok(Listing { shape: Shape::File, entries: vec![self.entry(&meta, name)?] });
        }
        let mut all = self.below().await?;
        all.sort_by(|a, b| a.location.cmp(&b.location));
        let prefix = self.key.trim_matches('/');
        let relative = |meta: &ObjectMeta| {
            meta.location
                .as_ref()
                .strip_prefix(prefix)
                .map(|n| n.trim_start_matches('/').to_owned())
        };
        let names: Vec<String> =
            all.iter().map(|meta| relative(meta).unwrap_or_default()).collect();
        let mut entries = Vec::new();
        for (meta, name) in all.iter().zip(&names) {
            // Consoles make an empty object for what they show as a directory.
            let inside = format!("{name}/");
            let next = names.partition_point(|other| *other < inside);
            let directory =
                meta.size == 0 && names.get(next).is_some_and(|other| other.starts_with(&inside));
            if !name.is_empty() && !directory {
                entries.push(self.entry(meta, name)?);
            }
        }
        if entries.is_empty() {
            return Err(Error::new(
                Reason::NotFound,
                format!("There is nothing at {}.", self.shown),
            ));
        }
        Ok(Listing { shape: Shape::Directory, entries })
    }

    fn anonymous(&self) -> bool {
        self.anonymous
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Stream, Error> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: entry.pin.clone(),
            ..GetOptions::default()
        };
        let path = self.path(&entry.key)?;
        let result =
            self.store.get_opts(&path, options).await.map_err(|error| self.failed(&error))?;
        if result.range != range {
            return Err(Error::new(
                Reason::Interrupted,
                format!("{} changed while it was read.", self.shown),
            ));
        }
        let broke = format!("The connection to {} broke off.", self.shown);
        Ok(result
            .into_stream()
            .map_err(move |error| ours(&error).unwrap_or_else(|| Error::transient(broke.clone())))
            .boxed())
    }
}

/// The error of our own connection below a library's.
fn ours(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Some(ours.clone());
        }
        at = error.source();
    }
    None
}

/// The status in the library's text; it has a type for few of them.
fn status(error: &object_store::Error) -> Option<http::StatusCode> {
    let text = error.to_string();
    let digits = text.split("status code: ").nth(1)?.get(..3)?;
    http::StatusCode::from_bytes(digits.as_bytes()).ok()
}

/// The error code in an answer (`<Code>SignatureDoesNotMatch</Code>`); the rest of it may hold a
/// request's signature.
fn code(error: &object_store::Error) -> Option<String> {
    let text = error.to_string();
    let code = text.split("<Code>").nth(1)?.split("</Code>").next()?;
    (code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| code.to_owned())
}

/// Gives the library our guarded connections.
struct Connector(Http);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| HttpError::new(HttpErrorKind::Request, error))?
            .to_bytes();
        let response = self.send(http::Request::from_parts(parts, Full::new(body))).await.map_err(
            |error| {
                let kind = if error.again == Again::Soon {
                    HttpErrorKind::Connect
                } else {
                    HttpErrorKind::Unknown
                };
                HttpError::new(kind, error)
            },
        )?;
        let broke = |error: hyper::Error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(response.map(|body| HttpResponseBody::new(body.map_err(broke))))
    }
}
