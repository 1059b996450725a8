//! The port for those who run the operator: `/metrics`, `/healthz`, `/readyz`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{metrics::Metrics, observe::Caches};

/// A loop that has not moved for so long is stuck; it moves every 5 s even when there is nothing to
/// do.
const STUCK: Duration = Duration::from_secs(60);

/// What the port tells of.
#[derive(Clone)]
pub struct Admin {
    /// The caches.
    pub caches: Arc<Caches>,
    /// What is counted.
    pub metrics: Metrics,
    /// When each loop last moved, in seconds since 1970.
    pub beats: Vec<Arc<AtomicU64>>,
}

/// The port cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("serve /metrics, /healthz and /readyz on {address}: {source}")]
pub struct Error {
    address: SocketAddr,
    source: std::io::Error,
}

/// Opens the port: first of all, for a process that cannot must not become the leader.
///
/// # Errors
/// When the port cannot be opened.
pub async fn open(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error { address, source })?;
    Ok((listener, address))
}

impl Admin {
    /// Serves until `stop`.
    ///
    /// # Errors
    /// When the port fails.
    pub async fn serve(
        self,
        (listener, address): (TcpListener, SocketAddr),
        stop: CancellationToken,
    ) -> Result<(), Error> {
        axum::serve(listener, self.router())
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
            .map_err(|source| Error { address, source })
    }

    fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(|State(admin): State<Self>| async move { admin.metrics() }))
            .route("/healthz", get(|State(admin): State<Self>| async move { admin.healthy() }))
            .route("/readyz", get(|State(admin): State<Self>| async move { admin.ready() }))
            .with_state(self)
    }

    fn metrics(&self) -> impl IntoResponse + use<> {
        let text =
            self.metrics.text(&self.caches).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        Ok::<_, StatusCode>((
            [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ))
    }

    fn healthy(&self) -> (StatusCode, String) {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let oldest = self.beats.iter().map(|b| b.load(Ordering::Relaxed)).min().unwrap_or(now);
        match now.saturating_sub(oldest) {
            age if age > STUCK.as_secs() => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("A loop has not moved for {age} s.\n"))
            }
            _ => (StatusCode::OK, "ok\n".into()),
        }
    }

    /// Ready when every kind is listed and every CRD is as new as this build; never "leads": a
    /// standby is ready to take over.
    fn ready(&self) -> (StatusCode, String) {
        let mut sentences = self.caches.readiness.missing();
        sentences.extend(self.caches.older());
        match sentences.as_slice() {
            [] => (StatusCode::OK, "ok\n".into()),
            sentences => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", sentences.join("\n"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{
        cache::Sync,
        kinds::{KINDS, Kind},
    };

    #[test]
    fn readiness_names_what_is_missing() {
        let caches = Arc::new(Caches::default());
        let admin = Admin {
            caches: caches.clone(),
            metrics: Metrics::new(),
            beats: vec![Arc::new(AtomicU64::new(0))],
        };
        for kind in KINDS {
            caches.readiness.set(kind, Sync::Synced);
        }
        assert_eq!(admin.ready().0, StatusCode::OK);
        caches.readiness.set(
            Kind::ModelVersion,
            Sync::Waiting("the API server does not serve modelversions yet: apply crds/".into()),
        );
        let (code, text) = admin.ready();
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            text,
            "ModelVersion is not ready: the API server does not serve modelversions yet: apply crds/.\n"
        );
        assert_eq!(admin.healthy().0, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
