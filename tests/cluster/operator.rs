//! The operator as its users run it: as its own ServiceAccount, in pairs, ended and asked, and what
//! it costs when nothing changes.

use std::{collections::BTreeMap, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::harness::{
    Cluster, Options, audit, levers,
    operator::{FETCH_IMAGE, Operator, PRUNE_AT_ONCE, binary},
    proxy::Proxy,
    rest::{Rest, within},
    root,
    story::{Story, condition, deployment, version_of},
};

/// A story without an operator yet.
fn alone(cluster: &'static Cluster, hint: &str) -> Story {
    Story { cluster, namespace: cluster.namespace(hint), operator: None }
}

/// An operator of one namespace that elects its leader there.
fn elected(story: &Story) -> Operator {
    let flags = ["--namespace", &story.namespace, "--lease-namespace", &story.namespace];
    let operator = Operator::start(story.cluster, &story.cluster.kubeconfig(), &flags);
    operator.wait_ready(story.cluster);
    operator
}

fn leads(operator: &Operator) -> bool {
    operator.get("/metrics").1.contains("rollmodel_leader 1")
}

const ACCOUNT: &str = "system:serviceaccount:rollmodel-system:rollmodel";

/// A Deployment and a Service as a backup brings them back: our selector and model, no owner.
fn orphans(name: &str) -> [Value; 2] {
    let selector = json!({"rollmodel.dev/model-deployment": name, "rollmodel.dev/track": "main"});
    let template = json!({"metadata": {"labels": selector}, "spec": {"containers": [{"name": "model", "image": "old:1"}]}});
    let metadata = json!({"name": name, "labels": {"rollmodel.dev/model": "fraud"}});
    [
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": template}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": selector, "ports": [{"port": 80}]}}),
    ]
}

/// A verification that is replaced, and one that ends.
fn verify(story: &Story) {
    let policy = |account: &str| {
        story.apply(&json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelPolicy", "metadata": {"name": "default"},
            "spec": {"verification": {"serviceAccountName": account}}}));
    };
    let jobs = || -> Vec<String> {
        story
            .list("jobs")
            .iter()
            .map(|j| j["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    story.apply(&version_of(
        "fraud",
        "10",
        json!({"image": "registry.example.com/fraud:10", "artifact": {"uri": "s3://models/fraud/10/"}}),
    ));
    policy("nobody");
    story.until_true("a Job that gets no pod", || jobs().len() == 1);
    let before = jobs();
    policy("default");
    story.until_true("another Job", || jobs().len() == 1 && jobs() != before);
    let words = format!("Verified: digest=sha256:{} size=1 files=1", "a".repeat(64));
    levers::ends(story.cluster, &story.namespace, &jobs()[0], 0, &words);
    story.until_true("it is verified", || {
        condition(&story.get("mv", "fraud-10"), "Verified")["status"] == "True"
    });
}

