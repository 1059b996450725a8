//! `https://`: one file of a web server.

use std::ops::Range;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::{Entry, Listing, Means, Place, Shape, Source, Stream, named, ranged};
use crate::fetch::{
    credentials::Credentials,
    error::{Error, Reason},
    guard::Trusted,
    http::{Elsewhere, Get, Http, denied, sensitive},
    uri::{Address, bare},
};

/// One file of a web server.
pub struct Https {
    http: Http,
    get: Get,
}

impl Https {
    /// # Errors
    /// When the credentials make no sense.
    pub fn new(url: &Url, means: &Means) -> Result<Self, Error> {
        let http = means.http(Trusted::None, None)?;
        let credentials = headers(url, &means.credentials)?;
        Ok(Self {
            http,
            get: Get {
                credentials,
                elsewhere: Elsewhere::RefuseCredentials,
                ..Get::new(url.clone())
            },
        })
    }
}

/// KServe's shape: `https-host` names the host that may see `headers`, a JSON object.
fn headers(url: &Url, credentials: &Credentials) -> Result<HeaderMap, Error> {
    let mut map = HeaderMap::new();
    let host = url.host_str().unwrap_or_default();
    if credentials.get(&["https-host"]) != Some(host) {
        return Ok(map);
    }
    let wrong = || {
        Error::new(
            Reason::InvalidRequest,
            "Key headers of the Secret has to be a JSON object of header names and texts.",
        )
    };
    let given = credentials.get(&["headers"]).unwrap_or("{}");
    let Ok(Value::Object(fields)) = serde_json::from_str(given) else { return Err(wrong()) };
    for (name, value) in fields {
        let name = HeaderName::try_from(name).map_err(|_| wrong())?;
        map.insert(name, sensitive(value.as_str().ok_or_else(wrong)?).map_err(|_| wrong())?);
    }
    Ok(map)
}

#[async_trait]
impl Source for Https {
    async fn list(&self) -> Result<Listing, Error> {
        let what = bare(&self.get.url);
        // One byte says whether ranges can be had, and how many bytes there are: not every server
        // answers HEAD as it answers GET.
        let first = self.http.get(self.get.clone().header(header::RANGE, "bytes=0-0")).await?;
        let length = || {
            first.headers().get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok())
        };
        let (size, ranges) = match first.status() {
            StatusCode::PARTIAL_CONTENT => {
                (ranged::content_range(&first).and_then(|(_, size)| size), true)
            }
            StatusCode::OK => (length(), false),
            // An empty file has no first byte.
            StatusCode::RANGE_NOT_SATISFIABLE => (Some(0), false),
            status => return Err(denied(&what, status, !self.get.credentials.is_empty())),
        };
        let name = named(&what, &Address::Https(self.get.url.clone()).file_name())?;
        let entry = Entry {
            place: Place::File(name),
            key: String::new(),
            size,
            ranges: ranges && size.is_some(),
            pin: ranged::pin(&first),
            digest: None,
        };
        Ok(Listing { shape: Shape::File, entries: vec![entry] })
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Stream, Error> {
        if !entry.ranges {
            return ranged::read(&self.http, self.get.clone(), None).await;
        }
        let get = self.get.clone();
        let get = match &entry.pin {
            Some(pin) => get.header(header::IF_RANGE, pin),
            None => get,
        };
        ranged::read(&self.http, get, Some(range)).await
    }
}
