//! A random history of one Deployment: the same seed gives the same operations.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::snapshot::Snapshot;
use crate::simulator::{
    deployment_controller::sync_deployment,
    objects::{Deployment, DeploymentSpec, Seconds, Template, Workload},
    replica_set_controller::{remove_deleted_pods, sync_replica_set},
    simple_kubelet::{run_to_rest, start_pod},
};

/// How many random orders of events are tried to explain a state of the cluster.
const ORDERS: usize = 500;
/// How many events come in a random order before everything runs to rest.
const EVENTS: usize = 150;

/// What a step writes to the cluster.
pub enum Write {
    Create(Value),
    /// The whole spec.
    Change(Value),
    /// The most pods that the quota allows.
    SetQuota(usize),
}

pub struct History {
    /// Of its Deployment, and of its namespace if it has a quota.
    pub name: String,
    pub workload: Workload,
    /// The steps so far, to read in a failure.
    pub steps: Vec<String>,
    /// The time of the last step, and the workload as that step left it, before any controller.
    changed: (Seconds, Workload),
    /// The last state of the cluster that no order of events explains.
    unexplained: Option<Snapshot>,
    random: Random,
    /// Why the pods of the third template never become ready.
    stays_unscheduled: bool,
    /// Which of the three templates, and how often it was restarted.
    template: (usize, u64),
}

impl History {
    pub fn new(number: u64) -> Self {
        let mut history = Self {
            name: format!("history-{number}"),
            stays_unscheduled: number % 2 == 1,
            workload: Workload::default(),
            steps: Vec::new(),
            changed: (0, Workload::default()),
            unexplained: None,
            random: Random(number),
            template: (0, 0),
        };
        history.template.0 = history.random.below(3);
        // One history in eight has a quota, and one has no progress deadline.
        history.workload.quota = number.is_multiple_of(8).then_some(3);
        let has_deadline = number % 8 != 1;
        let spec = DeploymentSpec {
            replicas: history.random.count(0..6),
            paused: false,
            max_surge: IntOrString::Int(1),
            max_unavailable: IntOrString::Int(0),
            min_ready_seconds: 0,
            progress_deadline_seconds: if has_deadline { 3600 } else { i32::MAX },
            revision_history_limit: *history.random.choose(&[0, 1, 10]),
            template: history.make_template(),
        };
        history.workload.deployment = Some(Deployment {
            name: history.name.clone(),
            generation: 1,
            created: 0,
            spec,
            revision: 0,
            status: Default::default(),
        });
        history
    }

    /// Applies the next step to the simulation, which comes to rest, and returns the same step for
    /// the cluster.
    pub fn take_step(&mut self, step: i64) -> Write {
        let (text, write) = if step == 0 {
            (format!("create {}", self.spec_json()), Write::Create(self.manifest()))
        } else {
            self.draw_step()
        };
        self.steps.push(text);
        self.unexplained = None;
        self.changed = (step * 10, self.workload.clone());
        run_to_rest(&mut self.workload, step * 10);
        write
    }

    /// Returns whether the cluster can be at rest in this state after the last step. Some states
    /// depend on timing: two ReplicaSets race for the last place in a quota, or progress falls
    /// between two syncs. So the simulation looks for an order of events that leads to the state,
    /// and continues from there.
    pub fn explain(&mut self, actual: &Snapshot) -> bool {
        if *actual == Snapshot::from_workload(&self.workload) {
            return true;
        }
        if self.unexplained.as_ref() == Some(actual) {
            return false;
        }
        let (now, changed) = &self.changed;
        // Not the generator of the steps, which have to be the same in every run.
        let mut random = Random(0);
        for _ in 0..ORDERS {
            let mut workload = changed.clone();
            run_in_random_order(&mut workload, &mut random, *now);
            if Snapshot::from_workload(&workload) == *actual {
                self.workload = workload;
                return true;
            }
        }
        self.unexplained = Some(actual.clone());
        false
    }

    /// Kubernetes can admit more pods than a quota allows: its quota controller counts from a
    /// cache, and can overwrite the use that admission has just written. The simulation has no
    /// such race, and nothing after it can be compared.
    pub fn is_over_quota(&self, actual: &Snapshot) -> bool {
        let pods = |snapshot: &Snapshot| usize::try_from(snapshot.replicas).unwrap_or(0);
        let simulated = pods(&Snapshot::from_workload(&self.workload));
        self.workload.quota.is_some_and(|limit| pods(actual) > limit.max(simulated))
    }

    fn draw_step(&mut self) -> (String, Write) {
        if self.workload.quota.is_some() && self.random.below(4) == 0 {
            let limit = 1 + self.random.below(7);
            self.workload.quota = Some(limit);
            return (format!("quota {limit}"), Write::SetQuota(limit));
        }
        let mut texts = vec![self.change_spec()];
        // A client may change several fields in one write.
        while self.random.below(4) == 0 {
            texts.push(self.change_spec());
        }
        self.deployment().generation += 1;
        (texts.join(" and "), Write::Change(self.spec_json()))
    }

