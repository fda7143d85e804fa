//! The faults: how each is installed, what shows that it was there, and how it goes away.
//!
//! Always true: what could not be installed is skipped or indeterminate, and never counts as a fault that the cluster survived;
//! evidence is counted by somebody else than the one who installs: the switch, the kernel, the file system, an exit code.

mod clock;
mod corruption;
mod disk;
mod membership;
mod network;
mod process;
mod tails;

use std::fmt::Write as _;

use anyhow::Result;

pub use corruption::{Damage, FileClass};
pub use network::NetworkLane;

use crate::{
    history::{Evidence, Installed, NodeId},
    nodes::{Fleet, Observer, Place},
    schedule::{Fault, Planned},
};

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether it was there.
    pub installed: Installed,
    /// What shows it.
    pub evidence: Evidence,
    /// For people.
    pub story: String,
}

impl Seen {
    /// A fault that was there, and what was counted. When nothing was, it does not count as seen.
    #[must_use]
    pub fn counted<const N: usize>(counts: [(&str, u64); N], story: impl Into<String>) -> Self {
        let evidence: Evidence = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        Self { installed: Installed::Installed, evidence, story: story.into() }
    }

    /// Tells whether the fault was there and showed.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        self.installed == Installed::Installed && self.evidence.values().any(|count| *count > 0)
    }

    /// A fault that did not fit what the cluster was like.
    #[must_use]
    pub fn skipped(why: impl Into<String>) -> Self {
        Self { installed: Installed::Skipped, evidence: Evidence::new(), story: why.into() }
    }

    /// A fault of which nobody knows whether it was there.
    #[must_use]
    pub fn indeterminate(why: impl Into<String>) -> Self {
        Self { installed: Installed::Indeterminate, evidence: Evidence::new(), story: why.into() }
    }

    /// Returns what was counted, for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (name, count) in &self.evidence {
            // Writing to a string does not fail.
            let _ = write!(text, "{}{name} {count}", if text.is_empty() { "" } else { ", " });
        }
        match (self.installed, text.is_empty()) {
            (Installed::Installed, true) => self.story.clone(),
            (Installed::Installed, false) => format!("{text}{}{}", if self.story.is_empty() { "" } else { "; " }, self.story),
            (Installed::Skipped, _) => format!("skipped: {}", self.story),
            (Installed::Indeterminate, _) => format!("indeterminate: {} {text}", self.story),
        }
    }
}

/// Injects faults of processes, disks, clocks, files and members.
#[derive(Debug)]
pub struct NodeLane<'a> {
    /// The nodes.
    pub fleet: &'a mut Fleet,
    /// Asks them how they are.
    pub observer: Observer,
}

impl NodeLane<'_> {
    /// Returns at which places a fault is aimed; none when it does not fit.
    pub async fn targets(&self, planned: &Planned) -> Vec<Place> {
        let places = self.fleet.places();
        match planned.fault {
            Fault::KillLeader | Fault::PauseLeader | Fault::RemoveLeader => {
                self.observer.view().await.and_then(|view| Some(view.leader()?.1)).into_iter().collect()
            }
            Fault::KillAll | Fault::PowerLossAll | Fault::RollingRestart | Fault::Helix => places,
            Fault::LostTails => majority_behind(&places, planned.place),
            Fault::PowerLossTwo => places.into_iter().filter(|place| *place != planned.place).collect(),
            _ => vec![planned.place],
        }
    }

    /// Returns who is at some places.
    #[must_use]
    pub fn nodes(&self, places: &[Place]) -> Vec<NodeId> {
        places.iter().filter_map(|place| self.fleet.node_at(*place).ok()).collect()
    }

    /// Installs a fault, lets it last, takes it away, and says what was seen.
    ///
    /// # Errors
    /// When the harness could not do its part; then nobody knows what the fault did.
    pub async fn inject(&mut self, planned: &Planned, targets: &[Place]) -> Result<Seen> {
        let Some(first) = targets.first().copied() else { return Ok(Seen::skipped("nobody leads")) };
        if targets.iter().any(|place| !self.fleet.runs(*place)) {
            return Ok(Seen::skipped("not all of them run"));
        }
        match planned.fault {
            Fault::Kill | Fault::KillLeader | Fault::KillAll => self.kill(planned, targets).await,
            Fault::Pause | Fault::PauseLeader => self.pause(planned, first).await,
            Fault::RollingRestart => self.restart_each(planned, targets).await,
            Fault::PowerLoss | Fault::PowerLossTwo | Fault::PowerLossAll => self.lose_power(planned, targets).await,
            Fault::DiskFull => self.fill_disk(planned, first).await,
            Fault::ReadOnlyDisk => self.refuse_writes(planned, first).await,
            Fault::SlowDisk => self.slow_disk(planned, first).await,
            Fault::StuckDisk => self.stick_disk(planned, first).await,
            Fault::ClockJump | Fault::ClockSkew | Fault::ClockRate => self.set_clock(planned, first).await,
            Fault::BitFlip | Fault::Truncate | Fault::OldCopy | Fault::Delete => self.damage(planned, first).await,
            Fault::LostTails => self.lose_tails(planned, targets).await,
            Fault::Helix => self.damage_each_elsewhere(planned).await,
            Fault::RemoveLeader => self.remove_alive(planned, first).await,
            Fault::ReplaceNode => self.replace_node(first).await,
            Fault::SnapshotInstall => self.install_snapshot(planned, first).await,
            Fault::Isolate
            | Fault::IsolateLeader
            | Fault::DeafLeader
            | Fault::DeafLeaderBriefly
            | Fault::MuteLeader
            | Fault::Bridge
            | Fault::Ring
            | Fault::Flap
            | Fault::Swizzle
            | Fault::SlowNetwork
            | Fault::LossyNetwork
            | Fault::UnorderedNetwork
            | Fault::AlteredPackets
            | Fault::CutClients => Ok(Seen::skipped("a fault of the network")),
        }
    }

    /// Brings every node back after a fault: started again, or, when it may not be, replaced. A replacement that was
    /// given up half way is brought to its end.
    ///
    /// # Errors
    /// When a node does not come back.
    pub async fn recover(&mut self) -> Result<()> {
        self.fleet.bring_back().await?;
        for place in self.fleet.places() {
            if !self.fleet.runs(place) {
                eprintln!("  place {} is damaged: another node takes it", place.0);
                self.fleet.give_up(place)?;
            }
            self.fleet.finish_replacing(place, &self.observer).await?;
            self.fleet.at(place)?.expected.clear();
        }
        Ok(())
    }
}

/// Returns a majority of the places, from the one behind `spared` on.
fn majority_behind(places: &[Place], spared: Place) -> Vec<Place> {
    let behind = places.iter().position(|place| *place == spared).map_or(0, |at| at + 1);
    places.iter().cycle().skip(behind).take(places.len() / 2 + 1).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_spares_who_is_to_be_spared() {
        let places = |of: &[usize]| of.iter().map(|place| Place(*place)).collect::<Vec<_>>();
        assert_eq!(majority_behind(&places(&[0, 1, 2]), Place(1)), places(&[2, 0]));
        assert_eq!(majority_behind(&places(&[0, 1, 2, 3, 4]), Place(4)), places(&[0, 1, 2]));
        assert_eq!(majority_behind(&places(&[]), Place(0)), places(&[]));
    }
}
