//! Processes that are killed, paused and restarted.

use std::time::Duration;

use anyhow::Result;

use super::{NodeLane, Seen};
use crate::{nodes::Place, schedule::Planned};

/// How long the others may take to find a new leader.
const ELECTED_WITHIN: Duration = Duration::from_secs(20);

impl NodeLane<'_> {
    pub(super) async fn kill(&mut self, planned: &Planned, targets: &[Place]) -> Result<Seen> {
        let before = self.observer.view().await.map_or(0, |view| view.term());
        for place in targets {
            self.fleet.kill(*place).await?;
        }
        let killed = targets.iter().filter(|place| !self.fleet.runs(**place)).count() as u64;
        self.fleet.hold(planned.duration).await?;
        for place in targets {
            self.fleet.start(*place).await?;
        }
        for place in targets {
            self.fleet.ready(*place).await?;
        }
        let after = self.observer.view().await.map_or(before, |view| view.term());
        Ok(Seen::counted([("killed", killed), ("terms_passed", after.saturating_sub(before))], ""))
    }

    pub(super) async fn pause(&mut self, planned: &Planned, place: Place) -> Result<Seen> {
        let before = self.observer.view().await.map_or(0, |view| view.term());
        let process = self.fleet.process(place)?;
        process.pause()?;
        self.fleet.hold(planned.duration).await?;
        let process = self.fleet.process(place)?;
        let was_paused = u64::from(process.is_paused());
        process.resume()?;
        let after = self.observer.leader_beyond(before.saturating_sub(1), ELECTED_WITHIN).await.map_or(before, |view| view.term());
        Ok(Seen::counted([("paused", was_paused)], format!("{} terms passed", after.saturating_sub(before))))
    }

    pub(super) async fn restart_each(&mut self, planned: &Planned, targets: &[Place]) -> Result<Seen> {
        let mut stopped_in_order = 0;
        for place in targets {
            let status = self.fleet.stop(*place).await?;
            stopped_in_order += u64::from(status.success());
            self.fleet.hold(planned.duration).await?;
            self.fleet.start(*place).await?;
            self.fleet.ready(*place).await?;
        }
        let others = targets.len() as u64 - stopped_in_order;
        let story = if others > 0 { format!("{others} did not stop in order") } else { String::new() };
        Ok(Seen::counted([("stopped_in_order", stopped_in_order)], story))
    }
}
