//! Deciding: from what was seen there and what is here to what is to be imported. Pure: no I/O, no
//! clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::system::{Candidate, Found};
use crate::api::{
    ModelRegistrySpec,
    names::version_name,
    version::{Metric, Origin, VERSION},
};

/// How many looks in a row a version has to be missing in before that is told: pages of a listing
/// are no snapshot.
pub const MISSING_LOOKS: u32 = 3;
/// The most evaluations of a version; the API server takes no more.
pub const EVALUATIONS_MAX: usize = 256;

/// A ModelVersion of the namespace, as much as deciding needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Existing {
    /// Its model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The image that serves it.
    pub image: Option<String>,
    /// The digest of its artifact.
    pub digest: Option<String>,
    /// The size of its artifact.
    pub size: Option<i64>,
    /// Where it was imported from.
    pub origin: Option<Origin>,
    /// Whether its run went on when it was written down.
    pub goes_on: bool,
}

/// What was found out about a candidate that is not to be found out again at each look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another wrote the same down.
    Same,
    /// Another of its run is meant.
    Passed,
    /// It cannot be imported as it is: reason and sentence.
    Problem(&'static str, String),
    /// It could not be read: it holds up no other, and is tried again later.
    Later(Later),
}

/// When what could not be read is tried again, and why it could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// How often it was tried.
    pub tries: u32,
    /// The look at which it is tried again.
    pub until: u64,
    /// What it waits for, in CamelCase.
    pub reason: &'static str,
    /// What a person has to do.
    pub message: String,
}

/// What identifies a candidate in memory: the rule, the version, and when it was made.
pub type Which = (String, String, Timestamp);

/// What deciding knows.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The ModelRegistry's name.
    pub registry: &'a str,
    /// When it was made.
    pub created: Timestamp,
    /// Its spec.
    pub spec: &'a ModelRegistrySpec,
    /// What there is, for each rule.
    pub found: &'a [Found],
    /// What is here, by name.
    pub existing: &'a BTreeMap<String, Existing>,
    /// What was found out before.
    pub verdicts: &'a HashMap<Which, Verdict>,
    /// The number of this look.
    pub look: u64,
    /// In how many looks in a row a ModelVersion (by name) was missing there, this one included.
    pub missing: &'a BTreeMap<String, u32>,
}

/// What is to be done, and what is to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// To be described and written down, oldest first: (index of the rule, index of its candidate).
    pub imports: Vec<(usize, usize)>,
    /// Written down by others: to be described once, and compared.
    pub compares: Vec<(usize, usize)>,
    /// What waits: rule, version, for what.
    pub waits: Vec<(String, String, &'static str)>,
    /// What is in the way.
    pub problems: Vec<Trouble>,
    /// Names of ModelVersions of ours that are not there any more.
    pub gone: BTreeSet<String>,
    /// Whether nothing at all is shown although something was imported before: that proves no
    /// deletion.
    pub blind: bool,
}

/// Something in the way of a version, or of a whole model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The rule's name.
    pub model: String,
    /// The version.
    pub version: Option<String>,
    /// What it is, in CamelCase.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

/// What is to be done about what was seen.
#[must_use]
pub fn decide(seen: &Seen<'_>) -> Decision {
    let mut out = Decision::default();
    for (index, found) in seen.found.iter().enumerate() {
        let wanted = wanted(seen, found);
        for (place, candidate) in found.candidates.iter().enumerate() {
            one(seen, found, (index, place), candidate, wanted.contains(&place), &mut out);
        }
        gone(seen, found, &mut out);
    }
    let ours =
        |found: &Found| seen.existing.values().any(|e| e.model == found.name && is_ours(seen, e));
    out.blind =
        seen.found.iter().all(|found| found.candidates.is_empty()) && seen.found.iter().any(ours);
    let age = |(rule, place): &(usize, usize)| {
        seen.found.get(*rule).and_then(|f| f.candidates.get(*place)).map(|c| c.time)
    };
    out.imports.sort_by_key(age);
    out
}

fn is_ours(seen: &Seen<'_>, existing: &Existing) -> bool {
    existing.origin.as_ref().is_some_and(|origin| origin.registry == seen.registry)
}

/// Places of the candidates of a rule that are to be here: the newest, those that an alias names,
/// and all that came after the ModelRegistry.
///
/// It is decided anew each time from what there is, so that a new process, or a ModelRegistry made
/// again, decides the same.
fn wanted(seen: &Seen<'_>, found: &Found) -> BTreeSet<usize> {
    let mut by_age: Vec<usize> =
        (0..found.candidates.len()).filter(|place| found.candidates[*place].fits).collect();
    by_age.sort_by_key(|place| std::cmp::Reverse(found.candidates[*place].time));
    let newest: BTreeSet<usize> = by_age.iter().copied().take(seen.spec.backfill_limit()).collect();
    let aliased: BTreeSet<&str> = found.aliases.values().map(String::as_str).collect();
    let is_wanted = |place: &usize| {
        let candidate = &found.candidates[*place];
        newest.contains(place)
            || aliased.contains(candidate.version.as_str())
            || candidate.time >= seen.created
    };
    by_age.into_iter().filter(is_wanted).collect()
}

