use serde_json::json;

use super::*;
use crate::{
    api::condition::Time,
    plan::{
        arbitrary::{self, at as after},
        observed::{DeploymentCondition, Why},
    },
};

mod deployment;
mod strays;

/// The revision of the rollout in all tests, as pods carry it.
const REVISION: &str = "aaaaaaaaaaaaaaaa";
const DEADLINE: i64 = 600;

fn record() -> ModelRolloutSpec {
    let revision_hash = format!("v1:sha256:{REVISION}aaaa");
    ModelRolloutSpec { revision_hash, content_hash: "c".into(), ..arbitrary::record(2, "8") }
}

fn patience(seconds: i64) -> Patience {
    Patience {
        deadline_seconds: DEADLINE,
        restart_limit: 3,
        was_promoted: false,
        now: after(seconds),
    }
}

/// A pod of the rollout's ReplicaSet, created with the rollout, with these containers.
fn pod(containers: Vec<Container>) -> Pod {
    Pod {
        name: "p".into(),
        hash: REVISION.into(),
        created: Some(after(0)),
        replica_set: Some("fraud-abc".into()),
        template_hash: "abc".into(),
        initialized: Some(after(1)),
        containers,
        ..Pod::default()
    }
}

fn ready_pod() -> Pod {
    let model = Container { ready: true, ..running(2) };
    Pod { ready: true, ready_changed: Some(after(3)), ..pod(vec![model]) }
}

/// A model container that runs since then, and is not ready.
fn running(seconds: i64) -> Container {
    let (name, started) = (names::CONTAINER.into(), Some(after(seconds)));
    Container { name, running: true, started, ..Container::default() }
}

fn why(reason: &str, message: &str, exit_code: Option<i32>) -> Option<Why> {
    Some(Why { reason: reason.into(), message: message.into(), exit_code })
}

fn crashed(restarts: i32) -> Container {
    Container {
        name: names::CONTAINER.into(),
        restarts,
        waiting: why("CrashLoopBackOff", "back-off", None),
        terminated: why("Error", "token=hunter2 is wrong", Some(1)),
        ..Container::default()
    }
}

fn waiting(reason: &str) -> Container {
    let name = names::CONTAINER.into();
    Container { name, waiting: why(reason, "no such device", None), ..Container::default() }
}

/// A Deployment with so many replicas of which so many are available.
fn workload(replicas: i32, available: i32, max_unavailable: i32) -> Deployment {
    let mut workload = Deployment::default();
    workload.spec.replicas = replicas;
    workload.spec.strategy =
        json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": max_unavailable}});
    workload.status.available_replicas = available;
    workload
}

fn with_condition(mut workload: Deployment, type_: &str, status: &str, reason: &str) -> Deployment {
    let (type_, status, reason) = (type_.into(), status.into(), reason.into());
    let message = "exceeded quota".into();
    workload.status.conditions.push(DeploymentCondition { type_, status, reason, message });
    workload
}

fn judge(pods: Vec<Pod>, patience: Patience) -> Health {
    let observed = Observed { pods, ..Observed::default() };
    judge_rollout(&observed, &workload(1, 0, 0), &record(), patience)
}

fn fails(pod: Pod, patience: Patience) -> bool {
    matches!(judge(vec![pod], patience), Health::Failed(_))
}

fn completes(pods: Vec<Pod>, workload: &Deployment) -> bool {
    is_complete(&Observed { pods, ..Observed::default() }, workload, &record(), after(60))
}

#[test]
fn only_unready_pods_of_the_rollouts_own_replica_set_are_evidence() {
    let crash = || pod(vec![crashed(3)]);
    assert!(fails(crash(), patience(9)));
    let same_second = Pod { created: Some(after(0)), ..crash() };
    assert!(fails(same_second, patience(9)), "the API server's times have seconds");
    let others = [
        Pod { replica_set: None, ..crash() },
        Pod { replica_set: Some("churn-abc".into()), ..crash() },
        Pod { template_hash: "def".into(), ..crash() },
        Pod { created: Some(after(-1)), ..crash() },
        Pod { created: None, ..crash() },
        Pod { ready: true, ..crash() },
        Pod { deleting: true, ..crash() },
        Pod { finished: true, ..crash() },
        Pod { hash: "bbbbbbbbbbbbbbbb".into(), ..crash() },
        Pod { restarted_at: Some("t".into()), ..crash() },
    ];
    for other in others {
        assert!(!fails(other.clone(), patience(9)), "{other:?}");
    }
}

