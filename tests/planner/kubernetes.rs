//! Kubernetes in the simulated cluster: its Deployment controller and its kubelet.

use jiff::{Timestamp, ToSpan};
use rollmodel::{
    api::{deployment::RESTART_LIMIT, names},
    plan::observed::{Container, DeploymentCondition, Pod, Why},
};

use crate::world::{Behavior, World};

impl World {
    /// Runs the Deployment controller and the kubelet: all pods at once, with the behavior of their
    /// version.
    pub fn run_controllers(&mut self) {
        let Some(mut workload) = self.observed.tracks.remove(names::TRACK_MAIN) else { return };
        let template = &workload.spec.template;
        let label = |name: &str| {
            template["metadata"]["labels"][name].as_str().unwrap_or_default().to_owned()
        };
        let (hash, version) = (label(names::REVISION), label(names::VERSION));
        let restarted_at =
            template["metadata"]["annotations"][names::RESTARTED_AT].as_str().map(str::to_owned);
        let behavior = self.behaviors.get(&version).copied().unwrap_or(Behavior::Fine);
        let replicas = workload.spec.replicas;
        let fresh = |p: &Pod| p.hash == hash && p.restarted_at == restarted_at;
        workload.status.observed_generation = workload.generation;
        workload.status.conditions.clear();
        if self.overdue {
            workload.status.conditions.push(build_condition(
                "Progressing",
                "False",
                "ProgressDeadlineExceeded",
            ));
        }
        if workload.spec.paused && !self.observed.pods.iter().any(fresh) {
            self.observed.tracks.insert(names::TRACK_MAIN.into(), workload);
            return;
        }
        let old = self.observed.pods.iter().filter(|p| !fresh(p) && p.ready).count();
        let good = behavior == Behavior::Fine;
        let count = if good { replicas } else { replicas.min(1) };
        let before = std::mem::take(&mut self.observed.pods);
        self.observed.pods =
            before.iter().filter(|p| !fresh(p) && !good && p.ready).cloned().collect();
        for n in 0..count {
            let name = format!("fraud-{hash}-{n}");
            let known = before.iter().find(|p| p.name == name && fresh(p));
            let born = known.and_then(|p| p.created).unwrap_or(self.now);
            let times = (born, self.overdue);
            self.observed.pods.push(build_pod(&name, &hash, restarted_at.clone(), behavior, times));
        }
        let old = if good { 0 } else { i32::try_from(old).unwrap() };
        workload.status.replicas = count + old;
        workload.status.updated_replicas = count;
        workload.status.available_replicas = if good { count } else { old };
        workload.status.ready_replicas = workload.status.available_replicas;
        self.observed.tracks.insert(names::TRACK_MAIN.into(), workload);
    }
}

fn build_condition(type_: &str, status: &str, reason: &str) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
    }
}

/// Builds the init container that fetches, between two of its attempts.
fn build_fetch_container(code: i32, restarts: i32, message: &str) -> Container {
    let why = |reason: &str, message: &str, exit_code| {
        Some(Why { reason: reason.into(), message: message.into(), exit_code })
    };
    let (waiting, terminated) =
        (why("CrashLoopBackOff", "back-off", None), why("Error", message, Some(code)));
    let (name, init) = (names::FETCH.into(), true);
    Container { name, init, restarts, waiting, terminated, ..Container::default() }
}

fn build_pod(
    name: &str,
    hash: &str,
    restarted_at: Option<String>,
    behavior: Behavior,
    (now, overdue): (Timestamp, bool),
) -> Pod {
    // A container that is overdue has run for longer than the default deadline.
    let started = if overdue { now - 601.seconds() } else { now };
    let mut container = Container { name: "model".into(), ..Container::default() };
    let mut fetched = Vec::new();
    match behavior {
        Behavior::Mismatch => fetched.push(build_fetch_container(
            3,
            1,
            "Mismatch: the digest is sha256:bb, and has \
                                                      to be sha256:aa.",
        )),
        Behavior::Unreachable => fetched.push(build_fetch_container(
            1,
            RESTART_LIMIT * 3,
            "Unreachable: s3.example.com does not answer.",
        )),
        Behavior::Fine => (container.running, container.ready) = (true, true),
        Behavior::NeverReady => {
            (container.running, container.started) = (true, Some(started));
        }
        Behavior::Crash => {
            container.restarts = RESTART_LIMIT;
            container.waiting = Some(Why {
                reason: "CrashLoopBackOff".into(),
                message: "back-off".into(),
                exit_code: None,
            });
            container.terminated = Some(Why {
                reason: "Error".into(),
                message: "model file is corrupt".into(),
                exit_code: Some(1),
            });
        }
        Behavior::Pull => {
            container.waiting = Some(Why {
                reason: "ImagePullBackOff".into(),
                message: "no such image".into(),
                exit_code: None,
            })
        }
    }
    Pod {
        name: name.into(),
        hash: hash.into(),
        created: Some(now),
        replica_set: Some(format!("fraud-{hash}")),
        template_hash: hash.into(),
        restarted_at,
        ready: behavior == Behavior::Fine,
        containers: fetched.into_iter().chain([container]).collect(),
        ..Pod::default()
    }
}
