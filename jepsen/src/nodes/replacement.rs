//! A node is never repaired: another one takes its place, as docs/OPERATIONS.md says.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use proofline_client::{Signatory, read_key, sign_command};
use proofline_cluster::{ORIGIN, PlannedNode, TRUST_DOMAIN};
use proofline_proto::v1::{self, command::Action};
use proofline_verifier::{KeyName, Policy, SignatureType, Threshold, VerifierKey};
use prost::Message as _;

use super::{Beginning, Fleet, Observer, Place, fleet::planned};
use crate::history::{Action as Asked, Answer, Mark, NodeId, Nonce, Outcome};

/// How long a new node may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(120);
/// How long a command may be tried.
const COMMAND_LIFE: Duration = Duration::from_secs(300);
/// Registering and retiring nodes takes two.
const REGISTRARS: [&str; 2] = ["alice", "bob"];

/// What a new node still needs until its place is its own.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    /// Its key, unless that is registered.
    registration: Option<v1::NodeKey>,
    /// Who was at the place before, and may still be a member.
    leaving: Vec<u64>,
}

impl Fleet {
    /// Wipes a place whose node is stopped for good, and lets a new node with a new id and new keys take it.
    ///
    /// On return: the old node is retired and no member, the new one has caught up and votes.
    ///
    /// # Errors
    /// When the cluster does not accept it in time. What was done stays: [`Self::finish_joining`] does the rest.
    pub async fn replace(&mut self, place: Place, observer: &Observer) -> Result<NodeId> {
        if self.runs(place) {
            self.kill(place).await?;
        }
        let station = self.at(place)?;
        let (old, begun) = (station.node.clone(), station.joining.clone());
        if begun.as_ref().is_none_or(|begun| begun.registration.is_none()) {
            let retire = Action::RetireNode(v1::RetireNode { node_id: old.node_id, reason: "its disk is lost".to_owned() });
            self.govern(observer, "retire a node", retire).await.context("the lost node was not retired")?;
        }
        let (node, key) = self.move_in(place, &old)?;
        let mut leaving = begun.map(|begun| begun.leaving).unwrap_or_default();
        leaving.push(old.node_id);
        self.at(place)?.joining = Some(Joining { registration: Some(key), leaving });
        self.recorder().mark(Mark::Follows { node: NodeId(node.node_id), after: NodeId(old.node_id) }).await;
        self.start(place).await?;
        self.finish_joining(place, observer).await?;
        Ok(NodeId(node.node_id))
    }

    /// Makes the node at a place a member instead of those that were there before, unless it is one already.
    ///
    /// # Errors
    /// When the cluster does not accept it in time. It may be tried again.
    pub async fn finish_joining(&mut self, place: Place, observer: &Observer) -> Result<()> {
        let station = self.at(place)?;
        let Some(Joining { registration, leaving }) = station.joining.clone() else { return Ok(()) };
        let node = station.node.clone();
        if let Some(key) = registration {
            let register = Action::RegisterNode(v1::RegisterNode { node: Some(key) });
            self.govern(observer, "register a node", register).await.context("the new node was not registered")?;
            self.at(place)?.joining = Some(Joining { registration: None, leaving: leaving.clone() });
        }
        let member = v1::Member {
            node_id: node.node_id,
            peer_address: node.peer.to_string(),
            client_address: node.client.to_string(),
            name: node.name,
        };
        let within = u32::try_from(CATCH_UP.as_secs()).unwrap_or(u32::MAX);
        let add = v1::ChangeMembershipRequest { add: vec![member], catch_up_within_s: within, ..Default::default() };
        observer.change_members(add, CATCH_UP).await?;
        let remove = v1::ChangeMembershipRequest { remove: leaving, ..Default::default() };
        observer.change_members(remove, CATCH_UP).await?;
        self.ready(place).await?;
        self.at(place)?.joining = None;
        self.recorder().mark(Mark::Joined { node: NodeId(node.node_id) }).await;
        Ok(())
    }

    /// Makes the new node: keys, certificates, configuration and an empty disk.
    fn move_in(&mut self, place: Place, old: &PlannedNode) -> Result<(PlannedNode, v1::NodeKey)> {
        let node = planned(place, self.next_id);
        self.next_id += 1;
        self.plan.nodes.retain(|known| known.node_id != old.node_id);
        let key = self.plan.add_node_at(&node)?;
        self.plan.nodes.sort_by_key(|node| node.client);
        self.configure(&node)?;
        let directory = self.plan.root.join(&node.name);
        let station = self.at(place)?;
        station.node = node.clone();
        station.expected.clear();
        station.last_code = None;
        station.disk.wipe(&directory)?;
        self.initialise(place, Beginning::Joiner)?;
        self.write_policy()?;
        Ok((node, key))
    }

    /// Gives auditors a policy that holds for the whole run: the keys of all nodes that ever were, and a majority of the places.
    /// What they saw is judged by the policies of the members that there were.
    fn write_policy(&mut self) -> Result<()> {
        let genesis = v1::Genesis::decode(fs::read(self.plan.root.join("genesis.bin"))?.as_slice())?;
        let log = VerifierKey::new(KeyName::parse(&genesis.origin)?, SignatureType::Ed25519, &genesis.log_public_key)?;
        let key_of = |node_id: u64| -> Result<VerifierKey> {
            let name = format!("node-{node_id}");
            let key = read_key(&self.plan.root.join("keys").join(format!("{name}.key.pem")))?.verifying_key();
            let name = KeyName::parse(&format!("{TRUST_DOMAIN}/{name}"))?;
            Ok(VerifierKey::new(name, SignatureType::CosignatureV1, key.as_bytes())?)
        };
        let threshold = Threshold::Of(self.stations.len() / 2 + 1);
        let members = self.plan.nodes.iter().map(|node| key_of(node.node_id)).collect::<Result<Vec<_>>>()?;
        let all = (1..self.next_id).map(key_of).collect::<Result<Vec<_>>>()?;
        self.policies.push(Policy::of_cluster(log.clone(), members, threshold)?);
        let policy = Policy::of_cluster(log, all, threshold)?;
        let new = self.plan.policy().with_extension("new");
        fs::write(&new, policy.encode())?;
        Ok(fs::rename(new, self.plan.policy())?)
    }

    /// Has a command committed that two registrars sign, and records it.
    async fn govern(&self, observer: &Observer, what: &str, action: Action) -> Result<()> {
        let signatory = |name: &str| -> Result<Signatory> {
            Ok(Signatory { operator_id: name.to_owned(), key: read_key(&self.plan.operator_key(name))? })
        };
        let signatories = REGISTRARS.iter().map(|name| signatory(name)).collect::<Result<Vec<_>>>()?;
        let command = sign_command(ORIGIN, action, SystemTime::now() + COMMAND_LIFE, &signatories)?;
        let nonce = Nonce(command.nonce.as_slice().try_into().unwrap_or_default());
        let mut actor = self.recorder().actor();
        let asked = actor.begin(NodeId(0), Asked::Govern { what: what.to_owned(), nonce }).await;
        match observer.client().submit(command).await {
            Ok(done) => asked.end(Outcome::Ok { answer: Answer::Commanded { index: done.index.0 } }).await,
            Err(error) => {
                asked.end(Outcome::Info { reason: error.to_string() }).await;
                return Err(error.into());
            }
        }
        Ok(())
    }
}
