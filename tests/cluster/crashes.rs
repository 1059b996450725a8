//! The operator killed between every two writes of a story, before a write reaches the API server and after it did: the decision is
//! never turned round, and in the end everything is as if nothing had happened.
//!
//! Each story runs once undisturbed, which tells its writes and its end, and then once for each write and moment, in a namespace of its own.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use crate::harness::{
    Cluster,
    operator::Operator,
    proxy::{Fault, Proxy, When},
    rest::{Rest, runtime, within},
    story::{deployment, observed, version_of},
};

/// How many runs of a story go on at once: they mostly wait.
const LANES: usize = 8;
/// How long nothing is written before a story is over.
const QUIET: Duration = Duration::from_millis(900);
const PATIENCE: Duration = Duration::from_secs(60);

/// What is told, and how it ends.
struct Tale {
    name: &'static str,
    /// What is there before anything can go wrong.
    before: fn(&Corner),
    /// What somebody does then.
    act: fn(&Corner),
    /// State word and serving version in the end.
    end: (&'static str, &'static str),
    /// What the serving Deployment was, one after the other: the tag of its image, and whether it was paused or restarted.
    trail: &'static [&'static str],
}

/// One run's corner of the cluster: a namespace, a proxy, an operator behind it.
struct Corner {
    cluster: &'static Cluster,
    namespace: String,
    rest: Rest,
    proxy: Proxy,
    operator: Mutex<Operator>,
    trail: Arc<Mutex<Vec<String>>>,
    watch: tokio::task::JoinHandle<()>,
}

/// Everything that has to be the same.
#[derive(Clone, Debug, PartialEq)]
struct End {
    state: Value,
    serving: Value,
    records: Vec<Value>,
    answers: Vec<Value>,
    trail: Vec<String>,
}

impl Corner {
    fn open(name: &str) -> Self {
        let cluster = Cluster::shared();
        let namespace = cluster.namespace(&format!("crash-{name}"));
        let (rest, proxy) = (Rest::new(cluster, &namespace), Proxy::start(cluster));
        let operator = Mutex::new(start(cluster, &namespace, &proxy));
        let trail = Arc::new(Mutex::new(Vec::new()));
        let watch = runtime().spawn(follow(Api::namespaced(rest.client(), &namespace), trail.clone()));
        Self { cluster, namespace, rest, proxy, operator, trail, watch }
    }

    fn version(&self, version: &str, tag: &str) {
        self.rest.create("modelversions", &version_of("fraud", version, json!({"image": format!("registry.example.com/fraud:{tag}")})));
    }

    fn deploy(&self, version: &str) {
        self.rest.create("modeldeployments", &deployment("fraud", json!({"model": "fraud", "version": version, "replicas": 2})));
    }

    fn want(&self, version: &str) {
        self.rest.merge("modeldeployments/fraud", &json!({"spec": {"version": version}}));
    }

    fn ask(&self, verb: &str, newest: i64) {
        let spec = json!({"deployment": "fraud", "verb": verb, "ifRollout": newest, "requestedBy": "alice", "reason": "latency"});
        let name = format!("ask-{}", verb.to_lowercase());
        self.rest.create(
            "rolloutrequests",
            &json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "RolloutRequest", "metadata": {"name": name}, "spec": spec}),
        );
    }

    /// Waits for something before the story's act.
    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let fraud = || self.rest.get("modeldeployments/fraud").unwrap_or_default();
        within(PATIENCE, || self.proxy.quiet() > QUIET && is(&fraud()), || format!("{what}: {}\n{}", fraud()["status"], self.log()));
    }

    fn serves(&self, version: &str) {
        self.until(&format!("serves {version}"), |o| {
            observed(o) && o["status"]["state"] == "Serving" && o["status"]["serving"]["version"] == version
        });
    }

    fn log(&self) -> String {
        self.operator.lock().unwrap().process.log()
    }

    fn end(&self) -> End {
        let status = self.rest.get("modeldeployments/fraud").filter(observed).unwrap_or_default()["status"].clone();
        let fact = |record: &Value| {
            let mut fact = json!({"name": record["metadata"]["name"]});
            for field in ["number", "from", "version", "hash", "trigger", "rejects", "outcome", "wasAvailable"] {
                fact[field] = record["spec"][field].clone();
            }
            fact["served"] = json!(record["spec"].get("servedFrom").is_some());
            fact["by"] = record["spec"]["by"]["actor"].clone();
            let decisions = record["spec"]["decisions"].as_array().cloned().unwrap_or_default();
            fact["decisions"] = decisions.iter().map(|d| json!([d["number"], d["verb"], d["by"]["actor"]])).collect();
            fact
        };
        // The sentence may be shorter where the record had to tell it.
        let answer = |r: Value| json!([r["spec"]["verb"], r["status"]["result"], r["status"]["rollout"]]);
        End {
            state: status["state"].clone(),
            serving: status["serving"]["version"].clone(),
            records: self.rest.list("modelrollouts").iter().map(fact).collect(),
            answers: self.rest.list("rolloutrequests").into_iter().map(answer).collect(),
            trail: self.trail.lock().unwrap().clone(),
        }
    }

    /// Starts the operator again, and lets it write.
    fn restart(&self) {
        self.proxy.open(None);
        *self.operator.lock().unwrap() = start(self.cluster, &self.namespace, &self.proxy);
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        self.watch.abort();
        // Its pods are not to burden the runs after it.
        self.rest.delete("modeldeployments/fraud");
    }
}

