//! How the newest rollout fares: it goes on, it is complete, its content failed, or the environment
//! holds it up.
//!
//! To change what counts as a failure, change [`failure`] or [`trouble`];
//! `tests/scenarios/health-*.yaml` show each rule.

use super::{
    fetcher,
    observed::{Container, Observed, Pod, Why, Workload},
};
use crate::api::{ModelRolloutSpec, condition::bounded, names};

/// How a rollout fares.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Every pod is of it, and available.
    Complete,
    /// The content failed, by facts of its own pods: which container, with what message.
    Failed(String),
    /// The environment holds it up: what it waits for.
    Held(String),
    /// It goes on.
    Progressing,
}

/// How the rollout of `record` fares on the Deployment that carries it.
#[must_use]
pub fn health(seen: &Observed, workload: &Workload, record: &ModelRolloutSpec) -> Health {
    if complete(workload) {
        return Health::Complete;
    }
    let pods: Vec<&Pod> = pods_of(seen, record).filter(|p| !p.deleting).collect();
    let version = &record.version;
    let unfetchable = pods
        .iter()
        .find_map(|p| fetch_failure(p))
        .map(|line| format!("version {version} cannot be fetched: {line}"));
    if let Some(sentence) = unfetchable
        .or_else(|| pods.iter().find_map(|p| failure(p)))
        .or_else(|| late(workload, &pods))
    {
        return Health::Failed(sentence);
    }
    let unfetched = pods
        .iter()
        .find_map(|p| fetch_trouble(p))
        .map(|line| format!("version {version} cannot be fetched yet: {line}"));
    match unfetched
        .or_else(|| pods.iter().find_map(|p| trouble(p)))
        .or_else(|| no_pods(workload))
        .or_else(|| overdue(workload).then(|| overdue_for(&pods)))
    {
        Some(sentence) => Health::Held(sentence),
        None => Health::Progressing,
    }
}

/// The pods of one rollout: of its content, restarted when it says. No ReplicaSet is read.
pub fn pods_of<'a>(
    seen: &'a Observed,
    record: &'a ModelRolloutSpec,
) -> impl Iterator<Item = &'a Pod> {
    let hash = names::hash16(&record.revision_hash);
    seen.pods.iter().filter(move |p| p.hash == hash && p.restarted_at == record.restarted_at)
}

/// Whether Kubernetes says that every pod is of the newest template and available; the same facts
/// as `kubectl rollout status`.
#[must_use]
pub fn complete(workload: &Workload) -> bool {
    let (want, status) = (workload.spec.replicas, &workload.status);
    current(workload)
        && status.updated_replicas == want
        && status.replicas == want
        && status.available_replicas == want
}

/// Whether as many pods are available as the Deployment's own strategy asks for.
#[must_use]
pub fn enough(workload: &Workload) -> bool {
    let replicas = workload.spec.replicas;
    let unavailable = &workload.spec.strategy["rollingUpdate"]["maxUnavailable"];
    let missing = match unavailable
        .as_str()
        .and_then(|s| s.strip_suffix('%'))
        .and_then(|p| p.parse::<i64>().ok())
    {
        // Kubernetes rounds maxUnavailable down.
        Some(percent) => i32::try_from(i64::from(replicas) * percent / 100).unwrap_or(0),
        None => unavailable.as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
    };
    workload.status.available_replicas >= (replicas - missing).max(0)
}

/// Whether the Deployment controller saw the newest spec.
#[must_use]
pub fn current(workload: &Workload) -> bool {
    workload.status.observed_generation >= workload.generation
}

/// Whether the progress deadline passed.
#[must_use]
pub fn overdue(workload: &Workload) -> bool {
    current(workload)
        && workload.status.conditions.iter().any(|c| {
            c.type_ == "Progressing"
                && c.status == "False"
                && c.reason == "ProgressDeadlineExceeded"
        })
}

/// Reasons to wait that are the content's own fault.
const FAILURES: [&str; 3] = ["InvalidImageName", "CreateContainerError", "RunContainerError"];
/// Restarts of one container after which it is not going to start: the content failed.
pub const RESTART_LIMIT: i32 = 3;

