//! Requests to a tracking server, and what an answer that says no means.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::{Position, Url};

use super::wire::Refusal;
use crate::{
    api::registry::Mlflow,
    fetch::{
        error::Reason,
        guard::{Guard, Trusted},
        http::{Get, Http, text},
        name::escaped,
        source::mlflow::{authorization, of_workspace},
        uri::bare,
    },
    import::system::{Kind, Means, Trouble},
};

/// What the server says, in plain text, to who asks under a name that it was not told it has.
const HOST_REFUSED: &str = "Invalid Host header";
/// What the message of its 404 begins with where it has no such workspace.
const NO_WORKSPACE: &str = "Workspace '";

/// Asks a tracking server.
pub struct Api {
    http: Http,
    base: Url,
    workspace: HeaderMap,
    credentials: HeaderMap,
}

impl Api {
    /// # Errors
    /// When the credentials make no sense.
    pub fn new(base: &Url, at: &Mlflow, means: &Means) -> Result<Self, Trouble> {
        let trusted = Trusted::Host(base.host_str().unwrap_or_default().to_owned());
        let guard = Guard { allowed: means.allowed.clone(), trusted, identity: None };
        let http = Http::new(guard, &means.credentials.certificates()?, means.resolve.clone())?;
        let workspace = of_workspace(at.workspace.as_deref());
        Ok(Self {
            http,
            base: base.clone(),
            workspace,
            credentials: authorization(&means.credentials)?,
        })
    }

    fn to(&self, url: Url) -> Get {
        Get {
            headers: self.workspace.clone(),
            credentials: self.credentials.clone(),
            ..Get::new(url)
        }
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// GETs below the API; None where there is nothing of that name.
    ///
    /// # Errors
    /// When there is no answer, or one that says no.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, Trouble> {
        let url = self.url(&format!("api/2.0/mlflow/{path}"), query);
        let response = self.http.get(self.to(url)).await?;
        self.read(path, response.status(), text(&self.what(path), response).await?)
    }

    /// POSTs a question.
    ///
    /// # Errors
    /// When there is no answer, or one that says no.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &Value,
    ) -> Result<Option<T>, Trouble> {
        let url = self.url(&format!("api/2.0/mlflow/{path}"), &[]);
        let mut request = Request::post(&url[..Position::AfterQuery])
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.workspace.clone());
            headers.extend(self.credentials.clone());
        }
        let wrong =
            |_| Trouble::new(Kind::Misconfigured, format!("{} cannot be asked.", self.what(path)));
        let request = request.body(Full::new(Bytes::from(question.to_string()))).map_err(wrong)?;
        let response = self.http.send(request).await?;
        self.read(path, response.status(), text(&self.what(path), response).await?)
    }

    /// The server's version; None where it does not tell.
    pub async fn version(&self) -> Option<String> {
        let response = self
            .http
            .get(self.to(self.url("version", &[])))
            .await
            .ok()
            .filter(|answer| answer.status().is_success())?;
        let bytes = text("", response).await.ok()?;
        let version = String::from_utf8(bytes.to_vec()).ok()?;
        let plain = version.len() <= 40
            && version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
        (plain && !version.is_empty()).then_some(version)
    }

    fn what(&self, path: &str) -> String {
        format!(
            "{}/{}",
            bare(&self.base).trim_end_matches('/'),
            path.split('/').next().unwrap_or_default()
        )
    }

    fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        status: StatusCode,
        body: Bytes,
    ) -> Result<Option<T>, Trouble> {
        let what = self.what(path);
        if status.is_success() {
            let strange = |_| {
                Trouble::new(
                    Kind::Unreachable,
                    format!(
                        "{what} is answered with what is not MLflow's API: look at spec.mlflow.url."
                    ),
                )
            };
            return serde_json::from_slice(&body).map(Some).map_err(strange);
        }
        let said: Refusal = serde_json::from_slice(&body).unwrap_or_default();
        match status {
            StatusCode::NOT_FOUND
                if !self.workspace.is_empty() && said.message.starts_with(NO_WORKSPACE) =>
            {
                let sentence =
                    format!("{what} has no such workspace: correct spec.mlflow.workspace.");
                Err(Trouble::new(Kind::Misconfigured, sentence))
            }
            _ if said.error_code == "FEATURE_DISABLED" && !self.workspace.is_empty() => {
                let sentence = format!(
                    "{what} has no workspaces: leave spec.mlflow.workspace out, or start it with --enable-workspaces."
                );
                Err(Trouble::new(Kind::Misconfigured, sentence))
            }
            StatusCode::NOT_FOUND if said.error_code == "RESOURCE_DOES_NOT_EXIST" => Ok(None),
            _ => Err(self.refused(&what, status, &body, &said)),
        }
    }

    fn refused(&self, what: &str, status: StatusCode, body: &[u8], said: &Refusal) -> Trouble {
        let code = status.as_u16();
        if status == StatusCode::FORBIDDEN && String::from_utf8_lossy(body).contains(HOST_REFUSED) {
            let host = &self.base[Position::BeforeHost..Position::AfterPort];
            return Trouble::new(
                Kind::HostRefused,
                format!(
                    "The MLflow server does not answer to the name {0}: start it with --allowed-hosts '{0}' (or MLFLOW_SERVER_ALLOWED_HOSTS).",
                    escaped(host)
                ),
            );
        }
        match code {
            401 if self.credentials.is_empty() => Trouble::new(
                Kind::Unauthorized,
                format!(
                    "{what} wants credentials (401): name a Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in spec.credentialsSecret."
                ),
            ),
            401 => Trouble::new(
                Kind::Unauthorized,
                format!("{what} does not accept the credentials of spec.credentialsSecret (401)."),
            ),
            403 => Trouble::new(
                Kind::Forbidden,
                format!(
                    "{what} is forbidden (403): grant this account READ on the registered models and on their experiments."
                ),
            ),
            400 => Trouble::new(
                Kind::Misconfigured,
                format!("{what} refuses the question (400): {}", escaped(&said.message)),
            ),
            404 => Trouble::new(
                Kind::Misconfigured,
                format!("There is no MLflow API at {what} (404): look at spec.mlflow.url."),
            ),
            _ => Trouble::new(Kind::Unreachable, format!("{what} is answered with {code}.")),
        }
    }
}

/// Whether an error of a fetch is one of rights.
#[must_use]
pub fn is_denied(error: &crate::fetch::error::Error) -> bool {
    error.reason == Reason::Unauthorized
}
