//! From what MLflow says of a version to the record of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use url::Url;

use super::{
    metrics, mlmodel,
    wire::{DatasetInput, Logged, Pair, Run, tag},
};
use crate::{
    api::{
        ModelVersionSpec,
        condition::{Time, truncate_text},
        version::{self, Code, Dataset, Environment, Lockfile, Origin},
    },
    fetch::digest::Digest,
    import::{artifact::Artifact, system::Described},
};

/// What this system is called in a record.
pub const SYSTEM: &str = "MLflow";
/// The files whose contents a record is made of.
pub const KEEP: &[&str] = &["MLmodel", "python_env.yaml", "requirements.txt"];
/// Tag by which a training Job says which image it ran in.
const IMAGE_TAG: &str = "rollmodel.dev/image";
/// The most parameters of a record.
const PARAMETERS_MAX: usize = 200;
/// The longest parameter that is written out, in bytes.
const PARAMETER_MAX: usize = 1024;
/// The most datasets of a record.
const DATASETS_MAX: usize = 64;

/// All that is known of a version.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its model here.
    pub model: &'a str,
    /// Its version here.
    pub version: &'a str,
    /// The image that serves it.
    pub image: Option<&'a str>,
    /// Where it comes from.
    pub origin: &'a Origin,
    /// What a person said of it.
    pub description: &'a str,
    /// Its run.
    pub run: Option<&'a Run>,
    /// Its logged model.
    pub logged: Option<&'a Logged>,
    /// Where pods find its artifact.
    pub uri: &'a str,
    /// What was found there.
    pub artifact: &'a Artifact,
    /// The server as people reach it.
    pub pages: &'a Url,
    /// The workspace that it is in.
    pub workspace: Option<&'a str>,
}

/// The record of a version.
#[must_use]
pub fn describe(known: &Known<'_>) -> Described {
    let mut left_out = Vec::new();
    let small = |name: &str| known.artifact.small.get(name);
    let model = small("MLmodel").and_then(|file| mlmodel::read(&file.bytes)).unwrap_or_default();
    left_out.extend(model.left_out.iter().cloned());
    let (metrics, lost) = metrics::of(known.run, known.logged);
    if lost > 0 {
        left_out.push(format!("{lost} metrics after the first {}", metrics::METRICS_MAX));
    }
    let spec = ModelVersionSpec {
        model: known.model.to_owned(),
        version: known.version.to_owned(),
        image: known.image.map(str::to_owned),
        artifact: Some(version::Artifact {
            uri: known.uri.to_owned(),
            digest: Some(known.artifact.digest.clone()),
            size: i64::try_from(known.artifact.size).ok(),
            format: Some("mlflow".into()),
            unpack: None,
            signature: None,
        }),
        framework: model.framework,
        inputs: model.inputs,
        outputs: model.outputs,
        parameters: parameters(known, &mut left_out),
        metrics,
        datasets: datasets(known, &mut left_out),
        features: Vec::new(),
        environment: environment(known),
        code: code(known),
        run: known.run.map(|run| run_of(run, known)),
        parents: Vec::new(),
        origin: Some(known.origin.clone()),
        description: Some(truncate_text(known.description, 4096)).filter(|text| !text.is_empty()),
        evaluations: Vec::new(),
        lifecycle: None,
    };
    Described { spec, left_out }
}

/// Tags of the run, and behind them those of the logged model.
fn tags<'a>(known: &Known<'a>) -> impl Iterator<Item = &'a [Pair]> + use<'a> {
    let run = known.run.map(|run| run.data.tags.as_slice());
    run.into_iter().chain(known.logged.map(|logged| logged.info.tags.as_slice()))
}

fn tagged<'a>(known: &Known<'a>, key: &str) -> Option<&'a str> {
    tags(known).find_map(|tags| tag(tags, key))
}

/// Those of the run, and of the logged model, whose own win.
fn parameters(known: &Known<'_>, left_out: &mut Vec<String>) -> BTreeMap<String, String> {
    let run = known.run.map(|run| run.data.params.as_slice()).unwrap_or_default();
    let own = known.logged.map(|logged| logged.data.params.as_slice()).unwrap_or_default();
    let mut all: BTreeMap<String, String> =
        run.iter().chain(own).map(|p| (p.key.clone(), parameter(&p.value))).collect();
    let keys: Vec<String> = all.keys().skip(PARAMETERS_MAX).cloned().collect();
    if !keys.is_empty() {
        left_out.push(format!("{} parameters after the first {PARAMETERS_MAX}", keys.len()));
    }
    keys.iter().for_each(|key| drop(all.remove(key)));
    all
}

