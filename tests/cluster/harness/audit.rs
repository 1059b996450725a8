//! Who asked the API server for what, from its audit log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde_json::Value;

use super::Cluster;

/// The audit policy: metadata of every request, when it is answered.
pub const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";

/// The API server's flags. Without rotation, which comes after 100 MB: a mark would then point into
/// another file, and counts be short.
pub const FLAGS: &str =
    "--audit-policy-file audit.yaml --audit-log-path audit.log --audit-log-maxsize=0";

/// A place in the audit log to count from.
pub struct Mark {
    path: PathBuf,
    offset: u64,
}

/// Counts by (verb, resource with its subresource).
pub type Counts = BTreeMap<(String, String), usize>;

/// Group, resource with its subresource, verb.
pub type Right = (String, String, String);

/// Every right that roles grant, each role as kubectl finds it.
pub fn granted(cluster: &Cluster, roles: &[&[&str]]) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for role in roles {
        let role: Value =
            serde_json::from_str(&cluster.kubectl(&[&["get", "-o", "json"], *role].concat()))
                .expect("a role");
        let texts = |rule: &Value, field: &str| -> Vec<String> {
            rule[field]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|t| t.as_str().map(str::to_owned))
                .collect()
        };
        for rule in role["rules"].as_array().expect("rules") {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    all.extend(
                        texts(rule, "verbs")
                            .into_iter()
                            .map(|verb| (group.clone(), resource.clone(), verb)),
                    );
                }
            }
        }
    }
    all
}

/// Marks now.
pub fn mark(cluster: &Cluster) -> Mark {
    let path = cluster.dir().join("audit.log");
    let offset = std::fs::metadata(&path).map(|m| m.len()).unwrap_or_default();
    Mark { path, offset }
}

impl Mark {
    /// The entries since the mark.
    pub fn entries(&self) -> Vec<Value> {
        let mut file = File::open(&self.path).expect("the audit log");
        file.seek(SeekFrom::Start(self.offset)).expect("the mark");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("the audit log is text");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The rights that an account used since the mark, and the entries of what it was forbidden.
    pub fn rights(&self, account: &str) -> (BTreeSet<Right>, Vec<Value>) {
        let (mut rights, mut forbidden) = (BTreeSet::new(), Vec::new());
        for entry in self.entries().into_iter().filter(|e| e["user"]["username"] == account) {
            let text = |path: &str| {
                entry.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            let sub = text("/objectRef/subresource");
            let resource = if sub.is_empty() {
                text("/objectRef/resource")
            } else {
                format!("{}/{sub}", text("/objectRef/resource"))
            };
            rights.insert((text("/objectRef/apiGroup"), resource, text("/verb")));
            if entry["responseStatus"]["code"] == 403 {
                forbidden.push(entry);
            }
        }
        (rights, forbidden)
    }

    /// Requests since the mark by user agents that begin so, in one namespace where one is given;
    /// watches and leases left out.
    pub fn count(&self, agent: &str, namespace: Option<&str>) -> Counts {
        self.count_with(agent, namespace, false, false)
    }

    /// As [`Mark::count`], with watches (when they open), with leases, or with both.
    pub fn count_with(
        &self,
        agent: &str,
        namespace: Option<&str>,
        watches: bool,
        leases: bool,
    ) -> Counts {
        let mut counts = Counts::new();
        for entry in self.entries() {
            let text = |path: &str| {
                entry.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            let (verb, resource, sub) =
                (text("/verb"), text("/objectRef/resource"), text("/objectRef/subresource"));
            let other = namespace.is_some_and(|n| text("/objectRef/namespace") != n)
                || !text("/userAgent").starts_with(agent);
            // A watch is told of when it opens and when it ends.
            let watch = verb == "watch" && (!watches || text("/stage") != "ResponseStarted");
            if other || watch || (resource == "leases" && !leases) {
                continue;
            }
            let resource = if sub.is_empty() { resource } else { format!("{resource}/{sub}") };
            *counts.entry((verb, resource)).or_default() += 1;
        }
        counts
    }
}

/// A line for each, for the message of a failure.
pub fn listing(counts: &Counts) -> String {
    counts
        .iter()
        .map(|((verb, resource), count)| format!("{count:6} {verb} {resource}\n"))
        .collect()
}

/// All of them.
pub fn total(counts: &Counts) -> usize {
    counts.values().sum()
}
