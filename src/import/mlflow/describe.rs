//! What is asked of one version: its run, where its bytes are, its logged model, and the bytes
//! themselves.

use std::time::Duration;

use tracing::debug;

use super::{
    Server,
    api::is_denied,
    metrics,
    place::{Placed, place},
    record::{self, KEEP, Known, SYSTEM},
    wire::{DownloadUri, Logged, LoggedAnswer, Run, RunAnswer},
};
use crate::{
    api::{
        condition::{Time, truncate_text},
        version::Origin,
    },
    fetch::{error::Reason, source},
    import::{
        artifact,
        system::{About, Candidate, Kind, Measured, Outcome, Trouble},
    },
};

/// How long a look at the place where pods will read may take.
const DESTINATION: Duration = Duration::from_secs(30);

/// All that is to be written down of one version.
pub(super) async fn describe(server: &Server, about: &About<'_>) -> Result<Outcome, Trouble> {
    let candidate = about.candidate;
    let run = match run(server, candidate).await? {
        Ok(run) => run,
        Err(outcome) => return Ok(outcome),
    };
    if let Some(outcome) = settled(about, run.as_ref()) {
        return Ok(outcome);
    }
    let Some((uri, logged)) = address(server, candidate).await? else {
        return Ok(waits("NotThere", None));
    };
    let logged = match (logged, candidate.id.clone().or_else(|| model_id(&uri))) {
        (Some(logged), _) => Some(logged),
        (None, Some(id)) if candidate.key.is_empty() => self::logged(server, &id).await?,
        (None, _) => None,
    };
    let placed = match place(&uri, &server.at, &server.url) {
        Ok(placed) => placed,
        Err(message) => return Ok(Outcome::Problem { reason: "UnsupportedSource", message }),
    };
    record(server, about, run.as_ref(), logged.as_ref(), &placed).await
}

fn waits(reason: &'static str, message: Option<String>) -> Outcome {
    Outcome::Waits { reason, message }
}

/// The run of a version; None where it has none, or it is gone.
async fn run(
    server: &Server,
    candidate: &Candidate,
) -> Result<Result<Option<Run>, Outcome>, Trouble> {
    if candidate.run.is_empty() {
        return Ok(Ok(None));
    }
    match server.api.get::<RunAnswer>("runs/get", &[("run_id", &candidate.run)]).await {
        Ok(answer) => Ok(Ok(answer.map(|answer| answer.run))),
        // A record is written once: without what the run says it would stay so.
        Err(trouble) if trouble.kind == Kind::Forbidden => {
            let sentence = "This account may not read its run: grant it READ on the experiment that the run is in.";
            Ok(Err(waits("RunForbidden", Some(sentence.into()))))
        }
        Err(trouble) => Err(trouble),
    }
}

/// Whether it is to be written down yet; what came of it instead.
fn settled(about: &About<'_>, run: Option<&Run>) -> Option<Outcome> {
    let candidate = about.candidate;
    let goes_on = run.is_some_and(goes_on);
    if about.rule.logged_models.is_none() {
        let waited = about.now.as_second() - candidate.time.as_second();
        return (goes_on && waited < about.settle).then(|| waits("RunNotEnded", None));
    }
    // Nobody vouches for it but its run: that has to have ended well.
    let Some(run) = run else { return Some(Outcome::Passed) };
    if goes_on {
        return Some(waits("RunNotEnded", None));
    }
    if run.info.status != "FINISHED" || run.info.lifecycle_stage == "deleted" {
        return Some(waits("RunNotFinished", None));
    }
    let step = |id: &str| {
        run.outputs
            .model_outputs
            .iter()
            .find(|made| made.model_id == id)
            .map_or(0, |made| made.step)
    };
    let (own, others) =
        (step(&candidate.there), candidate.siblings.iter().map(|id| step(id)).max());
    match others {
        Some(highest) if highest > own => Some(Outcome::Passed),
        Some(same) if same == own => Some(Outcome::Problem {
            reason: "AmbiguousModels",
            message: format!(
                "Its run logged {} models of that name at the same step: log them with different steps or names, or register the one that is meant.",
                candidate.siblings.len() + 1
            ),
        }),
        _ => None,
    }
}

fn goes_on(run: &Run) -> bool {
    matches!(run.info.status.as_str(), "RUNNING" | "SCHEDULED")
}

/// Where MLflow says that the artifact of a version is; and the logged model, where that says it.
async fn address(
    server: &Server,
    candidate: &Candidate,
) -> Result<Option<(String, Option<Logged>)>, Trouble> {
    if !candidate.key.is_empty() {
        let model = logged(server, &candidate.there).await?;
        return Ok(model
            .map(|model| (model.info.artifact_uri.clone(), Some(model)))
            .filter(|(uri, _)| !uri.is_empty()));
    }
    let query = [("name", candidate.model.as_str()), ("version", candidate.there.as_str())];
    let answer: Option<DownloadUri> =
        server.api.get("model-versions/get-download-uri", &query).await?;
    Ok(answer.map(|answer| (answer.artifact_uri, None)).filter(|(uri, _)| !uri.is_empty()))
}