/// Everything that the operator ever does, on a cluster of its own.
fn exercise(story: &Story, kubeconfig: &std::path::Path) {
    let rest = Rest::new(story.cluster, &story.namespace);
    let ask = |name: &str, verb: &str| {
        let spec = json!({"modelDeployment": "fraud", "verb": verb, "ifDecision": story.decision(), "requestedBy": "admin"});
        story.apply(&json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "RolloutRequest", "metadata": {"name": name}, "spec": spec}));
    };
    for version in ["6", "7", "8", "9"] {
        story.version(version, version);
    }
    story.apply(&deployment(
        "fraud",
        json!({"model": "fraud", "version": "6", "replicas": 2, "revisionHistoryLimit": 1}),
    ));
    story.serves("6");
    story.want("7");
    story.serves("7");
    ask("undo", "Undo");
    story.settles("Held", "6");
    assert_eq!(story.record(3)["decidedBy"]["verified"], true, "the admission policy is installed");
    ask("restart", "Restart");
    story.until_true("restarted", || story.mdep()["status"]["serving"]["rollout"] == 4);
    for version in ["8", "9"] {
        story.want(version);
        story.serves(version);
    }
    story.until_true("contents are pruned", || story.list("controllerrevisions").len() == 2);
    // Where a stored revision is lost, its template is read from its ReplicaSet.
    let records = story.list("mro");
    let of_eight = records.iter().find(|r| r["spec"]["version"] == "8").unwrap();
    let lost = of_eight["spec"]["revisionName"].as_str().unwrap();
    story.kubectl(&["delete", "controllerrevision", lost]);
    ask("lost", "Undo");
    story.settles("Held", "8");
    story.patch(&json!({"service": {"port": 81}}));
    story.until_true("the Service is changed", || {
        story.get("service", "fraud")["spec"]["ports"][0]["port"] == 81
    });
    // A day after a request was answered.
    let mut status = story.get("rreq", "undo")["status"].clone();
    status["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
    rest.merge("rolloutrequests/undo/status", &json!({"status": status}));
    story.until_true("the old request is gone", || story.find("rreq", "undo").is_none());
    // More than a year after a rollout of something that is gone.
    let mut old = story.get("mro", "fraud-1");
    old["metadata"] = json!({"name": "gone-1"});
    for (field, value) in [
        ("startTime", json!("2024-01-01T00:00:00Z")),
        ("modelDeploymentRef", json!({"name": "gone"})),
        ("deploymentName", json!("gone")),
    ] {
        old["spec"][field] = value;
    }
    story.apply(&old);
    story.until_true("the old record is gone", || story.find("mro", "gone-1").is_none());
    verify(story);
    // What a backup brought back is adopted.
    orphans("adopted").iter().for_each(|object| story.apply(object));
    story.apply(&deployment("adopted", json!({"model": "fraud", "version": "6"})));
    let owned = |kind: &str| {
        story.get(kind, "adopted")["metadata"]["ownerReferences"][0]["name"] == "adopted"
    };
    story.until_true("both are adopted", || owned("deployment") && owned("service"));
    let models = json!([{"name": "fraud", "registeredModel": "Fraud"}]);
    let spec = json!({"mlflow": {"url": "http://127.0.0.1:9"}, "serviceAccountName": "default", "models": models, "suspend": true});
    story.apply(&json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelRegistry", "metadata": {"name": "mlflow"}, "spec": spec}));
    story.until_true("the ModelRegistry is suspended", || {
        condition(&story.get("mreg", "mlflow"), "Ready")["reason"] == "Suspended"
    });
    // Servers before 1.34 are listed, not streamed from; `dump` lists on every server.
    let dump = Command::new(binary())
        .env("KUBECONFIG", kubeconfig)
        .args(["dump", "fraud", "-n", &story.namespace])
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
}

#[test]
fn as_its_own_service_account_it_may_do_all_that_it_does_and_does_all_that_it_may() {
    let own = Cluster::own(Options::default());
    let cluster = own.cluster();
    cluster.kubectl(&[
        "apply",
        "--server-side",
        "-k",
        &root().join("deploy").display().to_string(),
    ]);
    cluster.wait_crds();
    let roles =
        [&["clusterrole", "rollmodel"][..], &["role", "-n", "rollmodel-system", "rollmodel-lease"]];
    let granted = audit::granted(cluster, &roles);
    for (group, resource, verb) in &granted {
        assert!(![group, resource, verb].contains(&&"*".to_owned()), "no wildcards");
        assert!(!resource.starts_with("secrets"), "no Secrets");
    }
    for verb in ["get", "list", "watch"] {
        let can = cluster.try_kubectl(&[
            "auth",
            "can-i",
            verb,
            "secrets",
            "--all-namespaces",
            "--as",
            ACCOUNT,
        ]);
        assert_eq!(String::from_utf8_lossy(&can.stdout).trim(), "no");
    }
    let mark = audit::mark(cluster);
    let kubeconfig = cluster.kubeconfig_of("rollmodel-system", "rollmodel");
    let flags = ["--lease-namespace", "rollmodel-system", "--requesters-verified", PRUNE_AT_ONCE];
    let mut story = alone(cluster, "rbac");
    story.operator = Some(Operator::start(cluster, &kubeconfig, &flags));
    let standby = Operator::start(cluster, &kubeconfig, &flags);
    standby.wait_ready(cluster);
    exercise(&story, &kubeconfig);
    // The one exception: some distributions demand it of whoever sets blockOwnerDeletion.
    let exception =
        ("rollmodel.dev".to_owned(), "modeldeployments/finalizers".to_owned(), "update".to_owned());
    let unused = || {
        granted
            .difference(&mark.rights(ACCOUNT).0)
            .filter(|right| **right != exception)
            .cloned()
            .collect::<Vec<_>>()
    };
    within(
        Duration::from_secs(20),
        || unused().is_empty(),
        || format!("granted and never used: {:#?}", unused()),
    );
    assert!(
        granted.contains(&exception),
        "the exception is not granted any more: take it out of this test"
    );
    let forbidden = mark.rights(ACCOUNT).1;
    assert!(forbidden.is_empty(), "{forbidden:#?}");
}

#[test]
fn of_two_operators_one_leads_and_the_other_takes_over_when_it_is_killed() {
    let mut story = alone(Cluster::shared(), "pair");
    story.operator = Some(elected(&story));
    story.cluster.until("the first leads", || story.operator.as_ref().is_some_and(leads));
    let standby = elected(&story);
    story.version("6", "6");
    story.version("7", "7");
    story.deploy("6");
    story.serves("6");
    assert!(!leads(&standby));
    let warm = |kind: &str, n: usize| {
        standby
            .get("/metrics")
            .1
            .contains(&format!("rollmodel_cached_objects{{kind=\"{kind}\"}} {n}\n"))
    };
    story.until_true("the standby's caches are warm", || {
        warm("ModelVersion", 2) && warm("ModelDeployment", 1) && warm("Pod", 2)
    });
    assert_eq!(standby.get("/readyz").0, 200);
    let log = standby.process.log();
    assert!(!log.contains("run::apply: "), "it writes nothing: {log}");
    story.kill_operator();
    story.want("7");
    story.operator = Some(standby);
    story.serves("7");
    assert!(story.operator.as_ref().is_some_and(leads));
    assert_eq!(story.rollouts(), 2);
}

#[test]
fn asked_to_end_it_gives_the_lease_up_and_ends_in_order_within_five_seconds() {
    let mut story = alone(Cluster::shared(), "term");
    let mut first = elected(&story);
    story.cluster.until("the first leads", || leads(&first));
    let second = elected(&story);
    story.version("6", "behave-slow");
    story.deploy("6");
    story.until_true("it begins to roll", || story.find("deployment", "fraud").is_some());
    let began = std::time::Instant::now();
    let (code, took) = first.process.terminate();
    assert_eq!(code, Some(0), "{}", first.process.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
    story.cluster.until("the second leads", || leads(&second));
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "before the Lease would have expired: {:?}",
        began.elapsed()
    );
    story.operator = Some(second);
    story.serves("6");
    // One that stands by ends as well.
    let mut third = elected(&story);
    let (code, took) = third.process.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(5), "{code:?} {took:?}");
    assert!(story.operator.as_ref().is_some_and(leads));
}

