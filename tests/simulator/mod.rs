//! Kubernetes in memory: its own controllers, reimplemented by the rules of their source, over
//! plain structs. A sync that changes nothing takes 20 to 30 nanoseconds and a whole rollout of
//! three pods two microseconds (optimized build), so that a search can visit millions of states.
//! `tests/cluster/simulated_controller.rs` compares this module with the real controllers.
//!
//! | to change … | open … |
//! |---|---|
//! | the fields of a Deployment, a ReplicaSet or a pod | `objects.rs` |
//! | rollout, scaling, pause, revisions, the status of a Deployment | `deployment_controller.rs` |
//! | the conditions of a Deployment | `conditions.rs` |
//! | creation and deletion of pods, quotas, garbage collection | `replica_set_controller.rs` |
//! | the kubelet of the controllers' own tests | `simple_kubelet.rs` |
//!
//! The stages, each one function that returns whether it changed anything:
//! 1. [`deployment_controller::sync_deployment`] sizes the ReplicaSets.
//! 2. [`replica_set_controller::sync_replica_sets`] creates and deletes pods.
//! 3. [`replica_set_controller::remove_deleted_pods`] does what the kubelet does at the end.
#![allow(dead_code)] // Each test target that includes this module uses a part of it.

pub mod conditions;
pub mod deployment_controller;
pub mod objects;
pub mod replica_set_controller;
pub mod simple_kubelet;
