//! The exhaustive search of every small world: a part in each run of the tests, the whole by
//! `make prove`.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use rollmodel::api::request::Verb;
use serde_json::json;

use crate::{
    histories::{drop_acts, keep_last},
    search::{Finding, Found, World, search_world},
    simulator::{acts::Act, cluster::Cluster, history::run_acts},
    worlds::list_worlds,
};

/// The fewest distinct states that `make prove` visits.
const STATES_MIN: usize = 1_000_000;

/// Searches worlds, two at a time, and prints a line for each.
fn search_worlds(worlds: Vec<World>) -> Vec<(World, Found)> {
    let waiting = Mutex::new(VecDeque::from(worlds));
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(world) = take_next(&waiting) {
                    let result = search_world(world.clone());
                    let (acts, lone) = (world.acts_max, world.lone_steps_max);
                    println!(
                        "{:34} acts {acts}, lone steps {lone}: {:>8} states in {:>6.1} s, {} \
                         findings",
                        world.name,
                        result.states,
                        result.took.as_secs_f64(),
                        result.findings.len()
                    );
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((world, result));
                }
            });
        }
    });
    found.into_inner().unwrap()
}

fn take_next(waiting: &Mutex<VecDeque<World>>) -> Option<World> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// The story of a finding, with the acts that it needs; they are kept for `make keep-history`.
fn tell_finding(world: &World, finding: &Finding) -> String {
    let property = finding.violation.property;
    let acts = drop_acts(finding.acts.clone(), property);
    let file = keep_last(property, &acts);
    format!(
        "── {}: {property}: {}\n{file}{}",
        world.name,
        finding.violation.sentence,
        run_acts(&acts).story
    )
}

fn tell_findings(found: &[(World, Found)]) -> Vec<String> {
    let each = found.iter().flat_map(|(world, f)| f.findings.values().map(move |v| (world, v)));
    each.map(|(world, finding)| tell_finding(world, finding)).collect()
}

#[test]
fn short_histories_of_small_worlds_violate_no_property() {
    // Two acts of each history, so that a run without optimization takes seconds.
    let worlds = list_worlds().into_iter().map(|w| w.shorten_histories(2, 0)).collect();
    let found = search_worlds(worlds);
    let stories = tell_findings(&found);
    assert!(stories.is_empty(), "{}", stories.join("\n"));
    let states: usize = found.iter().map(|(_, f)| f.states).sum();
    assert!(states > 5000, "{states} states are few");
}

/// WORLD=<part of a name> searches one.
#[test]
#[ignore = "`make prove` runs it: many minutes in profile prove"]
fn prove_every_world() {
    let began = Instant::now();
    let wanted = std::env::var("WORLD").unwrap_or_default();
    std::panic::set_hook(Box::new(|_| {}));
    let worlds = list_worlds().into_iter().filter(|w| w.name.contains(&wanted)).collect();
    let found = search_worlds(worlds);
    let states: usize = found.iter().map(|(_, f)| f.states).sum();
    let stories = tell_findings(&found);
    println!(
        "{}\n{states} distinct states in {} worlds, {:.0} s, {} violations",
        stories.join("\n"),
        found.len(),
        began.elapsed().as_secs_f64(),
        stories.len()
    );
    let _ = std::panic::take_hook();
    assert!(stories.is_empty(), "a world violates a property");
    assert!(!wanted.is_empty() || states >= STATES_MIN, "{states} states are few");
}

#[test]
fn a_fingerprint_knows_no_absolute_times_and_no_generated_names() {
    let tell = |now, given| {
        let mut cluster = Cluster { now, given, ..Cluster::new() };
        cluster.witness_act(&Act::Want("6".into()));
        let acts = [Act::Want("7".into()), Act::Ask(Verb::Restart), Act::Label("c1".into())];
        let mut states = Vec::new();
        for act in acts {
            cluster.settle();
            cluster.perform(&act);
            while cluster.advance() {
                states.push(cluster.write_state());
            }
        }
        states
    };
    let (early, late) = (tell(0, 200), tell(7_654_321, 8_000));
    assert!(early.len() > 20, "{} steps", early.len());
    for (number, (one, other)) in early.iter().zip(&late).enumerate() {
        let differ: Vec<String> = (0..one.len().min(other.len()))
            .filter(|at| one[*at] != other[*at])
            .map(|at| one[at.saturating_sub(60)..at].escape_ascii().to_string())
            .collect();
        assert!(one == other, "state {number} differs after\n{}", differ.join("\n"));
    }
    let distinct: BTreeSet<&Vec<u8>> = early.iter().collect();
    assert_eq!(distinct.len(), early.len(), "two states on the way are taken for one");
}

/// A Service that points at no pod of version 8: what the search has to find.
fn point_nowhere(cluster: &mut Cluster) {
    let names_8 = cluster.spec().is_some_and(|s| s.version == "8");
    if let Some(service) = cluster.service.as_mut().filter(|_| names_8) {
        service.ports[0]["targetPort"] = json!("nowhere");
    }
}

#[test]
fn a_search_finds_what_is_broken_and_the_shortest_history_to_it() {
    let mut world = list_worlds().remove(0).shorten_histories(2, 0);
    world.acts = vec![Act::Label("c1".into()), Act::Want("8".into())];
    world.sabotage = Some(point_nowhere);
    let found = search_world(world.clone());
    let finding = &found.findings["endpoints-never-empty"];
    let begin = world.begin.len() * 2;
    assert_eq!(finding.acts[begin..], [Act::Want("8".into())], "{:?}", finding.acts);
}
