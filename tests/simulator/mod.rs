//! A Kubernetes cluster in memory with the operator in it, and a witness that knows the properties
//! of the design. Nothing waits: a whole history of a rollout takes a few milliseconds.
//!
//! | to change … | open … |
//! |---|---|
//! | the acts that a history is made of | `acts.rs` |
//! | a property of the design | `truth.rs` (at each write), `rest.rs` and `resume.rs` (at rest) |
//! | one of promotions, rejections, pods | `promotion.rs`, `rejections.rs`, `protection.rs` |
//! | the acts that change settings | `settings.rs` |
//! | what versions and the environment do wrong, and which writes are refused | `faults.rs` |
//! | the fields of a Deployment, a ReplicaSet or a pod | `objects.rs` |
//! | rollout, scaling, pause, revisions, the status of a Deployment | `deployment_controller.rs` |
//! | the conditions of a Deployment | `conditions.rs` |
//! | creation and deletion of pods, quotas, garbage collection | `replica_set_controller.rs` |
//! | how pods start, crash and become ready | `kubelet.rs` |
//! | validation, admission, preconditions | `api_server.rs` |
//! | autoscalers, and other managers and owners of the Deployment | `others.rs` |
//! | the operator's shell: requeues, remembered refusals, crashes, stale caches | `operator.rs` |
//! | which clusters are the same state | `fingerprint.rs` |
//! | backups and restores | `restore.rs` |
//!
//! The stages of one tick (`clock.rs`): pods end, ReplicaSets make and delete pods, the kubelet
//! drives them, the Deployment controller sizes ReplicaSets, the operator makes one pass.
//! `tests/cluster/simulated_controller.rs` compares the two controllers with the real ones.
#![allow(dead_code)] // Each test target that includes this module uses a part of it.

pub mod acts;
pub mod api_server;
pub mod clock;
pub mod cluster;
pub mod conditions;
pub mod deployment_controller;
pub mod faults;
pub mod fingerprint;
pub mod history;
pub mod kubelet;
pub mod objects;
pub mod observe;
pub mod operator;
pub mod others;
pub mod promotion;
pub mod protection;
pub mod rejections;
pub mod replica_set_controller;
pub mod rest;
pub mod restore;
pub mod resume;
pub mod settings;
pub mod simple_kubelet;
pub mod truth;
