//! What a development cluster consists of: keys, certificates, genesis, policy, and one configuration for each node.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{self, UnixDatagram},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
use proofline_client::{generate_key, generate_rsa_key, policy_of, write_key, write_pem};
use proofline_proto::v1;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, Validity, write};

/// Name of the log of a development cluster.
pub const ORIGIN: &str = "proofline.local/agents";
/// Trust domain of its certificates.
pub const TRUST_DOMAIN: &str = "proofline.local";
/// The tenant that the demonstration writes for.
pub const TENANT: &str = "acme";

/// Issuer of the security events of a development cluster.
pub const ISSUER: &str = "https://ledger.proofline.local";
/// What payloads leave of the disk: little, for a development cluster is one of many things on its machine.
const RESERVE_MIB: u32 = 64;
/// Where the configuration of a node says something of outlets: its end.
const OUTLETS: &str = "\n[outlets]\n";

/// Kind of a key that signs for outlets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutletKeyKind {
    /// For `RS256`.
    Rsa,
    /// For `EdDSA` and webhooks.
    Ed25519,
}

/// Whether the nodes and their clients use TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Mutual TLS, as in production.
    Mutual,
    /// None: loopback only.
    Off,
}

/// Where one node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedNode {
    /// Raft id.
    pub node_id: u64,
    /// Name, as in its certificate.
    pub name: String,
    /// Where the other nodes reach it.
    pub peer: SocketAddr,
    /// Where clients reach it.
    pub client: SocketAddr,
    /// Where tiles and metrics are.
    pub tiles: SocketAddr,
}

/// A cluster on this machine, as its directory describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The directory; everything below is inside.
    #[serde(skip)]
    pub root: PathBuf,
    /// Whether TLS is used.
    pub tls: Tls,
    /// The nodes.
    pub nodes: Vec<PlannedNode>,
    /// Their ports, where this plan found them.
    #[serde(skip)]
    ports: Vec<Arc<UnixDatagram>>,
}

/// The operators that stand in the genesis of a development cluster, and what they may sign.
pub const OPERATORS: [(&str, v1::OperatorRole); 4] = [
    ("alice", v1::OperatorRole::Registrar),
    ("bob", v1::OperatorRole::Registrar),
    ("rita", v1::OperatorRole::Responder),
    ("sam", v1::OperatorRole::Responder),
];

impl Plan {
    /// Makes a new cluster of `nodes` in an empty directory.
    ///
    /// # Errors
    /// When the directory is not empty or not writable.
    pub fn create(root: &Path, nodes: u64, tls: Tls) -> Result<Self> {
        let (nodes, ports) = plan_nodes(nodes)?;
        Ok(Self { ports, ..Self::create_at(root, nodes, tls)? })
    }

