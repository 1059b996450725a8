//! Why a plan could not be applied, and what people have to know of it.

use kube::core::response::Status;

use super::NOTE_MAX;
use crate::{api::condition::truncate_text, plan::observed::RefusedWrite, run::client::said};

/// Why a plan could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or nothing.
    #[error("{verb} {what}: {}", said(source))]
    Request {
        /// What was attempted.
        verb: &'static str,
        /// On which object.
        what: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// Another process may lead by now.
    #[error("change anything of {what}: this process does not surely lead any more")]
    NotLeading {
        /// The object.
        what: String,
    },
    /// A patch that is none.
    #[error("patch {what}: the plan holds an operation that is no JSON Patch: {source}")]
    Patch {
        /// On which object.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A patch of which the served schema knows nothing.
    #[error(
        "write {fields} of {kind} {what}: its CRD is older than this operator and lacks the field; apply the CRDs of this release"
    )]
    OlderSchema {
        /// The fields.
        fields: String,
        /// The kind.
        kind: &'static str,
        /// The object.
        what: String,
    },
    /// A name that another content has.
    #[error(
        "store content {what}: a ControllerRevision of that name holds another content; delete it if nothing of yours needs it"
    )]
    OtherContent {
        /// The name.
        what: String,
    },
    /// A name that an object has which is not ours.
    #[error(
        "{verb} {what}: a {kind} of that name is there already, and is not of this {owner}; delete it if nothing of yours needs it"
    )]
    OtherObject {
        /// What was attempted.
        verb: &'static str,
        /// The object.
        what: String,
        /// The kind of the object.
        kind: &'static str,
        /// The kind of its owner.
        owner: &'static str,
    },
    /// A Job that has the name of the version's, and that the operator may not read.
    #[error(
        "create Job {namespace}/{name}: a Job of that name is there already, and the operator does not see it as one of this version; delete it if nothing of yours needs it, or, if ModelVersion {version} owns it, run kubectl label job {name} -n {namespace} {label} --overwrite"
    )]
    OtherJob {
        /// The namespace.
        namespace: String,
        /// The name of the Job.
        name: String,
        /// The name of the ModelVersion.
        version: String,
        /// The label that the operator finds its Jobs by.
        label: String,
    },
    /// An object of ours that no cache shows.
    #[error(
        "{verb} {namespace}/{name}: the {kind} of that name lacks a label by which the operator finds it; run kubectl label {} {name} -n {namespace} {labels} --overwrite",
        kind.to_lowercase()
    )]
    Unlabelled {
        /// What was attempted.
        verb: &'static str,
        /// The kind.
        kind: &'static str,
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
        /// The labels that are missing, as kubectl takes them.
        labels: String,
    },
    /// A name that an object has which no cache shows, for no known reason.
    #[error(
        "{verb} {namespace}/{name}: a {kind} of that name is there already, and the operator does not see it as one of ModelDeployment {owner}; look at its labels and its spec with kubectl get {} {name} -n {namespace} -o yaml, and delete it if it is not one",
        kind.to_lowercase()
    )]
    NotShown {
        /// What was attempted.
        verb: &'static str,
        /// The kind.
        kind: &'static str,
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
        /// The ModelDeployment.
        owner: String,
    },
}

impl Error {
    /// A closed label for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) => match status.code {
                    403 => "forbidden",
                    404 => "not_found",
                    409 => "conflict",
                    422 => "invalid",
                    429 => "too_many_requests",
                    500.. => "server",
                    _ => "api",
                },
                _ => "connection",
            },
            Self::NotLeading { .. } => "not_leading",
            Self::Patch { .. } => "patch",
            Self::OlderSchema { .. } => "older_schema",
            Self::OtherContent { .. } => "other_content",
            Self::OtherObject { .. } => "other_object",
            Self::OtherJob { .. } => "other_job",
            Self::Unlabelled { .. } => "unlabelled",
            Self::NotShown { .. } => "not_shown",
        }
    }
}

impl Error {
    /// What there is to tell people, where the server understood what was asked and said no.
    pub(super) fn to_refused_write(&self, write: String, deciding: bool) -> Option<RefusedWrite> {
        let forbidden = match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
                    status.code == 403
                }
                _ => return None,
            },
            Self::OlderSchema { .. }
            | Self::OtherContent { .. }
            | Self::OtherObject { .. }
            | Self::OtherJob { .. }
            | Self::Unlabelled { .. }
            | Self::NotShown { .. } => false,
            Self::NotLeading { .. } | Self::Patch { .. } => return None,
        };
        let names_template = matches!(self, Self::Request { source, .. }
            if matches!(&**source, kube::Error::Api(status) if is_about_template(status)));
        Some(RefusedWrite {
            write,
            deciding,
            forbidden,
            names_template,
            due: false,
            message: truncate_text(&self.to_string(), NOTE_MAX),
        })
    }
}

/// Whether a cause of a refusal is a field of the pod template.
fn is_about_template(status: &Status) -> bool {
    // A body that cannot be decoded has no causes: the message names the field.
    if status.code == 400 {
        return status.message.contains("spec.template.");
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| {
        let below = cause.field.strip_prefix("spec.template");
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_about_the_template_only_where_it_names_a_field_of_it() {
        let named = |code: u16, message: &str, fields: &[&str]| {
            let causes: Vec<_> = fields.iter().map(|f| serde_json::json!({"field": f})).collect();
            let status = serde_json::json!({"code": code, "message": message, "details": {"causes": causes}});
            is_about_template(&serde_json::from_value(status).unwrap())
        };
        assert!(named(422, "", &["spec.replicas", "spec.template.labels"]));
        assert!(named(422, "", &["spec.template.spec.containers[0].image"]));
        assert!(!named(422, "", &["spec.strategy.rollingUpdate", "spec.templates"]));
        assert!(!named(422, "denied: spec.template.spec is not signed", &[]));
        assert!(named(400, "unknown field \"spec.template.spec.dnsPolice\"", &[]));
        assert!(!named(400, "denied by a webhook", &[]));
    }
}
