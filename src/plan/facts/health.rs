//! The health of a rollout: it is complete, its content failed, or the environment blocks it.
//!
//! To change the rules of a failure, change [`find_failure`]; for trouble of the environment,
//! [`find_trouble`]. `tests/scenarios/health-*.yaml` show each rule.

mod deployment;

use jiff::Timestamp;

use crate::{
    api::{ModelDeploymentSpec, ModelRolloutSpec, condition::truncate_text, names},
    plan::{
        make::fetch_container,
        observed::{Container, Deployment, Observed, Pod},
        redact::redact_credentials,
    },
};

use deployment::{describe_missing_pods, max_unavailable};

pub use deployment::{
    RolloutSignals, has_minimum_available, observed_generation_is_current,
    progress_deadline_exceeded,
};

/// The health of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Only its own pods are left, and as many of them are available as its strategy requires.
    Complete,
    /// The content failed, as its own pods show.
    Failed(Failure),
    /// The environment blocks it; the reason, as the end of a sentence.
    Blocked(String),
    /// The rollout progresses normally.
    Progressing,
}

/// A failure of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The pod, the container and the exit code: all that a record may hold.
    pub reason: String,
    /// The message of the container or the kubelet, redacted, for status alone.
    pub quote: Option<String>,
}

impl Failure {
    fn new(reason: String, quote: Option<String>) -> Self {
        Self { reason, quote: quote.filter(|q| !q.is_empty()) }
    }

    /// Returns the reason and the quoted message, for status.
    #[must_use]
    pub fn to_sentence(&self) -> String {
        match &self.quote {
            Some(quote) => format!("{}: {quote}", self.reason),
            None => self.reason.clone(),
        }
    }
}

/// The time limits of one ModelDeployment, and the time of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Value of spec.progressDeadlineSeconds.
    pub deadline_seconds: i64,
    /// Value of spec.restartLimit.
    pub restart_limit: i32,
    /// True if a rollout of this content was ever promoted. Then an error while its container is
    /// created is the environment's.
    pub was_promoted: bool,
    /// The time of this plan.
    pub now: Timestamp,
}

impl Patience {
    /// Reads the limits that a spec sets for a rollout.
    #[must_use]
    pub fn new(
        spec: &ModelDeploymentSpec,
        observed: &Observed,
        record: &ModelRolloutSpec,
        now: Timestamp,
    ) -> Self {
        let mut same = observed.records.iter().map(|r| &r.spec);
        Self {
            deadline_seconds: i64::from(spec.progress_deadline_seconds()),
            restart_limit: spec.restart_limit(),
            was_promoted: same.any(|r| r.is_promoted() && r.content_hash == record.content_hash),
            now,
        }
    }

    /// Seconds until `since` is a deadline ago; 0 or less once it is.
    fn seconds_left(self, since: Timestamp) -> i64 {
        since.as_second() + self.deadline_seconds - self.now.as_second()
    }

    fn has_passed(self, since: Option<Timestamp>) -> bool {
        since.is_some_and(|since| self.seconds_left(since) <= 0)
    }
}

