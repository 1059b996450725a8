//! Rollmodel: roll model versions forward, roll them back, and always know what is serving and why.
//!
//! **The rule:** *observe* reads caches, *plan* decides with no I/O, clock or randomness, *apply*
//! performs the steps and nothing else.
//!
//! - [`api`]: the kinds that users write and read.
//! - [`plan`]: pure. From what was observed, and the time, to what is to be done and what the
//!   status says.
//! - [`fetch`]: the program that brings the bytes of a version to where they are used.
//! - [`import`]: the program that writes down as ModelVersions what is registered elsewhere.
//! - [`run`]: all I/O: caches, the writes that a plan asks for, and what keeps the process healthy.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
pub mod fetch;
pub mod import;
pub mod plan;
pub mod run;
