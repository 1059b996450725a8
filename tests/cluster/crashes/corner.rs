//! One run of a story in a corner of the cluster: an operator behind a proxy that kills it at a
//! chosen write, and what is compared in the end.

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
    operator::{Operator, PRUNE_AT_ONCE},
    proxy::{Fault, Proxy, When},
    rest::{Rest, runtime, within},
    story::{deployment, observed, version_of},
};

/// How many runs of a story go on at once: they mostly wait.
const LANES: usize = 8;
/// How long nothing is written before a story is over.
const QUIET: Duration = Duration::from_millis(900);
/// The grace period of a rendering that this build would not make.
pub const OTHERWISE: i64 = 77;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is told, and how it ends.
pub struct Tale {
    pub name: &'static str,
    /// What is there before anything can go wrong.
    pub before: fn(&Corner),
    /// What somebody does then.
    pub act: fn(&Corner),
    /// State word and serving version in the end; Deleted and nothing once the records of a
    /// ModelDeployment that is gone have ended.
    pub end: (&'static str, &'static str),
    /// What the serving Deployment was, one after the other: the tag of its image, whether it was
    /// paused, restarted or rendered otherwise, and that it was gone.
    pub trail: &'static [&'static str],
}

/// One run's corner of the cluster: a namespace, a proxy, an operator behind it.
pub struct Corner {
    pub cluster: &'static Cluster,
    pub namespace: String,
    pub rest: Rest,
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
    contents: Vec<Value>,
    /// Whether the children belong to the ModelDeployment that is there.
    owned: Vec<bool>,
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
        let watch =
            runtime().spawn(follow(Api::namespaced(rest.client(), &namespace), trail.clone()));
        Self { cluster, namespace, rest, proxy, operator, trail, watch }
    }

    pub fn version(&self, version: &str, tag: &str) {
        self.rest.create(
            "modelversions",
            &version_of(
                "fraud",
                version,
                json!({"image": format!("registry.example.com/fraud:{tag}")}),
            ),
        );
    }

    pub fn deploy(&self, version: &str) {
        self.rest.create(
            "modeldeployments",
            &deployment("fraud", json!({"model": "fraud", "version": version, "replicas": 2})),
        );
    }

    pub fn want(&self, version: &str) {
        self.rest.merge("modeldeployments/fraud", &json!({"spec": {"version": version}}));
    }

    pub fn ask(&self, verb: &str, decision: &str) {
        self.ask_with(verb, decision, json!({}));
    }

    /// Asks with more in the spec.
    pub fn ask_with(&self, verb: &str, decision: &str, more: Value) {
        let mut spec = json!({"modelDeployment": "fraud", "verb": verb, "ifDecision": decision, "requestedBy": "alice", "reason": "latency"});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let name = format!("ask-{}", verb.to_lowercase());
        self.rest.create(
            "rolloutrequests",
            &json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "RolloutRequest", "metadata": {"name": name}, "spec": spec}),
        );
    }

    /// Waits for something before the story's act.
    pub fn until(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let fraud = || self.rest.get("modeldeployments/fraud").unwrap_or_default();
        within(
            PATIENCE,
            || self.proxy.quiet() > QUIET && is(&fraud()),
            || format!("{what}: {}\n{}", fraud()["status"], self.log()),
        );
    }

    /// Waits for an end, in words as a tale's.
    pub fn ends(&self, state: &str, serving: &str) {
        let so = || {
            self.proxy.quiet() > QUIET
                && (&self.end().state, &self.end().serving) == (&json!(state), &json!(serving))
        };
        within(PATIENCE, so, || format!("{state}: {:#?}\n{}", self.end(), self.log()));
    }

    pub fn serves(&self, version: &str) {
        self.until(&format!("serves {version}"), |o| {
            observed(o)
                && o["status"]["state"] == "Serving"
                && o["status"]["serving"]["version"] == version
        });
    }

    /// Does something while no operator runs.
    pub fn stopped(&self, act: impl FnOnce()) {
        self.operator.lock().unwrap().process.kill();
        act();
        self.restart();
    }

    fn log(&self) -> String {
        self.operator.lock().unwrap().process.log()
    }

    fn end(&self) -> End {
        let fraud = self.rest.get("modeldeployments/fraud");
        let records = self.rest.list("modelrollouts");
        let status = match &fraud {
            Some(fraud) if observed(fraud) => fraud["status"].clone(),
            None if records.iter().all(|r| r["spec"].get("outcome").is_some()) => {
                json!({"state": "Deleted", "serving": {"version": ""}})
            }
            _ => json!({}),
        };
        let fact = |record: &Value| {
            let mut fact = json!({"name": record["metadata"]["name"]});
            for field in [
                "number",
                "previousRollout",
                "version",
                "revisionHash",
                "trigger",
                "rejects",
                "direction",
                "outcome",
            ] {
                fact[field] = record["spec"][field].clone();
            }
            fact["served"] = json!([
                record["spec"].get("servedFrom").is_some(),
                record["spec"].get("servedUntil").is_some()
            ]);
            fact["decidedBy"] = record["spec"]["decidedBy"]["name"].clone();
            let decisions = record["spec"]["decisions"].as_array().cloned().unwrap_or_default();
            fact["decisions"] = decisions
                .iter()
                .map(|d| json!([d["number"], d["verb"], d["decidedBy"]["name"]]))
                .collect();
            fact
        };
        // The sentence may be shorter where the record had to tell it.
        let answer =
            |r: Value| json!([r["spec"]["verb"], r["status"]["result"], r["status"]["rollout"]]);
        End {
            state: status["state"].clone(),
            serving: status["serving"]["version"].clone(),
            records: records.iter().map(fact).collect(),
            contents: self
                .rest
                .list("controllerrevisions")
                .iter()
                .map(|c| c["metadata"]["name"].clone())
                .collect(),
            owned: ["deployments/fraud", "services/fraud"]
                .iter()
                .map(|child| self.owned(fraud.as_ref(), child))
                .collect(),
            answers: self.rest.list("rolloutrequests").into_iter().map(answer).collect(),
            trail: self.trail.lock().unwrap().clone(),
        }
    }

    fn owned(&self, by: Option<&Value>, child: &str) -> bool {
        let uid = by.map_or(&Value::Null, |object| &object["metadata"]["uid"]);
        self.rest
            .get(child)
            .is_some_and(|child| child["metadata"]["ownerReferences"][0]["uid"] == *uid)
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
    let operator = Operator::start(
        cluster,
        proxy.kubeconfig(),
        &["--namespace", namespace, "--leader-elect=false", PRUNE_AT_ONCE],
    );
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
            let (WatchEvent::Added(object)
            | WatchEvent::Modified(object)
            | WatchEvent::Deleted(object)) = &event
            else {
                continue;
            };
            version = object.metadata.resource_version.clone().unwrap_or_default();
            if matches!(event, WatchEvent::Deleted(_)) {
                last = None;
                trail.lock().unwrap().push("gone".into());
                continue;
            }
            let object = object.clone();
            let template = object.spec.template;
            let pod = template.spec.unwrap_or_default();
            let grace = pod.termination_grace_period_seconds;
            let image = pod.containers.into_iter().next().and_then(|c| c.image).unwrap_or_default();
            let mut now = image.rsplit(':').next().unwrap_or_default().to_owned();
            if object.spec.paused == Some(true) {
                now.push_str(" paused");
            }
            let at = template
                .metadata
                .and_then(|m| m.annotations)
                .and_then(|a| a.get("kubectl.kubernetes.io/restartedAt").cloned());
            if at.is_some() {
                now.push_str(" restarted");
            }
            if grace == Some(OTHERWISE) {
                now.push_str(" otherwise");
            }
            if last.as_ref() != Some(&(now.clone(), at.clone())) {
                last = Some((now.clone(), at));
                trail.lock().unwrap().push(now);
            }
        }
    }
}

