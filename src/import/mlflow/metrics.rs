//! Which of the numbers that MLflow keeps are those of a model.
//!
//! A run keeps one value a name, the last; a logged model keeps those of its own step, and those
//! measured on datasets. So: what was measured on a dataset comes from the logged model; the rest
//! from the logged model where it has a step or the run made several models, else from the run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::wire::{Logged, Measure, Run};
use crate::api::{
    condition::{Time, truncate_text},
    version::Metric,
};

/// The most metrics of a record.
pub const METRICS_MAX: usize = 256;

/// The metrics of a model, by name and dataset; and how many were left out.
#[must_use]
pub fn of(run: Option<&Run>, logged: Option<&Logged>) -> (Vec<Metric>, usize) {
    let all: Vec<Metric> =
        timed(run, logged).into_iter().map(|metric| Metric { time: None, ..metric }).collect();
    let left_out = all.len().saturating_sub(METRICS_MAX);
    (all.into_iter().take(METRICS_MAX).collect(), left_out)
}

/// The metrics of a model, by name and dataset, each with the time at which it was logged.
#[must_use]
pub fn timed(run: Option<&Run>, logged: Option<&Logged>) -> Vec<Metric> {
    let own = logged.map(|l| l.data.metrics.as_slice()).unwrap_or_default();
    let theirs = run.map(|r| r.data.metrics.as_slice()).unwrap_or_default();
    // A logged model has 0 where the run has NaN.
    let nan: BTreeSet<&str> =
        theirs.iter().filter(|m| finite(&m.value).is_none()).map(|m| m.key.as_str()).collect();
    let is_nan = |m: &Measure| nan.contains(m.key.as_str()) && finite(&m.value) == Some(0.0);
    let good = |m: &&Measure| !is_nan(m) && !m.key.starts_with("system/");
    let own: Vec<&Measure> = own.iter().filter(good).collect();
    let on_dataset = own.iter().copied().filter(|m| dataset(m).is_some());
    let measured: BTreeSet<&str> =
        own.iter().filter(|m| dataset(m).is_some()).map(|m| m.key.as_str()).collect();
    let plain: BTreeSet<&str> =
        own.iter().filter(|m| dataset(m).is_none()).map(|m| m.key.as_str()).collect();
    let mut newest: BTreeMap<(&str, Option<&str>), &Measure> = BTreeMap::new();
    let mut take = |m| newest_of(&mut newest, m);
    on_dataset.for_each(&mut take);
    if run.is_none() || logged.is_some_and(|l| run.is_some_and(|r| has_own(r, l))) {
        own.iter().copied().filter(|m| dataset(m).is_none()).for_each(&mut take);
    } else {
        // What the run kept of a name that was measured on datasets alone is the last of those.
        let last_of_datasets =
            |m: &&Measure| measured.contains(m.key.as_str()) && !plain.contains(m.key.as_str());
        theirs.iter().filter(good).filter(|m| !last_of_datasets(m)).for_each(&mut take);
    }
    newest.into_values().filter_map(metric).collect()
}

fn dataset(m: &Measure) -> Option<&str> {
    m.dataset_name.as_deref().filter(|name| !name.is_empty())
}

fn newest_of<'a>(all: &mut BTreeMap<(&'a str, Option<&'a str>), &'a Measure>, m: &'a Measure) {
    let kept = all.entry((m.key.as_str(), dataset(m))).or_insert(m);
    if kept.timestamp <= m.timestamp {
        *kept = m;
    }
}

/// Whether the numbers of a logged model are its own: it was logged at a step, or beside others.
fn has_own(run: &Run, logged: &Logged) -> bool {
    let made = &run.outputs.model_outputs;
    made.len() > 1 || made.iter().any(|m| m.model_id == logged.info.model_id && m.step > 0)
}

fn metric(m: &Measure) -> Option<Metric> {
    let name = Some(truncate_text(&m.key, 253)).filter(|name| !name.is_empty())?;
    // Seconds, as the API server keeps them.
    let time = Some(m.timestamp / 1000)
        .filter(|time| *time > 0)
        .and_then(|time| Timestamp::from_second(time).ok())
        .map(Time);
    Some(Metric {
        name,
        value: finite(&m.value)?,
        dataset: dataset(m).map(|d| truncate_text(d, 253)),
        time,
    })
}

