//! The log as C2SP tlog-tiles over HTTP: checkpoint and hash tiles for anybody, entry bundles for auditors.
//!
//! Strangers read here, so few reads run at once, and a tile that is not full is not hashed anew for each of them.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use axum::{
    Extension, Router,
    body::Body,
    extract::{FromRef, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use proofline_ledger::{EntryIndex, LogTree, StoreFault, Table, TreeSize, listing};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::{
    access::{Caller, Denied, Rpc, Scope, check_role},
    clock::ClockVerdict,
    outlets,
    rpc::Api,
    store::StateDb,
};

/// Hashes in a full tile, entries in a full bundle.
const WIDTH: u64 = 256;
const TILE_HASHES: usize = 256;
const HASH_BYTES: usize = 32;
/// Full tiles never change.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const SECONDS: &str = "public, max-age=1";
/// A key that is new is asked for again when a token names it.
const MINUTES: &str = "public, max-age=60";
const PRIVATE: &str = "private, max-age=3600";
/// Reads of the store that run at once for this listener.
const READS_MAX: usize = 8;
/// How long a request waits for one of them to end.
const READ_WITHIN: Duration = Duration::from_millis(250);
/// When to come again, in seconds.
const AGAIN_S: &str = "1";

/// The one tile at level 0 that is not full, as far as it was read last. Its hashes never change, they only become more.
#[derive(Debug)]
struct Edge {
    number: u64,
    bytes: Vec<u8>,
}

/// What all requests of this listener share.
#[derive(Clone, Debug)]
struct Shared {
    reads: Arc<Semaphore>,
    edge: Arc<ArcSwapOption<Edge>>,
}

impl Shared {
    fn new(reads: usize) -> Self {
        Self { reads: Arc::new(Semaphore::new(reads)), edge: Arc::default() }
    }

    /// Waits a moment for the right to read.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Response> {
        let turn = tokio::time::timeout(READ_WITHIN, Arc::clone(&self.reads).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, AGAIN_S)], "too many reads are under way\n").into_response()
        })
    }

    /// Returns a tile at the edge, when it was read before at this width or at a greater one.
    fn known(&self, level: u8, name: TileName) -> Option<Vec<u8>> {
        let edge = self.edge.load();
        let edge = edge.as_deref().filter(|edge| level == 0 && edge.number == name.number)?;
        edge.bytes.get(..name.bytes()).map(<[u8]>::to_vec)
    }

    fn remember(&self, level: u8, number: u64, bytes: &[u8]) {
        let newest = self.edge.load().as_deref().map_or(0, |edge| edge.number);
        if level == 0 && number >= newest && !bytes.is_empty() && bytes.len() < HASH_BYTES * TILE_HASHES {
            self.edge.store(Some(Arc::new(Edge { number, bytes: bytes.to_vec() })));
        }
    }
}

#[derive(Clone)]
struct Tiles {
    api: Api,
    shared: Shared,
}

impl FromRef<Tiles> for Api {
    fn from_ref(tiles: &Tiles) -> Self {
        tiles.api.clone()
    }
}

/// Makes the routes of the tile listener. `Option<Caller>` comes from the listener: nobody without a client certificate.
pub fn routes(api: Api) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/entries/{*path}", get(bundle))
        .route("/tile/{level}/{*path}", get(tile))
        .route("/metrics", get(metrics))
        .route("/.well-known/ssf-configuration", get(transmitter))
        .route("/jwks.json", get(key_set))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Tiles { api, shared: Shared::new(READS_MAX) })
}

async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], api.metrics_text()).into_response()
}

async fn transmitter(State(api): State<Api>) -> Response {
    match outlets::transmitter(&api.outlets) {
        Some(text) => ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, MINUTES)], text).into_response(),
        None => (StatusCode::NOT_FOUND, "this node is configured as no issuer\n").into_response(),
    }
}

