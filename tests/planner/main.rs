//! The planner's stories, told in a world in memory: each test is one sentence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod artifacts;
mod going_back;
mod kubernetes;
mod properties;
mod purity;
mod refused;
mod rolling;
mod verifying;
mod world;