/// Judges the rollout of `record` on the Deployment that carries it out.
#[must_use]
pub fn judge_rollout(
    observed: &Observed,
    live: &Deployment,
    record: &ModelRolloutSpec,
    patience: Patience,
) -> Health {
    if is_complete(observed, live, record, patience.now) {
        return Health::Complete;
    }
    let pods: Vec<&Pod> = pods_of(observed, record).filter(|p| p.lives() && !p.ready).collect();
    let revision = names::short_hash(&record.revision_hash);
    let started = (observed.pods.iter().filter(|p| p.hash == revision))
        .any(|p| p.containers.iter().any(has_started));
    let evidence = pods.iter().filter(|p| is_evidence(p, record, patience));
    let named = list_container_names(live);
    for pod in evidence {
        let is_named = |c: &&Container| named.contains(&c.name.as_str());
        let own: Vec<&Container> = pod.containers.iter().filter(is_named).collect();
        if let Some(failure) = find_failure(pod, &own, record, patience, started) {
            return Health::Failed(failure);
        }
    }
    let version = &record.version;
    let unfetched = pods.iter().find_map(|p| find_fetch_trouble(p));
    let unfetched =
        unfetched.map(|line| format!("version {version} cannot be fetched yet: {line}"));
    let ended = || pods_of(observed, record).find_map(describe_ended);
    match unfetched
        .or_else(|| pods.iter().find_map(|p| find_trouble(p)))
        .or_else(|| describe_missing_pods(live))
        .or_else(ended)
        .or_else(|| progress_deadline_exceeded(live).then(|| describe_wait(&pods)))
    {
        Some(sentence) => Health::Blocked(sentence),
        None => Health::Progressing,
    }
}

/// Returns the seconds until a pod of the rollout may become a failure by time alone.
#[must_use]
pub fn seconds_to_next_deadline(
    observed: &Observed,
    record: &ModelRolloutSpec,
    patience: Patience,
) -> Option<i64> {
    let unready = pods_of(observed, record).filter(|p| p.lives() && !p.ready);
    let times = unready.flat_map(|p| {
        let model = find_model(p).and_then(|c| c.started);
        let old = is_older(p, record).then(|| unready_since(p, record));
        [model, old, p.initialized].into_iter().flatten()
    });
    times.map(|since| patience.seconds_left(since)).filter(|left| *left > 0).min()
}

/// The pods of one rollout: of its revision, restarted when it says.
pub fn pods_of<'a>(
    observed: &'a Observed,
    record: &'a ModelRolloutSpec,
) -> impl Iterator<Item = &'a Pod> {
    observed.pods.iter().filter(move |p| is_of(p, record))
}

fn is_of(pod: &Pod, record: &ModelRolloutSpec) -> bool {
    pod.hash == names::short_hash(&record.revision_hash) && pod.restarted_at == record.restarted_at
}

fn is_older(pod: &Pod, record: &ModelRolloutSpec) -> bool {
    pod.created.is_none_or(|created| created.as_second() < record.start_time.0.as_second())
}

/// The names of the content's containers. An admission webhook added every other one to the pod, and
/// what happens to that is not the content's fault.
fn list_container_names(live: &Deployment) -> Vec<&str> {
    let spec = &live.spec.template["spec"];
    let lists = ["initContainers", "containers"].into_iter().filter_map(|l| spec[l].as_array());
    let named = lists.flatten().filter_map(|c| c["name"].as_str());
    named.chain([names::CONTAINER, names::FETCH]).collect()
}

/// True if an unready pod counts as evidence about a rollout (rule 4): the ReplicaSet of the
/// rollout's Deployment controls it, and the rollout created it. An older pod counts once it has
/// been unready for a whole deadline of the rollout, because a Retry reuses crashed pods.
fn is_evidence(pod: &Pod, record: &ModelRolloutSpec, patience: Patience) -> bool {
    is_controlled(pod, &record.deployment_name)
        && (!is_older(pod, record) || patience.has_passed(Some(unready_since(pod, record))))
}

/// True if a ReplicaSet of that Deployment controls the pod. One that people took out of its
/// ReplicaSet, to look at it, is nobody's.
fn is_controlled(pod: &Pod, deployment_name: &str) -> bool {
    let own = || format!("{deployment_name}-{}", pod.template_hash);
    pod.replica_set.as_ref().is_some_and(|set| *set == own())
}

/// The pods with the label of a ModelDeployment that run and that no ReplicaSet of its Deployments
/// controls: clients may reach them, and no rollout replaces them.
pub fn list_strays(observed: &Observed) -> impl Iterator<Item = &Pod> {
    let is_ours =
        |p: &Pod| observed.list_tracks().any(|t| is_controlled(p, &t.deployment.meta.name));
    observed.pods.iter().filter(move |p| p.lives() && p.ready && !p.unselected && !is_ours(p))
}

