//! The kubelet and the scheduler of the simulated cluster: pods find a node, pull, initialize,
//! start, crash and become ready, and are shown to the planner as their status would be.

use rollmodel::{
    api::names,
    plan::observed::{Container, Pod as ObservedPod, Why},
};

use super::{
    cluster::Cluster,
    faults::{Behavior, Faults, Trouble},
    objects::{Pod, Seconds},
    operator::timestamp,
};

/// Seconds from the start of a container until it is ready.
const LOAD: Seconds = 2;
const SLOW_LOAD: Seconds = 60;
/// Seconds of the pauses between crashes, by restart; the last one for all that follow.
const BACKOFF: [Seconds; 4] = [1, 10, 20, 40];
/// Restarts after which the simulation tires of restarting.
const RESTARTS_MAX: i32 = 6;

impl Cluster {
    /// One look of the kubelet at every pod; whether anything changed.
    pub fn run_kubelet(&mut self) -> bool {
        let (faults, now) = (&self.faults, self.now);
        let mut changed = false;
        for pod in self.workload.pods.iter_mut().filter(|p| !p.deleting) {
            let before = pod.state.clone();
            step(pod, faults, now);
            changed |= pod.state != before;
        }
        changed
    }

    /// When the kubelet has something to do although nothing else happens.
    pub fn next_kubelet_deadline(&self) -> Option<Seconds> {
        let due = |pod: &Pod| {
            let started = pod.state.started?;
            let behavior = behavior_of(pod, &self.faults);
            match behavior {
                Behavior::Fine if pod.state.ready_since.is_none() => Some(started + LOAD),
                Behavior::Slow if pod.state.ready_since.is_none() => Some(started + SLOW_LOAD),
                Behavior::Crash if pod.state.restarts < RESTARTS_MAX => {
                    Some(started + backoff(pod.state.restarts))
                }
                Behavior::Flaky if pod.state.ready_since.is_none() => {
                    Some(started + backoff(pod.state.restarts).max(LOAD))
                }
                _ => None,
            }
        };
        let pods = self.workload.pods.iter().filter(|p| !p.deleting);
        pods.filter_map(due).filter(|at| *at > self.now).min()
    }

    /// A node pool reboots: no pod is ready, and every container starts again.
    pub fn reboot_nodes(&mut self) {
        for pod in self.workload.pods.iter_mut().filter(|p| p.state.started.is_some()) {
            pod.state.ready_since = None;
            pod.state.restarts += 1;
            pod.state.started = Some(self.now);
        }
        self.operator.wake();
    }

    /// Months pass; each ready pod was restarted three times and is ready again.
    pub fn age_pods(&mut self) {
        self.now += 90 * 24 * 3600;
        for pod in self.workload.pods.iter_mut().filter(|p| p.state.ready_since.is_some()) {
            pod.state.restarts += 3;
        }
        self.operator.wake();
    }
}

fn backoff(restarts: i32) -> Seconds {
    let index = usize::try_from(restarts).unwrap().min(BACKOFF.len() - 1);
    BACKOFF[index]
}

fn behavior_of(pod: &Pod, faults: &Faults) -> Behavior {
    // A pod that was ready before the Secret was rotated has read it already.
    if faults.has(Trouble::Secret) && pod.state.ready_since.is_none() {
        return Behavior::Crash;
    }
    faults.behavior(pod.template.label(names::VERSION))
}

fn step(pod: &mut Pod, faults: &Faults, now: Seconds) {
    let behavior = behavior_of(pod, faults);
    let state = &mut pod.state;
    state.report = "";
    if !state.scheduled {
        if faults.has(Trouble::NoNode) {
            state.report = "unschedulable";
            return;
        }
        state.scheduled = true;
    }
    if state.initialized.is_none() {
        if faults.has(Trouble::InitWaits) {
            state.report = "initializing";
            return;
        }
        state.initialized = Some(now);
    }
    let Some(started) = state.started else {
        if faults.has(Trouble::NoImage) {
            state.report = "pulling";
        } else {
            state.started = Some(now);
        }
        return;
    };
    run_container(state, behavior, started, now);
}

fn run_container(
    state: &mut super::objects::PodState,
    behavior: Behavior,
    started: Seconds,
    now: Seconds,
) {
    match behavior {
        Behavior::Fine if now >= started + LOAD && state.ready_since.is_none() => {
            state.ready_since = Some(now);
        }
        Behavior::Slow if now >= started + SLOW_LOAD && state.ready_since.is_none() => {
            state.ready_since = Some(now);
        }
        Behavior::Crash => crash(state, started, now),
        Behavior::Flaky if state.ready_since.is_none() => {
            if state.restarts < 2 {
                crash(state, started, now);
            } else if now >= started + LOAD {
                state.ready_since = Some(now);
            }
        }
        Behavior::NeverReady => state.ready_since = None,
        Behavior::Fine | Behavior::Slow | Behavior::Flaky => {}
    }
}

fn crash(state: &mut super::objects::PodState, started: Seconds, now: Seconds) {
    state.ready_since = None;
    if state.restarts < RESTARTS_MAX && now >= started + backoff(state.restarts) {
        state.restarts += 1;
        state.started = Some(now);
    }
    if state.restarts > 0 {
        state.report = "crashing";
    }
}

/// A pod as the operator observes it.
pub fn observe_pod(pod: &Pod) -> ObservedPod {
    let state = &pod.state;
    let why = |reason: &str, message: &str, exit_code| {
        Some(Why { reason: reason.into(), message: message.into(), exit_code })
    };
    let mut model = Container {
        name: names::CONTAINER.into(),
        started: state.started.map(timestamp),
        restarts: state.restarts,
        ready: state.ready_since.is_some(),
        running: state.started.is_some(),
        ..Container::default()
    };
    let mut containers = Vec::new();
    match state.report {
        "initializing" => {
            containers.push(Container {
                name: "wait-for-db".into(),
                init: true,
                running: true,
                ..Container::default()
            });
            model.waiting = why("PodInitializing", "", None);
        }
        "pulling" => model.waiting = why("ImagePullBackOff", "no such image", None),
        "crashing" => {
            model.running = false;
            model.started = None;
            model.waiting = why("CrashLoopBackOff", "back-off", None);
            model.terminated = why("Error", "model file is corrupt", Some(1));
        }
        _ => {}
    }
    containers.push(model);
    ObservedPod {
        name: pod.name.clone(),
        hash: pod.template.label(names::REVISION).into(),
        restarted_at: pod.template.annotation(names::RESTARTED_AT).map(str::to_owned),
        created: Some(timestamp(pod.created)),
        replica_set: Some(pod.replica_set.clone()),
        template_hash: pod.replica_set.rsplit('-').next().unwrap_or_default().to_owned(),
        deleting: pod.deleting,
        initialized: state.initialized.map(timestamp),
        ready_changed: Some(timestamp(state.ready_since.unwrap_or(pod.created))),
        ready: state.ready_since.is_some(),
        unschedulable: (state.report == "unschedulable")
            .then(|| "0/3 nodes are available".to_owned()),
        containers,
        ..ObservedPod::default()
    }
}
