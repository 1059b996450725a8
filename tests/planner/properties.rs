//! Properties of every history: plans come to rest, a crash after any write changes no decision,
//! and the planner never panics on any observation.

use jiff::ToSpan;
use proptest::{collection::vec, prelude::*};
use rollmodel::{
    api::{names, request::Verb, rollout::Trigger},
    plan::{self, facts::history::History, observed::Memory},
};
use serde_json::json;

use crate::world::{Behavior, World};

/// One event in the life of a ModelDeployment.
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
    Behave(u8, Behavior),
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

fn any_op() -> impl Strategy<Value = Op> {
    let verb = prop_oneof![
        Just(Verb::Undo),
        Just(Verb::Abort),
        Just(Verb::Retry),
        Just(Verb::Pause),
        Just(Verb::Resume),
        Just(Verb::Restart)
    ];
    let behavior = prop_oneof![
        Just(Behavior::Fine),
        Just(Behavior::Crash),
        Just(Behavior::Pull),
        Just(Behavior::NeverReady),
        Just(Behavior::Mismatch),
        Just(Behavior::Unreachable)
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
        3 => ((6u8..9), behavior).prop_map(|(v, b)| Op::Behave(v, b)),
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

fn apply_op(world: &mut World, op: &Op) {
    match op {
        Op::Want(v) => world.want_version(&v.to_string()),
        Op::Image(tag) => world.set_template(
            json!({"spec": {"containers": [{"name": "model", "image": format!("server:{tag}")}]}}),
        ),
        Op::Label(n) => {
            world.set_template(json!({"metadata": {"labels": {"commit": n.to_string()}}}))
        }
        Op::Scale(n) => world.change_spec(|s| s.replicas = i32::from(*n)),
        Op::SpecPaused(paused) => world.change_spec(|s| s.paused = *paused),
        Op::Ask(verb) => drop(world.send_request(*verb)),
        Op::UndoTo(n) => {
            let decision = world.newest_decision();
            world.send_request_with(Verb::Undo, &decision, |s| s.to_rollout = Some(i64::from(*n)));
        }
        Op::StaleUndo => drop(world.send_request_with(Verb::Undo, "0", |_| {})),
        Op::KubectlUndo(n) if world.can_kubectl_undo(i64::from(*n)) => {
            world.kubectl_undo(i64::from(*n))
        }
        Op::KubectlRestart(n) if world.deployment.is_some() => {
            world.edit_deployment(|d| {
                d["spec"]["template"]["metadata"]["annotations"][names::RESTARTED_AT] =
                    json!(format!("2026-11-24T00:00:0{n}Z"))
            });
        }
        Op::KubectlPaused(paused) if world.deployment.is_some() => {
            world.edit_deployment(|d| d["spec"]["paused"] = json!(paused))
        }
        Op::EditImage if world.deployment.is_some() => world.edit_deployment(|d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil:1")
        }),
        Op::Behave(v, b) => world.set_behavior(&v.to_string(), *b),
        Op::Overdue => world.overdue = true,
        Op::Yank(v) => world.yank_version(&v.to_string()),
        Op::Artifact(v) => world.set_artifact(&v.to_string(), None),
        Op::Pin(v) => {
            world.version_mut(&v.to_string()).pin = Some(format!("sha256:{}", "a".repeat(64)))
        }
        Op::Policy(n) => {
            let demands = [
                json!({}),
                json!({"requireArtifactDigest": true}),
                json!({"requireImageDigest": true}),
                json!({"requireSignature": {"publicKeys": ["k"]}}),
            ];
            world.set_policy(demands[usize::from(*n)].clone());
        }
        Op::EraseStatus => world.observed.model_deployment.as_mut().unwrap().status = None,
        Op::LoseDeployment => world.lose_deployment(),
        Op::Recreate => {
            let version = world.observed.model_deployment.as_ref().unwrap().spec.version.clone();
            world.delete_model_deployment();
            world.create_model_deployment(&version);
        }
        Op::Time(seconds) => world.advance_time(i64::from(*seconds).seconds()),
        _ => {}
    }
}

/// Lists the decisions and their outcomes, without times.
fn list_decisions(world: &World) -> Vec<String> {
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

fn describe_end(world: &World) -> String {
    let status = world.read_status();
    format!(
        "{:?} {:?} {} {:#?}",
        status.state,
        status.serving.map(|s| (s.version, s.rollout)),
        world.live_image(),
        list_decisions(world)
    )
}

/// Whoever is paused without pods has its ReplicaSets read in each pass.
#[test]
fn what_is_read_live_in_each_pass_is_not_left_to_do() {
    let mut world = World::new();
    let ops = [Op::Scale(0), Op::KubectlPaused(true), Op::Want(7), Op::Scale(1)];
    for op in &ops {
        apply_op(&mut world, op);
        world.settle();
    }
    assert_eq!(world.records().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do_at_any_later_time(
        ops in vec(any_op(), 1..14),
        hours in 0i64..20,
    ) {
        let mut world = World::new();
        world.settle();
        for op in &ops {
            apply_op(&mut world, op);
            world.settle();
        }
        // A failure by time alone happens only once.
        world.advance_time(hours.hours());
        world.settle();
        world.advance_time(hours.hours());
        let plan = world.plan_next();
        // Objects that are kept for a time are deleted when it is over.
        let is_deletion = |action: &plan::Action| matches!(action, plan::Action::Delete { .. });
        let acts: Vec<_> = plan.actions.iter().filter(|a| !is_deletion(a)).collect();
        prop_assert!(acts.is_empty(), "{acts:#?}");
    }

    #[test]
    fn a_crash_after_any_write_converges_to_the_same_decisions(
        ops in vec(any_op(), 1..12),
        deaths in vec(0usize..6, 60),
    ) {
        let (mut calm, mut dying) = (World::new(), World::new());
        let mut deaths = deaths.into_iter().cycle();
        calm.settle();
        dying.settle();
        for op in &ops {
            apply_op(&mut calm, op);
            apply_op(&mut dying, op);
            for _ in 0..4 {
                // Both clusters plan equally often before Kubernetes does anything.
                let plan = calm.plan_next();
                calm.carry_out(plan, usize::MAX);
                let plan = dying.plan_next();
                dying.carry_out(plan, deaths.next().unwrap_or(0));
                // A restarted operator knows its flags again.
                let fetch_image = dying.observed.memory.fetch_image.take();
                dying.observed.memory = Memory { fetch_image, ..Memory::default() };
            }
            calm.settle();
            dying.settle();
        }
        prop_assert_eq!(describe_end(&calm), describe_end(&dying));
    }

    #[test]
    fn numbers_only_grow_and_at_most_one_rollout_goes_on(ops in vec(any_op(), 1..20)) {
        let mut world = World::new();
        for op in &ops {
            apply_op(&mut world, op);
            world.settle();
            let records = world.records();
            prop_assert!(records.windows(2).all(|w| w[0].number < w[1].number));
            let mut older = records.iter().rev().skip(1);
            prop_assert!(
                older.all(|r| r.outcome.is_some()),
                "{:#?}",
                list_decisions(&world)
            );
        }
    }

    #[test]
    fn what_is_rejected_is_never_newly_served(ops in vec(any_op(), 1..20)) {
        let mut world = World::new();
        for op in &ops {
            apply_op(&mut world, op);
            world.settle();
        }
        let records = world.records();
        for (index, record) in records.iter().enumerate() {
            let mut before = History::new(&plan::Observed::default(), "fraud");
            records[..index].iter().for_each(|r| before.push_record(r.clone()));
            let rejected = before.find_rejection(record).is_some();
            // A revision that served is not newly served: kubectl may return to its ReplicaSet.
            let served = before.records().rev().find(|r| r.is_promoted());
            let serves = served.is_some_and(|s| s.record_digest == record.record_digest);
            let asked = serves || matches!(record.trigger, Trigger::Retry | Trigger::Restart);
            prop_assert!(
                !rejected || asked,
                "rollout {} serves what was rejected: {:#?}",
                record.number,
                list_decisions(&world)
            );
        }
    }

    #[test]
    fn the_planner_answers_whatever_it_sees(
        ops in vec(any_op(), 1..8),
        cuts in vec((0u8..7, any::<u8>()), 0..6),
        label in "\\PC{0,12}",
    ) {
        let mut world = World::new();
        for op in &ops {
            apply_op(&mut world, op);
            world.settle();
        }
        for (what, which) in cuts {
            corrupt_world(&mut world, what, usize::from(which), &label);
        }
        let plan = world.plan_next();
        prop_assert!(!plan.waiting.sentence.is_empty());
    }
}

/// Removes objects or writes invalid values, as no API server would.
fn corrupt_world(world: &mut World, what: u8, which: usize, label: &str) {
    let observed = &mut world.observed;
    match what {
        0 if !observed.records.is_empty() => {
            drop(observed.records.remove(which % observed.records.len()))
        }
        1 if !observed.revisions.is_empty() => {
            drop(observed.revisions.remove(which % observed.revisions.len()))
        }
        2 if !observed.revisions.is_empty() => {
            let index = which % observed.revisions.len();
            observed.revisions[index].body = None;
        }
        3 => observed.versions.clear(),
        4 => observed
            .tracks
            .values_mut()
            .for_each(|w| w.meta.labels.values_mut().for_each(|v| *v = label.into())),
        5 => observed.tracks.values_mut().for_each(|w| w.spec.template = json!(label).into()),
        6 => observed.memory.looked_up.push(plan::Lookup::Records),
        _ => {}
    }
}
