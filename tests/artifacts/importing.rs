//! What is read of a real tracking server: every change that it shows, every trap that it sets, and
//! what it costs.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use rollmodel::{
    api::{ModelRegistrySpec, ModelVersionSpec},
    fetch::{
        credentials::Credentials,
        http::{Resolve, System as Dns},
    },
    import::decide,
    import::system::{self, About, Candidate, Found, Kind, Means, Outcome, System, Trouble},
};
use serde_json::{Value, json};

use crate::{
    fetcher::{Fetcher, sha256},
    servers::{
        mlflow::{Logged, MLMODEL, Mlflow},
        proxy::{Mood, Proxy},
        runtime,
        s3::S3,
        serve::Serving,
    },
};

mod destination;
mod workspaces;

/// An importer's view of a server.
struct View {
    spec: ModelRegistrySpec,
    system: Box<dyn System>,
}

fn spec(url: &str, models: Value) -> ModelRegistrySpec {
    serde_json::from_value(
        json!({"mlflow": {"url": url}, "serviceAccountName": "importer", "models": models}),
    )
    .unwrap()
}

fn open(
    spec: &ModelRegistrySpec,
    credentials: &[(&str, &str)],
    resolve: Arc<dyn Resolve>,
) -> Result<Box<dyn System>, Trouble> {
    let given = credentials.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let credentials = Arc::new(Credentials::read(None, given).unwrap());
    let means = Means {
        registry: "mlflow".into(),
        credentials,
        allowed: vec!["127.0.0.0/8".parse().unwrap()],
        resolve,
    };
    system::open(spec, &means)
}

impl View {
    fn of(url: &str, models: Value) -> Self {
        Self::with(spec(url, models), &[])
    }

    fn with(spec: ModelRegistrySpec, credentials: &[(&str, &str)]) -> Self {
        Self { system: open(&spec, credentials, Arc::new(Dns)).unwrap(), spec }
    }

    /// A registered model of the shared server.
    fn registered(name: &str) -> Self {
        Self::of(&Mlflow::shared().url(), json!([{"name": "fraud", "registeredModel": name}]))
    }

    fn survey(&mut self, whole: bool) -> Result<Vec<Found>, Trouble> {
        runtime().block_on(self.system.survey(&self.spec, whole)).map(|survey| survey.models)
    }

    /// What there is for the first rule.
    fn look(&mut self) -> Found {
        self.survey(false).unwrap().remove(0)
    }

    fn describe_in(&self, candidate: &Candidate, settle: i64) -> Result<Outcome, Trouble> {
        let about = About { rule: &self.spec.models[0], candidate, settle, now: Timestamp::now() };
        runtime().block_on(self.system.describe(&about))
    }

    fn describe(&self, candidate: &Candidate) -> Outcome {
        self.describe_in(candidate, 0).unwrap()
    }

    /// The record of the newest version there.
    fn record(&mut self) -> ModelVersionSpec {
        let newest = self.look().candidates.into_iter().max_by_key(|c| c.time).unwrap();
        recorded(self.describe(&newest))
    }
}

fn recorded(outcome: Outcome) -> ModelVersionSpec {
    match outcome {
        Outcome::Record(described) => described.spec,
        other => panic!("{other:?}"),
    }
}

fn versions(found: &Found) -> Vec<&str> {
    let mut all: Vec<&str> =
        found.candidates.iter().filter(|c| c.fits).map(|c| c.version.as_str()).collect();
    all.sort_unstable();
    all
}

