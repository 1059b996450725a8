//! The verification Job as a value.

use serde_json::{Value, json};

use crate::{
    api::{
        names::{self, MANAGED_BY, MANAGER, MODEL, VERSION},
        version::Artifact,
    },
    plan::{
        facts::revision,
        make::fetch_container::{self, Fetcher},
        observed::ObservedVersion,
    },
};

/// Number of times that a Job replaces a pod that met trouble (backoffLimit).
const TRIES: i64 = 3;
/// Maximum seconds of a verification: the largest models take hours.
const DEADLINE_SECONDS: i64 = 24 * 3600;
/// Seconds for which an ended Job is kept, so that people can read its log.
const KEPT_SECONDS: i64 = 3600;

/// Builds the Job of a version's verification with that number; None if no policy names a verifier,
/// or the operator has no image for it.
#[must_use]
pub fn build_job(
    observed: &ObservedVersion,
    artifact: &Artifact,
    digest: Option<&str>,
    number: i64,
) -> Option<Value> {
    let policy = &observed.policy.as_ref()?.spec;
    let verification = policy.verification.as_ref()?;
    let image = observed.fetch_image.as_deref()?;
    let credentials = verification.credentials_secret.as_ref().map(|s| s.name.as_str());
    let fetcher = Fetcher { artifact, digest, credentials, policy: Some(policy) };
    let pod = build_pod(&fetcher, image, &verification.service_account_name);
    let labels = json!({MODEL: observed.facts.model, VERSION: observed.facts.version});
    let at_fault = json!({
        "containerName": names::FETCH,
        "operator": "In",
        "values": [fetch_container::AT_FAULT],
    });
    let disruption = json!([{"type": "DisruptionTarget", "status": "True"}]);
    let spec = json!({
        "backoffLimit": TRIES,
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": at_fault},
            {"action": "Ignore", "onPodConditions": disruption},
        ]},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    });
    let digest = revision::compute_digest(&json!([observed.uid, number, spec]));
    let name = names::job_name(&observed.name, &digest);
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name, "namespace": observed.namespace, "labels": labels,
            "ownerReferences": [{
                "apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelVersion",
                "name": observed.name, "uid": observed.uid, "controller": true,
            }],
        },
        "spec": spec,
    });
    job["metadata"]["labels"][MANAGED_BY] = json!(MANAGER);
    if let Some(asked) = &observed.asked {
        job["metadata"]["annotations"] = json!({names::VERIFY: asked});
    }
    Some(job)
}

fn build_pod(fetcher: &Fetcher<'_>, image: &str, account: &str) -> Value {
    let mut args = vec!["verify".to_owned(), fetcher.artifact.uri.clone()];
    args.extend(fetcher.build_args());
    let (env, mounts) = (fetcher.build_env(), fetcher.build_mounts());
    let container = fetch_container::build_container(image, &args, &env, &mounts);
    let mut pod = json!({
        "restartPolicy": "Never",
        "serviceAccountName": account,
        // Workload identity mounts a token of its own, and the Job does not talk to the API server.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    });
    let volumes = fetcher.build_volumes();
    if !volumes.is_empty() {
        pod["volumes"] = json!(volumes);
    }
    pod
}

/// Reads the name of a Job.
#[must_use]
pub fn read_name(body: &Value) -> String {
    body["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
