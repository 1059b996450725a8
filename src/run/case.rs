//! Cases: all that was observed of one ModelDeployment or ModelRegistry, as YAML. `dump` writes
//! one, `plan` reads one. A scenario in `tests/scenarios/` is one too, told shorter.

use std::{
    io::{Read, Write},
    path::Path,
    sync::atomic::Ordering,
};

use jiff::Timestamp;
use kube::Client;
use serde::{Deserialize, Serialize};

use super::{
    args::{self, Subject},
    client,
    kinds::Key,
    lookup, mask,
    metrics::Metrics,
    observe::{Caches, Found, Unreadable},
    registries, watch,
};
use crate::plan::{
    self, Observed, Plan,
    observed::Memory,
    registry::{ObservedRegistry, RegistryPlan, plan_registry},
};

/// What stands above a case.
const HEADER: &str = "\
# All that rollmodel observed of one object. `rollmodel plan -f <this file>` prints what it would do, and why.
# Every literal value of an environment variable, and every annotation that is not Kubernetes' or ours, is replaced by \"(masked <n>)\", the
# same value by the same number, and contents are hashed anew, so that every comparison still holds.
# Read it before you pass it on: names, images, arguments and messages are as they were.
";

/// A case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// What it is about.
    #[serde(default)]
    pub title: String,
    /// When it was observed.
    pub now: Timestamp,
    /// What was observed of a ModelDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// Or what was of a ModelRegistry.
    #[serde(rename = "observedRegistry", default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<ObservedRegistry>,
}

/// The plan of a case.
#[derive(Clone, Debug, Serialize, PartialEq)]
#[serde(untagged)]
pub enum CasePlan {
    /// Of a ModelDeployment.
    Deployment(Box<Plan>),
    /// Of a ModelRegistry.
    Registry(RegistryPlan),
}

impl Case {
    /// What would be done; None unless exactly one object was observed.
    #[must_use]
    pub fn plan(&self) -> Option<CasePlan> {
        match (&self.observed, &self.registry) {
            (Some(observed), None) => {
                Some(CasePlan::Deployment(Box::new(plan::plan(observed, self.now))))
            }
            (None, Some(seen)) => Some(CasePlan::Registry(plan_registry(seen, self.now))),
            _ => None,
        }
    }
}

impl CasePlan {
    /// What it does or waits for, in a sentence; nothing where a ModelRegistry's importer speaks
    /// for itself.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::Deployment(plan) => plan.waiting.sentence.clone(),
            Self::Registry(plan) => {
                let mut conditions = plan.conditions.iter().flatten();
                let ready = conditions.find(|condition| condition.type_ == "Ready");
                ready
                    .map(|ready| format!("{}: {}", ready.reason, ready.message))
                    .unwrap_or_default()
            }
        }
    }
}

