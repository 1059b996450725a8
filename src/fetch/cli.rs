//! The command line of `rollmodel-fetch`, and what it says at its end.

use std::{
    collections::BTreeMap, ffi::OsString, fs, path::PathBuf, process::ExitCode, str::FromStr,
    sync::Arc,
};

use clap::{Args as ClapArgs, Parser, Subcommand};

use super::{
    cache::Cache,
    credentials::Credentials,
    digest::Digest,
    error::{Error, Reason},
    guard::{Allowed, NotAllowed},
    http::System,
    job::{Fetch, Outcome, Request, To},
    progress::size,
    signature::Trust,
    source::Means,
    transfer::Limits,
    uri::Address,
};

/// The longest termination message, in bytes; Kubernetes keeps 4096, and 12 KiB of a whole pod.
const MESSAGE_MAX: usize = 1024;
/// Where the kubelet reads it.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Fetches the bytes of a model, and shows them only when they are what was registered.
///
/// It ends with 0 when they are; with 3 when the bytes or the request are at fault, so that trying
/// again does not help; with 1 when the environment is, so that it may.
#[derive(Debug, Parser)]
#[command(name = "rollmodel-fetch", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch an artifact into a directory or a cache, where it appears whole or not at all.
    Fetch(FetchArgs),
    /// Read and check an artifact, and keep nothing.
    Verify(Verify),
    /// Print the digest of a file, a directory or an address, as ModelVersions name it.
    Digest(DigestArgs),
}

#[derive(Debug, ClapArgs)]
struct FetchArgs {
    /// Address of the artifact: s3, gs, az, abfs, https, hf, oci or pvc, or a path.
    uri: String,
    /// Directory that the artifact becomes.
    #[arg(
        long,
        value_name = "DIRECTORY",
        required_unless_present = "cache",
        conflicts_with = "cache"
    )]
    to: Option<PathBuf>,
    /// Cache that the artifact is kept in, as models/sha256-<hex>; other pods' fetches of it
    /// download nothing.
    #[arg(long, value_name = "DIRECTORY", requires = "digest")]
    cache: Option<PathBuf>,
    /// The most bytes of the cache; what was used longest ago goes.
    #[arg(long, value_name = "BYTES", requires = "cache")]
    cache_size_limit: Option<u64>,
    /// Digest of an artifact that stays in the cache, however long ago it was used; may be given
    /// more than once.
    #[arg(long, value_name = "sha256:HEX", requires = "cache")]
    cache_keep: Vec<Digest>,
    /// Unpack the file, which is a tar, tar.gz, tar.zst or zip, once its digest is checked.
    #[arg(long)]
    unpack: bool,
    #[command(flatten)]
    expected: Expected,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, ClapArgs)]
struct Verify {
    /// Address of the artifact, or a path.
    uri: String,
    #[command(flatten)]
    expected: Expected,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, ClapArgs)]
struct DigestArgs {
    /// A path, or the address of an artifact.
    uri: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, ClapArgs)]
struct Expected {
    /// What the digest must be.
    #[arg(long, value_name = "sha256:HEX")]
    digest: Option<Digest>,
    /// How many bytes there must be.
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    /// Address of the OpenSSF Model Signing bundle. It is looked at where ROLLMODEL_TRUSTED_KEYS or
    /// ROLLMODEL_TRUSTED_CERTIFICATES (PEM) say whom to trust; then there has to be one.
    #[arg(long, value_name = "URI")]
    signature: Option<String>,
}

#[derive(Debug, ClapArgs)]
struct Common {
    /// A directory with credentials: a mounted Secret [default: the environment alone].
    #[arg(long, env = "ROLLMODEL_CREDENTIALS", value_name = "DIRECTORY", hide_env_values = true)]
    credentials: Option<PathBuf>,
    /// A host, host:port or network that may be fetched from although it is private.
    #[arg(long = "allow-host", env = "ROLLMODEL_ALLOWED_HOSTS", value_name = "HOST,…")]
    allowed: Vec<AllowedList>,
    /// Where volumes of pvc:// are mounted, each under its claim's name.
    #[arg(
        long,
        env = "ROLLMODEL_PVC_ROOT",
        value_name = "DIRECTORY",
        default_value = "/mnt/rollmodel-pvc"
    )]
    pvc_root: PathBuf,
    /// File for the last line [default: /dev/termination-log where it exists].
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,
}

/// Hosts and networks, separated by commas; none at all where it is empty.
#[derive(Clone, Debug)]
pub struct AllowedList(pub Vec<Allowed>);

