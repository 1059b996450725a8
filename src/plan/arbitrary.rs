//! Values for tests: records of rollouts, and JSON that is drawn at random.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    api::{
        ModelDeploymentSpec,
        condition::Time,
        deployment::{DeliveryMode, Protocol},
        names,
        request::{RolloutRequestSpec, Verb},
        rollout::{ModelRolloutSpec, Outcome},
    },
    plan::{
        facts::Facts,
        make::{Delivered, Source},
        observed::{
            Controller, Deployment, DeploymentSpec, Meta, Observed, ObservedModelDeployment,
            Record, Request, StoredRevision, Version,
        },
    },
};

/// So many seconds after the time at which every test begins.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

/// An open rollout forward of a version of model `fraud`, decided at the beginning of the test.
pub fn record(number: i64, version: &str) -> ModelRolloutSpec {
    let json = json!({
        "modelDeploymentRef": {"name": "fraud", "uid": "u"}, "number": number,
        "direction": "Forward", "admission": {"asked": "Newly"}, "model": "fraud",
        "version": version, "recordDigest": format!("sha256:{version}"),
        "revisionHash": format!("v1:sha256:{version:0>16}aaaa"),
        "contentHash": format!("v1:sha256:{version:0>16}cccc"),
        "revisionName": format!("fraud-{version}"), "renderingDigest": "r",
        "strategy": "RollingUpdate", "deploymentName": "fraud", "trigger": "SpecChanged",
        "decidedBy": {"name": "spec"}, "startTime": at(0).to_string()});
    serde_json::from_value(json).unwrap()
}

/// The same rollout, promoted a second later.
pub fn promoted(number: i64, version: &str) -> ModelRolloutSpec {
    let time = Some(Time(at(1)));
    let (end_time, served_from) = (time.clone(), time);
    let outcome = Some(Outcome::Promoted);
    ModelRolloutSpec { outcome, end_time, served_from, ..record(number, version) }
}

/// The spec of the ModelDeployment, to be changed.
pub fn spec_of(observed: &mut Observed) -> &mut ModelDeploymentSpec {
    Arc::make_mut(&mut observed.model_deployment.as_mut().unwrap().spec)
}

/// ModelDeployment `fraud` (uid `u`) that names a version, with these records and versions 6, 7
/// and 8.
pub fn observed(version: &str, records: Vec<ModelRolloutSpec>) -> Observed {
    let spec = json!({"model": "fraud", "version": version, "replicas": 3});
    let spec = serde_json::from_value(spec).unwrap();
    let wanted = ObservedModelDeployment {
        uid: "u".into(),
        generation: 1,
        deleting: false,
        spec,
        status: None,
    };
    let stored = |spec| {
        let (uid, resource_version) = (String::new(), String::new());
        Record { uid, resource_version, restored: None, spec: Arc::new(spec) }
    };
    let register = |version: &str| Version {
        name: format!("fraud-{version}"),
        model: "fraud".into(),
        version: version.into(),
        record_digest: format!("sha256:{version}"),
        image: Some(format!("registry.example.com/fraud:{version}")),
        ..Version::default()
    };
    Observed {
        name: "fraud".into(),
        model_deployment: Some(wanted),
        records: records.into_iter().map(stored).collect(),
        versions: ["6", "7", "8"].map(register).into(),
        ..Observed::default()
    }
}

/// The Deployment of that ModelDeployment, as it is when a decision was carried out on it:
/// `decision` is its label, and its template is that of the record.
pub fn workload(decision: &str, record: &ModelRolloutSpec) -> Deployment {
    let controller =
        Controller { kind: "ModelDeployment".into(), name: "fraud".into(), uid: "u".into() };
    let labels = [(names::DECISION, decision), (names::MODEL, "fraud")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let meta =
        Meta { name: "fraud".into(), labels, controller: Some(controller), ..Meta::default() };
    let template = json!({"metadata": {"labels": {
        names::REVISION: names::short_hash(&record.revision_hash), names::TRACK: names::TRACK_MAIN}}});
    let spec =
        DeploymentSpec { replicas: 3, template: template.into(), ..DeploymentSpec::default() };
    Deployment { meta, generation: 1, spec, ..Deployment::default() }
}

/// The tracks of a ModelDeployment with that main Deployment alone.
pub fn main_track(deployment: Deployment) -> BTreeMap<String, Deployment> {
    [(names::TRACK_MAIN.to_owned(), deployment)].into()
}

/// The same records, with every revision stored; the bodies are not at hand.
pub fn store_revisions(observed: Observed) -> Observed {
    let names: BTreeSet<String> =
        observed.records.iter().map(|r| r.spec.revision_name.clone()).collect();
    let store = |name| StoredRevision { name, ..StoredRevision::default() };
    Observed { revisions: names.into_iter().map(store).collect(), ..observed }
}

/// A request of someone who saw that decision.
pub fn request(verb: Verb, if_decision: &str) -> Request {
    let spec = json!({"modelDeployment": "fraud", "verb": "Undo", "ifDecision": if_decision});
    let spec = RolloutRequestSpec { verb, ..serde_json::from_value(spec).unwrap() };
    let (name, uid, resource_version) = ("ask".into(), "ask-uid".into(), "1".into());
    let (created, generation, status) = (at(30), 1, None);
    Request { name, uid, resource_version, created, generation, spec, status }
}

/// A revisionHash.
const REVISION: &str = "v1:sha256:0123456789abcdef0123456789abcdef";

/// The input of a rendering of version 7 of `fraud` in ModelDeployment `risk`, without an artifact.
pub fn build_source(template: Option<&Value>) -> Source<'_> {
    Source {
        deployment: "risk",
        model: "fraud",
        version: "7",
        hash: REVISION,
        protocol: Protocol::OpenInferenceV2,
        image: Some("a:1"),
        artifact: None,
        delivered: Delivered { mode: DeliveryMode::InImage, digest: None },
        delivery: None,
        policy: None,
        fetch_image: None,
        before: None,
        template,
    }
}

/// The answer to a question about the facts of an observation, a minute after the records were
/// made.
pub fn judge<T>(observed: &Observed, question: impl Fn(&Facts<'_>) -> T) -> T {
    question(&Facts::new(observed, observed.model_deployment.as_ref().unwrap(), at(60)))
}

/// JSON in which strings match `words` and fields match `names`: with the names that a pod template
/// has, it gets deep.
pub fn any_json(words: &'static str, names: &'static str) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from)
    ];
    leaf.prop_recursive(6, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..5).prop_map(|m| json!(m))
        ]
    })
}