#[test]
fn an_older_pod_is_evidence_once_it_was_unready_for_a_deadline_of_the_rollout() {
    let old = |unready: i64| Pod {
        created: Some(after(-5000)),
        ready_changed: Some(after(unready)),
        ..pod(vec![crashed(40)])
    };
    for (unready, now, want) in [
        (-5000, DEADLINE - 1, false),
        (-5000, DEADLINE, true),
        (100, DEADLINE, false),
        (100, DEADLINE + 100, true),
    ] {
        assert_eq!(fails(old(unready), patience(now)), want, "{unready} {now}");
    }
    let observed =
        Observed { pods: vec![Pod { initialized: None, ..old(100) }], ..Observed::default() };
    let due = |now: i64| seconds_to_next_deadline(&observed, &record(), patience(now));
    assert_eq!(due(DEADLINE), Some(100), "planned again when it becomes evidence");
}

#[test]
fn the_deadline_of_a_pod_counts_from_the_start_of_its_model_container() {
    let late = |started: i64, now: i64| fails(pod(vec![running(started)]), patience(now));
    assert!(!late(0, DEADLINE - 1) && late(0, DEADLINE));
    // It waited an hour for a node, an image or a download.
    assert!(!late(3600, 3600 + DEADLINE - 1) && late(3600, 3600 + DEADLINE));
    let observed = Observed { pods: vec![pod(vec![running(50)])], ..Observed::default() };
    let due = seconds_to_next_deadline(&observed, &record(), patience(60));
    assert_eq!(due, Some(DEADLINE + 1 - 60), "the earliest: Initialized was at 1 s");
}

#[test]
fn an_init_container_that_waits_is_the_environments() {
    let init = Container { name: "wait-for-db".into(), init: true, restarts: 40, ..crashed(40) };
    let running = Container { running: true, waiting: None, ..init.clone() };
    let starts = waiting("PodInitializing");
    for container in [init, running] {
        let mut waits = pod(vec![container, starts.clone()]);
        waits.initialized = None;
        let health = judge(vec![waits], patience(10 * DEADLINE));
        assert!(
            matches!(&health, Health::Blocked(why) if why.contains("wait-for-db")),
            "{health:?}"
        );
    }
}

#[test]
fn a_container_that_cannot_be_made_is_the_contents_fault_only_after_the_deadline() {
    for reason in ["CreateContainerError", "RunContainerError"] {
        let health = judge(vec![pod(vec![waiting(reason)])], patience(DEADLINE));
        assert!(matches!(&health, Health::Blocked(why) if why.contains(reason)), "{health:?}");
        assert!(fails(pod(vec![waiting(reason)]), patience(DEADLINE + 1)), "{reason}");
        let waits = Pod { initialized: None, ..pod(vec![waiting(reason)]) };
        assert!(!fails(waits, patience(9 * DEADLINE)), "it is not initialized yet");
    }
    let config = pod(vec![waiting("CreateContainerConfigError")]);
    assert!(!fails(config, patience(9 * DEADLINE)), "a Secret that is not there yet");
    let invalid = pod(vec![waiting("InvalidImageName")]);
    assert!(fails(invalid, patience(0)), "no time heals a name");
}

#[test]
fn a_container_that_cannot_be_made_is_the_environments_where_a_pod_of_the_revision_started() {
    let unmade = || pod(vec![waiting("CreateContainerError")]);
    let (unpromoted, now) = (patience(9 * DEADLINE), 9 * DEADLINE);
    assert!(fails(unmade(), unpromoted));
    let promoted = Patience { was_promoted: true, ..unpromoted };
    assert!(!fails(unmade(), promoted), "it was available before");
    let started = [
        Pod { name: "q".into(), ..ready_pod() },
        Pod { name: "q".into(), deleting: true, ..pod(vec![running(now)]) },
        // Before a restart of the same revision.
        Pod { name: "q".into(), restarted_at: Some("t".into()), ..pod(vec![crashed(1)]) },
    ];
    for other in started {
        let health = judge(vec![unmade(), other.clone()], unpromoted);
        assert!(matches!(health, Health::Blocked(_)), "{other:?}");
    }
}

