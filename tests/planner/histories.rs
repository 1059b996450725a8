//! Random histories that are checked against the properties of docs/design.md, and the histories
//! that such a search found.
//!
//! `make find-histories` searches and prints the shortest story of each property that is violated;
//! `make keep-history NAME=…` keeps the last one as `tests/histories/NAME.yaml`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use rollmodel::api::{deployment::Protocol, request::Verb};

use crate::simulator::{
    acts::Act,
    faults::{Behavior, Code, Trouble, WriteKind},
    history::{History, run_acts},
    operator::StaleKind,
    others::{Addition, ScaleTarget},
    restore::Order,
};

fn find_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

#[test]
fn every_kept_history_ends_as_its_file_says() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for entry in fs::read_dir(find_directory()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let history: History =
            serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let ending = run_acts(&history.acts);
        let violated = ending.violation.map(|(_, v)| v.property.to_owned());
        if violated != history.violates {
            let (path, title) = (path.display(), &history.title);
            let expected = &history.violates;
            wrong.push(format!(
                "{path}: {title}\nviolates {violated:?}, not {expected:?}\n{}",
                ending.story
            ));
        }
        read += 1;
    }
    assert!(read > 0, "tests/histories is empty");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Prints one history step by step: `HISTORY=path.yaml cargo test --test planner tell_one --
/// --ignored --nocapture`.
#[test]
#[ignore = "it tells one history, for people"]
fn tell_one_history() {
    let path = std::env::var("HISTORY").expect("HISTORY names a file");
    let history: History = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut cluster = crate::simulator::cluster::Cluster::new();
    cluster.settle();
    for act in &history.acts {
        println!("{} s  {act:?}", cluster.now);
        cluster.perform(act);
        let is_last = std::ptr::eq(act, history.acts.last().unwrap());
        for _ in 0..if is_last { 75 } else { 0 } {
            let before = cluster.operator.writes.len();
            cluster.tick();
            let writes = &cluster.operator.writes[before..];
            let live = cluster.workload.deployment.as_ref().map(|d| {
                let sets: Vec<_> =
                    cluster.workload.replica_sets.iter().map(|s| (&s.name, s.replicas)).collect();
                format!(
                    "gen {} paused {} {:?} {sets:?}",
                    d.generation, d.spec.paused, d.status.available_replicas
                )
            });
            println!(
                "   {} {writes:?} {live:?} {:?} due {:?}",
                cluster.now,
                cluster.status().message,
                cluster.operator.due
            );
        }
    }
}

/// A theme: acts that are likely in its histories. Each history mixes one theme with ticks.
type Theme = (&'static str, fn() -> BoxedStrategy<Act>);

const THEMES: [Theme; 9] = [
    ("versions", version_acts),
    ("templates", template_acts),
    ("requests", request_acts),
    ("kubectl", kubectl_acts),
    ("refusals", refusal_acts),
    ("environment", environment_acts),
    ("restores", restore_acts),
    ("everything", mixed_acts),
    ("others", acts_of_others),
];

fn any_version() -> impl Strategy<Value = String> {
    (6u8..10).prop_map(|v| v.to_string())
}

fn any_verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        3 => Just(Verb::Undo),
        2 => Just(Verb::Abort),
        2 => Just(Verb::Retry),
        1 => Just(Verb::Pause),
        1 => Just(Verb::Resume),
        1 => Just(Verb::Restart)
    ]
}

fn any_behavior() -> impl Strategy<Value = Behavior> {
    prop_oneof![
        Just(Behavior::Fine),
        Just(Behavior::Slow),
        Just(Behavior::Flaky),
        Just(Behavior::Crash),
        Just(Behavior::NeverReady)
    ]
}

/// The acts that every theme includes: a version, a request, a wait.
fn common_acts() -> BoxedStrategy<Act> {
    prop_oneof![
        4 => any_version().prop_map(Act::Want),
        2 => any_verb().prop_map(Act::Ask),
        2 => (any_version(), any_behavior()).prop_map(|(v, b)| Act::Behave(v, b)),
        4 => Just(Act::Settle),
        3 => (1u8..8).prop_map(Act::Tick),
    ]
    .boxed()
}

