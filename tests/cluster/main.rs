//! The operator on a real control plane: each test is one sentence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod artifacts;
mod autoscaling;
mod bad_input;
mod came_back;
mod crashes;
mod going_back;
mod harness;
mod importing;
mod install;
mod operator;
mod recreated;
mod refused;
mod restore;
mod rights;
mod rolling;
mod schemas;
mod served_version;
// It shares the way processes are started, and is a module of another target as well.
#[allow(clippy::duplicate_mod)]
#[path = "../artifacts/servers/mod.rs"]
mod servers;
mod simulated_controller;
#[path = "../simulator/mod.rs"]
mod simulator;
mod the_cluster;
