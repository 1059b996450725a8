//! The road from a trained model to an undo under load, on a real node: `make e2e`. Nothing here is
//! faked but the machine, which is a set of namespaces that `enter.sh` makes; each test is one
//! sentence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::duplicate_mod)] // both harnesses start processes in the same way

mod cache;
mod corner;
mod devices;
mod formats;
#[path = "../cluster/harness/mod.rs"]
mod harness;
mod models;
mod node;
mod page;
mod road;
#[path = "../artifacts/servers/mod.rs"]
mod servers;
mod stream;
mod took;
mod tracking;
mod walk;
mod watch;
