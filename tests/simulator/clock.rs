//! Time in the simulated cluster: a tick is one step of every controller and one pass of the
//! operator; a settled cluster jumps to the next thing that is due.

use super::{
    cluster::Cluster,
    deployment_controller::{next_deadline, sync_deployment},
    objects::Seconds,
    replica_set_controller::{next_availability, remove_deleted_pods, sync_replica_sets},
};

/// How far a settling cluster looks for something that is due.
const HORIZON: Seconds = 3600;
/// Ticks after which a settling cluster is called restless.
const TICKS_MAX: usize = 3000;
/// Writes of one settling that never ends which are still called quiet.
const QUIET_WRITES: usize = 30;
/// Writes of one settling after which they are called hot.
const WRITES_MAX: usize = 300;

impl Cluster {
    /// One second: Kubernetes' controllers, then the operator.
    pub fn tick(&mut self) {
        self.step();
        self.now += 1;
    }

    /// Whether anything changed.
    fn step(&mut self) -> bool {
        let mut changed = remove_deleted_pods(&mut self.workload);
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
        let had_stale = self.operator.stale.is_some();
        changed |= self.run_operator();
        if had_stale && self.operator.stale.take().is_some() {
            self.operator.wake();
        }
        self.witness_tick();
        changed
    }

    /// Ticks, and jumps over the time in which nothing happens, until nothing is left to happen.
    pub fn settle(&mut self) {
        let (end, writes) = (self.now + HORIZON, self.operator.writes.len());
        for _ in 0..TICKS_MAX {
            let changed = self.step();
            if self.operator.writes.len() > writes + WRITES_MAX {
                self.witness_restless("the operator writes again and again");
                return;
            }
            if changed || (self.operator.is_awake && !self.operator.is_down) {
                self.now += 1;
                continue;
            }
            match self.next_due().filter(|at| *at <= end) {
                Some(at) => self.now = at.max(self.now + 1),
                None => {
                    self.witness_rest();
                    return;
                }
            }
        }
        // Kubernetes' own controllers may go round in circles; the operator must not.
        if self.operator.writes.len() > writes + QUIET_WRITES {
            self.witness_restless("the cluster never comes to rest");
        }
    }

    fn next_due(&self) -> Option<Seconds> {
        let deployment = next_deadline(&self.workload, self.now);
        let operator = self.operator.due.filter(|_| !self.operator.is_down);
        let available = next_availability(&self.workload, self.now);
        [deployment, operator, available, self.next_kubelet_deadline()].into_iter().flatten().min()
    }
}