fn one(
    seen: &Seen<'_>,
    found: &Found,
    place: (usize, usize),
    candidate: &Candidate,
    wanted: bool,
    out: &mut Decision,
) {
    let problem = |reason, message| Trouble {
        model: found.name.clone(),
        version: Some(candidate.version.clone()),
        reason,
        message,
    };
    let name = version_name(&found.name, &candidate.version);
    match seen.existing.get(&name) {
        Some(existing)
            if (&existing.model, &existing.version) != (&found.name, &candidate.version) =>
        {
            if wanted {
                let (model, version) = (&existing.model, &existing.version);
                out.problems.push(problem(
                    "Conflict",
                    format!(
                        "Not imported: the name {name} is taken by version {version} of {model}."
                    ),
                ));
            }
        }
        Some(existing) if is_ours(seen, existing) => {
            if !same(existing.origin.as_ref(), candidate) {
                let message = format!(
                    "{} was imported from another version {} of {}, which is there no more: the number was given again. It is not imported; the record stays.",
                    name, candidate.there, candidate.model
                );
                out.problems.push(problem("Conflict", message));
            }
        }
        // Who wrote it by hand may have written the same.
        other => {
            if !wanted {
                return;
            }
            let which = (found.name.clone(), candidate.version.clone(), candidate.time);
            match (seen.verdicts.get(&which), candidate.waits) {
                (Some(Verdict::Problem(reason, message)), _) => {
                    out.problems.push(problem(reason, message.clone()))
                }
                (Some(Verdict::Same), _) if other.is_some() => {}
                (Some(Verdict::Passed), _) => {}
                (_, Some(waits)) => {
                    out.waits.push((found.name.clone(), candidate.version.clone(), waits))
                }
                (Some(Verdict::Later(later)), _) if later.until > seen.look => {
                    out.waits.push((found.name.clone(), candidate.version.clone(), later.reason));
                    out.problems.push(problem(later.reason, later.message.clone()));
                }
                _ if !plain(&candidate.version) => {
                    out.problems.push(problem(
                        "Refused",
                        "Not imported: no ModelVersion can have that version.".into(),
                    ));
                }
                _ if other.is_some() => out.compares.push(place),
                _ => out.imports.push(place),
            }
        }
    }
}

/// Whether a record is of the same version there.
pub(super) fn same(origin: Option<&Origin>, candidate: &Candidate) -> bool {
    let Some(origin) = origin else { return false };
    let time =
        origin.time.as_ref().is_none_or(|time| time.0.as_second() == candidate.time.as_second());
    let id = origin.id.as_ref().zip(candidate.id.as_ref()).is_none_or(|(a, b)| a == b);
    let model = origin.model.as_ref().is_none_or(|model| bounded_same(model, &candidate.model));
    time && id && model
}

/// A name there may be longer than a record holds.
fn bounded_same(kept: &str, whole: &str) -> bool {
    kept == whole || kept.strip_suffix('…').is_some_and(|start| whole.starts_with(start))
}

/// Whether a text can be a ModelVersion's version.
fn plain(version: &str) -> bool {
    debug_assert!(VERSION.starts_with('^'));
    let good = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        ends(part.chars().next())
            && ends(part.chars().last())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    version.len() <= 63 && version.split('.').all(good)
}

/// What was imported and is not there any more.
fn gone(seen: &Seen<'_>, found: &Found, out: &mut Decision) {
    let there: BTreeSet<&str> = found.candidates.iter().map(|c| c.version.as_str()).collect();
    let ours = seen.existing.iter().filter(|(_, e)| e.model == found.name && is_ours(seen, e));
    let missing: Vec<(&String, &Existing)> =
        ours.filter(|(_, e)| !there.contains(e.version.as_str())).collect();
    out.gone.extend(missing.iter().map(|(name, _)| (*name).clone()));
    let told: Vec<&Existing> = missing
        .iter()
        .filter(|(name, _)| seen.missing.get(*name).is_some_and(|n| *n >= MISSING_LOOKS))
        .map(|(_, e)| *e)
        .collect();
    if told.is_empty() {
        return;
    }
    if found.candidates.is_empty() {
        let message = format!(
            "{} is not shown any more: it was deleted or renamed, or this account may not read it. What was imported stays; if it was renamed, change the rule.",
            crate::fetch::name::escaped(&found.upstream)
        );
        out.problems.push(Trouble {
            model: found.name.clone(),
            version: None,
            reason: "UpstreamMissing",
            message,
        });
        return;
    }
    out.problems.extend(told.into_iter().map(|e| Trouble {
        model: found.name.clone(),
        version: Some(e.version.clone()),
        reason: "UpstreamMissing",
        message: "It is not there any more. The record stays; whether its bytes are still there is checked when a pod starts.".into(),
    }));
}

/// Counts anew in how many looks in a row what is gone was missing.
#[must_use]
pub fn count_missing(
    before: &BTreeMap<String, u32>,
    gone: &BTreeSet<String>,
) -> BTreeMap<String, u32> {
    gone.iter()
        .map(|name| (name.clone(), before.get(name).copied().unwrap_or_default().saturating_add(1)))
        .collect()
}

/// The evaluations of a version: the numbers that are known by now and are not those of its record,
/// by name and dataset. What was written down before and is not shown any more stays: an empty
/// answer proves nothing.
#[must_use]
pub fn evaluations(recorded: &[Metric], said: &[Metric], measured: &[Metric]) -> Vec<Metric> {
    let key = |m: &Metric| (m.name.clone(), m.dataset.clone());
    let values: HashMap<_, f64> = recorded.iter().map(|m| (key(m), m.value)).collect();
    let mut all: BTreeMap<_, Metric> = said.iter().map(|m| (key(m), m.clone())).collect();
    for new in measured.iter().filter(|m| m.value.is_finite()) {
        // It may have returned to what the record says.
        if values.get(&key(new)) == Some(&new.value) {
            all.remove(&key(new));
        } else {
            all.insert(key(new), new.clone());
        }
    }
    all.into_values().take(EVALUATIONS_MAX).collect()
}

#[cfg(test)]
mod tests;
