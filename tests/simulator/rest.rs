//! The witness at rest: when nothing is left to happen, the desired or a held state is reached.

use rollmodel::{
    api::{
        ModelDeploymentSpec, deployment::State, names, rollout::DecisionVerb,
        version::LifecycleState,
    },
    plan::observed::Version,
};
use serde_json::Value;

use super::{cluster::Cluster, faults::WriteKind};

/// The first port of the container `model`.
pub fn find_port(template: &Value) -> Option<&Value> {
    let mut containers = template["spec"]["containers"].as_array()?.iter();
    containers.find(|c| c["name"] == names::CONTAINER)?["ports"].get(0)
}

/// True if another container has a port of that name, so that a Service cannot tell them apart.
fn is_doubly_named(template: Option<&Value>, port: &Value) -> bool {
    let containers = template.and_then(|t| t["spec"]["containers"].as_array());
    let mut others = containers.into_iter().flatten().filter(|c| c["name"] != names::CONTAINER);
    others.any(|c| c["ports"].as_array().into_iter().flatten().any(|p| p["name"] == port["name"]))
}

impl Cluster {
    pub fn witness_restless(&mut self, sentence: &str) {
        let last: Vec<&str> = self.operator.writes.iter().rev().take(6).copied().collect();
        self.violate("quiet-at-rest", format!("{sentence}: {}", last.join(", ")));
    }

    pub fn witness_rest(&mut self) {
        self.witness_settled();
        let silenced = self.faults.refusals.contains_key(&WriteKind::Status);
        if self.operator.is_down || self.model_deployment.is_none() || silenced {
            return;
        }
        self.witness_availability();
        self.witness_requests();
        self.witness_decision();
        self.witness_others();
        // Where someone deleted records, a person has to say how it goes on.
        let reasons = self.status().conditions;
        let waits_for_records = reasons.iter().any(|c| c.reason == "RecordsMissing");
        let troubled = waits_for_records
            || !self.faults.trouble.is_empty()
            || !self.faults.refusals.is_empty()
            || self.faults.older_crds
            || self.has_other_owner();
        if !troubled {
            self.witness_desired();
            self.witness_additions();
            self.witness_service();
            self.witness_resume();
        }
    }

    /// Ready implies available pods, or replicas 0.
    fn witness_availability(&mut self) {
        let status = self.status();
        let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let deployment = self.workload.deployment.as_ref();
        let available = deployment.map_or(0, |d| d.status.available_replicas);
        let replicas = self.spec().map_or(0, |s| s.replicas);
        if ready && replicas > 0 && available == 0 {
            let says = status.message.unwrap_or_default();
            let sentence = format!("Ready at rest with no pod available: {says}");
            self.violate("ready-implies-available", sentence);
        }
    }

    /// Every request is answered, unless answers are refused.
    fn witness_requests(&mut self) {
        let answerable = !self.faults.refusals.contains_key(&WriteKind::Answer);
        let open = self.requests.iter().find(|r| r.status.is_none()).map(|r| r.spec.verb);
        if let Some(verb) = open.filter(|_| answerable && self.faults.refusals.is_empty()) {
            self.violate("requests-are-answered", format!("{verb:?} has no answer"));
        }
    }

    /// Refused settings delay no decision.
    fn witness_decision(&mut self) {
        let is_of_settings = |w: &WriteKind| matches!(w, WriteKind::Replicas | WriteKind::Settings);
        let only_settings = self.faults.refusals.keys().all(is_of_settings);
        let Some(newest) = self.newest_record().filter(|_| only_settings) else { return };
        let Some(deployment) = &self.workload.deployment else { return };
        if self.has_other_owner() {
            return;
        }
        let live = deployment.spec.template.label(names::REVISION).to_owned();
        let wanted = names::short_hash(&newest.revision_hash).to_owned();
        if !self.faults.refusals.is_empty() && live != wanted {
            let sentence =
                format!("rollout {} waits for a refused number of replicas", newest.number);
            self.violate("refused-settings-delay-no-decision", sentence);
        }
    }

    /// What the spec names serves, unless its version is at fault, rejected or not there.
    fn witness_desired(&mut self) {
        let Some(spec) = self.spec().cloned() else { return };
        let status = self.status();
        let state = status.state;
        let says = status.message.clone().unwrap_or_default();
        if let Some(deployment) = &self.workload.deployment
            && deployment.spec.replicas != spec.replicas
        {
            let (has, wants) = (deployment.spec.replicas, spec.replicas);
            let sentence = format!("{has} replicas where the spec says {wants}: {says}");
            self.violate("desired-or-held-state-reached", sentence);
        }
        self.witness_bad_content();
        let is_possible = self.is_servable(&spec.version) && !self.is_stuck_in_kubernetes();
        if is_possible {
            self.witness_pods(&says);
        }
        if self.is_paused() || !is_possible || spec.replicas == 0 {
            return;
        }
        let hold = status.hold.is_some();
        if hold && !self.may_be_held(&spec.version) {
            let sentence = format!("version {} is held, and it never failed: {says}", spec.version);
            self.violate("only-faulty-content-is-failed", sentence);
        }
        if self.is_shrunk_by_others() {
            return;
        }
        let newest = self.newest_record().filter(|r| r.outcome.is_none());
        let newest = newest.map(|r| (r.number, r.version.clone()));
        if let Some((number, version)) = newest.filter(|_| hold)
            && !self.faults.behavior(&version).is_faulty()
        {
            let sentence = format!("{} is held, and rollout {number} never ends", spec.version);
            self.violate("desired-or-held-state-reached", sentence);
        }
        let serves = status.serving.as_ref().is_some_and(|s| s.version == spec.version);
        let reached = serves && state == Some(State::Serving);
        if !hold && !reached && !self.faults.behavior(&spec.version).is_faulty() {
            let sentence = format!("version {} does not serve: {state:?}, {says}", spec.version);
            self.violate("desired-or-held-state-reached", sentence);
        }
    }

