//! What the hub answers: a repository's commit, its tree, its files.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{Access, File, OTHER_TOKEN, Repository, Shared, State, TOKEN, git_oid};
use crate::servers::{
    escaped,
    serve::{content, json as answer_of, set},
};

/// What is asked for.
struct Ask {
    what: What,
    id: String,
    revision: String,
    path: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// `/api/models/ID` and `/api/models/ID/revision/REVISION`.
    Commit,
    /// `/api/models/ID/tree/REVISION/PATH`.
    Tree,
    /// `/ID/resolve/REVISION/PATH`.
    File,
    /// `/api/resolve-cache/models/ID/COMMIT/PATH`, where the one before leads to.
    Cached,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    Granted,
    Other,
}

type Answer = Result<Response, Box<Response>>;

pub(super) async fn answer(shared: Arc<Shared>, request: Request) -> Response {
    let state = shared.state();
    match carry_out(&state, &request) {
        Ok(answer) => answer,
        Err(refusal) => *refusal,
    }
}

fn carry_out(state: &State, request: &Request) -> Answer {
    let who = who(request.headers())?;
    let ask = Ask::parse(request.uri().path()).ok_or_else(|| {
        refusal(StatusCode::NOT_FOUND, None, "Sorry, we can't find the page you are looking for.")
    })?;
    let repository = find(state, &ask, who)?;
    let no_revision = || {
        refusal(
            StatusCode::NOT_FOUND,
            Some("RevisionNotFound"),
            &format!("Invalid rev id: {}", ask.revision),
        )
    };
    let commit = repository.refs.get(&ask.revision).unwrap_or(&ask.revision);
    let files = repository.commits.get(commit).ok_or_else(no_revision)?;
    match ask.what {
        What::Commit => Ok(information(&ask.id, commit, repository)),
        What::Tree => {
            let query = Query(request.uri().query().unwrap_or_default());
            let entries = tree(
                &ask.path,
                query.get("recursive") == Some("true"),
                files.iter().map(|(path, file)| (path.as_str(), file)),
            );
            Ok(page(entries, state.page, &query, request))
        }
        What::File | What::Cached => {
            let no_entry = || {
                with_commit(
                    refusal(StatusCode::NOT_FOUND, Some("EntryNotFound"), "Entry not found"),
                    commit,
                )
            };
            let file = files.get(&ask.path).ok_or_else(no_entry)?;
            Ok(*with_commit(Box::new(resolve(state, &ask, commit, file, request)), commit))
        }
    }
}

impl Ask {
    fn parse(path: &str) -> Option<Self> {
        let decoded = |part: &str| percent_decode_str(part).decode_utf8().ok().map(String::from);
        let parts: Vec<String> =
            path.strip_prefix('/')?.split('/').map(decoded).collect::<Option<_>>()?;
        let (what, parts, word) = match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["api", "resolve-cache", "models", ..] => (What::Cached, &parts[3..], None),
            ["api", "models", ..] if parts.iter().any(|part| part == "tree") => {
                (What::Tree, &parts[2..], Some("tree"))
            }
            ["api", "models", ..] => (What::Commit, &parts[2..], Some("revision")),
            _ => (What::File, &parts[..], Some("resolve")),
        };
        // An id is one part or two. A name of a commit has 40 characters, which no name of a
        // repository here has.
        let is_end = |part: &String| word.map_or(part.len() == 40, |word| part == word);
        let id_ends = parts.iter().position(is_end).filter(|end| (1..=2).contains(end));
        let (id, rest) = parts.split_at(id_ends.or((what == What::Commit).then_some(parts.len()))?);
        let mut rest = rest.iter().skip(usize::from(word.is_some()));
        let revision = rest.next().map_or("main", String::as_str).to_owned();
        Some(Self {
            what,
            id: id.join("/"),
            revision,
            path: rest.map(String::as_str).collect::<Vec<_>>().join("/"),
        })
    }
}

fn who(headers: &HeaderMap) -> Result<Who, Box<Response>> {
    let Some(sent) = headers.get(header::AUTHORIZATION) else { return Ok(Who::Nobody) };
    match sent.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")) {
        Some(TOKEN) => Ok(Who::Granted),
        Some(OTHER_TOKEN) => Ok(Who::Other),
        _ => Err(refusal(
            StatusCode::UNAUTHORIZED,
            None,
            "Invalid credentials in Authorization header",
        )),
    }
}

fn find<'a>(state: &'a State, ask: &Ask, who: Who) -> Result<&'a Repository, Box<Response>> {
    let seen = state
        .repositories
        .get(&ask.id)
        .filter(|r| r.access != Access::Private || who == Who::Granted);
    let files = matches!(ask.what, What::File | What::Cached);
    match (seen, who) {
        // Who is nobody is not told whether there is one.
        (None, Who::Nobody) => {
            Err(refusal(StatusCode::UNAUTHORIZED, None, "Invalid username or password."))
        }
        (None, _) => {
            Err(refusal(StatusCode::NOT_FOUND, Some("RepoNotFound"), "Repository not found"))
        }
        (Some(r), Who::Nobody) if r.access == Access::Gated && files => {
            let text = format!(
                "Access to model {} is restricted. You must have access to it and be authenticated to access it. Please log in.",
                ask.id
            );
            Err(refusal(StatusCode::UNAUTHORIZED, Some("GatedRepo"), &text))
        }
        (Some(r), Who::Other) if r.access == Access::Gated && files => {
            let text = format!(
                "Access to model {} is restricted and you are not in the authorized list.",
                ask.id
            );
            Err(refusal(StatusCode::FORBIDDEN, Some("GatedRepo"), &text))
        }
        (Some(repository), _) => Ok(repository),
    }
}

