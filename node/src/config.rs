//! What a node is told: typed on the command line, meant in the configuration.
//!
//! Flags win over the environment, the environment over the file. Unknown keys in the file are errors. Secrets come by path.

use std::{
    fs, io,
    net::SocketAddr,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use ed25519_dalek::{SigningKey, pkcs8::DecodePrivateKey as _};
use proofline_ledger::{Endpoint, Refusal, check_genesis};
use proofline_proto::v1::Genesis;
use prost::Message as _;
use serde::Deserialize;
use thiserror::Error;

use crate::{
    outlets::{OutletSettings, Plaintext},
    payloads::Reserve,
    replica::{ElectionSlice, SnapshotEntries},
    tls::TlsFiles,
    witnesses::{Witness, WitnessEntry, WitnessError},
};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "proofline-node",
    version,
    about = "One node of a Proofline ledger",
    after_help = "Example:\n  proofline-node init --config node-1.toml --bootstrap   # once, on each node of a new cluster\n  proofline-node run  --config node-1.toml\n\nExit codes: 0 stopped, 1 failed, 2 usage, 10 storage damaged, 11 storage regressed, 12 data directory of another\nnode or cluster, 13 disk failed, 14 diverged, 15 and 16 untrue state commitment. docs/OPERATIONS.md says what to do about each."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prepare an empty data directory, once in the life of a node
    Init {
        /// Which node.
        #[command(flatten)]
        source: Source,
        /// Begin a new cluster with the members in the configuration, instead of waiting to be added to one.
        #[arg(long)]
        bootstrap: bool,
    },
    /// Serve until SIGTERM or SIGINT
    Run {
        /// Which node.
        #[command(flatten)]
        source: Source,
    },
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct Source {
    /// Configuration file (TOML)
    #[arg(long, env = "PROOFLINE_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Data directory, instead of the one in the file
    #[arg(long, env = "PROOFLINE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Directory of the keys that sign for outlets, instead of the one in the file
    #[arg(long, env = "PROOFLINE_OUTLET_KEYS", value_name = "DIR")]
    pub outlet_keys: Option<PathBuf>,
    /// Serve without TLS. Only on loopback addresses, for development: every caller holds every role.
    #[arg(long)]
    pub insecure_loopback: bool,
}

/// The configuration file. Paths are relative to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    node_id: u64,
    data_dir: PathBuf,
    genesis: PathBuf,
    log_key: PathBuf,
    node_key: PathBuf,
    peer_listen: SocketAddr,
    client_listen: SocketAddr,
    tiles_listen: SocketAddr,
    #[serde(default)]
    peer_tls: Option<TlsPaths>,
    #[serde(default)]
    client_tls: Option<TlsPaths>,
    #[serde(default)]
    outlets: OutletEntry,
    commitment_interval_ms: Option<u64>,
    #[serde(default)]
    witnesses: Vec<WitnessEntry>,
    snapshot_entries: Option<u64>,
    payload_reserve_mib: Option<u32>,
    client_connections_max: Option<u64>,
    members: Vec<MemberEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsPaths {
    certificate: PathBuf,
    key: PathBuf,
    roots: PathBuf,
}

/// Where containment is told of. Everything has a default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutletEntry {
    keys: Option<PathBuf>,
    issuer: Option<String>,
    roots: Option<PathBuf>,
    retry_first_ms: Option<u64>,
    give_up_after_s: Option<u64>,
    timeout_ms: Option<u64>,
}

/// A member of a new cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberEntry {
    /// Raft id.
    pub node_id: u64,
    /// Name, as in its certificate.
    pub name: String,
    /// `host:port` for the other nodes.
    pub peer_address: String,
    /// `host:port` for clients.
    pub client_address: String,
}

