//! All rolled at once, beside bare Deployments of the same pods on the same control plane.

use std::{collections::BTreeMap, time::Instant};

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
    let rolling = Rolling {
        ours: Progress::start(&ground.client, OURS),
        bare: Progress::start(&ground.client, BARE),
        names,
        ground,
    };
    rolling.create(run).await;

    // A bare roll before and one after: whatever else the machine does is more alike so.
    let before = rolling.roll_bare("2", run, "bare_before").await;
    let first = rolling.roll(1, run).await;
    let after = rolling.roll_bare("1", run, "bare_after").await;
    run.note("roll_time_alone_over_bare", json!(first.seconds / f64::midpoint(before, after)));
    run.figure("requests_per_rollout_first", first.requests);
    run.figure("cpu_per_rollout_first", first.cpu);
    rolling.roll_both(run).await;
    let mut last = first;
    for number in 3..=sizes.rolls {
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

/// What a roll took: seconds in all; requests and milliseconds of the operator's CPU for one
/// rollout.
struct Cost {
    seconds: f64,
    requests: f64,
    cpu: f64,
}

/// Where the operator's counters were.
struct Before {
    cpu: f64,
    passes: u64,
    everyone: BTreeMap<&'static str, f64>,
}

impl Rolling {
    fn before(&self) -> Before {
        Before {
            cpu: self.ground.cpu(),
            passes: self.ground.passes(),
            everyone: self.ground.everyone(),
        }
    }

    /// Creates ours, and then bare ones of the pods that came of it.
    async fn create(&self, run: &mut Run) {
        let (client, before, mark, began) =
            (&self.ground.client, self.before(), audit::mark(&self.ground.cluster), Instant::now());
        objects::create(client, OURS, objects::deployments(&self.names, "1")).await;
        self.ours.serving(&self.names, "1").await;
        let seconds = began.elapsed().as_secs_f64();
        self.ground.quiet().await;
        self.keep(run, "create", seconds, &mark, &before);

        let get = async |kind: &str| {
            serde_json::to_value(
                objects::api(client, OURS, kind).get(&self.names[0]).await.unwrap(),
            )
            .unwrap()
        };
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
        self.ground.calm().await;
        let (before, mark, began) =
            (self.ground.everyone(), audit::mark(&self.ground.cluster), Instant::now());
        objects::patch(
            &self.ground.client,
            BARE,
            "Deployment",
            &self.names,
            &objects::roll_bare(version),
        )
        .await;
        self.bare.rolled(&self.names, version).await;
        let seconds = began.elapsed().as_secs_f64();
        say(&format!("rolled {} bare: {seconds:.1} s", self.names.len()));
        run.note(what, json!({"seconds": seconds, "cpuMsOf": self.spent(&before), "everybody": ground::everybody(&mark)}));
        seconds
    }

    /// Rolls ours, each to its other version.
    async fn roll(&self, number: usize, run: &mut Run) -> Cost {
        self.ground.calm().await;
        let (before, mark) = (self.before(), audit::mark(&self.ground.cluster));
        let seconds = self.change(number).await;
        run.note(&format!("roll_{number:02}_cpu_ms_of"), json!(self.spent(&before.everyone)));
        self.ground.quiet().await;
        self.keep(run, &format!("roll_{number:02}"), seconds, &mark, &before)
    }

    /// The second roll of ours and one of the bare ones beside it, at the same moment.
    async fn roll_both(&self, run: &mut Run) {
        self.ground.calm().await;
        let bare = async {
            let began = Instant::now();
            objects::patch(
                &self.ground.client,
                BARE,
                "Deployment",
                &self.names,
                &objects::roll_bare("2"),
            )
            .await;
            self.bare.rolled(&self.names, "2").await;
            began.elapsed().as_secs_f64()
        };
        let (ours, bare) = tokio::join!(self.change(2), bare);
        say(&format!("roll_02 beside {} bare: {ours:.1} s, bare {bare:.1} s", self.names.len()));
        run.note("roll_02", json!({"seconds": ours, "bareSeconds": bare}));
        run.figure("roll_time_over_bare", ours / bare);
        self.ground.quiet().await;
    }

    /// Names another version in each, and gives the seconds until every one serves it.
    async fn change(&self, number: usize) -> f64 {
        let version = if number.is_multiple_of(2) { "1" } else { "2" };
        let began = Instant::now();
        objects::patch(
            &self.ground.client,
            OURS,
            "ModelDeployment",
            &self.names,
            &objects::roll(number, version),
        )
        .await;
        self.ours.serving(&self.names, version).await;
        began.elapsed().as_secs_f64()
    }

    /// Milliseconds of CPU that each process took since.
    fn spent(&self, before: &BTreeMap<&'static str, f64>) -> BTreeMap<&'static str, f64> {
        self.ground
            .everyone()
            .into_iter()
            .map(|(name, now)| (name, now - before.get(name).copied().unwrap_or_default()))
            .collect()
    }

    fn keep(
        &self,
        run: &mut Run,
        what: &str,
        seconds: f64,
        mark: &audit::Mark,
        before: &Before,
    ) -> Cost {
        #[allow(clippy::cast_precision_loss)] // a count of requests
        let each = |total: f64| total / self.names.len() as f64;
        let (total, by): (usize, Value) = ground::requests(mark);
        #[allow(clippy::cast_precision_loss)]
        let cost = Cost {
            seconds,
            requests: each(total as f64),
            cpu: each(self.ground.cpu() - before.cpu),
        };
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
