//! What is kept of ModelPolicies and of verification Jobs, and what is read of the Jobs' pods.

use k8s_openapi::api::batch::v1::JobStatus;
use serde_json::Value;

use super::{
    kinds::{Kind, News, Watched},
    object::Object,
};
use crate::{
    api::{ModelVersion, condition::truncate_text, names},
    plan::{
        observed::Policy,
        observed::{Job, LastWords},
    },
};

/// The longest termination message that is read; the kubelet keeps 4 KiB.
const WORDS_MAX: usize = 1024;

impl Watched for Policy {
    const KIND: Kind = Kind::ModelPolicy;

    fn read(object: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        Ok(Self {
            created: object.metadata.creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default(),
            spec: object.spec.needed()?,
        })
    }

    fn owners(_: &Object) -> Vec<String> {
        Vec::new()
    }
}

/// A verification Job.
pub struct JobEntry {
    /// What deciding needs.
    pub job: Job,
    /// Uid of the ModelVersion that controls it.
    pub owner: String,
    /// Name of that ModelVersion.
    pub version: String,
}

impl Watched for JobEntry {
    const KIND: Kind = Kind::Job;

    fn read(mut object: Object, _: Option<&Self>) -> Result<Self, serde_json::Error> {
        let status: JobStatus = object.status.read()?.unwrap_or_default();
        let meta = &mut object.metadata;
        let kind = <ModelVersion as kube::Resource>::kind(&()).into_owned();
        let owners = meta.owner_references.take().unwrap_or_default();
        let owner = owners.into_iter().find(|o| o.controller == Some(true) && o.kind == kind);
        let (owner, version) = owner.map(|o| (o.uid, o.name)).unwrap_or_default();
        let job = Job {
            name: meta.name.take().unwrap_or_default(),
            uid: meta.uid.take().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default(),
            asked: meta.annotations.as_mut().and_then(|a| a.remove(names::VERIFY)),
            deleting: meta.deletion_timestamp.is_some(),
            started: status.ready.unwrap_or(0) > 0 || status.failed.unwrap_or(0) > 0,
            ended: ended(&status),
        };
        Ok(Self { job, owner, version })
    }

    fn owners(_: &Object) -> Vec<String> {
        Vec::new()
    }

    fn versions(&self) -> Vec<String> {
        vec![self.version.clone()]
    }

    fn news(old: Option<&Self>, new: Option<&Self>) -> Option<News> {
        old.zip(new).is_none_or(|(old, new)| old.job != new.job).then_some(News::Turn)
    }

    fn news_to_versions(_: &Self, _: &Self) -> bool {
        true
    }
}

/// How a Job ended, in Kubernetes' words; None while it goes on.
fn ended(status: &JobStatus) -> Option<String> {
    let all = status.conditions.iter().flatten().filter(|c| c.status == "True");
    let end = all.into_iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed"))?;
    let words = [end.reason.as_deref(), end.message.as_deref()];
    Some(truncate_text(&words.into_iter().flatten().collect::<Vec<_>>().join(": "), WORDS_MAX))
}

/// How a pod of a Job ended, where the Job really is its controller.
#[must_use]
pub fn last_words(pod: &Object, job: &str) -> Option<LastWords> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|o| o.controller == Some(true) && o.uid == job)?;
    let status: Value = pod.status.or_default();
    let ours = status["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["name"] == names::FETCH)?;
    let end = ours.pointer("/state/terminated")?;
    let said = |field: &str| end[field].as_str().map(str::trim).filter(|text| !text.is_empty());
    // Completed says nothing that the exit code does not.
    let message = said("message")
        .or_else(|| said("reason").filter(|reason| *reason != "Completed"))
        .unwrap_or_default();
    Some(LastWords {
        exit_code: end["exitCode"].as_i64().and_then(|n| i32::try_from(n).ok()),
        message: truncate_text(message, WORDS_MAX),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::object::sent;

    #[test]
    fn a_job_tells_whose_it_is_and_how_it_ended() {
        let object = sent(&json!({
            "metadata": {"name": "j", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelVersion", "name": "fraud-8", "uid": "v", "controller": true}]},
            "status": {"failed": 1, "conditions": [{"type": "FailureTarget", "status": "True"},
                {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "exit code 3"}]}}));
        let entry = JobEntry::read(object, None).unwrap();
        assert_eq!((entry.owner.as_str(), entry.versions()), ("v", vec!["fraud-8".to_owned()]));
        assert!(
            entry.job.started
                && entry.job.ended.as_deref() == Some("PodFailurePolicy: exit code 3")
        );
    }

    #[test]
    fn only_the_pods_that_the_job_controls_are_heard() {
        let pod = |uid: &str| {
            sent(
                &json!({"metadata": {"name": "p", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid, "controller": true}]},
                "status": {"containerStatuses": [{"name": "rollmodel-fetch", "state": {"terminated": {"exitCode": 3, "reason": "Error", "message": "Mismatch: no\n"}}}]}}),
            )
        };
        assert_eq!(
            last_words(&pod("u"), "u"),
            Some(LastWords { exit_code: Some(3), message: "Mismatch: no".into() })
        );
        assert_eq!(last_words(&pod("other"), "u"), None);
    }
}
