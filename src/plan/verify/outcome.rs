//! Reads the result of a verification from the termination messages of its pods.

use crate::{
    api::{
        condition::truncate_text,
        reason::Reason,
        version::{Artifact, Resolved, Verification},
    },
    plan::{
        make::fetch_container::{self, AT_FAULT},
        observed::{Heard, Job, LastWords},
        text::shorten_digest,
    },
};

/// Reasons that `rollmodel-fetch` reports with exit code 3.
const REASONS: [Reason; 9] = [
    Reason::Mismatch,
    Reason::SizeMismatch,
    Reason::SignatureInvalid,
    Reason::SignatureMissing,
    Reason::UnsafeArchive,
    Reason::NotFound,
    Reason::Refused,
    Reason::Unsupported,
    Reason::InvalidRequest,
];
/// Maximum length of a message in bytes.
const MESSAGE_MAX: usize = 600;

/// Result of a verification.
pub(super) struct Outcome {
    /// Reason of the condition Verified.
    pub reason: Reason,
    /// Message in one sentence.
    pub message: String,
    /// True if nothing is known about the files.
    pub trouble: bool,
    /// Digest and size in bytes of the files, where they match.
    pub bytes: Option<(String, i64)>,
}

/// The reason of a verification as a status keeps it. One that this build does not know is a
/// failure: a newer operator found it.
#[must_use]
pub fn read_reason(verification: &Verification) -> Reason {
    verification.reason.parse().unwrap_or(Reason::VerificationFailed)
}

/// Maps a verification's reason to the status of the condition Verified.
#[must_use]
pub fn condition_status(reason: Reason) -> &'static str {
    match reason {
        Reason::Verified => "True",
        Reason::VerificationTrouble => "Unknown",
        _ => "False",
    }
}

/// Computes the result from the termination messages of an ended Job's pods.
pub(super) fn read_outcome(
    artifact: &Artifact,
    resolved: Option<&Resolved>,
    job: &Job,
    heard: &Heard,
) -> Outcome {
    let said = |code: i32| heard.words.iter().find(|w| w.exit_code == Some(code));
    match (said(0), said(AT_FAULT)) {
        (Some(words), _) => compare_digest(artifact, resolved, job, words),
        (None, Some(words)) => report_fault(resolved, &words.message),
        (None, None) => report_trouble(job, heard.words.last()),
    }
}

/// Handles a found digest: the recorded or pinned one, or the first.
fn compare_digest(
    artifact: &Artifact,
    resolved: Option<&Resolved>,
    job: &Job,
    words: &LastWords,
) -> Outcome {
    let Some((digest, size)) = parse(&words.message) else {
        return report_trouble(job, Some(words));
    };
    let recorded = fetch_container::find_recorded_digest(artifact);
    let pinned = resolved.and_then(|r| r.artifact_digest.as_deref());
    if let Some(other) = [recorded, pinned].into_iter().flatten().find(|known| *known != digest) {
        return report_fault(
            resolved,
            &format!("Mismatch: the digest is {digest}, and has to be {other}."),
        );
    }
    let pins = if recorded.is_none() && pinned.is_none() {
        ", to which the version is pinned"
    } else {
        ""
    };
    let message = format!("The artifact is {}{pins}: {size} bytes.", shorten_digest(&digest));
    Outcome { reason: Reason::Verified, message, trouble: false, bytes: Some((digest, size)) }
}

/// Handles wrong files, or a request that cannot be carried out. Files that matched before have
/// drifted.
fn report_fault(resolved: Option<&Resolved>, line: &str) -> Outcome {
    let (word, sentence) = line.split_once(": ").unwrap_or(("", line));
    let known = REASONS.into_iter().find(|r| r.as_ref() == word);
    let before = resolved.and_then(|r| r.artifact_digest.as_deref());
    let (reason, message) = match (known, before) {
        (Some(Reason::Mismatch | Reason::SizeMismatch), Some(digest)) => {
            let message = format!(
                "Upstream has other bytes than those that were verified ({}): {sentence}",
                shorten_digest(digest)
            );
            (Reason::Drifted, message)
        }
        (Some(reason), _) => (reason, sentence.to_owned()),
        (None, _) if line.is_empty() => (
            Reason::VerificationFailed,
            "The artifact was not accepted, and nothing was said about it.".into(),
        ),
        (None, _) => (Reason::VerificationFailed, line.to_owned()),
    };
    Outcome { reason, message: format_sentence(&message), trouble: false, bytes: None }
}

fn report_trouble(job: &Job, words: Option<&LastWords>) -> Outcome {
    let code = words
        .and_then(|w| w.exit_code)
        .map(|code| format!(" with exit code {code}"))
        .unwrap_or_default();
    let line = words.map(|w| w.message.as_str()).filter(|line| !line.is_empty());
    let message = match (line, job.ended.as_deref()) {
        (Some(line), _) => format!("Job {} ended{code}: {line}", job.name),
        (None, Some(how)) if !how.is_empty() => {
            format!("Job {} ended{code}, and its pods left no word: {how}", job.name)
        }
        _ => format!("Job {} ended{code}, and its pods left no word.", job.name),
    };
    Outcome {
        reason: Reason::VerificationTrouble,
        message: format_sentence(&message),
        trouble: true,
        bytes: None,
    }
}

/// Parses a line such as `Verified: digest=sha256:… size=… files=…`.
fn parse(line: &str) -> Option<(String, i64)> {
    let pairs = line.trim().strip_prefix("Verified: ")?;
    let value = |key: &str| {
        pairs.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    };
    let digest = value("digest")?;
    let hex = digest.strip_prefix("sha256:")?;
    let good =
        hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    let size = value("size")?.parse().ok().filter(|size| *size >= 0)?;
    good.then(|| (digest.to_owned(), size))
}

/// Makes one line that ends as a sentence and fits the limit.
fn format_sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = truncate_text(&line, MESSAGE_MAX);
    if line.ends_with(['.', '!', '?', '…']) { line } else { format!("{line}.") }
}