fn aliases(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(a, v)| ((*a).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn every_change_of_a_registered_model_is_seen_at_the_next_look() {
    let (server, name) = (Mlflow::shared(), "Changes (EU)");
    let (first, second) = (server.trained("changes"), server.trained("changes"));
    let mut view = View::of(
        &server.url(),
        json!([{"name": "fraud", "registeredModel": name, "versionTags": {"validated": "yes"}}]),
    );
    assert_eq!(view.look().candidates, [], "it is not there yet");
    for logged in [&first, &second, &first] {
        server.register(name, logged);
    }
    let tag = |version: &str, value: &str| {
        server.post(
            "model-versions/set-tag",
            json!({"name": name, "version": version, "key": "validated", "value": value}),
        )
    };
    assert_eq!(
        (versions(&view.look()), view.look().candidates.len()),
        (vec![], 3),
        "no version has the tag yet"
    );
    for version in ["1", "2", "3"] {
        tag(version, "yes");
    }
    assert_eq!(versions(&view.look()), ["1", "2", "3"]);
    tag("2", "no");
    assert_eq!(versions(&view.look()), ["1", "3"]);
    server.ask(
        "DELETE",
        "model-versions/delete-tag",
        &json!({"name": name, "version": "3", "key": "validated"}),
    );
    assert_eq!(versions(&view.look()), ["1"]);
    let alias = |alias: &str, version: &str| {
        server.post(
            "registered-models/alias",
            json!({"name": name, "alias": alias, "version": version}),
        )
    };
    alias("champion", "1");
    alias("Champion", "2");
    assert_eq!(view.look().aliases, aliases(&[("Champion", "2"), ("champion", "1")]));
    alias("champion", "3");
    server.ask("DELETE", "registered-models/alias", &json!({"name": name, "alias": "Champion"}));
    assert_eq!(view.look().aliases, aliases(&[("champion", "3")]));
    server.ask(
        "PATCH",
        "model-versions/update",
        &json!({"name": name, "version": "1", "description": "Retrained"}),
    );
    assert_eq!(
        view.look().candidates.iter().find(|c| c.version == "1").unwrap().description,
        "Retrained"
    );
    // In the middle, then the newest, whose alias goes with it.
    server.ask("DELETE", "model-versions/delete", &json!({"name": name, "version": "2"}));
    server.ask("DELETE", "model-versions/delete", &json!({"name": name, "version": "3"}));
    let left = view.look();
    assert_eq!((left.candidates.len(), &left.aliases), (1, &aliases(&[])));
    assert_eq!(server.register(name, &second), "4", "numbers of versions are not given again");
    server.post("registered-models/rename", json!({"name": name, "new_name": "Changes (US)"}));
    assert_eq!(view.look().candidates, [], "a renamed model is not followed");
    server.post("registered-models/rename", json!({"name": "Changes (US)", "new_name": name}));
    let before = view.look().candidates.into_iter().find(|c| c.version == "1").unwrap();
    assert_eq!(before.time, left.candidates[0].time, "a rename moves no time of creation");
    // Deleted and made again, it begins at 1 again, with another time and id.
    server.ask("DELETE", "registered-models/delete", &json!({"name": name}));
    assert_eq!(server.register(name, &second), "1");
    let again = view.look().candidates.remove(0);
    assert!(
        again.version == "1" && again.time != before.time && again.id == Some(second.id.clone()),
        "{again:?}"
    );
}

#[test]
fn a_thousand_registered_models_cost_two_requests_a_look() {
    let server = Mlflow::start();
    server.register("the first", &server.trained("thousand"));
    server.python("many.py", &["mlflow.db", "999"], &[]);
    let proxy = Proxy::before(server.port());
    let rules: Vec<Value> = (0..999)
        .map(|n| json!({"name": format!("model-{n}"), "registeredModel": format!("model {n}")}))
        .collect();
    let mut view = View::of(&proxy.endpoint(), json!(rules));
    let first = view.survey(true).unwrap();
    assert!(first.len() == 999 && first.iter().all(|found| found.candidates.len() == 1));
    proxy.reset();
    assert_eq!(view.survey(false).unwrap(), first);
    assert_eq!(proxy.requests().len(), 2, "{:?}", proxy.requests());
    // With logged models of any number of experiments, one more.
    let mut rules = rules;
    rules.truncate(900);
    rules.extend(
        ["thousand", "other"].map(|e| json!({"name": e, "loggedModels": {"experiment": e}})),
    );
    server.experiment("other");
    let mut view = View::of(&proxy.endpoint(), json!(rules));
    view.survey(true).unwrap();
    proxy.reset();
    view.survey(false).unwrap();
    assert_eq!(proxy.requests().len(), 3, "{:?}", proxy.requests());
}

#[test]
fn mlflows_first_example_becomes_a_record_with_all_that_reproducing_it_needs() {
    let server = Mlflow::shared();
    let context =
        json!({"rollmodel.dev/image": "reg/train@sha256:aa", "mlflow.source.name": "job/train"})
            .to_string();
    let env =
        [("MLFLOW_EXPERIMENT_NAME", "first-example"), ("MLFLOW_RUN_CONTEXT", context.as_str())];
    let run =
        server.python("train.py", &["first", "First"], &env).lines().last().unwrap().to_owned();
    let mut view = View::registered("First");
    let spec = view.record();
    let value = serde_json::to_value(&spec).unwrap();
    assert_eq!((value["model"].as_str(), value["version"].as_str()), (Some("fraud"), Some("1")));
    assert_eq!(value["framework"], json!({"name": "scikit-learn", "version": "1.9.1"}));
    assert_eq!(value["parameters"], json!({"C": "1.0", "max_iter": "200"}));
    let names: Vec<&str> = spec.metrics.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["accuracy", "late"], "what the run logged after it registered the model");
    assert_eq!(value["datasets"][0]["role"], "training");
    assert_eq!(value["datasets"][0]["uri"], "https://data.example.com/iris.csv");
    assert_eq!((spec.inputs.len(), value["inputs"][0]["datatype"].as_str()), (4, Some("FP64")));
    assert_eq!(value["outputs"], json!([{"name": "output-0", "datatype": "INT64", "shape": [-1]}]));
    assert_eq!(value["environment"]["languageVersion"], "3.11.7");
    assert_eq!(
        value["environment"]["image"], "reg/train@sha256:aa",
        "by the environment alone, without a line in the code"
    );
    assert_eq!(
        (value["run"]["id"].as_str(), value["run"]["system"].as_str()),
        (Some(run.as_str()), Some("MLflow"))
    );
    let artifact = spec.artifact.clone().unwrap();
    assert_eq!(
        Fetcher::new().run(&["digest", &artifact.uri]).stdout.trim(),
        artifact.digest.unwrap()
    );
    let lockfile = spec.environment.unwrap().lockfile.unwrap();
    assert_eq!(
        Fetcher::new().run(&["digest", &lockfile.uri]).stdout.trim(),
        lockfile.digest.unwrap()
    );
}

#[test]
fn numbers_are_those_of_the_run_s_end_and_what_is_none_is_left_out() {
    let server = Mlflow::shared();
    server.python("train.py", &["steps", "Steps"], &[("MLFLOW_EXPERIMENT_NAME", "steps")]);
    let spec = View::registered("Steps").record();
    let shown = |m: &rollmodel::api::version::Metric| {
        format!(
            "{}{}={}",
            m.name,
            m.dataset.as_ref().map(|d| format!("@{d}")).unwrap_or_default(),
            m.value
        )
    };
    assert_eq!(
        spec.metrics.iter().map(shown).collect::<Vec<_>>(),
        ["auc@holdout=0.8", "auc@train=0.9", "val_loss=0.8"]
    );
}

/// What is measured of a version by now, where its record says so and so.
fn evaluated(view: &View, candidate: &Candidate, record: &ModelVersionSpec) -> Option<Vec<String>> {
    let id = record.origin.as_ref().and_then(|origin| origin.id.as_deref());
    let measured = runtime().block_on(view.system.measured(candidate, id)).unwrap()?;
    let all = decide::evaluations(&record.metrics, &[], &measured.metrics);
    assert!(all.iter().all(|m| m.time.is_some()), "{all:?}");
    Some(
        all.iter()
            .map(|m| format!("{}={}{}", m.name, m.value, if measured.goes_on { "…" } else { "" }))
            .collect(),
    )
}

#[test]
fn numbers_that_come_after_the_import_are_told_beside_the_record_and_a_gone_model_tells_none() {
    let server = Mlflow::shared();
    let run = server.begin_run("measured");
    server.log_metric(&run, "auc", 0.9);
    server.log_metric(&run, "loss", 0.2);
    let logged = server.log_model("measured", &run, 0, &[("MLmodel", MLMODEL)], json!([]));
    server.register("Measured", &logged);
    let mut view = View::registered("Measured");
    let (record, candidate) = (view.record(), view.look().candidates.remove(0));
    let told = |view: &View| evaluated(view, &candidate, &record);
    assert_eq!(told(&view), Some(vec![]));
    server.log_metric(&run, "auc", 0.8);
    server.post(
        "runs/log-metric",
        json!({"run_id": run, "key": "broken", "value": "NaN", "timestamp": 1_795_800_000_000_i64}),
    );
    server.log_metric(&run, "system/cpu", 4.0);
    assert_eq!(told(&view), Some(vec!["auc=0.8…".into()]), "its run goes on");
    server.end_run(&run, "FINISHED");
    server.log_metric(&run, "drift", 0.1);
    assert_eq!(told(&view), Some(vec!["auc=0.8".into(), "drift=0.1".into()]));
    // Of two models of a run each has its own numbers.
    server.log_model("measured", &run, 1, &[("MLmodel", MLMODEL)], json!([]));
    assert_eq!(told(&view), Some(vec![]), "the run's last numbers may be the other's");
    server.ask("DELETE", &format!("logged-models/{}", logged.id), &json!({"model_id": logged.id}));
    assert_eq!(told(&view), None);
}

#[test]
fn a_version_waits_for_its_run_as_long_as_it_is_told_to() {
    let server = Mlflow::shared();
    let run = server.begin_run("waits");
    let logged = server.log_model("waits", &run, 0, &[("MLmodel", MLMODEL)], json!([]));
    server.register("Waits", &logged);
    let mut view = View::registered("Waits");
    let candidate = view.look().candidates.remove(0);
    let waits = Outcome::Waits { reason: "RunNotEnded", message: None };
    assert_eq!(view.describe_in(&candidate, 600).unwrap(), waits);
    assert_eq!(
        recorded(view.describe_in(&candidate, 0).unwrap()).run.unwrap().end_time,
        None,
        "no longer than that"
    );
    server.end_run(&run, "FAILED");
    assert!(
        recorded(view.describe_in(&candidate, 600).unwrap()).run.unwrap().end_time.is_some(),
        "who registers it vouches for it"
    );
}

#[test]
fn what_comes_without_a_run_or_a_logged_model_is_imported_and_what_no_pod_can_fetch_is_told() {
    let server = Mlflow::shared();
    let logged = server.trained("sources");
    server.register("Sources", &logged);
    server.register_from("Sources", json!({"name": "Sources", "source": "dbfs:/models/x"}));
    server.ask("DELETE", &format!("logged-models/{}", logged.id), &json!({"model_id": logged.id}));
    let mut view = View::registered("Sources");
    let found = view.look();
    let of = |version: &str| found.candidates.iter().find(|c| c.version == version).unwrap();
    let spec = recorded(view.describe(of("1")));
    assert_eq!(
        (spec.origin.unwrap().id, spec.run.map(|r| r.id)),
        (Some(logged.id), Some(logged.run)),
        "versions outlive logged models"
    );
    let Outcome::Problem { reason, message } = view.describe(of("2")) else {
        panic!("it cannot be imported")
    };
    assert_eq!(
        (reason, message.contains("dbfs:/models/x, which no pod can fetch")),
        ("UnsupportedSource", true),
        "{message}"
    );
}

#[test]
fn names_are_told_apart_to_the_last_character() {
    let server = Mlflow::shared();
    let logged = server.trained("names");
    let long = "n".repeat(250);
    let names =
        ["Naming", "naming", "naming ", " naming", "ÄÖ", "it's", "a\"b", "a%b", long.as_str()];
    for name in names {
        server.register(name, &logged);
    }
    for name in names {
        let found = View::registered(name).look();
        assert_eq!(
            (found.candidates.len(), found.candidates.first().map(|c| c.model.as_str())),
            (1, Some(name))
        );
    }
}

#[test]
fn bytes_that_were_overwritten_have_another_size_and_another_digest() {
    let server = Mlflow::shared();
    let logged = server.trained("overwritten");
    server.register("Overwritten", &logged);
    let mut view = View::registered("Overwritten");
    let (before, candidate) = (view.record(), view.look().candidates.remove(0));
    let size = |view: &View| runtime().block_on(view.system.size(&candidate)).unwrap();
    assert_eq!(size(&view).map(|n| n as i64), before.artifact.as_ref().unwrap().size);
    server.put(
        &format!("{}/models/{}/artifacts/model.bin", server.experiment("overwritten"), logged.id),
        b"other",
    );
    assert_eq!(view.look().candidates[0], candidate, "nothing there tells it");
    let after = view.record().artifact.unwrap();
    assert!(
        size(&view).map(|n| n as i64) == after.size
            && after.digest != before.artifact.unwrap().digest
    );
}

/// A rule for logged models of an experiment.
fn logged_models(experiment: &str, tags: Value) -> View {
    View::of(
        &Mlflow::shared().url(),
        json!([{"name": "churn", "loggedModels": {"experiment": experiment, "tags": tags}}]),
    )
}

#[test]
fn a_run_that_registers_nothing_is_imported_by_its_tags_once_it_finished() {
    let server = Mlflow::shared();
    let tags = json!([{"key": "rollmodel.dev/model", "value": "churn"}]);
    let mut view = logged_models("tagged", json!({"rollmodel.dev/model": "churn"}));
    assert_eq!(view.look().candidates, [], "the experiment is not there yet");
    let run = server.begin_run("tagged");
    server.log_model("tagged", &run, 0, &[("MLmodel", MLMODEL)], json!([]));
    let logged = server.log_model("tagged", &run, 1, &[("MLmodel", MLMODEL)], tags.clone());
    let found = view.look();
    assert_eq!(found.candidates.len(), 1, "the other has no tag");
    let candidate = found.candidates[0].clone();
    assert_eq!(
        view.describe(&candidate),
        Outcome::Waits { reason: "RunNotEnded", message: None },
        "the model is ready before its run ended"
    );
    server.end_run(&run, "FAILED");
    assert_eq!(
        view.describe(&candidate),
        Outcome::Waits { reason: "RunNotFinished", message: None }
    );
    server.end_run(&run, "FINISHED");
    let spec = recorded(view.describe(&candidate));
    assert!(
        spec.version.ends_with(&logged.id[2..10]) && spec.version.len() == 24,
        "{}",
        spec.version
    );
    assert_eq!(spec.origin.unwrap().id, Some(logged.id));
    // A tag that comes later moves no time there: it is seen when everything is read again.
    let late = server.trained("tagged");
    assert_eq!(view.look().candidates.len(), 1);
    server.ask(
        "PATCH",
        &format!("logged-models/{}/tags", late.id),
        &json!({"model_id": late.id, "tags": tags}),
    );
    assert_eq!(view.survey(true).unwrap()[0].candidates.len(), 2);
    // What is deleted is gone then, too.
    server.ask("DELETE", &format!("logged-models/{}", late.id), &json!({"model_id": late.id}));
    assert_eq!(view.survey(true).unwrap()[0].candidates.len(), 1);
}

#[test]
fn of_several_models_of_a_run_the_one_of_the_highest_step_is_meant() {
    let server = Mlflow::shared();
    let log = |run: &str, step| {
        server.log_model("several", run, step, &[("MLmodel", MLMODEL)], json!([]))
    };
    let (clear, tied) = (server.begin_run("several"), server.begin_run("several"));
    let models = [log(&clear, 1), log(&clear, 5), log(&tied, 2), log(&tied, 2)];
    for run in [&clear, &tied] {
        server.end_run(run, "FINISHED");
    }
    let mut view = logged_models("several", json!({}));
    let found = view.look();
    let outcome = |logged: &Logged| {
        view.describe(found.candidates.iter().find(|c| c.there == logged.id).unwrap())
    };
    assert_eq!(outcome(&models[0]), Outcome::Passed);
    recorded(outcome(&models[1]));
    for tied in &models[2..] {
        assert!(matches!(outcome(tied), Outcome::Problem { reason: "AmbiguousModels", .. }));
    }
}

/// What a look at an address fails with.
fn trouble(url: &str, credentials: &[(&str, &str)], resolve: Arc<dyn Resolve>) -> Trouble {
    let spec = spec(url, json!([{"name": "fraud", "registeredModel": "Fraud"}]));
    let mut system = open(&spec, credentials, resolve).unwrap();
    runtime().block_on(system.survey(&spec, true)).unwrap_err()
}

/// Says that every host is this machine.
struct Here;

impl Resolve for Here {
    fn resolve(
        &self,
        _: String,
        _: u16,
    ) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<std::net::IpAddr>>> + Send>>
    {
        Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) })
    }
}

