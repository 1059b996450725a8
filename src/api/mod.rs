//! What users write and read: the kinds of `rollmodel.dev/v1alpha1`, with every rule a user can
//! break as CEL beside its field. No logic.

pub mod condition;
pub mod deployment;
pub mod names;
pub mod policy;
pub mod reason;
pub mod registry;
pub mod request;
pub mod rollout;
pub mod schema;
pub mod version;

pub use deployment::{ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus};
pub use policy::{ModelPolicy, ModelPolicySpec};
pub use registry::{ModelRegistry, ModelRegistrySpec, ModelRegistryStatus};
pub use request::{RolloutRequest, RolloutRequestSpec, RolloutRequestStatus};
pub use rollout::{ModelRollout, ModelRolloutSpec};
pub use version::{ModelVersion, ModelVersionSpec, ModelVersionStatus};
