//! What MLflow's tracking server answers, as much as is read of it. Empty is absent everywhere
//! there; numbers are sometimes strings.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A page of `registered-models/search`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Models {
    /// Models.
    pub registered_models: Vec<Model>,
    /// What the next page is asked for with.
    pub next_page_token: String,
}

/// A registered model.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its aliases.
    pub aliases: Vec<Alias>,
}

/// An alias.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Alias {
    /// Its name.
    pub alias: String,
    /// The version it names.
    pub version: String,
}

/// A page of `model-versions/search`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Versions {
    /// Versions.
    pub model_versions: Vec<Version>,
    /// What the next page is asked for with.
    pub next_page_token: String,
}

/// A version of a registered model.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Version {
    /// Its model.
    pub name: String,
    /// Its number.
    pub version: String,
    /// When it was made.
    #[serde(deserialize_with = "millis")]
    pub creation_timestamp: Option<Timestamp>,
    /// What a person said of it.
    pub description: String,
    /// Where it is from.
    pub source: String,
    /// Its run; empty where it has none.
    pub run_id: String,
    /// READY, where it is complete.
    pub status: String,
    /// Its tags.
    pub tags: Vec<Pair>,
}

/// A tag or a parameter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Pair {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// The value of a tag, if it is there.
#[must_use]
pub fn tag<'a>(tags: &'a [Pair], key: &str) -> Option<&'a str> {
    tags.iter()
        .find(|tag| tag.key == key)
        .map(|tag| tag.value.as_str())
        .filter(|value| !value.is_empty())
}

/// `get-download-uri`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct DownloadUri {
    /// The address.
    pub artifact_uri: String,
}

/// `runs/get`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RunAnswer {
    /// The run.
    pub run: Run,
}

/// A run.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Run {
    /// What it is.
    pub info: RunInfo,
    /// What it logged.
    pub data: Data,
    /// What it read.
    pub inputs: Inputs,
    /// What it made.
    pub outputs: Outputs,
}

/// What a run is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct RunInfo {
    /// Its id.
    pub run_id: String,
    /// Its experiment.
    pub experiment_id: String,
    /// Who started it, in the client's word.
    pub user_id: String,
    /// RUNNING, SCHEDULED, FINISHED, FAILED or KILLED.
    pub status: String,
    /// When it began.
    #[serde(deserialize_with = "millis")]
    pub start_time: Option<Timestamp>,
    /// When it ended, in the client's word.
    #[serde(deserialize_with = "millis")]
    pub end_time: Option<Timestamp>,
    /// `deleted`, where it is.
    pub lifecycle_stage: String,
}

/// What was logged.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Data {
    /// Parameters.
    pub params: Vec<Pair>,
    /// Metrics.
    pub metrics: Vec<Measure>,
    /// Tags.
    pub tags: Vec<Pair>,
}

/// A metric.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Measure {
    /// Its name.
    pub key: String,
    /// Its value: a number, or a text such as NaN.
    pub value: Value,
    /// When it was logged, in ms.
    #[serde(deserialize_with = "number")]
    pub timestamp: i64,
    /// The dataset it was measured on.
    pub dataset_name: Option<String>,
}

/// What a run read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Inputs {
    /// Datasets.
    pub dataset_inputs: Vec<DatasetInput>,
}

/// A dataset, and what it was read for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct DatasetInput {
    /// What for.
    pub tags: Vec<Pair>,
    /// The dataset.
    pub dataset: Dataset,
}

/// A dataset.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Eight hexadecimal digits of MLflow's own.
    pub digest: String,
    /// Where it is, as JSON in a text.
    pub source: String,
}

/// What a run made.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Outputs {
    /// Models, in any order.
    pub model_outputs: Vec<Made>,
}

/// A model that a run made.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Made {
    /// Its id.
    pub model_id: String,
    /// At which step.
    #[serde(deserialize_with = "number")]
    pub step: i64,
}

/// `logged-models/<id>`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoggedAnswer {
    /// The model.
    pub model: Logged,
}

/// A page of `logged-models/search`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoggedModels {
    /// Models.
    pub models: Vec<Logged>,
    /// What the next page is asked for with.
    pub next_page_token: String,
}

/// A logged model.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Logged {
    /// What it is.
    pub info: LoggedInfo,
    /// What was logged with it; its tags are in `info`.
    pub data: Data,
}

/// What a logged model is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct LoggedInfo {
    /// Its id.
    pub model_id: String,
    /// Its experiment.
    pub experiment_id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    #[serde(deserialize_with = "millis")]
    pub creation_timestamp_ms: Option<Timestamp>,
    /// When it last changed.
    #[serde(deserialize_with = "number")]
    pub last_updated_timestamp_ms: i64,
    /// Where it is.
    pub artifact_uri: String,
    /// LOGGED_MODEL_READY, where it is complete.
    pub status: String,
    /// Its run.
    pub source_run_id: String,
    /// Its tags.
    pub tags: Vec<Pair>,
}

/// `experiments/get-by-name`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ExperimentAnswer {
    /// The experiment.
    pub experiment: Experiment,
}

/// An experiment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Experiment {
    /// Its id.
    pub experiment_id: String,
    /// `deleted`, where it is.
    pub lifecycle_stage: String,
}

/// An answer that says no.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// Its code.
    pub error_code: String,
    /// Its sentence.
    pub message: String,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(n) => n.as_i64().unwrap_or_default(),
        Value::String(text) => text.parse().unwrap_or_default(),
        _ => 0,
    })
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let ms = number(deserializer)?;
    Ok(Some(ms).filter(|ms| *ms > 0).and_then(|ms| Timestamp::from_millisecond(ms).ok()))
}
