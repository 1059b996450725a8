//! ModelRegistries on a real control plane: the importer runs as its pod would, with the rights of
//! the ServiceAccount that the user bound, against a real tracking server. (The fake nodes run
//! nothing, so that it is started here.)

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use crate::{
    harness::{
        audit,
        operator::{FETCH_IMAGE, binary},
        process::Process,
        rest::within,
        root,
        story::{Story, condition, version_of},
    },
    servers::{
        Dir,
        mlflow::{ADMIN, MLMODEL, Mlflow},
        proxy::{Mood, Proxy},
        serve::Serving,
    },
};

/// A namespace with an operator, a ServiceAccount, and the shipped ClusterRole bound to it unless
/// `bare`.
fn begin(hint: &str, bare: bool) -> Story {
    let story = Story::begin(hint);
    story.cluster.kubectl(&[
        "apply",
        "--server-side",
        "-f",
        &root().join("deploy/user-roles.yaml").display().to_string(),
    ]);
    story.kubectl(&["create", "serviceaccount", "model-importer"]);
    if !bare {
        bind(&story);
    }
    story
}

fn bind(story: &Story) {
    let account = format!("--serviceaccount={}:model-importer", story.namespace);
    story.kubectl(&[
        "create",
        "rolebinding",
        "rollmodel-importer",
        "--clusterrole=rollmodel-importer",
        &account,
    ]);
}