async fn key_set(State(tiles): State<Tiles>) -> Response {
    let turn = match tiles.shared.turn().await {
        Ok(turn) => turn,
        Err(busy) => return busy,
    };
    let settings = Arc::clone(&tiles.api.outlets);
    let read = tokio::task::spawn_blocking(move || {
        let set = outlets::key_set(&settings);
        drop(turn);
        set
    });
    match read.await {
        Ok(Some(set)) => ([(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, MINUTES)], set).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "this node has no outlet keys\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
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

    /// Length of the hash tile in bytes.
    fn bytes(self) -> usize {
        usize::try_from(self.width).unwrap_or(TILE_HASHES) * HASH_BYTES
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

async fn tile(State(tiles): State<Tiles>, Path((level, path)): Path<(String, String)>) -> Response {
    let level: Option<u8> = level.parse().ok().filter(|it: &u8| *it < 64 && it.to_string() == level);
    let (Some(level), Some(name)) = (level, TileName::parse(&path)) else { return not_a_tile() };
    let Tiles { api, shared } = tiles;
    if let Some(known) = shared.known(level, name) {
        return serve(Ok(Some(known)), IMMUTABLE);
    }
    let turn = match shared.turn().await {
        Ok(turn) => turn,
        Err(busy) => return busy,
    };
    let read = api.read_published(move |state, size| {
        let bytes: Vec<u8> = LogTree::new(state, size).tile(level, name.number)?.iter().flat_map(|hash| hash.0).collect();
        shared.remember(level, name.number, &bytes);
        // Held by the read and not by the request: a caller that hangs up does not make room for another read.
        drop(turn);
        Ok(bytes.get(..name.bytes()).map(<[u8]>::to_vec))
    });
    serve(read.await, IMMUTABLE)
}

async fn bundle(State(tiles): State<Tiles>, Extension(caller): Extension<Option<Caller>>, Path(path): Path<String>) -> Response {
    let Some(name) = TileName::parse(&path) else { return not_a_tile() };
    let Some(caller) = caller else {
        return (StatusCode::UNAUTHORIZED, "entry bundles need the client certificate of an auditor\n").into_response();
    };
    let Tiles { api, shared } = tiles;
    match check_role(&api.state.view(), &caller, Rpc::EntryBundle, Scope::Everything) {
        Ok(()) => (),
        Err(Denied::Store(fault)) => return failed(&fault.to_string()),
        Err(Denied::LacksRole { .. } | Denied::OtherCollector { .. } | Denied::UnknownCollector(_)) => {
            return (StatusCode::FORBIDDEN, "entry bundles need the auditor role for every tenant\n").into_response();
        }
    }
    let turn = match shared.turn().await {
        Ok(turn) => turn,
        Err(busy) => return busy,
    };
    let read = api.read_published(move |state, size| {
        let framed = read_bundle(state, size, name);
        drop(turn);
        framed
    });
    serve(read.await, PRIVATE)
}

fn read_bundle(state: &StateDb, size: TreeSize, name: TileName) -> Result<Option<Vec<u8>>, StoreFault> {
    let Some(from) = name.number.checked_mul(WIDTH).filter(|from| from + name.width <= size.0) else { return Ok(None) };
    let limit = usize::try_from(name.width).unwrap_or(usize::MAX);
    let entries = listing::entries(state, EntryIndex(from), EntryIndex(from + name.width), limit)?;
    if entries.len() != limit {
        return Err(StoreFault::Damaged { table: Table::Entries, key: from.to_be_bytes().to_vec() });
    }
    let framed = |entry: Vec<u8>| [&u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes()[..], &entry].concat();
    Ok(Some(entries.into_iter().flat_map(framed).collect()))
}

fn serve(read: Result<Option<Vec<u8>>, Status>, cache: &'static str) -> Response {
    match read {
        Ok(Some(bytes)) => {
            let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, cache)];
            (headers, Body::from(bytes)).into_response()
        }
        Ok(None) => (StatusCode::NOT_FOUND, "not covered by the newest published checkpoint\n").into_response(),
        Err(status) => failed(status.message()),
    }
}

/// A read that failed says nothing about what is published: a mirror must not take it for a tile that is not there.
fn failed(reason: &str) -> Response {
    tracing::error!(reason, "a tile could not be read");
    (StatusCode::INTERNAL_SERVER_ERROR, "the store of this node failed\n").into_response()
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

    #[tokio::test]
    async fn more_reads_than_may_run_are_asked_to_come_again() {
        let shared = Shared::new(1);
        let turn = shared.turn().await.unwrap();
        let busy = shared.turn().await.unwrap_err();
        assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(busy.headers()[header::RETRY_AFTER], AGAIN_S);
        drop(turn);
        drop(shared.turn().await.unwrap());
    }

    #[test]
    fn a_store_that_failed_is_no_missing_tile() {
        assert_eq!(serve(Ok(None), IMMUTABLE).status(), StatusCode::NOT_FOUND);
        let response = serve(Err(Status::data_loss("a damaged row")), IMMUTABLE);
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!response.headers().contains_key(header::CACHE_CONTROL));
    }

    #[test]
    fn the_edge_is_known_up_to_the_width_at_which_it_was_read() {
        let shared = Shared::new(1);
        let named = |number, width| TileName { number, width };
        shared.remember(0, 7, &[1; 5 * HASH_BYTES]);
        assert_eq!(shared.known(0, named(7, 5)), Some(vec![1; 5 * HASH_BYTES]));
        assert_eq!(shared.known(0, named(7, 2)), Some(vec![1; 2 * HASH_BYTES]));
        for other in [named(7, 6), named(7, WIDTH), named(6, 5), named(8, 5)] {
            assert_eq!(shared.known(0, other), None, "{other:?}");
        }
        assert_eq!(shared.known(1, named(7, 5)), None);
        // An older tile, and a full one, are rows of their own.
        shared.remember(0, 6, &[2; 5 * HASH_BYTES]);
        shared.remember(0, 8, &[2; TILE_HASHES * HASH_BYTES]);
        // What lies beyond the log is no edge.
        shared.remember(0, 9, &[]);
        assert!(shared.known(0, named(7, 5)).is_some());
    }
}
