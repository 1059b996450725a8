//! Ranged reads over plain HTTP, as `https`, Hugging Face and OCI need them: the answer must be the
//! bytes that were asked for.

use std::ops::Range;

use futures::{StreamExt, TryStreamExt};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::Stream;
use crate::fetch::{
    error::{Again, Error, Reason},
    http::{Get, Http, denied},
    uri::bare,
};

/// The value of a Range header for a range that is not empty.
fn header_of(range: &Range<u64>) -> String {
    if range.end == u64::MAX {
        format!("bytes={}-", range.start)
    } else {
        format!("bytes={}-{}", range.start, range.end - 1)
    }
}

/// Reads a range; from an entry without ranges, all of it.
///
/// # Errors
/// When the answer is not the range, or says no.
pub async fn read(http: &Http, get: Get, range: Option<Range<u64>>) -> Result<Stream, Error> {
    let what = bare(&get.url);
    let with_credentials = !get.credentials.is_empty();
    let range = range.filter(|range| *range != (0..u64::MAX));
    let held = get.headers.contains_key(header::IF_RANGE);
    let get = match &range {
        Some(range) => get.header(header::RANGE, &header_of(range)),
        None => get,
    };
    let response = http.get(get).await?;
    match (response.status(), &range) {
        (StatusCode::PARTIAL_CONTENT, Some(range)) => {
            let (start, _) = content_range(&response)
                .ok_or_else(|| strange(&what, "does not say which bytes it answers with"))?;
            if start != range.start {
                return Err(strange(&what, "answers with other bytes than were asked for"));
            }
            Ok(body(what, response))
        }
        (StatusCode::OK, None) => Ok(body(what, response)),
        (StatusCode::OK, Some(_)) if held => {
            Err(Error::new(Reason::Interrupted, format!("{what} changed while it was read.")))
        }
        (StatusCode::OK, Some(_)) => {
            Err(Error { again: Again::Whole, ..strange(&what, "gives no parts") })
        }
        (status, _) => Err(denied(&what, status, with_credentials)),
    }
}

fn strange(what: &str, does: &str) -> Error {
    Error::new(Reason::Unreachable, format!("{what} {does}."))
}

/// First byte and whole size of a partial answer.
pub fn content_range(response: &Response<Incoming>) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()))
}

/// The body of an answer as a stream.
pub fn body(what: String, response: Response<Incoming>) -> Stream {
    let broke = move |_| Error::transient(format!("The connection to {what} broke off."));
    response.into_body().into_data_stream().map_err(broke).boxed()
}

/// What holds later reads to the state of this answer: a strong ETag, or else the time of the last
/// change.
pub fn pin(response: &Response<Incoming>) -> Option<String> {
    let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    text(header::ETAG).filter(|tag| tag.starts_with('"')).or_else(|| text(header::LAST_MODIFIED))
}
