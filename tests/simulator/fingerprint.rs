//! Fingerprints of a cluster: equal for two clusters that differ only in the moment at which things
//! happened and in the names and numbers that were given out.
//!
//! Everything that decides the future is written down as a row of bytes. In it, times, generations
//! and revisions are ranks among their kind, and generated names (uids, resourceVersions,
//! ReplicaSets, pods) are numbered by their first appearance. The witness's memory is a part of it,
//! because it decides what will be called a violation.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::Serialize;
use serde_json::Value;

use super::{
    cluster::Cluster,
    objects::{Condition, Pod, ReplicaSet, Seconds, Template},
    operator::{EPOCH, StaleKind},
};

/// Kinds of numbers of which only the order counts.
#[derive(Clone, Copy)]
enum Kind {
    Time,
    /// Of the ModelDeployment and its requests.
    OwnGeneration,
    /// Of the Deployment.
    Generation,
    /// `deployment.kubernetes.io/revision`.
    Revision,
}

/// Times that were never are before all others.
const NEVER: Seconds = Seconds::MIN;

#[derive(Default)]
struct Canon {
    bytes: Vec<u8>,
    /// By [`Kind`]: the number, and where its rank belongs.
    ranked: [Vec<(i64, usize)>; 4],
    names: HashMap<Vec<u8>, u16>,
    scratch: Vec<u8>,
}

impl Cluster {
    /// 64 bits: among ten million states, two share one by accident once in 370,000 searches.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.write_state().hash(&mut hasher);
        hasher.finish()
    }

    /// What the fingerprint is taken of: to see why two states are not the same.
    pub fn write_state(&self) -> Vec<u8> {
        let mut canon = Canon::default();
        canon.rank(Kind::Time, self.now);
        self.write_custom_resources(&mut canon);
        self.write_deployment(&mut canon);
        for set in &self.workload.replica_sets {
            write_replica_set(&mut canon, set);
        }
        canon.number(-1);
        for pod in &self.workload.pods {
            write_pod(&mut canon, pod);
        }
        canon.json(&self.workload.quota);
        canon.json(&self.service);
        canon.json(&(&self.faults.behaviors, &self.faults.trouble, &self.faults.refusals));
        if let Some(autoscaler) = &self.autoscaler {
            canon.json(&(autoscaler.target, autoscaler.replicas));
            canon.time(autoscaler.wrote);
        }
        canon.json(&(self.faults.webhook, self.faults.older_crds, self.backup.is_some()));
        self.write_operator(&mut canon);
        self.write_truth(&mut canon);
        canon.rank_numbers();
        canon.bytes
    }

    fn write_custom_resources(&self, canon: &mut Canon) {
        if let Some(object) = &self.model_deployment {
            canon.text(object.uid.as_bytes(), Kind::OwnGeneration);
            canon.rank(Kind::OwnGeneration, object.generation);
            canon.json(&(&object.spec, &object.status));
        }
        canon.json(&self.versions);
        for record in &self.records {
            canon.json(record);
        }
        for revision in &self.revisions {
            // The body follows from the name.
            canon.text(revision.name.as_bytes(), Kind::OwnGeneration);
            canon.name(revision.uid.as_bytes());
            canon.name(revision.resource_version.as_bytes());
        }
        canon.number(-1);
        canon.json(&self.requests);
    }

    fn write_deployment(&self, canon: &mut Canon) {
        let Some(deployment) = &self.workload.deployment else { return };
        let body = self.deployment.as_deref().unwrap_or(&Value::Null);
        canon.json_of(&body["metadata"], Kind::Generation);
        for (field, value) in body["spec"].as_object().into_iter().flatten() {
            if field != "template" {
                canon.json_of(&(field, value), Kind::Generation);
            }
        }
        canon.template(&deployment.spec.template);
        canon.rank(Kind::Generation, deployment.generation);
        canon.rank(Kind::Revision, deployment.revision);
        let status = &deployment.status;
        canon.rank(Kind::Generation, status.observed_generation);
        for count in [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
            status.available_replicas,
        ] {
            canon.number(count.into());
        }
        for condition in [&status.available, &status.progressing, &status.replica_failure] {
            write_condition(canon, condition.as_ref());
        }
    }

    fn write_operator(&self, canon: &mut Canon) {
        let operator = &self.operator;
        canon.json(&(operator.is_awake, operator.is_down, operator.dies_after));
        canon.time(operator.due);
        for refused in &operator.refused {
            canon.json(&refused.what);
            canon.number(refused.attempts.min(6).into());
            canon.time(Some(refused.until));
        }
        let mut unclear: Vec<&String> = operator.unclear.iter().collect();
        unclear.sort();
        canon.json(&unclear);
        canon.rank(Kind::Generation, operator.answered_generation.unwrap_or(-1));
        canon.json(&(&operator.asked, &operator.came_back));
        for (name, since) in &operator.unneeded_since {
            canon.text(name.as_bytes(), Kind::OwnGeneration);
            canon.time(Some(*since));
        }
        canon.time(operator.status_written);
        canon.number(operator.failures.min(9).into());
        let Some((kind, past)) = operator.stale.as_deref() else { return };
        canon.json(kind);
        match kind {
            StaleKind::ModelDeployment => canon.json(&past.model_deployment),
            StaleKind::Records => canon.json(&past.records),
            StaleKind::Deployment => canon.json_of(&past.tracks, Kind::Generation),
            StaleKind::Pods => canon.json(&past.pods),
            StaleKind::Versions => canon.json(&past.versions),
        }
    }

    fn write_truth(&self, canon: &mut Canon) {
        let truth = &self.truth;
        canon.json(&(&truth.rejections, &truth.named, &truth.faulty));
        canon.json(&(&truth.refused_templates, &truth.decision, &truth.undo_target));
        canon.json(&(truth.to_protect, truth.records, truth.records_allowed));
        canon.time(Some(truth.last_act));
        canon.json(&(truth.kubectl_runs, truth.is_restoring, truth.had_endpoints));
        canon.json(&(
            truth.was_stale,
            truth.is_only_drift,
            truth.were_records_lost,
            truth.secret_was_rotated,
        ));
        canon.json(&self.waits_for_backoff());
        if let Some(protection) = &truth.protected {
            canon.json(&(protection.property, &protection.pods, protection.losses_allowed));
        }
        for violation in &truth.violations {
            canon.json(&(violation.property, &violation.sentence));
        }
    }
}