#[test]
fn restarts_after_a_start_error_do_not_count() {
    let unstarted = Container { terminated: why("StartError", "no runc", Some(128)), ..crashed(9) };
    assert!(!fails(pod(vec![unstarted.clone()]), patience(9)));
    assert!(fails(pod(vec![unstarted]), patience(DEADLINE + 1)), "after the deadline it does");
}

#[test]
fn the_limit_of_restarts_is_the_specs() {
    let limit = |restart_limit| Patience { restart_limit, ..patience(9) };
    assert!(!fails(pod(vec![crashed(2)]), limit(3)) && fails(pod(vec![crashed(3)]), limit(3)));
    assert!(!fails(pod(vec![crashed(9)]), limit(10)) && fails(pod(vec![crashed(1)]), limit(1)));
    let ready = Container { ready: true, running: true, waiting: None, ..crashed(9) };
    let sidecar = Container { name: "proxy".into(), ..ready };
    assert!(!fails(pod(vec![running(0), sidecar]), limit(3)), "it is ready after all");
}

#[test]
fn a_record_gets_the_reason_and_status_alone_the_words_of_the_container() {
    let Health::Failed(failure) = judge(vec![pod(vec![crashed(4)])], patience(9)) else { panic!() };
    assert_eq!(failure.reason, "container model of pod p crashed 4 times, exit code 1");
    assert_eq!(failure.quote.as_deref(), Some("token=*** is wrong"), "redacted");
}

#[test]
fn a_rollout_is_complete_when_only_enough_pods_of_it_are_left() {
    assert!(completes(vec![ready_pod(), ready_pod()], &workload(2, 2, 0)));
    let other = |deleting, finished| Pod {
        hash: "bbbbbbbbbbbbbbbb".into(),
        deleting,
        finished,
        ..ready_pod()
    };
    let with = |other: Pod| completes(vec![ready_pod(), ready_pod(), other], &workload(2, 2, 0));
    assert!(!with(other(false, false)), "a pod of another revision is left");
    let restarted = Pod { restarted_at: Some("t".into()), ..ready_pod() };
    assert!(!with(restarted), "a pod of before the restart is left");
    assert!(with(other(true, false)) && with(other(false, true)));
    let mut late = workload(2, 2, 0);
    late.status.replicas += 1;
    assert!(!completes(vec![ready_pod(), ready_pod()], &late), "the Deployment counts one more");
    let unseen = Deployment { generation: 2, ..workload(2, 2, 0) };
    assert!(!completes(vec![ready_pod(), ready_pod()], &unseen), "the controller saw no write");
    let unready = pod(vec![running(2)]);
    let pods = || vec![ready_pod(), ready_pod(), ready_pod()];
    assert!(completes(pods(), &workload(4, 3, 1)), "one may be unavailable");
    assert!(!completes([pods(), vec![unready]].concat(), &workload(4, 3, 1)), "one runs unready");
    assert!(!completes(vec![ready_pod(); 2], &workload(4, 2, 1)));
}

#[test]
fn pods_without_a_node_or_not_created_are_not_waited_for() {
    let homeless =
        Pod { unschedulable: Some("no room".into()), initialized: None, ..pod(Vec::new()) };
    assert!(completes(vec![ready_pod(), homeless.clone()], &workload(2, 1, 0)));
    assert!(!completes(vec![homeless.clone(), homeless], &workload(2, 0, 0)), "one at the least");
    let quota = with_condition(workload(3, 1, 0), "ReplicaFailure", "True", "FailedCreate");
    assert!(completes(vec![ready_pod()], &quota));
    assert!(!completes(vec![ready_pod()], &workload(3, 1, 0)), "they are about to be created");
    assert!(!completes(Vec::new(), &quota));
}

#[test]
fn nothing_is_complete_at_zero_replicas() {
    assert!(!completes(Vec::new(), &workload(0, 0, 0)));
}

#[test]
fn a_pod_is_available_only_after_min_ready_seconds() {
    let mut live = workload(1, 1, 0);
    live.spec.min_ready_seconds = 57;
    assert!(completes(vec![ready_pod()], &live), "ready at 3 s, judged at 60 s");
    live.spec.min_ready_seconds = 58;
    assert!(!completes(vec![ready_pod()], &live));
}

