//! The API: the kinds of `rollmodel.dev/v1alpha1`. Each rule that a user can break is a CEL rule
//! next to its field. There is no logic here.
//!
//! | to change | open |
//! |---|---|
//! | a field, or its description | the file of its kind; then `make generate` |
//! | a reason of a condition, and the actor that must act on it | `reason.rs` |
//! | a name, a label or an annotation | `names.rs` |
//! | immutability, or anything else that is generated for every kind | `schema.rs` |

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
