//! What a dump must not tell: values that could be secrets. They are replaced everywhere alike, so
//! that the planner compares as before.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::{
    api::{ModelDeploymentSpec, names},
    plan::{
        Observed,
        facts::revision,
        observed::StoredRevision,
        registry::{ObservedRegistry, importer},
    },
};

/// Annotations whose values are told.
const TOLD: [&str; 3] =
    ["kubernetes.io/change-cause", "kubectl.kubernetes.io/restartedAt", "rollmodel.dev/"];

/// Masks every literal value of an environment variable and every annotation that is a stranger's,
/// and hashes contents anew.
///
/// # Errors
/// When what was observed does not serialize.
pub fn mask(observed: Observed) -> Result<Observed, serde_json::Error> {
    let before: Vec<Option<crate::plan::observed::Revision>> = observed
        .revisions
        .iter()
        .map(|c| c.body.as_ref().and_then(|b| hashed(&b.content)))
        .collect();
    let renderings = digest_renderings(&observed);
    let mut value = serde_json::to_value(observed)?;
    Masks::default().all(&mut value);
    let masked: Observed = serde_json::from_value(value)?;
    let mut renamed = Vec::new();
    for (old, stored) in before.into_iter().zip(&masked.revisions) {
        let new = stored.body.as_ref().and_then(|b| hashed(&b.content));
        if let Some((old, new)) =
            old.zip(new).filter(|(old, new)| old.revision_hash != new.revision_hash)
        {
            renamed.extend([
                (
                    names::short_hash(&old.revision_hash).to_owned(),
                    names::short_hash(&new.revision_hash).to_owned(),
                ),
                (old.revision_hash, new.revision_hash),
                (old.content_hash, new.content_hash),
            ]);
        }
    }
    // Whole hashes first: what names carry is a part of them.
    renamed.sort_by_key(|(old, _)| std::cmp::Reverse(old.len()));
    let mut value = serde_json::to_value(masked)?;
    rename(&mut value, &renamed);
    let renamed: Observed = serde_json::from_value(value)?;
    // Only now is each template what it stays.
    let digests: Vec<(String, String)> =
        renderings.into_iter().zip(digest_renderings(&renamed)).collect();
    let mut value = serde_json::to_value(renamed)?;
    rename(&mut value, &digests);
    serde_json::from_value(value)
}

/// The digest of each stored template, as records hold it; empty where its body is not at hand.
fn digest_renderings(observed: &Observed) -> Vec<String> {
    let digest =
        |c: &StoredRevision| c.body.as_ref().map(|b| revision::compute_digest(&b.rendering));
    observed.revisions.iter().map(|c| digest(c).unwrap_or_default()).collect()
}

/// The same of what was observed of a ModelRegistry; its importer's Deployment is hashed anew,
/// where it is what the spec asks for.
///
/// # Errors
/// When what was observed does not serialize.
pub fn registry(seen: ObservedRegistry) -> Result<ObservedRegistry, serde_json::Error> {
    let hash = |seen: &ObservedRegistry| {
        Some(
            importer::build_deployment(seen, seen.image.as_deref()?)["metadata"]["labels"]
                [names::REVISION]
                .clone(),
        )
    };
    let asked = hash(&seen);
    let mut masks = Masks { told: own(&seen), ..Masks::default() };
    let mut value = serde_json::to_value(seen)?;
    masks.all(&mut value);
    let masked: ObservedRegistry = serde_json::from_value(value.clone())?;
    let label =
        value.pointer_mut("/workload/labels").and_then(|labels| labels.get_mut(names::REVISION));
    if let (Some(label), Some(new)) =
        (label.filter(|label| asked.as_ref() == Some(label)), hash(&masked))
    {
        *label = new;
    }
    serde_json::from_value(value)
}

/// The variables that every importer has: as they say nothing of anyone, they stay, and compare.
fn own(seen: &ObservedRegistry) -> HashSet<(String, String)> {
    let mut bare = seen.clone();
    bare.spec.template = None;
    let workload = importer::build_deployment(&bare, "");
    let env = workload.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    let pair = |variable: &Value| {
        Some((variable["name"].as_str()?.to_owned(), variable["value"].as_str()?.to_owned()))
    };
    env.into_iter().flatten().filter_map(pair).collect()
}