#[test]
fn of_a_long_log_its_end_is_quoted() {
    let log = format!(
        "{}\nModuleNotFoundError: No module\n named 'shapes'\n\n",
        "Traceback of many lines\n".repeat(80)
    );
    let told = quote_end(&log);
    assert!(
        told.len() <= QUOTED && told.starts_with("Traceback of many lines Traceback"),
        "{told}"
    );
    assert!(told.ends_with("ModuleNotFoundError: No module named 'shapes'"), "{told}");
    assert_eq!(quote_end("out of memory\n"), "out of memory");
    assert_eq!(quote_end(&"x".repeat(400)), format!("{}…", "x".repeat(297)));
    assert_eq!(quote_end(""), "");
}

#[test]
fn an_image_that_cannot_be_pulled_is_one_sentence_while_the_kubelet_alternates_between_two() {
    let cause = "failed to pull and unpack image \"models/fraud:8\": not found";
    let backing_off = format!("Back-off pulling image \"models/fraud:8\": ErrImagePull: {cause}");
    assert_eq!(
        describe_reason("ImagePullBackOff", &backing_off),
        describe_reason("ErrImagePull", cause)
    );
    assert_eq!(
        describe_reason("ImagePullBackOff", "Back-off pulling image"),
        "ImagePullBackOff: Back-off pulling image"
    );
}

/// A pod whose init container that fetches ended with that code, that often, and waits or runs
/// again since.
fn fetching(code: i32, message: &str, restarts: i32, running: bool) -> Pod {
    let fetch = Container {
        name: names::FETCH.into(),
        init: true,
        restarts,
        running,
        waiting: why("CrashLoopBackOff", "back-off", None).filter(|_| !running),
        terminated: why("Error", message, Some(code)),
        ..Container::default()
    };
    let starts = Container { name: names::CONTAINER.into(), ..waiting("PodInitializing") };
    Pod { initialized: None, ..pod(vec![fetch, starts]) }
}

#[test]
fn a_fetch_tells_the_contents_fault_from_the_environments_trouble() {
    let failed = |quote: &str| {
        let reason =
            "version 8 cannot be fetched (container rollmodel-fetch of pod p, exit code 3)";
        Health::Failed(Failure::new(reason.into(), Some(quote.into())))
    };
    let blocked = |what: &str| Health::Blocked(what.to_owned());
    let unreachable = || blocked("version 8 cannot be fetched yet: Unreachable: no route");
    let cases = [
        (3, "Mismatch: is a, not b.", 1, false, failed("Mismatch: is a, not b")),
        (3, "Mismatch: is a, not b.", 0, true, failed("Mismatch: is a, not b")),
        (3, "", 1, false, failed("Error")),
        (1, "Unreachable: no route", 1, false, unreachable()),
        (1, "Unreachable: no route", 40, false, unreachable()),
        (1, "Unreachable: no route", 40, true, unreachable()),
        (
            137,
            "killed",
            40,
            false,
            blocked("container rollmodel-fetch of pod p waits: CrashLoopBackOff: back-off"),
        ),
    ];
    for (code, message, restarts, running, want) in cases {
        let health = judge(vec![fetching(code, message, restarts, running)], patience(9));
        assert_eq!(health, want, "{code} {restarts}");
    }
}

#[test]
fn a_fetch_that_was_tried_often_and_is_done_is_no_crash() {
    let mut done = fetching(0, "", 12, false);
    (done.containers[0].ready, done.containers[0].waiting) = (true, None);
    assert_eq!(judge(vec![done], patience(9)), Health::Progressing);
}

#[test]
fn a_large_artifact_may_take_longer_than_the_deadline() {
    let mut fetches = fetching(0, "", 0, true);
    fetches.containers[0].terminated = None;
    let late =
        with_condition(workload(1, 0, 0), "Progressing", "False", "ProgressDeadlineExceeded");
    let observed = Observed { pods: vec![fetches], ..Observed::default() };
    assert_eq!(
        judge_rollout(&observed, &late, &record(), patience(9 * DEADLINE)),
        Health::Blocked("its artifact is still being fetched".into())
    );
}

#[test]
fn the_end_of_a_fetch_is_news_and_its_next_try_is_none() {
    let trouble = describe_pod(&fetching(1, "Unreachable: no route", 1, false));
    assert_eq!(describe_pod(&fetching(1, "Unreachable: no route", 2, true)), trouble);
    assert_ne!(
        describe_pod(&fetching(3, "Unreachable: no route", 2, false)),
        trouble,
        "what turns into a failure with the same words"
    );
    assert!(trouble.is_some());
}

