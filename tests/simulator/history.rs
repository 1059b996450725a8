//! Histories: lists of acts that are run, judged, told as a story, and kept as files.

use serde::{Deserialize, Serialize};

use super::{acts::Act, cluster::Cluster, truth::Violation};

/// One file of `tests/histories/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// What a user sees, in one sentence.
    pub title: String,
    /// The property that today's planner violates; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violates: Option<String>,
    /// The acts; the cluster settles before the first and after the last.
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    pub acts: Vec<Act>,
}

/// How a run of acts ended.
pub struct Ending {
    pub cluster: Cluster,
    /// The first violation, if there was one, and the number of the act that led to it.
    pub violation: Option<(usize, Violation)>,
    /// Seconds and steps of the clock.
    pub story: String,
}

/// Runs acts in a new cluster until they end or violate a property.
pub fn run_acts(acts: &[Act]) -> Ending {
    let mut cluster = Cluster::new();
    cluster.witness_act(&Act::Want("6".into()));
    cluster.settle();
    let mut story = String::new();
    tell(&mut story, "version 6 is applied", &cluster, 0);
    for (index, act) in acts.iter().enumerate() {
        let records = cluster.records.len();
        cluster.perform(act);
        tell(&mut story, &format!("{act:?}"), &cluster, records);
        if let Some(violation) = cluster.truth.violations.first().cloned() {
            return end(cluster, Some((index, violation)), story);
        }
    }
    let records = cluster.records.len();
    cluster.settle();
    tell(&mut story, "everything settles", &cluster, records);
    let violation = cluster.truth.violations.first().cloned();
    end(cluster, violation.map(|v| (acts.len(), v)), story)
}

fn end(cluster: Cluster, violation: Option<(usize, Violation)>, mut story: String) -> Ending {
    if let Some((_, violation)) = &violation {
        story.push_str(&format!("VIOLATES {}: {}\n", violation.property, violation.sentence));
    }
    Ending { cluster, violation, story }
}

/// Adds a line for an act, one for each record that it led to, and the sentence of the status.
fn tell(story: &mut String, act: &str, cluster: &Cluster, records: usize) {
    story.push_str(&format!("{:>9} s  {act}\n", cluster.now));
    for record in cluster.history().into_iter().skip(records) {
        let reason = record.decided_by.reason.as_deref().unwrap_or_default();
        let reason: String = reason.chars().take(80).collect();
        story.push_str(&format!(
            "             rollout {}: version {} of {}, {:?} {reason}\n",
            record.number, record.version, record.model, record.trigger
        ));
    }
    let status = cluster.status();
    if let (Some(state), Some(message)) = (status.state, status.message) {
        let message: String = message.chars().take(120).collect();
        story.push_str(&format!("             {state:?}: {message}\n"));
    }
}
