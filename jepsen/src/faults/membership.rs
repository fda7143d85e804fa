//! Members that come, go, and lag.

use std::time::Duration;

use anyhow::Result;
use proofline_proto::v1;
use tokio::time::Instant;

use super::{NodeLane, Seen};
use crate::{nodes::Place, schedule::Planned};

/// How long the cluster may take until it has done without a node.
const REMOVED_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to install a snapshot.
const INSTALLED_WITHIN: Duration = Duration::from_secs(60);

impl NodeLane<'_> {
    /// A node that lives and works is no member any more: for a while the others work on as they are, then another one joins.
    pub(super) async fn remove_alive(&mut self, planned: &Planned, place: Place) -> Result<Seen> {
        let old = self.fleet.node_at(place)?;
        let Some(before) = self.observer.view().await else { return Ok(Seen::skipped("nobody leads")) };
        self.fleet.give_up(place)?;
        let remove = v1::ChangeMembershipRequest { remove: vec![old.0], ..Default::default() };
        self.observer.change_members(remove, REMOVED_WITHIN).await?;
        let after = self.observer.leader_beyond(before.term(), REMOVED_WITHIN).await;
        let is_gone = after.is_some_and(|view| !view.members().contains(&old.0));
        let was_alive = self.fleet.runs(place);
        self.fleet.hold(planned.duration).await?;
        let replaced = self.replace_node(place).await?;
        Ok(Seen::counted([("removed_alive", u64::from(is_gone && was_alive && replaced.is_seen()))], replaced.story))
    }

    pub(super) async fn replace_node(&mut self, place: Place) -> Result<Seen> {
        let old = self.fleet.node_at(place)?;
        let began = Instant::now();
        let new = self.fleet.replace(place, &self.observer).await?;
        let members = self.observer.view().await.map(|view| view.members()).unwrap_or_default();
        let is_done = members.contains(&new.0) && !members.contains(&old.0);
        let installed = self.fleet.database(place).is_some_and(|database| database > 1);
        let story = format!("node {} follows node {} after {} ms", new.0, old.0, began.elapsed().as_millis());
        Ok(Seen::counted([("replaced", u64::from(is_done)), ("snapshots_installed", u64::from(installed))], story))
    }

    /// The node is away until the others have applied so much that the entries which it needs are cut off.
    pub(super) async fn install_snapshot(&mut self, planned: &Planned, place: Place) -> Result<Seen> {
        let (before, needed) = (self.fleet.database(place), self.fleet.entries_until_cut());
        let applied = |view: crate::nodes::ClusterView| view.applied();
        let Some(from) = self.observer.view().await.map(applied) else { return Ok(Seen::skipped("nobody leads")) };
        self.fleet.kill(place).await?;
        let until = Instant::now() + planned.duration;
        let mut grown = 0;
        while grown < needed && Instant::now() < until {
            self.fleet.hold(Duration::from_millis(500)).await?;
            grown = self.observer.view().await.map_or(grown, |view| view.applied().saturating_sub(from));
        }
        self.fleet.start(place).await?;
        self.fleet.ready(place).await?;
        let until = Instant::now() + INSTALLED_WITHIN;
        while grown >= needed && self.fleet.database(place) == before && Instant::now() < until {
            self.fleet.hold(Duration::from_millis(200)).await?;
        }
        let installed = self.fleet.database(place) != before;
        Ok(Seen::counted([("snapshots_installed", u64::from(installed))], format!("the others applied {grown} Raft entries meanwhile")))
    }
}
