//! `rollmodel-fetch`, and what an importer reads, against real servers: each test is one sentence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attacks;
mod cache;
mod clouds;
mod contract;
mod documents;
mod fetcher;
mod ground;
mod hostile;
mod https;
mod hub;
mod importing;
mod kills;
mod local;
mod mlflow_storage;
mod registry;
mod s3;
mod servers;
mod signatures;