#[test]
fn a_content_was_promoted_whatever_its_labels_were() {
    let earlier = |outcome: &str, content: &str| {
        let mut earlier = record();
        earlier.number = 1;
        earlier.content_hash = content.into();
        earlier.outcome = serde_json::from_value(outcome.into()).unwrap();
        earlier.end_time = Some(Time(after(-9)));
        let (uid, resource_version) = ("u".into(), String::new());
        crate::plan::observed::Record {
            uid,
            resource_version,
            restored: None,
            spec: earlier.into(),
        }
    };
    let spec = serde_json::from_str(r#"{"model": "fraud", "version": "8", "restartLimit": 7}"#);
    let spec: ModelDeploymentSpec = spec.unwrap();
    for (outcome, content, want) in
        [("Promoted", "c", true), ("Promoted", "other", false), ("Failed", "c", false)]
    {
        let observed = Observed { records: vec![earlier(outcome, content)], ..Observed::default() };
        let patience = Patience::new(&spec, &observed, &record(), after(0));
        assert_eq!((patience.was_promoted, patience.restart_limit), (want, 7));
    }
}

#[test]
fn a_deadline_that_passed_is_not_waited_for_again() {
    let observed = Observed { pods: vec![pod(vec![running(50)])], ..Observed::default() };
    let due = seconds_to_next_deadline(&observed, &record(), patience(DEADLINE + 1));
    assert_eq!(due, Some(49), "Initialized was a deadline ago");
}

#[test]
fn only_a_model_container_that_is_not_ready_is_late() {
    let proxy = Container { name: "proxy".into(), ..running(0) };
    assert!(
        !fails(pod(vec![proxy, running(50)]), patience(DEADLINE)),
        "a sidecar is not the model"
    );
    let ready = Container { ready: true, ..running(0) };
    assert!(
        !fails(pod(vec![ready]), patience(9 * DEADLINE)),
        "a readiness gate keeps the pod back"
    );
}

#[test]
fn a_pod_that_starts_beside_enough_available_ones_delays_no_completion() {
    let init = Container { name: "wait-for-db".into(), init: true, ..running(0) };
    for container in [waiting("ContainerCreating"), init] {
        let pods = [vec![ready_pod(); 3], vec![pod(vec![container.clone()])]].concat();
        assert!(completes(pods, &workload(4, 3, 1)), "{container:?}");
    }
    assert!(!completes(vec![ready_pod()], &workload(0, 1, 0)), "it is being scaled down to 0");
}

#[test]
fn of_pods_that_a_quota_allows_each_is_waited_for() {
    let quota = with_condition(workload(3, 1, 0), "ReplicaFailure", "True", "FailedCreate");
    let starts = pod(vec![waiting("ContainerCreating")]);
    assert!(!completes(vec![ready_pod(), starts], &quota));
    let lifted = with_condition(workload(3, 1, 0), "ReplicaFailure", "False", "FailedCreate");
    assert!(!completes(vec![ready_pod()], &lifted));
}

#[test]
fn a_pod_that_was_evicted_blocks_the_rollout_with_the_kubelets_words() {
    let ended = why("Evicted", "The node was low on memory.", None);
    let health = judge(vec![Pod { finished: true, ended, ..pod(Vec::new()) }], patience(9));
    let sentence = "pod p ended: Evicted: The node was low on memory.";
    assert_eq!(health, Health::Blocked(sentence.into()));
}

#[test]
fn of_a_log_that_just_fits_every_line_is_quoted() {
    let (first, last) = ("a".repeat(199), "b".repeat(99));
    assert_eq!(quote_end(&format!("{first}\n{last}\n")), format!("{first} {last}"));
}

#[test]
fn a_container_that_runs_again_after_its_node_rebooted_does_not_crash_however_often() {
    let rebooted = Container { restarts: 9, ..running(2) };
    assert!(!fails(pod(vec![rebooted.clone()]), patience(9)));
    let starts = Container { restarts: 9, ..waiting("ContainerCreating") };
    assert!(!fails(pod(vec![starts]), patience(9)));
    let late = patience(DEADLINE + 2);
    assert!(fails(pod(vec![rebooted]), late), "it has its deadline, as after any start");
}
