//! A node is never repaired: another one takes its place, as docs/OPERATIONS.md says.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use proofline_client::{CallError, CommandError, Reason, Signatory, read_key, sign_command};
use proofline_cluster::{ORIGIN, PlannedNode, TRUST_DOMAIN};
use proofline_proto::v1::{self, command::Action};
use proofline_verifier::{KeyName, Policy, SignatureType, Threshold, VerifierKey};
use prost::Message as _;

use super::{Beginning, Fleet, Observer, Place, Station, fleet::planned};
use crate::history::{Action as Asked, Answer, Mark, NodeId, Nonce, Outcome};

/// How long a new node may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(120);
/// How long a command may be tried.
const COMMAND_LIFE: Duration = Duration::from_secs(300);
/// Registering and retiring nodes takes two.
const REGISTRARS: [&str; 2] = ["alice", "bob"];

/// A node that takes the place of others, until it is a member and they are none.
#[derive(Clone, Debug)]
pub(super) struct Replacing {
    step: Step,
    /// Whether the step was tried before: its command may have been committed, and the answer lost.
    is_retried: bool,
    /// Who was at the place before, and may still be a member.
    leaving: Vec<u64>,
}

impl Replacing {
    fn to(step: Step, leaving: Vec<u64>) -> Self {
        Self { step, is_retried: false, leaving }
    }
}

/// What comes next.
#[derive(Clone, Debug)]
enum Step {
    /// The node that is there is to be retired and wiped.
    Retire(Registered),
    /// The new one is there, and its key to be registered.
    Register(v1::NodeKey),
    /// It is to become a member.
    Join,
}

/// Whether the ledger knows the node that is to be retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registered {
    Yes,
    /// It was given up before it was known to be.
    Perhaps,
}

impl Station {
    /// Tells whether the node that is there does not come back.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.replacing, Some(Replacing { step: Step::Retire(_), .. }))
    }
}