    /// Makes a new cluster of nodes whose addresses are given, in an empty directory.
    ///
    /// # Errors
    /// When the directory is not empty or not writable.
    pub fn create_at(root: &Path, nodes: Vec<PlannedNode>, tls: Tls) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        if fs::read_dir(root)?.next().is_some() {
            bail!("{0} is not empty; `proofline-cluster down --remove --dir {0}` removes a cluster", root.display());
        }
        let plan = Self { root: root.canonicalize()?, tls, nodes, ports: Vec::new() };
        plan.write_keys()?;
        plan.write_certificates()?;
        for node in &plan.nodes {
            plan.write_config(node)?;
        }
        plan.write_profiles()?;
        write(&plan.root.join("cluster.json"), serde_json::to_vec_pretty(&plan)?)?;
        Ok(plan)
    }

    /// Reads the cluster that a directory holds.
    ///
    /// # Errors
    /// When there is none.
    pub fn load(root: &Path) -> Result<Self> {
        let bytes = fs::read(root.join("cluster.json")).with_context(|| format!("{} holds no cluster", root.display()))?;
        let mut plan: Self = serde_json::from_slice(&bytes)?;
        plan.root = root.canonicalize()?;
        Ok(plan)
    }

    /// Returns the configuration file of a node.
    #[must_use]
    pub fn config(&self, node: &PlannedNode) -> PathBuf {
        self.root.join(format!("{}.toml", node.name))
    }

    /// Returns the client profile of an identity: `admin`, `auditor`, or a collector's.
    #[must_use]
    pub fn profile(&self, identity: &str) -> PathBuf {
        self.root.join("clients").join(format!("{identity}.toml"))
    }

    /// Returns the trust policy file.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.root.join("policy.txt")
    }

    /// Returns the key file of an operator.
    #[must_use]
    pub fn operator_key(&self, operator: &str) -> PathBuf {
        self.root.join("keys").join(format!("{operator}.key.pem"))
    }

    /// Adds an identity of a client with a certificate of its own, and returns its profile.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn add_client(&self, identity: &str) -> Result<PathBuf> {
        self.client_authority()?.issue(&spiffe(identity), Validity::usual())?.write(&self.root.join("clients"), identity)?;
        self.write_profile(identity)?;
        Ok(self.profile(identity))
    }

    /// Adds a node with a key, a certificate and a configuration of its own, and returns it with its cosigner key. It is
    /// no member yet: its key must be registered, and the membership changed.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn add_node(&mut self) -> Result<(PlannedNode, v1::NodeKey)> {
        let node_id = self.nodes.iter().map(|node| node.node_id).max().unwrap_or(0) + 1;
        let (mut planned, ports) = plan_nodes(1)?;
        self.ports.extend(ports);
        let mut node = planned.pop().context("no free ports")?;
        node.node_id = node_id;
        node.name = format!("node-{node_id}");
        let key = self.add_node_at(&node)?;
        Ok((node, key))
    }

    /// Adds a node whose id, name and addresses are given, with a key, a certificate and a configuration of its own, and
    /// returns its cosigner key. It is no member yet: its key must be registered, and the membership changed.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn add_node_at(&mut self, node: &PlannedNode) -> Result<v1::NodeKey> {
        let key = new_key(&self.root.join("keys").join(format!("{}.key.pem", node.name)))?;
        self.issue_node(&self.peer_authority()?, &self.client_authority()?, node)?;
        self.nodes.push(node.clone());
        self.write_config(node)?;
        write(&self.root.join("cluster.json"), serde_json::to_vec_pretty(self)?)?;
        Ok(v1::NodeKey { node_id: node.node_id, name: cosigner_name(&node.name), public_key: public(&key) })
    }

    /// Returns the directory of the keys that sign for outlets: the same for every node.
    #[must_use]
    pub fn outlet_keys(&self) -> PathBuf {
        self.root.join("outlets")
    }

    /// Makes a key that signs for outlets.
    ///
    /// # Errors
    /// When the file is there already, or cannot be written.
    pub fn add_outlet_key(&self, id: &str, kind: OutletKeyKind) -> Result<()> {
        fs::create_dir_all(self.outlet_keys())?;
        let path = self.outlet_keys().join(format!("{id}.key.pem"));
        match kind {
            OutletKeyKind::Rsa => write_pem(&path, &generate_rsa_key()?)?,
            OutletKeyKind::Ed25519 => write_key(&path, &generate_key()?)?,
        }
        Ok(())
    }

    /// Sets how often a leader commits to the state, in milliseconds, in the configuration of every node.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn commit_every(&self, milliseconds: u64) -> Result<()> {
        self.nodes.iter().try_for_each(|node| self.configure(node, &format!("commitment_interval_ms = {milliseconds}")))
    }

    /// Adds a line of TOML, which sets a key outside all tables, to the configuration of a node.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn configure(&self, node: &PlannedNode, line: &str) -> Result<()> {
        let text = fs::read_to_string(self.config(node))?;
        write(&self.config(node), format!("{line}\n{text}"))
    }

    /// Replaces what the configuration of every node says of outlets, in lines of TOML.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn configure_outlets(&self, lines: &str) -> Result<()> {
        for node in &self.nodes {
            let text = fs::read_to_string(self.config(node))?;
            let (kept, _) = text.split_once(OUTLETS).context("the configuration says nothing of outlets")?;
            write(&self.config(node), format!("{kept}{OUTLETS}{lines}"))?;
        }
        Ok(())
    }

    fn issue_node(&self, peers: &Authority, clients: &Authority, node: &PlannedNode) -> Result<()> {
        let (directory, id) = (self.root.join("tls"), spiffe(&format!("node/{}", node.name)));
        peers.issue(&id, Validity::usual())?.write(&directory, &format!("{}-peer", node.name))?;
        clients.issue_at(&id, Validity::usual(), node.client.ip())?.write(&directory, &format!("{}-client", node.name))
    }

    fn write_keys(&self) -> Result<()> {
        let keys = self.root.join("keys");
        fs::create_dir_all(&keys)?;
        let log = new_key(&keys.join("log.key.pem"))?;
        let mut genesis = v1::Genesis {
            origin: ORIGIN.to_owned(),
            apply_version: 1,
            log_public_key: public(&log),
            grants: grants(),
            ..Default::default()
        };
        for (name, role) in OPERATORS {
            let key = new_key(&self.operator_key(name))?;
            genesis.operators.push(v1::OperatorKey {
                operator_id: name.to_owned(),
                public_key: public(&key),
                roles: vec![role.into()],
                ..Default::default()
            });
        }
        for node in &self.nodes {
            let key = new_key(&keys.join(format!("{}.key.pem", node.name)))?;
            let name = cosigner_name(&node.name);
            genesis.nodes.push(v1::NodeKey { node_id: node.node_id, name, public_key: public(&key) });
        }
        write(&self.root.join("genesis.bin"), genesis.encode_to_vec())?;
        write(&self.policy(), policy_of(&genesis)?.encode())
    }

    fn write_certificates(&self) -> Result<()> {
        let (peers, clients) = (Authority::new("Proofline development peers")?, Authority::new("Proofline development clients")?);
        let directory = self.root.join("tls");
        fs::create_dir_all(&directory)?;
        peers.write(&directory, "peers-root")?;
        clients.write(&directory, "clients-root")?;
        for node in &self.nodes {
            self.issue_node(&peers, &clients, node)?;
        }
        for identity in ["admin", "auditor"] {
            clients.issue(&spiffe(identity), Validity::usual())?.write(&self.root.join("clients"), identity)?;
        }
        Ok(())
    }

    /// Returns the root that signs client certificates.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn client_authority(&self) -> Result<Authority> {
        Authority::load(&self.root.join("tls"), "clients-root")
    }

    /// Returns the root that signs the nodes' certificates among themselves.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn peer_authority(&self) -> Result<Authority> {
        Authority::load(&self.root.join("tls"), "peers-root")
    }

    fn write_config(&self, node: &PlannedNode) -> Result<()> {
        let tls = |of: &str, roots: &str| {
            format!("certificate = \"tls/{0}-{of}.pem\"\nkey = \"tls/{0}-{of}.key.pem\"\nroots = \"tls/{roots}-root.pem\"\n", node.name)
        };
        let mut text = format!(
            "node_id = {}\ndata_dir = \"{name}\"\ngenesis = \"genesis.bin\"\nlog_key = \"keys/log.key.pem\"\nnode_key = \"keys/{name}.key.pem\"\n\
             peer_listen = \"{}\"\nclient_listen = \"{}\"\ntiles_listen = \"{}\"\npayload_reserve_mib = {RESERVE_MIB}\n",
            node.node_id,
            node.peer,
            node.client,
            node.tiles,
            name = node.name
        );
        if self.tls == Tls::Mutual {
            text += &format!("\n[peer_tls]\n{}\n[client_tls]\n{}", tls("peer", "peers"), tls("client", "clients"));
        }
        for member in &self.nodes {
            text += &format!(
                "\n[[members]]\nnode_id = {}\nname = \"{}\"\npeer_address = \"{}\"\nclient_address = \"{}\"\n",
                member.node_id, member.name, member.peer, member.client
            );
        }
        text += &format!("{OUTLETS}keys = \"outlets\"\nissuer = \"{ISSUER}\"\n");
        write(&self.config(node), text)
    }

    fn write_profiles(&self) -> Result<()> {
        fs::create_dir_all(self.root.join("clients"))?;
        ["admin", "auditor"].iter().try_for_each(|identity| self.write_profile(identity))
    }

    fn write_profile(&self, identity: &str) -> Result<()> {
        let scheme = if self.tls == Tls::Mutual { "https" } else { "http" };
        let endpoints: Vec<String> = self.nodes.iter().map(|node| format!("\"{scheme}://{}\"", node.client)).collect();
        let mut text = format!("origin = \"{ORIGIN}\"\nendpoints = [{}]\npolicy = \"../policy.txt\"\n", endpoints.join(", "));
        if self.tls == Tls::Mutual {
            text +=
                &format!("\n[tls]\nroots = \"../tls/clients-root.pem\"\ncertificate = \"{identity}.pem\"\nkey = \"{identity}.key.pem\"\n");
        }
        write(&self.profile(identity), text)
    }
}

