//! `cargo bench --bench rollouts`: what rollouts cost beside bare Deployments, and what settled
//! ModelDeployments cost.
//!
//! It measures and never fails for a figure: each is the median of the runs, and beside it stands
//! the bar that it should hold. Times are of a machine and compare only within a run; requests are
//! exact.
//!
//! | variable | default | |
//! |---|---|---|
//! | `BENCH_RUNS` | 3 | runs, each on control planes of its own |
//! | `BENCH_DEPLOYMENTS` | 200 | ModelDeployments that are rolled, and bare Deployments beside them; 0: none |
//! | `BENCH_ROLLS` | 12 | how often all are rolled, two at least: the second is the one beside the bare ones; old contents are pruned from the eleventh on |
//! | `BENCH_SETTLED` | 1000 | ModelDeployments that are left alone; 0: none |
//! | `BENCH_OPERATOR` | the one built with it | another operator binary |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod figures;
mod ground;
#[path = "../cluster/harness/mod.rs"]
mod harness;
mod objects;
mod rolling;
mod settled;

use std::path::PathBuf;

use figures::Figure;
use serde_json::{Map, Value, json};

/// How large everything is.
#[derive(Clone, Debug)]
pub struct Sizes {
    runs: usize,
    deployments: usize,
    rolls: usize,
    settled: usize,
}

/// What one run measured: the figures by name, and everything else that was seen.
#[derive(Default)]
pub struct Run {
    figures: Map<String, Value>,
    raw: Map<String, Value>,
}

impl Run {
    fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.into(), json!(value));
    }

    fn note(&mut self, name: &str, value: Value) {
        self.raw.insert(name.into(), value);
    }
}

/// The figures and their bars.
const BARS: [Figure; 10] = [
    Figure::at_most("requests_per_rollout_first", 10.0, "requests"),
    Figure::at_most("requests_per_rollout_last", 11.0, "requests"),
    Figure::at_most("roll_time_over_bare", 1.25, "x"),
    Figure::at_most("cpu_per_rollout_first", 7.0, "ms"),
    Figure::at_most("cpu_per_rollout_last", 7.0, "ms"),
    Figure::at_most("settled_requests_in_a_minute", 0.0, "requests"),
    Figure::at_most("settled_memory", 40.0, "MB"),
    Figure::at_most("restart_requests_per_kind", 2.0, "requests"),
    Figure::at_most("restart_writes", 0.0, "requests"),
    Figure::at_most("restart_memory", 40.0, "MB"),
];

#[tokio::main(worker_threads = 2)]
async fn main() {
    let sizes = Sizes {
        runs: figures::size("BENCH_RUNS", 3).max(1),
        deployments: figures::size("BENCH_DEPLOYMENTS", 200),
        rolls: figures::size("BENCH_ROLLS", 12).max(2),
        settled: figures::size("BENCH_SETTLED", 1000),
    };
    let out = harness::root().join("target/bench");
    let raw = fresh(&out.join("raw"));
    let (mut runs, mut alone) = (Vec::new(), Vec::new());
    for number in 1..=sizes.runs {
        figures::say(&format!("run {number} of {}", sizes.runs));
        let mut run = Run::default();
        run.note("sizes", json!({"deployments": sizes.deployments, "rolls": sizes.rolls, "settled": sizes.settled}));
        run.note(
            "cores",
            json!(std::thread::available_parallelism().map_or(0, std::num::NonZero::get)),
        );
        if sizes.deployments > 0 {
            rolling::measure(&sizes, &mut run).await;
        }
        if sizes.settled > 0 {
            settled::measure(&sizes, &mut run).await;
        }
        let text = json!({"run": number, "figures": run.figures, "seen": run.raw});
        std::fs::write(
            raw.join(format!("rollouts-{number}.json")),
            serde_json::to_vec_pretty(&text).unwrap(),
        )
        .unwrap();
        alone.extend(run.raw.get("roll_time_alone_over_bare").and_then(Value::as_f64));
        runs.push(run.figures);
    }
    let rows = figures::rows(&BARS, &runs);
    let mut lines = rows
        .iter()
        .map(|row| serde_json::to_string(row).unwrap())
        .collect::<Vec<_>>()
        .join(",\n  ");
    lines = format!("[\n  {lines}\n]\n");
    std::fs::write(out.join("rollouts.json"), lines).unwrap();
    println!("\n{}", figures::table(&rows));
    if let Some(ratio) = figures::median(alone) {
        println!(
            "Side by side both wait for the same control plane. One after the other, ours took {ratio:.2} times what the bare ones took."
        );
    }
    println!(
        "median of {}; {} ModelDeployments rolled {} times, {} settled; raw runs in target/bench/raw",
        sizes.runs, sizes.deployments, sizes.rolls, sizes.settled
    );
}

/// An empty directory.
fn fresh(dir: &std::path::Path) -> PathBuf {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).unwrap();
    dir.to_owned()
}
