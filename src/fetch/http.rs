//! Requests over guarded connections: the one way by which this program talks to anybody.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header,
    header::InvalidHeaderValue,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio::net::TcpStream;
use tower::Service;
use url::{Position, Url};

use super::{
    error::{Error, Reason},
    guard::{Guard, Refused},
    name::escaped,
    uri::bare,
};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection is kept for the next request. Common servers keep theirs for 5 s, and a
/// request that meets the end of it is lost.
const KEEP: Duration = Duration::from_secs(4);
/// How long a server may think before it begins to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// The most that a connection reads at once, in bytes.
const BUFFER: usize = 256 * 1024;
/// The largest answer that is read as a whole, in bytes: listings, manifests, tokens.
const TEXT_MAX: usize = 16 * 1024 * 1024;
/// How many redirects are followed.
const HOPS: usize = 5;

/// Finds the addresses of a host.
pub trait Resolve: Send + Sync + 'static {
    /// Its addresses.
    fn resolve(
        &self,
        host: String,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// Resolves as the system does.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Resolve for System {
    fn resolve(
        &self,
        host: String,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((host, port)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// Makes connections to addresses that the guard lets pass.
#[derive(Clone)]
struct Dial {
    guard: Arc<Guard>,
    resolve: Arc<dyn Resolve>,
}

impl Dial {
    async fn connect(self, uri: Uri) -> io::Result<TokioIo<TcpStream>> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port =
            uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.resolve.resolve(host.clone(), port).await?,
        };
        self.guard
            .check(&host, port, &addresses)
            .map_err(|refused| io::Error::new(io::ErrorKind::PermissionDenied, refused))?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(TokioIo::new(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async move {
            tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 10 s"))
            })
        })
    }
}

/// Sends requests over guarded connections.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpsConnector<Dial>, Full<Bytes>>,
    /// Makes a connection for each request, and keeps none.
    anew: Client<HttpsConnector<Dial>, Full<Bytes>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

/// What to do when a server sends a request on to another host. Credentials never go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// Refuse where credentials were sent: they would be needed there too, and must not go there.
    RefuseCredentials,
    /// Go on without credentials, as the protocol says.
    Follow,
}

/// One request for bytes.
#[derive(Clone, Debug)]
pub struct Get {
    /// Where.
    pub url: Url,
    /// Headers that any host may see.
    pub headers: HeaderMap,
    /// Headers that only this host may see.
    pub credentials: HeaderMap,
    /// What another host means.
    pub elsewhere: Elsewhere,
}

impl Get {
    /// A GET without credentials.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self {
            url,
            headers: HeaderMap::new(),
            credentials: HeaderMap::new(),
            elsewhere: Elsewhere::RefuseCredentials,
        }
    }

    /// With a header that any host may see.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.insert(name, value);
        }
        self
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder().uri(&self.url[..Position::AfterQuery]);
        if let Some(headers) = request.headers_mut() {
            headers.insert(
                header::USER_AGENT,
                HeaderValue::from_static(concat!("rollmodel-fetch/", env!("CARGO_PKG_VERSION"))),
            );
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            headers.extend(self.headers.clone());
            headers.extend(self.credentials.clone());
        }
        request.body(Full::default()).map_err(|_| {
            Error::new(Reason::InvalidRequest, format!("{} cannot be asked for.", bare(&self.url)))
        })
    }
}

impl Http {
    /// A client that trusts the system's certificates and these (DER) besides.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        guard: Guard,
        certificates: &[Vec<u8>],
        resolve: Arc<dyn Resolve>,
    ) -> Result<Self, Error> {
        let broken = |error: rustls::Error| {
            Error::new(Reason::IOError, format!("Cannot set up TLS: {error}."))
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in certificates {
            roots.add(CertificateDer::from(certificate.clone())).map_err(broken)?;
        }
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(broken)?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let dial = Dial { guard: Arc::new(guard), resolve };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dial);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.http1_max_buf_size(BUFFER).pool_timer(TokioTimer::new()).pool_idle_timeout(KEEP);
        let client = builder.build(connector.clone());
        Ok(Self { client, anew: builder.pool_max_idle_per_host(0).build(connector) })
    }

    /// Sends a request as it is, and gives the answer whatever it says. One whose connection ended
    /// before an answer came is sent once more, on a new connection: the server may have given up
    /// the one that was kept, and no request of this program has an effect there.
    ///
    /// # Errors
    /// When there is no answer. The sentence names the host, never the query.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let asked = async {
            match self.client.request(request.clone()).await {
                Err(error) if hung_up(&error) => self.anew.request(request).await,
                other => other,
            }
        };
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unreached(&host, &error)),
            Err(_) => Err(Error::transient(format!(
                "{} did not begin to answer within {} s.",
                escaped(&host),
                ANSWER.as_secs()
            ))),
        }
    }

    /// Asks, and follows where the server sends it on: never from https to http, never with
    /// credentials to another host, and only to hosts that the guard lets pass.
    ///
    /// # Errors
    /// When there is no answer, or one that leads where it must not. An answer that says no is an
    /// answer.
    pub async fn get(&self, mut get: Get) -> Result<Response<Incoming>, Error> {
        for _ in 0..=HOPS {
            let response = self.send(get.request()?).await?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED
            {
                return Ok(response);
            }
            get = onward(get, &response)?;
        }
        Err(Error::new(
            Reason::Refused,
            format!("{} was sent on more than {HOPS} times.", bare(&get.url)),
        ))
    }
}

