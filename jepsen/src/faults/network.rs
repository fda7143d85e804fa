//! Partitions and bad links, by the switch.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::Seen;
use crate::{
    history::NodeId,
    network::{Conditions, Link, LinkCounts, Partition, Port, SwitchControl},
    nodes::{ClusterView, Observer, Place},
    random::{PerMille, Random},
    schedule::{Fault, Planned},
};

/// How long links stay up or down while they flap, in milliseconds.
const FLAP_MS: (u64, u64) = (200, 2_000);

/// Injects faults of the network.
#[derive(Debug)]
pub struct NetworkLane {
    /// Changes the switch.
    pub control: SwitchControl,
    /// Asks the nodes how they are.
    pub observer: Observer,
    /// Where the nodes are.
    pub nodes: Vec<Port>,
    /// Where the clients are.
    pub clients: Port,
}

impl NetworkLane {
    /// Returns at which places a fault is aimed, and who is there; none when it does not fit.
    pub async fn targets(&self, planned: &Planned) -> Vec<(Place, Option<NodeId>)> {
        let view = self.observer.view().await;
        let node_at = |place| (place, view.as_ref().and_then(|view: &ClusterView| view.node_at(place)));
        match planned.fault {
            Fault::IsolateLeader | Fault::DeafLeader | Fault::DeafLeaderBriefly | Fault::MuteLeader => {
                view.as_ref().and_then(|view| Some(node_at(view.leader()?.1))).into_iter().collect()
            }
            Fault::Isolate | Fault::Bridge | Fault::Flap | Fault::CutClients => vec![node_at(planned.place)],
            _ => (0..self.nodes.len()).map(|place| node_at(Place(place))).collect(),
        }
    }

    /// Installs a fault, lets it last, takes it away, and says what was seen.
    ///
    /// # Errors
    /// When the switch has ended.
    pub async fn inject(&self, planned: &Planned, targets: &[Place]) -> Result<Seen> {
        let Some(target) = targets.first().map(|place| place.port()) else { return Ok(Seen::skipped("nobody leads")) };
        let before = self.observer.view().await.map_or(0, |view| view.term());
        let counted = self.control.counts()?;
        self.install(planned, target).await?;
        let did = self.since(&counted)?;
        self.control.clear()?;
        let after = self.observer.leader_beyond(before.saturating_sub(1), planned.duration).await.map_or(before, |view| view.term());
        let counts = [
            ("packets_cut", did.cut),
            ("packets_delayed", did.delayed),
            ("packets_lost", did.lost),
            ("packets_reordered", did.reordered),
            ("packets_duplicated", did.duplicated),
            ("packets_altered", did.altered),
        ];
        let mut seen = Seen::counted(counts, format!("{} terms passed", after.saturating_sub(before)));
        seen.evidence.retain(|_, count| *count > 0);
        Ok(seen)
    }

    async fn install(&self, planned: &Planned, target: Port) -> Result<()> {
        let mut random = Random::of(planned.lot, "network");
        let links = match planned.fault {
            Fault::Isolate | Fault::IsolateLeader => Partition::Isolate(target).links(&self.nodes),
            Fault::DeafLeader | Fault::DeafLeaderBriefly => Partition::Deaf(target).links(&self.nodes),
            Fault::MuteLeader => Partition::Mute(target).links(&self.nodes),
            Fault::Bridge => Partition::Bridge(target).links(&self.nodes),
            Fault::Ring => Partition::Ring.links(&self.nodes),
            Fault::CutClients => Link::both(self.clients, target).to_vec(),
            Fault::Flap => return self.flap(planned.duration, target, &mut random).await,
            Fault::Swizzle => return self.swizzle(planned.duration, &mut random).await,
            _ => {
                for link in self.all_links() {
                    self.control.set(&[link], bad(planned.fault, &mut random))?;
                }
                sleep(planned.duration).await;
                return Ok(());
            }
        };
        self.control.set(&links, Conditions::cut())?;
        sleep(planned.duration).await;
        Ok(())
    }

    async fn flap(&self, duration: Duration, target: Port, random: &mut Random) -> Result<()> {
        let links = Partition::Isolate(target).links(&self.nodes);
        let until = Instant::now() + duration;
        while Instant::now() < until {
            for conditions in [Conditions::cut(), Conditions::default()] {
                self.control.set(&links, conditions)?;
                sleep(Duration::from_millis(random.between(FLAP_MS.0, FLAP_MS.1))).await;
            }
        }
        Ok(())
    }

    async fn swizzle(&self, duration: Duration, random: &mut Random) -> Result<()> {
        let mut links: Vec<Link> =
            self.all_links().into_iter().filter(|link| link.from != self.clients && link.to != self.clients).collect();
        let step = duration / u32::try_from(links.len() * 2).unwrap_or(1).max(1);
        for conditions in [Conditions::cut(), Conditions::default()] {
            random.shuffle(&mut links);
            for link in &links {
                self.control.set(&[*link], conditions)?;
                sleep(step).await;
            }
        }
        Ok(())
    }

    /// Between nodes, and between clients and nodes.
    fn all_links(&self) -> Vec<Link> {
        let ports: Vec<Port> = self.nodes.iter().copied().chain([self.clients]).collect();
        ports.iter().flat_map(|from| ports.iter().map(|to| Link { from: *from, to: *to })).filter(|link| link.from != link.to).collect()
    }

    fn since(&self, earlier: &BTreeMap<Link, LinkCounts>) -> Result<LinkCounts> {
        let mut total = LinkCounts::default();
        for (link, now) in self.control.counts()? {
            total += now.since(earlier.get(&link).copied().unwrap_or_default());
        }
        Ok(total)
    }
}

/// Draws what one bad link is like.
fn bad(fault: Fault, random: &mut Random) -> Conditions {
    let mut milliseconds = |from, to| Duration::from_millis(random.between(from, to));
    let (delay, jitter) = (milliseconds(5, 100), milliseconds(0, 50));
    let mut per_mille = |from, to| PerMille(u16::try_from(random.between(from, to)).unwrap_or(0));
    let good = Conditions::default();
    match fault {
        Fault::LossyNetwork => Conditions { loss: per_mille(10, 200), ..good },
        Fault::UnorderedNetwork => {
            let delay = Duration::from_millis(5);
            Conditions { delay, jitter, reordering: per_mille(50, 300), duplication: per_mille(10, 100), ..good }
        }
        Fault::AlteredPackets => Conditions { alteration: per_mille(1, 10), ..good },
        _ => Conditions { delay, jitter, ..good },
    }
}