/// What a Deployment's status says, less the numbers that come and go with its pods: where this
/// changes, a rollout may turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    complete: bool,
    overdue: bool,
    down: bool,
    enough: bool,
    no_pods: Option<String>,
}

impl Turn {
    /// Of a Deployment.
    #[must_use]
    pub fn of(workload: &Workload) -> Self {
        Self {
            complete: complete(workload),
            overdue: overdue(workload),
            down: workload.status.available_replicas == 0,
            enough: enough(workload),
            no_pods: no_pods(workload),
        }
    }
}

/// What a pod says of its content's failure or the environment's trouble; None while it starts,
/// runs or ends.
#[must_use]
pub fn says(pod: &Pod) -> Option<String> {
    // Both in one text: what turns from trouble into failure with the same words is news.
    let fetched =
        fetch_failure(pod).map(|line| format!("failed: {line}")).or_else(|| fetch_trouble(pod));
    fetched.or_else(|| failure(pod)).or_else(|| trouble(pod))
}

/// The longest line of the fetching container that is told.
const FETCH_LINE: usize = 600;

/// The container that fetches the artifact, while it is not done.
fn fetching(pod: &Pod) -> Option<&Container> {
    pod.containers.iter().find(|c| c.name == names::FETCH && !c.ready)
}

/// The last words of the container that fetches the artifact, where it ended with that code. They
/// stand while it waits, and runs again.
fn fetch_ended(pod: &Pod, code: i32) -> Option<String> {
    let why = fetching(pod)?.terminated.as_ref().filter(|why| why.exit_code == Some(code))?;
    // It says digests and addresses in full, and no more than a line.
    let line = bounded(&why.message.split_whitespace().collect::<Vec<_>>().join(" "), FETCH_LINE);
    Some(if line.is_empty() { last_words(why) } else { line.trim_end_matches('.').to_owned() })
}

/// Why the bytes, or the request for them, are at fault: trying again does not help.
fn fetch_failure(pod: &Pod) -> Option<String> {
    fetch_ended(pod, fetcher::AT_FAULT)
}

/// What kept the artifact from being fetched and may pass, however often it was tried.
fn fetch_trouble(pod: &Pod) -> Option<String> {
    fetch_ended(pod, fetcher::IN_TROUBLE)
}

/// What one pod says of its content's failure.
fn failure(pod: &Pod) -> Option<String> {
    if fetch_trouble(pod).is_some() {
        return None;
    }
    // A fetch that is done may have been tried often.
    let done = |c: &&Container| c.name == names::FETCH && c.ready;
    pod.containers.iter().filter(|c| !done(c)).find_map(|c| {
        container_failure(c).map(|what| format!("container {} of pod {} {what}", c.name, pod.name))
    })
}

fn container_failure(container: &Container) -> Option<String> {
    if let Some(why) = container.waiting.as_ref().filter(|w| FAILURES.contains(&w.reason.as_str()))
    {
        return Some(format!("cannot start: {}", said(&why.reason, &why.message)));
    }
    let ended = container.terminated.as_ref();
    if let Some(why) = ended.filter(|w| w.reason == "StartError") {
        return Some(format!("cannot start: {}", said(&why.reason, &why.message)));
    }
    (container.restarts >= RESTART_LIMIT).then(|| {
        let last =
            ended.map(|w| format!(", the last time with {}", last_words(w))).unwrap_or_default();
        format!("crashed {} times{last}", container.restarts)
    })
}

fn last_words(why: &Why) -> String {
    let code = why.exit_code.map(|c| format!("exit code {c}"));
    let what = if why.message.is_empty() { &why.reason } else { &why.message };
    match code {
        Some(code) if !what.is_empty() => format!("{code}: {}", ending(what)),
        Some(code) => code,
        None => one_line(what),
    }
}

/// A pod that runs, but was not ready when the deadline passed: the model did not load.
fn late(workload: &Workload, pods: &[&Pod]) -> Option<String> {
    if !overdue(workload) {
        return None;
    }
    // A large artifact takes its time.
    let unready = |c: &&Container| c.running && !c.ready && c.name != names::FETCH;
    let pod = pods.iter().find(|p| {
        !p.ready && p.unschedulable.is_none() && p.containers.iter().any(|c| unready(&c))
    })?;
    let container = pod.containers.iter().find(unready)?;
    Some(format!(
        "container {} of pod {} runs but was not ready within progressDeadlineSeconds ({})",
        container.name, pod.name, workload.spec.progress_deadline_seconds
    ))
}

