//! The Deployment controller of Kubernetes 1.37 for the strategy RollingUpdate, one sync at a time.
//!
//! The real controller works on copies from its cache. If it writes an object twice in one sync,
//! the API server refuses the second write as stale, the sync ends there, and a retry does the
//! rest. That decides which intermediate states others can see, so it is simulated: [`Conflict`].

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    conditions::{
        self, Change, Counters, DEPLOYMENT_PAUSED, DEPLOYMENT_RESUMED, FOUND_NEW_REPLICA_SET,
        NEW_REPLICA_SET_CREATED, PROGRESS_DEADLINE_EXCEEDED, TRUE, UNKNOWN, has_progress_deadline,
        judge_availability, judge_failure, judge_progress, set_condition,
    },
    objects::{Deployment, Pod, ReplicaSet, Seconds, Workload},
};

/// Runs one sync and returns whether it changed anything. A caller repeats it until it returns
/// false, as the real controller is triggered by its own writes.
pub fn sync_deployment(workload: &mut Workload, now: Seconds) -> bool {
    let Some(deployment) = workload.deployment.as_mut() else { return false };
    let (max_surge, max_unavailable) = resolve_limits(deployment);
    let mut sync = Sync {
        deployment,
        sets: &mut workload.replica_sets,
        pods: &mut workload.pods,
        now,
        max_surge,
        max_unavailable,
        deployment_is_stale: false,
        new_set_is_stale: false,
        changed: false,
    };
    if !sync.sets.is_sorted_by(|a, b| creation_key(a) <= creation_key(b)) {
        sync.sets.sort_by(|a, b| creation_key(a).cmp(&creation_key(b)));
    }
    // After a conflict the real controller retries; here the next call is the retry.
    let _ = sync.run();
    sync.changed
}

/// When the next sync is due only because time passes, or `now` if it is due already. None if no
/// progress deadline runs.
pub fn next_deadline(workload: &Workload, now: Seconds) -> Option<Seconds> {
    conditions::next_deadline(workload.deployment.as_ref()?, now)
}

/// maxSurge and maxUnavailable in pods, as (surge, unavailable).
pub fn resolve_limits(deployment: &Deployment) -> (i32, i32) {
    let spec = &deployment.spec;
    let surge = scale_value(&spec.max_surge, spec.replicas, 99);
    let mut unavailable = scale_value(&spec.max_unavailable, spec.replicas, 0);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    (surge, unavailable.min(spec.replicas))
}

/// `rounding` is 99 to round up and 0 to round down. Validation excludes everything but a number
/// and a percentage.
fn scale_value(value: &IntOrString, total: i32, rounding: i64) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            i32::try_from((percent * i64::from(total) + rounding) / 100).unwrap_or(i32::MAX)
        }
    }
}

/// ReplicaSets are ordered by creation, and by name within one second.
fn creation_key(set: &ReplicaSet) -> (Seconds, &str) {
    (set.created, &set.name)
}

/// The API server refused a stale copy.
struct Conflict;

struct Sync<'a> {
    deployment: &'a mut Deployment,
    /// Oldest first.
    sets: &'a mut Vec<ReplicaSet>,
    pods: &'a mut Vec<Pod>,
    now: Seconds,
    max_surge: i32,
    max_unavailable: i32,
    /// This sync wrote the Deployment, and its own copy is older than that.
    deployment_is_stale: bool,
    new_set_is_stale: bool,
    changed: bool,
}

