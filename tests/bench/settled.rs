//! ModelDeployments that nothing happens to, and an operator that starts beside them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    Run, Sizes,
    figures::say,
    ground::{self, Ground, Progress},
    harness::audit,
    objects,
};

const NAMESPACE: &str = "settled";
const MINUTE: Duration = Duration::from_secs(60);

/// Creates them, looks on for a minute, restarts the operator, and looks on for another.
pub async fn measure(sizes: &Sizes, run: &mut Run) {
    let mut ground = Ground::start().await;
    ground.namespace(NAMESPACE);
    let empty = ground.memory().0;
    let names = objects::names(sizes.settled);
    objects::create(&ground.client, NAMESPACE, objects::versions(&names, &["1"])).await;
    let (began, progress) = (Instant::now(), Progress::start(&ground.client, NAMESPACE));
    objects::create(&ground.client, NAMESPACE, objects::deployments(&names, "1")).await;
    progress.serving(&names, "1").await;
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("created {}: {seconds:.1} s", names.len()));
    ground.quiet().await;

    // The minute is what is measured: nothing may happen in it.
    let (mark, cpu) = (audit::mark(&ground.cluster), ground.cpu());
    tokio::time::sleep(MINUTE).await;
    let (total, by) = ground::requests(&mark);
    let (memory, most) = ground.memory();
    let idle = ground.cpu() - cpu;
    say(&format!(
        "settled: {total} requests in a minute, {idle} ms of CPU, {memory:.1} MB (at most {most:.1}, with nothing {empty:.1})"
    ));
    run.note(
        "settled",
        json!({"createSeconds": seconds, "operator": by, "cpuMs": idle, "memoryMb": memory, "memoryAtMostMb": most, "memoryEmptyMb": empty}),
    );
    run.figure("settled_requests_in_a_minute", f64::from(u32::try_from(total).unwrap()));
    run.figure("settled_memory", memory);

    let mark = audit::mark(&ground.cluster);
    let began = Instant::now();
    ground.restart();
    let ready = began.elapsed().as_secs_f64();
    tokio::time::sleep(MINUTE).await;
    let opened = ground::opened(&mark);
    let (_, by) = ground::requests(&mark);
    let writes = by
        .as_object()
        .unwrap()
        .iter()
        .filter(|(what, _)| !what.starts_with("get ") && !what.starts_with("list "));
    let writes: u64 = writes.filter_map(|(_, count)| count.as_u64()).sum();
    let (memory, most) = ground.memory();
    let most_of_a_kind = opened.values().copied().max().unwrap_or_default();
    say(&format!(
        "restarted: ready after {ready:.1} s, {most_of_a_kind} requests a kind, {writes} writes, {memory:.1} MB (at most {most:.1})"
    ));
    run.note(
        "restart",
        json!({"readySeconds": ready, "opened": opened, "operator": by, "cpuMs": ground.cpu(), "memoryMb": memory, "memoryAtMostMb": most}),
    );
    run.figure("restart_requests_per_kind", f64::from(u32::try_from(most_of_a_kind).unwrap()));
    run.figure("restart_writes", f64::from(u32::try_from(writes).unwrap()));
    run.figure("restart_memory", memory);
}
