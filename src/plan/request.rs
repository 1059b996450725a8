//! The verbs of a RolloutRequest, one function each: what is decided, and the sentence that
//! answers.

use super::{action::Action, decide, draft::Draft, observed::Request};
use crate::api::{
    ModelRolloutSpec, RolloutRequestStatus,
    condition::condition,
    request::{RequestResult, Verb},
    rollout::{self, DecidedBy, DecisionVerb, Outcome, RequestRef, Trigger},
};

/// An answer: how, in a sentence, and the rollout that was made or changed.
struct Answer {
    result: RequestResult,
    message: String,
    rollout: Option<i64>,
}

fn refused(message: impl Into<String>) -> Answer {
    Answer { result: RequestResult::Refused, message: message.into(), rollout: None }
}

fn nothing(message: impl Into<String>) -> Answer {
    Answer { result: RequestResult::NothingToDo, message: message.into(), rollout: None }
}

fn done(message: impl Into<String>, rollout: i64) -> Answer {
    Answer { result: RequestResult::Done, message: message.into(), rollout: Some(rollout) }
}

/// Answers requests in order, up to the first that decides something; true when one did.
pub fn answer(draft: &mut Draft<'_>) -> bool {
    for request in unanswered(&draft.seen.requests) {
        if let Some(rollout) = draft.history.handled(&request.uid) {
            let message = format!("{} is recorded in rollout {rollout}.", request.spec.verb.word());
            say(draft, request, done(message, rollout));
            continue;
        }
        let answer = carry_out(draft, request);
        let decided = answer.result == RequestResult::Done;
        say(draft, request, answer);
        if decided {
            return true;
        }
    }
    false
}

/// Requests without an answer, in order of creation time, then resourceVersion: names are random,
/// and times have seconds.
#[must_use]
pub fn unanswered(requests: &[Request]) -> Vec<&Request> {
    let mut open: Vec<_> =
        requests.iter().filter(|r| r.status.as_ref().and_then(|s| s.result).is_none()).collect();
    open.sort_by_key(|r| {
        (r.created, r.resource_version.parse::<u64>().unwrap_or(u64::MAX), r.name.clone())
    });
    open
}

fn say(draft: &mut Draft<'_>, request: &Request, answer: Answer) {
    let status = status(request, answer.result, &answer.message, answer.rollout, draft.now);
    draft
        .after
        .push(Action::AnswerRequest { name: request.name.clone(), status: Box::new(status) });
}

/// The status that answers a request.
#[must_use]
pub fn status(
    request: &Request,
    result: RequestResult,
    message: &str,
    rollout: Option<i64>,
    now: jiff::Timestamp,
) -> RolloutRequestStatus {
    let reason = match result {
        RequestResult::Done => "Done",
        RequestResult::Refused => "Refused",
        RequestResult::NothingToDo => "NothingToDo",
    };
    RolloutRequestStatus {
        observed_generation: Some(request.generation),
        conditions: vec![condition(&[], "Handled", true, reason, message, request.generation, now)],
        result: Some(result),
        message: Some(crate::api::condition::bounded(message, crate::api::condition::MESSAGE_MAX)),
        rollout,
    }
}

fn carry_out(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let newest = draft.history.number();
    if request.spec.if_rollout != newest {
        return refused(format!(
            "The newest rollout is {newest}, not {}, which the request saw: look again, then ask with ifRollout: {newest}.",
            request.spec.if_rollout
        ));
    }
    match request.spec.verb {
        Verb::Undo => undo(draft, request),
        Verb::Abort => abort(draft, request),
        Verb::Retry => retry(draft, request),
        Verb::Pause => pause(draft, request),
        Verb::Resume => resume(draft, request),
        Verb::Restart => restart(draft, request),
    }
}

fn by(draft: &Draft<'_>, request: &Request) -> DecidedBy {
    let name = request.spec.requested_by.clone();
    DecidedBy {
        verified: draft.seen.memory.requesters_verified && name.is_some(),
        name: name.unwrap_or_else(|| "unknown".into()),
        reason: request.spec.reason.clone(),
        request: Some(RequestRef { name: request.name.clone(), uid: request.uid.clone() }),
    }
}

fn undo(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let target = match request.spec.to_rollout {
        Some(number) => match named(draft, number) {
            Ok(target) => target,
            Err(answer) => return answer,
        },
        None => match draft.history.back(draft.seen, undo_rejection_of_version(draft).as_ref()) {
            Some(target) => target.clone(),
            None => {
                return refused(
                    "There is no earlier rollout to go back to: none that served something else is kept and may serve.",
                );
            }
        },
    };
    go_back(draft, request, &target, Trigger::Undo)
}

/// The default target must not be the version that undoing will reject; a target of the same
/// version rejects the content alone.
fn undo_rejection_of_version(draft: &Draft<'_>) -> Option<rollout::Rejection> {
    let newest = draft.history.newest()?;
    Some(rollout::Rejection {
        rollout: newest.number,
        scope: rollout::Scope::Content,
        key: newest.content_hash.clone(),
    })
}

/// The rollout that `toRollout` names, if it may be gone back to.
fn named(draft: &Draft<'_>, number: i64) -> Result<ModelRolloutSpec, Answer> {
    let Some(target) = draft.history.get(number) else {
        return Err(refused(format!(
            "There is no rollout {number}: `kubectl get mro` lists them."
        )));
    };
    if draft.history.newest().is_some_and(|r| r.revision_hash == target.revision_hash) {
        return Err(nothing(format!(
            "Rollout {number} has the content that the newest rollout has already."
        )));
    }
    if target.outcome != Some(Outcome::Promoted) {
        return Err(refused(format!(
            "Rollout {number} never served: only a rollout that served can be gone back to."
        )));
    }
    if let Some(why) = draft.history.barred(draft.seen, target) {
        return Err(refused(format!("Rollout {number} cannot be gone back to: {why}.")));
    }
    Ok(target.clone())
}