fn refusal(status: StatusCode, code: Option<&str>, message: &str) -> Box<Response> {
    let mut response = (status, answer_of(&json!({"error": message}))).into_response();
    if let Some(code) = code {
        set(&mut response, "X-Error-Code", code);
    }
    set(&mut response, "X-Error-Message", message);
    if status == StatusCode::UNAUTHORIZED {
        set(
            &mut response,
            "WWW-Authenticate",
            "Bearer realm=\"Authentication required\", charset=\"UTF-8\"",
        );
    }
    Box::new(response)
}

fn with_commit(mut response: Box<Response>, commit: &str) -> Box<Response> {
    set(&mut response, "X-Repo-Commit", commit);
    response
}

fn information(id: &str, commit: &str, repository: &Repository) -> Response {
    let files: Vec<_> =
        repository.commits[commit].keys().map(|path| json!({"rfilename": path})).collect();
    let gated = if repository.access == Access::Gated { json!("manual") } else { json!(false) };
    answer_of(&json!({
        "_id": "621ffdc036468d709f17434d", "id": id, "modelId": id, "author": id.split_once('/').map(|(author, _)| author), "sha": commit,
        "private": repository.access == Access::Private, "gated": gated, "disabled": false, "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z", "downloads": 0, "likes": 0, "tags": [], "siblings": files,
    }))
}

/// The entries at a path, or below it: each directory once, before what is in it.
fn tree<'a>(
    at: &str,
    recursive: bool,
    files: impl Iterator<Item = (&'a str, &'a File)>,
) -> Vec<Value> {
    let prefix = if at.is_empty() { String::new() } else { format!("{at}/") };
    let (mut entries, mut directories) = (vec![], BTreeSet::new());
    for (path, file) in files.filter(|(path, _)| path.starts_with(&prefix)) {
        let ends = path.match_indices('/').map(|(end, _)| end).filter(|&end| end > prefix.len());
        for directory in ends.map(|end| &path[..end]).take(if recursive { usize::MAX } else { 1 }) {
            if directories.insert(directory) {
                entries.push(json!({"type": "directory", "oid": git_oid("tree", directory.as_bytes()), "size": 0, "path": directory}));
            }
        }
        if recursive || !path[prefix.len()..].contains('/') {
            entries.push(entry(path, file));
        }
    }
    entries
}

fn entry(path: &str, file: &File) -> Value {
    let mut entry =
        json!({"type": "file", "oid": file.oid, "size": file.bytes.len(), "path": path});
    if let Some(lfs) = &file.lfs {
        entry["lfs"] =
            json!({"oid": lfs.sha256, "size": file.bytes.len(), "pointerSize": lfs.pointer_size});
    }
    entry
}

struct Query<'a>(&'a str);

impl Query<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// One page of a tree; where the next one is stands in the Link header, an address as the client
/// spoke to the hub.
fn page(entries: Vec<Value>, size: usize, query: &Query<'_>, request: &Request) -> Response {
    let begin = query.get("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let rest = entries.get(begin..).unwrap_or_default();
    let here = &rest[..size.min(rest.len())];
    let mut response = answer_of(&json!(here));
    if here.len() < rest.len() {
        let host = request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let kept =
            query.0.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
        let query = kept
            .map(String::from)
            .chain([format!("cursor={}", begin + size)])
            .collect::<Vec<_>>()
            .join("&");
        set(
            &mut response,
            "Link",
            &format!("<http://{host}{}?{query}>; rel=\"next\"", request.uri().path()),
        );
    }
    response
}

/// A file's bytes, or where they are: on the network for LFS', else at an address of this hub that
/// names the commit.
fn resolve(state: &State, ask: &Ask, commit: &str, file: &File, request: &Request) -> Response {
    let etag = format!("\"{}\"", file.lfs.as_ref().map_or(&file.oid, |lfs| &lfs.sha256));
    if let Some(lfs) = &file.lfs {
        let signature = state.signature(&lfs.sha256);
        let to = format!(
            "http://{}/repos/{}?Expires=1999999999&Signature={signature}",
            state.network, lfs.sha256
        );
        let mut response = redirect(StatusCode::FOUND, &to);
        set(&mut response, "X-Linked-Etag", &etag);
        set(&mut response, "X-Linked-Size", &file.bytes.len().to_string());
        return response;
    }
    let mut response = if ask.what == What::File {
        let asked = escaped(request.uri().path()).replace('/', "%2F");
        let etag = escaped(&etag);
        redirect(
            StatusCode::TEMPORARY_REDIRECT,
            &format!(
                "/api/resolve-cache/models/{}/{commit}/{}?{asked}=&etag={etag}",
                ask.id,
                escaped(&ask.path)
            ),
        )
    } else {
        content(&file.bytes, request.headers())
    };
    set(&mut response, "ETag", &etag);
    response
}

fn redirect(status: StatusCode, to: &str) -> Response {
    let mut response = Response::new(Body::from(format!("Redirecting to {to}")));
    *response.status_mut() = status;
    set(&mut response, "Location", to);
    response
}