#[test]
fn who_loses_the_lease_ends() {
    let story = alone(Cluster::shared(), "stolen");
    let mut operator = elected(&story);
    story.cluster.until("it leads", || leads(&operator));
    story.kubectl(&[
        "patch",
        "lease",
        "rollmodel",
        "--type=merge",
        "-p",
        r#"{"spec":{"holderIdentity":"thief"}}"#,
    ]);
    let mut code = None;
    story.cluster.until("it ends", || {
        code = operator.process.ended();
        code.is_some()
    });
    assert_eq!(code, Some(Some(1)), "{}", operator.process.log());
    assert!(
        operator.process.log().contains("another process holds it now"),
        "{}",
        operator.process.log()
    );
    assert_eq!(story.get("lease", "rollmodel")["spec"]["holderIdentity"], "thief");
}

#[test]
fn two_operators_that_both_lead_give_each_number_once_and_agree() {
    let mut story = Story::begin("both-lead");
    let other = Operator::namespaced(story.cluster, &story.namespace);
    other.wait_ready(story.cluster);
    for (version, tag) in [("6", "6"), ("7", "7"), ("8", "behave-crash-loop")] {
        story.version(version, tag);
    }
    story.deploy("6");
    story.serves("6");
    story.want("7");
    story.serves("7");
    story.ask("Undo");
    story.settles("Held", "6");
    story.want("8");
    story.settles("RolledBack", "6");
    let records: Vec<Value> =
        (1..=story.newest()).map(|n| story.record(u32::try_from(n).unwrap())).collect();
    let triggers: Vec<_> = records
        .iter()
        .map(|r| {
            (
                r["version"].as_str().unwrap(),
                r["trigger"].as_str().unwrap(),
                r["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    let (promoted, failed) = ("Promoted", "Failed");
    let expected = [
        ("6", "SpecChanged", promoted),
        ("7", "SpecChanged", promoted),
        ("6", "Undo", promoted),
        ("8", "SpecChanged", failed),
        ("6", "Failed", promoted),
    ];
    assert_eq!(triggers, expected);
    story.kill_operator();
    drop(other);
}

#[test]
fn what_is_settled_costs_nothing_when_all_is_planned_again_and_two_requests_a_kind_at_a_start() {
    let mut story = alone(Cluster::shared(), "settled");
    let proxy = Proxy::start(story.cluster);
    let start = |story: &Story| {
        let operator = Operator::start(
            story.cluster,
            proxy.kubeconfig(),
            &["--namespace", &story.namespace, "--leader-elect=false"],
        );
        operator.wait_ready(story.cluster);
        operator
    };
    story.operator = Some(start(&story));
    story.version("6", "6");
    story.version("7", "7");
    story.deploy("6");
    story.serves("6");
    story.want("7");
    story.serves("7");
    story.ask("Undo");
    story.settles("Held", "6");
    let passes = |story: &Story| -> u64 {
        let text = story.operator.as_ref().unwrap().get("/metrics").1;
        let count = |what: &str| {
            text.lines().find_map(|l| {
                l.strip_prefix(&format!(
                    "rollmodel_reconcile_duration_seconds_count{{what=\"{what}\"}} "
                ))?
                .parse()
                .ok()
            })
        };
        count("deployment").unwrap_or(0_u64) + count("version").unwrap_or(0)
    };
    story.until_true("it has settled", || proxy.quiet() > Duration::from_secs(2));
    // Everything is planned again as by a resync, because a CRD says something else: one
    // ModelDeployment and two ModelVersions.
    let before = passes(&story);
    proxy.open(None);
    story.cluster.kubectl(&[
        "annotate",
        "crd",
        "modelversions.rollmodel.dev",
        &format!("test.rollmodel.dev/look={}", story.namespace),
        "--overwrite",
    ]);
    story.until_true("all is planned again", || passes(&story) >= before + 3);
    story.until_true("nothing follows", || proxy.quiet() > Duration::from_secs(1));
    assert_eq!((proxy.reads(), proxy.writes()), (vec![], vec![]));
    // And at a start.
    story.kill_operator();
    proxy.open(None);
    story.operator = Some(start(&story));
    story.until_true("all is planned", || passes(&story) >= 3);
    story.until_true("nothing follows", || proxy.quiet() > Duration::from_secs(1));
    assert_eq!(proxy.writes(), [""; 0]);
    let mut kinds = BTreeMap::<String, usize>::new();
    for read in proxy.reads() {
        let path = read.split('?').next().and_then(|path| path.rsplit('/').next());
        *kinds.entry(path.unwrap_or_default().to_owned()).or_default() += 1;
    }
    assert_eq!(kinds.remove("version"), Some(1), "it asks for the server's version once");
    let policies = rollmodel::api::names::ADMISSION_POLICIES.len();
    assert_eq!(kinds.len(), 13 + policies, "each kind, and each admission policy: {kinds:?}");
    assert!(kinds.values().all(|n| *n <= 2), "{kinds:?}");
}

#[test]
fn its_pages_and_its_commands_answer_and_a_dump_holds_no_secret() {
    let story = Story::serving_six("pages");
    let operator = story.operator.as_ref().unwrap();
    for (page, says) in
        [("/healthz", "ok"), ("/readyz", "ok"), ("/metrics", "rollmodel_serving_info")]
    {
        let (status, text) = operator.get(page);
        assert!(status == 200 && text.contains(says), "{page}: {status} {text}");
    }
    assert!(operator.get("/metrics").1.contains(&format!(
        "namespace=\"{}\",modeldeployment=\"fraud\",model=\"fraud\",version=\"6\"",
        story.namespace
    )));
    let secret = "hunter2-AKIAIOSFODNN7EXAMPLE";
    let variables = json!([{"name": "AWS_SECRET_ACCESS_KEY", "value": secret}]);
    story.patch(
        &json!({"template": {"spec": {"containers": [{"name": "model", "env": variables}]}}}),
    );
    story.until_true("it is rolled out", || story.mdep()["status"]["serving"]["rollout"] == 2);
    let file = story.cluster.dir().join(format!("{}.yaml", story.namespace)).display().to_string();
    let run = |args: &[&str]| {
        let out = Command::new(binary())
            .env("KUBECONFIG", story.cluster.kubeconfig())
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    run(&["dump", "fraud", "-n", &story.namespace, "-o", &file]);
    let dumped = std::fs::read_to_string(&file).unwrap();
    assert!(
        dumped.contains("AWS_SECRET_ACCESS_KEY")
            && !dumped.contains(secret)
            && !dumped.contains("hunter2"),
        "{dumped}"
    );
    let plan = run(&["plan", "-f", &file]);
    assert!(
        plan.starts_with("# ") && !plan.contains("do: "),
        "a settled object's plan is empty: {plan}"
    );
    assert!(!operator.process.log().contains(secret));
    for (args, says) in [
        (&["--help"][..], "--leader-elect"),
        (&["dump", "--help"], "ModelDeployment"),
        (&["plan", "--help"], "cluster"),
    ] {
        assert!(run(args).contains(says));
    }
    // A ModelRegistry too.
    let template = json!({"spec": {"containers": [{"name": "importer", "env": variables}]}});
    let models = json!([{"name": "fraud", "registeredModel": "Fraud"}]);
    let spec = json!({"mlflow": {"url": "http://127.0.0.1:9"}, "serviceAccountName": "default", "models": models, "template": template});
    story.apply(&json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelRegistry", "metadata": {"name": "mlflow"}, "spec": spec}));
    story.until_true("its importer runs", || {
        story
            .find("deployment", "mlflow-importer")
            .is_some_and(|importer| importer["status"]["readyReplicas"] == 1)
    });
    run(&[
        "dump",
        "mreg/mlflow",
        "-n",
        &story.namespace,
        "-o",
        &file,
        "--fetch-image",
        FETCH_IMAGE,
    ]);
    let dumped = std::fs::read_to_string(&file).unwrap();
    assert!(dumped.contains("AWS_SECRET_ACCESS_KEY") && !dumped.contains("hunter2"), "{dumped}");
    let plan = run(&["plan", "-f", &file]);
    assert!(
        plan.starts_with("# ") && !plan.contains("do: "),
        "a settled object's plan is empty: {plan}"
    );
    let refused = Command::new(binary())
        .env("KUBECONFIG", story.cluster.kubeconfig())
        .args(["dump", "nothing", "-n", &story.namespace])
        .output()
        .unwrap();
    assert!(
        !refused.status.success()
            && String::from_utf8_lossy(&refused.stderr).contains("there is neither such an object")
    );
}
