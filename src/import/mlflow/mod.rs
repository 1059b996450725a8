//! MLflow: registered models with their versions, and models that runs logged without registering
//! them.
//!
//! What the server really answers, and where it misleads, is told beside what is done about it:
//! [`wire`] its shapes, [`api`] requests and refusals, [`mlmodel`], [`metrics`], [`record`] and
//! [`place`] the mapping. What is asked at each look is here: two requests for any number of
//! registered models, one more for all experiments together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use url::Url;

pub mod api;
mod describe;
pub mod logged;
pub mod metrics;
pub mod mlmodel;
pub mod place;
pub mod record;
pub mod registered;
pub mod wire;

use api::Api;

use super::system::{
    About, Candidate, Found, Kind, Means, Measured, Outcome, Survey, System, Trouble,
};
use crate::{
    api::{ModelRegistrySpec, registry::Mlflow},
    fetch::{credentials::Credentials, guard::Allowed, source},
};

/// A tracking server.
pub struct Server {
    api: Api,
    at: Mlflow,
    url: Url,
    pages: Url,
    registry: String,
    fetching: source::Means,
    version: Option<String>,
    logged: logged::Seen,
}

impl Server {
    /// # Errors
    /// When the address or the credentials make no sense.
    pub fn new(at: &Mlflow, means: &Means) -> Result<Self, Trouble> {
        let url = parse("url", &at.url)?;
        let pages = at
            .external_url
            .as_deref()
            .map_or_else(|| Ok(url.clone()), |given| parse("externalURL", given))?;
        let means = Means {
            allowed: means.allowed.iter().cloned().chain(own(&url)).collect(),
            ..means.clone()
        };
        let fetching = source::Means {
            // Its own credentials go to this server, and to no other.
            credentials: Arc::new(
                Credentials::clone(&means.credentials).with("MLFLOW_TRACKING_URI", &at.url),
            ),
            allowed: means.allowed.clone(),
            resolve: means.resolve.clone(),
            volumes: "/nonexistent".into(),
        };
        let api = Api::new(&url, at, &means)?;
        Ok(Self {
            api,
            at: at.clone(),
            url,
            pages,
            registry: means.registry,
            fetching,
            version: None,
            logged: logged::Seen::default(),
        })
    }
}

fn parse(field: &str, text: &str) -> Result<Url, Trouble> {
    let good = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    };
    let wrong = || {
        Trouble::new(
            Kind::Misconfigured,
            format!("spec.mlflow.{field} has to be an http or https address without credentials."),
        )
    };
    Url::parse(text).ok().filter(good).ok_or_else(wrong)
}

/// Who wrote the spec named the host, and whatever it reaches is reached by a pod that they could
/// start themselves: so it may be any.
fn own(url: &Url) -> Vec<Allowed> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let names: &[&str] = if host == "localhost" { &["127.0.0.1", "::1"] } else { &[host.as_str()] };
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

#[async_trait]
impl System for Server {
    async fn survey(&mut self, spec: &ModelRegistrySpec, whole: bool) -> Result<Survey, Trouble> {
        let registered = registered::survey(&self.api, spec).await?;
        let logged = self.logged.survey(&self.api, spec, whole).await?;
        if self.version.is_none() || whole {
            self.version = self.api.version().await;
        }
        let models = spec
            .models
            .iter()
            .map(|rule| registered.get(&rule.name).or_else(|| logged.get(&rule.name)).cloned());
        let models = models.zip(&spec.models).map(|(found, rule)| {
            found.unwrap_or_else(|| Found { name: rule.name.clone(), ..Found::default() })
        });
        Ok(Survey { server_version: self.version.clone(), models: models.collect() })
    }

    async fn describe(&self, about: &About<'_>) -> Result<Outcome, Trouble> {
        describe::describe(self, about).await
    }

    async fn size(&self, candidate: &Candidate) -> Result<Option<u64>, Trouble> {
        describe::size(self, candidate).await
    }

    async fn measured(
        &self,
        candidate: &Candidate,
        id: Option<&str>,
    ) -> Result<Option<Measured>, Trouble> {
        describe::measured(self, candidate, id).await
    }
}

/// Whether all of these tags are there.
fn has_tags(tags: &[wire::Pair], wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| tags.iter().any(|tag| tag.key == *key && tag.value == *value))
}

/// A time that is surely there.
fn time(given: Option<Timestamp>) -> Timestamp {
    given.unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Ids and names, each once.
fn once<'a>(all: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    all.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}
