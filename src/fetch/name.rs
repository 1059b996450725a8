//! Names that came from outside: entries of archives, keys of S3, files of a Hugging Face
//! repository, annotations of an image.
//!
//! [`RelativePath`] is a name that may become a file; [`Names`] keeps apart what some volume would
//! take for one file.

use std::{
    cmp::Ordering,
    collections::HashMap,
    fmt::{self, Write as _},
    hash::{BuildHasher as _, RandomState},
    path::Path,
};

use unicase::UniCase;
use unicode_normalization::UnicodeNormalization as _;

/// The longest name, in bytes: with any sensible directory before it, it stays below Linux's 4096.
pub const PATH_MAX: usize = 1024;
/// The longest component, in bytes: what Linux's file systems take.
pub const COMPONENT_MAX: usize = 255;
/// The most components.
pub const DEPTH_MAX: usize = 64;
/// The longest text that stands in a message, in bytes.
const SHOWN_MAX: usize = 160;

/// Why a name cannot be used. Names are escaped and bounded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no plain relative path.
    #[error("the name `{name}` cannot be used: {fault}")]
    Refused {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// Two files of one name.
    #[error("the name `{0}` is there twice: leave one of the two out")]
    Twice(String),
    /// Two names that some volume takes for one.
    #[error(
        "the name `{0}` differs from another only in upper and lower case, or in how its accents are written: rename one of the two"
    )]
    Alike(String),
    /// A file below which there are others.
    #[error("the name `{0}` is that of a file and of a directory: rename one of the two")]
    FileAndDirectory(String),
    /// More files and directories than are taken.
    #[error(
        "there are more than {0} files and directories: leave some out, or pack many small files into few"
    )]
    TooMany(usize),
}

/// What is wrong with a name, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing in it.
    #[error("it is empty; give it a name")]
    Empty,
    /// Over [`PATH_MAX`].
    #[error("it is longer than {PATH_MAX} bytes; shorten it")]
    TooLong,
    /// Over [`COMPONENT_MAX`].
    #[error("a component is longer than {COMPONENT_MAX} bytes; shorten it")]
    LongComponent,
    /// Over [`DEPTH_MAX`].
    #[error("it is more than {DEPTH_MAX} directories deep; use fewer")]
    TooDeep,
    /// Not text.
    #[error("it is not UTF-8; rename it")]
    NotUtf8,
    /// NUL, newline and their like.
    #[error("it holds a control character or a line break; rename it")]
    Control,
    /// A separator to some, a character to others.
    #[error("it holds a backslash; separate directories by `/`")]
    Backslash,
    /// Starts with a slash.
    #[error("it is absolute; make it relative")]
    Absolute,
    /// Two slashes in a row, or one too many at the end.
    #[error("it has an empty component; leave the extra `/` out")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("it has a component `.` or `..`; name the file without")]
    Dots,
}

/// A relative path: UTF-8, components separated by single `/`, none of them empty, `.` or `..`, no
/// control character, line break or backslash, at most [`PATH_MAX`] bytes, [`COMPONENT_MAX`] bytes
/// a component and [`DEPTH_MAX`] components. Joined to a directory without links, it is a path
/// below it.
///
/// Paths are ordered component by component, as Python's `PurePosixPath` and so OpenSSF Model
/// Signing orders them: `a/b` before `a-b`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelativePath(String);

/// Escaped, for people.
impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(&self.0))
    }
}

impl Ord for RelativePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RelativePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The name of an archive's entry, without the `./` before it and the `/` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName {
    /// None for the archive's root (`./` or `.`).
    pub path: Option<RelativePath>,
    /// Whether there was a `/` behind it, which says that it is a directory.
    pub slash: bool,
}

impl RelativePath {
    /// A name as it is to be, exactly.
    ///
    /// # Errors
    /// [`Error::Refused`] for all that is not as [`RelativePath`] says.
    pub fn parse(name: impl AsRef<[u8]>) -> Result<Self, Error> {
        let bytes = name.as_ref();
        sound(bytes).map(Self).map_err(|fault| Error::Refused { name: escaped(bytes), fault })
    }

