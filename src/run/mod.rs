//! The shell: all input and output. Nothing here decides.
//!
//! - [`operator`]: builds the parts, joins them, ends them in order.
//! - [`kinds`]: what is watched. [`object`]: what is decoded of it. [`reduced`], [`workload`],
//!   [`pods`], [`verification`], [`registries`]: what is kept of that.
//! - [`watch`]: one watch a kind. [`cache`]: one index a kind, which says what each event touched.
//! - [`observe`]: from the caches to what the planner sees. [`lookup`]: reads past the caches.
//! - [`reconcile`]: observe, plan, apply; the loop that runs passes. [`queue`]: what is due.
//!   [`memory`]: what may be forgotten.
//! - [`apply`]: executes plans; nothing else writes. [`schemas`]: what older CRDs know of that.
//! - [`admission`]: reads whether the shipped admission policies are in force.
//! - [`client`], [`transport`], [`lease`], [`metrics`], [`admin`], [`telemetry`], [`args`]: the
//!   process around it.
//! - [`case`]: `rollmodel dump` and `rollmodel plan`. [`mask`]: what a dump must not tell.

pub mod admin;
pub mod admission;
pub mod apply;
pub mod args;
pub mod cache;
pub mod case;
pub mod client;
pub mod event;
pub mod kinds;
pub mod lease;
pub mod lookup;
pub mod mask;
pub mod memory;
pub mod metrics;
pub mod object;
pub mod observe;
pub mod operator;
pub mod pods;
pub mod queue;
pub mod recent;
pub mod reconcile;
pub mod reduced;
pub mod registries;
pub mod schemas;
pub mod telemetry;
pub mod transport;
pub mod verification;
pub mod wanted;
pub mod watch;
pub mod workload;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
