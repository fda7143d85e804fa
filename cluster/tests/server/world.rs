//! A cluster of real processes, its operators, and callers with certificates of their own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use ed25519_dalek::{Signer as _, SigningKey, pkcs8::DecodePrivateKey as _};
use proofline_cluster::{Binaries, Cluster, ORIGIN, Plan, PlannedNode, TENANT, Tls, spiffe};
use proofline_proto::v1::{self, audit_client::AuditClient, command::Action, control_client::ControlClient, ingest_client::IngestClient};
use proofline_verifier::TreeHash as _;
use proofline_verifier::{BatchDigest, batch_signed_bytes, command_signed_bytes, events_root, open_lane_signed_bytes};
use prost::Message as _;
use tempfile::TempDir;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// Removed with the world.
    pub(crate) _root: TempDir,
}

impl World {
    /// A cluster that commits to its state hardly ever, so that a test can count entries.
    pub(crate) async fn found(nodes: u64, tls: Tls) -> Self {
        Self::committing_every(60_000, nodes, tls).await
    }

    /// A cluster that commits to its state so often, in milliseconds, while entries with keys come.
    pub(crate) async fn committing_every(milliseconds: u64, nodes: u64, tls: Tls) -> Self {
        let root = tempfile::tempdir().unwrap();
        let plan = Plan::create(&root.path().join("cluster"), nodes, tls).unwrap();
        plan.commit_every(milliseconds).unwrap();
        let cluster = Cluster::found(plan, Binaries::beside_current().unwrap()).await.unwrap();
        Self { cluster, _root: root }
    }

    /// A node with one more line in its configuration.
    pub(crate) async fn found_with(line: &str, tls: Tls) -> Self {
        let root = tempfile::tempdir().unwrap();
        let plan = Plan::create(&root.path().join("cluster"), 1, tls).unwrap();
        plan.commit_every(60_000).unwrap();
        plan.configure(&plan.nodes[0], line).unwrap();
        let cluster = Cluster::found(plan, Binaries::beside_current().unwrap()).await.unwrap();
        Self { cluster, _root: root }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.cluster.plan
    }

    pub(crate) fn node(&self, place: usize) -> &PlannedNode {
        &self.cluster.plan.nodes[place]
    }

    pub(crate) fn channel(&self, place: usize, identity: &str) -> Channel {
        let plan = self.plan();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let (certificate, key) = (plan.profile(identity).with_extension("pem"), plan.profile(identity).with_extension("key.pem"));
        channel(plan, self.node(place), Some((read(&certificate), read(&key))))
    }

    pub(crate) fn control(&self, place: usize, identity: &str) -> ControlClient<Channel> {
        ControlClient::new(self.channel(place, identity))
    }

    pub(crate) fn audit(&self, place: usize, identity: &str) -> AuditClient<Channel> {
        AuditClient::new(self.channel(place, identity))
    }

    pub(crate) fn ingest(&self, place: usize, identity: &str) -> IngestClient<Channel> {
        IngestClient::new(self.channel(place, identity)).max_encoding_message_size(64 << 20)
    }

    pub(crate) async fn command(&self, operators: &[&str], action: Action) -> Result<u64, Status> {
        let request = v1::SubmitCommandRequest { command: Some(self.signed(operators, action)) };
        Ok(self.control(0, "admin").submit_command(request).await?.into_inner().index)
    }

    pub(crate) fn signed(&self, operators: &[&str], action: Action) -> v1::SignedCommand {
        let mut nonce = vec![0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let mut command = v1::SignedCommand {
            origin: ORIGIN.to_owned(),
            nonce,
            expires_unix_ns: now + 60_000_000_000,
            command: v1::Command { action: Some(action) }.encode_to_vec(),
            signatures: Vec::new(),
        };
        let message = command_signed_bytes(&command).unwrap();
        for operator in operators {
            let key = SigningKey::from_pkcs8_pem(&std::fs::read_to_string(self.plan().operator_key(operator)).unwrap()).unwrap();
            command.signatures.push(v1::CommandSignature {
                operator_id: (*operator).to_owned(),
                public_key: key.verifying_key().to_bytes().to_vec(),
                signature: key.sign(&message).to_bytes().to_vec(),
            });
        }
        command
    }

    /// Registers a collector with a certificate of its own, and opens its lane 0.
    pub(crate) async fn collector(&self, name: &str) -> Collector {
        self.plan().add_client(name).unwrap();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let key = SigningKey::from_bytes(&seed);
        let registration = v1::RegisterCollector {
            collector_id: name.to_owned(),
            public_key: key.verifying_key().to_bytes().to_vec(),
            spiffe_id: spiffe(name),
            tenant_id: TENANT.to_owned(),
            agents: vec!["*".to_owned()],
            vantages: vec![v1::Vantage::GatewayObserved.into()],
            ..Default::default()
        };
        self.command(&["alice"], Action::RegisterCollector(registration)).await.unwrap();
        let mut collector = Collector { id: name.to_owned(), key, epoch: 0, sequence: 0, previous: BatchDigest::NONE };
        collector.open(self).await;
        collector
    }

    pub(crate) async fn grant(&self, identity: &str, role: v1::Role, tenant: &str) {
        let grant = v1::RoleGrant { spiffe_id: spiffe(identity), role: role.into(), tenant_id: tenant.to_owned() };
        self.command(&["alice"], Action::GrantRole(v1::GrantRole { grant: Some(grant) })).await.unwrap();
    }

    /// Waits until the published checkpoint of a node covers `size` entries.
    pub(crate) async fn published(&self, place: usize, size: u64) {
        let mut notes = self.audit(place, "auditor").watch_checkpoints(v1::WatchCheckpointsRequest {}).await.unwrap().into_inner();
        let reached = async {
            while let Some(note) = notes.message().await.unwrap() {
                let text = String::from_utf8(note.checkpoint).unwrap();
                if text.lines().nth(1).unwrap().parse::<u64>().unwrap() >= size {
                    return;
                }
            }
            panic!("the stream of checkpoints ended");
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("published in time");
    }
}

pub(crate) fn channel(plan: &Plan, node: &PlannedNode, identity: Option<(String, String)>) -> Channel {
    if plan.tls == Tls::Off {
        return Endpoint::from_shared(format!("http://{}", node.client)).unwrap().connect_lazy();
    }
    let roots = std::fs::read_to_string(plan.root.join("tls/clients-root.pem")).unwrap();
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots)).domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Endpoint::from_shared(format!("https://{}", node.client)).unwrap().tls_config(tls).unwrap().connect_lazy()
}