fn registry(url: &str, more: Value) -> Value {
    let mut spec = json!({
        "mlflow": {"url": url}, "serviceAccountName": "model-importer", "intervalSeconds": 10,
        "models": [{"name": "fraud", "registeredModel": "Fraud Score (EU)", "image": "registry.example.com/fraud:1"}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelRegistry", "metadata": {"name": "mlflow"}, "spec": spec})
}

/// The importer as its pod runs it, as the ServiceAccount, with more environment.
fn importer(story: &Story, env: &[(&str, &str)]) -> Process {
    let words = words(story).display().to_string();
    let args = [
        "import",
        "--registry",
        "mlflow",
        "--namespace",
        &story.namespace,
        "--termination-log",
        &words,
    ]
    .map(str::to_owned);
    let kubeconfig =
        story.cluster.kubeconfig_of(&story.namespace, "model-importer").display().to_string();
    let mut all =
        vec![("KUBECONFIG".to_owned(), kubeconfig), ("NO_COLOR".to_owned(), "1".to_owned())];
    all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let log = story.cluster.dir().join(format!("importer-{}.log", story.namespace));
    story.cluster.spawn(&binary(), &args, &all, &log)
}

fn words(story: &Story) -> std::path::PathBuf {
    story.cluster.dir().join(format!("importer-{}.words", story.namespace))
}

/// Waits until Ready has that reason; gives the object.
fn ready(story: &Story, reason: &str) -> Value {
    story.until_true(&format!("the ModelRegistry is {reason}"), || {
        condition(&story.get("mreg", "mlflow"), "Ready")["reason"] == reason
    });
    story.get("mreg", "mlflow")
}

fn message(registry: &Value) -> String {
    condition(registry, "Ready")["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_is_registered_appears_by_itself_and_nothing_that_happens_there_changes_it() {
    let (story, server, name) = (begin("import", false), Mlflow::start(), "Fraud Score (EU)");
    let first = server.trained("fraud");
    server.register(name, &first);
    server.post(
        "registered-models/alias",
        json!({"name": name, "alias": "champion", "version": "1"}),
    );
    story.apply(&registry(&server.url(), json!({})));
    story.until_true("its importer", || story.find("deployment", "mlflow-importer").is_some());
    let pod = story.get("deployment", "mlflow-importer")["spec"]["template"]["spec"].clone();
    assert_eq!(
        (&pod["serviceAccountName"], &pod["containers"][0]["image"]),
        (&json!("model-importer"), &json!(FETCH_IMAGE))
    );
    // Its pod runs, though the fake node runs nothing in it.
    let told = ready(&story, "FirstPoll");
    assert_eq!(
        message(&told),
        format!("The importer runs; its first look at {} is under way.", server.url())
    );
    let process = importer(&story, &[]);
    let told = ready(&story, "Polled");
    assert_eq!(
        (message(&told).as_str(), &told["status"]["serverVersion"]),
        ("1 version is imported.", &json!("3.17.2"))
    );
    assert_eq!(told["status"]["models"][0]["aliases"]["champion"]["version"], "1");
    let record = story.get("mv", "fraud-1");
    assert_eq!(record["spec"]["origin"]["model"], name);
    assert_eq!(record["spec"]["image"], "registry.example.com/fraud:1");
    assert!(story.event("Imported").contains("fraud-1 from Fraud Score (EU)"));
    // It can be served as any other.
    story.apply(&crate::harness::story::deployment(
        "fraud",
        json!({"model": "fraud", "version": "1"}),
    ));
    story.serves("1");
    let args =
        story.get("deployment", "fraud")["spec"]["template"]["spec"]["initContainers"][0]["args"]
            .to_string();
    assert!(args.contains("mlflow-artifacts+http://127.0.0.1"), "{args}");
    // Deleted and made again there, its number is another's.
    server.ask("DELETE", "registered-models/delete", &json!({"name": name}));
    server.register(name, &server.trained("fraud"));
    let told = ready(&story, "Conflicts");
    assert!(message(&told).contains("the number was given again"), "{told}");
    assert_eq!(condition(&told, "Stalled")["status"], "True");
    // Nothing at all there proves nothing.
    server.ask("DELETE", "registered-models/delete", &json!({"name": name}));
    let told = ready(&story, "Forbidden");
    assert!(message(&told).contains("Every record stays"), "{told}");
    assert_eq!(story.get("mv", "fraud-1")["spec"], record["spec"]);
    assert_eq!(story.get("mv", "fraud-1")["metadata"]["generation"], 1);
    drop(process);
    // Without a registry, what it imported stays.
    story.kubectl(&["delete", "mreg", "mlflow"]);
    story.until_true("its importer is gone", || {
        story.find("deployment", "mlflow-importer").is_none()
    });
    assert!(story.find("mv", "fraud-1").is_some());
}

#[test]
fn what_a_run_measures_later_becomes_evaluations_unless_somebody_else_writes_them() {
    let (story, server, name) = (begin("later", false), Mlflow::start(), "Fraud Score (EU)");
    story.with_shipped_policies();
    let mark = audit::mark(story.cluster);
    let run = server.begin_run("fraud");
    server.log_metric(&run, "auc", 0.9);
    let logged = server.log_model("fraud", &run, 0, &[("MLmodel", MLMODEL)], json!([]));
    server.register(name, &logged);
    story.apply(&registry(&server.url(), json!({"settleSeconds": 0})));
    let importer =
        importer(&story, &[("ROLLMODEL_RECHECK_SECONDS", "1"), ("ROLLMODEL_LOG_LEVEL", "debug")]);
    ready(&story, "Polled");
    let record = story.get("mv", "fraud-1")["spec"].clone();
    assert_eq!(
        (&record["metrics"], record.get("evaluations")),
        (&json!([{"name": "auc", "value": 0.9}]), None)
    );
    let evaluations = || {
        let all = story.get("mv", "fraud-1")["spec"]["evaluations"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        all.iter()
            .map(|e| format!("{}={}", e["name"].as_str().unwrap(), e["value"]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    // Its run goes on, then ends; and is measured again, as by a Job of another day.
    server.log_metric(&run, "drift", 0.1);
    story.until_true("what came later is told", || evaluations() == "drift=0.1");
    server.end_run(&run, "FINISHED");
    server.log_metric(&run, "auc", 0.7);
    story.until_true("and what is another by now", || evaluations() == "auc=0.7 drift=0.1");
    let mut now = story.get("mv", "fraud-1");
    assert!(now["spec"]["evaluations"][0]["time"].is_string());
    now["spec"].as_object_mut().unwrap().remove("evaluations");
    assert_eq!(now["spec"], record, "nothing else is changed");
    let importers = format!("system:serviceaccount:{}:model-importer", story.namespace);
    let granted = audit::granted(story.cluster, &[&["clusterrole", "rollmodel-importer"]]);
    let unused = || granted.difference(&mark.rights(&importers).0).cloned().collect::<Vec<_>>();
    story.until_true("it uses every right that it has", || unused().is_empty());
    assert_eq!(mark.rights(&importers).1, [] as [Value; 0], "and needs no other");
    // Git writes them from now on.
    let theirs =
        version_of("fraud", "1", json!({"evaluations": [{"name": "reviewed", "value": 1}]}));
    let git = [
        "apply",
        "-n",
        &story.namespace,
        "--server-side",
        "--force-conflicts",
        "--field-manager=git",
        "--validate=false",
        "-f",
        "-",
    ];
    story.cluster.kubectl_in(&git, &theirs.to_string());
    server.log_metric(&run, "auc", 0.6);
    story.until_true("they are left alone", || importer.log().contains("left to who owns them"));
    assert_eq!(evaluations(), "reviewed=1");
    // Bytes are looked at again as well.
    server.put(
        &format!("{}/models/{}/artifacts/more", server.experiment("fraud"), logged.id),
        b"more",
    );
    let problems = || story.get("mreg", "mlflow")["status"]["problems"].clone();
    story.until_true("other bytes are told", || problems()[0]["reason"] == "UpstreamChanged");
}

#[test]
fn an_importer_whose_role_is_older_than_it_goes_on_importing() {
    let (story, server, name) = (begin("older", true), Mlflow::start(), "Fraud Score (EU)");
    let mut role = story.get("clusterrole", "rollmodel-importer");
    for verbs in role["rules"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .filter(|rule| rule["resources"][0] == "modelversions")
    {
        verbs["verbs"] = json!(["list", "watch", "create"]);
    }
    story.apply(
        &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "older"}, "rules": role["rules"]}),
    );
    let account = format!("--serviceaccount={}:model-importer", story.namespace);
    story.kubectl(&["create", "rolebinding", "older", "--role=older", &account]);
    let logged = server.trained("fraud");
    server.register(name, &logged);
    story.apply(&registry(&server.url(), json!({})));
    let mut importer = importer(&story, &[("ROLLMODEL_RECHECK_SECONDS", "1")]);
    ready(&story, "Polled");
    server.log_metric(&logged.run, "drift", 0.1);
    story.until_true("what it may not write is logged", || {
        importer.log().contains("its evaluations are not written")
    });
    server.register(name, &logged);
    story.until_true("the next version is there", || story.find("mv", "fraud-2").is_some());
    assert!(
        importer.ended().is_none()
            && story.get("mv", "fraud-1")["spec"].get("evaluations").is_none()
    );
}

#[test]
fn what_others_registered_is_left_alone_and_told_where_it_differs() {
    let (story, server, name) = (begin("hands", false), Mlflow::start(), "Fraud Score (EU)");
    let logged = server.trained("fraud");
    [1, 2].iter().for_each(|_| drop(server.register(name, &logged)));
    story.version("1", "by-hand");
    let by_hand = story.get("mv", "fraud-1");
    story.apply(&registry(&server.url(), json!({})));
    let _importer = importer(&story, &[]);
    let told = ready(&story, "Conflicts");
    assert_eq!(told["status"]["problems"][0]["version"], "1");
    assert!(message(&told).contains("fraud-1 was registered here by other hands"), "{told}");
    assert_eq!(
        (story.get("mv", "fraud-1")["spec"].clone(), story.event("Conflict")),
        (by_hand["spec"].clone(), story.event("Conflict"))
    );
    assert!(story.find("mv", "fraud-2").is_some(), "what does not conflict is imported");
}

#[test]
fn an_importer_without_rights_ends_with_the_line_that_helps_and_one_that_crashes_is_told() {
    let story = begin("rights", true);
    let crashes = json!({"template": {"metadata": {"annotations": {"test.rollmodel.dev/behave": "crash-loop"}}}});
    story.apply(&registry("http://127.0.0.1:9", crashes));
    let mut process = importer(&story, &[]);
    within(
        std::time::Duration::from_secs(60),
        || process.ended().is_some(),
        || process_log(&story),
    );
    let said = std::fs::read_to_string(words(&story)).unwrap();
    assert!(
        said.starts_with("RBACMissing: ") && said.contains("--clusterrole=rollmodel-importer"),
        "{said}"
    );
    let told = ready(&story, "ImporterNotReady");
    story.until_true("its last words are told", || {
        message(&story.get("mreg", "mlflow")).contains("model file is corrupt")
    });
    assert_eq!(condition(&told, "Reconciling")["status"], "True");
    // With the rights, a server that is not there is one sentence, asked for again later each time.
    bind(&story);
    story.kubectl(&[
        "patch",
        "mreg",
        "mlflow",
        "--type=merge",
        "-p",
        r#"{"spec": {"template": null}}"#,
    ]);
    story.until_true("its pod runs", || {
        story.get("deployment", "mlflow-importer")["status"]["readyReplicas"] == 1
    });
    let process = importer(&story, &[]);
    let told = ready(&story, "Unreachable");
    assert!(message(&told).contains("Cannot reach 127.0.0.1:9"), "{told}");
    story.kubectl(&[
        "patch",
        "mreg",
        "mlflow",
        "--type=merge",
        "-p",
        r#"{"spec": {"suspend": true}}"#,
    ]);
    ready(&story, "Suspended");
    assert_eq!(story.get("deployment", "mlflow-importer")["spec"]["replicas"], 0);
    let looks = process.log().matches("the look failed").count();
    assert!((1..=6).contains(&looks), "{}", process.log());
}

fn process_log(story: &Story) -> String {
    std::fs::read_to_string(story.cluster.dir().join(format!("importer-{}.log", story.namespace)))
        .unwrap_or_default()
}

#[test]
fn a_password_that_is_corrected_in_the_secret_works_at_the_next_look_and_a_server_that_comes_back_does_too()
 {
    let (story, server, name, secret) = (
        begin("password", false),
        Mlflow::with_accounts(),
        "Fraud Score (EU)",
        Dir::fresh("secret"),
    );
    server.register(name, &server.trained("fraud"));
    let proxy = Proxy::before(server.port());
    let password =
        |password: &str| std::fs::write(secret.join("MLFLOW_TRACKING_PASSWORD"), password).unwrap();
    std::fs::write(secret.join("MLFLOW_TRACKING_USERNAME"), ADMIN.0).unwrap();
    password("hunter2");
    story.apply(&registry(&proxy.endpoint(), json!({})));
    let process = importer(&story, &[("ROLLMODEL_CREDENTIALS", secret.path().to_str().unwrap())]);
    let told = ready(&story, "Unauthorized");
    assert!(
        message(&told)
            .ends_with("does not accept the credentials of spec.credentialsSecret (401)."),
        "{told}"
    );
    assert_eq!(condition(&told, "Stalled")["status"], "True");
    password(ADMIN.1);
    ready(&story, "Polled");
    let failed = process.log().matches("the look failed").count();
    assert!(
        (1..=2).contains(&failed) && proxy.requests().len() < 20,
        "{failed} {:?}",
        proxy.requests()
    );
    proxy.set(Mood::Refuse);
    let told = ready(&story, "Unreachable");
    assert!(message(&told).starts_with("Cannot reach 127.0.0.1:"), "{told}");
    assert_eq!(
        (condition(&told, "Reconciling")["status"].as_str(), &told["status"]["imported"]),
        (Some("True"), &json!(1))
    );
    let asked = proxy.connections();
    proxy.set(Mood::Through);
    ready(&story, "Polled");
    let (log, connections) = (process.log(), proxy.connections() - asked);
    assert!(
        log.matches("the look failed").count() < 10 && connections < 20,
        "{connections} connections\n{log}"
    );
    assert!(!log.contains("hunter2") && !log.contains(ADMIN.1), "{log}");
}

/// A server that counts what it is asked, and answers never or for ever.
fn endless(answers: bool) -> (Serving, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let answer = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            if !answers {
                std::future::pending::<()>().await;
            }
            let chunk = axum::body::Bytes::from(vec![b' '; 1024 * 1024]);
            axum::body::Body::from_stream(futures::stream::repeat_with(move || {
                Ok::<_, std::io::Error>(chunk.clone())
            }))
        }
    };
    (Serving::start(axum::Router::new().fallback(answer)), asked)
}

#[test]
fn a_server_that_is_slow_or_endless_or_refuses_its_name_is_one_sentence_and_a_few_requests() {
    let story = begin("slow", false);
    let (forever, asked) = endless(true);
    story.apply(&registry(&forever.url(), json!({})));
    let process = importer(&story, &[]);
    let told = ready(&story, "Unreachable");
    assert!(message(&told).ends_with("is answered with more than 16 MiB."), "{told}");
    assert!(asked.load(Ordering::Relaxed) <= 4);
    let turn_to = |url: &str| {
        let patch = json!({"spec": {"mlflow": {"url": url}}}).to_string();
        story.kubectl(&["patch", "mreg", "mlflow", "--type=merge", "-p", &patch]);
    };
    let other = Mlflow::start_for_host("mlflow.mlflow:*");
    turn_to(&other.url());
    let told = ready(&story, "HostRefused");
    assert!(
        message(&told).contains(&format!("--allowed-hosts '127.0.0.1:{}'", other.port())),
        "{told}"
    );
    let (silent, asked) = endless(false);
    turn_to(&silent.url());
    let late =
        || message(&story.get("mreg", "mlflow")).ends_with("did not begin to answer within 60 s.");
    within(std::time::Duration::from_secs(120), late, || process.log());
    assert!(asked.load(Ordering::Relaxed) <= 2);
    assert!(process.log().matches("the look failed").count() < 8, "{}", process.log());
}

#[test]
fn bytes_that_are_overwritten_upstream_are_a_problem_and_an_event_and_the_record_stays() {
    let (story, server, name) = (begin("overwritten", false), Mlflow::start(), "Fraud Score (EU)");
    let logged = server.trained("fraud");
    server.register(name, &logged);
    story.apply(&registry(&server.url(), json!({})));
    let _process = importer(&story, &[("ROLLMODEL_RECHECK_SECONDS", "1")]);
    ready(&story, "Polled");
    let record = story.get("mv", "fraud-1");
    let problem_is =
        |reason: &str| story.get("mreg", "mlflow")["status"]["problems"][0]["reason"] == reason;
    assert!(!problem_is("UpstreamChanged"));
    server.put(
        &format!("{}/models/{}/artifacts/model.bin", server.experiment("fraud"), logged.id),
        b"other bytes",
    );
    story.until_true("it is told", || problem_is("UpstreamChanged"));
    let problem = story.get("mreg", "mlflow")["status"]["problems"][0].clone();
    let size = record["spec"]["artifact"]["size"].as_i64().unwrap();
    let says = problem["message"].as_str().unwrap();
    assert!(
        says.contains(&format!("and {size} ("))
            && says.contains("it was changed upstream. The record stays"),
        "{says}"
    );
    assert_eq!(story.event("UpstreamChanged"), format!("fraud 1: {says}"));
    let after = story.get("mv", "fraud-1");
    assert_eq!(
        (&after["spec"], &after["metadata"]["resourceVersion"]),
        (&record["spec"], &record["metadata"]["resourceVersion"])
    );
}

#[test]
fn a_version_whose_bytes_cannot_be_read_holds_up_no_other_and_is_imported_when_they_can() {
    let (story, server, name) = (begin("unreadable", false), Mlflow::start(), "Fraud Score (EU)");
    let (first, second) = (server.trained("fraud"), server.trained("fraud"));
    // The server answers 500 to whoever lists this, as where its own store is broken.
    let file = server.dir().join(format!(
        "art/{}/models/{}/artifacts/loop",
        server.experiment("fraud"),
        first.id
    ));
    symlink("loop", &file).unwrap();
    for logged in [&first, &second] {
        server.register(name, logged);
    }
    story.apply(&registry(&server.url(), json!({})));
    let _process = importer(&story, &[]);
    story.until_true("the second is imported", || story.find("mv", "fraud-2").is_some());
    let told = ready(&story, "Polled");
    let problem = &told["status"]["problems"][0];
    assert_eq!(
        (&problem["version"], &problem["reason"]),
        (&json!("1"), &json!("Unreadable")),
        "{told}"
    );
    assert!(
        problem["message"].as_str().unwrap().starts_with("Its bytes cannot be read: "),
        "{problem}"
    );
    fs::remove_file(file).unwrap();
    story.until_true("the first is imported", || story.find("mv", "fraud-1").is_some());
    story.until_true("nothing is in the way", || {
        story.get("mreg", "mlflow")["status"].get("problems").is_none()
    });
}