    /// The name of an archive's entry.
    ///
    /// # Errors
    /// [`Error::Refused`], with the name as the archive has it.
    pub fn entry(name: &[u8]) -> Result<EntryName, Error> {
        let mut rest = name;
        while let Some(shorter) = rest.strip_prefix(b"./") {
            rest = shorter;
        }
        if rest == b"." || (rest.is_empty() && !name.is_empty()) {
            return Ok(EntryName { path: None, slash: rest.is_empty() });
        }
        let plain = rest.strip_suffix(b"/").filter(|plain| !plain.is_empty());
        let path = sound(plain.unwrap_or(rest))
            .map(Self)
            .map_err(|fault| Error::Refused { name: escaped(name), fault })?;
        Ok(EntryName { path: Some(path), slash: plain.is_some() })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a path, to be joined to a directory.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

/// The name as text if nothing is wrong with it.
fn sound(name: &[u8]) -> Result<String, Fault> {
    if name.is_empty() {
        return Err(Fault::Empty);
    }
    if name.len() > PATH_MAX {
        return Err(Fault::TooLong);
    }
    let name = str::from_utf8(name).map_err(|_| Fault::NotUtf8)?;
    // Unicode's line and paragraph separator are no control characters, but break lines all the
    // same.
    if name.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err(Fault::Control);
    }
    if name.contains('\\') {
        return Err(Fault::Backslash);
    }
    if name.starts_with('/') {
        return Err(Fault::Absolute);
    }
    if name.split('/').count() > DEPTH_MAX {
        return Err(Fault::TooDeep);
    }
    name.split('/').try_for_each(|component| match component {
        "" => Err(Fault::EmptyComponent),
        "." | ".." => Err(Fault::Dots),
        long if long.len() > COMPONENT_MAX => Err(Fault::LongComponent),
        _ => Ok(()),
    })?;
    Ok(name.to_owned())
}

/// Text from outside as it may stand in a message: one line, nothing invisible, bytes that are no
/// UTF-8 as `\xff`, of bounded length.
#[must_use]
pub fn escaped(text: impl AsRef<[u8]>) -> String {
    let mut out = String::new();
    for chunk in text.as_ref().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '"' => out.push(c),
                c => out.extend(c.escape_debug()),
            }
            if out.len() > SHOWN_MAX {
                return out + "…";
            }
        }
        // Three bytes at most.
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
        if out.len() > SHOWN_MAX {
            return out + "…";
        }
    }
    out
}

/// The names of one artifact, none of which may stand for another's file on any volume.
///
/// Names are compared as Unicode's canonical caseless matching does (normalized, case folded,
/// normalized): on a volume that ignores case or normalizes names (APFS, SMB, ext4 with casefold)
/// `Model.bin` and `model.bin`, or the two ways to write `é`, are one file. There one would
/// overwrite the other, and which content is served would depend on the volume. What is refused
/// here is refused everywhere.
///
/// Of each name two hashes are kept instead of its text, so that the longest names cost no more
/// than the shortest, some 30 bytes. The hash is keyed at random: two names that differ are taken
/// for one by chance in less than one of 10^9 artifacts of 100,000 names, and then refused.
#[derive(Debug)]
pub struct Names {
    held: HashMap<u64, Held>,
    hasher: RandomState,
    most: usize,
}

#[derive(Debug)]
struct Held {
    /// The hash of the name as it was written.
    exact: u64,
    file: bool,
}

impl Names {
    /// No names yet, and at most `most`, directories that are only part of other names included.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { held: HashMap::new(), hasher: RandomState::new(), most }
    }

    /// Takes a file's name. Returns the directories on the way to it that were not there yet,
    /// outermost first.
    ///
    /// # Errors
    /// If the name cannot stand beside those that are there.
    pub fn file<'n>(&mut self, name: &'n RelativePath) -> Result<Vec<&'n str>, Error> {
        self.take(name, true)
    }

    /// Takes a directory's name, which may be there already. Returns what was not there yet,
    /// outermost first, itself last.
    ///
    /// # Errors
    /// If the name cannot stand beside those that are there.
    pub fn directory<'n>(&mut self, name: &'n RelativePath) -> Result<Vec<&'n str>, Error> {
        self.take(name, false)
    }

    fn take<'n>(&mut self, name: &'n RelativePath, file: bool) -> Result<Vec<&'n str>, Error> {
        let folded = folded(name.as_str());
        let mut new = Vec::new();
        // Neither folding nor normalizing adds or removes a slash.
        for (exact, folded) in prefixes(name.as_str()).zip(prefixes(&folded)) {
            let last = exact.len() == name.as_str().len();
            let hash = self.hasher.hash_one(exact);
            match self.held.get(&self.hasher.hash_one(folded)) {
                None if self.held.len() >= self.most => return Err(Error::TooMany(self.most)),
                None => {
                    self.held.insert(
                        self.hasher.hash_one(folded),
                        Held { exact: hash, file: file && last },
                    );
                    if !(file && last) {
                        new.push(exact);
                    }
                }
                Some(held) if held.exact != hash => return Err(Error::Alike(escaped(exact))),
                Some(held) if held.file != (file && last) => {
                    return Err(Error::FileAndDirectory(escaped(exact)));
                }
                Some(held) if held.file => return Err(Error::Twice(escaped(exact))),
                Some(_) => {}
            }
        }
        Ok(new)
    }
}