/// What is waited for where nothing says more.
fn overdue_for(pods: &[&Pod]) -> String {
    let fetches = pods.iter().any(|p| fetching(p).is_some_and(|c| c.running));
    if fetches {
        "its artifact is still being fetched".into()
    } else {
        "its pods become available".into()
    }
}

/// Reasons to wait that pass by themselves while a pod starts.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What one pod waits for that is not its content's fault.
fn trouble(pod: &Pod) -> Option<String> {
    if let Some(message) = &pod.unschedulable {
        return Some(format!("pod {} finds no node: {}", pod.name, one_line(message)));
    }
    pod.containers.iter().find_map(|c| {
        let why = c.waiting.as_ref().filter(|w| !STARTING.contains(&w.reason.as_str()))?;
        Some(format!(
            "container {} of pod {} waits: {}",
            c.name,
            pod.name,
            said(&why.reason, &why.message)
        ))
    })
}

/// Why no pod could be made at all: a quota, or admission.
fn no_pods(workload: &Workload) -> Option<String> {
    let failure = workload
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    Some(format!("pods cannot be created: {}", one_line(&failure.message)))
}

/// The reason and the message. An image that cannot be pulled has two reasons in turn, the second
/// of which quotes the first: one sentence for both.
fn said(reason: &str, message: &str) -> String {
    let quoted = message.split_once("ErrImagePull: ").filter(|_| reason == "ImagePullBackOff");
    let (reason, message) = quoted.map_or((reason, message), |(_, cause)| ("ErrImagePull", cause));
    if message.is_empty() { reason.to_owned() } else { format!("{reason}: {}", one_line(message)) }
}

/// The longest message that a condition quotes, in bytes.
const QUOTED: usize = 300;

/// A message in one line, short enough for a condition.
fn one_line(text: &str) -> String {
    bounded(&text.split_whitespace().collect::<Vec<_>>().join(" "), QUOTED)
}

