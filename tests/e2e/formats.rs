//! What else serves in the same way: a model of another library, and one that an OCI registry
//! keeps.

use std::{collections::BTreeMap, fs, time::Instant};

use serde_json::{Value, json};

use crate::{
    corner::{Corner, spec},
    harness::story::version_of,
    models::{BETTER, TREES},
    node::{self, MLSERVER},
    servers::{
        certs::Authority,
        registry::{Auth, Registry},
    },
    stream::Stream,
    took::took_in_parts,
    watch::{Watch, holds},
};

const REPOSITORY: &str = "risk/flowers";

/// A registry with a password and a certificate of an authority, at an address that pods reach; the
/// corner may fetch from it.
fn registry(corner: &Corner, authority: &Authority) -> Registry {
    let registry = Registry::start_at(&node::address(), Auth::Basic, Some(authority));
    let mut secret = corner.models.secret();
    secret["stringData"][".dockerconfigjson"] =
        json!(Registry::docker_config(&registry.host()).to_string());
    secret["stringData"]["ca.crt"] = json!(fs::read_to_string(authority.certificate()).unwrap());
    corner.story.apply(&secret);
    corner.story.apply(&json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelPolicy", "metadata": {"name": "default"},
        "spec": {"delivery": {"allowedHosts": [registry.host()]}}}));
    registry
}

/// A version whose artifact is in a registry: the files of another that MLflow saved.
fn pushed(corner: &Corner, registry: &Registry, version: &str) -> Value {
    let files = corner.models.files(BETTER);
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let digest =
        registry.push_artifact(REPOSITORY, version, "application/vnd.mlflow.model", &files);
    let uri = format!("oci://{}/{REPOSITORY}:{version}", registry.host());
    version_of(
        "flowers",
        version,
        json!({"image": MLSERVER, "artifact": {"uri": uri, "digest": digest}}),
    )
}

#[test]
#[ignore = "needs root and a machine of its own: make e2e"]
fn a_model_of_boosted_trees_is_served_and_then_one_that_an_oci_registry_keeps() {
    let corner = Corner::begin("formats");
    let authority = Authority::new();
    let registry = registry(&corner, &authority);
    corner.import(MLSERVER);
    let record = corner.story.get("mv", TREES)["spec"].clone();
    assert_eq!(record["framework"], json!({"name": "xgboost", "version": "3.2.0"}), "{record:#}");
    let mut wanted = spec("1", 1);
    wanted["model"] = json!("flowers");
    corner.deploy(wanted);
    corner.story.serves("1");

    let (watch, stream) = (
        Watch::begin(&corner.story),
        Stream::begin(corner.address(), "flowers", &corner.models.question),
    );
    corner.story.until_true("the trees answer", || stream.settled_on("1"));
    let version = pushed(&corner, &registry, "2");
    let began = Instant::now();
    corner.story.apply(&version);
    corner.story.want("2");
    corner.story.serves("2");
    corner.story.until_true("what the registry keeps alone answers", || stream.settled_on("2"));
    note_how_it_came(&watch, &stream, began);

    let seen = stream.end();
    let answers = [("1", TREES), ("2", BETTER)]
        .map(|(version, of)| (version.to_owned(), corner.models.answers(of).clone()));
    seen.assert_right(&BTreeMap::from(answers));
    seen.assert_in_order(&["1", "2"].map(str::to_owned));
    seen.assert_told_by(&corner.story.list("mro"));
}

fn note_how_it_came(watch: &Watch, stream: &Stream, began: Instant) {
    let pod = |is: &dyn Fn(&Value) -> bool| watch.pods("2", 1, began, is)[0];
    let (first, _) = stream.span("2", began).unwrap();
    let parts = [
        ("  recorded", watch.first("ModelRollout", began, |o| o["spec"]["version"] == "2")),
        ("  scheduled", pod(&|o| holds(o, "PodScheduled"))),
        (
            "  fetched_and_verified",
            pod(&|o| o["status"]["initContainerStatuses"][0]["state"].get("terminated").is_some()),
        ),
        (
            "  server_started",
            pod(&|o| o["status"]["containerStatuses"][0]["state"].get("running").is_some()),
        ),
        ("  model_loaded", pod(&|o| holds(o, "Ready"))),
        ("  first_answer", first),
    ];
    took_in_parts("apply_to_first_prediction", began, &parts);
}
