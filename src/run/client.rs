//! The client: its name, a bounded retry, a timeout on every answer, and a count of every request.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use kube::{Client, Config, client::Body};
use tower::{
    BoxError, Layer, Service, ServiceBuilder,
    retry::{Policy, RetryLayer},
};

use super::{kinds, memory, metrics::Metrics, transport::transport};
use crate::api::names;

/// How long the head of an answer may take. A watch answers at once, and then streams.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How often a request is sent at most.
const TRIES: u32 = 4;
/// The longest wait between two tries, whatever the server asks for: a reconcile has other keys to
/// serve.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A client that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No configuration.
    #[error("read the cluster's address and credentials from the pod or from kubeconfig: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// A configuration that cannot be used.
    #[error("make a client of the cluster's configuration: {0}")]
    Client(#[from] kube::Error),
}

/// The configuration of the cluster we run in, or that kubectl points at.
///
/// # Errors
/// When there is none.
pub async fn config() -> Result<Config, Error> {
    let mut config = Config::infer().await?;
    let agent = format!("{}/{}", names::MANAGER, env!("CARGO_PKG_VERSION"));
    if let Ok(agent) = HeaderValue::from_str(&agent) {
        config.headers.push((header::USER_AGENT, agent));
    }
    // kube's own retry waits up to 1000 s; ours is bounded.
    config.default_retry = false;
    Ok(config)
}

/// The client that everything but the Lease uses.
///
/// # Errors
/// When the configuration cannot be used.
pub fn client(config: Config, metrics: &Metrics) -> Result<Client, Error> {
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::default()))
        .layer(CountLayer(metrics.clone()))
        .service(transport(&config)?);
    Ok(Client::new(service, config.default_namespace))
}

/// A client without retries: who renews a Lease must know at once.
///
/// # Errors
/// When the configuration cannot be used.
pub fn plain(config: Config, metrics: &Metrics) -> Result<Client, Error> {
    let service = CountLayer(metrics.clone()).layer(transport(&config)?);
    Ok(Client::new(service, config.default_namespace))
}

/// An error in words: the API server's own sentence where there is one.
#[must_use]
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            format!("the API server answered {}: {}", status.code, status.message.trim_end())
        }
        kube::Error::Service(error) => {
            match (error.downcast_ref::<hyper_util::client::legacy::Error>(), error.source()) {
                (Some(error), Some(cause)) if error.is_connect() => {
                    format!("cannot connect to the API server: {}", causes(cause))
                }
                _ => causes(&**error),
            }
        }
        other => causes(other),
    }
}

/// An error and what caused it, each once; hyper's own sentence is often "client error" alone.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Tries again what may be tried again: 429, 503 and 504 of anything but a POST, and 429 of a POST,
/// for then the server did nothing.
#[derive(Clone, Default)]
pub struct Retry {
    tries: u32,
}

impl<T> Policy<Request<Body>, Response<T>, BoxError> for Retry {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<T>, BoxError>,
    ) -> Option<Self::Future> {
        let response = result.as_ref().ok()?;
        self.tries += 1;
        let again = match response.status() {
            StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                request.method() != Method::POST
            }
            _ => false,
        };
        (again && self.tries < TRIES)
            .then(|| tokio::time::sleep(self.wait(response.headers(), request)))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut clone = Request::new(request.body().try_clone()?);
        clone.method_mut().clone_from(request.method());
        clone.uri_mut().clone_from(request.uri());
        clone.headers_mut().clone_from(request.headers());
        clone.extensions_mut().clone_from(request.extensions());
        Some(clone)
    }
}

impl Retry {
    /// What the server asks for, else 100 ms, 400 ms, 1.6 s, spread; at most 5 s.
    fn wait(&self, headers: &http::HeaderMap, request: &Request<Body>) -> Duration {
        let asked = headers
            .get(header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse().ok())
            .map(Duration::from_secs);
        let ours = Duration::from_millis(100 * 4_u64.pow(self.tries.saturating_sub(1).min(4)));
        let spread = memory::spread(&(request.uri().path(), self.tries));
        asked.unwrap_or_default().max(ours.mul_f64(0.75 + 0.5 * spread)).min(WAIT_MAX)
    }
}

/// Counts requests, and gives up on answers that do not come.
#[derive(Clone)]
pub struct CountLayer(pub Metrics);

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count { inner, metrics: self.0.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Clone)]
pub struct Count<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, T> Service<Request<Body>> for Count<S>
where
    S: Service<Request<Body>, Response = Response<T>>,
    S::Error: Into<BoxError> + Send,
    S::Future: Send + 'static,
{
    type Response = Response<T>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<T>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = (verb(&request), resource(request.uri().path()));
        let (answer, metrics) = (self.inner.call(request), self.metrics.clone());
        Box::pin(async move {
            let answer = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(BoxError::from(format!(
                    "the API server did not answer within {ANSWER_WITHIN:?}"
                ))),
            };
            metrics.request(verb, resource, answer.as_ref().map_or(0, |a| a.status().as_u16()));
            answer
        })
    }
}

