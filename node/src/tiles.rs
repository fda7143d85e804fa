//! The log as C2SP tlog-tiles over HTTP: checkpoint and hash tiles for anybody, entry bundles for auditors.

use std::fmt::Write as _;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use proofline_ledger::{EntryIndex, LogTree, listing};

use crate::{
    access::{Caller, Rpc, Scope, check_role},
    clock::ClockVerdict,
    rpc::Api,
};

/// Hashes in a full tile, entries in a full bundle.
const WIDTH: u64 = 256;
/// Full tiles never change.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const SECONDS: &str = "public, max-age=1";
const PRIVATE: &str = "private, max-age=3600";

/// Makes the routes of the tile listener. `Option<Caller>` comes from the listener: nobody without a client certificate.
pub fn routes(api: Api) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/entries/{*path}", get(bundle))
        .route("/tile/{level}/{*path}", get(tile))
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(api)
}

async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], api.metrics_text()).into_response()
}

async fn ready(State(api): State<Api>) -> Response {
    use crate::leadership::Leadership::{Here, Nobody, Other, Rising};
    let leadership = *api.leadership.borrow();
    if api.clock.borrow().now() == ClockVerdict::Disagrees {
        return (StatusCode::SERVICE_UNAVAILABLE, "this node's clock disagrees with the other voters'\n").into_response();
    }
    match (leadership, api.has_begun()) {
        (Here | Other(_), true) => (StatusCode::OK, "ready\n").into_response(),
        (Here | Other(_), false) => (StatusCode::SERVICE_UNAVAILABLE, "the ledger has no genesis entry here yet\n").into_response(),
        (Nobody | Rising, _) => (StatusCode::SERVICE_UNAVAILABLE, "no leader is known\n").into_response(),
    }
}

async fn checkpoint(State(api): State<Api>) -> Response {
    let note = api.published.borrow().as_ref().map(|published| published.note.clone());
    match note {
        Some(note) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, SECONDS)], note).into_response(),
        None => (StatusCode::NOT_FOUND, "no checkpoint is published yet\n").into_response(),
    }
}

/// Number and width of a tile, as its path says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TileName {
    number: u64,
    width: u64,
}

impl TileName {
    /// Parses `x001/x234/067` or `x001/x234/067.p/112`: one form for each tile.
    fn parse(path: &str) -> Option<Self> {
        let (number, width) = match path.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|it: &u64| (1..WIDTH).contains(it) && it.to_string() == width)?),
            None => (path, WIDTH),
        };
        let mut value: u64 = 0;
        let mut groups = number.split('/').peekable();
        while let Some(group) = groups.next() {
            let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
            if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            value = value.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        let name = Self { number: value, width };
        (name.number_path() == number).then_some(name)
    }

    fn number_path(self) -> String {
        let mut groups = vec![self.number % 1000];
        let mut rest = self.number / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        let mut path = String::new();
        for (place, group) in groups.iter().enumerate().rev() {
            let prefix = if place > 0 { "x" } else { "" };
            let slash = if place > 0 { "/" } else { "" };
            let _ = write!(path, "{prefix}{group:03}{slash}");
        }
        path
    }
}

async fn tile(State(api): State<Api>, Path((level, path)): Path<(String, String)>) -> Response {
    let level: Option<u8> = level.parse().ok().filter(|it: &u8| *it < 64 && it.to_string() == level);
    let (Some(level), Some(name)) = (level, TileName::parse(&path)) else { return not_a_tile() };
    let read = api.read_published(move |state, size| {
        let mut tree = LogTree::new(state, size);
        let hashes = tree.tile(level, name.number)?;
        let wanted = usize::try_from(name.width).unwrap_or(usize::MAX);
        Ok(hashes.get(..wanted).map(|hashes| hashes.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>()))
    });
    serve(read.await, IMMUTABLE)
}

async fn bundle(State(api): State<Api>, Extension(caller): Extension<Option<Caller>>, Path(path): Path<String>) -> Response {
    let Some(name) = TileName::parse(&path) else { return not_a_tile() };
    let Some(caller) = caller else {
        return (StatusCode::UNAUTHORIZED, "entry bundles need the client certificate of an auditor\n").into_response();
    };
    if check_role(&api.state.view(), &caller, Rpc::EntryBundle, Scope::Everything).is_err() {
        return (StatusCode::FORBIDDEN, "entry bundles need the auditor role for every tenant\n").into_response();
    }
    let read = api.read_published(move |state, size| {
        let Some(from) = name.number.checked_mul(WIDTH).filter(|from| from + name.width <= size.0) else { return Ok(None) };
        let limit = usize::try_from(name.width).unwrap_or(usize::MAX);
        let entries = listing::entries(state, EntryIndex(from), EntryIndex(from + name.width), limit)?;
        let framed = |entry: Vec<u8>| [&u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes()[..], &entry].concat();
        Ok(Some(entries.into_iter().flat_map(framed).collect()))
    });
    serve(read.await, PRIVATE)
}

fn serve(read: Option<Vec<u8>>, cache: &'static str) -> Response {
    match read {
        Some(bytes) => {
            let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, cache)];
            (headers, Body::from(bytes)).into_response()
        }
        None => (StatusCode::NOT_FOUND, "not covered by the newest published checkpoint\n").into_response(),
    }
}

fn not_a_tile() -> Response {
    (StatusCode::BAD_REQUEST, "not the path of a tile\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_has_one_name() {
        let full = |number| Some(TileName { number, width: WIDTH });
        assert_eq!(TileName::parse("000"), full(0));
        assert_eq!(TileName::parse("x001/x234/067"), full(1_234_067));
        assert_eq!(TileName::parse("x001/000"), full(1_000));
        assert_eq!(TileName::parse("067.p/112"), Some(TileName { number: 67, width: 112 }));
        for other in ["", "0", "0000", "x000/067", "1/067", "x001/x067", "067.p/0", "067.p/256", "067.p/01", "067.p/", "-01", "+01"] {
            assert_eq!(TileName::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn names_come_back() {
        for number in [0, 1, 999, 1_000, 999_999, 1_000_000, 1_234_067] {
            let name = TileName { number, width: WIDTH };
            assert_eq!(TileName::parse(&name.number_path()), Some(name));
        }
    }
}
