//! Flags; each can also be given by the environment.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand};

use super::telemetry::Format;
use crate::fetch::cli::AllowedList;

/// Rolls machine-learning models forward, rolls them back, and always knows what serves and why.
///
/// Without a command it runs the operator, against the cluster it runs in or the one that kubectl
/// points at.
#[derive(Debug, Parser)]
#[command(name = "rollmodel", version, about, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of running the operator.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of the operator.
    #[command(flatten)]
    pub run: Run,
}

/// What to do instead of running the operator.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write all that the operator would see of a live ModelDeployment or ModelRegistry as YAML: a
    /// case for `rollmodel plan`, and a test case.
    Dump(Dump),
    /// Print what the operator would do about a case, and why it waits; needs no cluster.
    Plan(Plan),
    /// Import versions for one ModelRegistry: what its importer runs.
    Import(Import),
}

/// Flags of the operator.
#[derive(Clone, Debug, ClapArgs)]
pub struct Run {
    /// Watch this one namespace [default: all].
    #[arg(long, env = "ROLLMODEL_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How many ModelDeployments are worked on at once.
    #[arg(long, env = "ROLLMODEL_CONCURRENCY", default_value_t = 16, value_name = "N", value_parser = concurrency)]
    pub concurrency: usize,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(
        long,
        env = "ROLLMODEL_ADMIN_ADDRESS",
        default_value = "0.0.0.0:8080",
        value_name = "IP:PORT"
    )]
    pub admin_address: SocketAddr,
    /// Whether replicas of the operator elect a leader; only false where there is never a second
    /// one.
    #[arg(long, env = "ROLLMODEL_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub leader_elect: bool,
    /// Namespace of the Lease by which they elect it [default: the operator's own].
    #[arg(long, env = "ROLLMODEL_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// How logs are written.
    #[arg(long, env = "ROLLMODEL_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
    /// What is logged: error, warn, info, debug or trace, also by module (info,rollmodel=debug).
    #[arg(long, env = "ROLLMODEL_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// How many days records of rollouts are kept.
    #[arg(long, env = "ROLLMODEL_RECORD_RETENTION_DAYS", default_value_t = 400, value_name = "DAYS", value_parser = clap::value_parser!(i64).range(1..=36500))]
    pub record_retention_days: i64,
    /// Seconds for which a stored revision or an old record stays after nothing needs it any more;
    /// an hour when absent. A restore brings back what needs it within that time.
    #[arg(long, env = "ROLLMODEL_PRUNE_GRACE_SECONDS", value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..=604_800))]
    pub prune_grace_seconds: Option<i64>,
    /// Image that fetches and verifies artifacts, with /rollmodel-fetch in it; the operator's own
    /// has it.
    #[arg(long, env = "ROLLMODEL_FETCH_IMAGE", value_name = "IMAGE")]
    pub fetch_image: Option<String>,
    /// Say that the shipped admission policy is installed, which makes `requestedBy` of a
    /// RolloutRequest the caller.
    #[arg(long, env = "ROLLMODEL_REQUESTERS_VERIFIED", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub requesters_verified: bool,
    /// Beginning of the names of the shipped admission policies: <NAME>-requested-by,
    /// <NAME>-own-rights and <NAME>-records. A condition and a metric report when one is missing.
    #[arg(
        long,
        env = "ROLLMODEL_ADMISSION_POLICIES",
        default_value = "rollmodel",
        value_name = "NAME"
    )]
    pub admission_policies: String,
}

/// Flags of `rollmodel dump`.
#[derive(Clone, Debug, ClapArgs)]
pub struct Dump {
    /// Name of the ModelDeployment, or mreg/ and the name of a ModelRegistry.
    #[arg(value_name = "[TYPE/]NAME")]
    pub subject: Subject,
    /// Its namespace [default: that of the kubeconfig's context].
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Image that the operator fetches artifacts with, as it was started with; without it the plan
    /// says that there is none.
    #[arg(long, env = "ROLLMODEL_FETCH_IMAGE", value_name = "IMAGE")]
    pub fetch_image: Option<String>,
    /// File to write [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What is dumped, written as for kubectl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A ModelDeployment of that name.
    Deployment(String),
    /// A ModelRegistry of that name.
    Registry(String),
}

impl std::str::FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').unwrap_or(("mdep", text));
        match kind.strip_suffix(".rollmodel.dev").unwrap_or(kind) {
            _ if name.is_empty() => Err("a name".into()),
            "mdep" | "modeldeployment" | "modeldeployments" => Ok(Self::Deployment(name.into())),
            "mreg" | "modelregistry" | "modelregistries" => Ok(Self::Registry(name.into())),
            _ => Err("a name, mdep/NAME or mreg/NAME".into()),
        }
    }
}

/// Flags of `rollmodel plan`.
#[derive(Clone, Debug, ClapArgs)]
pub struct Plan {
    /// Case to plan, as `rollmodel dump` writes it; `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
}

/// Flags of `rollmodel import`.
#[derive(Clone, Debug, ClapArgs)]
pub struct Import {
    /// Name of the ModelRegistry.
    #[arg(long, env = "ROLLMODEL_REGISTRY", value_name = "NAME")]
    pub registry: String,
    /// Its namespace [default: the pod's own, or that of the kubeconfig's context].
    #[arg(short, long, env = "ROLLMODEL_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// A directory with credentials: a mounted Secret [default: the environment alone].
    #[arg(long, env = "ROLLMODEL_CREDENTIALS", value_name = "DIRECTORY", hide_env_values = true)]
    pub credentials: Option<PathBuf>,
    /// A host, host:port or network that artifacts may be read from although it is private; the
    /// registry's own always may.
    #[arg(long = "allow-host", env = "ROLLMODEL_ALLOWED_HOSTS", value_name = "HOST,…")]
    pub allowed: Vec<AllowedList>,
    /// How many seconds there are between two looks at one version: whether its artifact's size was
    /// changed upstream, and what was measured since.
    #[arg(long, env = "ROLLMODEL_RECHECK_SECONDS", default_value_t = 86400, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..))]
    pub recheck_seconds: i64,
    /// Where the last words go [default: /dev/termination-log, if it is there].
    #[arg(long, value_name = "FILE")]
    pub termination_log: Option<PathBuf>,
    /// How logs are written.
    #[arg(long, env = "ROLLMODEL_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
    /// What is logged: error, warn, info, debug or trace, also by module (info,rollmodel=debug).
    #[arg(long, env = "ROLLMODEL_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

fn concurrency(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1024) => Ok(n),
        _ => Err("a number from 1 to 1024".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Args::command().debug_assert();
        let args = Args::parse_from(["rollmodel", "--leader-elect=false", "--requesters-verified"]);
        assert!(!args.run.leader_elect && args.run.requesters_verified && args.command.is_none());
        assert!(
            matches!(Args::parse_from(["rollmodel", "dump", "fraud", "-n", "ml"]).command, Some(Command::Dump(d)) if d.subject == Subject::Deployment("fraud".into()))
        );
    }

    #[test]
    fn what_is_dumped_is_written_as_for_kubectl() {
        for text in ["fraud", "mdep/fraud", "modeldeployment.rollmodel.dev/fraud"] {
            assert_eq!(text.parse(), Ok(Subject::Deployment("fraud".into())), "{text}");
        }
        for text in ["mreg/mlflow", "modelregistries/mlflow", "modelregistry.rollmodel.dev/mlflow"]
        {
            assert_eq!(text.parse(), Ok(Subject::Registry("mlflow".into())), "{text}");
        }
        for text in ["pod/fraud", "", "mreg/"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }
}