impl Fleet {
    /// Notes that the node at a place is to be replaced, also when that does not come to its end at once.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn give_up(&mut self, place: Place) -> Result<()> {
        let station = self.at(place)?;
        station.replacing = Some(match station.replacing.take() {
            None => Replacing::to(Step::Retire(Registered::Yes), Vec::new()),
            Some(begun @ Replacing { step: Step::Retire(_), .. }) => begun,
            Some(Replacing { step: Step::Register(_), leaving, .. }) => Replacing::to(Step::Retire(Registered::Perhaps), leaving),
            Some(Replacing { step: Step::Join, leaving, .. }) => Replacing::to(Step::Retire(Registered::Yes), leaving),
        });
        Ok(())
    }

    /// Tells whether the node at a place is to be replaced, or is not yet a member instead of another one.
    #[must_use]
    pub fn is_being_replaced(&self, place: Place) -> bool {
        self.stations.get(place.0).is_some_and(|station| station.replacing.is_some())
    }

    /// Wipes a place whose node is stopped for good, and lets a new node with a new id and new keys take it.
    ///
    /// On return: the old node is retired and no member, the new one has caught up and votes.
    ///
    /// # Errors
    /// When the cluster does not accept it in time. What was done stays: [`Self::finish_replacing`] does the rest.
    pub async fn replace(&mut self, place: Place, observer: &Observer) -> Result<NodeId> {
        self.give_up(place)?;
        self.finish_replacing(place, observer).await?;
        self.node_at(place)
    }

    /// Does what a replacement still needs, if one was begun.
    ///
    /// # Errors
    /// When the cluster does not accept it in time. It may be tried again: what was done already counts as done.
    pub async fn finish_replacing(&mut self, place: Place, observer: &Observer) -> Result<()> {
        while let Some(Replacing { step, is_retried, leaving }) = self.at(place)?.replacing.clone() {
            if let Some(begun) = &mut self.at(place)?.replacing {
                begun.is_retried = true;
            }
            let next = match step {
                Step::Retire(registered) => Some(self.retire(place, registered, is_retried, observer).await?),
                Step::Register(key) => {
                    let register = Action::RegisterNode(v1::RegisterNode { node: Some(key) });
                    let true_already: &[Reason] = if is_retried { &[Reason::KeyInUse] } else { &[] };
                    self.govern(observer, "register a node", register, true_already).await.context("the new node was not registered")?;
                    Some(Replacing::to(Step::Join, leaving))
                }
                Step::Join => {
                    self.join(place, leaving, observer).await?;
                    None
                }
            };
            self.at(place)?.replacing = next;
        }
        Ok(())
    }

    /// Retires the node at a place and lets the next one move in.
    async fn retire(&mut self, place: Place, registered: Registered, is_retried: bool, observer: &Observer) -> Result<Replacing> {
        if self.runs(place) {
            self.kill(place).await?;
        }
        let old = self.at(place)?.node.clone();
        let retire = Action::RetireNode(v1::RetireNode { node_id: old.node_id, reason: "its disk is lost".to_owned() });
        let true_already: &[Reason] = match (registered, is_retried) {
            (Registered::Yes, false) => &[],
            (Registered::Yes, true) => &[Reason::AlreadyDone],
            (Registered::Perhaps, false) => &[Reason::UnknownSubject],
            (Registered::Perhaps, true) => &[Reason::UnknownSubject, Reason::AlreadyDone],
        };
        self.govern(observer, "retire a node", retire, true_already).await.context("the lost node was not retired")?;
        let node = planned(place, self.next_id);
        self.next_id += 1;
        // From here on the place is the new node's, whatever fails.
        self.recorder().mark(Mark::Follows { node: NodeId(node.node_id), after: NodeId(old.node_id) }).await;
        let station = self.at(place)?;
        let mut leaving = station.replacing.take().map(|begun| begun.leaving).unwrap_or_default();
        leaving.push(old.node_id);
        station.replacing = Some(Replacing::to(Step::Retire(Registered::Perhaps), leaving.clone()));
        station.node = node.clone();
        let key = self.move_in(place, &node, &old)?;
        self.start(place).await?;
        Ok(Replacing::to(Step::Register(key), leaving))
    }

    async fn join(&mut self, place: Place, leaving: Vec<u64>, observer: &Observer) -> Result<()> {
        let node = self.at(place)?.node.clone();
        let member = v1::Member {
            node_id: node.node_id,
            peer_address: node.peer.to_string(),
            client_address: node.client.to_string(),
            name: node.name,
        };
        observer.change_members(v1::ChangeMembershipRequest { add: vec![member], ..Default::default() }, CATCH_UP).await?;
        observer.change_members(v1::ChangeMembershipRequest { remove: leaving, ..Default::default() }, CATCH_UP).await?;
        self.ready(place).await?;
        self.recorder().mark(Mark::Joined { node: NodeId(node.node_id) }).await;
        Ok(())
    }

    /// Makes the new node: keys, certificates, configuration and an empty disk.
    fn move_in(&mut self, place: Place, node: &PlannedNode, old: &PlannedNode) -> Result<v1::NodeKey> {
        self.plan.nodes.retain(|known| known.node_id != old.node_id);
        let key = self.plan.add_node_at(node)?;
        self.plan.nodes.sort_by_key(|node| node.client);
        self.configure(node)?;
        let directory = self.plan.root.join(&node.name);
        let station = self.at(place)?;
        station.expected.clear();
        station.last_code = None;
        station.disk.wipe(&directory)?;
        self.initialise(place, Beginning::Joiner)?;
        self.write_policy()?;
        Ok(key)
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

    /// Has a command committed that two registrars sign, and records it. What it asks for may have come true before, by a command
    /// whose answer was lost; then it is refused for one of the reasons `true_already`.
    async fn govern(&self, observer: &Observer, what: &str, action: Action, true_already: &[Reason]) -> Result<()> {
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
                if !is_refused_for(&error, true_already) {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }
}

fn is_refused_for(error: &CommandError, reasons: &[Reason]) -> bool {
    matches!(error, CommandError::Call(CallError::Refused(refusal)) if reasons.contains(&refusal.reason))
}
