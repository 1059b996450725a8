//! What is looked at again of what was imported: once in a while whether its artifact has as many
//! bytes as were written down, and what was measured since; more often what is measured while its
//! run goes on. A few versions a look, those first that are due longest.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use tracing::debug;

use super::{
    cluster::{Cluster, Error, Record},
    decide::{self, Existing, Trouble},
    system::{self, Candidate, Found, Survey, System},
};
use crate::{
    api::{ModelRegistry, names::version_name, version::Metric},
    fetch::progress::size as shown_size,
    plan::facts::version::SPEC_MAX,
};

/// How many versions a look checks again at most.
const RECHECKS: usize = 5;
/// How many seconds there are at least between two looks at a run that goes on.
const PACE_MIN: i64 = 60;

/// When what is looked at again. Forgetting it costs requests, never a wrong act.
pub struct Rechecks {
    every: i64,
    next: HashMap<String, Next>,
}

/// Of one version (by its ModelVersion's name).
struct Next {
    /// When all of it is looked at.
    all: Timestamp,
    /// When what its run measured is, where that went on the last time.
    run: Option<Timestamp>,
    /// What was found out about its bytes.
    changed: Option<String>,
}

/// What a look knows.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The API server.
    pub cluster: &'a Cluster,
    /// The ModelRegistry.
    pub registry: &'a ModelRegistry,
    /// The system.
    pub system: &'a dyn System,
    /// What there is.
    pub survey: &'a Survey,
    /// What is here, by name.
    pub existing: &'a BTreeMap<String, Existing>,
}

/// A version that is there and here.
struct Both<'a> {
    name: String,
    found: &'a Found,
    candidate: &'a Candidate,
    here: &'a Existing,
}

impl Rechecks {
    /// With nothing remembered, and so many seconds between two looks at all of a version.
    #[must_use]
    pub fn new(every: i64) -> Self {
        Self { every: every.max(1), next: HashMap::new() }
    }

    /// Looks again at what is due, and tells of every version whose bytes are others.
    ///
    /// # Errors
    /// When the API server does not do its part; inside, what is wrong with the system.
    pub async fn look(
        &mut self,
        seen: &Seen<'_>,
        problems: &mut Vec<Trouble>,
    ) -> Result<Result<(), system::Trouble>, Error> {
        let now = Timestamp::now();
        let pace = seen.registry.spec.settle_seconds().max(PACE_MIN).min(self.every);
        self.next.retain(|name, _| seen.existing.contains_key(name));
        let all = both(seen);
        for version in self.due(&all, now, pace) {
            if let Err(trouble) = self.one(seen, version, now, pace).await? {
                return Ok(Err(trouble));
            }
        }
        for version in &all {
            if let Some(message) =
                self.next.get(&version.name).and_then(|next| next.changed.clone())
            {
                let (model, number) =
                    (version.found.name.clone(), Some(version.candidate.version.clone()));
                problems.push(Trouble {
                    model,
                    version: number,
                    reason: "UpstreamChanged",
                    message,
                });
            }
        }
        Ok(Ok(()))
    }

    fn due<'a, 'b>(&mut self, all: &'b [Both<'a>], now: Timestamp, pace: i64) -> Vec<&'b Both<'a>> {
        let every = self.every;
        let mut due: Vec<(Timestamp, &Both<'_>)> = Vec::new();
        for version in all {
            // The first time at a moment of its own, so that a start does not list everything.
            let next = self.next.entry(version.name.clone()).or_insert_with(|| Next {
                all: later(now, spread(&version.name, every)),
                run: version.here.goes_on.then(|| later(now, spread(&version.name, pace))),
                changed: None,
            });
            let at = next.run.map_or(next.all, |run| run.min(next.all));
            due.extend((at <= now).then_some((at, version)));
        }
        due.sort_by_key(|(at, _)| *at);
        due.into_iter().take(RECHECKS).map(|(_, version)| version).collect()
    }

    async fn one(
        &mut self,
        seen: &Seen<'_>,
        version: &Both<'_>,
        now: Timestamp,
        pace: i64,
    ) -> Result<Result<(), system::Trouble>, Error> {
        let Some(next) = self.next.get_mut(&version.name) else { return Ok(Ok(())) };
        if next.all <= now {
            next.all = later(now, self.every);
            match size(seen.system, version).await {
                Ok(changed) => next.changed = changed,
                Err(trouble) => return Ok(Err(trouble)),
            }
        }
        next.run = next.run.map(|_| later(now, pace));
        let id = version.here.origin.as_ref().and_then(|origin| origin.id.as_deref());
        let measured = match seen.system.measured(version.candidate, id).await {
            Ok(measured) => measured,
            Err(trouble) => return Ok(Err(trouble)),
        };
        next.run =
            measured.as_ref().is_some_and(|measured| measured.goes_on).then(|| later(now, pace));
        match measured {
            Some(measured) => evaluate(seen.cluster, &version.name, &measured).await.map(Ok),
            None => Ok(Ok(())),
        }
    }
}