impl Sync<'_> {
    fn run(&mut self) -> Result<(), Conflict> {
        self.mark_pause()?;
        if self.deployment.spec.paused || self.has_scaling_event()? {
            self.scale_sets()
        } else {
            self.roll_out()
        }
    }

    fn desired_replicas(&self) -> i32 {
        self.deployment.spec.replicas
    }

    fn claim_write(&mut self) -> Result<(), Conflict> {
        if self.deployment_is_stale {
            return Err(Conflict);
        }
        self.deployment_is_stale = true;
        self.changed = true;
        Ok(())
    }

    fn mark_pause(&mut self) -> Result<(), Conflict> {
        let current = self.deployment.status.progressing.as_ref();
        let reason = current.map(|c| c.reason);
        // A timeout is not overwritten by a pause.
        if !has_progress_deadline(self.deployment) || reason == Some(PROGRESS_DEADLINE_EXCEEDED) {
            return Ok(());
        }
        let was_paused = reason == Some(DEPLOYMENT_PAUSED);
        let change = match (self.deployment.spec.paused, was_paused) {
            (true, false) => set_condition(current, UNKNOWN, DEPLOYMENT_PAUSED, self.now, || {
                "Deployment is paused".into()
            }),
            (false, true) => set_condition(current, UNKNOWN, DEPLOYMENT_RESUMED, self.now, || {
                "Deployment is resumed".into()
            }),
            _ => return Ok(()),
        };
        self.claim_write()?;
        change.apply_to(&mut self.deployment.status.progressing);
        Ok(())
    }

    /// Some ReplicaSet was sized for another number of replicas.
    fn has_scaling_event(&mut self) -> Result<bool, Conflict> {
        self.find_new_set()?;
        let desired = self.desired_replicas();
        Ok(self.sets.iter().any(|set| set.replicas > 0 && set.desired_replicas != desired))
    }

    /// Index of the ReplicaSet with the Deployment's template, the oldest one if there are two.
    /// Its revision and the Deployment's are brought up to date on the way.
    fn find_new_set(&mut self) -> Result<Option<usize>, Conflict> {
        let template = &self.deployment.spec.template;
        let Some(index) = self.sets.iter().position(|set| set.template == *template) else {
            return Ok(None);
        };
        if self.new_set_is_stale {
            return Err(Conflict);
        }
        let revision = self.next_revision(Some(index));
        let min_ready_seconds = self.deployment.spec.min_ready_seconds;
        let set = &mut self.sets[index];
        let is_outdated = set.min_ready_seconds != min_ready_seconds;
        if set.revision < revision || is_outdated {
            set.revision = set.revision.max(revision);
            set.min_ready_seconds = min_ready_seconds;
            set.observed &= !is_outdated;
            (self.new_set_is_stale, self.changed) = (true, true);
            return Ok(Some(index));
        }
        let revision = set.revision;
        let is_unknown =
            has_progress_deadline(self.deployment) && self.deployment.status.progressing.is_none();
        if self.deployment.revision != revision || is_unknown {
            self.claim_write()?;
            self.deployment.revision = revision;
            if is_unknown {
                self.announce_set(index, FOUND_NEW_REPLICA_SET, "Found");
            }
        }
        Ok(Some(index))
    }

    /// One more than the greatest revision of all old ReplicaSets.
    fn next_revision(&self, new: Option<usize>) -> i64 {
        let old = self.sets.iter().enumerate().filter(|(index, _)| Some(*index) != new);
        old.map(|(_, set)| set.revision).fold(0, i64::max) + 1
    }

    fn announce_set(&mut self, index: usize, reason: &'static str, verb: &str) {
        let message = || format!("{verb} new replica set {:?}", self.sets[index].name);
        let current = self.deployment.status.progressing.as_ref();
        let change = set_condition(current, TRUE, reason, self.now, message);
        change.apply_to(&mut self.deployment.status.progressing);
    }

    fn find_or_create_new_set(&mut self) -> Result<usize, Conflict> {
        if let Some(index) = self.find_new_set()? {
            return Ok(index);
        }
        let revision = self.next_revision(None);
        let spec = &self.deployment.spec;
        let set = ReplicaSet {
            name: format!("{}-{}", self.deployment.name, spec.template.pod_template_hash()),
            template: spec.template.clone(),
            created: self.now,
            replicas: self.room_for_new_set(0),
            min_ready_seconds: spec.min_ready_seconds,
            observed: false,
            revision,
            desired_replicas: spec.replicas,
            max_replicas: spec.replicas + self.max_surge,
            status_replicas: 0,
            ready_replicas: 0,
            available_replicas: 0,
            failure: None,
        };
        let index = self.sets.partition_point(|other| creation_key(other) < creation_key(&set));
        self.sets.insert(index, set);
        self.changed = true;
        let has_deadline = has_progress_deadline(self.deployment);
        if has_deadline || self.deployment.revision != revision {
            self.claim_write()?;
            self.deployment.revision = revision;
            if has_deadline {
                self.announce_set(index, NEW_REPLICA_SET_CREATED, "Created");
            }
        }
        Ok(index)
    }

    /// The size that the newest ReplicaSet may grow to from its current one.
    fn room_for_new_set(&self, current: i32) -> i32 {
        let total: i32 = self.sets.iter().map(|set| set.replicas).sum();
        let room = (self.desired_replicas() + self.max_surge - total).max(0);
        current + room.min(self.desired_replicas() - current)
    }

    /// Returns whether the size changed.
    fn resize_set(&mut self, index: usize, replicas: i32) -> bool {
        let (desired, max) = (self.desired_replicas(), self.desired_replicas() + self.max_surge);
        let set = &mut self.sets[index];
        let resized = set.replicas != replicas;
        self.changed |= resized || set.desired_replicas != desired || set.max_replicas != max;
        (set.replicas, set.desired_replicas, set.max_replicas) = (replicas, desired, max);
        set.observed &= !resized;
        resized
    }

    fn roll_out(&mut self) -> Result<(), Conflict> {
        let new = self.find_or_create_new_set()?;
        if self.grow_new_set(new) || self.shrink_old_sets(new) {
            return self.report_rollout(new);
        }
        let status = &self.deployment.status;
        let is_complete = status.observed_generation >= self.deployment.generation
            && Counters::from_status(status).is_complete(self.desired_replicas());
        if !is_complete {
            return self.report_rollout(new);
        }
        let surplus = self.list_surplus_sets(Some(new));
        let removed_before_new = surplus.iter().filter(|index| **index < new).count();
        self.delete_sets(&surplus);
        self.report_rollout(new - removed_before_new)
    }

    fn grow_new_set(&mut self, new: usize) -> bool {
        let current = self.sets[new].replicas;
        let replicas = if current >= self.desired_replicas() {
            self.desired_replicas()
        } else {
            self.room_for_new_set(current)
        };
        current != replicas && self.resize_set(new, replicas)
    }

    fn shrink_old_sets(&mut self, new: usize) -> bool {
        let (mut total, mut old_total, mut available) = (0, 0, 0);
        for (index, set) in self.sets.iter().enumerate() {
            total += set.replicas;
            old_total += if index == new { 0 } else { set.replicas };
            let counts = index == new || set.replicas > 0;
            available += if counts { set.available_replicas } else { 0 };
        }
        if old_total == 0 {
            return false;
        }
        let min_available = self.desired_replicas() - self.max_unavailable;
        let new_unavailable = self.sets[new].replicas - self.sets[new].available_replicas;
        let max_cleanup = total - min_available - new_unavailable;
        if max_cleanup <= 0 {
            return false;
        }
        // An error in the cleanup counts as "nothing was scaled down", also after some was.
        let Some(cleaned) = self.remove_unhealthy_replicas(new, max_cleanup) else { return false };
        let removed = self.remove_old_replicas(new, available - min_available);
        cleaned + removed > 0
    }

    /// None if some status shows more available pods than the spec wants: an error in Kubernetes.
    fn remove_unhealthy_replicas(&mut self, new: usize, max_cleanup: i32) -> Option<i32> {
        let mut cleaned = 0;
        for index in (0..self.sets.len()).filter(|index| *index != new) {
            if cleaned >= max_cleanup {
                break;
            }
            let set = &self.sets[index];
            let unhealthy = set.replicas - set.available_replicas;
            if set.replicas == 0 || unhealthy == 0 {
                continue;
            }
            let count = unhealthy.min(max_cleanup - cleaned);
            if count < 0 {
                return None;
            }
            let replicas = set.replicas - count;
            self.resize_set(index, replicas);
            cleaned += count;
        }
        Some(cleaned)
    }

    fn remove_old_replicas(&mut self, new: usize, max_removed: i32) -> i32 {
        let mut removed = 0;
        for index in (0..self.sets.len()).filter(|index| *index != new) {
            if removed >= max_removed {
                break;
            }
            let replicas = self.sets[index].replicas;
            let count = replicas.min(max_removed - removed);
            if count > 0 {
                self.resize_set(index, replicas - count);
                removed += count;
            }
        }
        removed
    }

    /// A sync for a scaling event or while paused: no rollout, and no new ReplicaSet.
    fn scale_sets(&mut self) -> Result<(), Conflict> {
        let mut new = self.find_new_set()?;
        // Kubernetes decides about old ReplicaSets by their size before this sync.
        let paused = self.deployment.spec.paused;
        let surplus = if paused { self.list_surplus_sets(new) } else { Vec::new() };
        self.distribute_replicas(new);
        if !surplus.is_empty() {
            self.delete_sets(&surplus);
            new = new.map(|new| new - surplus.iter().filter(|index| **index < new).count());
        }
        let counters = Counters::sum_sets(self.sets, new);
        self.write_status(counters, Change::Keep, Change::Keep)
    }

    fn distribute_replicas(&mut self, new: Option<usize>) {
        let is_active = |index: &usize| self.sets[*index].replicas > 0;
        let mut active: Vec<usize> = (0..self.sets.len()).filter(is_active).collect();
        let single = match active[..] {
            [] => new.or_else(|| self.sets.len().checked_sub(1)),
            [single] => Some(single),
            _ => None,
        };
        if let Some(single) = single {
            // The annotations stay as they are if the size is right already.
            if self.sets[single].replicas != self.desired_replicas() {
                self.resize_set(single, self.desired_replicas());
            }
        } else if new.is_some_and(|new| self.is_saturated(new)) {
            for index in active.into_iter().filter(|index| Some(*index) != new) {
                self.resize_set(index, 0);
            }
        } else if !active.is_empty() {
            self.distribute_proportionally(&mut active);
        }
    }

    fn is_saturated(&self, new: usize) -> bool {
        let (set, desired) = (&self.sets[new], self.desired_replicas());
        set.replicas == desired
            && set.desired_replicas == desired
            && set.available_replicas == desired
    }

    /// Several ReplicaSets have pods: each gets its share, the largest one what is left.
    fn distribute_proportionally(&mut self, active: &mut [usize]) {
        let total: i32 = active.iter().map(|index| self.sets[*index].replicas).sum();
        let allowed =
            if self.desired_replicas() > 0 { self.desired_replicas() + self.max_surge } else { 0 };
        let to_add = allowed - total;
        // Of the same size, newer ones grow first and older ones shrink first.
        active.sort_by_key(|&index| {
            let rank = i64::try_from(index).unwrap_or(i64::MAX);
            (-self.sets[index].replicas, if to_add > 0 { -rank } else { rank })
        });
        let mut added = 0;
        let mut shares = Vec::with_capacity(active.len());
        for index in active.iter() {
            let share = self.bound_share(*index, to_add, added);
            shares.push(share);
            added += share;
        }
        shares[0] += to_add - added;
        for (index, share) in active.iter().zip(shares) {
            let replicas = (self.sets[*index].replicas + share).max(0);
            self.resize_set(*index, replicas);
        }
    }

    /// The share of one ReplicaSet in the replicas to add. Both are negative to remove replicas.
    fn bound_share(&self, index: usize, to_add: i32, added: i32) -> i32 {
        if to_add == added {
            return 0;
        }
        let share = self.compute_share(&self.sets[index]);
        let allowed = to_add - added;
        if to_add > 0 { share.min(allowed) } else { share.max(allowed) }
    }

    fn compute_share(&self, set: &ReplicaSet) -> i32 {
        if self.desired_replicas() == 0 {
            return -set.replicas;
        }
        let before = match set.max_replicas {
            0 => self.deployment.status.replicas,
            max => max,
        };
        if before == 0 {
            return 0;
        }
        let size = f64::from(set.replicas * (self.desired_replicas() + self.max_surge))
            / f64::from(before);
        size.round() as i32 - set.replicas
    }

    /// Indices of the old ReplicaSets beyond the revision history limit that can be deleted, in
    /// ascending order.
    fn list_surplus_sets(&self, new: Option<usize>) -> Vec<usize> {
        let limit = usize::try_from(self.deployment.spec.revision_history_limit).unwrap_or(0);
        let count = self.sets.len() - usize::from(new.is_some());
        if count <= limit || self.deployment.spec.revision_history_limit == i32::MAX {
            return Vec::new();
        }
        let is_old = |index: &usize| Some(*index) != new;
        let mut old: Vec<usize> = (0..self.sets.len()).filter(is_old).collect();
        old.sort_by_key(|index| self.sets[*index].revision);
        old.truncate(count - limit);
        old.retain(|index| {
            let set = &self.sets[*index];
            set.replicas == 0 && set.status_replicas == 0 && set.observed
        });
        old.sort_unstable();
        old
    }

    /// The garbage collector takes the pods that a deleted ReplicaSet still has.
    fn delete_sets(&mut self, indices: &[usize]) {
        for index in indices.iter().rev() {
            let set = self.sets.remove(*index);
            for pod in self.pods.iter_mut().filter(|pod| pod.replica_set == set.name) {
                pod.deleting = true;
            }
            self.changed = true;
        }
    }

    fn report_rollout(&mut self, new: usize) -> Result<(), Conflict> {
        let counters = Counters::sum_sets(self.sets, Some(new));
        let progressing = judge_progress(self.deployment, counters, &self.sets[new], self.now);
        let failure = judge_failure(self.deployment, self.sets, new, self.now);
        self.write_status(counters, progressing, failure)
    }

    fn write_status(
        &mut self,
        counters: Counters,
        progressing: Change,
        failure: Change,
    ) -> Result<(), Conflict> {
        let limit = self.max_unavailable;
        let available = judge_availability(self.deployment, counters, limit, self.now);
        let status = &self.deployment.status;
        let is_current = status.observed_generation == self.deployment.generation
            && Counters::from_status(status) == counters
            && [&available, &progressing, &failure].into_iter().all(Change::is_keep);
        if is_current {
            return Ok(());
        }
        self.claim_write()?;
        let generation = self.deployment.generation;
        let status = &mut self.deployment.status;
        status.observed_generation = generation;
        status.replicas = counters.replicas;
        status.updated_replicas = counters.updated;
        status.ready_replicas = counters.ready;
        status.available_replicas = counters.available;
        available.apply_to(&mut status.available);
        progressing.apply_to(&mut status.progressing);
        failure.apply_to(&mut status.replica_failure);
        Ok(())
    }
}