#[test]
fn a_server_that_refuses_its_own_name_is_told_with_the_flag_that_helps() {
    let server = Mlflow::shared();
    let trouble = trouble(&format!("http://mlflow.mlflow:{}", server.port()), &[], Arc::new(Here));
    assert_eq!(trouble.kind, Kind::HostRefused);
    let name = format!("mlflow.mlflow:{}", server.port());
    let want = format!(
        "The MLflow server does not answer to the name {name}: start it with --allowed-hosts '{name}' (or MLFLOW_SERVER_ALLOWED_HOSTS)."
    );
    assert_eq!(trouble.sentence, want);
    let open = Mlflow::start_for_host("mlflow.mlflow:*");
    let spec = spec(
        &format!("http://mlflow.mlflow:{}", open.port()),
        json!([{"name": "fraud", "registeredModel": "Fraud"}]),
    );
    let mut system = self::open(&spec, &[], Arc::new(Here)).unwrap();
    runtime().block_on(system.survey(&spec, true)).unwrap();
}

#[test]
fn without_rights_there_is_a_sentence_or_nothing_and_never_half_a_record() {
    let server = Mlflow::with_accounts();
    let trained = server.trained("secret");
    server.register("Fraud", &trained);
    server.post("users/create", json!({"username": "bob", "password": "bob-password-1234"}));
    let dns = || Arc::new(Dns);
    let account =
        |password| [("MLFLOW_TRACKING_USERNAME", "bob"), ("MLFLOW_TRACKING_PASSWORD", password)];
    let none = trouble(&server.url(), &[], dns());
    assert!(
        none.kind == Kind::Unauthorized && none.sentence.contains("spec.credentialsSecret"),
        "{none}"
    );
    let wrong = trouble(&server.url(), &account("hunter2"), dns());
    assert!(wrong.kind == Kind::Unauthorized && !wrong.sentence.contains("hunter2"), "{wrong}");
    let rules = || spec(&server.url(), json!([{"name": "fraud", "registeredModel": "Fraud"}]));
    let mut view = View::with(rules(), &account("bob-password-1234"));
    assert_eq!(view.look().candidates, [], "no permission looks like no models");
    let grant = |kind: &str, id: &str| {
        let body = json!({"username": "bob", "resource_type": kind, "resource_id": id, "permission": "READ"});
        server.post("/api/3.0/mlflow/users/permissions/grant", body)
    };
    grant("registered_model", "Fraud");
    let candidate = view.look().candidates.remove(0);
    let Outcome::Waits { reason, message } = view.describe(&candidate) else {
        panic!("the run may not be read")
    };
    assert!(
        reason == "RunForbidden" && message.unwrap().contains("grant it READ on the experiment")
    );
    grant("experiment", &server.experiment("secret"));
    assert!(recorded(view.describe(&candidate)).run.is_some());
}

