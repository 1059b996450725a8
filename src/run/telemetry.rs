//! Logs: one line a change, none a pass that changes nothing.

use std::io::IsTerminal;

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines, one JSON object a line.
    Json,
}

/// Logs cannot be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A level that is none.
    #[error("read --log-level {level:?}: {source}; write info, or info,rollmodel=debug")]
    Level {
        /// What was asked.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Someone else did already.
    #[error("start logging: {0}")]
    Start(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging to standard error.
///
/// # Errors
/// When the level is none.
pub fn start(format: Format, level: &str) -> Result<(), Error> {
    // kube logs what we log ourselves, and with whole lists in it; who wants that says so
    // (info,kube_runtime=debug).
    let filter: Targets = format!("kube_runtime=off,kube_client=off,{level}")
        .parse()
        .map_err(|source| Error::Level { level: level.into(), source })?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => registry.with(layer).try_init()?,
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
    }
    Ok(())
}
