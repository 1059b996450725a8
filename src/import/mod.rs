//! `rollmodel import`: one process a ModelRegistry, in the user's namespace and with the user's
//! rights, that looks at a registry of models and writes down what is new there as ModelVersions.
//!
//! As in the operator, deciding is pure and doing is dumb:
//!
//! - [`system`]: what every system to import from has to answer, behind one trait; [`mlflow`]
//!   answers it for MLflow.
//! - [`decide`]: from what was seen there and what is here to what is to be imported, and what is
//!   in the way. Pure.
//! - [`status`]: what people and tools read of it. Pure.
//! - [`recheck`]: what is looked at again of what was imported: whether its bytes changed, and what
//!   was measured since.
//! - [`artifact`]: reads an artifact once, to know its digest and what its small files say; nothing
//!   is kept.
//! - [`cluster`]: reads and writes of the API server. [`work`]: one look from beginning to end.
//!   [`process`]: the loop around it.
//!
//! Nothing that happens upstream deletes, yanks or changes a record (its `evaluations`, which are
//! no part of it, gain what was measured since), and nothing is ever written upstream.

pub mod artifact;
pub mod cluster;
pub mod decide;
pub mod mlflow;
pub mod process;
pub mod recheck;
pub mod status;
pub mod system;
pub mod work;
