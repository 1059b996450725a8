//! What is compared of a Deployment and its ReplicaSets at rest.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1 as real, apimachinery::pkg::apis::meta::v1::ObjectMeta as Metadata,
};
use serde_json::Value;

use crate::simulator::objects as simulated;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    revision: i64,
    is_observed: bool,
    pub replicas: i32,
    updated: i32,
    ready: i32,
    available: i32,
    terminating: i32,
    /// Type to status and reason.
    conditions: BTreeMap<String, String>,
    /// By template.
    sets: BTreeMap<String, SetSnapshot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSnapshot {
    replicas: i32,
    revision: i64,
    desired_replicas: i32,
    max_replicas: i32,
    is_observed: bool,
    status_replicas: i32,
    ready: i32,
    available: i32,
    failure: Option<String>,
}

/// A template by what histories change in it.
fn describe_template(image: Option<&str>, restarted_at: Option<&str>) -> String {
    format!("{} {}", image.unwrap_or_default(), restarted_at.unwrap_or_default())
}

/// A refusal without the names and numbers in it: Kubernetes keeps the message of the first one,
/// and how many pods there were then is a matter of timing.
fn normalize_refusal(message: &str) -> String {
    let from = message.find("is forbidden").unwrap_or(0);
    message[from..].replace(|c: char| c.is_ascii_digit(), "")
}

fn annotation<T: std::str::FromStr>(metadata: &Metadata, name: &str) -> Option<T> {
    let name = format!("deployment.kubernetes.io/{name}");
    metadata.annotations.as_ref()?.get(&name)?.parse().ok()
}

impl Snapshot {
    pub fn from_workload(workload: &simulated::Workload) -> Self {
        let deployment = workload.deployment.as_ref().expect("histories delete no Deployment");
        let status = &deployment.status;
        let conditions = [
            ("Available", &status.available),
            ("Progressing", &status.progressing),
            ("ReplicaFailure", &status.replica_failure),
        ];
        let describe = |(type_, condition): (&str, &Option<simulated::Condition>)| {
            let condition = condition.as_ref()?;
            Some((type_.to_owned(), format!("{} {}", condition.status, condition.reason)))
        };
        Self {
            revision: deployment.revision,
            is_observed: status.observed_generation == deployment.generation,
            replicas: status.replicas,
            updated: status.updated_replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            terminating: 0,
            conditions: conditions.into_iter().filter_map(describe).collect(),
            sets: workload.replica_sets.iter().map(SetSnapshot::from_simulated).collect(),
        }
    }

    pub fn from_real<'a>(
        deployment: &real::Deployment,
        sets: impl Iterator<Item = &'a real::ReplicaSet>,
    ) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        let describe = |condition: real::DeploymentCondition| {
            let texts = [condition.type_, condition.status, condition.reason];
            let [type_, status, reason] = texts.map(Option::unwrap_or_default);
            (type_, format!("{status} {reason}"))
        };
        Self {
            revision: annotation(&deployment.metadata, "revision").unwrap_or(0),
            is_observed: status.observed_generation == deployment.metadata.generation,
            replicas: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas.unwrap_or(0),
            conditions: status.conditions.into_iter().flatten().map(describe).collect(),
            sets: sets.map(SetSnapshot::from_real).collect(),
        }
    }
}

impl SetSnapshot {
    fn from_simulated(set: &simulated::ReplicaSet) -> (String, Self) {
        let image = set.template.value["spec"]["containers"][0]["image"].as_str();
        let snapshot = Self {
            replicas: set.replicas,
            revision: set.revision,
            desired_replicas: set.desired_replicas,
            max_replicas: set.max_replicas,
            is_observed: set.observed,
            status_replicas: set.status_replicas,
            ready: set.ready_replicas,
            available: set.available_replicas,
            failure: set.failure.as_deref().map(normalize_refusal),
        };
        (describe_template(image, set.template.annotation("restarted-at")), snapshot)
    }

    fn from_real(set: &real::ReplicaSet) -> (String, Self) {
        let template = serde_json::to_value(&set.spec.template).expect("a template");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let image = text(&template["spec"]["containers"][0]["image"]);
        let restarted_at = text(&template["metadata"]["annotations"]["restarted-at"]);
        let status = set.status.clone().unwrap_or_default();
        let mut conditions = status.conditions.into_iter().flatten();
        let failure =
            conditions.find(|condition| condition.type_.as_deref() == Some("ReplicaFailure"));
        let snapshot = Self {
            replicas: set.spec.replicas.unwrap_or(0),
            revision: annotation(&set.metadata, "revision").unwrap_or(0),
            desired_replicas: annotation(&set.metadata, "desired-replicas").unwrap_or(0),
            max_replicas: annotation(&set.metadata, "max-replicas").unwrap_or(0),
            is_observed: status.observed_generation == set.metadata.generation,
            status_replicas: status.replicas,
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            failure: failure.map(|c| normalize_refusal(&c.message.unwrap_or_default())),
        };
        (describe_template(image.as_deref(), restarted_at.as_deref()), snapshot)
    }
}
