//! Exhaustive search of a small simulated cluster by the model checker `stateright`: every history
//! of a few acts, each of which may happen between any two steps of the controllers and the
//! operator.
//!
//! A state is a simulated cluster, reduced to its fingerprint (`simulator/fingerprint.rs`). A move
//! is an act of the world, one step of all controllers and the operator, or, a bounded number of
//! times, a step of the controllers alone or of the operator alone. After each act the cluster is
//! also settled, because some properties hold only for a cluster at rest; a state that was settled
//! before ends that.
//!
//! The depth is bounded by the number of acts. Steps between them need no bound: they end at rest.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use stateright::{Checker, Model, Property};

use crate::simulator::{acts::Act, cluster::Cluster, truth::Violation};

/// A small cluster and what may happen in it.
#[derive(Clone)]
pub struct World {
    pub name: &'static str,
    /// The acts at the beginning; the cluster settles after each of them.
    pub begin: Vec<Act>,
    /// The acts that may happen at any moment.
    pub acts: Vec<Act>,
    /// The acts that may happen at any moment, but only once in a history.
    pub once: Vec<Act>,
    /// Maximum number of acts in one history.
    pub acts_max: u8,
    /// Maximum number of steps of the controllers alone, or of the operator alone, in one history.
    pub lone_steps_max: u8,
    /// Breaks the cluster after each move: a control that the search finds a violation.
    pub sabotage: Option<fn(&mut Cluster)>,
}

impl World {
    /// The same world with shorter histories.
    pub fn shorten_histories(mut self, acts: u8, lone_steps: u8) -> Self {
        self.acts_max = self.acts_max.min(acts);
        self.lone_steps_max = self.lone_steps_max.min(lone_steps);
        self
    }
}

/// A violation, and the acts that lead to it from a new cluster.
#[derive(Clone, Debug)]
pub struct Finding {
    pub violation: Violation,
    pub acts: Vec<Act>,
}

/// The result of a search.
pub struct Found {
    pub states: usize,
    pub took: Duration,
    /// The first finding of each property.
    pub findings: BTreeMap<&'static str, Finding>,
}

/// The remaining acts and steps of a history.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Left {
    acts: u8,
    once: bool,
    lone_steps: u8,
}

/// The acts so far, newest first; shared among the histories that begin alike.
struct Past {
    act: Act,
    before: Option<Arc<Past>>,
}

#[derive(Clone)]
pub struct Node {
    fingerprint: u64,
    left: Left,
    /// None if nothing may happen any more, because only nodes with successors need the cluster.
    cluster: Option<Arc<Cluster>>,
    past: Option<Arc<Past>>,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        (self.fingerprint, self.left) == (other.fingerprint, other.left)
    }
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.fingerprint, self.left).hash(state);
    }
}

/// The model that stateright checks.
pub struct Search {
    world: World,
    /// Every state, and true if the cluster was judged at rest from there.
    states: Mutex<HashMap<u64, bool>>,
    findings: Mutex<BTreeMap<&'static str, Finding>>,
}

impl Search {
    fn build_cluster(&self) -> Cluster {
        let mut cluster = Cluster::new();
        cluster.witness_act(&Act::Want("6".into()));
        cluster.settle();
        for act in &self.world.begin {
            cluster.perform(act);
            cluster.settle();
        }
        cluster
    }

    /// Performs a move; None if it changes nothing or ends in a violation.
    fn perform_act(&self, node: &Node, act: &Act) -> Option<Node> {
        let mut cluster = Cluster::clone(node.cluster.as_ref()?);
        let past = Some(Arc::new(Past { act: act.clone(), before: node.past.clone() }));
        let mut left = node.left;
        let moved = catch_unwind(AssertUnwindSafe(|| {
            let moved = match act {
                Act::Step => cluster.advance(),
                Act::Controllers => cluster.step_controllers(),
                Act::Pass => cluster.step_operator(),
                _ => {
                    cluster.perform(act);
                    true
                }
            };
            if let Some(sabotage) = self.world.sabotage {
                sabotage(&mut cluster);
            }
            moved
        }));
        let Ok(moved) = moved else {
            self.note_violation(report_panic(), past.as_deref());
            return None;
        };
        if let Some(violation) = cluster.truth.violations.first() {
            self.note_violation(violation.clone(), past.as_deref());
            return None;
        }
        if !moved {
            return None;
        }
        match act {
            Act::Step => {}
            Act::Controllers | Act::Pass => left.lone_steps -= 1,
            _ => {
                left.acts -= 1;
                left.once &= !self.world.once.contains(act);
            }
        }
        let fingerprint = cluster.fingerprint();
        self.states.lock().unwrap().entry(fingerprint).or_insert(false);
        if !act.is_time()
            && let Some(violation) = self.settle_cluster(cluster.clone())
        {
            self.note_violation(violation, past.as_deref());
            return None;
        }
        let cluster = (left.acts > 0).then(|| Arc::new(cluster));
        Some(Node { fingerprint, left, cluster, past })
    }

