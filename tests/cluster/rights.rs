//! With the shipped admission policies, nobody gets through the operator what RBAC denies them
//! (docs/design.md, Invariants).

use serde_json::{Value, json};

use crate::harness::story::{Story, condition, deployment, version_of};

/// A namespace with the shipped policies in force, Secrets `mine` and `other`, and people:
/// `writer` writes our kinds and nothing else, `builder` may create the pods that the operator makes
/// too, `maker` the Services as well, `reader` may also read Secret `mine`, and `editor` has
/// Kubernetes' own role.
fn begin(hint: &str) -> Story {
    let story = Story::begin(hint);
    story.with_shipped_policies();
    for secret in ["mine", "other"] {
        story.kubectl(&["create", "secret", "generic", secret]);
    }
    story.kubectl(&[
        "create",
        "role",
        "policies",
        "--verb=create,update,patch,get",
        "--resource=modelpolicies.rollmodel.dev",
    ]);
    for (name, resources) in [("builder", "deployments.apps,jobs.batch"), ("exposer", "services")] {
        let resources = format!("--resource={resources}");
        story.kubectl(&["create", "role", name, "--verb=create", &resources]);
    }
    story.kubectl(&[
        "create",
        "role",
        "reader",
        "--verb=get",
        "--resource=secrets",
        "--resource-name=mine",
    ]);
    let bind = |role: &str, users: &[&str]| {
        let users: Vec<String> = users.iter().map(|user| format!("--user={user}")).collect();
        let name = role.rsplit('=').next().unwrap();
        let args: Vec<&str> = ["create", "rolebinding", name, role]
            .into_iter()
            .chain(users.iter().map(String::as_str))
            .collect();
        story.kubectl(&args);
    };
    bind("--clusterrole=rollmodel-edit", &["writer", "builder", "maker", "reader"]);
    bind("--clusterrole=rollmodel-view", &["writer", "builder", "maker", "reader"]);
    bind("--role=policies", &["writer", "maker", "reader", "editor"]);
    bind("--role=builder", &["builder", "maker", "reader"]);
    bind("--role=exposer", &["maker", "reader"]);
    bind("--role=reader", &["reader"]);
    bind("--clusterrole=edit", &["editor"]);
    let refuses =
        || !says(&story, "writer", &["apply", "--dry-run=server"], &registry(json!({}))).is_empty();
    story.until_true("the policies are in force", refuses);
    story
}

/// What kubectl says to somebody who does this with an object; empty where it is done.
fn says(story: &Story, who: &str, what: &[&str], object: &Value) -> String {
    let who = format!("--as={who}");
    let args = [&["-n", story.namespace.as_str(), who.as_str()], what, &["-f", "-"]].concat();
    let out = story.cluster.try_kubectl_in(&args, &object.to_string());
    if out.status.success() {
        String::new()
    } else {
        String::from_utf8_lossy(&out.stderr).into_owned()
    }
}

fn apply(story: &Story, who: &str, object: &Value) -> String {
    says(story, who, &["apply"], object)
}

/// What kubectl says to somebody who does this; empty where it is done.
fn does(story: &Story, who: &str, args: &[&str]) -> String {
    let who = format!("--as={who}");
    let out = story
        .cluster
        .try_kubectl(&[&["-n", story.namespace.as_str(), who.as_str()], args].concat());
    if out.status.success() {
        String::new()
    } else {
        String::from_utf8_lossy(&out.stderr).into_owned()
    }
}

fn merge(story: &Story, who: &str, what: &str, spec: Value) -> String {
    does(story, who, &["patch", what, "--type=merge", "-p", &json!({"spec": spec}).to_string()])
}

fn may_not_create(story: &Story, who: &str, what: &str) -> String {
    format!(
        "{who} may not create {what} in namespace {}, and so not have the operator create them: ask an administrator for that right",
        story.namespace
    )
}

fn may_not_get(story: &Story, who: &str, secret: &str, field: &str) -> String {
    format!(
        "{who} may not get Secret {secret} in namespace {}, which {field} names: name one that you may read, or ask an administrator for that right",
        story.namespace
    )
}