/// The request that a redirect asks for.
fn onward(get: Get, response: &Response<Incoming>) -> Result<Get, Error> {
    let from = bare(&get.url);
    let refused =
        |why: String| Error::new(Reason::Refused, format!("{from} sends the request on {why}."));
    let location =
        response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).unwrap_or_default();
    let next = get.url.join(location).map_err(|_| refused("to what is no address".into()))?;
    if !matches!(next.scheme(), "http" | "https")
        || (get.url.scheme() == "https" && next.scheme() != "https")
    {
        return Err(refused(
            "to an address without TLS, on which anybody may change the bytes".into(),
        ));
    }
    if !next.username().is_empty() || next.password().is_some() {
        return Err(refused("to an address with credentials in it".into()));
    }
    let same = next.host() == get.url.host()
        && next.port_or_known_default() == get.url.port_or_known_default();
    if same {
        return Ok(Get { url: next, ..get });
    }
    if get.elsewhere == Elsewhere::RefuseCredentials && !get.credentials.is_empty() {
        let host = escaped(next.host_str().unwrap_or_default());
        return Err(refused(format!(
            "to another host, {host}, to which the credentials do not go: register the version with its last address"
        )));
    }
    Ok(Get { url: next, credentials: HeaderMap::new(), ..get })
}

/// Whether a connection that was made ended before an answer came.
fn hung_up(error: &hyper_util::client::legacy::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let ended = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
            || matches!(io, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
    };
    !error.is_connect() && causes(error).any(ended)
}

/// What is behind an error, the nearest first.
fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'e (dyn std::error::Error + 'static)| {
        let cause: &'e _ = *cause;
        cause.source()
    })
}

/// What is told of a request without an answer; hyper's own words may quote an address, so only
/// causes are told.
fn unreached(host: &str, error: &hyper_util::client::legacy::Error) -> Error {
    let refused = |at: &(dyn std::error::Error + 'static)| {
        at.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<Refused>().cloned()
    };
    if let Some(refused) = causes(error).find_map(refused) {
        return Error::new(Reason::Refused, format!("{refused}."));
    }
    let why =
        causes(error).last().map_or_else(|| "the connection broke".into(), ToString::to_string);
    Error::transient(format!("Cannot reach {}: {}.", escaped(host), escaped(&why)))
}

/// The value of a header that nothing shows.
///
/// # Errors
/// When it holds characters that no header has.
pub fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The whole of a short answer.
///
/// # Errors
/// When it breaks off, or is no short one.
pub async fn text(what: &str, response: Response<Incoming>) -> Result<Bytes, Error> {
    match tokio::time::timeout(ANSWER, Limited::new(response.into_body(), TEXT_MAX).collect()).await
    {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Error::new(
            Reason::Refused,
            format!("{what} is answered with more than {} MiB.", TEXT_MAX / 1024 / 1024),
        )),
        Ok(Err(_)) => Err(Error::transient(format!("The answer to {what} broke off."))),
        Err(_) => Err(Error::transient(format!(
            "The answer to {what} did not end within {} s.",
            ANSWER.as_secs()
        ))),
    }
}

/// What an answer that says no means.
#[must_use]
pub fn denied(what: &str, status: StatusCode, with_credentials: bool) -> Error {
    let code = status.as_u16();
    match code {
        401 | 403 if with_credentials => Error::new(
            Reason::Unauthorized,
            format!("{what} is refused ({code}): the credentials given do not allow it."),
        ),
        401 | 403 => Error::new(
            Reason::Unauthorized,
            format!(
                "{what} is refused ({code}), and no credentials were given: name them in delivery.credentialsSecret, or give the ServiceAccount the right."
            ),
        ),
        404 | 410 => Error::new(Reason::NotFound, format!("There is nothing at {what} ({code}).")),
        408 | 425 | 429 | 500 | 502 | 503 | 504 => {
            Error::transient(format!("{what} is answered with {code}."))
        }
        412 => Error::new(Reason::Interrupted, format!("{what} changed while it was read.")),
        _ => Error::new(
            Reason::Unreachable,
            format!("{what} is answered with {code}, which is not expected."),
        ),
    }
}

#[cfg(test)]
mod tests;
