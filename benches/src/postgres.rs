//! One PostgreSQL on the same disk: an audit table, single inserts at 64 clients, and COPY of a thousand rows, synchronous commit on.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::SinkExt as _;
use tokio_postgres::{Client, Config, NoTls};

use crate::{
    etcd::free_ports,
    events::Template,
    latency::{Row, Tally},
    load::{Bench, Span},
};

const TABLE: &str = "create table audit (id bigserial primary key, at timestamptz not null default now(), session text not null, event bytea not null); \
                     create index on audit (session, id)";

/// The server and its directory; both go with it.
struct Postgres {
    child: Child,
    port: u16,
    directory: PathBuf,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown: its children go with it.
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let server = Postgres::start(bench.data()).await?;
    server.connect().await?.batch_execute(TABLE).await?;
    let mut inserts = server.load(bench, 64, Work::Insert).await?.row(1, 1, 64, bench.over);
    "one insert per event".clone_into(&mut inserts.note);
    let mut copies = server.load(bench, 4, Work::Copy).await?.row(1, 1000, 4, bench.over);
    "COPY of 1000 rows".clone_into(&mut copies.note);
    Ok(vec![inserts, copies])
}

#[derive(Clone, Copy)]
enum Work {
    Insert,
    Copy,
}

impl Postgres {
    /// PostgreSQL refuses to run as root, so it runs as the user that Debian made for it, in a directory that is its own.
    async fn start(data: &Path) -> Result<Self> {
        let bin = fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed; `make bench` installs it")?;
        let bin = bin.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).max().context("no PostgreSQL version")?;
        let directory = data.join(format!("postgres-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        for above in directory.ancestors().skip(1).take_while(|above| above.starts_with(data)) {
            let mode = fs::metadata(above)?.permissions().mode();
            fs::set_permissions(above, fs::Permissions::from_mode(mode | 0o111))?;
        }
        ensure!(Command::new("chown").arg("postgres").arg(&directory).status()?.success(), "chown failed");
        let database = directory.join("db");
        let made = as_postgres(&bin.join("initdb"))
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&database)
            .current_dir("/")
            .output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = *free_ports(1)?.first().context("no free port")?;
        let child = as_postgres(&bin.join("postgres"))
            .arg("-D")
            .arg(&database)
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
                "-c",
                "synchronous_commit=on",
            ])
            .args(["-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB", "-c", "max_connections=100"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { child, port, directory };
        server.ready().await?;
        Ok(server)
    }

    async fn ready(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if self.connect().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("PostgreSQL was not ready after 30 s")
    }

    async fn connect(&self) -> Result<Client> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("postgres").dbname("postgres");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn load(&self, bench: &Bench, clients: usize, work: Work) -> Result<Tally> {
        let mut connected = Vec::new();
        for _ in 0..clients {
            connected.push(self.connect().await?);
        }
        let span = bench.span();
        let loads: Vec<_> =
            connected.into_iter().enumerate().map(|(number, client)| tokio::spawn(write(client, number, span, work))).collect();
        let mut total = Tally::new();
        for load in loads {
            total.merge(&load.await??);
        }
        Ok(total)
    }
}

fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

async fn write(client: Client, number: usize, span: Span, work: Work) -> Result<Tally> {
    let session = format!("session-{number:03}-0");
    let template = Template::new(&session);
    let insert = client.prepare("insert into audit (session, event) values ($1, $2)").await?;
    let mut tally = Tally::new();
    for count in 0_u128.. {
        let base = (number as u128) << 64 | count << 16;
        let sent = Instant::now();
        let events = match work {
            Work::Insert => {
                client.execute(&insert, &[&session, &template.event(base).as_ref()]).await?;
                1
            }
            Work::Copy => copy(&client, &session, &template, base).await?,
        };
        let now = Instant::now();
        if now >= span.to {
            break;
        }
        if now >= span.from {
            tally.add(now - sent, events);
        }
    }
    Ok(tally)
}

async fn copy(client: &Client, session: &str, template: &Template, base: u128) -> Result<u64> {
    let mut text = String::with_capacity(1000 * (template.len() * 2 + 32));
    for n in 0..1000 {
        text.push_str(session);
        text.push_str("\t\\\\x");
        text.push_str(&hex::encode(template.event(base + n)));
        text.push('\n');
    }
    let sink = client.copy_in("copy audit (session, event) from stdin").await?;
    let mut sink = std::pin::pin!(sink);
    sink.send(prost::bytes::Bytes::from(text)).await?;
    Ok(sink.finish().await?)
}
