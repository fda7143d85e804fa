//! Which faults come when: decided by the seed before the run begins.

use std::{collections::BTreeSet, time::Duration};

use clap::ValueEnum;
use serde::{Serialize, Serializer};

pub use crate::history::Fault;
use crate::{nodes::Place, random::Random};

/// Before the first fault, and after the last: the cluster is left alone.
const QUIET: Duration = Duration::from_secs(3);
/// Rest between two faults of one lane.
const REST_MS: (u64, u64) = (1_500, 4_000);

/// Faults that go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FaultGroup {
    /// Everything
    All,
    /// Partitions and bad links
    Network,
    /// Kills and pauses
    Process,
    /// Power losses, and full, slow, stuck and read-only disks
    Disk,
    /// Wall clocks that jump, are off, or run wrong
    Clock,
    /// Damaged files
    Corruption,
    /// Members that come, go and lag
    Membership,
}

/// Faults of different lanes come at the same time, those of one lane one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// The switch.
    Network,
    /// Processes, disks, clocks and members.
    Nodes,
}

/// One fault of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Number in the schedule, from 0.
    pub number: u64,
    /// When, after the schedule begins.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// At which place, unless the fault says itself where.
    pub place: Place,
    /// For how long.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// Decides the details.
    pub lot: u64,
}

fn milliseconds<S: Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// All faults of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// What decided it.
    pub seed: u64,
    /// The faults, by time.
    pub faults: Vec<Planned>,
}

impl Fault {
    /// Returns the group that it belongs to.
    #[must_use]
    pub fn group(self) -> FaultGroup {
        match self {
            Self::Kill | Self::KillLeader | Self::KillAll | Self::Pause | Self::PauseLeader => FaultGroup::Process,
            Self::PowerLoss
            | Self::PowerLossTwo
            | Self::PowerLossAll
            | Self::DiskFull
            | Self::ReadOnlyDisk
            | Self::SlowDisk
            | Self::StuckDisk => FaultGroup::Disk,
            Self::ClockJump | Self::ClockSkew | Self::ClockRate => FaultGroup::Clock,
            Self::BitFlip | Self::Truncate | Self::OldCopy | Self::Delete | Self::LostTails | Self::Helix => FaultGroup::Corruption,
            Self::RemoveLeader | Self::ReplaceNode | Self::SnapshotInstall | Self::RollingRestart => FaultGroup::Membership,
            Self::Isolate
            | Self::IsolateLeader
            | Self::DeafLeader
            | Self::DeafLeaderBriefly
            | Self::MuteLeader
            | Self::Bridge
            | Self::Ring
            | Self::Flap
            | Self::Swizzle
            | Self::SlowNetwork
            | Self::LossyNetwork
            | Self::UnorderedNetwork
            | Self::AlteredPackets
            | Self::CutClients => FaultGroup::Network,
        }
    }

    /// Returns which lane injects it.
    #[must_use]
    pub fn lane(self) -> Lane {
        if self.group() == FaultGroup::Network { Lane::Network } else { Lane::Nodes }
    }

    /// Returns all faults of some groups, in a fixed order and once each.
    #[must_use]
    pub fn of_groups(groups: &[FaultGroup]) -> Vec<Self> {
        let is_wanted = |fault: &Self| groups.iter().any(|group| *group == FaultGroup::All || *group == fault.group());
        Self::value_variants().iter().copied().filter(is_wanted).collect()
    }

    /// How long it lasts, from and to, in milliseconds.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            Self::Kill | Self::KillLeader | Self::KillAll => (200, 4_000),
            Self::PowerLoss | Self::PowerLossTwo | Self::PowerLossAll => (200, 2_000),
            Self::StuckDisk => (1_000, 5_000),
            Self::DeafLeaderBriefly => (1_200, 2_400),
            Self::LostTails => (4_000, 7_000),
            Self::OldCopy | Self::BitFlip | Self::Truncate | Self::Delete | Self::Helix => (3_000, 6_000),
            Self::ReplaceNode | Self::RollingRestart => (500, 2_000),
            Self::RemoveLeader => (1_000, 4_000),
            Self::SnapshotInstall => (45_000, 45_000),
            Self::Pause | Self::PauseLeader => (1_000, 12_000),
            _ => (3_000, 10_000),
        }
    }
}

