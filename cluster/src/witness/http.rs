use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use tokio::net::TcpListener;

use super::{NotCosigned, Witness};

/// A proof of 63 hashes and a note, with room.
const REQUEST_BYTES_MAX: usize = 64 << 10;
const SIZE: &str = "text/x.tlog.size";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves `add-checkpoint` and the newest checkpoints until the future is dropped. Plain HTTP: for loopback, or behind whatever
/// ends TLS.
///
/// # Errors
/// When the listener fails.
pub async fn serve(witness: Arc<Witness>, listener: TcpListener) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/add-checkpoint", post(add))
        .route("/{origin}/checkpoint", get(newest))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(witness);
    axum::serve(listener, routes).await
}

async fn add(State(witness): State<Arc<Witness>>, request: Bytes) -> Response {
    match witness.add_checkpoint(&request).await {
        Ok(line) => ([(header::CONTENT_TYPE, TEXT)], line).into_response(),
        Err(NotCosigned::Conflict { newest }) => {
            (StatusCode::CONFLICT, [(header::CONTENT_TYPE, SIZE)], format!("{newest}\n")).into_response()
        }
        Err(refused) => (status(&refused), [(header::CONTENT_TYPE, TEXT)], format!("{refused}\n")).into_response(),
    }
}

const fn status(refused: &NotCosigned) -> StatusCode {
    match refused {
        NotCosigned::Malformed(_) => StatusCode::BAD_REQUEST,
        NotCosigned::NotSigned(_) => StatusCode::FORBIDDEN,
        NotCosigned::UnknownLog(_) => StatusCode::NOT_FOUND,
        NotCosigned::Conflict { .. } => StatusCode::CONFLICT,
        NotCosigned::Inconsistent(_) => StatusCode::UNPROCESSABLE_ENTITY,
        NotCosigned::Memory(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn newest(State(witness): State<Arc<Witness>>, Path(origin): Path<String>) -> Response {
    match witness.newest(&origin) {
        Ok(Some(note)) => ([(header::CONTENT_TYPE, TEXT)], note).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "nothing was cosigned for a log with this origin\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