fn version_acts() -> BoxedStrategy<Act> {
    prop_oneof![
        2 => any_version().prop_map(Act::Yank),
        1 => any_version().prop_map(Act::Unyank),
        1 => any_version().prop_map(Act::Rewrite),
        1 => any_version().prop_map(Act::Unregister),
        2 => Just(Act::Ask(Verb::Restart)),
        1 => Just(Act::Recreate("churn".into(), "1".into())),
        1 => any_version().prop_map(|v| Act::Recreate("fraud".into(), v)),
        1 => Just(Act::Behave("1".into(), Behavior::Crash)),
        1 => Just(Act::OlderCrds(true)),
        1 => Just(Act::OlderCrds(false)),
    ]
    .boxed()
}

fn template_acts() -> BoxedStrategy<Act> {
    prop_oneof![
        2 => (0u8..3).prop_map(|n| Act::Image(format!("server:{n}"))),
        4 => (0u8..9).prop_map(|n| Act::Label(format!("c{n}"))),
        1 => Just(Act::Label("feature/x".into())),
        2 => any::<bool>().prop_map(Act::Sidecar),
        2 => any::<bool>().prop_map(Act::Misspell),
        1 => (0u8..3).prop_map(Act::RestartedAtInSpec),
        2 => (1u8..12).prop_map(Act::Commits),
        1 => Just(Act::Protocol(Protocol::GRPC)),
        1 => Just(Act::Protocol(Protocol::HTTP)),
        2 => (1i32..4).prop_map(Act::HistoryLimit),
        2 => Just(Act::Trouble(Trouble::NoImage)),
        1 => Just(Act::Heal),
    ]
    .boxed()
}

fn request_acts() -> BoxedStrategy<Act> {
    prop_oneof![
        6 => any_verb().prop_map(Act::Ask),
        1 => (1i64..6).prop_map(Act::UndoTo),
        1 => Just(Act::ReplayRequests),
        2 => any::<bool>().prop_map(Act::SpecPaused),
        2 => (any_version(), 0u8..12).prop_map(|(v, t)| Act::Detour(v, t)),
        2 => (1u8..4).prop_map(Act::Commits),
        1 => (0i32..5).prop_map(Act::Scale),
        2 => Just(Act::Age),
        1 => Just(Act::Reboot),
    ]
    .boxed()
}

fn kubectl_acts() -> BoxedStrategy<Act> {
    prop_oneof![
        3 => (1i64..6).prop_map(Act::KubectlUndo),
        3 => Just(Act::KubectlRestart),
        2 => any::<bool>().prop_map(Act::KubectlPause),
        1 => Just(Act::EditImage),
        1 => Just(Act::LoseDeployment),
        2 => (any_version(), 0u8..12).prop_map(|(v, t)| Act::Detour(v, t)),
        2 => (1u8..4).prop_map(Act::Commits),
        1 => (0u32..6).prop_map(Act::DieAfter),
        1 => Just(Act::Webhook),
        1 => any_stale().prop_map(Act::Stale),
    ]
    .boxed()
}

fn any_stale() -> impl Strategy<Value = StaleKind> {
    prop_oneof![
        Just(StaleKind::ModelDeployment),
        Just(StaleKind::Records),
        Just(StaleKind::Deployment),
        Just(StaleKind::Pods),
        Just(StaleKind::Versions)
    ]
}

fn refusal_acts() -> BoxedStrategy<Act> {
    let write = prop_oneof![
        3 => Just(WriteKind::Replicas),
        1 => Just(WriteKind::Template),
        2 => Just(WriteKind::Decision),
        1 => Just(WriteKind::Settings),
        2 => Just(WriteKind::CreateDeployment),
        1 => Just(WriteKind::StoreRevision),
        1 => Just(WriteKind::CreateRecord),
        2 => Just(WriteKind::AmendRecord),
        1 => Just(WriteKind::Service),
        1 => Just(WriteKind::Answer),
        1 => Just(WriteKind::Status),
        1 => Just(WriteKind::Delete)
    ];
    let code = prop_oneof![
        3 => Just(Code::Forbidden),
        1 => Just(Code::Conflict),
        3 => Just(Code::Invalid),
        1 => Just(Code::Unprocessable),
        1 => Just(Code::ServerError)
    ];
    prop_oneof![
        5 => (write, code).prop_map(|(w, c)| Act::Refuse(w, c)),
        3 => Just(Act::Scale(8)),
        1 => (1i32..5).prop_map(Act::Scale),
        2 => Just(Act::Ask(Verb::Pause)),
        2 => Just(Act::LoseDeployment),
        1 => Just(Act::Heal),
    ]
    .boxed()
}

