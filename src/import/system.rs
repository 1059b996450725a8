//! What every system to import from has to answer. A new system is one module with these answers,
//! and one arm in [`open`].

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

use super::mlflow;
use crate::{
    api::{
        ModelRegistrySpec, ModelVersionSpec, reason::Reason, registry::ModelRule, version::Metric,
    },
    fetch::{credentials::Credentials, guard::Allowed, http::Resolve},
};

/// A system that versions are imported from.
#[async_trait]
pub trait System: Send + Sync {
    /// One look at everything that the rules name, in as few requests as the system allows;
    /// `whole`: without what an earlier look saw.
    async fn survey(&mut self, spec: &ModelRegistrySpec, whole: bool) -> Result<Survey, Trouble>;

    /// All that is to be written down of one version.
    async fn describe(&self, about: &About<'_>) -> Result<Outcome, Trouble>;

    /// How many bytes the artifact of a version has now; None where that is not told. Asked for
    /// once a day a version.
    async fn size(&self, candidate: &Candidate) -> Result<Option<u64>, Trouble>;

    /// What is measured of a version by now; None where that is not told. Asked for once a day a
    /// version, and more often while its run goes on. `id` is what identifies it there, as its
    /// record says.
    async fn measured(
        &self,
        candidate: &Candidate,
        id: Option<&str>,
    ) -> Result<Option<Measured>, Trouble>;
}

/// What a system is made with.
#[derive(Clone)]
pub struct Means {
    /// Name of the ModelRegistry.
    pub registry: String,
    /// The mounted Secret, and the environment.
    pub credentials: Arc<Credentials>,
    /// Hosts that may be reached although they are private, beside the system's own.
    pub allowed: Vec<Allowed>,
    /// How names of hosts are resolved.
    pub resolve: Arc<dyn Resolve>,
}

/// The system that a spec names.
///
/// # Errors
/// When the spec or the credentials make no sense.
pub fn open(spec: &ModelRegistrySpec, means: &Means) -> Result<Box<dyn System>, Trouble> {
    match &spec.mlflow {
        Some(at) => Ok(Box::new(mlflow::Server::new(at, means)?)),
        None => Err(Trouble::new(
            Kind::Misconfigured,
            "The ModelRegistry names no system that this build knows: write spec.mlflow.",
        )),
    }
}

/// What one look saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// The system's version, as it tells it.
    pub server_version: Option<String>,
    /// What there is for each rule, in the rules' order.
    pub models: Vec<Found>,
}

/// What there is for one rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The rule's name.
    pub name: String,
    /// What it is called there.
    pub upstream: String,
    /// Every version there, in any order.
    pub candidates: Vec<Candidate>,
    /// Aliases, and the versions they name, as they are called here.
    pub aliases: BTreeMap<String, String>,
}

/// A version there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// What it is called here.
    pub version: String,
    /// What its model is called there.
    pub model: String,
    /// What it is called there.
    pub there: String,
    /// What identifies it there beside its name, where that is known without asking.
    pub id: Option<String>,
    /// When it was made, by the system's clock.
    pub time: Timestamp,
    /// Whether the rule takes it: it is complete, and has the tags.
    pub fits: bool,
    /// What it waits for, in CamelCase, where it is not complete.
    pub waits: Option<&'static str>,
    /// What the system's module has to know of it again.
    pub key: String,
    /// The run it is of, where it is of one.
    pub run: String,
    /// What a person said of it there.
    pub description: String,
    /// Others of the same run and name, among which one is meant.
    pub siblings: Vec<String>,
}

/// What is measured of a version by now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Numbers, each with its time.
    pub metrics: Vec<Metric>,
    /// Whether more will come: its run goes on.
    pub goes_on: bool,
}

/// What is asked of a version.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The rule that takes it.
    pub rule: &'a ModelRule,
    /// The version.
    pub candidate: &'a Candidate,
    /// Seconds that a run's end is waited for.
    pub settle: i64,
    /// Now.
    pub now: Timestamp,
}

/// What is to be written down of a version.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// This.
    Record(Box<Described>),
    /// Nothing yet.
    Waits {
        /// For what, in CamelCase.
        reason: &'static str,
        /// In a sentence, where a person has to do something.
        message: Option<String>,
    },
    /// Nothing ever, as it is.
    Problem {
        /// Why, in CamelCase.
        reason: &'static str,
        /// Why and what to do, in a sentence.
        message: String,
    },
    /// Nothing: another of the same run is meant.
    Passed,
}

/// A record, and what it does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The record.
    pub spec: ModelVersionSpec,
    /// What of the original is not in it, in words.
    pub left_out: Vec<String>,
}

/// Why a system could not be looked at.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{sentence}")]
pub struct Trouble {
    /// What kind of trouble it is.
    pub kind: Kind,
    /// What was attempted, and what to do, in a sentence without secrets.
    pub sentence: String,
}

/// Kinds of trouble; their names are the reasons of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does not answer, or not in its own words; may pass by itself.
    Unreachable,
    /// It does not take requests under the name that the spec has for it.
    HostRefused,
    /// It does not accept the credentials, or wants some.
    Unauthorized,
    /// The credentials do not allow it.
    Forbidden,
    /// The spec or the credentials make no sense.
    Misconfigured,
}

impl Kind {
    /// The reason of a condition.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Unreachable => Reason::Unreachable,
            Self::HostRefused => Reason::HostRefused,
            Self::Unauthorized => Reason::Unauthorized,
            Self::Forbidden => Reason::Forbidden,
            Self::Misconfigured => Reason::Misconfigured,
        }
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub fn passes(self) -> bool {
        self == Self::Unreachable
    }
}

impl Trouble {
    /// Trouble of a kind.
    #[must_use]
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into() }
    }
}

impl From<crate::fetch::error::Error> for Trouble {
    fn from(error: crate::fetch::error::Error) -> Self {
        use crate::fetch::error::Reason;
        let kind = match error.reason {
            Reason::Unauthorized => Kind::Unauthorized,
            Reason::InvalidRequest => Kind::Misconfigured,
            _ => Kind::Unreachable,
        };
        Self::new(kind, error.sentence)
    }
}