/// What a node is meant to be.
pub struct Config {
    /// Raft id.
    pub node_id: u64,
    /// Where its data lies.
    pub data_dir: PathBuf,
    /// The first entry of the ledger.
    pub genesis: Genesis,
    /// Signs checkpoints; the same on every voter.
    pub log_key: SigningKey,
    /// Cosigns; this node's own.
    pub node_key: SigningKey,
    /// Where the other nodes connect.
    pub peer_listen: SocketAddr,
    /// Where clients connect.
    pub client_listen: SocketAddr,
    /// Where tiles and metrics are served.
    pub tiles_listen: SocketAddr,
    /// How listeners and connections are secured.
    pub security: Secured,
    /// Keys of outlets, and how patient to be with them.
    pub outlets: OutletSettings,
    /// How often a leader commits to the state while entries with keys come.
    pub commitment_interval: Duration,
    /// Who outside is asked to cosign.
    pub witnesses: Vec<Witness>,
    /// How long the Raft log grows before a snapshot is made.
    pub snapshot_entries: SnapshotEntries,
    /// What payloads leave of the disk to the log.
    pub payload_reserve: Reserve,
    /// Connections of clients at once.
    pub client_connections: usize,
    /// Members of a new cluster.
    pub members: Vec<MemberEntry>,
}

/// How a node is secured.
#[derive(Debug)]
pub enum Secured {
    /// Not at all; loopback only.
    Loopback,
    /// By certificates under two separate roots.
    Mutual {
        /// Between nodes.
        peers: TlsFiles,
        /// For clients.
        clients: TlsFiles,
    },
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The configuration is not valid TOML, or has unknown or missing keys.
    #[error("{path}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// A key file holds no Ed25519 key in PKCS#8 PEM.
    #[error("{path} holds no Ed25519 private key (PKCS#8 PEM); `proofline keys generate` makes one")]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The genesis file is none.
    #[error("{path} is no genesis file")]
    Genesis {
        /// The file.
        path: PathBuf,
    },
    /// No ledger begins with the genesis.
    #[error("{path}: {refusal}")]
    GenesisRefused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        refusal: Box<Refusal>,
    },
    /// TLS is neither configured nor turned off.
    #[error("peer_tls and client_tls are missing; add them, or start with --insecure-loopback for development on this machine")]
    NoTls,
    /// The issuer is no URL that receivers could look up.
    #[error("the issuer of outlets must be an https URL without a path or a query: {0:?}")]
    Issuer(String),
    /// A time is zero or too long.
    #[error("outlets.{0} is zero or too long")]
    OutletTime(&'static str),
    /// Commitments would come without a pause, or hardly ever.
    #[error("commitment_interval_ms is less than 100 or more than 60000")]
    CommitmentInterval,
    /// A witness cannot be asked.
    #[error("witnesses: {0}")]
    Witness(#[from] WitnessError),
    /// Snapshots would come without a pause, or hardly ever.
    #[error("snapshot_entries is less than 100 or more than 1000000")]
    SnapshotEntries,
    /// Hardly anybody could connect, or a node would be lost under its connections.
    #[error("client_connections_max is less than 16 or more than 65536")]
    ClientConnections,
    /// A key does not stand in the genesis under that name.
    #[error("the {which} key is not the one in the genesis")]
    ForeignKey {
        /// Which one.
        which: &'static str,
    },
}

impl Config {
    /// Returns when this node stands for election.
    #[must_use]
    pub fn election_slice(&self) -> ElectionSlice {
        let nodes = NonZeroU64::new(self.members.len() as u64).unwrap_or(NonZeroU64::MIN);
        ElectionSlice { place: self.node_id.saturating_sub(1), nodes }
    }

    /// Reads the configuration that `source` names.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(source: &Source) -> Result<Self, ConfigError> {
        let text = String::from_utf8_lossy(&read(&source.config)?).into_owned();
        let syntax = |error: toml::de::Error| ConfigError::Syntax { path: source.config.clone(), reason: error.to_string() };
        let file: File = toml::from_str(&text).map_err(syntax)?;
        let base = source.config.parent().unwrap_or(Path::new("."));
        let genesis_path = base.join(&file.genesis);
        let genesis = Genesis::decode(&read(&genesis_path)?[..]).map_err(|_| ConfigError::Genesis { path: genesis_path.clone() })?;
        check_genesis(&genesis).map_err(|refusal| ConfigError::GenesisRefused { path: genesis_path, refusal: Box::new(refusal) })?;
        let config = Self {
            node_id: file.node_id,
            data_dir: source.data_dir.clone().unwrap_or_else(|| base.join(&file.data_dir)),
            log_key: signing_key(&base.join(&file.log_key))?,
            node_key: signing_key(&base.join(&file.node_key))?,
            genesis,
            peer_listen: file.peer_listen,
            client_listen: file.client_listen,
            tiles_listen: file.tiles_listen,
            security: secured(source, base, file.peer_tls, file.client_tls)?,
            outlets: outlets(source, base, file.outlets)?,
            commitment_interval: commitment_interval(file.commitment_interval_ms)?,
            witnesses: Witness::of(&file.witnesses, plaintext(source))?,
            snapshot_entries: snapshot_entries(file.snapshot_entries)?,
            payload_reserve: file.payload_reserve_mib.map_or(Reserve::Usual, |mib| Reserve::Bytes(u64::from(mib) << 20)),
            client_connections: client_connections(file.client_connections_max)?,
            members: file.members,
        };
        config.check_keys()?;
        Ok(config)
    }

    /// A node with another log key would publish what nobody can verify. Its own key may have been registered later.
    fn check_keys(&self) -> Result<(), ConfigError> {
        if self.genesis.log_public_key != self.log_key.verifying_key().as_bytes() {
            return Err(ConfigError::ForeignKey { which: "log" });
        }
        let registered = self.genesis.nodes.iter().find(|node| node.node_id == self.node_id);
        if registered.is_some_and(|node| node.public_key != self.node_key.verifying_key().as_bytes()) {
            return Err(ConfigError::ForeignKey { which: "node" });
        }
        Ok(())
    }
}

