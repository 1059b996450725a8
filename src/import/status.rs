//! What is said about a ModelRegistry by its importer. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    decide::{Decision, Existing, Trouble},
    system,
};
use crate::api::{
    ModelRegistryStatus,
    condition::{Condition, Time, build_condition_with_status, truncate_text},
    reason::Reason,
    registry::{AliasStatus, ModelStatus, NAMED_MAX, PROBLEMS_MAX, PendingVersion, Problem},
};

/// How long a status may be old where nothing changed, in seconds.
const REFRESH: i64 = 300;
/// The longest sentence of a problem, in bytes.
const SENTENCE_MAX: usize = 512;

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The ModelRegistry's name.
    pub registry: &'a str,
    /// Its generation.
    pub generation: i64,
    /// What was last said.
    pub old: &'a ModelRegistryStatus,
    /// What is here, by name.
    pub existing: &'a BTreeMap<String, Existing>,
    /// What the last look came to.
    pub look: &'a Look,
    /// Now.
    pub now: Timestamp,
}

/// What a look came to.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What there is, where it could be seen.
    pub survey: Option<system::Survey>,
    /// What was decided, and what came of it.
    pub decision: Decision,
    /// What was in the way of it all.
    pub trouble: Option<system::Trouble>,
}

/// The status to write; None where it is written already, and not old.
#[must_use]
pub fn status(told: &Told<'_>) -> Option<ModelRegistryStatus> {
    let new = ModelRegistryStatus {
        observed_generation: Some(told.generation),
        conditions: conditions(told),
        last_poll_time: told.old.last_poll_time.clone(),
        server_version: told
            .look
            .survey
            .as_ref()
            .map_or_else(|| told.old.server_version.clone(), |s| s.server_version.clone()),
        imported: Some(count(told.existing.values().filter(|e| ours(told, e)).count())),
        models: models(told),
        problems: problems(told),
    };
    let fresh = told
        .old
        .last_poll_time
        .as_ref()
        .is_some_and(|time| told.now.as_second() - time.0.as_second() < REFRESH);
    // A failure is no look; what it left in place is not refreshed.
    let seen = told.look.trouble.is_none();
    if new == *told.old && (fresh || !seen) {
        return None;
    }
    Some(ModelRegistryStatus {
        last_poll_time: if seen { Some(Time(told.now)) } else { new.last_poll_time.clone() },
        ..new
    })
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn ours(told: &Told<'_>, existing: &Existing) -> bool {
    existing.origin.as_ref().is_some_and(|origin| origin.registry == told.registry)
}

fn conditions(told: &Told<'_>) -> Vec<Condition> {
    let make = |kind, status, reason: Reason, message: &str| {
        build_condition_with_status(
            &told.old.conditions,
            kind,
            status,
            reason,
            message,
            told.generation,
            told.now,
        )
    };
    let failed = |reason: Reason, message: &str, other| {
        vec![make("Ready", "False", reason, message), make(other, "True", reason, message)]
    };
    if let Some(trouble) = &told.look.trouble {
        let other = if trouble.kind.passes() { "Reconciling" } else { "Stalled" };
        return failed(trouble.kind.reason(), &trouble.sentence, other);
    }
    let decision = &told.look.decision;
    if decision.blind {
        let sentence = "Nothing of what was imported is shown any more, which is also how a registry answers an account without rights: grant it READ, or correct the rules. Every record stays.";
        return failed(Reason::Forbidden, sentence, "Stalled");
    }
    let conflicts: Vec<&Trouble> =
        decision.problems.iter().filter(|p| p.reason == "Conflict").collect();
    if let Some(first) = conflicts.first() {
        let version = first.version.as_deref().unwrap_or_default();
        let sentence = format!(
            "{} of what is registered conflicts with what is here; the first is {} {version}: {}",
            conflicts.len(),
            first.model,
            first.message
        );
        return failed(Reason::Conflicts, &sentence, "Stalled");
    }
    let imported = told.existing.values().filter(|e| ours(told, e)).count();
    let noun = if imported == 1 { "version is" } else { "versions are" };
    let also = match (decision.waits.len(), decision.problems.len()) {
        (0, 0) => String::new(),
        (waits, 0) => format!(" {waits} not yet (status.models)."),
        (0, problems) => format!(" {problems} with problems (status.problems)."),
        (waits, problems) => {
            format!(" {waits} not yet (status.models), {problems} with problems (status.problems).")
        }
    };
    vec![make("Ready", "True", Reason::Polled, &format!("{imported} {noun} imported.{also}"))]
}

fn models(told: &Told<'_>) -> Vec<ModelStatus> {
    // What was seen stays said while nothing is seen.
    let Some(survey) = told.look.survey.as_ref() else { return told.old.models.clone() };
    let one = |found: &system::Found| {
        let here: Vec<&Existing> =
            told.existing.values().filter(|e| e.model == found.name && ours(told, e)).collect();
        let newest = here
            .iter()
            .max_by_key(|e| e.origin.as_ref().and_then(|o| o.time.as_ref()).map(|t| t.0));
        let waits = told.look.decision.waits.iter().filter(|(model, ..)| *model == found.name);
        let pending = waits.map(|(_, version, reason)| PendingVersion {
            version: truncate_text(version, 63),
            reason: (*reason).into(),
        });
        ModelStatus {
            name: found.name.clone(),
            upstream: Some(truncate_text(&found.upstream, 1024)),
            imported: count(here.len()),
            newest: newest.map(|e| e.version.clone()),
            pending: pending.take(NAMED_MAX).collect(),
            aliases: aliases(told, found),
        }
    };
    survey.models.iter().map(one).collect()
}

fn aliases(told: &Told<'_>, found: &system::Found) -> BTreeMap<String, AliasStatus> {
    let old = told.old.models.iter().find(|m| m.name == found.name).map(|m| &m.aliases);
    // An empty answer proves nothing: the last that was seen is kept.
    if found.candidates.is_empty() {
        return old.cloned().unwrap_or_default();
    }
    let since = |alias: &str, version: &str| {
        let same = old.and_then(|old| old.get(alias)).filter(|was| was.version == version);
        same.map_or(Time(told.now), |was| was.since.clone())
    };
    let each = found.aliases.iter().take(NAMED_MAX);
    each.map(|(alias, version)| {
        (
            alias.clone(),
            AliasStatus { version: truncate_text(version, 63), since: since(alias, version) },
        )
    })
    .collect()
}

fn problems(told: &Told<'_>) -> Vec<Problem> {
    if told.look.survey.is_none() {
        return told.old.problems.clone();
    }
    let one = |trouble: &Trouble| {
        let was = told.old.problems.iter().find(|p| {
            p.model == trouble.model && p.version == trouble.version && p.reason == trouble.reason
        });
        Problem {
            model: trouble.model.clone(),
            version: trouble.version.as_deref().map(|v| truncate_text(v, 63)),
            reason: trouble.reason.into(),
            message: truncate_text(&trouble.message, SENTENCE_MAX),
            since: was.map_or(Time(told.now), |was| was.since.clone()),
        }
    };
    let mut all: Vec<Problem> = told.look.decision.problems.iter().map(one).collect();
    all.sort_by(|a, b| (b.since.0, &a.model, &a.version).cmp(&(a.since.0, &b.model, &b.version)));
    all.truncate(PROBLEMS_MAX);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::system::{Found, Survey};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn survey(aliases: &[(&str, &str)], candidates: usize) -> Option<Survey> {
        let aliases = aliases.iter().map(|(a, v)| ((*a).to_owned(), (*v).to_owned())).collect();
        let candidates = (0..candidates)
            .map(|n| system::Candidate { version: n.to_string(), ..system::Candidate::default() })
            .collect();
        let found = Found { name: "fraud".into(), upstream: "Fraud".into(), candidates, aliases };
        Some(Survey { server_version: Some("3.17.2".into()), models: vec![found] })
    }

    fn next(old: &ModelRegistryStatus, look: &Look, now: i64) -> Option<ModelRegistryStatus> {
        status(&Told {
            registry: "mlflow",
            generation: 1,
            old,
            existing: &BTreeMap::new(),
            look,
            now: at(now),
        })
    }

    fn ready(status: &ModelRegistryStatus) -> (String, String) {
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        (ready.status.clone(), ready.reason.clone())
    }

    #[test]
    fn a_status_is_written_when_it_says_something_new_and_else_every_five_minutes() {
        let look = Look { survey: survey(&[("champion", "1")], 2), ..Look::default() };
        let first = next(&ModelRegistryStatus::default(), &look, 0).unwrap();
        assert_eq!(ready(&first), ("True".into(), "Polled".into()));
        assert_eq!(next(&first, &look, 60), None);
        assert_eq!(next(&first, &look, 300).unwrap().last_poll_time, Some(Time(at(300))));
        let moved = Look { survey: survey(&[("champion", "0")], 2), ..Look::default() };
        let second = next(&first, &moved, 60).unwrap();
        assert_eq!(
            second.models[0].aliases["champion"],
            AliasStatus { version: "0".into(), since: Time(at(60)) }
        );
        assert_eq!(first.models[0].aliases["champion"].since, Time(at(0)));
    }

    #[test]
    fn trouble_is_told_once_and_what_was_seen_stays_said() {
        let look = Look { survey: survey(&[("champion", "1")], 2), ..Look::default() };
        let first = next(&ModelRegistryStatus::default(), &look, 0).unwrap();
        let trouble =
            |kind| Look { trouble: Some(system::Trouble::new(kind, "no.")), ..Look::default() };
        let down = next(&first, &trouble(system::Kind::Unreachable), 60).unwrap();
        assert_eq!(
            (ready(&down), &down.models),
            (("False".into(), "Unreachable".into()), &first.models)
        );
        assert!(
            down.conditions.iter().any(|c| c.type_ == "Reconciling")
                && down.last_poll_time == Some(Time(at(0)))
        );
        assert_eq!(next(&down, &trouble(system::Kind::Unreachable), 6000), None);
        let refused = next(&first, &trouble(system::Kind::Unauthorized), 60).unwrap();
        assert!(refused.conditions.iter().any(|c| c.type_ == "Stalled"));
    }

    #[test]
    fn aliases_that_vanish_in_an_empty_answer_are_kept() {
        let first = next(
            &ModelRegistryStatus::default(),
            &Look { survey: survey(&[("champion", "1")], 2), ..Look::default() },
            0,
        )
        .unwrap();
        let mut blind = Look { survey: survey(&[], 0), ..Look::default() };
        blind.decision.blind = true;
        let second = next(&first, &blind, 60).unwrap();
        assert_eq!(
            (ready(&second), &second.models[0].aliases),
            (("False".into(), "Forbidden".into()), &first.models[0].aliases)
        );
    }

    #[test]
    fn a_conflict_stalls_and_other_problems_are_told_beside() {
        let mut look = Look { survey: survey(&[], 2), ..Look::default() };
        let problem = |reason| Trouble {
            model: "fraud".into(),
            version: Some("1".into()),
            reason,
            message: "m.".into(),
        };
        look.decision.problems = vec![problem("UpstreamMissing")];
        let first = next(&ModelRegistryStatus::default(), &look, 0).unwrap();
        assert_eq!((ready(&first).0.as_str(), first.problems.len()), ("True", 1));
        look.decision.problems.push(problem("Conflict"));
        let second = next(&first, &look, 60).unwrap();
        assert_eq!(ready(&second), ("False".into(), "Conflicts".into()));
        assert_eq!(second.problems[1].since, Time(at(0)), "the older problem keeps its time");
    }
}
