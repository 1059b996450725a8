//! The operator on a real control plane: each test is one sentence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
mod crashes;
mod going_back;
mod install;
mod rolling;
mod the_cluster;