/// A leader's pause between two state commitments.
fn commitment_interval(milliseconds: Option<u64>) -> Result<Duration, ConfigError> {
    match milliseconds.unwrap_or(1_000) {
        allowed @ 100..=60_000 => Ok(Duration::from_millis(allowed)),
        _ => Err(ConfigError::CommitmentInterval),
    }
}

fn snapshot_entries(given: Option<u64>) -> Result<SnapshotEntries, ConfigError> {
    given.map_or(Some(SnapshotEntries::USUAL), SnapshotEntries::new).ok_or(ConfigError::SnapshotEntries)
}

/// How many connections clients may have at once, when the configuration does not say: about 64 MiB of memory.
const CLIENT_CONNECTIONS: u64 = 2_048;

fn client_connections(given: Option<u64>) -> Result<usize, ConfigError> {
    let given = Some(given.unwrap_or(CLIENT_CONNECTIONS)).filter(|given| (16..=65_536).contains(given));
    given.and_then(|given| usize::try_from(given).ok()).ok_or(ConfigError::ClientConnections)
}

fn secured(source: &Source, base: &Path, peers: Option<TlsPaths>, clients: Option<TlsPaths>) -> Result<Secured, ConfigError> {
    let files = |of: TlsPaths| TlsFiles { certificate: base.join(of.certificate), key: base.join(of.key), roots: base.join(of.roots) };
    match (source.insecure_loopback, peers, clients) {
        (true, _, _) => Ok(Secured::Loopback),
        (false, Some(peers), Some(clients)) => Ok(Secured::Mutual { peers: files(peers), clients: files(clients) }),
        (false, _, _) => Err(ConfigError::NoTls),
    }
}

const fn plaintext(source: &Source) -> Plaintext {
    if source.insecure_loopback { Plaintext::Loopback } else { Plaintext::Refused }
}

const MILLISECOND: Duration = Duration::from_millis(1);