fn write_condition(canon: &mut Canon, condition: Option<&Condition>) {
    let Some(condition) = condition else { return canon.number(-1) };
    canon.text(condition.status.as_bytes(), Kind::Generation);
    canon.text(condition.reason.as_bytes(), Kind::Generation);
    canon.text(condition.message.as_bytes(), Kind::Generation);
    canon.time(Some(condition.last_update));
    canon.time(Some(condition.last_transition));
}

fn write_replica_set(canon: &mut Canon, set: &ReplicaSet) {
    canon.name(set.name.as_bytes());
    canon.template(&set.template);
    canon.time(Some(set.created));
    canon.rank(Kind::Revision, set.revision);
    for count in [
        set.replicas,
        set.min_ready_seconds,
        i32::from(set.observed),
        set.desired_replicas,
        set.max_replicas,
        set.status_replicas,
        set.ready_replicas,
        set.available_replicas,
    ] {
        canon.number(count.into());
    }
    canon.json(&set.failure);
}

fn write_pod(canon: &mut Canon, pod: &Pod) {
    canon.name(pod.name.as_bytes());
    canon.name(pod.replica_set.as_bytes());
    canon.time(Some(pod.created));
    let state = &pod.state;
    let flags = [pod.deleting, state.scheduled, state.finished];
    flags.into_iter().for_each(|flag| canon.number(flag.into()));
    canon.number(state.restarts.into());
    canon.number(state.init_restarts.into());
    canon.text(state.report.as_bytes(), Kind::Generation);
    [state.ready_since, state.started, state.initialized].into_iter().for_each(|t| canon.time(t));
}

impl Canon {
    fn number(&mut self, value: i64) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn time(&mut self, at: Option<Seconds>) {
        self.rank(Kind::Time, at.unwrap_or(NEVER));
    }

    fn rank(&mut self, kind: Kind, value: i64) {
        self.ranked[kind as usize].push((value, self.bytes.len()));
        self.bytes.extend([0xff, 0, 0]);
    }

    fn name(&mut self, name: &[u8]) {
        let next = u16::try_from(self.names.len()).unwrap();
        let number = match self.names.get(name) {
            Some(number) => *number,
            None => *self.names.entry(name.to_vec()).or_insert(next),
        };
        self.bytes.push(0xfe);
        self.bytes.extend(number.to_le_bytes());
    }

    fn template(&mut self, template: &Template) {
        self.bytes.extend(template.timeless_key.to_le_bytes());
        for at in template.times.iter() {
            self.rank(Kind::Time, *at);
        }
    }