/// The hashes of a stored content.
fn hashed(written: &Value) -> Option<crate::plan::observed::Revision> {
    let mut spec = written.clone();
    let digest = spec.as_object_mut()?.remove("recordDigest")?;
    spec["model"] = "model".into();
    spec["version"] = "version".into();
    let spec: ModelDeploymentSpec = serde_json::from_value(spec).ok()?;
    Some(revision::compute_revision(&spec, digest.as_str()?))
}

fn rename(value: &mut Value, renamed: &[(String, String)]) {
    match value {
        Value::String(text) => {
            for (old, new) in renamed.iter().filter(|(old, _)| !old.is_empty()) {
                if text.contains(old.as_str()) {
                    *text = text.replace(old.as_str(), new);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|v| rename(v, renamed)),
        Value::Object(fields) => fields.values_mut().for_each(|v| rename(v, renamed)),
        _ => {}
    }
}

/// The values that were masked, each with its number; and variables that are told.
#[derive(Default)]
struct Masks {
    masked: HashMap<String, usize>,
    told: HashSet<(String, String)>,
}

impl Masks {
    fn all(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.iter_mut().for_each(|(name, field)| self.field(name, field))
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.all(item)),
            _ => {}
        }
    }

    fn field(&mut self, name: &str, field: &mut Value) {
        match (name, &mut *field) {
            ("env", Value::Array(variables)) => {
                let told = self.told.clone();
                let is_told = |v: &Value| {
                    told.iter().any(|(name, value)| v["name"] == **name && v["value"] == **value)
                };
                variables
                    .iter_mut()
                    .filter(|v| !is_told(v))
                    .filter_map(|v| v.get_mut("value"))
                    .for_each(|v| self.one(v));
            }
            ("annotations", Value::Object(annotations)) => {
                let strange = |name: &str| !TOLD.iter().any(|told| name.starts_with(told));
                annotations
                    .iter_mut()
                    .filter(|(name, _)| strange(name))
                    .for_each(|(_, v)| self.one(v));
            }
            _ => {}
        }
        self.all(field);
    }

    fn one(&mut self, value: &mut Value) {
        if let Value::String(text) = value {
            let next = self.masked.len() + 1;
            let number = *self.masked.entry(std::mem::take(text)).or_insert(next);
            *text = format!("(masked {number})");
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::plan::{
        observed::{Controller, Deployment, ObservedModelDeployment, Record, RevisionBody},
        registry::{RegistryPlan, plan_registry},
    };

    fn template(value: &str) -> Value {
        json!({"metadata": {"annotations": {"vault/token": value, "kubernetes.io/change-cause": "rollout 1"}},
            "spec": {"containers": [{"name": "model", "env": [{"name": "A", "value": value}, {"name": "B", "value": "other"},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}})
    }

    fn record(body: &RevisionBody) -> Record {
        let spec = json!({"modelDeploymentRef": {"name": "fraud"}, "number": 1, "direction": "Forward",
            "admission": {"asked": "Newly"}, "model": "fraud", "version": "7", "recordDigest": "sha256:1",
            "revisionHash": body.revision_hash, "contentHash": "c", "revisionName": "r",
            "renderingDigest": revision::compute_digest(&body.rendering), "strategy": "RollingUpdate",
            "deploymentName": "fraud", "trigger": "SpecChanged", "decidedBy": {"name": "spec"},
            "startTime": "2026-01-01T00:00:00Z"});
        let spec = serde_json::from_value(spec).unwrap();
        Record { uid: "u".into(), resource_version: "1".into(), restored: None, spec }
    }

    fn observed(secret: &str) -> Observed {
        let spec: ModelDeploymentSpec = serde_json::from_value(
            json!({"model": "fraud", "version": "7", "template": template(secret)}),
        )
        .unwrap();
        let content = revision::compute_revision(&spec, "sha256:1");
        let name = names::revision_name("fraud", &content.revision_hash, 1);
        let body = RevisionBody {
            revision_hash: content.revision_hash,
            content: revision::write_revision(&spec, "sha256:1"),
            rendering: template(secret),
        };
        let mut workload = Deployment::default();
        workload.spec.template = template(secret).into();
        workload
            .meta
            .labels
            .insert(names::REVISION.into(), names::short_hash(&body.revision_hash).into());
        Observed {
            model_deployment: Some(ObservedModelDeployment {
                uid: "u".into(),
                generation: 1,
                deleting: false,
                spec: spec.into(),
                status: None,
            }),
            records: vec![record(&body)],
            revisions: vec![StoredRevision {
                name,
                body: Some(body.into()),
                ..StoredRevision::default()
            }],
            tracks: [(names::TRACK_MAIN.to_owned(), workload)].into(),
            ..Observed::default()
        }
    }

    #[test]
    fn secrets_are_gone_and_everything_still_compares() {
        let masked = mask(observed("s3cret")).unwrap();
        let text = serde_json::to_string(&masked).unwrap();
        assert!(
            !text.contains("s3cret") && text.contains("secretKeyRef") && text.contains("rollout 1"),
            "{text}"
        );
        let stored = masked.revisions[0].body.as_ref().unwrap();
        assert_eq!(stored.rendering, *masked.tracks[names::TRACK_MAIN].spec.template);
        assert_eq!(
            masked.records[0].spec.rendering_digest,
            revision::compute_digest(&stored.rendering),
            "the stored template is still the recorded one"
        );
        let desired =
            revision::compute_revision(&masked.model_deployment.as_ref().unwrap().spec, "sha256:1");
        assert_eq!(
            desired.revision_hash, stored.revision_hash,
            "the hash is that of the masked content"
        );
        assert_eq!(
            masked.revisions[0].name,
            names::revision_name("fraud", &desired.revision_hash, 1)
        );
        assert_eq!(
            masked.tracks[names::TRACK_MAIN].meta.labels[names::REVISION],
            names::short_hash(&desired.revision_hash)
        );
    }

    #[test]
    fn different_values_stay_different() {
        let masked = serde_json::to_value(mask(observed("s3cret")).unwrap()).unwrap();
        let env = &masked["modelDeployment"]["spec"]["template"]["spec"]["containers"][0]["env"];
        assert_ne!(env[0]["value"], env[1]["value"]);
    }

    #[test]
    fn an_importer_that_is_as_it_has_to_be_is_so_in_its_dump() {
        let spec = json!({"mlflow": {"url": "http://mlflow:5000"}, "serviceAccountName": "importer", "credentialsSecret": {"name": "mlflow"},
            "models": [], "template": {"metadata": {"annotations": {"vault/token": "s3cret"}},
                "spec": {"containers": [{"name": "importer", "env": [{"name": "HTTPS_PROXY", "value": "http://me:s3cret@proxy"}]}]}}});
        let mut seen = ObservedRegistry {
            name: "mlflow".into(),
            uid: "u".into(),
            image: Some("rollmodel:1".into()),
            ..Default::default()
        };
        seen.spec = serde_json::from_value(spec).unwrap();
        let body = importer::build_deployment(&seen, "rollmodel:1");
        let mut workload = Deployment::default();
        workload.spec.template = body["spec"]["template"].clone().into();
        workload.spec.replicas = 1;
        workload.status.ready_replicas = 1;
        workload.meta.labels = serde_json::from_value(body["metadata"]["labels"].clone()).unwrap();
        workload.meta.controller = Some(Controller { uid: "u".into(), ..Controller::default() });
        seen.workload = Some(workload);
        assert_eq!(plan_registry(&seen, Timestamp::UNIX_EPOCH), RegistryPlan::default());
        let masked = registry(seen.clone()).unwrap();
        let text = serde_json::to_string(&masked).unwrap();
        assert!(
            !text.contains("s3cret")
                && text.contains("HTTPS_PROXY")
                && text.contains("ROLLMODEL_CREDENTIALS"),
            "{text}"
        );
        assert_eq!(plan_registry(&masked, Timestamp::UNIX_EPOCH), RegistryPlan::default());
        seen.spec.service_account_name = "other".into();
        let planned = plan_registry(&registry(seen).unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(planned.actions.len(), 1, "what differs still does");
    }
}