    /// Lets a cluster come to rest, up to the first state from which that was done before.
    fn settle_cluster(&self, mut cluster: Cluster) -> Option<Violation> {
        let mut own = HashSet::new();
        loop {
            let fingerprint = cluster.fingerprint();
            // A cycle: a write that is refused each time, or an operator that never rests.
            let is_circle = !own.insert(fingerprint);
            if !is_circle && self.states.lock().unwrap().insert(fingerprint, true) == Some(true) {
                return None;
            }
            let moved = catch_unwind(AssertUnwindSafe(|| {
                if is_circle {
                    cluster.settle();
                }
                let moved = !is_circle && cluster.advance();
                if let Some(sabotage) = self.world.sabotage {
                    sabotage(&mut cluster);
                }
                moved
            }));
            let Ok(moved) = moved else { return Some(report_panic()) };
            let violation = cluster.truth.violations.first().cloned();
            if violation.is_some() || !moved {
                return violation;
            }
        }
    }

    fn note_violation(&self, violation: Violation, past: Option<&Past>) {
        let mut findings = self.findings.lock().unwrap();
        findings.entry(violation.property).or_insert_with(|| {
            let mut acts = Vec::new();
            let mut next = past;
            while let Some(past) = next {
                acts.push(past.act.clone());
                next = past.before.as_deref();
            }
            for act in self.world.begin.iter().rev() {
                acts.extend([Act::Settle, act.clone()]);
            }
            acts.reverse();
            Finding { violation, acts }
        });
    }
}

fn report_panic() -> Violation {
    Violation { property: "the-planner-does-not-panic", sentence: "it panicked".into() }
}

impl Model for Search {
    type State = Node;
    type Action = Act;

    fn init_states(&self) -> Vec<Node> {
        let cluster = self.build_cluster();
        let left =
            Left { acts: self.world.acts_max, once: true, lone_steps: self.world.lone_steps_max };
        let fingerprint = cluster.fingerprint();
        if let Some(violation) = cluster.truth.violations.first() {
            self.note_violation(violation.clone(), None);
        }
        self.states.lock().unwrap().insert(fingerprint, true);
        vec![Node { fingerprint, left, cluster: Some(Arc::new(cluster)), past: None }]
    }

    fn actions(&self, node: &Node, actions: &mut Vec<Act>) {
        let Some(cluster) = &node.cluster else { return };
        actions.push(Act::Step);
        if node.left.lone_steps > 0 {
            actions.extend([Act::Controllers, Act::Pass]);
        }
        let once: &[Act] = if node.left.once { &self.world.once } else { &[] };
        let acts = self.world.acts.iter().chain(once);
        actions.extend(acts.filter(|act| cluster.would_change(act)).cloned());
    }

    fn next_state(&self, node: &Node, act: Act) -> Option<Node> {
        self.perform_act(node, &act)
    }

    /// Lets stateright discover nothing, because it stops at the first discovery, and the first
    /// violation of each property is wanted. [`Search::note_violation`] keeps them.
    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("every violation is noted", |_, _| true)]
    }
}

/// Searches all histories of a world.
pub fn search_world(world: World) -> Found {
    let began = Instant::now();
    let search = Search { world, states: Mutex::default(), findings: Mutex::default() };
    // One thread, so that a breadth-first search finds the shortest history and every run counts
    // the same states; two worlds are searched at a time instead.
    let checker = search.checker().threads(1).spawn_bfs().join();
    let search = checker.model();
    let findings = search.findings.lock().unwrap().clone();
    Found { states: search.states.lock().unwrap().len(), took: began.elapsed(), findings }
}
