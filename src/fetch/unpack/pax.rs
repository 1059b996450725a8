//! POSIX's extended headers: records of `LENGTH KEY=VALUE\n`, of which name and size are used.

use super::Error;

/// What an extended header says of the entry after it.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub path: Option<Vec<u8>>,
    pub size: Option<u64>,
    /// Whether holes were left out of the contents.
    pub sparse: bool,
}

/// A header that extends one entry. `at` says where it is.
pub(super) fn local(contents: &[u8], at: &str) -> Result<Fields, Error> {
    let mut fields = Fields::default();
    let mut rest = contents;
    while let Some((key, value)) = record(&mut rest, at)? {
        let twice = match key {
            b"path" => fields.path.replace(value.to_vec()).is_some(),
            b"size" => fields.size.replace(number(value, at)?).is_some(),
            key => {
                fields.sparse |= key.starts_with(b"GNU.sparse.");
                false
            }
        };
        if twice {
            return Err(Error::malformed(at, "an extended header that says one thing twice"));
        }
    }
    Ok(fields)
}

/// A header that extends all the entries after it: nothing that is used may stand there.
pub(super) fn global(contents: &[u8], at: &str) -> Result<(), Error> {
    let mut rest = contents;
    while let Some((key, _)) = record(&mut rest, at)? {
        if matches!(key, b"path" | b"size" | b"linkpath") || key.starts_with(b"GNU.sparse.") {
            return Err(Error::malformed(at, "a global header that names or sizes every entry"));
        }
    }
    Ok(())
}

/// A key and its value.
type Record<'c> = (&'c [u8], &'c [u8]);

/// The next record; None at the end. Lengths are kept to exactly, since values may hold line
/// breaks.
fn record<'c>(rest: &mut &'c [u8], at: &str) -> Result<Option<Record<'c>>, Error> {
    if rest.is_empty() {
        return Ok(None);
    }
    match split(rest) {
        Some((key, value, after)) => {
            *rest = after;
            Ok(Some((key, value)))
        }
        None => Err(Error::malformed(at, "an extended header that is damaged")),
    }
}

/// Key and value of the first record, and what follows it.
fn split(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(8).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&records[..space])?).ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &records[length..]))
}

fn number(value: &[u8], at: &str) -> Result<u64, Error> {
    let number = decimal(value).filter(|number| i64::try_from(*number).is_ok());
    number.ok_or_else(|| Error::malformed(at, "a size that is no number, or out of range"))
}

/// Digits alone: the library's own parser takes a sign as well.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}
