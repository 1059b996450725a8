//! What holds in every story: plans come to rest, a crash after any write changes nothing, and the
//! planner answers whatever it sees.

use jiff::ToSpan;
use proptest::prelude::*;
use rollmodel::{
    api::{names, request::Verb},
    plan,
};
use serde_json::json;

use crate::world::{Behaviour, World};

/// One thing that happens to a ModelDeployment.
#[derive(Clone, Debug)]
enum Op {
    Want(u8),
    Image(u8),
    Label(u8),
    Scale(u8),
    SpecPaused(bool),
    Ask(Verb),
    UndoTo(u8),
    StaleUndo,
    KubectlUndo(u8),
    KubectlRestart(u8),
    KubectlPaused(bool),
    EditImage,
    Behave(u8, Behaviour),
    Overdue,
    Yank(u8),
    Artifact(u8),
    Pin(u8),
    Policy(u8),
    EraseStatus,
    LoseDeployment,
    Recreate,
    Time(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let verb = prop_oneof![
        Just(Verb::Undo),
        Just(Verb::Abort),
        Just(Verb::Retry),
        Just(Verb::Pause),
        Just(Verb::Resume),
        Just(Verb::Restart)
    ];
    let behaviour = prop_oneof![
        Just(Behaviour::Fine),
        Just(Behaviour::Crash),
        Just(Behaviour::Pull),
        Just(Behaviour::NeverReady),
        Just(Behaviour::Mismatch),
        Just(Behaviour::Unreachable)
    ];
    prop_oneof![
        4 => (6u8..10).prop_map(Op::Want),
        2 => (0u8..3).prop_map(Op::Image),
        1 => (0u8..3).prop_map(Op::Label),
        1 => (0u8..4).prop_map(Op::Scale),
        1 => any::<bool>().prop_map(Op::SpecPaused),
        4 => verb.prop_map(Op::Ask),
        1 => (1u8..6).prop_map(Op::UndoTo),
        1 => Just(Op::StaleUndo),
        2 => (1u8..6).prop_map(Op::KubectlUndo),
        1 => (0u8..3).prop_map(Op::KubectlRestart),
        1 => any::<bool>().prop_map(Op::KubectlPaused),
        1 => Just(Op::EditImage),
        3 => ((6u8..9), behaviour).prop_map(|(v, b)| Op::Behave(v, b)),
        1 => Just(Op::Overdue),
        1 => (6u8..9).prop_map(Op::Yank),
        2 => (6u8..9).prop_map(Op::Artifact),
        1 => (6u8..9).prop_map(Op::Pin),
        1 => (0u8..4).prop_map(Op::Policy),
        1 => Just(Op::EraseStatus),
        1 => Just(Op::LoseDeployment),
        1 => Just(Op::Recreate),
        1 => any::<u16>().prop_map(Op::Time),
    ]
}

fn happen(world: &mut World, op: &Op) {
    match op {
        Op::Want(v) => world.want(&v.to_string()),
        Op::Image(tag) => world.template(
            json!({"spec": {"containers": [{"name": "model", "image": format!("server:{tag}")}]}}),
        ),
        Op::Label(n) => world.template(json!({"metadata": {"labels": {"commit": n.to_string()}}})),
        Op::Scale(n) => world.spec(|s| s.replicas = i32::from(*n)),
        Op::SpecPaused(paused) => world.spec(|s| s.paused = *paused),
        Op::Ask(verb) => drop(world.ask(*verb)),
        Op::UndoTo(n) => {
            let decision = world.decision();
            world.ask_with(Verb::Undo, &decision, |s| s.to_rollout = Some(i64::from(*n)));
        }
        Op::StaleUndo => drop(world.ask_with(Verb::Undo, "0", |_| {})),
        Op::KubectlUndo(n) if world.can_kubectl_undo(i64::from(*n)) => {
            world.kubectl_undo(i64::from(*n))
        }
        Op::KubectlRestart(n) if world.deployment.is_some() => {
            world.edit(|d| {
                d["spec"]["template"]["metadata"]["annotations"][names::RESTARTED_AT] =
                    json!(format!("2026-11-24T00:00:0{n}Z"))
            });
        }
        Op::KubectlPaused(paused) if world.deployment.is_some() => {
            world.edit(|d| d["spec"]["paused"] = json!(paused))
        }
        Op::EditImage if world.deployment.is_some() => world
            .edit(|d| d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil:1")),
        Op::Behave(v, b) => world.behave(&v.to_string(), *b),
        Op::Overdue => world.overdue = true,
        Op::Yank(v) => world.yank(&v.to_string()),
        Op::Artifact(v) => world.artifact(&v.to_string(), None),
        Op::Pin(v) => {
            world.version(&v.to_string()).pin = Some(format!("sha256:{}", "a".repeat(64)))
        }
        Op::Policy(n) => {
            let demands = [
                json!({}),
                json!({"requireArtifactDigest": true}),
                json!({"requireImageDigest": true}),
                json!({"requireSignature": {"publicKeys": ["k"]}}),
            ];
            world.policy(demands[usize::from(*n)].clone());
        }
        Op::EraseStatus => world.seen.model_deployment.as_mut().unwrap().status = None,
        Op::LoseDeployment => world.lose_deployment(),
        Op::Recreate => {
            let version = world.seen.model_deployment.as_ref().unwrap().spec.version.clone();
            world.delete();
            world.create(&version);
        }
        Op::Time(seconds) => world.pass(i64::from(*seconds).seconds()),
        _ => {}
    }
}

/// What was decided and how it ended, without the times.
fn decisions(world: &World) -> Vec<String> {
    let records = world.records();
    records
        .iter()
        .map(|r| {
            let decisions: Vec<_> = r.decisions.iter().map(|d| (d.number, d.verb)).collect();
            format!(
                "{} {} {:?} {:?} {:?} {:?} {decisions:?}",
                r.number, r.version, r.trigger, r.rejects, r.previous_rollout, r.outcome,
            )
        })
        .collect()
}

fn end(world: &World) -> String {
    let status = world.status();
    format!(
        "{:?} {:?} {} {:#?}",
        status.state,
        status.serving.map(|s| (s.version, s.rollout)),
        world.image(),
        decisions(world)
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do_at_any_later_time(ops in prop::collection::vec(op(), 1..14), hours in 0i64..20) {
        let mut world = World::new();
        world.settle();
        for op in &ops {
            happen(&mut world, op);
            world.settle();
        }
        // What fails by time alone fails once.
        world.pass(hours.hours());
        world.settle();
        world.pass(hours.hours());
        let plan = world.plan();
        // What is kept by time alone goes when its time is over.
        let acts: Vec<_> = plan.actions.iter().filter(|a| !matches!(a, plan::Action::Delete { .. })).collect();
        prop_assert!(acts.is_empty(), "{acts:#?}");
    }

    #[test]
    fn a_crash_after_any_write_converges_to_the_same_decisions(ops in prop::collection::vec(op(), 1..12), deaths in prop::collection::vec(0usize..6, 60)) {
        let (mut calm, mut dying) = (World::new(), World::new());
        let mut deaths = deaths.into_iter().cycle();
        calm.settle();
        dying.settle();
        for op in &ops {
            happen(&mut calm, op);
            happen(&mut dying, op);
            for _ in 0..4 {
                // Both worlds plan as often before Kubernetes does anything.
                let plan = calm.plan();
                calm.carry_out(plan, usize::MAX);
                let plan = dying.plan();
                dying.carry_out(plan, deaths.next().unwrap_or(0));
                // What its flags say it knows again.
                let fetch_image = dying.seen.memory.fetch_image.take();
                dying.seen.memory = plan::observed::Memory { fetch_image, ..plan::observed::Memory::default() };
            }
            calm.settle();
            dying.settle();
        }
        prop_assert_eq!(end(&calm), end(&dying));
    }

    #[test]
    fn numbers_only_grow_and_at_most_one_rollout_goes_on(ops in prop::collection::vec(op(), 1..20)) {
        let mut world = World::new();
        for op in &ops {
            happen(&mut world, op);
            world.settle();
            let records = world.records();
            prop_assert!(records.windows(2).all(|w| w[0].number < w[1].number));
            prop_assert!(records.iter().rev().skip(1).all(|r| r.outcome.is_some()), "{:#?}", decisions(&world));
        }
    }

    #[test]
    fn what_is_rejected_is_never_newly_served(ops in prop::collection::vec(op(), 1..20)) {
        let mut world = World::new();
        for op in &ops {
            happen(&mut world, op);
            world.settle();
        }
        let records = world.records();
        for (index, record) in records.iter().enumerate() {
            let mut before = plan::facts::history::History::new(&plan::Observed::default(), "fraud");
            records[..index].iter().for_each(|r| before.push_record(r.clone()));
            let rejected = before.find_rejection(record).is_some();
            // What served is not newly served: kubectl may return to its ReplicaSet.
            let served = before.records().rev().find(|r| r.is_promoted());
            let serves = served.is_some_and(|s| s.record_digest == record.record_digest);
            let asked = serves || matches!(record.trigger, rollmodel::api::rollout::Trigger::Retry | rollmodel::api::rollout::Trigger::Restart);
            prop_assert!(!rejected || asked, "rollout {} serves what was rejected: {:#?}", record.number, decisions(&world));
        }
    }

    #[test]
    fn the_planner_answers_whatever_it_sees(ops in prop::collection::vec(op(), 1..8), cuts in prop::collection::vec((0u8..7, any::<u8>()), 0..6), label in "\\PC{0,12}") {
        let mut world = World::new();
        for op in &ops {
            happen(&mut world, op);
            world.settle();
        }
        for (what, which) in cuts {
            mutilate(&mut world, what, usize::from(which), &label);
        }
        let plan = world.plan();
        prop_assert!(!plan.waiting.sentence.is_empty());
    }
}

/// Takes something away, or writes nonsense, as no API server would.
fn mutilate(world: &mut World, what: u8, which: usize, label: &str) {
    let seen = &mut world.seen;
    match what {
        0 if !seen.records.is_empty() => drop(seen.records.remove(which % seen.records.len())),
        1 if !seen.revisions.is_empty() => {
            drop(seen.revisions.remove(which % seen.revisions.len()))
        }
        2 if !seen.revisions.is_empty() => {
            let index = which % seen.revisions.len();
            seen.revisions[index].body = None;
        }
        3 => seen.versions.clear(),
        4 => seen
            .tracks
            .values_mut()
            .for_each(|w| w.meta.labels.values_mut().for_each(|v| *v = label.into())),
        5 => seen.tracks.values_mut().for_each(|w| w.spec.template = json!(label)),
        6 => seen.memory.looked_up.push(plan::Lookup::Records),
        _ => {}
    }
}
