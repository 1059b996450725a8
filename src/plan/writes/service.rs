//! The Service: it follows what serves. A port is found by its name where old and new pods share
//! that, else by its number.

use serde_json::{Value, json};

use super::{Outgoing, children};
use crate::{
    api::ModelRolloutSpec,
    plan::{
        action::Action,
        facts::{Facts, health, history::History, ownership::find_service_ownership},
        make::{self, Port},
    },
};

/// Plans the write of the Service.
pub fn write_service(
    facts: &Facts<'_>,
    history: &History,
    newest: &ModelRolloutSpec,
    rendering: Option<&Value>,
    out: &mut Outgoing,
    actions: &mut Vec<Action>,
) {
    let name = facts.observed.name.clone();
    let newest_port = rendering.map(make::find_client_port).or_else(|| facts.find_port(newest));
    let serving = history.serving().or_else(|| find_reachable(facts, history, newest));
    let serving = serving.filter(|s| s.revision_name != newest.revision_name);
    let serving_port = match serving.map(|s| facts.require_port(s)).transpose() {
        Ok(port) => port.flatten(),
        Err(lookup) => return out.push_lookup(lookup),
    };
    let ownership = find_service_ownership(facts.observed, facts.wanted);
    let (Some(live), Some(ownership)) = (&facts.observed.service, ownership) else {
        if let Some(port) = serving_port.or(newest_port) {
            let target = json!(port.name);
            let body = children::build_service(facts.observed, facts.wanted, &port, &target);
            actions.push(Action::CreateService { name, body });
        }
        return;
    };
    if !ownership.is_ours() || facts.has_foreign_deployment() {
        return;
    }
    let mut others = Vec::new();
    for left in facts.list_left(history) {
        let is_other = |r: &ModelRolloutSpec| r.revision_name != left.revision_name;
        if is_other(newest) && serving.is_none_or(is_other) {
            match facts.require_port(left) {
                Ok(port) => others.extend(port),
                Err(lookup) => return out.push_lookup(lookup),
            }
        }
    }
    let port = choose_port(serving_port, newest_port, &others);
    let came_back = &facts.observed.memory.came_back;
    let (reverts, ops) =
        children::patch_service(facts.observed, facts.wanted, live, port, &ownership, came_back);
    if !ops.is_empty() {
        actions.push(Action::PatchService { name, reverts, ops });
    }
}

/// Finds the rollout that clients reach where none was ever complete: the newest with a ready pod.
fn find_reachable<'a>(
    facts: &'a Facts<'_>,
    history: &'a History,
    newest: &'a ModelRolloutSpec,
) -> Option<&'a ModelRolloutSpec> {
    let is_ready = |r: &&ModelRolloutSpec| {
        health::pods_of(facts.observed, r).any(|pod| pod.ready && !pod.deleting)
    };
    let left = facts.list_left(history).filter(is_ready).last();
    Some(newest).filter(is_ready).or(left)
}

/// Finds the port of the Service and its targetPort: the name that the serving and the newest
/// revision share, or else the number that they share. One that the pods of abandoned rollouts
/// share too is preferred. If they share neither, the port of the serving revision stays.
fn choose_port(
    serving: Option<Port>,
    newest: Option<Port>,
    others: &[Port],
) -> Option<(Port, Value)> {
    let port = serving.or_else(|| newest.clone())?;
    let newest = newest.unwrap_or_else(|| port.clone());
    let names = newest.name == port.name;
    let numbers = newest.number == port.number;
    let names_of_all = names && others.iter().all(|o| o.name == port.name);
    let numbers_of_all = numbers && others.iter().all(|o| o.number == port.number);
    let by_number = !names_of_all && (numbers_of_all || (numbers && !names));
    let target = if by_number { json!(port.number) } else { json!(port.name) };
    Some((port, target))
}