fn go_back(
    draft: &mut Draft<'_>,
    request: &Request,
    target: &ModelRolloutSpec,
    trigger: Trigger,
) -> Answer {
    let left = draft.history.newest().map(|r| r.version.clone());
    let rejects = decide::undo_rejects(draft, target);
    let what = match &rejects {
        Some(r) if r.scope == rollout::Scope::Version => {
            format!("; version {} is rejected until a Retry", left.unwrap_or_default())
        }
        Some(r) => format!("; the template of rollout {} is rejected until a Retry", r.rollout),
        None => String::new(),
    };
    let message =
        format!("Going back to version {} (rollout {}){what}.", target.version, target.number);
    let by = by(draft, request);
    draft.record_again(target, trigger, by, rejects, None);
    done(message, draft.history.number())
}

fn abort(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let Some(open) = draft.history.open().cloned() else {
        return nothing("No rollout goes on: Undo goes back from one that is done.");
    };
    if open.trigger.goes_back() {
        let left = draft
            .history
            .rejections()
            .last()
            .and_then(|(r, _)| draft.history.get(r.rollout))
            .map(|r| r.version.clone());
        let hint = left
            .map(|v| format!(" Retry returns to version {v}, where the spec names it."))
            .unwrap_or_default();
        return refused(format!("Rollout {} goes back already.{hint}", open.number));
    }
    match draft.history.back(draft.seen, None).cloned() {
        Some(target) => go_back(draft, request, &target, Trigger::Abort),
        None => refused("There is nothing to go back to: no earlier rollout served and may serve."),
    }
}

fn retry(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let desired = match &draft.desired {
        Ok(desired) => desired.clone(),
        Err(problem) => return refused(problem.sentence()),
    };
    if draft.history.rejecting(&desired).is_none() {
        return nothing(format!("Version {} is not rejected.", desired.version));
    }
    let by = by(draft, request);
    match decide::roll(draft, Trigger::Retry, by) {
        Ok(()) => {
            done(format!("Rolling out version {} again.", desired.version), draft.history.number())
        }
        Err(problem) => refused(problem.sentence()),
    }
}

fn pause(draft: &mut Draft<'_>, request: &Request) -> Answer {
    if draft.history.pause().is_some() {
        return nothing("It is paused already.");
    }
    decision(
        draft,
        request,
        DecisionVerb::Pause,
        "Paused: the rollout that goes on, or the next one, waits for Resume.",
    )
}

fn resume(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let by_spec = draft.wanted.spec.paused;
    if draft.history.pause().is_none() {
        return if by_spec {
            refused("spec.paused holds it, not a request: set spec.paused to false.")
        } else {
            nothing("It is not paused.")
        };
    }
    let message = if by_spec {
        "Resumed, but spec.paused still holds it: set spec.paused to false."
    } else {
        "Resumed."
    };
    decision(draft, request, DecisionVerb::Resume, message)
}

fn decision(draft: &mut Draft<'_>, request: &Request, verb: DecisionVerb, message: &str) -> Answer {
    match draft.history.newest() {
        Some(newest) if newest.decisions.len() < rollout::DECISIONS_MAX => {
            let by = by(draft, request);
            decide::append(draft, verb, by);
            done(message, draft.history.number())
        }
        Some(_) => refused("This rollout's record is full of pauses: set spec.paused."),
        None => refused("There is no rollout yet to write it into: set spec.paused."),
    }
}

fn restart(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let Some(newest) = draft.history.newest().cloned() else {
        return refused("There is no rollout yet to restart.");
    };
    if draft.pause_wanted() {
        return refused("It is paused: resume it, then restart.");
    }
    let revision_name = if request.spec.rerender == Some(true) {
        match rerender(draft, &newest) {
            Ok(name) => name,
            Err(answer) => return answer,
        }
    } else {
        newest.revision_name.clone()
    };
    let (by, at) = (by(draft, request), draft.now.to_string());
    let target = ModelRolloutSpec { revision_name, ..newest };
    draft.record_again(&target, Trigger::Restart, by, None, Some(at));
    done(format!("Restarting the pods of version {}.", target.version), draft.history.number())
}

/// Renders the newest content anew, under the first name that is free or has this very rendering,
/// stored before a crash.
fn rerender(draft: &mut Draft<'_>, newest: &ModelRolloutSpec) -> Result<String, Answer> {
    let desired = match &draft.desired {
        Ok(desired) if desired.revision_hash == newest.revision_hash => desired.clone(),
        _ => {
            return Err(refused(
                "Rendering anew needs the spec to name what serves, and its ModelVersion to be there.",
            ));
        }
    };
    let rendering = super::content::rendering(draft.seen, &draft.wanted.spec, &desired);
    let rendering = rendering.map_err(|problem| refused(problem.sentence()))?;
    let body = super::observed::ContentBody {
        revision_hash: desired.revision_hash.clone(),
        content: desired.written,
        rendering,
    };
    let fits = |name: &String| draft.stored(name).is_none_or(|c| c.body.as_ref() == Some(&body));
    let name = (2..u32::MAX)
        .map(|n| crate::api::names::revision_name(&draft.seen.name, &newest.revision_hash, n))
        .find(fits);
    let name = name.ok_or_else(|| refused("There are too many renderings of this content."))?;
    if draft.stored(&name).is_none() {
        draft.store = Some((name.clone(), body));
    }
    Ok(name)
}
