//! Members that come, go, and lag.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::{NodeLane, Seen};
use crate::{nodes::Place, schedule::Planned};

/// How long a node may take to install a snapshot.
const INSTALLED_WITHIN: Duration = Duration::from_secs(60);

impl NodeLane<'_> {
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
