//! How a registry is asked: anonymously, by password, or by a token that its own realm gives for
//! the password.

use std::sync::Mutex;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_auth::parse_challenges;
use hyper::body::Incoming;
use oci_spec::distribution::Reference;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::super::Means;
use crate::fetch::{
    credentials::{Credentials, Secret},
    error::{Error, Reason},
    guard::Trusted,
    http::{Elsewhere, Get, Http, denied, sensitive, text},
    name::escaped,
};

/// Registries whose realm is on another host, which is theirs too.
const REALMS: [(&str, &str); 2] =
    [("registry-1.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// The way into one repository.
pub struct Access {
    http: Http,
    registry: String,
    repository: String,
    password: Option<Secret>,
    header: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Access {
    pub fn new(reference: &Reference, means: &Means) -> Result<Self, Error> {
        let http = means.http(Trusted::None, None)?;
        let password = password(reference, &means.credentials)?;
        let [registry, repository] =
            [reference.resolve_registry(), reference.repository()].map(str::to_owned);
        Ok(Self { http, registry, repository, password, header: Mutex::default() })
    }

    pub fn http(&self) -> &Http {
        &self.http
    }

    pub fn with_credentials(&self) -> bool {
        self.password.is_some()
    }

    fn set(&self, value: Option<HeaderValue>) {
        if let Ok(mut header) = self.header.lock() {
            *header = value;
        }
    }

    /// Asks; where the registry wants to know who asks, tells it and asks again.
    pub async fn get(&self, get: Get) -> Result<Response<Incoming>, Error> {
        let get = self.with_header(get);
        let response = self.http.get(get.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = response
            .headers()
            .get(header::WWW_AUTHENTICATE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        self.answer(&challenge).await?;
        self.http.get(self.with_header(get)).await
    }

    /// Asks the registry anew who may ask: a token may be too old.
    pub async fn renew(&self) -> Result<(), Error> {
        self.set(None);
        let url = format!("https://{}/v2/", self.registry)
            .parse()
            .map_err(|_| self.strange("has no address"))?;
        self.get(Get::new(url)).await.map(drop)
    }

    /// A request with the header that the registry wants, as far as it told.
    pub fn with_header(&self, mut get: Get) -> Get {
        get.elsewhere = Elsewhere::Follow;
        get.credentials = HeaderMap::new();
        if let Some(value) = self.header.lock().ok().and_then(|header| header.clone()) {
            get.credentials.insert(header::AUTHORIZATION, value);
        }
        get
    }

    async fn answer(&self, challenge: &str) -> Result<(), Error> {
        let challenges = parse_challenges(challenge)
            .map_err(|_| self.strange("asks for credentials in a way that is not known"))?;
        for challenge in &challenges {
            let param = |name: &str| {
                challenge
                    .params
                    .iter()
                    .find(|(n, _)| n.eq_ignore_ascii_case(name))
                    .map(|(_, v)| v.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                let password = self.password.as_ref().ok_or_else(|| self.denied())?;
                self.set(Some(authorization(&format!("Basic {}", password.reveal()))?));
                return Ok(());
            }
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let token = self
                    .token(&param("realm").unwrap_or_default(), param("service").as_deref())
                    .await?;
                self.set(Some(authorization(&format!("Bearer {token}"))?));
                return Ok(());
            }
        }
        Err(self.strange("asks for credentials in a way that is not known"))
    }

    /// A token from the registry's realm. A realm on another host would get the password, so it is
    /// refused.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, Error> {
        let mut url =
            Url::parse(realm).map_err(|_| self.strange("names no realm for its tokens"))?;
        let (host, own) = (
            url.host_str().unwrap_or_default().to_owned(),
            self.registry.split(':').next().unwrap_or_default(),
        );
        if url.scheme() != "https" || !(host == own || REALMS.contains(&(own, host.as_str()))) {
            let why = format!(
                "sends its credentials to {}, which is another host or without TLS",
                escaped(&host)
            );
            return Err(Error::new(
                Reason::Refused,
                format!("Registry {} {why}: no credentials are given.", self.registry),
            ));
        }
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("scope", &format!("repository:{}:pull", self.repository));
            service.into_iter().for_each(|service| {
                query.append_pair("service", service);
            });
        }
        let mut get = Get::new(url);
        if let Some(password) = &self.password {
            get.credentials.insert(
                header::AUTHORIZATION,
                authorization(&format!("Basic {}", password.reveal()))?,
            );
        }
        let response = self.http.get(get).await?;
        let what = format!("a token of registry {}", self.registry);
        if !response.status().is_success() {
            return Err(denied(&what, response.status(), self.with_credentials()));
        }
        let token: Token = serde_json::from_slice(&text(&what, response).await?)
            .map_err(|_| self.strange("gives no token"))?;
        token.token.or(token.access_token).ok_or_else(|| self.strange("gives no token"))
    }

    fn strange(&self, does: &str) -> Error {
        Error::new(Reason::Unreachable, format!("Registry {} {does}.", self.registry))
    }

    fn denied(&self) -> Error {
        denied(
            &format!("oci://{}/{}", self.registry, self.repository),
            StatusCode::UNAUTHORIZED,
            self.with_credentials(),
        )
    }
}

fn authorization(text: &str) -> Result<HeaderValue, Error> {
    let wrong = |_| {
        Error::new(
            Reason::InvalidRequest,
            "The credentials of the registry hold characters that no header has.",
        )
    };
    sensitive(text).map_err(wrong)
}

/// What a Secret of type kubernetes.io/dockerconfigjson holds for the registry: `user:password` in
/// base64.
fn password(reference: &Reference, credentials: &Credentials) -> Result<Option<Secret>, Error> {
    let Some(text) = credentials.get(&[".dockerconfigjson", "config.json"]) else {
        return Ok(None);
    };
    let config: Value = serde_json::from_str(text).map_err(|_| {
        Error::new(Reason::InvalidRequest, "The Secret's .dockerconfigjson is no JSON.")
    })?;
    let [named, dialled] = [reference.registry(), reference.resolve_registry()];
    let names = [
        named.to_owned(),
        dialled.to_owned(),
        format!("https://{named}"),
        format!("https://{dialled}"),
        format!("https://index.{named}/v1/"),
    ];
    let Some(entry) = names.iter().find_map(|name| config["auths"].get(name)) else {
        return Ok(None);
    };
    if let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) {
        return Ok(Some(Secret::new(auth.to_owned())));
    }
    let pair = entry["username"].as_str().zip(entry["password"].as_str());
    Ok(pair
        .map(|(user, password)| Secret::new(BASE64_STANDARD.encode(format!("{user}:{password}")))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(config: &str) -> Option<Secret> {
        let environment = [("config.json".to_owned(), config.to_owned())];
        let credentials = Credentials::read(None, environment).unwrap();
        password(&"registry.example.com/risk/fraud:7".parse().unwrap(), &credentials).unwrap()
    }

    #[test]
    fn a_password_is_found_by_the_registrys_name_and_for_no_other() {
        assert_eq!(
            given(r#"{"auths": {"registry.example.com": {"auth": "YTpi"}}}"#).unwrap().reveal(),
            "YTpi"
        );
        assert_eq!(
            given(
                r#"{"auths": {"https://registry.example.com": {"username": "a", "password": "b"}}}"#
            )
            .unwrap()
            .reveal(),
            "YTpi"
        );
        assert_eq!(
            given(r#"{"auths": {"registry.example.com.evil.example.org": {"auth": "YTpi"}}}"#),
            None
        );
    }
}