#[test]
fn artifacts_in_s3_are_hashed_through_the_server_or_where_they_are() {
    let s3 = S3::start();
    s3.make_bucket("models");
    let proxied = Mlflow::before(&s3, "s3://models/art");
    let logged = proxied.trained("s3");
    proxied.register("Fraud", &logged);
    let mut rules = spec(&proxied.url(), json!([{"name": "fraud", "registeredModel": "Fraud"}]));
    rules.mlflow.as_mut().unwrap().artifacts_destination = Some("s3://models/art".into());
    let artifact = View::with(rules, &[]).record().artifact.unwrap();
    let path = format!("{}/models/{}/artifacts", proxied.experiment("s3"), logged.id);
    assert_eq!(artifact.uri, format!("s3://models/art/{path}"));
    let endpoint = s3.endpoint();
    let pod = Fetcher::new().env(S3::env()).env([("AWS_ENDPOINT_URL", endpoint.as_str())]);
    assert_eq!(pod.run(&["digest", &artifact.uri]).stdout.trim(), artifact.digest.unwrap());
    // Straight in S3: by rights of the importer's own, else told.
    let beside = Mlflow::beside(&s3, "s3://models/direct");
    let run = beside.begin_run("direct");
    let logged = beside.log_model("direct", &run, 0, &[], json!([]));
    let key =
        format!("direct/{}/models/{}/artifacts/MLmodel", beside.experiment("direct"), logged.id);
    s3.put("models", &key, MLMODEL);
    beside.end_run(&run, "FINISHED");
    beside.register("Fraud", &logged);
    let rules = || spec(&beside.url(), json!([{"name": "fraud", "registeredModel": "Fraud"}]));
    let mut credentials = S3::env().to_vec();
    credentials.push(("AWS_ENDPOINT_URL", endpoint.as_str()));
    let spec = View::with(rules(), &credentials).record();
    assert_eq!(spec.artifact.unwrap().size, Some(MLMODEL.len() as i64));
    assert_eq!(spec.framework.unwrap().name, "scikit-learn");
    let mut view = View::with(rules(), &[("AWS_ENDPOINT_URL", endpoint.as_str())]);
    let candidate = view.look().candidates.remove(0);
    assert!(matches!(
        view.describe(&candidate),
        Outcome::Waits { reason: "Unreadable", message: Some(_) }
    ));
    assert_ne!(sha256(MLMODEL), "");
}

