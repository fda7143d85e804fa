//! Disks that lose power, fill up, refuse writes, are slow, or do not answer.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Duration,
};

use anyhow::Result;
use tokio::time::Instant;

use super::{NodeLane, Seen};
use crate::{
    nodes::{Disk, Place, PowerLoss},
    random::Random,
    schedule::Planned,
};

/// What a node says that could not write: docs/OPERATIONS.md, exit codes.
const DISK_FAILED: i32 = 13;
/// How long after its disk has room again a node may still end because of a write that failed.
const NOTICED_LATE: Duration = Duration::from_secs(1);
/// Writes in a second of a slow disk.
const SLOW_WRITES: (u64, u64) = (5, 40);
/// A write that takes longer than this was slowed down.
const SLOW_FROM: Duration = Duration::from_millis(20);

impl NodeLane<'_> {
    /// All are killed before the first one loses its disk, as when one power supply feeds them all.
    pub(super) async fn lose_power(&mut self, planned: &Planned, targets: &[Place]) -> Result<Seen> {
        for place in targets {
            self.fleet.kill(*place).await?;
        }
        let mut lost = PowerLoss::default();
        for place in targets {
            let loss = self.fleet.at(*place)?.disk.lose_power()?;
            lost.bytes_lost += loss.bytes_lost;
            lost.files_lost += loss.files_lost;
            lost.files_older += loss.files_older;
        }
        self.fleet.hold(planned.duration).await?;
        for place in targets {
            self.fleet.start(*place).await?;
        }
        for place in targets {
            self.fleet.ready(*place).await?;
        }
        let counts = [("bytes_lost", lost.bytes_lost), ("files_lost", lost.files_lost), ("files_older", lost.files_older)];
        Ok(Seen::counted(counts, ""))
    }

    pub(super) async fn fill_disk(&mut self, planned: &Planned, place: Place) -> Result<Seen> {
        self.fleet.at(place)?.expected.push(DISK_FAILED);
        let taken = self.fleet.at(place)?.disk.fill()?;
        let left = self.fleet.at(place)?.disk.free_bytes()?;
        let ended = self.ended_within(place, planned.duration).await?;
        self.fleet.at(place)?.disk.release()?;
        // A write that failed just before may end the node just after.
        self.fleet.hold(NOTICED_LATE).await?;
        let mut ended = ended || !self.fleet.runs(place);
        if ended {
            self.fleet.start(place).await?;
        }
        let ready = self.fleet.ready(place).await;
        if ready.is_err() && !ended && self.fleet.at(place)?.last_code == Some(DISK_FAILED) {
            // It took longer to end than to be given room again.
            ended = true;
            self.fleet.start(place).await?;
            self.fleet.ready(place).await?;
        } else {
            ready?;
        }
        let is_full = left < 4_096 && taken > 0;
        let story = if ended { "the node ended with exit code 13" } else { "the node went on" };
        Ok(Seen::counted([("full", u64::from(is_full)), ("exit_code_13", u64::from(ended))], story))
    }

    pub(super) async fn refuse_writes(&mut self, planned: &Planned, place: Place) -> Result<Seen> {
        self.fleet.at(place)?.expected.push(DISK_FAILED);
        let root = self.fleet.at(place)?.disk.path().to_owned();
        self.fleet.at(place)?.disk.refuse_writes()?;
        let refused = u64::from(File::create(root.join("refused")).is_err());
        let ended = self.ended_within(place, planned.duration).await?;
        if !ended {
            self.fleet.kill(place).await?;
        }
        self.fleet.at(place)?.disk.mount_again()?;
        self.fleet.start(place).await?;
        self.fleet.ready(place).await?;
        let story = if ended { "the node ended with exit code 13" } else { "the node had nothing to write" };
        Ok(Seen::counted([("writes_refused", refused), ("exit_code_13", u64::from(ended))], story))
    }

    pub(super) async fn slow_disk(&mut self, planned: &Planned, place: Place) -> Result<Seen> {
        if !Disk::can_be_slow() {
            return Ok(Seen::skipped("this machine has no blkio controller"));
        }
        let per_second = Random::of(planned.lot, "slow disk").between(SLOW_WRITES.0, SLOW_WRITES.1);
        let root = self.fleet.at(place)?.disk.path().to_owned();
        self.fleet.at(place)?.disk.limit_writes(per_second)?;
        let until = Instant::now() + planned.duration;
        let (mut slow_writes, mut slowest) = (0, Duration::ZERO);
        while Instant::now() < until {
            let took = tokio::task::spawn_blocking({
                let root = root.clone();
                move || write_durably(&root)
            });
            let took = took.await??;
            slow_writes += u64::from(took > SLOW_FROM);
            slowest = slowest.max(took);
            self.fleet.look().await?;
        }
        self.fleet.at(place)?.disk.limit_writes(0)?;
        let story = format!("{per_second} writes a second, slowest fsync {} ms", slowest.as_millis());
        Ok(Seen::counted([("slow_writes", slow_writes)], story))
    }

    pub(super) async fn stick_disk(&mut self, planned: &Planned, place: Place) -> Result<Seen> {
        self.fleet.at(place)?.disk.freeze()?;
        let journal = self.fleet.at(place)?.disk.path().join("journal");
        let before = length_of(&journal);
        self.fleet.hold(planned.duration).await?;
        let has_stopped = length_of(&journal) == before;
        self.fleet.at(place)?.disk.thaw()?;
        self.fleet.ready(place).await?;
        Ok(Seen::counted([("stood_still", u64::from(has_stopped))], ""))
    }

    /// Waits until the node at a place ends, for a while.
    async fn ended_within(&mut self, place: Place, within: Duration) -> Result<bool> {
        let until = Instant::now() + within;
        while self.fleet.runs(place) && Instant::now() < until {
            self.fleet.hold(Duration::from_millis(100)).await?;
        }
        Ok(!self.fleet.runs(place))
    }
}

/// Writes a block and fsyncs it, and returns how long that took.
fn write_durably(root: &Path) -> std::io::Result<Duration> {
    let began = std::time::Instant::now();
    let path = root.join("measured");
    let mut file = File::create(&path)?;
    file.write_all(&[0; 4_096])?;
    file.sync_all()?;
    let took = began.elapsed();
    fs::remove_file(path)?;
    Ok(took)
}

fn length_of(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    files.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}
