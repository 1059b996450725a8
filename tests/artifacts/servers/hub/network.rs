//! The content delivery network: files by the SHA-256 of what is in them, for who has a signed
//! link, and without a token.

use std::sync::Arc;

use axum::{extract::Request, response::Response};
use http::{StatusCode, header};

use super::Shared;
use crate::servers::serve::{content, set, status};

pub(super) async fn answer(shared: Arc<Shared>, request: Request) -> Response {
    // As S3 does: a request is signed in one way or the other.
    if request.headers().contains_key(header::AUTHORIZATION) {
        return status(StatusCode::BAD_REQUEST, "only one way of signing is allowed");
    }
    let sha256 = request.uri().path().trim_start_matches("/repos/");
    let state = shared.state();
    let signed = format!("Signature={}", state.signature(sha256));
    if request
        .uri()
        .query()
        .is_none_or(|query| query.split('&').all(|parameter| parameter != signed))
    {
        return status(StatusCode::FORBIDDEN, "the link is not signed, or has expired");
    }
    let files = state
        .repositories
        .values()
        .flat_map(|repository| repository.commits.values().flat_map(|files| files.values()));
    let mut found = files.filter(|file| file.lfs.as_ref().is_some_and(|lfs| lfs.sha256 == sha256));
    let Some(file) = found.next() else {
        return status(StatusCode::NOT_FOUND, "there is no such file");
    };
    let mut response = content(&file.bytes, request.headers());
    set(&mut response, "ETag", &format!("\"{sha256}\""));
    response
}