/// The time since which an older pod has been unready during a rollout.
fn unready_since(pod: &Pod, record: &ModelRolloutSpec) -> Timestamp {
    pod.ready_changed.unwrap_or_default().max(record.start_time.0)
}

fn find_model(pod: &Pod) -> Option<&Container> {
    pod.containers.iter().find(|c| c.name == names::CONTAINER && !c.init)
}

fn has_started(container: &Container) -> bool {
    let ran = container.terminated.as_ref().is_some_and(|why| why.reason != "StartError");
    !container.init && (container.running || ran)
}

/// True if a rollout is complete (rule 5): the Deployment controller observed our write, no other
/// pod of the Deployment is left, enough pods are available, and none runs unready or crashes. Pods
/// without a node, or that a quota prevents, are the environment's trouble and are not waited for.
#[must_use]
pub fn is_complete(
    observed: &Observed,
    live: &Deployment,
    record: &ModelRolloutSpec,
    now: Timestamp,
) -> bool {
    let lives = |p: &&Pod| p.lives() && is_controlled(p, &record.deployment_name);
    // The Deployment's own count follows within a moment; status would have to be corrected by it.
    let counts_others = !live.status.counts_only_updated();
    let others = observed.pods.iter().filter(lives).any(|p| !is_of(p, record)) || counts_others;
    let mine: Vec<&Pod> = pods_of(observed, record).filter(lives).collect();
    let runs_unready = |p: &&Pod| {
        let is_undecided = |c: &Container| !c.init && !c.ready && (c.running || crashes(c));
        !p.ready && p.containers.iter().any(is_undecided)
    };
    if !observed_generation_is_current(live) || others || mine.iter().any(runs_unready) {
        return false;
    }
    let replicas = live.spec.replicas;
    let count = i32::try_from(mine.len()).unwrap_or(i32::MAX);
    let without_node = mine.iter().filter(|p| p.unschedulable.is_some()).count();
    let not_created =
        if describe_missing_pods(live).is_some() { (replicas - count).max(0) } else { 0 };
    let possible = replicas - i32::try_from(without_node).unwrap_or(0) - not_created;
    let wanted = (possible - max_unavailable(live)).max(1);
    let settled = i64::from(live.spec.min_ready_seconds);
    let is_available = |p: &&&Pod| {
        p.ready && p.ready_changed.is_none_or(|at| at.as_second() + settled <= now.as_second())
    };
    let available = mine.iter().filter(is_available).count();
    replicas > 0
        && live.status.available_replicas >= wanted
        && i32::try_from(available).unwrap_or(i32::MAX) >= wanted
}

/// Describes the failure or trouble that a pod reports; None while it starts, runs or ends. A
/// change of this description can change the state of a rollout.
#[must_use]
pub fn describe_pod(pod: &Pod) -> Option<String> {
    // The prefix distinguishes a failure from earlier trouble with the same message.
    let fetched =
        find_fetch_end(pod, fetch_container::AT_FAULT).map(|line| format!("failed: {line}"));
    fetched
        .or_else(|| find_fetch_trouble(pod))
        .or_else(|| pod.containers.iter().find_map(|c| describe_crash(c, 1)))
        .or_else(|| find_trouble(pod))
        .or_else(|| describe_ended(pod))
}

/// Maximum length in bytes of a line of the fetch container that is quoted.
const FETCH_LINE: usize = 600;

/// Finds the container that fetches the artifact, while it is not done.
fn find_fetch(pod: &Pod) -> Option<&Container> {
    pod.containers.iter().find(|c| c.name == names::FETCH && !c.ready)
}

