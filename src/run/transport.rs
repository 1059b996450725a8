//! The connections to the API server: kube's own layers over a transport that keeps its buffers
//! small, lets idle connections go, and notices a peer that is gone.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config,
    client::{Body, ClientBuilder, ConfigExt},
};
use tower::{BoxError, Service, ServiceBuilder};

/// The most that a connection reads at once, in bytes. Every watch has a connection of its own,
/// which never gives its buffer back; hyper lets it grow to 400 KiB.
const BUFFER: usize = 64 * 1024;
/// How long a connection that nobody uses is kept, after a storm of rollouts.
const IDLE: Duration = Duration::from_secs(30);
/// How often a silent peer is asked whether it is there; after four times without an answer the
/// connection ends, and its watch begins anew.
const ALIVE: Duration = Duration::from_secs(15);

/// Sends requests as `config` says. [`kube::Client::try_from`] does the same on hyper's defaults.
///
/// # Errors
/// When the configuration cannot be used: credentials that are none, or a proxy, which this build
/// does not speak.
pub fn transport(
    config: &Config,
) -> Result<
    impl Service<Request<Body>, Response = Response<Incoming>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + use<>,
    kube::Error,
> {
    if config.proxy_url.is_some() {
        // kube says it best.
        ClientBuilder::try_from(config.clone())?;
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_keepalive(Some(ALIVE));
    connector.set_keepalive_interval(Some(ALIVE));
    connector.set_keepalive_retries(Some(4));
    let client = Client::builder(TokioExecutor::new())
        .http1_max_buf_size(BUFFER)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(config.rustls_https_connector_with_connector(connector)?);
    Ok(ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_proxy_is_refused_with_what_this_build_lacks_and_without_one_it_is_made() {
        let mut config = Config::new("https://10.0.0.1:6443".parse().unwrap());
        assert!(transport(&config).is_ok());
        config.proxy_url = Some("http://proxy.example.com:3128".parse().unwrap());
        let error = transport(&config).err().unwrap().to_string();
        assert!(error.contains("proxy"), "{error}");
    }
}
