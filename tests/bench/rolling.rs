//! All rolled at once, beside bare Deployments of the same pods on the same control plane.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    Run, Sizes,
    figures::say,
    ground::{self, Ground, Progress},
    harness::audit,
    objects,
};

/// Where ModelDeployments are, and where bare Deployments are.
const OURS: &str = "ours";
const BARE: &str = "bare";

/// Creates both, rolls both, and then ours again and again.
pub async fn measure(sizes: &Sizes, run: &mut Run) {
    let ground = Ground::start().await;
    [OURS, BARE].iter().for_each(|namespace| ground.namespace(namespace));
    let names = objects::names(sizes.deployments);
    objects::create(&ground.client, OURS, objects::versions(&names, &["1", "2"])).await;
    ground.quiet().await;
    let rolling = Rolling { ours: Progress::start(&ground.client, OURS), bare: Progress::start(&ground.client, BARE), names, ground };
    rolling.create(run).await;

    // A bare roll before and one after: whatever else the machine does is more alike so.
    let before = rolling.roll_bare("2", run, "bare_before").await;
    let first = rolling.roll(1, run).await;
    let after = rolling.roll_bare("1", run, "bare_after").await;
    run.figure("roll_time_over_bare", first.seconds / f64::midpoint(before, after));
    run.figure("requests_per_rollout_first", first.requests);
    run.figure("cpu_per_rollout_first", first.cpu);
    let mut last = first;
    for number in 2..=sizes.rolls {
        last = rolling.roll(number, run).await;
    }
    run.figure("requests_per_rollout_last", last.requests);
    run.figure("cpu_per_rollout_last", last.cpu);
}

struct Rolling {
    ground: Ground,
    names: Vec<String>,
    ours: Progress,
    bare: Progress,
}

/// What a roll took: seconds in all; requests and milliseconds of the operator's CPU for one rollout.
struct Cost {
    seconds: f64,
    requests: f64,
    cpu: f64,
}

/// Where the operator's counters were.
struct Before {
    cpu: f64,
    passes: u64,
}

impl Rolling {
    fn before(&self) -> Before {
        Before { cpu: self.ground.cpu(), passes: self.ground.passes() }
    }

    /// Creates ours, and then bare ones of the pods that came of it.
    async fn create(&self, run: &mut Run) {
        let (client, before, mark, began) = (&self.ground.client, self.before(), audit::mark(&self.ground.cluster), Instant::now());
        objects::create(client, OURS, objects::deployments(&self.names, "1")).await;
        self.ours.serving(&self.names, "1").await;
        let seconds = began.elapsed().as_secs_f64();
        self.ground.quiet().await;
        self.keep(run, "create", seconds, &mark, &before);

        let get = async |kind: &str| serde_json::to_value(objects::api(client, OURS, kind).get(&self.names[0]).await.unwrap()).unwrap();
        let bare = objects::bare(&self.names, &get("Deployment").await, &get("Service").await);
        let (mark, began) = (audit::mark(&self.ground.cluster), Instant::now());
        objects::create(client, BARE, bare).await;
        self.bare.rolled(&self.names, "1").await;
        let seconds = began.elapsed().as_secs_f64();
        say(&format!("created {} bare: {seconds:.1} s", self.names.len()));
        run.note("create_bare", json!({"seconds": seconds, "everybody": ground::everybody(&mark)}));
    }

    /// Rolls the bare ones, and gives the seconds.
    async fn roll_bare(&self, version: &str, run: &mut Run, what: &str) -> f64 {
        let (mark, began) = (audit::mark(&self.ground.cluster), Instant::now());
        objects::patch(&self.ground.client, BARE, "Deployment", &self.names, &objects::roll_bare(version)).await;
        self.bare.rolled(&self.names, version).await;
        let seconds = began.elapsed().as_secs_f64();
        say(&format!("rolled {} bare: {seconds:.1} s", self.names.len()));
        run.note(what, json!({"seconds": seconds, "everybody": ground::everybody(&mark)}));
        seconds
    }

    /// Rolls ours, each to its other version.
    async fn roll(&self, number: usize, run: &mut Run) -> Cost {
        let version = if number.is_multiple_of(2) { "1" } else { "2" };
        let (before, mark, began) = (self.before(), audit::mark(&self.ground.cluster), Instant::now());
        objects::patch(&self.ground.client, OURS, "ModelDeployment", &self.names, &objects::roll(number, version)).await;
        self.ours.serving(&self.names, version).await;
        let seconds = began.elapsed().as_secs_f64();
        self.ground.quiet().await;
        self.keep(run, &format!("roll_{number:02}"), seconds, &mark, &before)
    }

    fn keep(&self, run: &mut Run, what: &str, seconds: f64, mark: &audit::Mark, before: &Before) -> Cost {
        #[allow(clippy::cast_precision_loss)] // a count of requests
        let each = |total: f64| total / self.names.len() as f64;
        let (total, by): (usize, Value) = ground::requests(mark);
        #[allow(clippy::cast_precision_loss)]
        let cost = Cost { seconds, requests: each(total as f64), cpu: each(self.ground.cpu() - before.cpu) };
        #[allow(clippy::cast_precision_loss)]
        let passes = each((self.ground.passes() - before.passes) as f64);
        let memory = self.ground.memory().0;
        say(&format!(
            "{what}: {seconds:.1} s; each {:.2} requests, {:.2} ms of CPU, {passes:.1} passes; {memory:.1} MB",
            cost.requests, cost.cpu
        ));
        run.note(
            what,
            json!({"seconds": seconds, "requestsEach": cost.requests, "cpuMsEach": cost.cpu, "passesEach": passes, "memoryMb": memory,
                "operator": by, "everybody": ground::everybody(mark)}),
        );
        cost
    }
}
