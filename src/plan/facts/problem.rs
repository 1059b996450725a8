//! The problem of a spec that cannot be carried out, or not yet.

use crate::api::reason::Reason;

/// A problem that keeps the version that the spec names from being served: a reason for conditions
/// and a sentence for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// Something that the spec names does not exist yet; the problem ends when it appears.
    Pending(Reason, String),
    /// Someone has to change something.
    Invalid(Reason, String),
}

impl Problem {
    /// Returns the sentence for people.
    #[must_use]
    pub fn as_sentence(&self) -> &str {
        match self {
            Self::Pending(_, sentence) | Self::Invalid(_, sentence) => sentence,
        }
    }
}
