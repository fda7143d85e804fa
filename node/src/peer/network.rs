use std::{collections::BTreeMap, fmt::Display, future::Future, sync::Arc, time::Duration};

use openraft::{
    AnyError, OptionalSend, RPCTypes, RaftNetwork, RaftNetworkFactory, Snapshot, Vote,
    error::{Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{Backoff, RPCOption},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use proofline_proto::peer::peer_client::PeerClient;
use tonic::{Status, transport::Channel};

use super::{
    PeerError, convert,
    reach::{Reach, root_cause},
    transfer,
};
use crate::{
    elections::Leads,
    replica::{HEARTBEAT, Member, TypeConfig},
    tls::{AddressError, Transport},
};

/// Largest message between nodes. An append carries 4 MiB, or one group, which is bounded where groups are made.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Pause after a call that did not reach its node. Raft's own default is longer than an election timeout.
const BACKOFF: Duration = Duration::from_millis(100);

/// Makes the connections on which Raft calls the other nodes.
#[derive(Clone, Debug)]
pub struct PeerNetwork {
    node_id: u64,
    transport: Transport,
    leads: Leads,
    /// By node, and by the address that it was reached at.
    reaches: BTreeMap<(u64, String), Arc<Reach>>,
}

impl PeerNetwork {
    /// Takes who calls, how connections are made, and whether this node leads.
    #[must_use]
    pub fn new(node_id: u64, transport: Transport, leads: Leads) -> Self {
        Self { node_id, transport, leads, reaches: BTreeMap::new() }
    }
}

impl RaftNetworkFactory<TypeConfig> for PeerNetwork {
    type Network = PeerConnection;

    async fn new_client(&mut self, target: u64, member: &Member) -> PeerConnection {
        let address = member.peer_address.clone();
        let reach = self.reaches.entry((target, address.clone())).or_insert_with(|| Arc::new(Reach::new(target, address)));
        PeerConnection {
            node_id: self.node_id,
            target,
            channel: self.transport.channel(member),
            leads: self.leads.clone(),
            reach: Arc::clone(reach),
            is_asked: false,
        }
    }
}

/// Raft's connection to one node. It connects when it is used, and again when it broke.
#[derive(Clone, Debug)]
pub struct PeerConnection {
    node_id: u64,
    target: u64,
    channel: Result<Channel, AddressError>,
    leads: Leads,
    reach: Arc<Reach>,
    /// A call began and did not end: whoever made it waits no longer.
    is_asked: bool,
}

impl PeerConnection {
    fn client(&self) -> Result<PeerClient<Channel>, Unreachable> {
        let channel = self.channel.as_ref().map_err(Unreachable::new)?;
        Ok(PeerClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    async fn append(&self, rpc: AppendEntriesRequest<TypeConfig>) -> Result<AppendEntriesResponse<u64>, NotAppended> {
        let request = convert::append_request(rpc).map_err(NotAppended::Unusable)?;
        let mut client = self.client().map_err(NotAppended::Address)?;
        let response = client.append_entries(request).await.map_err(NotAppended::Unreached)?;
        convert::parse_append_response(response.into_inner()).map_err(NotAppended::Unusable)
    }
}

/// Why entries did not get to a node.
enum NotAppended {
    Address(Unreachable),
    Unreached(Status),
    Unusable(PeerError),
}

impl Display for NotAppended {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(error) => error.fmt(out),
            Self::Unreached(status) => out.write_str(&root_cause(status)),
            Self::Unusable(error) => error.fmt(out),
        }
    }
}

impl From<NotAppended> for RPCError<u64, Member, RaftError<u64>> {
    fn from(error: NotAppended) -> Self {
        match error {
            NotAppended::Address(error) => error.into(),
            NotAppended::Unreached(status) => unreachable(&status).into(),
            NotAppended::Unusable(error) => unusable(&error).into(),
        }
    }
}

impl RaftNetwork<TypeConfig> for PeerConnection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        // Evil: another history for one follower.
        let rpc = proofline_ledger::evil!(crate::evil::replicated(rpc, self.target), rpc);
        if std::mem::replace(&mut self.is_asked, true) {
            self.reach.failed(&"no answer in time");
        }
        let answered = self.append(rpc).await;
        self.is_asked = false;
        match answered {
            Ok(response) => {
                self.reach.answered();
                Ok(response)
            }
            // Planted: silence counts as consent.
            Err(NotAppended::Unreached(_)) if proofline_ledger::planted!(AcknowledgedBeforeQuorum) => Ok(AppendEntriesResponse::Success),
            Err(error) => {
                self.reach.failed(&error);
                Err(error.into())
            }
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        let request = convert::vote_request(&rpc);
        let response = self.client()?.request_vote(request).await.map_err(|status| unreachable(&status))?;
        Ok(convert::parse_vote_response(response.into_inner()).map_err(|error| unusable(&error))?)
    }

    /// Sends the snapshot's files. Dropping the call stops the reader too.
    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let timeout = option.hard_ttl();
        let client = self.client().inspect_err(|error| self.reach.snapshot_failed(error))?;
        let sending = transfer::send(client, vote, snapshot);
        tokio::select! {
            sent = sending => sent.inspect_err(|error| self.reach.snapshot_failed(error)),
            higher = give_signs_of_life(self.clone(), vote, &self.leads) => Ok(SnapshotResponse::new(higher)),
            closed = cancel => Err(closed.into()),
            () = tokio::time::sleep(timeout) => {
                let (id, target) = (self.node_id, self.target);
                self.reach.snapshot_failed(&format!("not sent within {} s", timeout.as_secs()));
                Err(Timeout { action: RPCTypes::InstallSnapshot, id, target, timeout }.into())
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}

/// Tells a node that gets a snapshot that the leader `vote` lives, until it knows of a higher vote, which is returned.
///
/// Raft's library sends nothing else to a node that is getting a snapshot, unless something is committed meanwhile (openraft
/// 0.9.25: a heartbeat goes where nothing is in flight). Where only that node and the leader are left nothing is: it would
/// stand for election in the middle of the transfer, depose the leader, and never get a snapshot that takes longer than that.
///
/// Only while Raft says that this node `leads`: a leader whose disk hangs must not keep others from being elected.
pub async fn give_signs_of_life(mut node: impl RaftNetwork<TypeConfig>, vote: Vote<u64>, leads: &Leads) -> Vote<u64> {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        if !leads.now() {
            continue;
        }
        let sign = AppendEntriesRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None };
        let answer = tokio::time::timeout(HEARTBEAT, node.append_entries(sign, RPCOption::new(HEARTBEAT))).await;
        match answer {
            Ok(Ok(AppendEntriesResponse::HigherVote(higher))) if higher > vote => return higher,
            Ok(_) | Err(_) => {}
        }
    }
}

/// The node did not answer, or answered that it cannot: Raft tries again after a pause.
pub(super) fn unreachable(status: &Status) -> Unreachable {
    Unreachable::from(AnyError::error(status))
}

/// A message that this build does not understand, or cannot write.
pub(super) fn unusable(error: &PeerError) -> NetworkError {
    NetworkError::new(error)
}