/// A logged model; None where it was deleted, though versions of it go on, or may not be read.
async fn logged(server: &Server, id: &str) -> Result<Option<Logged>, Trouble> {
    match server.api.get::<LoggedAnswer>(&format!("logged-models/{id}"), &[]).await {
        Ok(answer) => Ok(answer.map(|answer| answer.model)),
        Err(trouble) if trouble.kind == Kind::Forbidden => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// The id of the logged model that an address leads to.
fn model_id(uri: &str) -> Option<String> {
    let hex = |id: &&str| {
        id.strip_prefix("m-")
            .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    uri.split('/').find(hex).map(str::to_owned)
}

/// What there is where pods will read an artifact that the importer reads through the server.
enum There {
    /// So many bytes.
    Bytes(u64),
    /// Nothing.
    Nothing,
    /// The importer cannot tell, or reads there itself.
    Unknown,
}

/// Looks, with whatever rights the importer has there, whether spec.mlflow.artifactsDestination
/// leads to the artifact: else every pod would fail, later.
async fn destination(server: &Server, placed: &Placed) -> There {
    if placed.pods == placed.address {
        return There::Unknown;
    }
    let look = async {
        let there = source::open(&placed.pods, &server.fetching).await?;
        // Without credentials of its own it may not even ask the store that is meant.
        if there.anonymous() { Ok(None) } else { artifact::size_in(&*there).await }
    };
    match tokio::time::timeout(DESTINATION, look).await {
        Ok(Ok(Some(size))) => There::Bytes(size),
        Ok(Err(error)) if error.reason == Reason::NotFound => There::Nothing,
        other => {
            debug!(?other, "the destination cannot be looked at");
            There::Unknown
        }
    }
}

fn mismatch(why: String) -> Outcome {
    let message = format!(
        "spec.mlflow.artifactsDestination is not where this server keeps artifacts (its --artifacts-destination): {why}"
    );
    Outcome::Problem { reason: "DestinationMismatch", message }
}

async fn record(
    server: &Server,
    about: &About<'_>,
    run: Option<&Run>,
    logged: Option<&Logged>,
    placed: &Placed,
) -> Result<Outcome, Trouble> {
    let there = destination(server, placed).await;
    if let There::Nothing = there {
        return Ok(mismatch(format!(
            "with the importer's own credentials, there is nothing at {}.",
            placed.pods
        )));
    }
    let found = match artifact::read(&placed.address, &server.fetching, KEEP).await {
        Ok(found) => found,
        // What is wrong with one version's bytes says nothing of the others'.
        Err(error)
            if is_denied(&error)
                || error.reason.passes()
                || matches!(error.reason, Reason::NotFound | Reason::Refused) =>
        {
            return Ok(waits(
                "Unreadable",
                Some(format!("Its bytes cannot be read: {}", error.sentence)),
            ));
        }
        Err(error) => {
            return Ok(Outcome::Problem {
                reason: "Unreadable",
                message: format!("Its bytes cannot be read: {}", error.sentence),
            });
        }
    };
    if let There::Bytes(size) = there
        && size != found.size
    {
        return Ok(mismatch(format!(
            "the server has {} bytes, and there are {size} at {}.",
            found.size, placed.pods
        )));
    }
    let candidate = about.candidate;
    let origin = Origin {
        registry: server.registry.clone(),
        system: SYSTEM.into(),
        model: Some(truncate_text(&candidate.model, 512)).filter(|model| !model.is_empty()),
        version: Some(truncate_text(&candidate.there, 253)),
        id: candidate
            .id
            .clone()
            .or_else(|| logged.map(|l| l.info.model_id.clone()))
            .map(|id| truncate_text(&id, 253)),
        time: Some(Time(candidate.time)),
    };
    let known = Known {
        model: &about.rule.name,
        version: &candidate.version,
        image: about.rule.image.as_deref(),
        origin: &origin,
        description: &candidate.description,
        run,
        logged,
        uri: &placed.uri,
        artifact: &found,
        pages: &server.pages,
        workspace: server.at.workspace.as_deref(),
    };
    Ok(Outcome::Record(Box::new(record::describe(&known))))
}

/// How many bytes the artifact of a version has now.
pub(super) async fn size(server: &Server, candidate: &Candidate) -> Result<Option<u64>, Trouble> {
    let Some((uri, _)) = address(server, candidate).await? else { return Ok(None) };
    let Ok(placed) = place(&uri, &server.at, &server.url) else { return Ok(None) };
    Ok(artifact::size(&placed.address, &server.fetching).await?)
}

/// What is measured of a version by now. What may not be read any more, or was deleted, tells
/// nothing: without the logged model, a number of the run could be of any dataset.
pub(super) async fn measured(
    server: &Server,
    candidate: &Candidate,
    id: Option<&str>,
) -> Result<Option<Measured>, Trouble> {
    let Ok(Some(run)) = run(server, candidate).await? else { return Ok(None) };
    let logged = match id.or(candidate.id.as_deref()) {
        Some(id) => match logged(server, id).await? {
            Some(logged) => Some(logged),
            None => return Ok(None),
        },
        None => None,
    };
    Ok(Some(Measured {
        metrics: metrics::timed(Some(&run), logged.as_ref()),
        goes_on: goes_on(&run),
    }))
}
