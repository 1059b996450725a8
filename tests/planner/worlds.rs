//! The small worlds that are searched exhaustively, one for each theme of docs/design.md.

use rollmodel::api::{deployment::Protocol, request::Verb};

use crate::{
    search::World,
    simulator::{
        acts::Act,
        faults::{Behavior, Code, Trouble, WriteKind},
        operator::StaleKind,
    },
};

fn want(version: &str) -> Act {
    Act::Want(version.into())
}

fn label(value: &str) -> Act {
    Act::Label(value.into())
}

fn behave(version: &str, behavior: Behavior) -> Act {
    Act::Behave(version.into(), behavior)
}

/// A world of one replica in which version 7 serves and version 6 served before.
fn begin(name: &'static str, acts: Vec<Act>) -> World {
    World {
        name,
        begin: vec![Act::Scale(1), want("7")],
        acts,
        once: Vec::new(),
        acts_max: 3,
        lone_steps_max: 2,
        sabotage: None,
    }
}

pub fn list_worlds() -> Vec<World> {
    let worlds = [
        versions(),
        replicas(),
        bounds(),
        pauses(),
        requests(),
        refused_settings(),
        refused_decision(),
        admission(),
        losses(),
        recreation(),
        ports(),
        crash(),
        stale_cache(),
        trouble(),
    ];
    worlds.into()
}

/// Three versions, a label, a restart and a restart that renders again; old ReplicaSets come back.
fn versions() -> World {
    let acts =
        vec![want("6"), want("7"), want("8"), label("c1"), Act::Ask(Verb::Restart), Act::Rerender];
    World { lone_steps_max: 1, ..begin("versions, label, restart", acts) }
}

fn replicas() -> World {
    let acts = vec![
        Act::Scale(0),
        Act::Scale(1),
        Act::Scale(2),
        want("7"),
        want("8"),
        Act::Ask(Verb::Undo),
    ];
    World { begin: vec![Act::Scale(2), want("7")], ..begin("replicas, default surge", acts) }
}

fn bounds() -> World {
    let bounds = begin("replicas, surge 0, unavailable 1", replicas().acts);
    World { begin: vec![Act::Scale(2), Act::Bounds(0, 1), want("7")], ..bounds }
}

fn pauses() -> World {
    let acts = vec![
        want("7"),
        want("8"),
        Act::SpecPaused(true),
        Act::SpecPaused(false),
        Act::Ask(Verb::Pause),
        Act::Ask(Verb::Resume),
        behave("8", Behavior::Crash),
    ];
    World { acts_max: 4, lone_steps_max: 1, ..begin("both pauses", acts) }
}

fn requests() -> World {
    let acts = vec![
        want("7"),
        want("8"),
        Act::Ask(Verb::Undo),
        Act::Ask(Verb::Abort),
        Act::Ask(Verb::Retry),
        behave("8", Behavior::NeverReady),
    ];
    begin("undo, abort, retry", acts)
}

fn refused_settings() -> World {
    let acts = vec![
        Act::Refuse(WriteKind::Settings, Code::Forbidden),
        Act::Refuse(WriteKind::Settings, Code::Invalid),
        Act::Heal,
        Act::Scale(2),
        want("8"),
        Act::Ask(Verb::Undo),
    ];
    begin("refused settings", acts)
}

fn refused_decision() -> World {
    let acts = vec![
        Act::Refuse(WriteKind::Decision, Code::Forbidden),
        Act::Refuse(WriteKind::Decision, Code::Invalid),
        Act::Heal,
        Act::Scale(2),
        want("8"),
        Act::Ask(Verb::Undo),
    ];
    begin("refused decision", acts)
}

fn admission() -> World {
    let acts = vec![
        want("6"),
        want("8"),
        Act::Yank("7".into()),
        Act::Yank("8".into()),
        Act::Unyank("8".into()),
        Act::OlderCrds(true),
        Act::OlderCrds(false),
    ];
    let once = vec![Act::Rewrite("8".into()), Act::Rewrite("7".into())];
    World { once, ..begin("yank, conflict, older CRDs", acts) }
}

/// A stored revision, or the pin of an artifact that a status holds.
fn losses() -> World {
    let acts = vec![
        want("7"),
        want("8"),
        Act::Ask(Verb::Undo),
        Act::Ask(Verb::Restart),
        Act::EraseStatus,
        Act::LosePin("7".into()),
    ];
    let once = vec![Act::LoseRevisions, Act::LoseDeployment];
    let begin_with = vec![Act::Scale(1), Act::Pin("7".into()), want("7")];
    let world = begin("lost revision, lost pin", acts);
    World { once, begin: begin_with, lone_steps_max: 1, ..world }
}

fn recreation() -> World {
    let acts = vec![want("7"), want("8"), Act::Scale(1), Act::Ask(Verb::Undo)];
    let once = vec![
        Act::Recreate("churn".into(), "1".into()),
        Act::Recreate("fraud".into(), "7".into()),
        Act::Recreate("fraud".into(), "8".into()),
    ];
    World { once, ..begin("recreation, another model", acts) }
}

fn ports() -> World {
    let acts = vec![
        Act::Port("http".into(), 8080),
        Act::Port("http".into(), 9000),
        Act::Port("rest".into(), 9000),
        Act::Protocol(Protocol::GRPC),
        Act::Protocol(Protocol::HTTP),
        Act::Ask(Verb::Undo),
        want("8"),
    ];
    World { lone_steps_max: 1, ..begin("changed ports", acts) }
}

fn crash() -> World {
    let acts = vec![want("7"), want("8"), Act::Ask(Verb::Undo), Act::Ask(Verb::Pause), label("c1")];
    let once = (0..5).map(Act::DieAfter).collect();
    World { once, ..begin("one crash", acts) }
}

fn stale_cache() -> World {
    let acts =
        vec![want("7"), want("8"), Act::Ask(Verb::Undo), Act::Ask(Verb::Restart), label("c1")];
    let once = vec![
        Act::Stale(StaleKind::ModelDeployment),
        Act::Stale(StaleKind::Records),
        Act::Stale(StaleKind::Deployment),
        Act::Stale(StaleKind::Pods),
        Act::Stale(StaleKind::Versions),
    ];
    World { once, ..begin("one stale cache", acts) }
}

/// Trouble of the environment that comes and goes.
fn trouble() -> World {
    let acts = vec![
        Act::Trouble(Trouble::NoImage),
        Act::Trouble(Trouble::Quota),
        Act::Heal,
        want("7"),
        want("8"),
        Act::Ask(Verb::Abort),
    ];
    World { acts_max: 4, lone_steps_max: 1, ..begin("trouble of the environment", acts) }
}
