//! Wall clocks that jump, are off, or run wrong.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use super::{NodeLane, Seen};
use crate::{
    nodes::{Clock, Place},
    random::Random,
    schedule::{Fault, Planned},
};

/// Between two looks at how far the clocks are apart.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Clocks that are right differ by less, slow answers included.
const APART_MS: u64 = 800;

impl NodeLane<'_> {
    pub(super) async fn set_clock(&mut self, planned: &Planned, place: Place) -> Result<Seen> {
        let Some(clock) = self.fleet.at(place)?.clock.clone() else { return Ok(Seen::skipped("nodes have no clocks of their own")) };
        let detail = disturb(&clock, planned)?;
        let (until, mut widest) = (Instant::now() + planned.duration, 0);
        while Instant::now() < until {
            self.fleet.hold(LOOK_AGAIN).await?;
            widest = widest.max(self.observer.view().await.map_or(0, |view| view.clocks_apart_ms()));
        }
        clock.set_right().context("the clock was not set right")?;
        let count = if widest >= APART_MS { widest } else { 0 };
        Ok(Seen::counted([("clocks_apart_ms", count)], detail))
    }
}

fn disturb(clock: &Clock, planned: &Planned) -> Result<String> {
    let mut random = Random::of(planned.lot, "clock");
    let sign = if random.below(2) == 0 { 1 } else { -1 };
    let ahead = |seconds: u64| sign * i64::try_from(seconds).unwrap_or(0);
    match planned.fault {
        Fault::ClockRate => {
            let percent = if sign > 0 { 200 } else { 50 };
            clock.run_at(percent)?;
            Ok(format!("the clock runs at {percent} %"))
        }
        Fault::ClockSkew => {
            let seconds = ahead(random.between(1, 10));
            clock.set_off(seconds)?;
            Ok(format!("the clock is off by {seconds} s"))
        }
        _ => {
            let seconds = ahead(random.between(60, 3_600));
            clock.set_off(seconds)?;
            Ok(format!("the clock jumps by {seconds} s"))
        }
    }
}
