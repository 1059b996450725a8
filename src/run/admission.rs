//! The shipped admission policies: reads whether the cluster enforces them. They are read by name,
//! at the start and about every ten minutes, because a watch would need the right to list every
//! policy of the cluster.

use std::{fmt::Debug, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::{
    client::said,
    memory::{lock, spread},
    observe::Caches,
};
use crate::{api::names, plan::observed::AdmissionPolicies};

/// Time between two reads, spread by up to a fifth.
const INTERVAL: Duration = Duration::from_secs(600);
/// Time between two reads until the API server has given the first answer.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// The longest time for which the first read delays the watches.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// Reads the policies and keeps the result in the caches.
pub struct Inspector {
    /// The client.
    pub client: Client,
    /// Beginning of the policies' names, which is the name of the installation.
    pub prefix: String,
    /// The caches that keep the result.
    pub caches: Arc<Caches>,
}

impl Inspector {
    /// Reads the policies before anything is planned, so that the first plan knows the result.
    pub async fn read_first(&self) {
        let _ = tokio::time::timeout(FIRST_WITHIN, self.refresh()).await;
    }

    /// Reads the policies again and again, forever; calls `changed` when the result is another one.
    pub async fn run(&self, changed: impl Fn()) {
        loop {
            let wait = match *lock(&self.caches.admission) {
                Some(_) => INTERVAL,
                None => RETRY_AFTER,
            };
            let seed = (&self.prefix, std::process::id(), Timestamp::now().as_second());
            tokio::time::sleep(wait.mul_f64(0.8 + 0.4 * spread(&seed))).await;
            if self.refresh().await {
                changed();
            }
        }
    }

    /// Reads the policies once; true if the result is another one than before. Without an answer,
    /// the last result stands.
    async fn refresh(&self) -> bool {
        let result = match read_policies(&self.client, &self.prefix).await {
            Ok(result) => result,
            Err(error) => {
                warn!(error = said(&error), "the admission policies cannot be read; tried again");
                return false;
            }
        };
        let before = lock(&self.caches.admission).replace(result.clone());
        if before.as_ref() == Some(&result) {
            return false;
        }
        match (result.are_in_force(), result.unreadable) {
            (true, _) => info!(prefix = self.prefix, "the admission policies are in force"),
            (_, true) => warn!("this operator may not read the admission policies"),
            _ => warn!(problems = result.problems.join("; "), "admission policies are missing"),
        }
        true
    }
}

/// Reads every shipped policy and its binding: two requests for each.
async fn read_policies(client: &Client, prefix: &str) -> Result<AdmissionPolicies, kube::Error> {
    let policies = Api::<ValidatingAdmissionPolicy>::all(client.clone());
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone());
    let mut result = AdmissionPolicies::default();
    for suffix in names::ADMISSION_POLICIES {
        let name = format!("{prefix}-{suffix}");
        match tokio::try_join!(read(&policies, &name), read(&bindings, &name)) {
            Ok((policy, binding)) => {
                result.problems.extend(find_problem(&name, policy.as_ref(), binding.as_ref()));
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Ok(AdmissionPolicies { unreadable: true, ..AdmissionPolicies::default() });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(result)
}

/// Reads one object; None where it is absent, also because the server has no such kind.
async fn read<K>(api: &Api<K>, name: &str) -> Result<Option<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.get(name).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        object => object.map(Some),
    }
}

/// The reason for which a policy is not in force everywhere, as a phrase.
fn find_problem(
    name: &str,
    policy: Option<&ValidatingAdmissionPolicy>,
    binding: Option<&ValidatingAdmissionPolicyBinding>,
) -> Option<String> {
    let (policy, binding) = match (policy, binding) {
        (Some(policy), Some(binding)) => (policy, binding),
        (None, None) => return Some(format!("{name} is not installed")),
        (None, _) => return Some(format!("ValidatingAdmissionPolicy {name} is not installed")),
        (_, None) => {
            return Some(format!("ValidatingAdmissionPolicyBinding {name} is not installed"));
        }
    };
    let level = policy.annotations().get(names::POLICY_LEVEL).and_then(|l| l.parse().ok());
    let level: u32 = level.unwrap_or_default();
    let needed = names::POLICY_LEVEL_NOW;
    let failure_policy = policy.spec.as_ref().and_then(|s| s.failure_policy.as_deref());
    let bound = &binding.spec;
    let denies = bound.validation_actions.iter().any(|action| action == "Deny");
    let problem = if level < needed {
        format!("{name} is older than this operator (policy level {level}, needed {needed})")
    } else if failure_policy == Some("Ignore") {
        format!("ValidatingAdmissionPolicy {name} has failurePolicy Ignore")
    } else if bound.policy_name != name || !denies {
        format!("ValidatingAdmissionPolicyBinding {name} does not deny what {name} refuses")
    } else if bound.match_resources.is_some() {
        format!("ValidatingAdmissionPolicyBinding {name} is limited by matchResources")
    } else {
        return None;
    };
    Some(problem)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::BoxError;

    use super::*;

    fn check(policy: &Value, binding: &Value) -> Option<String> {
        let policy: Option<ValidatingAdmissionPolicy> =
            serde_json::from_value(policy.clone()).unwrap();
        let binding: Option<ValidatingAdmissionPolicyBinding> =
            serde_json::from_value(binding.clone()).unwrap();
        find_problem("rollmodel-records", policy.as_ref(), binding.as_ref())
    }

    fn policy(level: &str) -> Value {
        let metadata = json!({"annotations": {names::POLICY_LEVEL: level}});
        json!({"metadata": metadata, "spec": {"failurePolicy": "Fail"}})
    }

    fn binding(more: &Value) -> Value {
        let mut spec = json!({"policyName": "rollmodel-records", "validationActions": ["Deny"]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {}, "spec": spec})
    }

    /// A cluster that answers every read with `code`, and with policies that are in force if it is
    /// 200.
    fn inspect_answers(code: Arc<AtomicU16>) -> Inspector {
        let service = tower::service_fn(move |request: Request<Body>| {
            let code = code.load(Ordering::Relaxed);
            let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let mut body = policy(&names::POLICY_LEVEL_NOW.to_string());
            body["spec"]["policyName"] = json!(name);
            body["spec"]["validationActions"] = json!(["Deny"]);
            if code != 200 {
                body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "code": code, "message": "no", "reason": ""});
            }
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            async move { Ok::<_, BoxError>(Response::builder().status(code).body(body).unwrap()) }
        });
        let client = Client::new(service, "default");
        Inspector { client, prefix: "rollmodel".into(), caches: Arc::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_installation_is_noticed_within_twelve_minutes_and_reported_once() {
        let code = Arc::new(AtomicU16::new(404));
        let inspector = inspect_answers(code.clone());
        inspector.read_first().await;
        assert_eq!(lock(&inspector.caches.admission).as_ref().unwrap().problems.len(), 3);
        code.store(200, Ordering::Relaxed);
        let changes = AtomicU16::new(0);
        let run = inspector.run(|| {
            changes.fetch_add(1, Ordering::Relaxed);
        });
        assert!(tokio::time::timeout(INTERVAL * 6, run).await.is_err(), "it runs forever");
        assert!(lock(&inspector.caches.admission).as_ref().unwrap().are_in_force());
        assert_eq!(changes.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_the_last_result_stands_and_a_refused_read_makes_it_unknown() {
        let code = Arc::new(AtomicU16::new(500));
        let inspector = inspect_answers(code.clone());
        inspector.read_first().await;
        assert_eq!(*lock(&inspector.caches.admission), None);
        for (answer, in_force, unreadable) in
            [(200, true, false), (500, true, false), (403, false, true)]
        {
            code.store(answer, Ordering::Relaxed);
            inspector.refresh().await;
            let result = lock(&inspector.caches.admission).clone().unwrap();
            assert_eq!((result.are_in_force(), result.unreadable), (in_force, unreadable));
        }
    }

    #[test]
    fn a_policy_is_in_force_only_with_a_binding_that_denies_everywhere() {
        let now = policy(&names::POLICY_LEVEL_NOW.to_string());
        let whole = binding(&json!({}));
        assert_eq!(check(&now, &whole), None);
        let mut ignores = now.clone();
        ignores["spec"]["failurePolicy"] = json!("Ignore");
        let namespaces =
            json!({"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}});
        let cases = [
            (&Value::Null, &Value::Null, "rollmodel-records is not installed"),
            (&Value::Null, &whole, "ValidatingAdmissionPolicy rollmodel-records is not installed"),
            (
                &now,
                &Value::Null,
                "ValidatingAdmissionPolicyBinding rollmodel-records is not installed",
            ),
            (&policy("0"), &whole, "rollmodel-records is older than this operator (policy level 0"),
            (&ignores, &whole, "has failurePolicy Ignore"),
            (&now, &binding(&json!({"validationActions": ["Audit"]})), "does not deny"),
            (&now, &binding(&json!({"policyName": "another"})), "does not deny"),
            (&now, &binding(&namespaces), "is limited by matchResources"),
        ];
        for (policy, binding, phrase) in cases {
            let problem = check(policy, binding).unwrap_or_default();
            assert!(problem.contains(phrase), "{problem:?} does not say {phrase:?}");
        }
    }
}