/// One run; how many writes it took and how it ended, and whether the fault came.
fn run(
    tale: &Tale,
    fault: Option<(usize, When)>,
    expected: Option<&End>,
) -> (Vec<String>, End, bool) {
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
            let told =
                end.state == tale.end.0 && end.serving == tale.end.1 && end.trail == tale.trail;
            told && expected.is_none_or(|e| *e == end)
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

/// Tells a tale undisturbed, and then with the operator killed at each of its writes, before and
/// after.
pub fn tell(tale: &Tale) {
    let (writes, end, _) = run(tale, None, None);
    let names: Vec<String> = (1..=end.records.len()).map(|n| format!("fraud-{n}")).collect();
    assert_eq!(
        end.records.iter().map(|r| r["name"].as_str().unwrap()).collect::<Vec<_>>(),
        names,
        "numbers are given once, without a gap"
    );
    let faults: Vec<_> =
        (1..=writes.len()).flat_map(|n| [(n, When::Before), (n, When::After)]).collect();
    let (next, struck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    struck.fetch_add(
                        usize::from(run(tale, Some(*fault), Some(&end)).2),
                        Ordering::Relaxed,
                    );
                }
            });
        }
    });
    // A status may be written once less in another run; every other write comes.
    let struck = struck.into_inner();
    assert!(
        struck + 4 >= faults.len(),
        "the operator was killed {struck} times, at {} writes: {writes:#?}",
        writes.len()
    );
    eprintln!("{}: killed {struck} times at {} writes", tale.name, writes.len());
}