impl Schedule {
    /// Decides the faults of a run that lasts `length`, out of `faults`, at `places` places.
    ///
    /// Each lane takes its faults in rounds: every one once, in an order by lot, then all again.
    #[must_use]
    pub fn draw(seed: u64, length: Duration, faults: &[Fault], places: usize) -> Self {
        let mut drawn = Vec::new();
        for lane in [Lane::Network, Lane::Nodes] {
            let of_lane: Vec<Fault> = faults.iter().copied().filter(|fault| fault.lane() == lane && *fault != Fault::Helix).collect();
            drawn.extend(draw_lane(seed, lane, length, &of_lane, places));
        }
        drawn.sort_by_key(|planned: &Planned| (planned.at, planned.fault));
        if faults.contains(&Fault::Helix) {
            drawn.push(last(seed, length, Fault::Helix));
        }
        for (number, planned) in drawn.iter_mut().enumerate() {
            planned.number = number as u64;
        }
        Self { seed, faults: drawn }
    }

    /// Returns the faults of one lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> Vec<Planned> {
        self.faults.iter().copied().filter(|planned| planned.fault.lane() == lane).collect()
    }

    /// Returns the faults that it holds, once each.
    #[must_use]
    pub fn distinct(&self) -> Vec<Fault> {
        let faults: BTreeSet<Fault> = self.faults.iter().map(|planned| planned.fault).collect();
        faults.into_iter().collect()
    }
}

fn draw_lane(seed: u64, lane: Lane, length: Duration, faults: &[Fault], places: usize) -> Vec<Planned> {
    let mut random = Random::of(seed, if lane == Lane::Network { "schedule of the network" } else { "schedule of the nodes" });
    let (mut at, mut drawn, mut round) = (QUIET, Vec::new(), Vec::new());
    loop {
        if round.is_empty() {
            round = faults.to_vec();
            random.shuffle(&mut round);
        }
        let Some(fault) = round.pop() else { return drawn };
        let (from, to) = fault.lasts_ms();
        let duration = Duration::from_millis(random.between(from, to));
        let planned = Planned { number: 0, at, fault, place: Place(random.place(places)), duration, lot: random.next() };
        at += duration + Duration::from_millis(random.between(REST_MS.0, REST_MS.1));
        if at + QUIET > length {
            return drawn;
        }
        drawn.push(planned);
    }
}

fn last(seed: u64, length: Duration, fault: Fault) -> Planned {
    let mut random = Random::of(seed, "last fault");
    let (from, to) = fault.lasts_ms();
    let duration = Duration::from_millis(random.between(from, to));
    Planned { number: 0, at: length.saturating_sub(QUIET), fault, place: Place(0), duration, lot: random.next() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64, groups: &[FaultGroup]) -> Schedule {
        Schedule::draw(seed, Duration::from_secs(600), &Fault::of_groups(groups), 3)
    }

    #[test]
    fn a_seed_decides_the_schedule() {
        assert_eq!(drawn(7, &[FaultGroup::All]), drawn(7, &[FaultGroup::All]));
        assert_ne!(drawn(7, &[FaultGroup::All]), drawn(8, &[FaultGroup::All]));
    }

    #[test]
    fn faults_of_one_lane_do_not_overlap_and_all_end_in_time() {
        let schedule = drawn(7, &[FaultGroup::All]);
        for lane in [Lane::Network, Lane::Nodes] {
            let faults = schedule.lane(lane);
            assert!(faults.len() > 10);
            assert!(faults.windows(2).all(|pair| pair[0].fault == Fault::Helix || pair[0].at + pair[0].duration < pair[1].at));
        }
        assert!(schedule.faults.iter().all(|planned| planned.place.0 < 3 && planned.at < Duration::from_secs(600)));
    }

    #[test]
    fn a_long_schedule_holds_every_fault_and_ends_with_the_helix() {
        let schedule = drawn(7, &[FaultGroup::All]);
        let held: std::collections::BTreeSet<Fault> = schedule.faults.iter().map(|planned| planned.fault).collect();
        assert_eq!(held.len(), Fault::value_variants().len());
        assert_eq!(schedule.lane(Lane::Nodes).last().map(|planned| planned.fault), Some(Fault::Helix));
    }

    #[test]
    fn groups_hold_what_their_names_say() {
        assert!(Fault::of_groups(&[FaultGroup::Clock]).iter().all(|fault| fault.lane() == Lane::Nodes));
        assert_eq!(Fault::of_groups(&[FaultGroup::Clock]).len(), 3);
        assert_eq!(Fault::of_groups(&[FaultGroup::All]).len(), Fault::value_variants().len());
        assert_eq!(drawn(7, &[FaultGroup::Clock]).lane(Lane::Network), []);
    }
}
