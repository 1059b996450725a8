//! Servers within this process: small ones, for what has no server that could be installed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use axum::{
    Router,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::runtime;

/// A running one; dropping it ends it.
pub struct Serving {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Serving {
    /// Serves on a free port of 127.0.0.1.
    pub fn start(router: Router) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, router)
    }

    /// Serves on a free port of another loopback address: for clients that treat it as another
    /// host.
    pub fn start_on(host: Ipv4Addr, router: Router) -> Self {
        let listener = TcpListener::bind((IpAddr::V4(host), 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket for tokio");
        let address = listener.local_addr().expect("its address");
        let task = runtime().spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let _ = axum::serve(listener, router).await;
        });
        Self { address, task }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The bytes that a Range header asks for, as `start..end`; None when it asks for nothing that is
/// there. Without a header: all.
fn range(header: Option<&str>, len: usize) -> Option<std::ops::Range<usize>> {
    let Some((first, last)) = header.and_then(|h| h.strip_prefix("bytes=")?.split_once('-')) else {
        return Some(0..len);
    };
    let range = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => first..last.saturating_add(1).min(len),
        (Ok(first), Err(_)) => first..len,
        (Err(_), Ok(last)) => len.saturating_sub(last)..len,
        (Err(_), Err(_)) => 0..len,
    };
    (range.start < range.end).then_some(range)
}

/// An answer with bytes, or with those of them that a Range header asks for.
pub fn content(bytes: &Bytes, headers: &HeaderMap) -> Response {
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some(range) = range(asked, bytes.len()) else {
        return status(StatusCode::RANGE_NOT_SATISFIABLE, "range not satisfiable");
    };
    let mut response = Response::new(Body::from(bytes.slice(range.clone())));
    set(&mut response, "Accept-Ranges", "bytes");
    set(&mut response, "Content-Type", "application/octet-stream");
    if asked.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(
            &mut response,
            "Content-Range",
            &format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len()),
        );
    }
    response
}

/// An answer with a status and a text.
pub fn status(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}

/// Sets a header.
pub fn set(response: &mut Response, name: &'static str, value: &str) {
    response.headers_mut().insert(
        name.parse::<HeaderName>().expect("a name"),
        HeaderValue::from_str(value).expect("a value"),
    );
}

/// An answer of JSON.
pub fn json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