#[track_caller]
fn refused(said: &str, sentence: &str) {
    assert!(said.contains(sentence), "{said:?} does not say {sentence:?}");
}

fn registry(more: Value) -> Value {
    let models = json!([{"name": "fraud", "registeredModel": "Fraud"}]);
    let mut spec = json!({"mlflow": {"url": "http://127.0.0.1:9"}, "serviceAccountName": "default", "models": models});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelRegistry", "metadata": {"name": "mlflow"}, "spec": spec})
}

fn secret(name: &str) -> Value {
    json!({"credentialsSecret": {"name": name}})
}

#[test]
fn who_writes_a_model_registry_has_to_have_the_right_to_what_its_importer_gets() {
    let story = begin("rights-mreg");
    let field = "spec.credentialsSecret";
    refused(
        &apply(&story, "writer", &registry(json!({}))),
        &may_not_create(&story, "writer", "deployments"),
    );
    refused(
        &apply(&story, "maker", &registry(secret("mine"))),
        &may_not_get(&story, "maker", "mine", field),
    );
    refused(
        &apply(&story, "reader", &registry(secret("other"))),
        &may_not_get(&story, "reader", "other", field),
    );
    assert!(story.list("mreg").is_empty());
    assert_eq!(
        apply(&story, "maker", &registry(json!({}))),
        "",
        "without a Secret, the right to create Deployments is enough"
    );
    assert_eq!(apply(&story, "reader", &registry(secret("mine"))), "");
    refused(
        &merge(&story, "reader", "mreg/mlflow", secret("other")),
        &may_not_get(&story, "reader", "other", field),
    );
    // What leaves it alone is another's right, or nobody's word.
    assert_eq!(merge(&story, "maker", "mreg/mlflow", json!({"intervalSeconds": 30})), "");
    assert_eq!(does(&story, "writer", &["label", "mreg/mlflow", "team=risk"]), "");
    refused(
        &merge(&story, "writer", "mreg/mlflow", json!({"intervalSeconds": 60})),
        &may_not_create(&story, "writer", "deployments"),
    );
    let elsewhere = json!({"mlflow": {"url": "https://elsewhere.example.com"}});
    refused(
        &merge(&story, "maker", "mreg/mlflow", elsewhere.clone()),
        &may_not_get(&story, "maker", "mine", field),
    );
    assert_eq!(merge(&story, "reader", "mreg/mlflow", elsewhere), "");
    assert_eq!(merge(&story, "maker", "mreg/mlflow", json!({"credentialsSecret": null})), "");
    assert_eq!(
        merge(&story, "editor", "mreg/mlflow", secret("other")),
        "",
        "Kubernetes' role edit may do both"
    );
    // The operator says what it has to, and makes the importer.
    story.until_true("its importer", || story.find("deployment", "mlflow-importer").is_some());
    story.until_true("its status", || {
        condition(&story.get("mreg", "mlflow"), "Ready")["status"] == "False"
    });
}

#[test]
fn who_writes_a_model_deployment_has_to_have_the_right_to_what_its_pods_get() {
    let story = begin("rights-mdep");
    let field = "spec.delivery.credentialsSecret";
    let artifact =
        json!({"uri": "s3://models/fraud/", "digest": format!("sha256:{}", "a".repeat(64))});
    for version in ["6", "7"] {
        let spec =
            json!({"image": format!("registry.example.com/fraud:{version}"), "artifact": artifact});
        assert_eq!(
            apply(&story, "writer", &version_of("fraud", version, spec)),
            "",
            "a record makes no pod"
        );
    }
    let fraud = |delivery: Value| {
        deployment("fraud", json!({"model": "fraud", "version": "6", "delivery": delivery}))
    };
    refused(
        &apply(&story, "writer", &fraud(json!({}))),
        &may_not_create(&story, "writer", "deployments"),
    );
    refused(
        &apply(&story, "maker", &fraud(secret("mine"))),
        &may_not_get(&story, "maker", "mine", field),
    );
    assert_eq!(apply(&story, "reader", &fraud(secret("mine"))), "");
    story.serves("6");
    assert_eq!(merge(&story, "maker", "mdep/fraud", json!({"version": "7"})), "");
    refused(
        &merge(&story, "maker", "mdep/fraud", json!({"delivery": secret("other")})),
        &may_not_get(&story, "maker", "other", field),
    );
    refused(
        &merge(&story, "writer", "mdep/fraud", json!({"version": "6"})),
        &may_not_create(&story, "writer", "deployments"),
    );
    assert_eq!(
        does(&story, "writer", &["scale", "mdep/fraud", "--replicas=2"]),
        "",
        "as an autoscaler does"
    );
    assert_eq!(does(&story, "writer", &["annotate", "mdep/fraud", "note=1"]), "");
    assert_eq!(merge(&story, "editor", "mdep/fraud", json!({"delivery": secret("other")})), "");
    let served = story.serves("7");
    assert_eq!(served["spec"]["replicas"], 2);
}

