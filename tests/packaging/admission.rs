//! The shipped admission policies: the operator looks for those that are installed.

use rollmodel::api::names::{ADMISSION_POLICIES, POLICY_LEVEL, POLICY_LEVEL_NOW};
use serde_json::{Value, json};

use super::{NAMESPACE, Objects, helm, kustomized, objects, stdout_of, tool};

/// The chart as the release `prod` in namespace `models`.
fn render_release(args: &[&str]) -> Objects {
    let mut command = tool("helm");
    command.args(["template", "prod", "charts/rollmodel", "--namespace", "models"]);
    command.args(["--kube-version", "1.37.2"]).args(args);
    objects(&stdout_of(command))
}

fn list_args(installed: &Objects, deployment: &str) -> Vec<Value> {
    let pod = &installed[deployment]["spec"]["template"]["spec"];
    pod["containers"][0]["args"].as_array().unwrap().clone()
}

#[test]
fn the_operator_looks_for_the_policies_that_are_installed_and_may_read_them() {
    let prod = render_release(&[]);
    let release = "prod-rollmodel";
    let flag = json!(format!("--admission-policies={release}"));
    assert!(list_args(&prod, &format!("Deployment models/{release}")).contains(&flag));
    for (installed, prefix) in [(kustomized(), "rollmodel"), (&prod, release)] {
        let names = ADMISSION_POLICIES.map(|end| format!("{prefix}-{end}"));
        for name in &names {
            let policy = &installed[&format!("ValidatingAdmissionPolicy /{name}")];
            let level = &policy["metadata"]["annotations"][POLICY_LEVEL];
            assert_eq!(level, &json!(POLICY_LEVEL_NOW.to_string()), "{name}");
            assert_eq!(policy["spec"]["failurePolicy"], "Fail");
            let binding = &installed[&format!("ValidatingAdmissionPolicyBinding /{name}")];
            assert_eq!(binding["spec"], json!({"policyName": name, "validationActions": ["Deny"]}));
        }
        let of_policies = |key: &&String| key.starts_with("ValidatingAdmissionPolicy ");
        assert_eq!(installed.keys().filter(of_policies).count(), names.len());
        let rules = installed[&format!("ClusterRole /{prefix}")]["rules"].as_array().unwrap();
        let reads = rules.iter().find(|rule| rule["resourceNames"] == json!(names)).unwrap();
        assert_eq!(reads["verbs"], json!(["get"]));
    }
}

#[test]
fn records_are_written_by_the_installed_service_account_where_the_operator_watches() {
    let find_writer = |installed: &Objects, name: &str| {
        let policy = &installed[&format!("ValidatingAdmissionPolicy /{name}-records")]["spec"];
        let expression = policy["validations"][0]["expression"].as_str().unwrap();
        let conditions = policy["matchConditions"].as_array().unwrap();
        (expression.split('\'').nth(1).unwrap().to_owned(), conditions[0]["expression"].clone())
    };
    let account = |namespace: &str, name: &str| format!("system:serviceaccount:{namespace}:{name}");
    assert_eq!(find_writer(kustomized(), "rollmodel").0, account(NAMESPACE, "rollmodel"));
    let risk = render_release(&["--set", "watchNamespace=risk"]);
    let expected = (account("models", "prod-rollmodel"), json!("request.namespace == 'risk'"));
    assert_eq!(find_writer(&risk, "prod-rollmodel"), expected);
}

#[test]
fn the_right_to_restore_records_is_granted_by_no_role_that_kubernetes_aggregates() {
    for (key, role) in kustomized().iter().filter(|(key, _)| key.contains("Role ")) {
        let rules = role["rules"].as_array().unwrap();
        let restores =
            rules.iter().any(|rule| rule["verbs"].as_array().unwrap().contains(&json!("restore")));
        assert_eq!(restores, key == "ClusterRole /rollmodel-restore", "{key}");
        let labels = role["metadata"]["labels"].as_object().unwrap();
        let aggregated = labels.keys().any(|label| label.contains("aggregate-to"));
        assert!(!(restores && aggregated), "{key}");
    }
}

#[test]
fn the_operator_believes_requesters_only_where_the_policy_is_installed() {
    let believes = |args: &[&str]| {
        let chart = objects(&stdout_of(helm(args)));
        let policy = chart.keys().any(|key| key.starts_with("ValidatingAdmissionPolicy "));
        let args = &chart[&format!("Deployment {NAMESPACE}/rollmodel")]["spec"]["template"]["spec"]
            ["containers"][0]["args"];
        (policy, args.as_array().unwrap().contains(&"--requesters-verified".into()))
    };
    assert_eq!(believes(&[]), (true, true));
    assert_eq!(believes(&["--set", "admissionPolicies.enabled=false"]), (false, false));
}