/// The verb of a request, as RBAC and metrics call it.
fn verb(request: &Request<Body>) -> &'static str {
    let watch = request
        .uri()
        .query()
        .is_some_and(|q| q.split('&').any(|p| p == "watch=true" || p == "watch=1"));
    match *request.method() {
        Method::GET if watch => "watch",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

/// The resource of a request: one of a closed list, for it is a label of metrics.
fn resource(path: &str) -> &'static str {
    let plural = |kind: kinds::Kind| -> &'static str {
        match kind {
            kinds::Kind::ModelDeployment => "modeldeployments",
            kinds::Kind::ModelVersion => "modelversions",
            kinds::Kind::ModelRollout => "modelrollouts",
            kinds::Kind::RolloutRequest => "rolloutrequests",
            kinds::Kind::ModelPolicy => "modelpolicies",
            kinds::Kind::ModelRegistry => "modelregistries",
            kinds::Kind::ControllerRevision => "controllerrevisions",
            kinds::Kind::Deployment => "deployments",
            kinds::Kind::Service => "services",
            kinds::Kind::Pod => "pods",
            kinds::Kind::Job => "jobs",
            kinds::Kind::HorizontalPodAutoscaler => "horizontalpodautoscalers",
            kinds::Kind::CustomResourceDefinition => "customresourcedefinitions",
        }
    };
    let known = kinds::KINDS.into_iter().map(plural).chain([
        "leases",
        "events",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ]);
    let mut segments = path.split('/').filter(|s| !s.is_empty());
    let root = segments.next();
    // /api/v1/… and /apis/<group>/<version>/…, then /namespaces/<namespace>/… for what is
    // namespaced.
    let mut rest = segments.skip(if root == Some("api") { 1 } else { 2 }).peekable();
    if rest.peek() == Some(&"namespaces") {
        rest.nth(1);
    }
    let found = rest.next().unwrap_or_default();
    known.into_iter().find(|name| *name == found).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri("/api/v1/pods?watch=true")
            .body(Body::empty())
            .unwrap()
    }

    fn answer(status: u16, retry_after: Option<&str>) -> Result<Response<()>, BoxError> {
        let mut builder = Response::builder().status(status);
        if let Some(after) = retry_after {
            builder = builder.header("Retry-After", after);
        }
        Ok(builder.body(()).unwrap())
    }

    #[tokio::test]
    async fn only_what_is_safe_is_tried_again_and_not_for_ever() {
        let tried = |method, status| {
            Retry::default().retry(&mut request(method), &mut answer(status, None)).is_some()
        };
        assert!(tried(Method::GET, 503) && tried(Method::PATCH, 504) && tried(Method::POST, 429));
        assert!(!tried(Method::POST, 503) && !tried(Method::GET, 500) && !tried(Method::GET, 409));
        let mut retry = Retry::default();
        let tries = (0..10)
            .take_while(|_| {
                retry.retry(&mut request(Method::GET), &mut answer(503, None)).is_some()
            })
            .count();
        assert_eq!(tries, 3, "four tries in all");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_given_up() {
        let silent = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<()>, BoxError>>()
        });
        let began = tokio::time::Instant::now();
        let error =
            CountLayer(Metrics::new()).layer(silent).call(request(Method::GET)).await.unwrap_err();
        assert_eq!(began.elapsed(), ANSWER_WITHIN);
        assert!(error.to_string().contains("did not answer within 20s"), "{error}");
    }

    #[tokio::test]
    async fn an_api_server_that_cannot_be_reached_is_told_with_the_reason() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = Config::new(format!("https://{closed}").parse().unwrap());
        let error = plain(config, &Metrics::new()).unwrap().apiserver_version().await.unwrap_err();
        let said = said(&error);
        assert!(
            said.starts_with("cannot connect to the API server: ")
                && said.contains("Connection refused"),
            "{said}"
        );
    }

    #[test]
    fn a_server_that_asks_for_long_waits_gets_five_seconds() {
        let headers = answer(429, Some("1000")).unwrap().headers().clone();
        assert_eq!(Retry { tries: 1 }.wait(&headers, &request(Method::GET)), WAIT_MAX);
    }

    #[test]
    fn requests_are_labelled_by_a_closed_list() {
        assert_eq!(resource("/api/v1/namespaces/ml/pods/x"), "pods");
        assert_eq!(resource("/apis/rollmodel.dev/v1alpha1/modelversions"), "modelversions");
        assert_eq!(
            resource("/apis/rollmodel.dev/v1alpha1/namespaces/ml/modeldeployments/x/status"),
            "modeldeployments"
        );
        assert_eq!(resource("/version"), "other");
        assert_eq!(verb(&request(Method::GET)), "watch");
    }
}