fn may_not_expose(story: &Story, who: &str, kind: &str) -> String {
    format!(
        "{who} may not create services in namespace {}, and so not have the operator create one of type {kind}: ask an administrator for that right",
        story.namespace
    )
}

#[test]
fn without_the_right_to_create_services_nobody_has_one_created_or_changed() {
    let story = begin("rights-svc");
    let fraud = |service: Value| {
        let spec = json!({"model": "fraud", "version": "6", "service": service});
        deployment("fraud", spec)
    };
    for version in ["6", "7"] {
        story.version(version, version);
    }
    for (service, kind) in [
        (json!({}), "ClusterIP"),
        (json!({"type": "LoadBalancer"}), "LoadBalancer"),
        (json!({"type": "NodePort", "port": 81}), "NodePort"),
    ] {
        let said = apply(&story, "builder", &fraud(service));
        refused(&said, &may_not_expose(&story, "builder", kind));
    }
    assert!(story.list("mdep").is_empty());
    assert_eq!(apply(&story, "maker", &fraud(json!({}))), "");
    story.serves("6");
    for (service, kind) in
        [(json!({"type": "LoadBalancer"}), "LoadBalancer"), (json!({"port": 81}), "ClusterIP")]
    {
        let said = merge(&story, "builder", "mdep/fraud", json!({"service": service}));
        refused(&said, &may_not_expose(&story, "builder", kind));
    }
    assert_eq!(
        merge(&story, "builder", "mdep/fraud", json!({"version": "7"})),
        "",
        "what leaves the Service alone needs no right to it"
    );
    story.serves("7");
    let exposed = json!({"service": {"type": "NodePort"}});
    assert_eq!(merge(&story, "editor", "mdep/fraud", exposed), "");
    story.until_true("the Service has its type", || {
        story.get("service", "fraud")["spec"]["type"] == "NodePort"
    });
}

#[test]
fn who_writes_a_model_policy_has_to_have_the_right_to_what_its_jobs_and_every_fetch_get() {
    let story = begin("rights-mpol");
    let policy = |spec: Value| json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelPolicy", "metadata": {"name": "default"}, "spec": spec});
    let verified = |secret: &str| json!({"verification": {"serviceAccountName": "default", "credentialsSecret": {"name": secret}}});
    let fetched = |secret: &str| json!({"delivery": {"credentialsSecret": {"name": secret}}});
    assert_eq!(
        apply(&story, "writer", &policy(json!({"requireImageDigest": false}))),
        "",
        "what is demanded needs no right"
    );
    refused(
        &merge(&story, "writer", "mpol/default", verified("mine")),
        &may_not_create(&story, "writer", "jobs"),
    );
    for (spec, field) in [
        (verified("mine"), "spec.verification.credentialsSecret"),
        (fetched("mine"), "spec.delivery.credentialsSecret"),
    ] {
        refused(
            &merge(&story, "maker", "mpol/default", spec.clone()),
            &may_not_get(&story, "maker", "mine", field),
        );
        assert_eq!(merge(&story, "reader", "mpol/default", spec), "");
    }
    assert_eq!(merge(&story, "writer", "mpol/default", json!({"requireArtifactDigest": true})), "");
    refused(
        &merge(&story, "reader", "mpol/default", fetched("other")),
        &may_not_get(&story, "reader", "other", "spec.delivery.credentialsSecret"),
    );
}
