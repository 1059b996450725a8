//! A ModelRegistry's importer as tables.

use serde_json::json;

use super::*;
use crate::{
    api::condition::Time,
    plan::observed::{Controller, DeploymentSpec, DeploymentStatus, Meta},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn registry() -> ObservedRegistry {
    let spec = json!({
        "mlflow": {"url": "http://mlflow.mlflow:5000"}, "serviceAccountName": "model-importer", "credentialsSecret": {"name": "mlflow"},
        "models": [{"name": "fraud", "registeredModel": "Fraud"}],
        "template": {"metadata": {"labels": {"team": "risk"}}, "spec": {"containers": [
            {"name": "proxy", "image": "proxy"},
            {"name": "importer", "env": [{"name": "HTTPS_PROXY", "value": "x"}, {"name": "ROLLMODEL_REGISTRY", "value": "other"}]}]}},
    });
    ObservedRegistry {
        namespace: "risk".into(),
        name: "mlflow".into(),
        uid: "u".into(),
        generation: 1,
        spec: serde_json::from_value(spec).unwrap(),
        image: Some("rollmodel:1".into()),
        ..ObservedRegistry::default()
    }
}

/// With the Deployment that it asks for, and so many ready pods.
fn running(observed: &ObservedRegistry, ready: i32) -> ObservedRegistry {
    let body = importer::build_deployment(observed, "rollmodel:1");
    let workload = Deployment {
        meta: Meta {
            name: importer::build_name(&observed.name),
            uid: "w".into(),
            labels: serde_json::from_value(body["metadata"]["labels"].clone()).unwrap(),
            controller: Some(Controller {
                kind: "ModelRegistry".into(),
                name: observed.name.clone(),
                uid: observed.uid.clone(),
            }),
            ..Meta::default()
        },
        spec: DeploymentSpec {
            replicas: 1,
            template: body["spec"]["template"].clone().into(),
            ..DeploymentSpec::default()
        },
        status: DeploymentStatus {
            ready_replicas: ready,
            available_replicas: ready,
            ..DeploymentStatus::default()
        },
        ..Deployment::default()
    };
    ObservedRegistry { workload: Some(workload), ..observed.clone() }
}

fn says(plan: &RegistryPlan) -> String {
    let all =
        plan.conditions.iter().flatten().map(|c| format!("{}={} {}", c.type_, c.status, c.reason));
    all.collect::<Vec<_>>().join(", ")
}

#[test]
fn an_importer_is_made_as_the_user_completed_it() {
    let plan = plan_registry(&registry(), at(0));
    let [RegistryAction::CreateDeployment { body }] = plan.actions.as_slice() else {
        panic!("{plan:?}")
    };
    let pod = &body["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["serviceAccountName"], &pod["volumes"][0]["secret"]["secretName"]),
        (&json!("model-importer"), &json!("mlflow"))
    );
    assert_eq!(
        (pod["containers"][0]["name"].as_str(), pod["containers"][1]["image"].as_str()),
        (Some("proxy"), Some("rollmodel:1"))
    );
    let env = pod["containers"][1]["env"].as_array().unwrap();
    let value = |name: &str| {
        env.iter().filter(|e| e["name"] == name).map(|e| e["value"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (value("HTTPS_PROXY"), value("ROLLMODEL_REGISTRY")),
        (vec![json!("x")], vec![json!("mlflow")])
    );
    assert_eq!(body["spec"]["template"]["metadata"]["labels"]["team"], "risk");
    assert_eq!(pod["containers"][1]["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(says(&plan), "Ready=False ImporterNotReady, Reconciling=True ImporterNotReady");
}

/// With that as the reason of Ready.
fn told(observed: &ObservedRegistry, reason: Reason) -> ObservedRegistry {
    let conditions = vec![build_condition_with_status(&[], "Ready", "False", reason, "", 1, at(0))];
    ObservedRegistry {
        status: Some(ModelRegistryStatus { conditions, ..ModelRegistryStatus::default() }),
        ..observed.clone()
    }
}

#[test]
fn an_importer_that_runs_speaks_for_itself_and_nothing_is_written() {
    assert_eq!(
        plan_registry(&told(&running(&registry(), 1), Reason::Unreachable), at(0)),
        RegistryPlan::default()
    );
}

#[test]
fn an_importer_that_runs_and_said_nothing_yet_is_told_once() {
    for before in [
        running(&registry(), 1),
        told(&running(&registry(), 1), Reason::ImporterNotReady),
        told(&running(&registry(), 1), Reason::RBACMissing),
    ] {
        let mut observed = before;
        let plan = plan_registry(&observed, at(0));
        assert_eq!(says(&plan), "Ready=False FirstPoll, Reconciling=True FirstPoll");
        let conditions = plan.conditions.unwrap();
        assert_eq!(
            conditions[0].message,
            "The importer runs; its first look at http://mlflow.mlflow:5000 is under way."
        );
        observed.status = Some(ModelRegistryStatus {
            observed_generation: Some(1),
            conditions,
            ..ModelRegistryStatus::default()
        });
        assert_eq!(plan_registry(&observed, at(60)), RegistryPlan::default());
    }
}

#[test]
fn of_an_importer_that_runs_for_moments_only_what_was_said_stays() {
    let mut observed = told(&running(&registry(), 1), Reason::RBACMissing);
    observed.workload.as_mut().unwrap().status.available_replicas = 0;
    assert_eq!(plan_registry(&observed, at(0)), RegistryPlan::default());
}

#[test]
fn a_changed_spec_changes_the_deployment_and_suspending_takes_its_pod() {
    let mut observed = running(&registry(), 1);
    observed.spec.service_account_name = "other".into();
    let plan = plan_registry(&observed, at(0));
    assert!(
        matches!(plan.actions.as_slice(), [RegistryAction::PatchDeployment { ops, .. }] if ops[2]["path"] == "/spec/template"),
        "{plan:?}"
    );
    // What was taken out of the template goes from the pod, too.
    let mut observed = running(&registry(), 1);
    observed.spec.template = None;
    assert_eq!(plan_registry(&observed, at(0)).actions.len(), 1);
    let mut observed = running(&registry(), 1);
    observed.spec.suspend = true;
    let plan = plan_registry(&observed, at(0));
    assert!(
        matches!(plan.actions.as_slice(), [RegistryAction::PatchDeployment { ops, .. }] if ops[2]["value"] == 0),
        "{plan:?}"
    );
    assert_eq!(says(&plan), "Ready=True Suspended");
}

#[test]
fn what_an_importer_that_does_not_run_said_last_is_told() {
    let mut observed = running(&registry(), 0);
    assert!(plan_registry(&observed, at(0)).hear);
    for (words, told, message) in [
        (
            "",
            "Ready=False ImporterNotReady, Reconciling=True ImporterNotReady",
            "No pod of Deployment mlflow-importer runs",
        ),
        (
            "no such host",
            "Ready=False ImporterNotReady, Reconciling=True ImporterNotReady",
            "started again: no such host",
        ),
        (
            "RBACMissing: it may not (--serviceaccount=risk:NAME)",
            "Ready=False RBACMissing, Stalled=True RBACMissing",
            "it may not (--serviceaccount=risk:model-importer)",
        ),
    ] {
        observed.words = Some(words.into());
        let plan = plan_registry(&observed, at(0));
        assert_eq!((says(&plan).as_str(), plan.requeue_after_seconds), (told, Some(AGAIN)));
        assert!(plan.conditions.unwrap()[0].message.contains(message), "{words}");
    }
}

#[test]
fn what_the_importer_said_is_not_talked_over_while_it_is_fresh() {
    let mut observed = ObservedRegistry { words: Some(String::new()), ..running(&registry(), 0) };
    let ready = build_condition_with_status(&[], "Ready", "True", Reason::Polled, "", 1, at(0));
    observed.status = Some(ModelRegistryStatus {
        conditions: vec![ready],
        last_poll_time: Some(Time(at(0))),
        ..ModelRegistryStatus::default()
    });
    assert_eq!(plan_registry(&observed, at(100)).conditions, None);
    assert!(plan_registry(&observed, at(500)).conditions.is_some());
}

#[test]
fn what_stands_in_the_way_of_an_importer_is_told() {
    let no_image = ObservedRegistry { image: None, ..registry() };
    assert!(
        plan_registry(&no_image, at(0)).conditions.unwrap()[0].message.contains("--fetch-image")
    );
    let mut taken = running(&registry(), 1);
    taken.workload.as_mut().unwrap().meta.controller = None;
    let plan = plan_registry(&taken, at(0));
    assert_eq!(
        (says(&plan).as_str(), plan.actions.len()),
        ("Ready=False NameTaken, Stalled=True NameTaken", 0)
    );
    let refused = RefusedWrite {
        write: "create the importer's Deployment".into(),
        message: "create Deployment: exceeded quota".into(),
        ..RefusedWrite::default()
    };
    let blocked = ObservedRegistry { blocked: vec![refused], ..registry() };
    let plan = plan_registry(&blocked, at(0));
    assert_eq!(plan.actions, [], "it is not tried again at once");
    assert!(plan.conditions.unwrap()[0].message.contains("exceeded quota"));
}