/// A value that is too long is told by its digest.
fn parameter(value: &str) -> String {
    if value.len() <= PARAMETER_MAX {
        return value.to_owned();
    }
    format!("{} ({} characters)", Digest::of(value.as_bytes()), value.chars().count())
}

fn datasets(known: &Known<'_>, left_out: &mut Vec<String>) -> Vec<Dataset> {
    let inputs = known.run.map(|run| run.inputs.dataset_inputs.as_slice()).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut all: Vec<Dataset> = inputs
        .iter()
        .filter(|input| !input.dataset.name.is_empty())
        .map(dataset)
        .filter(|d| seen.insert((d.name.clone(), d.role.clone(), d.digest.clone())))
        .collect();
    all.sort_by(|a, b| (&a.name, &a.role).cmp(&(&b.name, &b.role)));
    if all.len() > DATASETS_MAX {
        left_out
            .push(format!("{} datasets after the first {DATASETS_MAX}", all.len() - DATASETS_MAX));
        all.truncate(DATASETS_MAX);
    }
    all
}

fn dataset(input: &DatasetInput) -> Dataset {
    let role = tag(&input.tags, "mlflow.data.context").map(|context| match context {
        "train" | "training" => "training".to_owned(),
        "eval" | "evaluate" | "evaluation" => "evaluation".to_owned(),
        other => truncate_text(other, 63),
    });
    let source: Value = serde_json::from_str(&input.dataset.source).unwrap_or_default();
    let uri = ["uri", "url", "path"].iter().find_map(|field| source[*field].as_str()).map(bare);
    Dataset {
        name: truncate_text(&input.dataset.name, 253),
        role,
        uri: uri.filter(|uri| uri.len() <= 2048),
        // Eight digits of a hash over a sample: not a checksum, and not to be taken for one.
        digest: Some(input.dataset.digest.as_str())
            .filter(|d| !d.is_empty())
            .map(|d| truncate_text(&format!("mlflow:{d}"), 253)),
        query: None,
        derived_from: Vec::new(),
    }
}

/// An address without what is in front of its host, and without its query: both may be secret.
fn bare(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else { return address.to_owned() };
    if !url.has_host() {
        return address.to_owned();
    }
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

fn environment(known: &Known<'_>) -> Option<Environment> {
    let python =
        known.artifact.small.get("python_env.yaml").and_then(|file| mlmodel::python(&file.bytes));
    let lockfile = known.artifact.small.get("requirements.txt").map(|file| Lockfile {
        uri: format!("{}/requirements.txt", known.uri.trim_end_matches('/')),
        digest: Some(file.digest.clone()),
    });
    let image = tagged(known, IMAGE_TAG).map(|image| truncate_text(image, 512));
    if python.is_none() && lockfile.is_none() && image.is_none() {
        return None;
    }
    Some(Environment {
        image,
        language: python.is_some().then(|| "python".into()),
        language_version: python,
        lockfile,
        hardware: None,
    })
}

fn code(known: &Known<'_>) -> Option<Code> {
    let repository = bare(tagged(known, "mlflow.source.git.repoURL")?);
    let text = |key: &str, most| tagged(known, key).map(|text| truncate_text(text, most));
    Some(Code {
        repository: truncate_text(&repository, 2048),
        commit: text("mlflow.source.git.commit", 128),
        path: text("mlflow.source.name", 1024),
    })
}

fn run_of(run: &Run, known: &Known<'_>) -> version::Run {
    let (info, base) = (&run.info, known.pages.as_str().trim_end_matches('/'));
    let workspace = known.workspace.map(|name| format!("?workspace={name}")).unwrap_or_default();
    let user = tag(&run.data.tags, "mlflow.user")
        .or(Some(info.user_id.as_str()))
        .filter(|user| !user.is_empty());
    version::Run {
        system: Some(SYSTEM.into()),
        id: truncate_text(&info.run_id, 253),
        url: Some(format!(
            "{base}/#/experiments/{}/runs/{}{workspace}",
            info.experiment_id, info.run_id
        ))
        .filter(|url| url.len() <= 2048),
        user: user.map(|user| truncate_text(user, 253)),
        start_time: info.start_time.map(Time),
        // A run that was resumed keeps its old end.
        end_time: info.end_time.filter(|_| info.status != "RUNNING").map(Time),
    }
}

/// The version of a logged model: when it was made, and enough of its id to tell it from others of
/// that second. It is made of nothing but what the server says, and sorts by time.
#[must_use]
pub fn time_version(made: Timestamp, id: &str) -> String {
    let hex: String =
        id.trim_start_matches("m-").chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{}-{hex}", made.strftime("%Y%m%d-%H%M%S"))
}

#[cfg(test)]
mod tests;
