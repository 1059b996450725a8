//! The verbs of a RolloutRequest, one function each: the decision, and the sentence that answers.
//! `Done` means that the decision is recorded, not that it is carried out.

use super::{
    Decided, Decision, has_room_for, make_decision,
    rollout::{Cause, NewRollout, Target, Unready, make_body, make_target, prepare_desired},
};
use crate::{
    api::{
        ModelRolloutSpec, RolloutRequestStatus,
        condition::{MESSAGE_MAX, build_condition, truncate_text},
        reason::Reason,
        request::{RequestResult, Verb},
        rollout::{DecidedBy, DecisionVerb, Direction, Rejection, RequestRef, Scope, Trigger},
    },
    plan::{
        action::{Action, Lookup},
        facts::{
            Facts,
            history::{DecisionLabel, History, is_kept, serves_the_same},
            ownership::Ownership,
        },
        observed::Request,
    },
};

/// An answer: the result, a sentence, and the rollout that was made or changed.
struct Answer {
    result: RequestResult,
    message: String,
    rollout: Option<i64>,
}

impl Answer {
    fn refused(message: impl Into<String>) -> Self {
        Self { result: RequestResult::Refused, message: message.into(), rollout: None }
    }

    fn nothing(message: impl Into<String>) -> Self {
        Self { result: RequestResult::NothingToDo, message: message.into(), rollout: None }
    }

    fn done(message: impl Into<String>, rollout: i64) -> Self {
        Self { result: RequestResult::Done, message: message.into(), rollout: Some(rollout) }
    }
}

/// The reason why a request cannot be carried out in this pass.
enum Wait {
    /// It is answered now.
    Answer(Answer),
    /// Something has to be read live first.
    Lookup(Lookup),
}

