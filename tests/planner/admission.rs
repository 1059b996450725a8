//! The admission policies of the cluster: their absence is a condition, and nothing else changes.

use rollmodel::{api::condition::Condition, plan::observed::AdmissionPolicies};

use crate::world::World;

/// Builds a settled cluster with these policies.
fn settle_with(policies: Option<AdmissionPolicies>) -> World {
    let mut world = World::new();
    world.observed.memory.admission_policies = policies;
    world.settle();
    world
}

fn find_condition(world: &World) -> Option<Condition> {
    let conditions = world.read_status().conditions;
    conditions.into_iter().find(|c| c.type_ == "AdmissionPoliciesMissing")
}

fn missing_policies() -> Option<AdmissionPolicies> {
    let problems = ["rollmodel-own-rights", "rollmodel-records"]
        .map(|name| format!("{name} is not installed"))
        .to_vec();
    Some(AdmissionPolicies { problems, unreadable: false })
}

fn in_force() -> Option<AdmissionPolicies> {
    Some(AdmissionPolicies::default())
}

#[test]
fn the_condition_names_the_missing_policies_what_is_not_guaranteed_and_what_to_apply() {
    let condition = find_condition(&settle_with(missing_policies())).unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "NotInstalled"));
    assert_eq!(
        condition.message,
        "rollmodel-own-rights is not installed; rollmodel-records is not installed. \
         Until all admission policies of Rollmodel are installed, it is not guaranteed that users \
         get nothing through the operator that RBAC denies them (Deployments, Services, Jobs, \
         Secrets), nor that records and the names of requesters are genuine. Apply \
         deploy/admission.yaml, or set admissionPolicies.enabled=true in the Helm chart."
    );
}

#[test]
fn the_condition_is_unknown_where_the_operator_may_not_read_the_policies() {
    let unreadable = AdmissionPolicies { problems: Vec::new(), unreadable: true };
    let condition = find_condition(&settle_with(Some(unreadable))).unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("Unknown", "NotReadable"));
    assert!(condition.message.contains("admissionPolicies.read=true"), "{}", condition.message);
}

#[test]
fn the_condition_follows_the_cluster_with_one_write_each_time() {
    let mut world = settle_with(in_force());
    assert_eq!(find_condition(&world), None);
    for (policies, is_told) in [(missing_policies(), true), (in_force(), false)] {
        world.observed.memory.admission_policies = policies;
        let before = world.writes;
        world.settle();
        assert_eq!(find_condition(&world).is_some(), is_told);
        assert_eq!(world.writes - before, 1);
    }
}

#[test]
fn until_the_policies_were_read_the_condition_stands_as_it_is() {
    for policies in [missing_policies(), in_force()] {
        let mut world = settle_with(policies);
        let told = find_condition(&world);
        // A new process of the operator does not know yet.
        world.observed.memory.admission_policies = None;
        let plan = world.plan_next();
        assert!(plan.actions.is_empty() && plan.status.is_none(), "{plan:#?}");
        assert_eq!(find_condition(&world), told);
    }
}

#[test]
fn the_longest_message_says_what_to_apply() {
    let long = "ValidatingAdmissionPolicyBinding production-rollmodel-requested-by does not deny \
                what production-rollmodel-requested-by refuses";
    let problems = vec![long.to_owned(); 3];
    let policies = AdmissionPolicies { problems, unreadable: false };
    let message = find_condition(&settle_with(Some(policies))).unwrap().message;
    assert!(message.ends_with("in the Helm chart."), "{message}");
}
