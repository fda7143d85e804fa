use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Extension, Router};
use futures::{Stream, StreamExt as _};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::idle::IdleLimit;
use crate::{access::Caller, tls::Connection};

/// What one listener that is open to strangers lends to them.
#[derive(Clone, Copy, Debug)]
pub(super) struct HttpLimits {
    /// Connections at once; whoever comes beyond is closed on.
    pub(super) connections: usize,
    /// Time for a whole request head, and the pause between two requests over HTTP/1.
    pub(super) head_within: Duration,
    /// Longest time in which nothing moves.
    pub(super) idle: Duration,
    /// Longest life of a connection; what is under way then may finish.
    pub(super) age: Duration,
}

/// Calls that one connection may have under way.
const STREAMS_MAX: u32 = 32;
/// Longest request head.
const HEAD_BYTES_MAX: u32 = 16 << 10;

/// Serves `routes` over HTTP/1 and HTTP/2 until shutdown. Requests carry `Option<Caller>` among their extensions.
pub(super) async fn serve(
    connections: impl Stream<Item = Result<Connection, Infallible>>,
    routes: Router,
    limits: HttpLimits,
    shutdown: CancellationToken,
) {
    let mut connections = std::pin::pin!(connections);
    let (open, room) = (TaskTracker::new(), Arc::new(Semaphore::new(limits.connections)));
    loop {
        let connection = tokio::select! {
            () = shutdown.cancelled() => break,
            connection = connections.next() => connection,
        };
        let Some(Ok(connection)) = connection else { break };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::debug!(address = %connection.caller().address, "too many connections are open; a caller was closed on");
            continue;
        };
        let (routes, shutdown) = (routes.clone(), shutdown.clone());
        open.spawn(async move {
            serve_one(connection, routes, limits, shutdown).await;
            drop(place);
        });
    }
    open.close();
    open.wait().await;
}

async fn serve_one(connection: Connection, routes: Router, limits: HttpLimits, shutdown: CancellationToken) {
    let caller: Option<Caller> = Caller::of(connection.caller());
    let service = TowerToHyperService::new(routes.layer(Extension(caller)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head_within).max_buf_size(HEAD_BYTES_MAX as usize);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEAD_BYTES_MAX);
    let stream = TokioIo::new(IdleLimit::new(connection, limits.idle));
    let mut serving = std::pin::pin!(builder.serve_connection(stream, service));
    tokio::select! {
        served = serving.as_mut() => return drop(served),
        () = shutdown.cancelled() => (),
        () = sleep(limits.age) => (),
    }
    serving.as_mut().graceful_shutdown();
    drop(tokio::time::timeout(limits.idle, serving).await);
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::tls::{Security, incoming};

    const LONG: Duration = Duration::from_secs(60);
    const PATIENT: HttpLimits = HttpLimits { connections: 2, head_within: LONG, idle: LONG, age: LONG };

    async fn serving(limits: HttpLimits) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let routes = Router::new().route("/", get(|| async { "here\n" }));
        let connections = incoming(socket, Security::Plaintext, crate::tls::Room::of(64)).unwrap();
        tokio::spawn(serve(connections, routes, limits, CancellationToken::new()));
        address
    }

    /// What the other end says until it closes.
    async fn rest(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.expect("closed in time");
        String::from_utf8(bytes).unwrap()
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Whoever is closed on may find that out while writing.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        rest(stream).await
    }

    async fn held(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        stream
    }

    #[tokio::test]
    async fn whoever_comes_beyond_the_limit_is_closed_on_until_there_is_room() {
        let address = serving(PATIENT).await;
        let (first, _second) = (held(address).await, held(address).await);
        assert_eq!(ask(address).await, "");
        drop(first);
        while ask(address).await.is_empty() {}
    }

    #[tokio::test]
    async fn a_request_head_that_does_not_end_costs_its_connection() {
        let address = serving(HttpLimits { head_within: Duration::from_millis(50), ..PATIENT }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nA-Header-That-Never-").await.unwrap();
        assert!(!rest(stream).await.contains("here"));
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed() {
        let address = serving(HttpLimits { idle: Duration::from_millis(50), ..PATIENT }).await;
        assert_eq!(rest(TcpStream::connect(address).await.unwrap()).await, "");
    }

    #[tokio::test]
    async fn a_connection_is_closed_when_it_is_old() {
        let address = serving(HttpLimits { age: Duration::from_millis(50), ..PATIENT }).await;
        assert!(rest(held(address).await).await.contains("here"));
    }
}