impl From<Answer> for Wait {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl From<Lookup> for Wait {
    fn from(lookup: Lookup) -> Self {
        Self::Lookup(lookup)
    }
}

type Reply = Result<Answer, Wait>;

/// Answers requests in order, up to the first that decides something.
pub fn answer_requests(facts: &Facts<'_>, decided: &mut Decided) {
    for request in sort_unanswered(&facts.observed.requests) {
        if let Some(rollout) = facts.history.rollout_for_request(&request.uid) {
            let message =
                format!("{} is recorded in rollout {rollout}.", request.spec.verb.display_name());
            push_answer(facts, request, Answer::done(message, rollout), decided);
            continue;
        }
        let answer = match carry_out(facts, request, decided) {
            Ok(answer) | Err(Wait::Answer(answer)) => answer,
            Err(Wait::Lookup(lookup)) => return decided.lookups.push(lookup),
        };
        push_answer(facts, request, answer, decided);
        if decided.decision.is_some() {
            return;
        }
    }
}

/// Requests without an answer, in order of creation time, then resourceVersion: names are random,
/// and times have seconds.
#[must_use]
pub fn sort_unanswered(requests: &[Request]) -> Vec<&Request> {
    let unanswered = |r: &&Request| r.status.as_ref().and_then(|s| s.result).is_none();
    let mut open: Vec<_> = requests.iter().filter(unanswered).collect();
    open.sort_by_key(|r| {
        (r.created, r.resource_version.parse::<u64>().unwrap_or(u64::MAX), r.name.clone())
    });
    open
}

fn push_answer(facts: &Facts<'_>, request: &Request, answer: Answer, decided: &mut Decided) {
    let status = make_status(request, answer.result, &answer.message, answer.rollout, facts.now);
    let (name, status) = (request.name.clone(), Box::new(status));
    decided.answers.push(Action::AnswerRequest { name, status });
}

/// The status that answers a request.
#[must_use]
pub fn make_status(
    request: &Request,
    result: RequestResult,
    message: &str,
    rollout: Option<i64>,
    now: jiff::Timestamp,
) -> RolloutRequestStatus {
    let reason = match result {
        RequestResult::Done => Reason::Done,
        RequestResult::Refused => Reason::Refused,
        RequestResult::NothingToDo => Reason::NothingToDo,
    };
    let handled = build_condition(&[], "Handled", true, reason, message, request.generation, now);
    RolloutRequestStatus {
        observed_generation: Some(request.generation),
        conditions: vec![handled],
        result: Some(result),
        message: Some(truncate_text(message, MESSAGE_MAX)),
        rollout,
    }
}

fn carry_out(facts: &Facts<'_>, request: &Request, decided: &mut Decided) -> Reply {
    check_decision(facts, request)?;
    if facts.missing.is_some() && request.spec.verb != Verb::Retry {
        return Ok(Answer::refused(
            "Records of this ModelDeployment are missing: restore them, or ask for a Retry to roll \
             out what the spec names without them.",
        ));
    }
    if let Some(Ownership::OwnedByOther(why)) = facts.main_track().map(|t| &t.ownership) {
        let name = &facts.observed.name;
        return Ok(Answer::refused(format!(
            "Deployment {name} belongs to something else ({why}): delete or rename it, then ask \
             again."
        )));
    }
    match request.spec.verb {
        Verb::Undo => answer_undo(facts, request, decided),
        Verb::Abort => answer_abort(facts, request, decided),
        Verb::Retry => answer_retry(facts, request, decided),
        Verb::Pause => answer_pause(facts, request, decided),
        Verb::Resume => answer_resume(facts, request, decided),
        Verb::Restart => answer_restart(facts, request, decided),
        Verb::Unknown => Ok(Answer::refused(
            "This operator does not know the verb: it is older than the CRDs. Upgrade it, then ask \
             again.",
        )),
    }
}

/// Formats the newest decision as `<rollout>.<decisions>`, like status.decision; "0" before the
/// first.
#[must_use]
pub fn describe_decision(history: &History, missing: Option<DecisionLabel>) -> String {
    let newest = missing.map(DecisionLabel::decision_numbers).or_else(|| history.newest_decision());
    newest.map_or("0".into(), |(rollout, decisions)| format!("{rollout}.{decisions}"))
}

/// A decision as a request names it: "12" is "12.0".
fn parse_decision(value: &str) -> Option<(i64, usize)> {
    let (rollout, decisions) = value.split_once('.').unwrap_or((value, "0"));
    Some((rollout.parse().ok()?, decisions.parse().ok()?))
}

/// The guard of every verb: nothing was decided since the person looked. A request that a backup or
/// Git brings back names an old decision.
fn check_decision(facts: &Facts<'_>, request: &Request) -> Result<(), Wait> {
    let newest = describe_decision(&facts.history, facts.missing);
    let (asked, now) = (parse_decision(&request.spec.if_decision), parse_decision(&newest));
    if asked == now {
        return Ok(());
    }
    let looked_up = facts.observed.memory.looked_up.contains(&Lookup::Records);
    if asked > now && !looked_up && facts.missing.is_none() {
        return Err(Wait::Lookup(Lookup::Records));
    }
    let message = format!(
        "The newest decision is {newest}, and the request was made when it was {}: look again, \
         then ask with ifDecision: \"{newest}\".",
        request.spec.if_decision
    );
    Err(Answer::refused(message).into())
}

fn decided_by(facts: &Facts<'_>, request: &Request) -> DecidedBy {
    let name = request.spec.requested_by.clone();
    DecidedBy {
        verified: facts.observed.memory.requesters_verified && name.is_some(),
        name: name.unwrap_or_else(|| "unknown".into()),
        reason: request.spec.reason.as_ref().map(|r| truncate_text(r, MESSAGE_MAX)),
        request: Some(RequestRef { name: request.name.clone(), uid: request.uid.clone() }),
    }
}

fn answer_undo(facts: &Facts<'_>, request: &Request, decided: &mut Decided) -> Reply {
    let target = if let Some(number) = request.spec.to_rollout {
        find_named_rollout(facts, number)?
    } else if let Some(version) = &request.spec.to_version {
        find_named_version(facts, version)?
    } else {
        facts.find_rollback_target()?.ok_or_else(|| {
            Answer::refused(
                "There is no earlier rollout to go back to: none that served something else is \
                 kept and may serve.",
            )
        })?
    };
    Ok(go_back(facts, request, target, Trigger::Undo, decided))
}

/// The rollout that `toRollout` names, if it may be gone back to.
fn find_named_rollout<'a>(facts: &'a Facts<'_>, number: i64) -> Result<&'a ModelRolloutSpec, Wait> {
    let Some(target) = facts.history.get(number) else {
        return Err(Wait::Answer(Answer::refused(format!(
            "There is no rollout {number} of this ModelDeployment: `kubectl get mro` lists them."
        ))));
    };
    if let Some(newest) = facts.history.newest().filter(|r| serves_the_same(r, target)) {
        return Err(Wait::Answer(Answer::nothing(format!(
            "Rollout {number} is what the newest rollout {} already.",
            if newest.is_open() { "rolls out" } else { "serves" }
        ))));
    }
    if !target.is_promoted() {
        return Err(Wait::Answer(Answer::refused(format!(
            "Rollout {number} never served: only a rollout that served can be gone back to."
        ))));
    }
    check_eligibility(facts, target)?;
    Ok(target)
}

/// The newest promoted rollout of the version that `toVersion` names.
fn find_named_version<'a>(
    facts: &'a Facts<'_>,
    version: &str,
) -> Result<&'a ModelRolloutSpec, Wait> {
    let served = || {
        let records = facts.history.records().rev();
        records.filter(|r| r.version == version && r.is_promoted())
    };
    let is_eligible =
        |r: &&ModelRolloutSpec| facts.history.explain_ineligibility(facts.observed, r).is_none();
    let Some(target) = served().find(is_eligible).or_else(|| served().next()) else {
        return Err(Wait::Answer(Answer::refused(format!(
            "Version {version} never served here: only a version that served can be gone back to."
        ))));
    };
    if let Some(newest) = facts.history.newest().filter(|newest| newest.version == version) {
        let what = if newest.is_open() { "rolls out" } else { "serves" };
        return Err(Wait::Answer(Answer::nothing(format!(
            "The newest rollout {what} version {version} already: to go back to an earlier rollout \
             of that version, name it with toRollout."
        ))));
    }
    check_eligibility(facts, target)?;
    Ok(target)
}