/// Why a case could not be written or planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No client.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// No list.
    #[error("list the objects of namespace {namespace}: {}", client::said(source))]
    List {
        /// The namespace.
        namespace: String,
        /// The answer.
        source: kube::Error,
    },
    /// No such thing.
    #[error(
        "dump ModelDeployment {0}: there is neither such an object nor anything that one left behind"
    )]
    Nothing(Key),
    /// No such thing, or none that this build can read.
    #[error("dump ModelRegistry {0}: there is no such object, or it is not what this build knows")]
    NoRegistry(Key),
    /// The pods of an importer.
    #[error(transparent)]
    Lookup(#[from] lookup::Error),
    /// A case of nothing.
    #[error("plan {0}: a case has one of observed (of a ModelDeployment) and observedRegistry")]
    NoCase(String),
    /// Something is not readable.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A file.
    #[error("{verb} {path}: {source}")]
    File {
        /// What was attempted.
        verb: &'static str,
        /// On which file.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// YAML that is no case.
    #[error("read {path} as a case (title, now, and observed or observedRegistry): {source}")]
    Yaml {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: serde_yaml::Error,
    },
    /// A case or plan that cannot be written.
    #[error("write as YAML: {0}")]
    Write(serde_yaml::Error),
    /// JSON that is none any more.
    #[error("mask the values of environment variables: {0}")]
    Mask(#[from] serde_json::Error),
}

/// `rollmodel dump`.
///
/// # Errors
/// When the cluster cannot be read, or the file cannot be written.
pub async fn dump(args: &args::Dump) -> Result<(), Error> {
    let config = client::config().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = client::client(config, &Metrics::new())?;
    let caches = Caches { keep_bodies: true, ..Caches::default() };
    let list = watch::fill(&caches, &client, &namespace).await;
    list.map_err(|source| Error::List { namespace: namespace.clone(), source })?;
    let case = match &args.subject {
        Subject::Deployment(name) => {
            deployment(
                &caches,
                &client,
                &Key::new(namespace, name.as_str()),
                args.fetch_image.clone(),
            )
            .await?
        }
        Subject::Registry(name) => {
            registry(
                &caches,
                &client,
                &Key::new(namespace, name.as_str()),
                args.fetch_image.clone(),
            )
            .await?
        }
    };
    let text = format!("{HEADER}{}", serde_yaml::to_string(&case).map_err(Error::Write)?);
    match &args.output {
        Some(path) => std::fs::write(path, text).map_err(|source| file("write", path, source)),
        None => print(&text),
    }
}

async fn deployment(
    caches: &Caches,
    client: &Client,
    key: &Key,
    fetch_image: Option<String>,
) -> Result<Case, Error> {
    // A plan that does not hang on it goes without.
    caches.kubernetes.store(watch::minor(client).await.unwrap_or_default(), Ordering::Relaxed);
    let observed =
        caches.observe(key, &Found::default(), Memory { fetch_image, ..Memory::default() })?;
    if observed.model_deployment.is_none()
        && observed.records.is_empty()
        && observed.revisions.is_empty()
        && observed.requests.is_empty()
    {
        return Err(Error::Nothing(key.clone()));
    }
    Ok(Case { observed: Some(mask::mask(observed)?), ..case(key) })
}

async fn registry(
    caches: &Caches,
    client: &Client,
    key: &Key,
    image: Option<String>,
) -> Result<Case, Error> {
    let mut seen = caches.observe_registry(key).ok_or_else(|| Error::NoRegistry(key.clone()))?;
    seen.image = image;
    if plan_registry(&seen, Timestamp::now()).hear {
        seen.words = Some(registries::hear(client, key).await?);
    }
    Ok(Case { registry: Some(mask::registry(seen)?), ..case(key) })
}

/// Of nothing yet.
fn case(key: &Key) -> Case {
    let now = Timestamp::now();
    Case { title: format!("{key} as it was at {now}"), now, observed: None, registry: None }
}

/// `rollmodel plan`.
///
/// # Errors
/// When the file is no case.
pub fn print_plan(args: &args::Plan) -> Result<(), Error> {
    let text = read(&args.file)?;
    let case: Case = serde_yaml::from_str(&text)
        .map_err(|source| Error::Yaml { path: args.file.display().to_string(), source })?;
    let plan = case.plan().ok_or_else(|| Error::NoCase(args.file.display().to_string()))?;
    print(&explain(&plan.why(), &plan)?)
}

fn explain(why: &str, plan: &impl Serialize) -> Result<String, Error> {
    let yaml = serde_yaml::to_string(plan).map_err(Error::Write)?;
    Ok(format!("# {}\n{yaml}", if why.is_empty() { "There is nothing to do." } else { why }))
}

fn read(path: &Path) -> Result<String, Error> {
    if path == Path::new("-") {
        let mut text = String::new();
        return std::io::stdin()
            .read_to_string(&mut text)
            .map(|_| text)
            .map_err(|source| file("read", path, source));
    }
    std::fs::read_to_string(path).map_err(|source| file("read", path, source))
}

fn print(text: &str) -> Result<(), Error> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|source| file("write", Path::new("standard output"), source))
}

fn file(verb: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { verb, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_back() {
        let observed = Some(Observed { name: "fraud".into(), ..Observed::default() });
        let case = Case { title: "t".into(), now: Timestamp::UNIX_EPOCH, observed, registry: None };
        let text = format!("{HEADER}{}", serde_yaml::to_string(&case).unwrap());
        let back: Case = serde_yaml::from_str(&text).unwrap();
        assert_eq!(back.observed, case.observed);
        assert!(explain("", &Plan::default()).unwrap().starts_with("# There is nothing to do."));
    }
}