impl FromStr for AllowedList {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Runs what the arguments say, and ends as they want.
pub async fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: BTreeMap<String, String>,
) -> ExitCode {
    let args = Args::parse_from(arguments);
    let common = match &args.command {
        Command::Fetch(fetch) => &fetch.common,
        Command::Verify(verify) => &verify.common,
        Command::Digest(digest) => &digest.common,
    };
    let log = common
        .termination_log
        .clone()
        .or_else(|| Some(PathBuf::from(TERMINATION_LOG)).filter(|path| path.exists()));
    let result = tokio::select! {
        result = carry_out(&args.command, common, environment) => result,
        // The first process of a container is not ended by a signal that it does not handle.
        () = stop() => Err(Error::new(Reason::Interrupted, "The fetch was stopped by a signal.")),
    };
    let (message, code) = match &result {
        Ok(outcome) => (said(outcome), ExitCode::SUCCESS),
        Err(error) => (
            one_line(&format!("{}: {error}", error.reason)),
            ExitCode::from(error.reason.exit_code()),
        ),
    };
    if let Some(log) = log
        && let Err(error) = fs::write(&log, &message)
    {
        eprintln!("rollmodel-fetch: cannot write {}: {error}", log.display());
    }
    match (&args.command, &result) {
        (Command::Digest(_), Ok(outcome)) => {
            println!("{}", outcome.digest);
            eprintln!(
                "{} in {} {}",
                size(outcome.size),
                outcome.files,
                if outcome.files == 1 { "file" } else { "files" }
            );
        }
        _ => eprintln!("{message}"),
    }
    code
}

async fn stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

async fn carry_out(
    command: &Command,
    common: &Common,
    environment: BTreeMap<String, String>,
) -> Result<Outcome, Error> {
    // Who wants to know a digest wants to sign or register it yet.
    let trust = if matches!(command, Command::Digest(_)) { None } else { trust(&environment)? };
    let fetch = Fetch {
        trust,
        means: Means {
            credentials: Arc::new(Credentials::read(
                common.credentials.as_deref().filter(|path| !path.as_os_str().is_empty()),
                environment,
            )?),
            allowed: common.allowed.iter().flat_map(|list| list.0.clone()).collect(),
            resolve: Arc::new(System),
            volumes: common.pvc_root.clone(),
        },
        limits: Limits::default(),
    };
    fetch.run(&request(command)?).await
}

fn request(command: &Command) -> Result<Request, Error> {
    let nothing = Expected { digest: None, size: None, signature: None };
    let (uri, expected, unpack, to) = match command {
        Command::Fetch(args) => (&args.uri, &args.expected, args.unpack, to(args)?),
        Command::Verify(args) => (&args.uri, &args.expected, false, To::Nowhere),
        Command::Digest(args) => (&args.uri, &nothing, false, To::Nowhere),
    };
    let signature = expected.signature.as_deref().map(address).transpose()?;
    Ok(Request {
        address: address(uri)?,
        digest: expected.digest,
        size: expected.size,
        signature,
        unpack,
        to,
    })
}

fn address(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|error: super::uri::Error| {
        let reason = if error == super::uri::Error::Credentials {
            Reason::Refused
        } else {
            Reason::InvalidRequest
        };
        Error::new(reason, error.to_string())
    })
}

/// Whom the environment says to trust.
fn trust(environment: &BTreeMap<String, String>) -> Result<Option<Trust>, Error> {
    let of = |name: &str| {
        environment.get(name).map(String::as_str).filter(|text| !text.trim().is_empty())
    };
    let (keys, certificates) = (of("ROLLMODEL_TRUSTED_KEYS"), of("ROLLMODEL_TRUSTED_CERTIFICATES"));
    if keys.or(certificates).is_none() {
        return Ok(None);
    }
    let wrong = |error| {
        Error::new(
            Reason::InvalidRequest,
            format!(
                "The keys or certificates to trust (ModelPolicy requireSignature) cannot be used: {error}"
            ),
        )
    };
    let list = |text: Option<&str>| text.map(str::to_owned).into_iter().collect::<Vec<_>>();
    Trust::parse(&list(keys), &list(certificates)).map(Some).map_err(wrong)
}

fn to(args: &FetchArgs) -> Result<To, Error> {
    Ok(match (&args.to, &args.cache) {
        (Some(directory), _) => To::Directory(directory.clone()),
        (None, Some(cache)) => {
            To::Cache(Cache::open(cache, args.cache_size_limit, args.cache_keep.clone())?)
        }
        (None, None) => To::Nowhere,
    })
}

/// What is said when all is well; tools read it, so its form stays.
fn said(outcome: &Outcome) -> String {
    let cached = if outcome.cached { " cached=true" } else { "" };
    let signer =
        outcome.signer.as_ref().map(|signer| format!(" signer={signer}")).unwrap_or_default();
    format!(
        "Verified: digest={} size={} files={}{signer}{cached}",
        outcome.digest, outcome.size, outcome.files
    )
}

fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX - '…'.len_utf8())
            .rev()
            .find(|at| line.is_char_boundary(*at))
            .unwrap_or_default();
        line.truncate(end);
        line.push('…');
    }
    line
}