    fn json(&mut self, value: &impl Serialize) {
        self.json_of(value, Kind::OwnGeneration);
    }

    fn json_of(&mut self, value: &impl Serialize, generations: Kind) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        serde_json::to_writer(&mut scratch, value).unwrap();
        self.text(&scratch, generations);
        self.scratch = scratch;
    }

    /// Appends a text whose times, generations and generated names are replaced.
    fn text(&mut self, text: &[u8], generations: Kind) {
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            at += match find_token(rest) {
                Token::Byte => {
                    self.bytes.push(rest[0]);
                    1
                }
                Token::Time(seconds) => {
                    self.rank(Kind::Time, seconds);
                    TIME_LENGTH
                }
                Token::Name(length) => {
                    self.name(&rest[..length]);
                    length
                }
                Token::Digest(length) => length,
                Token::Generation(field) => {
                    let digits = count_digits(&rest[field..]);
                    let value = std::str::from_utf8(&rest[field..field + digits]).unwrap();
                    self.rank(generations, value.parse().unwrap());
                    field + digits
                }
            };
        }
        self.bytes.push(0xfd);
    }

    fn rank_numbers(&mut self) {
        for kind in &mut self.ranked {
            kind.sort_unstable();
            let (mut rank, mut last) = (0_u16, None);
            for (value, at) in kind {
                rank += u16::from(last.is_some_and(|l| l != *value));
                last = Some(*value);
                self.bytes[*at + 1..*at + 3].copy_from_slice(&rank.to_le_bytes());
            }
        }
    }
}

/// `2023-11-14T22:13:20Z`.
const TIME_LENGTH: usize = 20;

enum Token {
    Byte,
    Time(Seconds),
    Name(usize),
    /// The digest of a record, which holds times: left out.
    Digest(usize),
    /// The length of the field's name; the number follows.
    Generation(usize),
}

fn count_digits(text: &[u8]) -> usize {
    text.iter().take_while(|b| b.is_ascii_digit()).count()
}

fn find_token(text: &[u8]) -> Token {
    match text[0] {
        b'2' if text.len() >= TIME_LENGTH && text[10] == b'T' && text[19] == b'Z' => {
            read_time(text).map_or(Token::Byte, Token::Time)
        }
        b'u' if text.starts_with(b"uid-") => Token::Name(4 + count_digits(&text[4..])),
        b'f' if text.starts_with(b"fraud-") => find_name_of_set(text),
        b'"' => find_field(text),
        _ => Token::Byte,
    }
}

/// `fraud-<10 hex digits>`, a ReplicaSet, with `-<number>` a pod; 16 hex digits are a revision.
fn find_name_of_set(text: &[u8]) -> Token {
    let hex = text[6..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if hex != 10 {
        return Token::Byte;
    }
    let ordinal = match text.get(16) {
        Some(b'-') => count_digits(&text[17..]),
        _ => 0,
    };
    Token::Name(if ordinal > 0 { 17 + ordinal } else { 16 })
}

fn find_field(text: &[u8]) -> Token {
    for field in ["\"generation\":", "\"observedGeneration\":"] {
        if text.starts_with(field.as_bytes()) && count_digits(&text[field.len()..]) > 0 {
            return Token::Generation(field.len());
        }
    }
    let end_of_value = |field: usize| {
        let value = text[field..].iter().position(|b| *b == b'"').unwrap_or_default();
        field + value + 1
    };
    if text.starts_with(b"\"resourceVersion\":\"") {
        return Token::Name(end_of_value(19));
    }
    if text.starts_with(b"\"previousDigest\":\"") {
        return Token::Digest(end_of_value(18));
    }
    Token::Byte
}

/// Seconds of the history.
fn read_time(text: &[u8]) -> Option<Seconds> {
    let text = std::str::from_utf8(&text[..TIME_LENGTH]).ok()?;
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_second() - EPOCH)
}

/// The text of a template without its times, as a key, and the times.
pub fn key_without_times(text: &str) -> (u64, Vec<Seconds>) {
    let mut canon = Canon::default();
    canon.text(text.as_bytes(), Kind::Generation);
    let times = canon.ranked[Kind::Time as usize].drain(..).map(|(at, _)| at).collect();
    canon.rank_numbers();
    let mut hasher = DefaultHasher::new();
    canon.bytes.hash(&mut hasher);
    (hasher.finish(), times)
}
