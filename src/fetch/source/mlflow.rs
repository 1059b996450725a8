//! `mlflow-artifacts+https://`: what MLflow's tracking server hands out of its own storage, by
//! links to that storage where it offers them, else through itself. It ignores Range before an
//! object store, so a file that comes through it comes as a whole.

use std::{collections::HashMap, ops::Range, sync::Mutex};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::time::{Duration, Instant};
use url::Url;

use super::{Entry, Listing, Means, Place, Shape, Source, Stream, named, ranged};
use crate::fetch::{
    credentials::Credentials,
    digest,
    error::{Error, Reason},
    guard::{Guard, Trusted},
    http::{Get, Http, denied, text},
    name::escaped,
    uri::{Address, MLFLOW_API},
};

/// Where a tracking server gives links to its storage.
const PRESIGNED: &str = "/api/2.0/mlflow-artifacts/presigned";
/// Directory of a workspace's storage in the server's, before its name.
pub const WORKSPACES: &str = "workspaces/";
/// The workspace of requests that name none.
pub const DEFAULT: &str = "default";
/// The most directories of one artifact.
const DIRECTORIES: usize = 2000;
/// How long a first byte is waited for.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a link to the storage is used; MLflow makes them for 300 s.
const LINK_FOR: Duration = Duration::from_secs(200);

/// A file or directory in a tracking server's storage.
pub struct Storage {
    http: Http,
    /// Without credentials and without trust: links lead to where the server says.
    elsewhere: Http,
    server: Url,
    credentials: HeaderMap,
    path: String,
    links: Mutex<HashMap<String, (Url, Instant)>>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    files: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    path: String,
    #[serde(default)]
    is_dir: bool,
    /// Absent for a file without bytes.
    file_size: Option<u64>,
}

#[derive(Deserialize)]
struct Link {
    url: String,
}

impl Storage {
    /// # Errors
    /// When the credentials make no sense.
    pub fn new(server: &Url, path: &str, means: &Means) -> Result<Self, Error> {
        let given = &means.credentials;
        let (credentials, known) = if knows(server, given) {
            (authorization(given)?, true)
        } else {
            (HeaderMap::new(), false)
        };
        // Who gave the credentials named the host; the version's author alone leads to no private
        // one.
        let trusted = if known {
            Trusted::Host(server.host_str().unwrap_or_default().to_owned())
        } else {
            Trusted::None
        };
        let guard = |trusted| Guard { allowed: means.allowed.clone(), trusted, identity: None };
        let http =
            |trusted| Http::new(guard(trusted), &given.certificates()?, means.resolve.clone());
        let (http, elsewhere) = (http(trusted)?, http(Trusted::None)?);
        Ok(Self {
            http,
            elsewhere,
            server: server.clone(),
            credentials,
            path: path.to_owned(),
            links: Mutex::default(),
        })
    }

    fn what(&self) -> String {
        Address::Mlflow { server: self.server.clone(), path: self.path.clone() }.to_string()
    }