/// A number that is one: MLflow writes infinity as the largest double, and NaN as text.
fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|v| v.is_finite() && v.abs() < f64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(run: &Value, logged: &Value) -> Vec<String> {
        let run: Option<Run> = serde_json::from_value(run.clone()).unwrap();
        let logged: Option<Logged> = serde_json::from_value(logged.clone()).unwrap();
        let shown = |m: &Metric| {
            format!(
                "{}{}={}",
                m.name,
                m.dataset.as_ref().map(|d| format!("@{d}")).unwrap_or_default(),
                m.value
            )
        };
        of(run.as_ref(), logged.as_ref()).0.iter().map(shown).collect()
    }

    fn m(key: &str, value: impl Into<Value>, at: i64) -> Value {
        json!({"key": key, "value": value.into(), "timestamp": at, "step": 0})
    }

    fn on(key: &str, value: f64, dataset: &str) -> Value {
        json!({"key": key, "value": value, "timestamp": 1, "dataset_name": dataset, "dataset_digest": "8f9eb48c"})
    }

    fn run(metrics: Value, outputs: Value) -> Value {
        json!({"data": {"metrics": metrics}, "outputs": {"model_outputs": outputs}})
    }

    fn logged(metrics: Value) -> Value {
        json!({"info": {"model_id": "m-1"}, "data": {"metrics": metrics}})
    }

    #[test]
    fn the_last_value_of_the_run_counts_unless_the_model_has_a_step_of_its_own() {
        let values = json!([m("val_loss", 0.8, 3)]);
        let own = logged(json!([m("val_loss", 1.0, 1)]));
        assert_eq!(
            shown(&run(values.clone(), json!([{"model_id": "m-1", "step": 0}])), &own),
            ["val_loss=0.8"]
        );
        assert_eq!(
            shown(&run(values.clone(), json!([{"model_id": "m-1", "step": 2}])), &own),
            ["val_loss=1"]
        );
        assert_eq!(
            shown(&run(values, json!([{"model_id": "m-2"}, {"model_id": "m-1"}])), &own),
            ["val_loss=1"]
        );
    }

    #[test]
    fn what_was_measured_on_datasets_is_told_of_each() {
        let own = logged(json!([on("auc", 0.9, "train"), on("auc", 0.8, "holdout")]));
        assert_eq!(
            shown(
                &run(json!([m("auc", 0.8, 1), m("f1", 0.5, 1)]), json!([{"model_id": "m-1"}])),
                &own
            ),
            ["auc@holdout=0.8", "auc@train=0.9", "f1=0.5"]
        );
    }

    #[test]
    fn what_is_no_number_is_left_out_also_where_it_looks_like_one() {
        let own = logged(json!([
            m("nan", 0, 1),
            m("inf", 1.797_693_134_862_315_7e308, 1),
            m("zero", 0, 1)
        ]));
        let both = json!([
            m("nan", "NaN", 1),
            m("inf", 1.797_693_134_862_315_7e308, 1),
            m("zero", 0, 1),
            m("system/cpu", 4, 1)
        ]);
        assert_eq!(
            shown(&run(both.clone(), json!([{"model_id": "m-1", "step": 5}])), &own),
            ["zero=0"]
        );
        assert_eq!(shown(&run(both, json!([])), &own), ["zero=0"]);
    }

    #[test]
    fn a_name_logged_twice_at_a_step_has_its_newest_value() {
        let own = logged(json!([m("a", 2.0, 5), m("a", 1.0, 4)]));
        assert_eq!(shown(&Value::Null, &own), ["a=2"]);
        assert_eq!(shown(&run(json!([m("a", 3.0, 1)]), json!([])), &Value::Null), ["a=3"]);
    }

    #[test]
    fn when_a_number_was_logged_is_told_of_what_was_measured_and_no_part_of_a_record() {
        let logged: Logged = serde_json::from_value(logged(json!([
            m("auc", 0.9, 1_795_800_000_123),
            m("old", 1.0, 0)
        ])))
        .unwrap();
        let times: Vec<_> = timed(None, Some(&logged)).into_iter().map(|m| m.time).collect();
        assert_eq!(times, [Some(Time(Timestamp::from_second(1_795_800_000).unwrap())), None]);
        assert!(of(None, Some(&logged)).0.iter().all(|m| m.time.is_none()));
    }
}