/// What all names have in common that some volume takes for this one.
fn folded(name: &str) -> String {
    let decomposed: String = name.nfd().collect();
    UniCase::unicode(decomposed).to_folded_case().nfd().collect()
}

/// `a`, `a/b`, `a/b/c`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: impl AsRef<[u8]>) -> Option<Fault> {
        match RelativePath::parse(name) {
            Ok(_) => None,
            Err(Error::Refused { fault, .. }) => Some(fault),
            Err(other) => panic!("{other}"),
        }
    }

    fn path(name: &str) -> RelativePath {
        RelativePath::parse(name).unwrap()
    }

    #[test]
    fn only_plain_relative_paths_are_names() {
        let long = "x".repeat(COMPONENT_MAX + 1);
        let longest = vec!["x".repeat(200); 6].join("/");
        let deep = vec!["d"; DEPTH_MAX + 1].join("/");
        let cases: &[(&[u8], Option<Fault>)] = &[
            (b"config.json", None),
            (b"a/b/c.bin", None),
            (b"...", None),
            (b"..a/b..", None),
            (" spaces and ünïcödé ☃".as_bytes(), None),
            (b"-rf", None),
            (b"", Some(Fault::Empty)),
            (b"/", Some(Fault::Absolute)),
            (b"/etc/passwd", Some(Fault::Absolute)),
            (b"//host/share", Some(Fault::Absolute)),
            (b".", Some(Fault::Dots)),
            (b"..", Some(Fault::Dots)),
            (b"./a", Some(Fault::Dots)),
            (b"a/../../b", Some(Fault::Dots)),
            (b"a/..", Some(Fault::Dots)),
            (b"a//b", Some(Fault::EmptyComponent)),
            (b"a/", Some(Fault::EmptyComponent)),
            (b"a\0b", Some(Fault::Control)),
            (b"a\nb", Some(Fault::Control)),
            (b"a\x1b[31mb", Some(Fault::Control)),
            (b"a\x7f", Some(Fault::Control)),
            ("a\u{85}b".as_bytes(), Some(Fault::Control)),
            ("a\u{2028}b".as_bytes(), Some(Fault::Control)),
            (b"..\\..\\a", Some(Fault::Backslash)),
            (b"C:\\a", Some(Fault::Backslash)),
            (b"a\xff", Some(Fault::NotUtf8)),
            (b"a\xed\xa0\x80", Some(Fault::NotUtf8)),
            (b"\xc0\xae\xc0\xae/a", Some(Fault::NotUtf8)),
            (long.as_bytes(), Some(Fault::LongComponent)),
            (longest.as_bytes(), Some(Fault::TooLong)),
            (deep.as_bytes(), Some(Fault::TooDeep)),
        ];
        for (name, wanted) in cases {
            assert_eq!(fault(name), *wanted, "{}", escaped(name));
        }
        assert_eq!(fault("x".repeat(COMPONENT_MAX)), None);
        assert_eq!(fault(vec!["d"; DEPTH_MAX].join("/")), None);
    }

    #[test]
    fn paths_are_ordered_component_by_component() {
        let mut paths = ["a.b", "a-b", "a/b", "a/b/c", "a"].map(path);
        paths.sort();
        assert_eq!(paths.map(|p| p.0), ["a", "a/b", "a/b/c", "a-b", "a.b"]);
    }

    #[test]
    fn an_entry_may_have_a_dot_before_it_and_a_slash_behind() {
        for (name, wanted, slash) in [
            ("a", Some("a"), false),
            ("./a", Some("a"), false),
            ("././a/", Some("a"), true),
            ("a/b/", Some("a/b"), true),
            ("./", None, true),
            (".", None, false),
            ("./.", None, false),
        ] {
            let entry = RelativePath::entry(name.as_bytes()).unwrap();
            assert_eq!(
                (entry.path.as_ref().map(RelativePath::as_str), entry.slash),
                (wanted, slash),
                "{name}"
            );
        }
        for name in ["", "/", "//", "a//", ".//a", "..", "./..", "../", "a/./b", "/./a", "a/."] {
            assert!(
                matches!(RelativePath::entry(name.as_bytes()), Err(Error::Refused { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn what_stands_in_a_message_is_one_short_visible_line() {
        for (text, wanted) in [
            (&b"it's \"plain\""[..], "it's \"plain\""),
            (b"a\nb\0\x1b[1m", "a\\nb\\0\\u{1b}[1m"),
            (b"a\xff\xfe", "a\\xff\\xfe"),
            ("é ☃".as_bytes(), "é ☃"),
            // Which of its two ways an accent is written is to be seen.
            ("e\u{301}".as_bytes(), "e\\u{301}"),
            ("\u{202e}cod.exe".as_bytes(), "\\u{202e}cod.exe"),
            ("zero\u{200b}width".as_bytes(), "zero\\u{200b}width"),
        ] {
            assert_eq!(escaped(text), wanted);
        }
        for text in [
            "x".repeat(100_000).into_bytes(),
            "\u{1}".repeat(100_000).into_bytes(),
            vec![0xff; 100_000],
        ] {
            let shown = escaped(text);
            assert!(shown.len() <= SHOWN_MAX + 16 && shown.ends_with('…'), "{shown}");
        }
    }

    #[test]
    fn no_two_names_are_one_on_any_volume() {
        for (first, second) in [
            ("Model.bin", "model.bin"),
            ("é.bin", "e\u{301}.bin"),
            ("É.bin", "e\u{301}.bin"),
            ("straße", "STRASSE"),
            ("straße", "straẞe"),
            ("ſ", "s"),
            ("ς", "Σ"),
            ("\u{212a}", "k"),
            ("\u{2126}", "ω"),
            ("A/x", "a/y"),
            ("a/x", "A"),
            ("\u{ac00}", "\u{1100}\u{1161}"),
            // Normalizing alone changes the order of these two marks.
            ("a\u{323}\u{307}", "a\u{307}\u{323}"),
        ] {
            for (first, second) in [(first, second), (second, first)] {
                let mut names = Names::new(10);
                names.file(&path(first)).unwrap();
                assert!(
                    matches!(names.file(&path(second)), Err(Error::Alike(_))),
                    "{first} {second}"
                );
            }
        }
        let mut names = Names::new(10);
        for name in ["e.bin", "é.bin", "ı", "i", "ﬁ.txt/a", "a b", "ab"] {
            names.file(&path(name)).unwrap();
        }
    }

    #[test]
    fn a_file_is_there_once_and_is_no_directory() {
        let mut names = Names::new(100);
        assert_eq!(names.file(&path("a/b/c")).unwrap(), ["a", "a/b"]);
        assert_eq!(names.file(&path("a/b/d")).unwrap(), Vec::<&str>::new());
        assert_eq!(names.directory(&path("a/e/f")).unwrap(), ["a/e", "a/e/f"]);
        assert_eq!(names.directory(&path("a/e/f")).unwrap(), Vec::<&str>::new());
        assert_eq!(names.file(&path("a/b/c")), Err(Error::Twice("a/b/c".into())));
        assert_eq!(names.file(&path("a/b")), Err(Error::FileAndDirectory("a/b".into())));
        assert_eq!(names.file(&path("a/b/c/x")), Err(Error::FileAndDirectory("a/b/c".into())));
        assert_eq!(names.directory(&path("a/b/c")), Err(Error::FileAndDirectory("a/b/c".into())));
    }

    #[test]
    fn directories_count_even_if_only_part_of_a_name() {
        let mut names = Names::new(3);
        names.file(&path("a/b/c")).unwrap();
        names.directory(&path("a/b")).unwrap();
        assert_eq!(names.file(&path("d")), Err(Error::TooMany(3)));
        let mut names = Names::new(3);
        assert_eq!(names.file(&path("a/b/c/d")), Err(Error::TooMany(3)));
    }
}
