//! The three listeners: between nodes, for clients, and for tiles and metrics over HTTP.

mod deadline;
mod idle;
mod open_http;
mod unfinished;

use axum::middleware;
use proofline_proto::DESCRIPTORS;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use self::{deadline::answer_within, open_http::HttpLimits, unfinished::Unfinished};
use crate::{
    open_files,
    rpc::Api,
    server::NodeError,
    tiles,
    tls::{Room, Security, incoming},
};

/// Calls that one client connection may have under way.
const STREAMS_PER_CONNECTION: u32 = 256;
/// Longest header list of a request.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// A client that does not answer pings within this is gone.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(20);
/// A connection is closed in order after this, so that a replaced certificate or a revoked one is in force within it.
const CONNECTION_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(3_600);
/// Flow-control window of one call: what a client may send before this node has read it.
const WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of all messages together that have not arrived whole.
const UNFINISHED_BYTES_MAX: usize = 128 << 20;
/// How long a call may take until its answer begins.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);
/// Connections between nodes: each has a few to each other one.
const PEER_CONNECTIONS: usize = 256;
/// Connections at the tiles, with those that have not finished their handshakes.
const TILE_CONNECTIONS: usize = 1_024;
/// What part of the files of the process the connections of each listener may take: together less than three quarters.
const CLIENTS_PART: usize = 2;
const PEERS_PART: usize = 16;
const TILES_PART: usize = 8;
/// Strangers may come to the tiles, so none of them may hold much for long.
const TILE_LIMITS: HttpLimits = HttpLimits {
    connections: 512,
    head_within: std::time::Duration::from_secs(10),
    idle: std::time::Duration::from_secs(30),
    age: std::time::Duration::from_secs(600),
};

/// Serves the public contract, with health and reflection, on at most so many connections.
///
/// # Errors
/// [`NodeError`] when the socket may not be served this way.
pub fn serve_clients(
    socket: TcpListener,
    security: Security,
    api: Api,
    connections: usize,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send, NodeError> {
    let connections = incoming(socket, security, Room::of(open_files::connections(connections, CLIENTS_PART)))?;
    let ((ingest, audit, control), payloads) = (api.public(), api.of_payloads());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(ingest);
    routes = routes.add_service(audit).add_service(control).add_service(payloads).add_service(reflection).add_service(health_service);
    let unfinished = Unfinished::of(UNFINISHED_BYTES_MAX);
    let in_time = middleware::from_fn(move |request, next| answer_within(ANSWER_WITHIN, unfinished.clone().count(request), next));
    let bounded = routes.prepare().into_axum_router().layer(in_time);
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES * 2)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .max_connection_age(CONNECTION_AGE_MAX)
        .add_routes(bounded.into());
    Ok(async move {
        tokio::spawn(report_health(health, api, shutdown.clone()));
        if let Err(error) = server.serve_with_incoming_shutdown(connections, shutdown.cancelled_owned()).await {
            tracing::error!(%error, "the client listener ended");
        }
    })
}

/// A node is healthy while it knows a leader: it can then answer, or pass on, whatever it is asked.
async fn report_health(health: tonic_health::server::HealthReporter, api: Api, shutdown: CancellationToken) {
    use crate::leadership::Leadership::{Here, Nobody, Other, Rising};
    use tonic_health::ServingStatus::{NotServing, Serving};
    let mut leadership = api.leadership.clone();
    loop {
        let status = match *leadership.borrow_and_update() {
            Here | Other(_) => Serving,
            Nobody | Rising => NotServing,
        };
        for service in ["", "proofline.v1.Ingest", "proofline.v1.Control", "proofline.v1.Payloads"] {
            health.set_service_status(service, status).await;
        }
        health.set_service_status("proofline.v1.Audit", Serving).await;
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

/// Serves the contract between nodes.
///
/// # Errors
/// As [`serve_clients`].
pub fn serve_peers(
    socket: TcpListener,
    security: Security,
    api: &Api,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, NodeError> {
    let connections = incoming(socket, security, Room::of(open_files::connections(PEER_CONNECTIONS, PEERS_PART)))?;
    let server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES * 2)
        .initial_connection_window_size(WINDOW_BYTES * 4)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .add_service(api.between_nodes());
    Ok(async move {
        if let Err(error) = server.serve_with_incoming_shutdown(connections, shutdown.cancelled_owned()).await {
            tracing::error!(%error, "the peer listener ended");
        }
    })
}

/// Serves tiles, metrics and liveness.
///
/// # Errors
/// As [`serve_clients`].
pub fn serve_tiles(
    socket: TcpListener,
    security: Security,
    api: Api,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send, NodeError> {
    let connections = incoming(socket, security, Room::of(open_files::connections(TILE_CONNECTIONS, TILES_PART)))?;
    Ok(open_http::serve(connections, tiles::routes(api), TILE_LIMITS, shutdown))
}
