//! The planner's stories, told in a world in memory: each test is one sentence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../simulator/controller_tests.rs"]
mod controller_tests;
#[path = "../simulator/mod.rs"]
mod simulator;

mod artifacts;
mod going_back;
mod histories;
mod kubernetes;
mod properties;
mod purity;
mod refused;
mod rolling;
mod verifying;
mod world;