/// Returns the termination message of the fetch container, if it ended with that code. The message
/// stays while the container waits and while it runs again.
fn find_fetch_end(pod: &Pod, code: i32) -> Option<String> {
    let why = find_fetch(pod)?.terminated.as_ref().filter(|why| why.exit_code == Some(code))?;
    // The fetcher names digests and addresses in full, in one line.
    let line = why.message.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = redact_credentials(&truncate_text(&line, FETCH_LINE));
    Some(if line.is_empty() { why.reason.clone() } else { line.trim_end_matches('.').to_owned() })
}

/// Returns the reason why the artifact could not be fetched, if the reason may pass, however often
/// it was tried.
fn find_fetch_trouble(pod: &Pod) -> Option<String> {
    find_fetch_end(pod, fetch_container::IN_TROUBLE)
}

/// Reasons to wait that can be the content's own fault, but need not be: a device plugin or a
/// runtime that fails on one node reports the same.
const MAKING: [&str; 2] = ["CreateContainerError", "RunContainerError"];

/// Finds the failure of the content that a pod and its own containers show.
fn find_failure(
    pod: &Pod,
    own: &[&Container],
    record: &ModelRolloutSpec,
    patience: Patience,
    started: bool,
) -> Option<Failure> {
    let name = &pod.name;
    if let Some(line) = find_fetch_end(pod, fetch_container::AT_FAULT) {
        let (version, fetch) = (&record.version, names::FETCH);
        let code = fetch_container::AT_FAULT;
        let reason = format!(
            "version {version} cannot be fetched (container {fetch} of pod {name}, exit code \
             {code})"
        );
        return Some(Failure::new(reason, Some(line)));
    }
    if find_fetch_trouble(pod).is_some() {
        return None;
    }
    let crash = |c: &Container| {
        let what = describe_crash(c, patience.restart_limit)?;
        let last = c.terminated.as_ref();
        let code = last.and_then(|w| w.exit_code).map(|c| format!(", exit code {c}"));
        let reason =
            format!("container {} of pod {name} {what}{}", c.name, code.unwrap_or_default());
        Some(Failure::new(reason, last.map(|w| redact_credentials(&quote_end(&w.message)))))
    };
    let invalid = |c: &Container| {
        let why = c.waiting.as_ref().filter(|w| w.reason == "InvalidImageName")?;
        let reason = format!("container {} of pod {name} cannot start: {}", c.name, why.reason);
        Some(Failure::new(reason, Some(redact_credentials(&to_one_line(&why.message)))))
    };
    let containers = || own.iter().copied();
    containers()
        .find_map(invalid)
        .or_else(|| containers().find_map(crash))
        .or_else(|| find_unmade_container(pod, own, patience, started))
        .or_else(|| find_late_container(pod, patience))
}

/// The restarts of a container that crashes: the kubelet lets it wait longer each time. One that
/// runs again at once, because its node rebooted, does not crash, however often that happened.
fn describe_crash(container: &Container, limit: i32) -> Option<String> {
    let start_error = container.terminated.as_ref().is_some_and(|w| w.reason == "StartError");
    let counts = !container.init && !start_error && !container.ready && crashes(container);
    (counts && container.restarts >= limit).then(|| format!("crashed {} times", container.restarts))
}

fn crashes(container: &Container) -> bool {
    container.waiting.as_ref().is_some_and(|why| why.reason == "CrashLoopBackOff")
}

/// Finds a container that could not be created for a whole deadline after the pod was initialized,
/// if no pod of the content ever started.
fn find_unmade_container(
    pod: &Pod,
    own: &[&Container],
    patience: Patience,
    started: bool,
) -> Option<Failure> {
    if started || patience.was_promoted || !patience.has_passed(pod.initialized) {
        return None;
    }
    own.iter().filter(|c| !c.init).find_map(|c| {
        let making = c.waiting.as_ref().filter(|w| MAKING.contains(&w.reason.as_str()));
        let start = c.terminated.as_ref().filter(|w| w.reason == "StartError");
        let why = making.or(start)?;
        let reason =
            format!("container {} of pod {} cannot start: {}", c.name, pod.name, why.reason);
        Some(Failure::new(reason, Some(redact_credentials(&to_one_line(&why.message)))))
    })
}