/// A collector that keeps its chain in memory.
pub(crate) struct Collector {
    pub(crate) id: String,
    pub(crate) key: SigningKey,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) previous: BatchDigest,
}

impl Collector {
    pub(crate) async fn open(&mut self, world: &World) {
        let mut nonce = vec![0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let mut open = v1::SignedOpenLane {
            public_key: self.key.verifying_key().to_bytes().to_vec(),
            collector_id: self.id.clone(),
            lane: 0,
            nonce,
            signature: Vec::new(),
        };
        open.signature = self.key.sign(&open_lane_signed_bytes(ORIGIN, &open).unwrap()).to_bytes().to_vec();
        let request = v1::OpenLaneRequest { open: Some(open) };
        self.epoch = world.ingest(0, &self.id).open_lane(request).await.unwrap().into_inner().epoch;
    }

    /// Signs the next batch and moves on.
    pub(crate) fn sign(&mut self, events: Vec<Vec<u8>>) -> v1::AppendRequest {
        self.sequence += 1;
        let mut statement = v1::BatchStatement {
            public_key: self.key.verifying_key().to_bytes().to_vec(),
            collector_id: self.id.clone(),
            lane: 0,
            epoch: self.epoch,
            sequence: self.sequence,
            previous: self.previous.as_bytes().to_vec(),
            event_count: events.len() as u32,
            events_root: events_root(&events).as_bytes().to_vec(),
            signature: Vec::new(),
        };
        let message = batch_signed_bytes(ORIGIN, &statement).unwrap();
        statement.signature = self.key.sign(&message).to_bytes().to_vec();
        self.previous = BatchDigest::of(&message);
        let batch = v1::Batch {
            public_key: statement.public_key,
            collector_id: statement.collector_id,
            lane: statement.lane,
            epoch: statement.epoch,
            sequence: statement.sequence,
            previous: statement.previous,
            events: events.into_iter().map(Into::into).collect(),
            signature: statement.signature,
        };
        v1::AppendRequest { batch: Some(batch) }
    }
}

pub(crate) fn event(session: &str) -> Vec<u8> {
    v1::Event {
        event_id: vec![7; 16],
        tenant_id: TENANT.to_owned(),
        observed_unix_ns: 1,
        vantage: v1::Vantage::GatewayObserved.into(),
        session: Some(v1::SessionRef { session_id: session.to_owned(), ..Default::default() }),
        attribution: Some(v1::Attribution {
            initiator: Some(v1::Principal { kind: v1::PrincipalKind::Human.into(), subject: "u-1".to_owned(), ..Default::default() }),
            agent: Some(v1::Agent { agent_id: "agent-1".to_owned(), ..Default::default() }),
            ..Default::default()
        }),
        body: Some(v1::event::Body::RunStarted(v1::RunStarted::default())),
        ..Default::default()
    }
    .encode_to_vec()
}

/// Appends one event, repeating the same batch until some node of `through` acknowledges it, at the pace that the nodes ask for.
pub(crate) async fn append_through(world: &World, gateway: &mut Collector, through: &[usize]) -> u64 {
    let request = gateway.sign(vec![event("s")]);
    repeat_through(world, &gateway.id, request, through).await
}

/// Repeats the same batch until it is acknowledged.
pub(crate) async fn repeat_through(world: &World, collector: &str, request: v1::AppendRequest, through: &[usize]) -> u64 {
    let until = Instant::now() + Duration::from_secs(30);
    for place in through.iter().cycle() {
        let status = match world.ingest(*place, collector).append(request.clone()).await {
            Ok(receipt) => return receipt.into_inner().first_index,
            Err(status) => status,
        };
        let is_passing = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown);
        assert!(is_passing && Instant::now() < until, "{status:?}");
        let asked = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
        tokio::time::sleep(asked.unwrap_or(Duration::from_millis(50))).await;
    }
    unreachable!("there is a node to ask");
}
