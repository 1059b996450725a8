//! The planner's stories, told in a world in memory: each test is one sentence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod artifacts;
#[path = "../simulator/controller_tests.rs"]
mod controller_tests;
mod going_back;
mod histories;
mod kubernetes;
mod properties;
mod prove;
mod purity;
mod refused;
mod rolling;
mod search;
#[path = "../simulator/mod.rs"]
mod simulator;
mod verifying;
mod world;
mod worlds;