/// What a look sees that was imported by this ModelRegistry.
fn both<'a>(seen: &Seen<'a>) -> Vec<Both<'a>> {
    let me = seen.registry.metadata.name.as_deref().unwrap_or_default();
    let existing = seen.existing;
    let of = |found: &'a Found| {
        found.candidates.iter().filter_map(move |candidate| {
            let name = version_name(&found.name, &candidate.version);
            let here = existing.get(&name)?;
            let ours = here.origin.as_ref().is_some_and(|origin| origin.registry == me)
                && decide::same(here.origin.as_ref(), candidate);
            ours.then_some(Both { name, found, candidate, here })
        })
    };
    seen.survey.models.iter().flat_map(of).collect()
}

/// What is to be told where an artifact has not as many bytes as were written down.
async fn size(system: &dyn System, version: &Both<'_>) -> Result<Option<String>, system::Trouble> {
    let Some(want) = version.here.size.and_then(|size| u64::try_from(size).ok()) else {
        return Ok(None);
    };
    let have = system.size(version.candidate).await?;
    Ok(have.filter(|have| *have != want).map(|have| changed(have, want)))
}

fn changed(have: u64, want: u64) -> String {
    format!(
        "Its artifact has {have} bytes ({}) now, and {want} ({}) were registered: it was changed upstream. The record stays, and no pod starts with other bytes.",
        shown_size(have),
        shown_size(want)
    )
}

/// Writes down what was measured since; where others write evaluations, they are theirs.
async fn evaluate(cluster: &Cluster, name: &str, measured: &system::Measured) -> Result<(), Error> {
    let Some(Record { uid, mut spec }) = cluster.record(name).await? else { return Ok(()) };
    let listed = |field: &str| -> Vec<Metric> {
        spec.get(field)
            .cloned()
            .and_then(|list| serde_json::from_value(list).ok())
            .unwrap_or_default()
    };
    let (recorded, said) = (listed("metrics"), listed("evaluations"));
    let evaluations = decide::evaluations(&recorded, &said, &measured.metrics);
    if evaluations == said {
        return Ok(());
    }
    spec["evaluations"] = serde_json::to_value(&evaluations)
        .map_err(|source| Error::Json(name.to_owned(), source))?;
    if spec.to_string().len() > SPEC_MAX {
        debug!(
            version = name,
            "its evaluations are left out: with them it would be too large to be rolled out"
        );
        return Ok(());
    }
    cluster.evaluate(name, &uid, &evaluations).await
}

fn later(from: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(from.as_second().saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}

/// A moment within so many seconds, the same for the same name.
fn spread(name: &str, seconds: i64) -> i64 {
    let digest = crate::fetch::digest::Digest::of(name.as_bytes());
    let part = i64::from(u16::from_be_bytes([digest.0[0], digest.0[1]]));
    seconds.saturating_mul(part) / i64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Names of what is due, and when each is then looked at again.
    fn due(rechecks: &mut Rechecks, all: &[Both<'_>], now: i64) -> Vec<String> {
        let names: Vec<String> =
            rechecks.due(all, at(now), 600).iter().map(|version| version.name.clone()).collect();
        for name in &names {
            let next = rechecks.next.get_mut(name).unwrap();
            (next.all, next.run) = (
                next.all.max(later(at(now), rechecks.every)),
                next.run.map(|_| later(at(now), 600)),
            );
        }
        names
    }

    #[test]
    fn each_version_is_looked_at_once_a_day_and_more_often_while_its_run_goes_on_a_few_at_once() {
        let (found, candidate, day) = (Found::default(), Candidate::default(), 86_400);
        let (ended, goes_on) =
            (Existing::default(), Existing { goes_on: true, ..Existing::default() });
        let make = |n: usize| {
            let here = if n == 0 { &goes_on } else { &ended };
            Both { name: format!("fraud-{n}"), found: &found, candidate: &candidate, here }
        };
        let all: Vec<Both<'_>> = (0..50).map(make).collect();
        let mut rechecks = Rechecks::new(day);
        assert_eq!(due(&mut rechecks, &all, 0), [""; 0], "a start lists nothing");
        let mut seen: HashMap<String, usize> = HashMap::new();
        for minute in 1..=24 * 60 {
            let now = due(&mut rechecks, &all, minute * 60);
            assert!(now.len() <= RECHECKS);
            now.into_iter().for_each(|name| *seen.entry(name).or_default() += 1);
        }
        assert!((140..=145).contains(&seen["fraud-0"]), "every ten minutes: {}", seen["fraud-0"]);
        assert!(
            seen.len() == 50 && seen.iter().all(|(name, times)| name == "fraud-0" || *times == 1),
            "{seen:?}"
        );
        // After a night without looks, what waits longest comes first.
        let late = due(&mut rechecks, &all, 3 * day);
        assert!(
            late.len() == RECHECKS
                && !due(&mut rechecks, &all, 3 * day).iter().any(|name| late.contains(name))
        );
    }
}