    /// The address of something below an API of the server.
    fn url(&self, api: &str, path: &str) -> Url {
        let mut url = self.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(api.trim_start_matches('/').split('/'))
                .extend(path.split('/').filter(|part| !part.is_empty()));
        }
        url
    }

    fn get(&self, url: Url) -> Get {
        let workspace = self.path.strip_prefix(WORKSPACES).and_then(|path| path.split('/').next());
        Get {
            headers: of_workspace(workspace),
            credentials: self.credentials.clone(),
            ..Get::new(url)
        }
    }

    fn refused(&self, status: StatusCode) -> Error {
        let error = denied(&self.what(), status, !self.credentials.is_empty());
        if error.reason != Reason::Unauthorized || !self.credentials.is_empty() {
            return error;
        }
        let how = "give MLFLOW_TRACKING_URI of that server with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in delivery.credentialsSecret";
        Error::new(
            error.reason,
            format!(
                "{} is refused ({}), and no credentials of that server were given: {how}.",
                self.what(),
                status.as_u16()
            ),
        )
    }

    /// What is in one directory below the artifact; nothing, too, where there is none.
    async fn directory(&self, below: &str) -> Result<Vec<Node>, Error> {
        let mut url = self.url(MLFLOW_API, "");
        let path =
            if below.is_empty() { self.path.clone() } else { format!("{}/{below}", self.path) };
        url.query_pairs_mut().append_pair("path", &path);
        let response = self.http.get(self.get(url)).await?;
        if !response.status().is_success() {
            return Err(self.refused(response.status()));
        }
        let body = text(&self.what(), response).await?;
        let listed: Result<Listed, _> = serde_json::from_slice(&body);
        let strange = |_| {
            Error::new(
                Reason::Unreachable,
                format!("{} is answered with what is not MLflow's API.", self.what()),
            )
        };
        Ok(listed.map_err(strange)?.files)
    }

    /// A file that is read through the server, as far as its first bytes: whether it is there, and
    /// how large it is.
    async fn size(&self, path: &str) -> Result<Option<u64>, Error> {
        let response = self.http.get(self.get(self.url(MLFLOW_API, path))).await?;
        if !response.status().is_success() {
            return Err(self.refused(response.status()));
        }
        let said = response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|l| l.to_str().ok()?.parse().ok());
        if said.is_some() {
            return Ok(said);
        }
        // Before an object store it says nothing of any file, but an answer without bytes is told
        // from others by its first.
        let nothing =
            tokio::time::timeout(ANSWER, Limited::new(response.into_body(), 0).collect()).await;
        Ok(matches!(nothing, Ok(Ok(_))).then_some(0))
    }

    /// A link to a file in the storage; None where the server offers none, or one that cannot be
    /// followed.
    async fn link(&self, key: &str) -> Option<Url> {
        let kept = self
            .links
            .lock()
            .ok()?
            .get(key)
            .filter(|(_, since)| since.elapsed() < LINK_FOR)
            .map(|(url, _)| url.clone());
        if kept.is_some() {
            return kept;
        }
        let response = self.http.get(self.get(self.url(PRESIGNED, key))).await.ok()?;
        let link: Link = if response.status().is_success() {
            serde_json::from_slice(&text("", response).await.ok()?).ok()?
        } else {
            return None;
        };
        let url = Url::parse(&link.url).ok()?;
        self.links.lock().ok()?.insert(key.to_owned(), (url.clone(), Instant::now()));
        Some(url)
    }

    /// Whether links to the storage are offered and lead to bytes: seen by the first of one file.
    async fn gives_links(&self, key: &str) -> bool {
        let Some(url) = self.link(key).await else { return false };
        let first = self.elsewhere.get(Get::new(url).header(header::RANGE, "bytes=0-0")).await;
        first.is_ok_and(|answer| answer.status() == StatusCode::PARTIAL_CONTENT)
    }

    async fn entry(&self, name: &str, node: &Node, links: bool) -> Result<Entry, Error> {
        let key = format!("{}/{name}", self.path);
        let size = match node.file_size {
            Some(size) => Some(size),
            // Nothing said is no bytes as a rule; but a digest is not taken over a rule.
            None => self.size(&key).await?,
        };
        Ok(Entry {
            place: Place::File(named(&self.what(), name)?),
            key,
            size,
            ranges: links,
            pin: None,
            digest: None,
        })
    }

    /// The files below the artifact by their paths.
    async fn files(&self) -> Result<Vec<(String, Node)>, Error> {
        let (mut open, mut files, mut seen) = (vec![String::new()], Vec::new(), 0);
        while let Some(below) = open.pop() {
            seen += 1;
            if seen > DIRECTORIES {
                return Err(Error::new(
                    Reason::Unsupported,
                    format!("{} has more than {DIRECTORIES} directories.", self.what()),
                ));
            }
            for node in self.directory(&below).await? {
                let name = if below.is_empty() {
                    node.path.clone()
                } else {
                    format!("{below}/{}", node.path)
                };
                match node.is_dir {
                    true => open.push(named(&self.what(), &name)?.as_str().to_owned()),
                    false => files.push((name, node)),
                }
            }
        }
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(files)
    }

    /// What is listed with nothing in it is a file, or is not there: the listing says the same of
    /// both.
    async fn one(&self) -> Result<Listing, Error> {
        let size = self.size(&self.path).await?;
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let place = Place::File(named(&self.what(), name)?);
        let ranges = size.is_some_and(|size| size > 0) && self.gives_links(&self.path).await;
        Ok(Listing {
            shape: Shape::File,
            entries: vec![Entry {
                place,
                key: self.path.clone(),
                size,
                ranges,
                pin: None,
                digest: None,
            }],
        })
    }
}