fn start(cluster: &Cluster, namespace: &str, proxy: &Proxy) -> Operator {
    let operator = Operator::start(cluster, proxy.kubeconfig(), &["--namespace", namespace, "--leader-elect=false"]);
    operator.wait_ready(cluster);
    operator
}

/// Writes down what Deployment fraud is, each time that it becomes something else.
async fn follow(api: Api<Deployment>, trail: Arc<Mutex<Vec<String>>>) {
    let (mut version, mut last) = ("0".to_owned(), None);
    loop {
        let Ok(events) = api.watch(&WatchParams::default(), &version).await else { continue };
        let mut events = events.boxed();
        while let Ok(Some(event)) = events.try_next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
            version = object.metadata.resource_version.clone().unwrap_or_default();
            let template = object.spec.template;
            let image = template.spec.and_then(|s| s.containers.into_iter().next()).and_then(|c| c.image).unwrap_or_default();
            let mut now = image.rsplit(':').next().unwrap_or_default().to_owned();
            if object.spec.paused == Some(true) {
                now.push_str(" paused");
            }
            let at = template.metadata.and_then(|m| m.annotations).and_then(|a| a.get("kubectl.kubernetes.io/restartedAt").cloned());
            if at.is_some() {
                now.push_str(" restarted");
            }
            if last.as_ref() != Some(&(now.clone(), at.clone())) {
                last = Some((now.clone(), at));
                trail.lock().unwrap().push(now);
            }
        }
    }
}

/// One run; how many writes it took and how it ended, and whether the fault came.
fn run(tale: &Tale, fault: Option<(usize, When)>, expected: Option<&End>) -> (Vec<String>, End, bool) {
    let corner = Corner::open(tale.name);
    (tale.before)(&corner);
    let pid = corner.operator.lock().unwrap().process.id();
    corner.proxy.open(fault.map(|(write, when)| Fault { write, when, pid }));
    (tale.act)(&corner);
    let mut struck = false;
    let done = || {
        if corner.proxy.struck() {
            struck = true;
            corner.restart();
        }
        // Nothing is asked for while something is still being written.
        corner.proxy.quiet() > QUIET && !corner.proxy.struck() && {
            let end = corner.end();
            end.state == tale.end.0 && end.serving == tale.end.1 && expected.is_none_or(|e| *e == end)
        }
    };
    let why = || {
        let records = expected.map(|e| format!("\nexpected {e:#?}")).unwrap_or_default();
        format!(
            "{} with the operator killed at {fault:?}:\n{:#?}{records}\n{:#?}\n{}",
            tale.name,
            corner.end(),
            corner.proxy.writes(),
            corner.log()
        )
    };
    within(PATIENCE, done, why);
    (corner.proxy.writes(), corner.end(), struck)
}

/// Tells a tale undisturbed, and then with the operator killed at each of its writes, before and after.
fn tell(tale: &Tale) {
    let (writes, end, _) = run(tale, None, None);
    assert_eq!(end.trail, tale.trail, "{}: {writes:#?}", tale.name);
    let names: Vec<String> = (1..=end.records.len()).map(|n| format!("fraud-{n}")).collect();
    assert_eq!(end.records.iter().map(|r| r["name"].as_str().unwrap()).collect::<Vec<_>>(), names, "numbers are given once, without a gap");
    let faults: Vec<_> = (1..=writes.len()).flat_map(|n| [(n, When::Before), (n, When::After)]).collect();
    let (next, struck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    struck.fetch_add(usize::from(run(tale, Some(*fault), Some(&end)).2), Ordering::Relaxed);
                }
            });
        }
    });
    // A status may be written once less in another run; every other write comes.
    let struck = struck.into_inner();
    assert!(struck + 4 >= faults.len(), "the operator was killed {struck} times, at {} writes: {writes:#?}", writes.len());
    eprintln!("{}: killed {struck} times at {} writes", tale.name, writes.len());
}