#[test]
fn a_server_that_is_down_or_lies_or_never_ends_is_one_sentence() {
    let proxy = Proxy::before(Mlflow::shared().port());
    proxy.set(Mood::Refuse);
    let down = trouble(&proxy.endpoint(), &[], Arc::new(Dns));
    assert_eq!(down.kind, Kind::Unreachable, "{down}");
    let pages = axum::Router::new().fallback(|| async { "<html>Sign in</html>" });
    let lies = Serving::start(pages);
    let told = trouble(&lies.url(), &[], Arc::new(Dns));
    assert!(
        told.kind == Kind::Unreachable
            && told.sentence.contains("not MLflow's API: look at spec.mlflow.url"),
        "{told}"
    );
    let chunk = axum::body::Bytes::from(vec![b' '; 1024 * 1024]);
    let forever = move || {
        let chunk = chunk.clone();
        async move {
            axum::body::Body::from_stream(futures::stream::repeat_with(move || {
                Ok::<_, std::io::Error>(chunk.clone())
            }))
        }
    };
    let endless = Serving::start(axum::Router::new().fallback(forever));
    let told = trouble(&endless.url(), &[], Arc::new(Dns));
    assert!(told.sentence.contains("more than 16 MiB"), "{told}");
    let elsewhere = axum::Router::new().fallback(|| async {
        axum::response::Redirect::temporary("http://169.254.169.254/latest")
    });
    let sends_on = Serving::start(elsewhere);
    let told = trouble(&sends_on.url(), &[("MLFLOW_TRACKING_TOKEN", "hunter2")], Arc::new(Dns));
    assert!(
        told.sentence.contains("to another host") && !told.sentence.contains("hunter2"),
        "{told}"
    );
    let nothing = trouble(&format!("{}/nothing", Mlflow::shared().url()), &[], Arc::new(Dns));
    assert!(nothing.sentence.contains("look at spec.mlflow.url"), "{nothing}");
}
