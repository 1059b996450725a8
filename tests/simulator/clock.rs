//! Time in the simulated cluster: a tick is one step of every controller and one pass of the
//! operator; a settled cluster jumps to the next thing that is due.

use super::{
    cluster::Cluster,
    deployment_controller::{next_deadline, sync_deployment},
    objects::Seconds,
    others::AUTOSCALER_PERIOD,
    replica_set_controller::{next_availability, remove_deleted_pods, sync_replica_sets},
};

/// How far a settling cluster looks for something that is due.
const HORIZON: Seconds = 3600;
/// Ticks after which a settling cluster is called restless.
const TICKS_MAX: usize = 3000;
/// Writes of one settling that never ends which are still called quiet.
const QUIET_WRITES: usize = 30;
/// Seconds after which a cluster whose Deployment an autoscaler and the operator scale in turn is
/// judged as if it were at rest: more than the default deadline and the backoff of a refusal.
const CONTENTION: Seconds = 1200;
/// Writes by which the operator may answer one scaling: settings, and the status of pods that come
/// and go.
const WRITES_FOR_A_SYNC: usize = 8;
/// Writes of one settling after which they are called hot.
const WRITES_MAX: usize = 300;

/// What a step of a settling cluster came to.
#[derive(PartialEq)]
enum Motion {
    Stepped,
    Jumped,
    Resting,
}

impl Cluster {
    /// One second: Kubernetes' controllers, then the operator.
    pub fn tick(&mut self) {
        self.step();
        self.now += 1;
    }

    /// Whether anything changed.
    fn step(&mut self) -> bool {
        let mut changed = self.sync_controllers();
        changed |= self.pass_operator();
        changed
    }

    /// Kubernetes' controllers and the kubelet; whether anything changed.
    fn sync_controllers(&mut self) -> bool {
        let mut changed = self.collect_garbage() | self.sync_autoscaler();
        changed |= remove_deleted_pods(&mut self.workload);
        changed |= sync_replica_sets(&mut self.workload, self.now);
        changed |= self.run_kubelet();
        let before = self.workload.deployment.as_ref().map(|d| d.status.clone());
        changed |= sync_deployment(&mut self.workload, self.now);
        if self.workload.deployment.as_ref().map(|d| d.status.clone()) != before {
            self.note_status_of_deployment();
        }
        if changed {
            self.operator.wake();
        }
        self.witness_tick();
        changed
    }

    /// A pass of the operator where one is due; whether it wrote anything.
    fn pass_operator(&mut self) -> bool {
        let had_stale = self.operator.stale.is_some();
        let changed = self.run_operator();
        if had_stale && self.operator.stale.take().is_some() {
            self.operator.wake();
        }
        self.witness_tick();
        changed
    }

    /// A second in which the operator makes no pass; whether anything changed.
    pub fn step_controllers(&mut self) -> bool {
        let changed = self.sync_controllers();
        self.now += i64::from(changed);
        changed
    }

    /// A pass of the operator in which nothing else moves; whether one was due.
    pub fn step_operator(&mut self) -> bool {
        let is_due = self.operator.due.is_some_and(|at| at <= self.now);
        let passes = !self.operator.is_down && (self.operator.is_awake || is_due);
        if passes {
            self.pass_operator();
            self.now += 1;
        }
        passes
    }

    /// Ticks, and jumps over the time in which nothing happens, until nothing is left to happen.
    pub fn settle(&mut self) {
        let (began, writes) = (self.now, self.operator.writes.len());
        let end = began + HORIZON;
        for _ in 0..TICKS_MAX {
            let motion = self.step_or_jump(end);
            if self.operator.writes.len() > writes + WRITES_MAX + self.count_contended(began) {
                self.witness_restless("the operator writes again and again");
                return;
            }
            let rests = motion == Motion::Resting;
            if rests || (self.now >= began + CONTENTION && self.waits_for_autoscaler()) {
                self.witness_rest();
                return;
            }
        }
        // Kubernetes' own controllers may go round in circles; the operator must not.
        if self.operator.writes.len() > writes + QUIET_WRITES + self.count_contended(began) {
            self.witness_restless("the cluster never comes to rest");
        }
    }

    /// The writes with which the operator may have answered an autoscaler of the Deployment since
    /// `began`.
    fn count_contended(&self, began: Seconds) -> usize {
        let syncs = (self.now - began) / AUTOSCALER_PERIOD + 1;
        let syncs = usize::try_from(syncs).unwrap_or(0);
        if self.is_contended() { syncs * WRITES_FOR_A_SYNC } else { 0 }
    }

    /// True if nothing else happens before an autoscaler of the Deployment scales it again.
    fn waits_for_autoscaler(&self) -> bool {
        let Some(at) = self.next_scaling().filter(|at| *at > self.now) else { return false };
        let is_awake = self.operator.is_awake && !self.operator.is_down;
        self.is_contended()
            && !is_awake
            && self.next_due_of_all_others().is_none_or(|due| due >= at)
    }

    /// One step, after which time moves on to what is due next.
    fn step_or_jump(&mut self, end: Seconds) -> Motion {
        if self.step() || (self.operator.is_awake && !self.operator.is_down) {
            self.now += 1;
            return Motion::Stepped;
        }
        match self.next_due().filter(|at| *at <= end) {
            Some(at) => {
                self.now = at.max(self.now + 1);
                Motion::Jumped
            }
            None => Motion::Resting,
        }
    }

    /// One step in which something happens, at once or at the next time at which something is due;
    /// false where the cluster is at rest.
    pub fn advance(&mut self) -> bool {
        let end = self.now + HORIZON;
        loop {
            match self.step_or_jump(end) {
                Motion::Stepped => return true,
                Motion::Jumped => {}
                Motion::Resting => {
                    self.witness_rest();
                    return false;
                }
            }
        }
    }

    fn next_due(&self) -> Option<Seconds> {
        self.next_due_of_all_others().into_iter().chain(self.next_scaling()).min()
    }

    /// When something is due that is not done by an autoscaler.
    fn next_due_of_all_others(&self) -> Option<Seconds> {
        let deployment = next_deadline(&self.workload, self.now);
        let operator = self.operator.due.filter(|_| !self.operator.is_down);
        let available = next_availability(&self.workload, self.now);
        [deployment, operator, available, self.next_kubelet_deadline()].into_iter().flatten().min()
    }
}