fn serving_six(corner: &Corner) {
    corner.version("6", "6");
    corner.version("7", "7");
    corner.version("8", "behave-image-pull");
    corner.version("9", "behave-crash-loop");
    corner.deploy("6");
    corner.serves("6");
}

fn serving_seven(corner: &Corner) {
    serving_six(corner);
    corner.want("7");
    corner.serves("7");
}

fn rolling_eight(corner: &Corner) {
    serving_six(corner);
    corner.want("8");
    // The pod that cannot pull its image is counted: nothing changes any more.
    let unready = |o: &Value| o["status"]["candidate"]["version"] == "8" && o["status"]["state"] == "Rolling";
    corner.until("version 8 is on its way", unready);
}

fn paused_eight(corner: &Corner) {
    rolling_eight(corner);
    corner.ask("Pause", 2);
    corner.until("it is paused", |o| o["status"]["state"] == "Paused");
}

#[test]
fn killed_at_any_write_of_a_first_rollout_it_is_made_once() {
    tell(&Tale { name: "first", before: |c| c.version("6", "6"), act: |c| c.deploy("6"), end: ("Serving", "6"), trail: &["6"] });
}

#[test]
fn killed_at_any_write_of_a_rollout_it_goes_on_forward() {
    tell(&Tale { name: "forward", before: serving_six, act: |c| c.want("7"), end: ("Serving", "7"), trail: &["6", "7"] });
}

#[test]
fn killed_at_any_write_of_an_undo_it_goes_on_back() {
    tell(&Tale { name: "undo", before: serving_seven, act: |c| c.ask("Undo", 2), end: ("Held", "6"), trail: &["6", "7", "6"] });
}

#[test]
fn killed_at_any_write_of_a_pause_it_stays_paused() {
    tell(&Tale {
        name: "pause",
        before: rolling_eight,
        act: |c| c.ask("Pause", 2),
        end: ("Paused", "6"),
        trail: &["6", "behave-image-pull", "behave-image-pull paused"],
    });
}

#[test]
fn killed_at_any_write_of_a_resume_it_stays_resumed() {
    tell(&Tale {
        name: "resume",
        before: paused_eight,
        act: |c| c.ask("Resume", 2),
        end: ("Rolling", "6"),
        trail: &["6", "behave-image-pull", "behave-image-pull paused", "behave-image-pull"],
    });
}

#[test]
fn killed_at_any_write_while_a_failed_rollout_goes_back_it_goes_back_once() {
    tell(&Tale {
        name: "failing",
        before: serving_six,
        act: |c| c.want("9"),
        end: ("RolledBack", "6"),
        trail: &["6", "behave-crash-loop", "6"],
    });
}

#[test]
fn killed_at_any_write_of_an_undo_by_kubectl_it_is_that_undo() {
    tell(&Tale {
        name: "kubectl",
        before: serving_seven,
        act: |c| {
            c.cluster.kubectl(&["-n", &c.namespace, "rollout", "undo", "deployment/fraud"]);
        },
        end: ("Held", "6"),
        trail: &["6", "7", "6"],
    });
}

#[test]
fn killed_at_any_write_of_a_restart_by_request_the_pods_are_made_anew_once() {
    tell(&Tale { name: "restart", before: serving_six, act: |c| c.ask("Restart", 1), end: ("Serving", "6"), trail: &["6", "6 restarted"] });
}

#[test]
fn killed_at_any_write_of_an_undo_while_paused_it_goes_back_and_is_paused_again() {
    tell(&Tale {
        name: "paused-undo",
        before: |c| {
            serving_seven(c);
            c.rest.merge("modeldeployments/fraud", &json!({"spec": {"paused": true}}));
            c.until("it is paused", |o| {
                o["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Paused" && c["status"] == "True"))
            });
        },
        act: |c| c.ask("Undo", 2),
        end: ("Held", "6"),
        trail: &["6", "7", "7 paused", "6", "6 paused"],
    });
}

#[test]
fn killed_at_any_write_of_an_abort_it_goes_back_once() {
    tell(&Tale {
        name: "abort",
        before: rolling_eight,
        act: |c| c.ask("Abort", 2),
        end: ("Held", "6"),
        trail: &["6", "behave-image-pull", "6"],
    });
}

#[test]
fn killed_at_any_write_of_a_retry_it_serves_what_was_rejected() {
    tell(&Tale {
        name: "retry",
        before: |c| {
            serving_seven(c);
            c.ask("Undo", 2);
            c.until("it is held", |o| o["status"]["state"] == "Held");
        },
        act: |c| c.ask("Retry", 3),
        end: ("Serving", "7"),
        trail: &["6", "7", "6", "7"],
    });
}