fn environment_acts() -> BoxedStrategy<Act> {
    let trouble = prop_oneof![
        Just(Trouble::NoNode),
        Just(Trouble::NoImage),
        Just(Trouble::InitWaits),
        Just(Trouble::Secret),
        Just(Trouble::Quota)
    ];
    prop_oneof![
        5 => trouble.prop_map(Act::Trouble),
        3 => Just(Act::Heal),
        2 => Just(Act::Reboot),
        2 => Just(Act::Age),
        2 => Just(Act::KubectlRestart),
        1 => Just(Act::Ask(Verb::Pause)),
        1 => any::<bool>().prop_map(Act::SpecPaused),
        1 => (0i32..4).prop_map(Act::Scale),
        1 => (0i32..2, 1i32..3).prop_map(|(s, u)| Act::Bounds(s, u)),
    ]
    .boxed()
}

fn restore_acts() -> BoxedStrategy<Act> {
    let order =
        prop_oneof![Just(Order::ByName), Just(Order::VersionsFirst), Just(Order::RecordsFirst)];
    prop_oneof![
        3 => Just(Act::Backup),
        3 => order.prop_map(Act::Restore),
        2 => any_verb().prop_map(Act::Ask),
        1 => Just(Act::LoseRevisions),
        1 => Just(Act::LoseRecords),
        1 => Just(Act::EraseStatus),
        1 => any::<bool>().prop_map(Act::OperatorDown),
    ]
    .boxed()
}

/// Controllers that interfere, settings, and children or single records that are deleted.
fn acts_of_others() -> BoxedStrategy<Act> {
    let addition =
        prop_oneof![Just(Addition::Annotation), Just(Addition::Sidecar), Just(Addition::Env)];
    let target = prop_oneof![Just(ScaleTarget::Deployment), Just(ScaleTarget::ModelDeployment)];
    let deadline = prop_oneof![Just(30), Just(120), Just(900)];
    prop_oneof![
        3 => (target, 1i32..6).prop_map(|(t, n)| Act::Autoscaler(t, n)),
        1 => Just(Act::DeleteAutoscaler),
        3 => addition.prop_map(Act::AddFields),
        2 => any::<bool>().prop_map(Act::OtherOwner),
        1 => (0i32..10).prop_map(Act::MinReadySeconds),
        1 => deadline.prop_map(Act::ProgressDeadline),
        1 => (1i32..6).prop_map(Act::RestartLimit),
        1 => Just(Act::LoseService),
        1 => (1i64..5).prop_map(Act::LoseRecord),
        1 => (0i32..5).prop_map(Act::Scale),
    ]
    .boxed()
}

/// The acts of all themes, and those that none of them has.
fn mixed_acts() -> BoxedStrategy<Act> {
    let port = prop_oneof![Just("http"), Just("grpc"), Just("model")].prop_map(str::to_owned);
    prop_oneof![
        2 => version_acts(),
        2 => template_acts(),
        2 => request_acts(),
        2 => kubectl_acts(),
        2 => refusal_acts(),
        2 => environment_acts(),
        1 => restore_acts(),
        2 => acts_of_others(),
        2 => (port, 8080i32..8082).prop_map(|(name, number)| Act::Port(name, number)),
        1 => any::<bool>().prop_map(Act::Udp),
        1 => Just(Act::Rerender),
        1 => any_version().prop_map(Act::Pin),
        1 => any_version().prop_map(Act::LosePin),
    ]
    .boxed()
}

/// Generates histories of one theme.
fn any_history(theme: fn() -> BoxedStrategy<Act>) -> impl Strategy<Value = Vec<Act>> {
    let acts = prop::collection::vec(prop_oneof![1 => common_acts(), 1 => theme()], 2..14);
    (any::<bool>(), acts).prop_map(|(two_versions, acts)| {
        let begin = [Act::Want("7".into()), Act::Settle];
        let begin = if two_versions { begin.as_slice() } else { &[] };
        begin.iter().cloned().chain(acts).collect()
    })
}

/// Builds a runner that generates the same histories each time.
fn seeded_runner(seed: u8) -> TestRunner {
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
}

