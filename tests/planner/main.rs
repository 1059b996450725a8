//! Tests of the planner in a simulated cluster in memory. Each test is named after the behavior
//! that it checks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod answers;
mod artifacts;
mod changed_revisions;
#[path = "../simulator/controller_tests.rs"]
mod controller_tests;
mod going_back;
mod histories;
mod kubernetes;
mod properties;
mod prove;
mod purity;
mod recreated;
mod refused;
mod rolling;
mod search;
#[path = "../simulator/mod.rs"]
mod simulator;
mod told;
mod unfinished_return;
mod unrecorded;
mod verifying;
mod world;
mod worlds;