/// Finds a model container that has run for a whole deadline and is not ready: the model did not
/// load.
fn find_late_container(pod: &Pod, patience: Patience) -> Option<Failure> {
    let model = find_model(pod).filter(|c| c.running && !c.ready)?;
    patience.has_passed(model.started).then(|| {
        let reason = format!(
            "container {} of pod {} runs but was not ready within progressDeadlineSeconds ({})",
            model.name, pod.name, patience.deadline_seconds
        );
        Failure::new(reason, None)
    })
}

/// Describes the wait if no pod reports trouble.
fn describe_wait(pods: &[&Pod]) -> String {
    let fetches = pods.iter().any(|p| find_fetch(p).is_some_and(|c| c.running));
    if fetches {
        "its artifact is still being fetched".into()
    } else {
        "its pods become available".into()
    }
}

/// Reasons to wait that pass while a pod starts.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Finds what a pod that is not ready reports, where no pod is available.
#[must_use]
pub fn find_cause_of_outage(observed: &Observed) -> Option<String> {
    let mut pods = observed.pods.iter().filter(|p| p.lives() && !p.ready);
    pods.find_map(|pod| find_fetch_trouble(pod).or_else(|| find_trouble(pod)))
}

/// Finds trouble of one pod that is not its content's fault.
fn find_trouble(pod: &Pod) -> Option<String> {
    let name = &pod.name;
    if let Some(message) = &pod.unschedulable {
        return Some(format!("pod {name} finds no node: {}", to_one_line(message)));
    }
    let waits = pod.containers.iter().find_map(|c| {
        let why = c.waiting.as_ref().filter(|w| !STARTING.contains(&w.reason.as_str()))?;
        let reason = redact_credentials(&describe_reason(&why.reason, &why.message));
        Some(format!("container {} of pod {name} waits: {reason}", c.name))
    });
    let initializes = || {
        let own = |c: &&Container| c.init && c.running && !c.ready && c.name != names::FETCH;
        let container = pod.containers.iter().find(own)?;
        Some(format!("init container {} of pod {name} is not done", container.name))
    };
    waits.or_else(initializes)
}

/// Describes why a pod ended as a whole: an eviction, or a kubelet that did not admit it.
fn describe_ended(pod: &Pod) -> Option<String> {
    let why = pod.ended.as_ref()?;
    Some(format!("pod {} ended: {}", pod.name, describe_reason(&why.reason, &why.message)))
}

/// Joins the reason and the message. An image that cannot be pulled has two reasons in turn, the
/// second of which quotes the first; both give the same sentence.
fn describe_reason(reason: &str, message: &str) -> String {
    let quoted = message.split_once("ErrImagePull: ").filter(|_| reason == "ImagePullBackOff");
    let (reason, message) = quoted.map_or((reason, message), |(_, cause)| ("ErrImagePull", cause));
    if message.is_empty() {
        reason.to_owned()
    } else {
        format!("{reason}: {}", to_one_line(message))
    }
}

/// Maximum length in bytes of a message that a condition quotes.
const QUOTED: usize = 300;

/// Puts a message on one line, short enough for a condition.
fn to_one_line(text: &str) -> String {
    truncate_text(&text.split_whitespace().collect::<Vec<_>>().join(" "), QUOTED)
}

/// Quotes the end of a log in one line: as many of its last lines as fit into a condition, because
/// the cause comes last.
fn quote_end(text: &str) -> String {
    let (mut from, mut length) = (text.len(), 0);
    for line in text.split_inclusive('\n').rev() {
        length += line.trim().len() + 1;
        if length > QUOTED && from < text.len() {
            break;
        }
        from -= line.len();
    }
    to_one_line(&text[from..])
}

#[cfg(test)]
mod tests;
