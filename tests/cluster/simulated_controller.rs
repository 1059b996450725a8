//! The simulated Deployment and ReplicaSet controllers against the real ones: random histories are
//! played to both, and both have to come to rest in the same state after every step.
//!
//! | to change … | open … |
//! |---|---|
//! | the operations of a history | `history.rs` |
//! | what is compared | `snapshot.rs` |
//! | writes to the cluster, and waiting until it rests | `real.rs` |

mod history;
mod real;
mod snapshot;

use history::History;
use real::Real;
use snapshot::Snapshot;

use crate::harness::{Cluster, Options, rest::runtime};

const HISTORIES: u64 = 200;
/// The first step creates the Deployment.
const STEPS: i64 = 8;
/// So many of the 25 histories with a quota may end early; see [`History::is_over_quota`].
const MAX_ENDED_EARLY: usize = 8;

fn describe_difference(history: &History, actual: Option<&Snapshot>) -> String {
    let simulated = Snapshot::from_workload(&history.workload);
    let steps = history.steps.join("\n  ");
    format!("{}:\n  {steps}\nsimulated: {simulated:#?}\nreal: {actual:#?}\n", history.name)
}

async fn compare_histories(cluster: &Cluster, namespace: &str) {
    let mut real = Real::start(cluster.client().await, namespace);
    let mut histories: Vec<_> = (0..HISTORIES).map(History::new).collect();
    real.create_quotas(&histories).await;
    for step in 0..STEPS {
        let writes: Vec<_> = histories.iter_mut().map(|history| history.take_step(step)).collect();
        real.write_all(histories.iter().zip(writes).collect()).await;
        let actual = real.come_to_rest(&mut histories).await;
        let mut different = Vec::new();
        histories.retain_mut(|history| {
            let actual = actual.get(&history.name);
            let is_explained = actual.is_some_and(|actual| history.explain(actual));
            if !is_explained && !actual.is_some_and(|actual| history.is_over_quota(actual)) {
                different.push(describe_difference(history, actual));
            }
            is_explained
        });
        assert!(
            different.is_empty(),
            "after step {step}, {} histories differ; the first ones:\n{}",
            different.len(),
            different[..different.len().min(5)].join("\n")
        );
    }
    let ended_early = usize::try_from(HISTORIES).expect("a small number") - histories.len();
    assert!(ended_early <= MAX_ENDED_EARLY, "{ended_early} histories went over their quota");
}

#[test]
fn random_histories_come_to_rest_as_with_the_real_deployment_controller() {
    // Thousands of pods come and go. Tests that share a cluster would wait for them.
    let own = Cluster::own(Options { audit: false, ..Options::default() });
    let namespace = own.cluster().namespace("histories");
    runtime().block_on(compare_histories(own.cluster(), &namespace));
}
