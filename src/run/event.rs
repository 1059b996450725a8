//! Events as values: what is told of an object under one key has one name, and so is one Event,
//! whoever writes it how often.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};

use super::{
    apply::instance,
    kinds::{Key, Kind},
};
use crate::{
    api::{condition::truncate_text, names},
    plan::facts::revision,
};

/// The longest note of an Event that the API server takes, in bytes.
pub const NOTE_MAX: usize = 1024;
/// The longest name of who tells it, in bytes.
const INSTANCE_MAX: usize = 128;

/// What an Event is about: one of our kinds.
pub struct Regarding<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub key: &'a Key,
    /// Its uid.
    pub uid: &'a str,
}

/// The Event that a program of ours (`operator`, `importer`) tells: reason, message, and the key
/// that makes it this one.
#[must_use]
pub fn event(
    program: &str,
    about: &Regarding<'_>,
    warning: bool,
    (reason, message, key): (&str, &str, &str),
) -> Value {
    let (namespace, name) = (&about.key.namespace, &about.key.name);
    let digest = revision::compute_digest(&json!([about.uid, key]));
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": format!("{name}.{}", names::short_hash(&digest)), "namespace": namespace},
        "eventTime": MicroTime(Timestamp::now()), "type": if warning { "Warning" } else { "Normal" },
        "reason": reason, "action": reason, "note": truncate_text(message, NOTE_MAX),
        "reportingController": format!("rollmodel.dev/{program}"), "reportingInstance": truncate_text(&instance(), INSTANCE_MAX),
        "regarding": {"apiVersion": "rollmodel.dev/v1alpha1", "kind": about.kind.name(), "namespace": namespace, "name": name,
            "uid": about.uid},
    })
}

/// Where the Events of a namespace are.
#[must_use]
pub fn path(namespace: &str) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}
