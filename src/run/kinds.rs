//! The kinds that are watched, how their objects are found again, and how large things are kept
//! small.

use std::{fmt, marker::PhantomData, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::Job,
        core::v1 as core,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::api::ApiResource;
use serde::{Serialize, de::DeserializeOwned};

use super::{memory, object::Object};
use crate::api::{
    ModelDeployment, ModelPolicy, ModelRegistry, ModelRollout, ModelVersion, RolloutRequest, names,
};

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Ours: what should serve.
    ModelDeployment,
    /// Ours: the record of a version.
    ModelVersion,
    /// Ours: the record of a rollout.
    ModelRollout,
    /// Ours: a person's request.
    RolloutRequest,
    /// Ours: what an administrator demands.
    ModelPolicy,
    /// Ours: where versions are imported from.
    ModelRegistry,
    /// Contents and their renderings.
    ControllerRevision,
    /// The serving Deployments.
    Deployment,
    /// The Services in front.
    Service,
    /// Pods of the serving Deployments.
    Pod,
    /// Verifications of artifacts.
    Job,
    /// Autoscalers, to find those that scale the wrong object.
    HorizontalPodAutoscaler,
    /// The schemas that are served.
    CustomResourceDefinition,
}

/// Every kind that is watched.
pub const KINDS: [Kind; 13] = [
    Kind::ModelDeployment,
    Kind::ModelVersion,
    Kind::ModelRollout,
    Kind::RolloutRequest,
    Kind::ModelPolicy,
    Kind::ModelRegistry,
    Kind::ControllerRevision,
    Kind::Deployment,
    Kind::Service,
    Kind::Pod,
    Kind::Job,
    Kind::HorizontalPodAutoscaler,
    Kind::CustomResourceDefinition,
];

impl Kind {
    /// Its name, as a manifest writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelDeployment => "ModelDeployment",
            Self::ModelVersion => "ModelVersion",
            Self::ModelRollout => "ModelRollout",
            Self::RolloutRequest => "RolloutRequest",
            Self::ModelPolicy => "ModelPolicy",
            Self::ModelRegistry => "ModelRegistry",
            Self::ControllerRevision => "ControllerRevision",
            Self::Deployment => "Deployment",
            Self::Service => "Service",
            Self::Pod => "Pod",
            Self::Job => "Job",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::CustomResourceDefinition => "CustomResourceDefinition",
        }
    }

    /// Where the API server serves it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ModelDeployment => ApiResource::erase::<ModelDeployment>(&()),
            Self::ModelVersion => ApiResource::erase::<ModelVersion>(&()),
            Self::ModelRollout => ApiResource::erase::<ModelRollout>(&()),
            Self::RolloutRequest => ApiResource::erase::<RolloutRequest>(&()),
            Self::ModelPolicy => ApiResource::erase::<ModelPolicy>(&()),
            Self::ModelRegistry => ApiResource::erase::<ModelRegistry>(&()),
            Self::ControllerRevision => ApiResource::erase::<ControllerRevision>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::Service => ApiResource::erase::<core::Service>(&()),
            Self::Pod => ApiResource::erase::<core::Pod>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::HorizontalPodAutoscaler => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
            Self::CustomResourceDefinition => ApiResource::erase::<CustomResourceDefinition>(&()),
        }
    }

    /// The label selector of its watch; None: every object of the kind.
    #[must_use]
    pub fn selector(self) -> Option<&'static str> {
        match self {
            Self::ControllerRevision | Self::Deployment | Self::Service | Self::Job => {
                Some("app.kubernetes.io/managed-by=rollmodel")
            }
            Self::Pod => Some(names::MODEL_DEPLOYMENT),
            Self::CustomResourceDefinition => Some("app.kubernetes.io/part-of=rollmodel"),
            _ => None,
        }
    }

    /// Whether the operator works without it, where RBAC forbids it (an operator of one namespace
    /// reads no CRDs).
    #[must_use]
    pub fn optional(self) -> bool {
        matches!(self, Self::HorizontalPodAutoscaler | Self::CustomResourceDefinition)
    }
}

/// Namespace and name, shared by whoever holds them; the namespace is empty for what has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of an object of that name.
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is kept of a kind, and how it is found again.
pub trait Watched: Sized + Send + Sync + 'static {
    /// The kind.
    const KIND: Kind;

    /// What is kept of an object; `old` is what was kept of it before.
    ///
    /// # Errors
    /// When the object is not what this build knows; it is then kept as unreadable, and nothing it
    /// belongs to is planned.
    fn read(object: Object, old: Option<&Self>) -> Result<Self, serde_json::Error>;

    /// Names of the ModelDeployments that an object belongs to, also of one that cannot be read.
    fn owners(object: &Object) -> Vec<String>;

    /// Names of the ModelVersions that it names.
    fn versions(&self) -> Vec<String> {
        Vec::new()
    }

    /// What a newer state of the same object, its appearance (no `old`) or its end (no `new`) says
    /// to a planner; None: nothing.
    fn news(_old: Option<&Self>, _new: Option<&Self>) -> Option<News> {
        Some(News::Turn)
    }

    /// Whether a newer state says anything to the ModelVersions that both name.
    fn news_to_versions(_old: &Self, _new: &Self) -> bool {
        false
    }
}

/// What a change says to a planner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Numbers that go up and down while pods come and go; they are gathered for seconds.
    #[default]
    Counts,
    /// Anything else: it may turn a decision.
    Turn,
}

/// A value kept as compact JSON: a pod template takes a third of the memory so.
pub struct Packed<T>(Box<[u8]>, PhantomData<fn() -> T>);

impl<T: Serialize + DeserializeOwned> Packed<T> {
    /// Packs.
    ///
    /// # Errors
    /// When the value does not serialize.
    pub fn pack(value: &T) -> Result<Self, serde_json::Error> {
        // A copy of its size: mimalloc shrinks nothing that is more than half full, and what grew
        // is three quarters full as a rule.
        Ok(Self(serde_json::to_vec(value)?.as_slice().into(), PhantomData))
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// A hash of the value.
    #[must_use]
    pub fn hash(&self) -> u64 {
        memory::hash(&self.0)
    }

    /// Unpacks.
    ///
    /// # Errors
    /// When what was packed does not come out again.
    pub fn unpack(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}