/// Returns the SPIFFE id of an identity of a development cluster.
#[must_use]
pub fn spiffe(identity: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{identity}")
}

fn cosigner_name(node: &str) -> String {
    format!("{TRUST_DOMAIN}/{node}")
}

fn grants() -> Vec<v1::RoleGrant> {
    let grant =
        |identity: &str, role: v1::Role| v1::RoleGrant { spiffe_id: spiffe(identity), role: role.into(), tenant_id: "*".to_owned() };
    vec![
        grant("admin", v1::Role::Operator),
        grant("admin", v1::Role::Responder),
        grant("admin", v1::Role::Auditor),
        grant("auditor", v1::Role::Auditor),
    ]
}

fn new_key(path: &Path) -> Result<SigningKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("the system gives no randomness: {error}"))?;
    let key = SigningKey::from_bytes(&seed);
    write(path, key.to_pkcs8_pem(Default::default())?.as_bytes())?;
    Ok(key)
}

fn public(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_bytes().to_vec()
}

/// Where ports are looked for: below those from which systems take one for each outgoing connection (Linux from 32768, others
/// from 49152), because a node binds its ports some time after they were found free.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Picks free ports, beginning at a random one. No other plan picks them while what is returned beside the nodes is held, also
/// while their nodes do not run. Somebody else may still take them before a node binds them: then the node says so and ends.
fn plan_nodes(count: u64) -> Result<(Vec<PlannedNode>, Vec<Arc<UnixDatagram>>)> {
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("the system gives no randomness: {error}"))?;
    let begin = usize::from(u16::from_ne_bytes(random)) % PORTS.len();
    let mut ports = PORTS.cycle().skip(begin).take(PORTS.len());
    let mut held = Vec::new();
    let mut free = || -> Result<SocketAddr> {
        let (address, port) = ports.find_map(reserve).with_context(|| format!("no port of {PORTS:?} is free"))?;
        held.push(Arc::new(port));
        Ok(address)
    };
    let nodes = (1..=count)
        .map(|node_id| Ok(PlannedNode { node_id, name: format!("node-{node_id}"), peer: free()?, client: free()?, tiles: free()? }))
        .collect::<Result<_>>()?;
    Ok((nodes, held))
}

/// Takes a port on which nobody listens and that no other plan has: a plan holds a name for each of its ports, which the system
/// gives once and takes back when its holder is gone, however it ended.
fn reserve(port: u16) -> Option<(SocketAddr, UnixDatagram)> {
    let name = net::SocketAddr::from_abstract_name(format!("proofline-cluster/{port}")).ok()?;
    let held = UnixDatagram::bind_addr(&name).ok()?;
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    Some((free.local_addr().ok()?, held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_nodes_that_do_not_run_belong_to_their_plan() {
        // Below those that plans look through, so that none of them takes it in the end.
        let (address, held) = (11_000..PORTS.start).find_map(reserve).unwrap();
        assert!(TcpListener::bind(address).is_ok(), "nobody listens");
        assert!(reserve(address.port()).is_none(), "and nobody else gets it");
        drop(held);
        assert!(reserve(address.port()).is_some(), "until it is given back");
    }
}