fn check_eligibility(facts: &Facts<'_>, target: &ModelRolloutSpec) -> Result<(), Wait> {
    facts.require_templates(!is_kept(facts.observed, target))?;
    let serves = facts.history.serving().is_some_and(|s| s.number == target.number);
    let why = facts.history.explain_ineligibility(facts.observed, target).filter(|_| !serves);
    let Some(why) = why else { return Ok(()) };
    let retry = match facts.history.find_rejection(target) {
        Some(_) => " A Retry returns to it, where the spec names it.",
        None => "",
    };
    let message = format!("Rollout {} cannot be gone back to: {why}.{retry}", target.number);
    Err(Wait::Answer(Answer::refused(message)))
}

fn go_back(
    facts: &Facts<'_>,
    request: &Request,
    record: &ModelRolloutSpec,
    trigger: Trigger,
    decided: &mut Decided,
) -> Answer {
    let target = Target::of_record(facts, record);
    let new = NewRollout::go_back(facts, target, trigger, decided_by(facts, request));
    let what = describe_rejection(facts.history.newest(), new.record.rejects.as_ref());
    let next = warn_of_next(facts, record);
    let message = format!(
        "Recorded as rollout {}: going back to version {} (rollout {}){what}.{next}",
        new.record.number, record.version, record.number
    );
    let number = new.record.number;
    decided.decide_rollout(new);
    Answer::done(message, number)
}

/// Warns that the spec names a version that is neither left nor rejected: it replaces the rollback
/// target as soon as it can be served.
fn warn_of_next(facts: &Facts<'_>, target: &ModelRolloutSpec) -> String {
    let named = &facts.wanted.spec.version;
    let is_left = facts.history.newest().is_some_and(|left| left.version == *named);
    let desired = facts.desired.as_ref();
    let is_rejected = desired.is_ok_and(|d| facts.history.find_rejection(d).is_some());
    if is_left || is_rejected || target.version == *named {
        return String::new();
    }
    format!(
        " The spec names version {named}, which nobody rejected: it is rolled out as soon as it \
         can be, unless the spec names version {} first.",
        target.version
    )
}

fn describe_rejection(left: Option<&ModelRolloutSpec>, rejects: Option<&Rejection>) -> String {
    let version = left.map(|r| r.version.as_str()).unwrap_or_default();
    match rejects.map(|r| (r.scope, r.rollout)) {
        Some((Scope::Version, _)) => {
            format!("; version {version} is not served again until a Retry")
        }
        Some((_, rollout)) => format!(
            "; the template of rollout {rollout} is not served again until a Retry, and version \
             {version} with another template can be"
        ),
        None => String::new(),
    }
}

fn answer_abort(facts: &Facts<'_>, request: &Request, decided: &mut Decided) -> Reply {
    let Some(open) = facts.history.in_progress() else {
        return Ok(Answer::nothing(
            "No rollout is in progress: an Undo goes back from one that is complete.",
        ));
    };
    if open.goes_back() {
        let left = facts.history.list_rejections().last().map(|(r, _)| r.rollout);
        let left = left.and_then(|number| facts.history.get(number));
        let hint = left.map(|r| {
            format!(" A Retry returns to version {}, where the spec names it.", r.version)
        });
        return Ok(Answer::refused(format!(
            "Rollout {} goes back already.{}",
            open.number,
            hint.unwrap_or_default()
        )));
    }
    match facts.find_rollback_target()? {
        Some(target) => Ok(go_back(facts, request, target, Trigger::Abort, decided)),
        None => Ok(Answer::refused(
            "There is nothing to go back to: no earlier rollout served and may serve.",
        )),
    }
}

