//! What is counted. Every label is of a closed list, save the names of ModelDeployments.

use std::{sync::Arc, time::Instant};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{memory::lock, observe::Caches, reconcile::What};
use crate::api::deployment::State;

/// Buckets of durations, in seconds: a pass that does nothing takes microseconds, one that writes
/// takes its requests' time.
const SECONDS: [f64; 9] = [0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 15.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabel {
    error: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WhatLabel {
    what: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServingLabels {
    namespace: String,
    modeldeployment: String,
    model: String,
    version: String,
}

/// Everything that is counted.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    passes: Family<WhatLabel, Histogram, fn() -> Histogram>,
    failures: Family<ErrorLabel, Counter>,
    actions: Family<ActionLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    cached: Family<KindLabel, Gauge>,
    waiting: Family<WhatLabel, Gauge>,
    states: Family<StateLabel, Gauge>,
    serving: Family<ServingLabels, Gauge>,
    leads: Gauge,
    admission: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("rollmodel");
        let passes =
            Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        let (failures, actions, requests, cached) =
            (Family::default(), Family::default(), Family::default(), Family::default());
        let (waiting, states, serving, leads) =
            (Family::default(), Family::default(), Family::default(), Gauge::default());
        let admission = Gauge::default();
        registry.register_with_unit(
            "reconcile_duration",
            "Passes over one object, by what it is",
            Unit::Seconds,
            passes.clone(),
        );
        registry.register("reconcile_failures", "Passes that failed, by error", failures.clone());
        registry.register("actions", "Changes made, by action", actions.clone());
        registry.register(
            "api_requests",
            "Requests to the API server, by verb, resource and status code (0: no answer)",
            requests.clone(),
        );
        registry.register("cached_objects", "Objects in the caches, by kind", cached.clone());
        registry.register(
            "queue_waiting",
            "Objects that are due and wait for a pass",
            waiting.clone(),
        );
        registry.register("modeldeployments", "ModelDeployments, by state", states.clone());
        registry.register(
            "serving_info",
            "The version that each ModelDeployment serves",
            serving.clone(),
        );
        registry.register("leader", "Whether this process leads", leads.clone());
        registry.register(
            "admission_policies_installed",
            "Shipped admission policies: 1 if all are in force, 0 if not or if that is unknown",
            admission.clone(),
        );
        Self {
            registry: Arc::new(registry),
            passes,
            failures,
            actions,
            requests,
            cached,
            waiting,
            states,
            serving,
            leads,
            admission,
        }
    }

    /// A pass begins; it is counted when the timer is dropped.
    #[must_use]
    pub fn pass(&self, what: What) -> Timer {
        Timer(Instant::now(), self.passes.get_or_create(&WhatLabel { what: word(what) }).clone())
    }

    /// A pass failed.
    pub fn failed(&self, error: &'static str) {
        self.failures.get_or_create(&ErrorLabel { error }).inc();
    }

    /// Something was changed.
    pub fn action(&self, action: &'static str) {
        self.actions.get_or_create(&ActionLabel { action }).inc();
    }

    /// A request was answered; code 0: it was not.
    pub fn request(&self, verb: &'static str, resource: &'static str, code: u16) {
        self.requests.get_or_create(&RequestLabels { verb, resource, code }).inc();
    }

    /// This process leads, or not.
    pub fn leads(&self, leads: bool) {
        self.leads.set(i64::from(leads));
    }

    /// How many keys are due and wait.
    pub fn waiting(&self, what: What, keys: usize) {
        self.waiting.get_or_create(&WhatLabel { what: word(what) }).set(gauge(keys));
    }

    /// Everything as Prometheus reads it, with the gauges taken from the caches now.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn text(&self, caches: &Caches) -> Result<String, std::fmt::Error> {
        self.gauges(caches);
        let mut out = String::new();
        encode(&mut out, &self.registry)?;
        Ok(out)
    }

    fn gauges(&self, caches: &Caches) {
        for (kind, size) in caches.sizes() {
            self.cached.get_or_create(&KindLabel { kind: kind.name() }).set(gauge(size));
        }
        let is_in_force = lock(&caches.admission).as_ref().is_some_and(|p| p.are_in_force());
        self.admission.set(i64::from(is_in_force));
        self.states.clear();
        self.serving.clear();
        for (key, entry) in caches.wanted.read().all() {
            let Ok(entry) = &entry.value else { continue };
            self.states
                .get_or_create(&StateLabel {
                    state: entry.state.map(state).unwrap_or_else(|| "Unknown".into()),
                })
                .inc();
            if let Some(serving) = &entry.serving {
                let labels = ServingLabels {
                    namespace: key.namespace.to_string(),
                    modeldeployment: key.name.to_string(),
                    model: entry.model().to_owned(),
                    version: serving.version.clone(),
                };
                self.serving.get_or_create(&labels).set(1);
            }
        }
    }
}

fn state(state: State) -> String {
    format!("{state:?}")
}

fn word(what: What) -> &'static str {
    match what {
        What::Deployment => "deployment",
        What::Version => "version",
        What::Registry => "registry",
    }
}

fn gauge(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Measures a pass.
pub struct Timer(Instant, Histogram);

impl Drop for Timer {
    fn drop(&mut self) {
        self.1.observe(self.0.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::observed::AdmissionPolicies;

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::new();
        metrics.request("get", "pods", 200);
        metrics.action("patch");
        drop(metrics.pass(What::Deployment));
        let text = metrics.text(&Caches::default()).unwrap();
        assert!(
            text.contains(
                r#"rollmodel_api_requests_total{verb="get",resource="pods",code="200"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains(r#"rollmodel_cached_objects{kind="Pod"} 0"#), "{text}");
        assert!(text.contains("rollmodel_reconcile_duration_seconds_count"), "{text}");
    }

    #[test]
    fn admission_policies_count_as_installed_only_when_all_are_known_to_be_in_force() {
        let (metrics, caches) = (Metrics::new(), Caches::default());
        let expect = |policies: Option<AdmissionPolicies>, value: u8| {
            *lock(&caches.admission) = policies;
            let line = format!("rollmodel_admission_policies_installed {value}\n");
            assert!(metrics.text(&caches).unwrap().contains(&line), "{line}");
        };
        let problems = vec!["rollmodel-records is not installed".to_owned()];
        expect(None, 0);
        expect(Some(AdmissionPolicies { problems, unreadable: false }), 0);
        expect(Some(AdmissionPolicies { problems: Vec::new(), unreadable: true }), 0);
        expect(Some(AdmissionPolicies::default()), 1);
    }
}