fn outlets(source: &Source, base: &Path, of: OutletEntry) -> Result<OutletSettings, ConfigError> {
    let is_issuer = |url: &String| Endpoint::parse(url).is_some_and(|url| matches!(url.path, "" | "/"));
    if let Some(issuer) = of.issuer.as_ref().filter(|issuer| !is_issuer(issuer)) {
        return Err(ConfigError::Issuer(issuer.clone()));
    }
    let time = |name, given: Option<u64>, unit: Duration, default: Duration, max: Duration| {
        let time = given.map_or(Some(default), |given| unit.checked_mul(u32::try_from(given).ok()?));
        time.filter(|time| !time.is_zero() && *time <= max).ok_or(ConfigError::OutletTime(name))
    };
    Ok(OutletSettings {
        keys: source.outlet_keys.clone().or_else(|| of.keys.map(|keys| base.join(keys))),
        issuer: of.issuer,
        roots: of.roots.map(|roots| base.join(roots)),
        retry_first: time("retry_first_ms", of.retry_first_ms, MILLISECOND, 5_000 * MILLISECOND, 60_000 * MILLISECOND)?,
        give_up_after: time(
            "give_up_after_s",
            of.give_up_after_s,
            1_000 * MILLISECOND,
            Duration::from_hours(72),
            Duration::from_hours(720),
        )?,
        timeout: time("timeout_ms", of.timeout_ms, MILLISECOND, 10_000 * MILLISECOND, 60_000 * MILLISECOND)?,
        plaintext: plaintext(source),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })
}

fn signing_key(path: &Path) -> Result<SigningKey, ConfigError> {
    let pem = zeroize::Zeroizing::new(String::from_utf8_lossy(&read(path)?).into_owned());
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| ConfigError::Key { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<OutletSettings, ConfigError> {
        let source = Source { config: "node.toml".into(), data_dir: None, outlet_keys: None, insecure_loopback: false };
        outlets(&source, Path::new("/etc/proofline"), toml::from_str(text).unwrap())
    }

    #[test]
    fn outlets_have_defaults_and_paths_beside_the_file() {
        let settings = of("").unwrap();
        assert_eq!((settings.keys, settings.issuer, settings.plaintext), (None, None, Plaintext::Refused));
        assert_eq!((settings.retry_first, settings.timeout), (Duration::from_secs(5), Duration::from_secs(10)));
        assert_eq!(settings.give_up_after, Duration::from_hours(72));
        let settings = of("keys = 'outlets'\nissuer = 'https://ledger.example/'\nretry_first_ms = 50").unwrap();
        assert_eq!(settings.keys.unwrap(), Path::new("/etc/proofline/outlets"));
        assert_eq!((settings.issuer.as_deref(), settings.retry_first), (Some("https://ledger.example/"), Duration::from_millis(50)));
    }

    #[test]
    fn an_issuer_without_its_own_host_and_times_that_make_no_sense_are_refused() {
        for issuer in ["http://ledger.example", "https://ledger.example/log", "https://ledger.example?x", "ledger.example", ""] {
            assert!(matches!(of(&format!("issuer = '{issuer}'")), Err(ConfigError::Issuer(_))), "{issuer:?}");
        }
        for time in ["retry_first_ms = 0", "retry_first_ms = 60001", "give_up_after_s = 99999999", "timeout_ms = 18446744073709551"] {
            assert!(matches!(of(time), Err(ConfigError::OutletTime(_))), "{time}");
        }
    }

    #[test]
    fn commitments_come_every_second_unless_the_file_says_otherwise_within_reason() {
        assert_eq!(commitment_interval(None).unwrap(), Duration::from_secs(1));
        assert_eq!(commitment_interval(Some(100)).unwrap(), Duration::from_millis(100));
        for wrong in [0, 99, 60_001] {
            assert!(matches!(commitment_interval(Some(wrong)), Err(ConfigError::CommitmentInterval)), "{wrong}");
        }
    }
}