    /// A Deployment of ours has a Service.
    fn witness_service(&mut self) {
        if self.workload.deployment.is_some() && self.service.is_none() {
            self.violate("a-service-comes-back", "the Deployment has no Service at rest");
        }
    }

    /// Where nothing prevents pods, a Deployment that wants some has some, also while it is paused.
    fn witness_pods(&mut self, says: &str) {
        let Some(deployment) = &self.workload.deployment else { return };
        if deployment.spec.replicas > 0 && self.workload.pods.is_empty() {
            let paused = if deployment.spec.paused { " paused" } else { "" };
            let sentence = format!("a{paused} Deployment has no pods: {says}");
            self.violate("a-deployment-at-rest-has-pods", sentence);
        }
    }

    /// Whether a person paused what the spec names, by the spec or by a verb on its model.
    pub fn is_paused(&self) -> bool {
        let Some(spec) = self.spec() else { return false };
        let history = self.history();
        let mut records = history.iter().rev().filter(|r| r.model == spec.model);
        let newest = records.find_map(|r| r.decisions.last());
        spec.paused || newest.is_some_and(|d| d.verb == DecisionVerb::Pause)
    }

    fn is_servable(&self, version: &str) -> bool {
        let Some(spec) = self.spec() else { return false };
        let find = |v: &&Version| v.model == spec.model && v.version == version;
        let Some(found) = self.versions.iter().find(find) else { return false };
        let yanked = found.lifecycle.as_ref().is_some_and(|l| l.state == LifecycleState::Yanked);
        let same = |r: &&rollmodel::plan::observed::Record| {
            (&r.spec.model, &r.spec.version) == (&found.model, &found.version)
        };
        let mut bound = self.records.iter().filter(same);
        let conflict = bound.any(|r| r.spec.record_digest != found.record_digest);
        let template = spec.template.as_ref().map(ToString::to_string).unwrap_or_default();
        // A template that the API server refuses is never served.
        let refused = template.contains("emptydir")
            || spec.template.as_ref().is_some_and(|t| {
                t["metadata"]["labels"]["commit"].as_str().is_some_and(|l| l.contains('/'))
            });
        let verified = found.artifact.as_ref().is_none_or(|artifact| {
            artifact.digest.is_some()
                || found.pin.is_some()
                || self.records.iter().any(|r| same(&r) && r.spec.artifact_digest.is_some())
        });
        !yanked && !conflict && !refused && verified && self.shares_port(spec)
    }

    /// Whether the port that the spec writes can be rolled out: its protocol is TCP, no other
    /// container has one of its name, and it has the name or the number of the port that serves. A
    /// Service finds both by nothing else.
    fn shares_port(&self, spec: &ModelDeploymentSpec) -> bool {
        let written = spec.template.as_ref().and_then(find_port);
        let is_invalid = |port: &Value| {
            port["protocol"] == "UDP" || is_doubly_named(spec.template.as_ref(), port)
        };
        if written.is_some_and(is_invalid) {
            return false;
        }
        let live = self.workload.deployment.as_ref();
        let live = live.and_then(|d| find_port(&d.spec.template.value));
        let (Some(written), Some(live)) = (written, live) else { return true };
        written["name"] == live["name"] || written["containerPort"] == live["containerPort"]
    }

    /// A Deployment that is scaled to the size that a rollout had just shrunk its only active
    /// ReplicaSet to: Kubernetes takes the annotation desired-replicas, which nothing updates, for
    /// a scaling that is to be done first, and never rolls out. The next scaling frees it.
    fn is_stuck_in_kubernetes(&self) -> bool {
        let Some(deployment) = &self.workload.deployment else { return false };
        let wanted = deployment.spec.replicas;
        let mut active = self.workload.replica_sets.iter().filter(|s| s.replicas > 0);
        let (first, second) = (active.next(), active.next());
        second.is_none()
            && first.is_some_and(|s| s.replicas == wanted && s.desired_replicas != wanted)
    }

    /// Content that is at fault is left where there is something to go back to.
    fn witness_bad_content(&mut self) {
        let Some(newest) = self.newest_record().cloned() else { return };
        let open = newest.outcome.is_none() && !newest.goes_back();
        let faulty = self.faults.behavior(&newest.version).is_faulty();
        let replicas = self.spec().map_or(0, |s| s.replicas);
        let serving =
            self.serving_record().filter(|s| s.content_hash != newest.content_hash).cloned();
        let Some(serving) = serving.filter(|_| open && faulty && replicas > 0) else { return };
        if self.is_paused() || self.truth_rejects(&serving) || !self.has_template(&serving) {
            return;
        }
        let sentence = format!(
            "version {} fails and is not left, although version {} served",
            newest.version, serving.version
        );
        self.violate("bad-content-is-left", sentence);
    }
}