/// Returns the property that the acts violate; a panic of the planner is a violation too.
fn judge_acts(acts: &[Act]) -> Option<String> {
    let run = || run_acts(acts).violation.map(|(_, v)| v.property.to_owned());
    std::panic::catch_unwind(run).unwrap_or_else(|_| Some("the-planner-does-not-panic".into()))
}

/// Shrinks `tree` to the shortest acts that still violate `property`.
fn shrink_history(mut tree: impl ValueTree<Value = Vec<Act>>, property: &str) -> Vec<Act> {
    let mut best = tree.current();
    for _ in 0..400 {
        if !tree.simplify() {
            break;
        }
        while judge_acts(&tree.current()).as_deref() != Some(property) {
            if !tree.complicate() {
                return drop_acts(best, property);
            }
        }
        best = tree.current();
    }
    drop_acts(best, property)
}

/// Leaves out every act that the violation does not need.
pub fn drop_acts(mut acts: Vec<Act>, property: &str) -> Vec<Act> {
    let mut index = 0;
    while index < acts.len() {
        let mut fewer = acts.clone();
        fewer.remove(index);
        if judge_acts(&fewer).as_deref() == Some(property) {
            acts = fewer;
        } else {
            index += 1;
        }
    }
    acts
}

/// The number of random histories of each theme that every run of the tests tries.
const SEEDED: usize = 60;

#[test]
fn random_histories_violate_no_property() {
    let mut acts_run = 0;
    for (seed, (theme, strategy)) in (101u8..).zip(THEMES) {
        let mut runner = seeded_runner(seed);
        let strategy = any_history(strategy);
        for number in 1..=SEEDED {
            let tree = strategy.new_tree(&mut runner).unwrap();
            acts_run += tree.current().len();
            let Some(property) = judge_acts(&tree.current()) else { continue };
            let acts = shrink_history(tree, &property);
            keep_last(&property, &acts);
            panic!(
                "{theme}, history {number} violates {property}; `make keep-history NAME=…` makes \
                 it a test:\n{}",
                run_acts(&acts).story
            );
        }
    }
    assert!(acts_run > 1000, "the histories are short");
}

/// Searches `HISTORIES` histories of each theme, or only of `THEME`, from `SEED` on; prints the
/// shortest story of each violation.
#[test]
#[ignore = "`make find-histories` runs it: it reports, and fails nothing"]
fn find_histories() {
    let read = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<usize>().ok());
    let count = read("HISTORIES").unwrap_or(2000);
    let first = u8::try_from(read("SEED").unwrap_or(1)).unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    let began = std::time::Instant::now();
    let mut acts_run = 0;
    let only = std::env::var("THEME").ok();
    let asked = |theme: &str| only.as_deref().is_none_or(|only| only == theme);
    for (seed, (theme, strategy)) in (first..).zip(THEMES).filter(|(_, (theme, _))| asked(theme)) {
        let mut runner = seeded_runner(seed);
        let strategy = any_history(strategy);
        let mut found: BTreeMap<String, Vec<Vec<Act>>> = BTreeMap::new();
        for number in 1..=count {
            let tree = strategy.new_tree(&mut runner).unwrap();
            acts_run += tree.current().len();
            let Some(property) = judge_acts(&tree.current()) else { continue };
            let kept = found.entry(property.clone()).or_default();
            if kept.len() >= 4 {
                continue;
            }
            let acts = shrink_history(tree, &property);
            if kept.contains(&acts) {
                continue;
            }
            println!("── {theme}, history {number}: {property}");
            println!("{}", serde_yaml::to_string(&acts).unwrap());
            println!("{}", run_acts(&acts).story);
            keep_last(&property, &acts);
            kept.push(acts);
        }
    }
    println!("{acts_run} acts in {:?}", began.elapsed());
}

/// Writes the file that `make keep-history` takes the last history from; returns its text.
pub fn keep_last(property: &str, acts: &[Act]) -> String {
    let history = History {
        title: "What a user sees, in one sentence.".into(),
        violates: Some(property.into()),
        acts: acts.to_vec(),
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/histories");
    fs::create_dir_all(&directory).unwrap();
    let text = serde_yaml::to_string(&history).unwrap();
    fs::write(directory.join("last.yaml"), &text).unwrap();
    text
}
