//! `hf://`: a repository of the Hugging Face hub, or of what speaks its API (HF_ENDPOINT), at a
//! commit.

use std::{collections::BTreeMap, ops::Range};

use async_trait::async_trait;
use http::{HeaderMap, header};
use serde::Deserialize;
use url::Url;

use super::{Entry, Listing, Means, Place, Shape, Source, Stream, named, ranged};
use crate::fetch::{
    digest::Digest,
    error::{Error, Reason},
    guard::Trusted,
    http::{Elsewhere, Get, Http, denied, sensitive, text},
};

/// The most pages of a listing; a page has 1000 entries.
const PAGES: usize = 1000;

/// A repository.
pub struct Hub {
    http: Http,
    endpoint: Url,
    credentials: HeaderMap,
    repository: String,
    revision: String,
    path: String,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Hub {
    /// # Errors
    /// When HF_ENDPOINT is no address.
    pub fn new(repository: &str, revision: &str, path: &str, means: &Means) -> Result<Self, Error> {
        let given = means.credentials.get(&["HF_ENDPOINT"]).unwrap_or("https://huggingface.co");
        let endpoint = Url::parse(given)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
        let endpoint = endpoint.ok_or_else(|| {
            Error::new(Reason::InvalidRequest, "HF_ENDPOINT has to be an http or https address.")
        })?;
        let trusted = Trusted::Host(endpoint.host_str().unwrap_or_default().to_owned());
        let http = means.http(trusted, None)?;
        let mut credentials = HeaderMap::new();
        if let Some(token) = means.credentials.get(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
            let wrong = |_| {
                Error::new(Reason::InvalidRequest, "HF_TOKEN holds characters that no token has.")
            };
            credentials.insert(
                header::AUTHORIZATION,
                sensitive(&format!("Bearer {token}")).map_err(wrong)?,
            );
        }
        let [repository, revision, path] = [repository, revision, path].map(str::to_owned);
        Ok(Self { http, endpoint, credentials, repository, revision, path })
    }

    fn url<'a>(&'a self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(parts.into_iter().flat_map(|part| part.split('/')));
        }
        url
    }

    fn get(&self, url: Url) -> Get {
        // The hub sends large files on to its storage, with signed links that need no token.
        Get { credentials: self.credentials.clone(), elsewhere: Elsewhere::Follow, ..Get::new(url) }
    }

    fn what(&self) -> String {
        format!("hf://{}@{}", self.repository, self.revision)
    }

    async fn json<T: for<'de> Deserialize<'de>>(
        &self,
        url: Url,
    ) -> Result<(T, Option<Url>), Error> {
        let what = self.what();
        let response = self.http.get(self.get(url)).await?;
        if !response.status().is_success() {
            return Err(denied(&what, response.status(), !self.credentials.is_empty()));
        }
        let next = self.next(response.headers())?;
        let body = text(&what, response).await?;
        let parsed = serde_json::from_slice(&body);
        let parsed = parsed.map_err(|_| {
            Error::new(
                Reason::Unreachable,
                format!("{what} is answered with what is not the hub's API."),
            )
        })?;
        Ok((parsed, next))
    }

    /// The next page, by `Link: <…>; rel="next"`. It has to be of the same hub, for it gets the
    /// token.
    fn next(&self, headers: &HeaderMap) -> Result<Option<Url>, Error> {
        let link = headers.get(header::LINK).and_then(|l| l.to_str().ok()).unwrap_or_default();
        let Some(target) = link
            .split(',')
            .find(|l| l.contains("rel=\"next\""))
            .and_then(|l| l.split('<').nth(1)?.split('>').next())
        else {
            return Ok(None);
        };
        let next =
            self.endpoint.join(target).ok().filter(|url| url.origin() == self.endpoint.origin());
        next.map(Some).ok_or_else(|| {
            Error::new(
                Reason::Refused,
                format!("The listing of {} goes on at another host.", self.what()),
            )
        })
    }

    fn entry(&self, node: Node, commit: &str) -> Result<Entry, Error> {
        let what = self.what();
        // The path of a directory leads to what is in it; the path of a file is that file.
        let name = match node.path.strip_prefix(&self.path).and_then(|rest| rest.strip_prefix('/'))
        {
            Some(below) if !self.path.is_empty() => below,
            _ if self.path.is_empty() => &node.path,
            _ => node.path.rsplit('/').next().unwrap_or_default(),
        };
        let digest = match &node.lfs {
            Some(lfs) => Some(format!("sha256:{}", lfs.oid).parse::<Digest>().map_err(|_| {
                Error::new(
                    Reason::Unreachable,
                    format!(
                        "{what} names no sha256 for {}.",
                        crate::fetch::name::escaped(&node.path)
                    ),
                )
            })?),
            None => None,
        };
        let size = Some(node.lfs.as_ref().map_or(node.size, |lfs| lfs.size));
        Ok(Entry {
            place: Place::File(named(&what, name)?),
            key: node.path.clone(),
            size,
            ranges: true,
            pin: Some(commit.to_owned()),
            digest,
        })
    }
}

#[async_trait]
impl Source for Hub {
    async fn list(&self) -> Result<Listing, Error> {
        let (Revision { sha }, _) = self
            .json(self.url(["api/models", &self.repository, "revision", &self.revision]))
            .await?;
        if sha.is_empty() || !sha.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Error::new(
                Reason::Unreachable,
                format!("{} names no commit.", self.what()),
            ));
        }
        let mut next = Some(self.url(["api/models", &self.repository, "tree", &sha]));
        if let Some(url) = &mut next {
            url.set_query(Some("recursive=true"));
        }
        let mut found = BTreeMap::new();
        for _ in 0..PAGES {
            let Some(url) = next.take() else { break };
            let (nodes, more): (Vec<Node>, _) = self.json(url).await?;
            next = more;
            let below = |path: &str| {
                self.path.is_empty()
                    || path == self.path
                    || path.starts_with(&format!("{}/", self.path))
            };
            found.extend(
                nodes
                    .into_iter()
                    .filter(|n| n.kind == "file" && below(&n.path))
                    .map(|n| (n.path.clone(), n)),
            );
        }
        let one = found.contains_key(&self.path);
        if found.is_empty() {
            return Err(Error::new(
                Reason::NotFound,
                format!(
                    "There is nothing at {}/{}.",
                    self.what(),
                    crate::fetch::name::escaped(&self.path)
                ),
            ));
        }
        let entries =
            found.into_values().map(|node| self.entry(node, &sha)).collect::<Result<_, _>>()?;
        Ok(Listing { shape: if one { Shape::File } else { Shape::Directory }, entries })
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Stream, Error> {
        let commit = entry.pin.as_deref().unwrap_or_default();
        let url = self.url([self.repository.as_str(), "resolve", commit, &entry.key]);
        ranged::read(&self.http, self.get(url), Some(range)).await
    }
}
