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

fn want_version(version: &str) -> Act {
    Act::Want(version.into())
}

fn set_label(value: &str) -> Act {
    Act::Label(value.into())
}

fn set_behavior(version: &str, behavior: Behavior) -> Act {
    Act::Behave(version.into(), behavior)
}

/// Builds a world of one replica in which version 7 serves and version 6 served before.
fn begin_world(name: &'static str, acts: Vec<Act>) -> World {
    World {
        name,
        begin: vec![Act::Scale(1), want_version("7")],
        acts,
        once: Vec::new(),
        acts_max: 3,
        lone_steps_max: 2,
        sabotage: None,
    }
}

pub fn list_worlds() -> Vec<World> {
    let worlds = [
        versions_world(),
        replicas_world(),
        bounds_world(),
        pauses_world(),
        requests_world(),
        refused_world("refused settings", WriteKind::Settings),
        refused_world("refused decision", WriteKind::Decision),
        admission_world(),
        losses_world(),
        recreation_world(),
        ports_world(),
        crash_world(),
        stale_cache_world(),
        trouble_world(),
    ];
    worlds.into()
}

/// Three versions, a label, a restart and a restart that renders again; old ReplicaSets come back.
fn versions_world() -> World {
    let acts = vec![
        want_version("6"),
        want_version("7"),
        want_version("8"),
        set_label("c1"),
        Act::Ask(Verb::Restart),
        Act::Rerender,
    ];
    World { lone_steps_max: 1, ..begin_world("versions, label, restart", acts) }
}

fn replicas_world() -> World {
    let acts = vec![
        Act::Scale(0),
        Act::Scale(1),
        Act::Scale(2),
        want_version("7"),
        want_version("8"),
        Act::Ask(Verb::Undo),
    ];
    World {
        begin: vec![Act::Scale(2), want_version("7")],
        ..begin_world("replicas, default surge", acts)
    }
}

fn bounds_world() -> World {
    let bounds = begin_world("replicas, surge 0, unavailable 1", replicas_world().acts);
    World { begin: vec![Act::Scale(2), Act::Bounds(0, 1), want_version("7")], ..bounds }
}

fn pauses_world() -> World {
    let acts = vec![
        want_version("7"),
        want_version("8"),
        Act::SpecPaused(true),
        Act::SpecPaused(false),
        Act::Ask(Verb::Pause),
        Act::Ask(Verb::Resume),
        set_behavior("8", Behavior::Crash),
    ];
    World { acts_max: 4, lone_steps_max: 1, ..begin_world("both pauses", acts) }
}

fn requests_world() -> World {
    let acts = vec![
        want_version("7"),
        want_version("8"),
        Act::Ask(Verb::Undo),
        Act::Ask(Verb::Abort),
        Act::Ask(Verb::Retry),
        set_behavior("8", Behavior::NeverReady),
    ];
    begin_world("undo, abort, retry", acts)
}

fn refused_world(name: &'static str, kind: WriteKind) -> World {
    let acts = vec![
        Act::Refuse(kind, Code::Forbidden),
        Act::Refuse(kind, Code::Invalid),
        Act::Heal,
        Act::Scale(2),
        want_version("8"),
        Act::Ask(Verb::Undo),
    ];
    begin_world(name, acts)
}

fn admission_world() -> World {
    let acts = vec![
        want_version("6"),
        want_version("8"),
        Act::Yank("7".into()),
        Act::Yank("8".into()),
        Act::Unyank("8".into()),
        Act::OlderCrds(true),
        Act::OlderCrds(false),
    ];
    let once = vec![Act::Rewrite("8".into()), Act::Rewrite("7".into())];
    World { once, ..begin_world("yank, conflict, older CRDs", acts) }
}

/// A stored revision, or the pin of an artifact that a status holds.
fn losses_world() -> World {
    let acts = vec![
        want_version("7"),
        want_version("8"),
        Act::Ask(Verb::Undo),
        Act::Ask(Verb::Restart),
        Act::EraseStatus,
        Act::LosePin("7".into()),
    ];
    let once = vec![Act::LoseRevisions, Act::LoseDeployment];
    let begin_with = vec![Act::Scale(1), Act::Pin("7".into()), want_version("7")];
    let world = begin_world("lost revision, lost pin", acts);
    World { once, begin: begin_with, lone_steps_max: 1, ..world }
}

fn recreation_world() -> World {
    let acts = vec![want_version("7"), want_version("8"), Act::Scale(1), Act::Ask(Verb::Undo)];
    let once = vec![
        Act::Recreate("churn".into(), "1".into()),
        Act::Recreate("fraud".into(), "7".into()),
        Act::Recreate("fraud".into(), "8".into()),
    ];
    World { once, ..begin_world("recreation, another model", acts) }
}

fn ports_world() -> World {
    let acts = vec![
        Act::Port("http".into(), 8080),
        Act::Port("http".into(), 9000),
        Act::Port("rest".into(), 9000),
        Act::Protocol(Protocol::GRPC),
        Act::Protocol(Protocol::HTTP),
        Act::Ask(Verb::Undo),
        want_version("8"),
    ];
    World { lone_steps_max: 1, ..begin_world("changed ports", acts) }
}

fn crash_world() -> World {
    let acts = vec![
        want_version("7"),
        want_version("8"),
        Act::Ask(Verb::Undo),
        Act::Ask(Verb::Pause),
        set_label("c1"),
    ];
    let once = (0..5).map(Act::DieAfter).collect();
    World { once, ..begin_world("one crash", acts) }
}

fn stale_cache_world() -> World {
    let acts = vec![
        want_version("7"),
        want_version("8"),
        Act::Ask(Verb::Undo),
        Act::Ask(Verb::Restart),
        set_label("c1"),
    ];
    let once = vec![
        Act::Stale(StaleKind::ModelDeployment),
        Act::Stale(StaleKind::Records),
        Act::Stale(StaleKind::Deployment),
        Act::Stale(StaleKind::Pods),
        Act::Stale(StaleKind::Versions),
    ];
    World { once, ..begin_world("one stale cache", acts) }
}

/// Trouble of the environment that appears and ends.
fn trouble_world() -> World {
    let acts = vec![
        Act::Trouble(Trouble::NoImage),
        Act::Trouble(Trouble::Quota),
        Act::Heal,
        want_version("7"),
        want_version("8"),
        Act::Ask(Verb::Abort),
    ];
    World { acts_max: 4, lone_steps_max: 1, ..begin_world("trouble of the environment", acts) }
}