/// The end of a log in one line: as many of its last lines as are short enough for a condition, for
/// the cause comes last.
fn ending(text: &str) -> String {
    let (mut from, mut length) = (text.len(), 0);
    for line in text.split_inclusive('\n').rev() {
        length += line.trim().len() + 1;
        if length > QUOTED && from < text.len() {
            break;
        }
        from -= line.len();
    }
    one_line(&text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_its_end_is_quoted() {
        let log = format!(
            "{}\nModuleNotFoundError: No module\n named 'shapes'\n\n",
            "Traceback of many lines\n".repeat(80)
        );
        let told = ending(&log);
        assert!(
            told.len() <= QUOTED && told.starts_with("Traceback of many lines Traceback"),
            "{told}"
        );
        assert!(told.ends_with("ModuleNotFoundError: No module named 'shapes'"), "{told}");
        assert_eq!(ending("out of memory\n"), "out of memory");
        assert_eq!(ending(&"x".repeat(400)), format!("{}…", "x".repeat(297)));
        assert_eq!(ending(""), "");
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_one_sentence_while_the_kubelet_alternates_between_two() {
        let cause = "failed to pull and unpack image \"models/fraud:8\": not found";
        let backing_off =
            format!("Back-off pulling image \"models/fraud:8\": ErrImagePull: {cause}");
        assert_eq!(said("ImagePullBackOff", &backing_off), said("ErrImagePull", cause));
        assert_eq!(
            said("ImagePullBackOff", "Back-off pulling image"),
            "ImagePullBackOff: Back-off pulling image"
        );
    }

    /// A pod whose init container that fetches ended with that code, that often, and waits or runs
    /// again since.
    fn fetching(code: i32, message: &str, restarts: i32, running: bool) -> Pod {
        let ended = Why { reason: "Error".into(), message: message.into(), exit_code: Some(code) };
        let waits =
            Why { reason: "CrashLoopBackOff".into(), message: "back-off".into(), exit_code: None };
        let waiting = (!running).then_some(waits);
        let fetch = Container {
            name: names::FETCH.into(),
            restarts,
            running,
            waiting,
            terminated: Some(ended),
            ..Container::default()
        };
        let starts = Why { reason: "PodInitializing".into(), ..Why::default() };
        let model =
            Container { name: "model".into(), waiting: Some(starts), ..Container::default() };
        Pod {
            name: "p".into(),
            hash: "aaaaaaaaaaaaaaaa".into(),
            containers: vec![fetch, model],
            ..Pod::default()
        }
    }

    fn record() -> ModelRolloutSpec {
        let json = serde_json::json!({"modelDeploymentRef": {"name": "fraud"}, "number": 2, "model": "fraud", "version": "8", "recordDigest": "d",
            "revisionHash": "v1:sha256:aaaaaaaaaaaaaaaaaaaa", "contentHash": "c", "revisionName": "x", "strategy": "RollingUpdate", "deploymentName": "fraud",
            "trigger": "SpecChanged", "decidedBy": {"name": "spec"}, "startTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json).unwrap()
    }

    fn of(pod: Pod, overdue: bool) -> Health {
        let mut workload = Workload::default();
        workload.spec.replicas = 1;
        if overdue {
            let (type_, status, reason) =
                ("Progressing".into(), "False".into(), "ProgressDeadlineExceeded".into());
            workload.status.conditions = vec![super::super::observed::WorkloadCondition {
                type_,
                status,
                reason,
                message: String::new(),
            }];
        }
        health(&Observed { pods: vec![pod], ..Observed::default() }, &workload, &record())
    }

    #[test]
    fn a_fetch_tells_the_contents_fault_from_the_environments_trouble() {
        let failed = |what: &str| Health::Failed(what.to_owned());
        let held = |what: &str| Health::Held(what.to_owned());
        let crashed = format!(
            "container rollmodel-fetch of pod p crashed {RESTART_LIMIT} times, the last time with exit code 137: killed"
        );
        let cases = [
            (
                3,
                "Mismatch: is a, not b.",
                1,
                false,
                failed("version 8 cannot be fetched: Mismatch: is a, not b"),
            ),
            (
                3,
                "Mismatch: is a, not b.",
                0,
                true,
                failed("version 8 cannot be fetched: Mismatch: is a, not b"),
            ),
            (3, "", 1, false, failed("version 8 cannot be fetched: exit code 3: Error")),
            (
                1,
                "Unreachable: no route",
                1,
                false,
                held("version 8 cannot be fetched yet: Unreachable: no route"),
            ),
            (
                1,
                "Unreachable: no route",
                RESTART_LIMIT * 10,
                false,
                held("version 8 cannot be fetched yet: Unreachable: no route"),
            ),
            (
                1,
                "Unreachable: no route",
                RESTART_LIMIT * 10,
                true,
                held("version 8 cannot be fetched yet: Unreachable: no route"),
            ),
            (137, "killed", RESTART_LIMIT, false, failed(&crashed)),
        ];
        for (code, message, restarts, running, want) in cases {
            assert_eq!(
                of(fetching(code, message, restarts, running), false),
                want,
                "{code} {restarts}"
            );
        }
    }

    #[test]
    fn a_fetch_that_was_tried_often_and_is_done_is_no_crash() {
        let mut pod = fetching(0, "", RESTART_LIMIT * 4, false);
        (pod.containers[0].ready, pod.containers[0].waiting) = (true, None);
        assert_eq!(of(pod, false), Health::Progressing);
    }

    #[test]
    fn a_large_artifact_may_take_longer_than_the_deadline() {
        let mut pod = fetching(0, "", 0, true);
        pod.containers[0].terminated = None;
        assert_eq!(of(pod, true), Health::Held("its artifact is still being fetched".into()));
    }

    #[test]
    fn a_fetchs_end_is_news_and_its_next_try_is_none() {
        let trouble = says(&fetching(1, "Unreachable: no route", 1, false));
        assert_eq!(says(&fetching(1, "Unreachable: no route", 2, true)), trouble);
        assert_ne!(
            says(&fetching(3, "Unreachable: no route", 2, false)),
            trouble,
            "what turns into a failure with the same words"
        );
        assert!(trouble.is_some());
    }
}
