//! The shipped admission policies, as the cluster has them.

use serde::{Deserialize, Serialize};

/// Result of reading the shipped admission policies and their bindings.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct AdmissionPolicies {
    /// One phrase for each policy that is not in force, such as `rollmodel-records is not
    /// installed`.
    pub problems: Vec<String>,
    /// True if the API server forbids the operator to read them.
    pub unreadable: bool,
}

impl AdmissionPolicies {
    /// True if every shipped policy is known to be in force.
    #[must_use]
    pub fn are_in_force(&self) -> bool {
        !self.unreadable && self.problems.is_empty()
    }
}