    fn deployment(&mut self) -> &mut Deployment {
        self.workload.deployment.as_mut().expect("histories delete no Deployment")
    }

    fn change_spec(&mut self) -> String {
        match self.random.below(20) {
            0..7 => {
                self.template.0 = (self.template.0 + 1 + self.random.below(2)) % 3;
                self.deployment().spec.template = self.make_template();
                format!("template {}", self.template.0)
            }
            7..9 => {
                self.template.1 += 1;
                self.deployment().spec.template = self.make_template();
                format!("restart {}", self.template.1)
            }
            9..13 => {
                let replicas = self.random.count(0..6);
                self.deployment().spec.replicas = replicas;
                format!("replicas {replicas}")
            }
            13..16 => {
                let spec = &mut self.deployment().spec;
                spec.paused = !spec.paused;
                format!("paused {}", spec.paused)
            }
            16..17 => {
                let limit = *self.random.choose(&[0, 1, 2, 10]);
                self.deployment().spec.revision_history_limit = limit;
                format!("history limit {limit}")
            }
            _ => {
                let limits = self.random.choose(&LIMITS).map(parse_limit);
                let text = format!("surge and unavailable {limits:?}");
                let spec = &mut self.deployment().spec;
                [spec.max_surge, spec.max_unavailable] = limits;
                text
            }
        }
    }

    /// The third template never becomes ready: its pods are unscheduled in one half of the
    /// histories, and run without becoming ready in the other.
    fn make_template(&self) -> Template {
        let (choice, restarts) = self.template;
        let stays_unscheduled = self.stays_unscheduled;
        let tag = match choice {
            2 if !stays_unscheduled => "behave-never-ready".to_owned(),
            choice => choice.to_string(),
        };
        let mut value = json!({
            "metadata": {"labels": {"app": self.name.clone()}},
            "spec": {"containers": [{"name": "model", "image": format!("fraud:{tag}")}]},
        });
        if restarts > 0 {
            value["metadata"]["annotations"] = json!({"restarted-at": restarts.to_string()});
        }
        if choice == 2 && stays_unscheduled {
            value["spec"]["nodeSelector"] = json!({"disk": "none"});
        }
        Template::new(value)
    }

    fn spec_json(&self) -> Value {
        let spec = &self.workload.deployment.as_ref().expect("a Deployment").spec;
        json!({
            "replicas": spec.replicas,
            "paused": spec.paused,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": spec.max_surge,
                    "maxUnavailable": spec.max_unavailable,
                },
            },
            "progressDeadlineSeconds": spec.progress_deadline_seconds,
            "revisionHistoryLimit": spec.revision_history_limit,
            "selector": {"matchLabels": {"app": self.name.clone()}},
            "template": *spec.template.value,
        })
    }

    fn manifest(&self) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name.clone()},
            "spec": self.spec_json(),
        })
    }
}

/// Runs single events in a random order, some kinds of them more often than others, and then
/// everything to rest.
fn run_in_random_order(workload: &mut Workload, random: &mut Random, now: Seconds) {
    let weights: [usize; 4] = std::array::from_fn(|_| 1 << random.below(5));
    for _ in 0..EVENTS {
        let mut choice = random.below(weights.iter().sum());
        let mut event = 0;
        while choice >= weights[event] {
            choice -= weights[event];
            event += 1;
        }
        take_event(workload, event, random, now);
    }
    run_to_rest(workload, now);
}

/// One controller syncs one object, or one pod starts, or the deleted pods go.
fn take_event(workload: &mut Workload, event: usize, random: &mut Random, now: Seconds) {
    match event {
        0 => {
            sync_deployment(workload, now);
        }
        1 if !workload.replica_sets.is_empty() => {
            let index = random.below(workload.replica_sets.len());
            sync_replica_set(workload, index, now);
        }
        2 if !workload.pods.is_empty() => {
            let index = random.below(workload.pods.len());
            start_pod(&mut workload.pods[index], now);
        }
        _ => {
            remove_deleted_pods(workload);
        }
    }
}

/// maxSurge and maxUnavailable. Kubernetes refuses zero for both.
const LIMITS: [[&str; 2]; 9] = [
    ["1", "0"],
    ["0", "1"],
    ["1", "1"],
    ["2", "0"],
    ["2", "2"],
    ["25%", "25%"],
    ["50%", "0"],
    ["0", "34%"],
    ["100%", "100%"],
];

fn parse_limit(text: &str) -> IntOrString {
    text.parse().map_or_else(|_| IntOrString::String(text.into()), IntOrString::Int)
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = u64::try_from(bound).expect("a small number");
        usize::try_from((mixed ^ (mixed >> 31)) % bound).expect("a small number")
    }

    fn count(&mut self, range: std::ops::Range<i32>) -> i32 {
        let length = usize::try_from(range.end - range.start).expect("a range");
        range.start + i32::try_from(self.below(length)).expect("a small number")
    }

    fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