/// The header by which a tracking server knows which workspace a request is about; it takes each
/// other one for its default's.
#[must_use]
pub fn of_workspace(name: Option<&str>) -> HeaderMap {
    let value =
        name.filter(|name| *name != DEFAULT).and_then(|name| HeaderValue::from_str(name).ok());
    value.map(|value| (HeaderName::from_static("x-mlflow-workspace"), value)).into_iter().collect()
}

/// Whether the credentials are those of this server: MLFLOW_TRACKING_URI says so.
fn knows(server: &Url, given: &Credentials) -> bool {
    let named = given.get(&["MLFLOW_TRACKING_URI"]).and_then(|uri| Url::parse(uri).ok());
    named.is_some_and(|named| named.origin() == server.origin())
}

/// The header by which a tracking server knows who asks, as MLflow's own client sends it.
///
/// # Errors
/// When they cannot stand in a header.
pub fn authorization(given: &Credentials) -> Result<HeaderMap, Error> {
    let user =
        given.get(&["MLFLOW_TRACKING_USERNAME"]).zip(given.get(&["MLFLOW_TRACKING_PASSWORD"]));
    let text = match (user, given.get(&["MLFLOW_TRACKING_TOKEN"])) {
        (Some((name, password)), _) => {
            format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
        }
        (None, Some(token)) => format!("Bearer {token}"),
        (None, None) => return Ok(HeaderMap::new()),
    };
    let wrong = |_| {
        Error::new(
            Reason::InvalidRequest,
            "MLFLOW_TRACKING_TOKEN holds characters that no token has.",
        )
    };
    let mut value = HeaderValue::try_from(text).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
}

#[async_trait]
impl Source for Storage {
    async fn list(&self) -> Result<Listing, Error> {
        let files = self.files().await?;
        if files.is_empty() {
            return self.one().await;
        }
        let probe = files.iter().find(|(name, node)| {
            node.file_size.is_some_and(|size| size > 0) && !digest::ignored(name)
        });
        let links = match probe {
            Some((name, _)) => self.gives_links(&format!("{}/{name}", self.path)).await,
            None => false,
        };
        let mut entries = Vec::with_capacity(files.len());
        for (name, node) in &files {
            entries.push(self.entry(name, node, links).await?);
        }
        Ok(Listing { shape: Shape::Directory, entries })
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Stream, Error> {
        if entry.ranges {
            let gone = || {
                Error::transient(format!(
                    "{} gives no link to {} any more.",
                    self.what(),
                    escaped(&entry.key)
                ))
            };
            let url = self.link(&entry.key).await.ok_or_else(gone)?;
            let read = ranged::read(&self.elsewhere, Get::new(url.clone()), Some(range)).await;
            if read.is_err()
                && let Ok(mut links) = self.links.lock()
            {
                // It may have ended before its time; the next attempt asks for another, unless
                // another part has one already.
                let _ =
                    links.extract_if(|key, (kept, _)| *key == entry.key && *kept == url).count();
            }
            let refused = || {
                format!(
                    "{} gives links to {} that its storage refuses.",
                    self.what(),
                    escaped(&entry.key)
                )
            };
            return read.map_err(|error| {
                if error.reason == Reason::Unauthorized {
                    Error::transient(refused())
                } else {
                    error
                }
            });
        }
        let url = self.url(MLFLOW_API, &entry.key);
        ranged::read(&self.http, self.get(url), None).await
    }
}
