//! The numbers and conditions of the Deployment.

use super::*;

#[test]
fn max_unavailable_is_rounded_as_kubernetes_rounds_it() {
    let bounds = |surge, unavailable| json!({"maxSurge": surge, "maxUnavailable": unavailable});
    for (replicas, bounds, want) in [
        (4, bounds(json!(1), json!(0)), 0),
        (4, bounds(json!(0), json!(2)), 2),
        (4, bounds(json!(1), json!(2)), 2),
        (10, bounds(json!("25%"), json!("25%")), 2),
        (1, bounds(json!("25%"), json!("25%")), 0),
        // Where both are 0, nothing could be replaced.
        (4, bounds(json!(0), json!(0)), 1),
        (1, bounds(json!("0%"), json!("25%")), 1),
        (4, json!(null), 0),
    ] {
        let mut live = workload(replicas, 0, 0);
        live.spec.strategy = json!({"rollingUpdate": bounds});
        assert_eq!(max_unavailable(&live), want, "{replicas} {bounds}");
    }
}

#[test]
fn the_minimum_available_is_what_the_strategy_leaves_of_the_replicas() {
    assert!(has_minimum_available(&workload(4, 3, 1)));
    assert!(!has_minimum_available(&workload(4, 2, 1)));
    assert!(has_minimum_available(&workload(0, 0, 1)));
}

#[test]
fn only_the_progressing_condition_tells_that_the_deadline_passed() {
    let exceeded = |type_, status, reason| {
        progress_deadline_exceeded(&with_condition(workload(1, 0, 0), type_, status, reason))
    };
    assert!(exceeded("Progressing", "False", "ProgressDeadlineExceeded"));
    assert!(!exceeded("Progressing", "True", "ProgressDeadlineExceeded"));
    assert!(!exceeded("Progressing", "False", "FailedCreate"));
    assert!(!exceeded("Available", "False", "ProgressDeadlineExceeded"));
}
