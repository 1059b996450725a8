//! The files have to be those that were signed.

use super::*;

fn compared(files: &Files, signature_file: Option<&str>) -> Result<Signed, Why> {
    let signature_file = signature_file.map(path);
    let trust = keys(&[&text("p256.pub")]);
    verify(&fixture("p256.sig"), &trust, files, signature_file.as_ref(), ARTIFACT)
        .map_err(|e| e.why)
}

fn names(first: &str, more: usize) -> Names {
    Names { first: first.into(), more }
}

#[test]
fn a_file_with_other_bytes_fails() {
    let mut files = model();
    files.insert(path("tokenizer.json"), sha256(b"other"));
    assert_eq!(compared(&files, None), Err(Why::Changed(names("tokenizer.json", 0))));
    files.insert(path("weights/part-1.bin"), sha256(b"other"));
    assert_eq!(compared(&files, None), Err(Why::Changed(names("tokenizer.json", 1))));
}

#[test]
fn a_file_missing_from_the_signed_set_fails() {
    let mut files = model();
    files.remove(&path("weights/empty.bin"));
    assert_eq!(compared(&files, None), Err(Why::Missing(names("weights/empty.bin", 0))));
    assert_eq!(
        compared(&Files::new(), None),
        Err(Why::Missing(names("config.json", model().len() - 1)))
    );
}

#[test]
fn a_file_added_to_the_signed_set_fails() {
    let mut files = model();
    files.insert(path("weights/part-3.bin"), sha256(b"more"));
    files.insert(path("a b\u{202e}"), sha256(b"more"));
    assert_eq!(compared(&files, None), Err(Why::Added(names("a b\\u{202e}", 1))));
}

#[test]
fn a_renamed_file_fails() {
    let mut files = model();
    let digest = files.remove(&path("config.json")).unwrap();
    files.insert(path("Config.json"), digest);
    assert_eq!(compared(&files, None), Err(Why::Missing(names("config.json", 0))));
}

#[test]
fn two_files_that_change_places_fail() {
    let mut files = model();
    let (a, b) = (files[&path("config.json")], files[&path("tokenizer.json")]);
    files.extend([(path("config.json"), b), (path("tokenizer.json"), a)]);
    assert_eq!(compared(&files, None), Err(Why::Changed(names("config.json", 1))));
}

#[test]
fn the_signature_itself_may_be_among_the_files() {
    let mut files = model();
    files.insert(path("model.sig"), sha256(&fixture("p256.sig")));
    assert!(compared(&files, Some("model.sig")).is_ok());
    assert!(compared(&model(), Some("model.sig")).is_ok());
    assert_eq!(compared(&files, None), Err(Why::Ignored(names("model.sig", 0))));
    assert_eq!(compared(&files, Some("other.sig")), Err(Why::Ignored(names("model.sig", 0))));
}

#[test]
fn a_signed_file_does_not_pass_unseen_as_the_signature() {
    let mut files = model();
    files.insert(path("config.json"), sha256(b"other"));
    assert_eq!(compared(&files, Some("config.json")), Err(Why::Changed(names("config.json", 0))));
    files.remove(&path("config.json"));
    assert_eq!(compared(&files, Some("config.json")), Err(Why::Missing(names("config.json", 0))));
}

#[test]
fn a_file_that_the_signer_ignored_was_not_signed() {
    for name in [".gitattributes", ".git/hooks/run", ".github"] {
        let mut files = model();
        files.insert(path(name), sha256(b"x"));
        assert_eq!(compared(&files, None), Err(Why::Ignored(names(name, 0))), "{name}");
    }
    // Only as a whole part of the path is it what was ignored.
    for name in [".gitmodules", "weights/.git", ".gitignore.py"] {
        let mut files = model();
        files.insert(path(name), sha256(b"x"));
        assert_eq!(compared(&files, None), Err(Why::Added(names(name, 0))), "{name}");
    }
}

#[test]
fn an_error_says_what_to_do_in_one_sentence() {
    let mut files = model();
    files.insert(path("weights/part-1.bin"), sha256(b"other"));
    let error = verify(
        &fixture("p256.sig"),
        &keys(&[&text("p256.pub")]),
        &files,
        None,
        "s3://models/\ntiny",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "The signature of s3://models/\\ntiny is refused: file weights/part-1.bin has other bytes than were signed: restore what was signed, or have the artifact signed again."
    );
}
