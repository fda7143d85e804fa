//! A three-node etcd on the same disk: one put per event, at several concurrencies.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use proofline_client::Gathering;
use prost::Message;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::{
    events::Template,
    latency::{Row, Tally},
    load::{Bench, Span},
};

/// Three processes and their directory; both go with it.
struct Etcd {
    children: Vec<Child>,
    clients: Vec<u16>,
    _directory: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Already gone is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The part of etcd's `PutRequest` that is used.
#[derive(Clone, PartialEq, Message)]
struct Put {
    #[prost(bytes = "bytes", tag = "1")]
    key: prost::bytes::Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: prost::bytes::Bytes,
}

/// etcd's answer; nothing of it is used.
#[derive(Clone, PartialEq, Message)]
struct PutAnswer {}

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let etcd = Etcd::start(bench).await?;
    let mut rows = Vec::new();
    for in_flight in [1, 16, 64, 256] {
        let span = bench.span();
        let channel = etcd.channel(0)?;
        let loads: Vec<_> = (0..in_flight).map(|number| tokio::spawn(puts(channel.clone(), number, span))).collect();
        let mut total = Tally::new();
        for load in loads {
            total.merge(&load.await??);
        }
        rows.push(total.row(3, 1, in_flight, bench.over));
    }
    Ok(rows)
}

async fn puts(channel: Channel, number: usize, span: Span) -> Result<Tally> {
    let template = Template::new(&format!("session-{number:03}-0"));
    let mut client = tonic::client::Grpc::new(channel);
    let mut tally = Tally::new();
    for count in 0_u128.. {
        let value = template.event((number as u128) << 64 | count);
        let key = format!("event/{number:03}/{count:012}").into_bytes().into();
        let sent = Instant::now();
        client.ready().await.context("etcd is not ready")?;
        let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let codec = tonic_prost::ProstCodec::<Put, PutAnswer>::default();
        client.unary(tonic::Request::new(Put { key, value }), path, codec).await?;
        let now = Instant::now();
        if now >= span.to {
            break;
        }
        if now >= span.from {
            tally.add(now - sent, 1);
        }
    }
    Ok(tally)
}

impl Etcd {
    async fn start(bench: &Bench) -> Result<Self> {
        let directory = tempfile::tempdir_in(bench.data())?;
        let ports = free_ports(6)?;
        let (clients, peers) = ports.split_at(3);
        let members: Vec<String> = peers.iter().enumerate().map(|(n, port)| format!("n{n}=http://127.0.0.1:{port}")).collect();
        let mut etcd = Self { children: Vec::new(), clients: clients.to_vec(), _directory: directory };
        for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
            let data = etcd._directory.path().join(format!("n{number}"));
            let child = Command::new("etcd")
                .args(["--name", &format!("n{number}"), "--initial-cluster", &members.join(","), "--initial-cluster-state", "new"])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--quota-backend-bytes", "8000000000", "--log-level", "error"])
                .arg("--data-dir")
                .arg(data)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("cannot start etcd; `make setup` of the bench installs it")?;
            etcd.children.push(child);
        }
        etcd.ready().await?;
        Ok(etcd)
    }

    fn channel(&self, node: usize) -> Result<Channel> {
        let port = *self.clients.get(node).context("no such etcd node")?;
        // As Proofline's own client connects: small calls that are made together leave together.
        let connect = tower::service_fn(move |_| async move {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            stream.set_nodelay(true)?;
            std::io::Result::Ok(TokioIo::new(Gathering(stream)))
        });
        Ok(Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.connect_with_connector_lazy(connect))
    }

    /// Waits until a put goes through.
    async fn ready(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let mut client = tonic::client::Grpc::new(self.channel(0)?);
            let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Put");
            let codec = tonic_prost::ProstCodec::<Put, PutAnswer>::default();
            let put = Put { key: "ready".into(), value: "yes".into() };
            if client.ready().await.is_ok() && client.unary(tonic::Request::new(put), path, codec).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("etcd was not ready after 30 s")
    }
}

pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