fn answer_retry(facts: &Facts<'_>, request: &Request, decided: &mut Decided) -> Reply {
    if facts.observed.memory.crds_older {
        return Ok(Answer::refused(
            "The CRDs are older than the operator, and nothing new is rolled out: apply the CRDs \
             of this release, then ask again.",
        ));
    }
    let desired = match &facts.desired {
        Ok(desired) => desired,
        Err(problem) => return Ok(Answer::refused(problem.as_sentence())),
    };
    if facts.history.find_rejection(desired).is_none() && facts.missing.is_none() {
        return Ok(Answer::nothing(format!("Version {} is not rejected.", desired.version)));
    }
    let target = match prepare_desired(facts) {
        Ok(target) => target,
        Err(Unready::Problem(problem)) => return Ok(Answer::refused(problem.as_sentence())),
        Err(Unready::Lookup(lookup)) => return Err(Wait::Lookup(lookup)),
    };
    let cause = Cause::new(Trigger::Retry, Direction::Forward, decided_by(facts, request));
    let new = NewRollout::new(facts, target, cause);
    let paused = match facts.should_pause(&facts.history) {
        true if facts.wanted.spec.paused => " It is paused: it begins once spec.paused is false.",
        true => " It is paused: it begins after a Resume.",
        false => "",
    };
    let number = new.record.number;
    let message = format!(
        "Recorded as rollout {number}: rolling out version {} again.{paused}",
        desired.version
    );
    decided.decide_rollout(new);
    Ok(Answer::done(message, number))
}

fn answer_pause(facts: &Facts<'_>, request: &Request, decided: &mut Decided) -> Reply {
    if facts.history.standing_pause().is_some() {
        return Ok(Answer::nothing("It is paused already."));
    }
    let message = if facts.history.is_going_back() {
        "Paused: the rollout in progress goes back, and is carried out first; the next one waits \
         for a Resume."
    } else {
        "Paused: the rollout in progress, or the next one, waits for a Resume."
    };
    Ok(append_decision(facts, request, DecisionVerb::Pause, message, decided))
}

fn answer_resume(facts: &Facts<'_>, request: &Request, decided: &mut Decided) -> Reply {
    let by_spec = facts.wanted.spec.paused;
    if facts.history.standing_pause().is_none() {
        return Ok(if by_spec {
            Answer::refused("spec.paused pauses it, not a request: set spec.paused to false.")
        } else {
            Answer::nothing("It is not paused.")
        });
    }
    let message = if by_spec {
        "Resumed, but spec.paused still pauses it: set spec.paused to false."
    } else {
        "Resumed."
    };
    Ok(append_decision(facts, request, DecisionVerb::Resume, message, decided))
}

fn append_decision(
    facts: &Facts<'_>,
    request: &Request,
    verb: DecisionVerb,
    message: &str,
    decided: &mut Decided,
) -> Answer {
    let Some(latest) = facts.history.latest() else {
        return Answer::refused("There is no rollout yet to pause: set spec.paused.");
    };
    if !has_room_for(facts, verb) {
        return Answer::refused(
            "The record of this rollout holds no more pauses: set spec.paused.",
        );
    }
    let number = latest.number;
    let decision = make_decision(facts, verb, decided_by(facts, request));
    decided.decision = Some(Decision::Append(decision));
    Answer::done(message, number)
}

fn answer_restart(facts: &Facts<'_>, request: &Request, decided: &mut Decided) -> Reply {
    let Some(newest) = facts.history.newest() else {
        return Ok(Answer::refused("There is no rollout yet to restart."));
    };
    if facts.should_pause(&facts.history) {
        return Ok(Answer::refused("It is paused: resume it, then restart."));
    }
    if let Some(sentence) = facts.explain_no_restart(newest) {
        return Ok(Answer::refused(sentence));
    }
    let is_lost = !is_kept(facts.observed, newest);
    facts.require_templates(is_lost)?;
    let target = if request.spec.rerender == Some(true) {
        render_again(facts, newest)?
    } else if is_lost {
        return Ok(Answer::refused(
            "The stored revision of what serves is lost: ask with rerender: true, or name another \
             version.",
        ));
    } else {
        Target::of_record(facts, newest)
    };
    let target = target.restarted(Some(facts.now.to_string()));
    let new = NewRollout::restart(facts, target, decided_by(facts, request));
    let number = new.record.number;
    let message =
        format!("Recorded as rollout {number}: restarting the pods of version {}.", newest.version);
    decided.decide_rollout(new);
    Ok(Answer::done(message, number))
}

/// Renders the newest revision again.
fn render_again(facts: &Facts<'_>, newest: &ModelRolloutSpec) -> Result<Target, Wait> {
    let desired = match &facts.desired {
        Ok(desired) if desired.revision_hash == newest.revision_hash => desired,
        _ => {
            return Err(Answer::refused(
                "To render again, the spec has to name what serves, and its ModelVersion has to be \
                 there.",
            )
            .into());
        }
    };
    let body =
        make_body(facts, desired).map_err(|problem| Answer::refused(problem.as_sentence()))?;
    Ok(make_target(facts, desired, body, 2))
}

#[cfg(test)]
mod tests;
