//! The operator on a real control plane: each test is one sentence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod autoscaling;
mod bad_input;
mod harness;
mod crashes;
mod going_back;
mod operator;
mod install;
mod restore;
mod rolling;
mod schemas;
mod the_cluster;
