//! Deciding as tables.

use super::*;
use crate::api::{
    condition::Time,
    registry::{Backfill, ModelRule},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// Version `n` of Fraud, made at second `n`.
fn there(n: i64) -> Candidate {
    Candidate {
        version: n.to_string(),
        model: "Fraud".into(),
        there: n.to_string(),
        id: Some(format!("m-{n}")),
        time: at(n),
        fits: true,
        ..Candidate::default()
    }
}

/// What was imported of it.
fn here(candidate: &Candidate) -> (String, Existing) {
    let origin = Origin {
        registry: "mlflow".into(),
        system: "MLflow".into(),
        model: Some(candidate.model.clone()),
        version: Some(candidate.there.clone()),
        id: candidate.id.clone(),
        time: Some(Time(candidate.time)),
    };
    let existing = Existing {
        model: "fraud".into(),
        version: candidate.version.clone(),
        origin: Some(origin),
        ..Existing::default()
    };
    (format!("fraud-{}", candidate.version), existing)
}

/// A world of one rule.
#[derive(Clone)]
struct World {
    newest: i32,
    created: Timestamp,
    found: Found,
    existing: BTreeMap<String, Existing>,
    verdicts: HashMap<Which, Verdict>,
    missing: BTreeMap<String, u32>,
}

impl World {
    fn of(candidates: Vec<Candidate>) -> Self {
        let found = Found {
            name: "fraud".into(),
            upstream: "Fraud".into(),
            candidates,
            aliases: BTreeMap::new(),
        };
        Self {
            newest: 20,
            created: at(1000),
            found,
            existing: BTreeMap::new(),
            verdicts: HashMap::new(),
            missing: BTreeMap::new(),
        }
    }

    fn with(mut self, existing: impl IntoIterator<Item = (String, Existing)>) -> Self {
        self.existing.extend(existing);
        self
    }

    fn decide(&self) -> Decision {
        let spec = ModelRegistrySpec {
            models: vec![ModelRule {
                name: "fraud".into(),
                registered_model: Some("Fraud".into()),
                ..ModelRule::default()
            }],
            backfill: Some(Backfill { newest: self.newest }),
            ..ModelRegistrySpec::default()
        };
        decide(&Seen {
            registry: "mlflow",
            created: self.created,
            spec: &spec,
            found: std::slice::from_ref(&self.found),
            existing: &self.existing,
            verdicts: &self.verdicts,
            look: 3,
            missing: &self.missing,
        })
    }

    /// The versions to import, in their order.
    fn imports(&self) -> Vec<String> {
        self.decide()
            .imports
            .iter()
            .map(|(_, place)| self.found.candidates[*place].version.clone())
            .collect()
    }

    /// Reasons of problems, with their versions.
    fn problems(&self) -> Vec<String> {
        self.decide()
            .problems
            .iter()
            .map(|p| format!("{} {}", p.reason, p.version.as_deref().unwrap_or("-")))
            .collect()
    }
}

#[test]
fn the_newest_and_what_came_since_and_what_an_alias_names_are_imported_oldest_first() {
    let mut world = World::of((1..=5).map(there).collect());
    assert_eq!(world.imports(), ["1", "2", "3", "4", "5"]);
    world.newest = 2;
    assert_eq!(world.imports(), ["4", "5"]);
    world.found.aliases.insert("champion".into(), "2".into());
    assert_eq!(world.imports(), ["2", "4", "5"]);
    (world.newest, world.created) = (0, at(3));
    assert_eq!(
        world.imports(),
        ["2", "3", "4", "5"],
        "what came after the ModelRegistry always is"
    );
}

#[test]
fn what_is_here_is_not_imported_again_and_nothing_older_follows_it() {
    let all: Vec<Candidate> = (1..=5).map(there).collect();
    let mut world = World::of(all.clone()).with(all[3..].iter().map(here));
    world.newest = 2;
    assert_eq!(world.decide(), Decision::default());
    world.found.candidates.push(there(6));
    assert_eq!(world.imports(), ["6"]);
}

#[test]
fn what_has_not_the_tags_or_is_not_complete_is_not_imported() {
    let (mut no, mut not_yet) = (there(1), there(2));
    (no.fits, not_yet.waits) = (false, Some("NotReady"));
    let world = World::of(vec![no, not_yet]);
    assert_eq!(world.imports(), [] as [&str; 0]);
    assert_eq!(world.decide().waits, [("fraud".to_owned(), "2".to_owned(), "NotReady")]);
}

#[test]
fn a_number_given_again_is_a_conflict_and_never_imported() {
    let again = Candidate { time: at(50), id: Some("m-other".into()), ..there(1) };
    let world = World::of(vec![again.clone()]).with([here(&there(1))]);
    assert_eq!((world.imports(), world.problems()), (vec![], vec!["Conflict 1".to_owned()]));
    let same_second = Candidate { time: at(1), ..again };
    assert_eq!(
        World::of(vec![same_second]).with([here(&there(1))]).problems(),
        ["Conflict 1"],
        "the id tells them apart"
    );
}

#[test]
fn what_others_wrote_is_compared_once() {
    let by_hand = (
        "fraud-1".to_owned(),
        Existing { model: "fraud".into(), version: "1".into(), ..Existing::default() },
    );
    let mut world = World::of(vec![there(1)]).with([by_hand]);
    assert_eq!((world.decide().compares, world.imports()), (vec![(0, 0)], vec![]));
    let which = ("fraud".to_owned(), "1".to_owned(), at(1));
    world.verdicts.insert(which.clone(), Verdict::Same);
    assert_eq!(world.decide(), Decision::default());
    world.verdicts.insert(which, Verdict::Problem("Conflict", "other bytes".into()));
    assert_eq!(
        (world.decide().compares, world.problems()),
        (vec![], vec!["Conflict 1".to_owned()])
    );
}

#[test]
fn another_registrys_import_is_others_work_too() {
    let (name, mut existing) = here(&there(1));
    existing.origin.as_mut().unwrap().registry = "other".into();
    assert_eq!(World::of(vec![there(1)]).with([(name, existing)]).decide().compares, [(0, 0)]);
}

#[test]
fn a_name_that_another_model_has_is_told() {
    let taken = Existing { model: "fraud-1".into(), version: "2".into(), ..Existing::default() };
    let candidate = Candidate { version: "1-2".into(), ..there(1) };
    let world = World::of(vec![candidate]).with([("fraud-1-2".to_owned(), taken)]);
    assert_eq!((world.imports(), world.problems()), (vec![], vec!["Conflict 1-2".to_owned()]));
}

#[test]
fn what_is_gone_upstream_is_told_after_three_looks_and_stays() {
    let all: Vec<Candidate> = (1..=2).map(there).collect();
    let mut world = World::of(vec![all[0].clone()]).with(all.iter().map(here));
    for look in 1..=4 {
        let gone = world.decide().gone;
        assert_eq!(gone, BTreeSet::from(["fraud-2".to_owned()]));
        world.missing = count_missing(&world.missing, &gone);
        let want: &[&str] = if look < 3 { &[] } else { &["UpstreamMissing 2"] };
        assert_eq!(world.problems(), want, "look {look}");
    }
    world.found.candidates.push(all[1].clone());
    world.missing = count_missing(&world.missing, &world.decide().gone);
    assert!(world.missing.is_empty() && world.problems().is_empty(), "it came back");
}

#[test]
fn an_empty_answer_proves_nothing() {
    let mut world = World::of(Vec::new()).with([here(&there(1))]);
    assert!(world.decide().blind);
    world.missing = BTreeMap::from([("fraud-1".to_owned(), 3)]);
    assert_eq!(world.problems(), ["UpstreamMissing -"], "of the model, not of each version");
    assert!(!World::of(Vec::new()).decide().blind, "nothing was ever there");
}

#[test]
fn a_version_that_no_object_can_have_is_told() {
    let odd = Candidate { version: "1/2".into(), ..there(1) };
    assert_eq!(World::of(vec![odd]).problems(), ["Refused 1/2"]);
}

#[test]
fn what_cannot_be_imported_is_not_tried_at_each_look() {
    let mut world = World::of(vec![there(1), there(2)]);
    world.verdicts.insert(
        ("fraud".into(), "1".into(), at(1)),
        Verdict::Problem("UnsupportedSource", "dbfs".into()),
    );
    world.verdicts.insert(("fraud".into(), "2".into(), at(2)), Verdict::Passed);
    assert_eq!(
        (world.imports(), world.problems()),
        (vec![], vec!["UnsupportedSource 1".to_owned()])
    );
}

fn metrics(all: &[(&str, f64)]) -> Vec<Metric> {
    let one = |(name, value): &(&str, f64)| {
        let (name, dataset) = name
            .split_once('@')
            .map_or((*name, None), |(name, dataset)| (name, Some(dataset.to_owned())));
        Metric { name: name.into(), value: *value, dataset, time: None }
    };
    all.iter().map(one).collect()
}

#[test]
fn evaluations_are_what_is_known_by_now_and_is_not_in_the_record() {
    type Numbers = &'static [(&'static str, f64)];
    let recorded = metrics(&[("auc", 0.9), ("auc@holdout", 0.8)]);
    let cases: &[(&str, Numbers, Numbers, Numbers)] = &[
        ("nothing new", &[], &[("auc", 0.9), ("auc@holdout", 0.8)], &[]),
        ("a new name", &[], &[("auc", 0.9), ("drift", 0.1)], &[("drift", 0.1)]),
        ("another value", &[], &[("auc", 0.7)], &[("auc", 0.7)]),
        ("another dataset", &[], &[("auc@may", 0.8)], &[("auc@may", 0.8)]),
        ("a newer value", &[("drift", 0.1)], &[("drift", 0.2)], &[("drift", 0.2)]),
        ("the value of the record again", &[("auc", 0.7)], &[("auc", 0.9)], &[]),
        ("not shown any more", &[("drift", 0.1)], &[], &[("drift", 0.1)]),
        ("no number", &[], &[("a", f64::NAN), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY)], &[]),
        (
            "in order",
            &[("b", 1.0)],
            &[("c", 1.0), ("a@x", 1.0), ("a", 1.0)],
            &[("a", 1.0), ("a@x", 1.0), ("b", 1.0), ("c", 1.0)],
        ),
    ];
    for (case, said, measured, want) in cases {
        assert_eq!(
            evaluations(&recorded, &metrics(said), &metrics(measured)),
            metrics(want),
            "{case}"
        );
    }
}

#[test]
fn evaluations_have_a_bound() {
    let many: Vec<Metric> = (0..1000)
        .map(|n| Metric { name: format!("m{n:04}"), value: 1.0, dataset: None, time: None })
        .collect();
    assert_eq!(evaluations(&[], &many[500..], &many).len(), EVALUATIONS_MAX);
}

#[test]
fn what_could_not_be_read_waits_for_its_look_with_a_problem_and_holds_up_no_other() {
    let mut world = World::of((1..=2).map(there).collect());
    let later = |until| {
        Verdict::Later(Later { tries: 1, until, reason: "Unreadable", message: "no.".into() })
    };
    let which = ("fraud".to_owned(), "1".to_owned(), world.found.candidates[0].time);
    world.verdicts.insert(which.clone(), later(4));
    assert_eq!(
        (world.imports(), world.problems()),
        (vec!["2".to_owned()], vec!["Unreadable 1".to_owned()])
    );
    assert_eq!(world.decide().waits, [("fraud".to_owned(), "1".to_owned(), "Unreadable")]);
    // The world is at its third look.
    world.verdicts.insert(which, later(3));
    assert_eq!(
        (world.imports(), world.problems()),
        (vec!["1".to_owned(), "2".to_owned()], Vec::new())
    );
}
