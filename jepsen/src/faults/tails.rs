//! Raft logs of a majority that lost their ends: what nobody can repair, because nobody else need have it.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    NodeLane, Seen,
    corruption::{FileClass, NOTICED},
};
use crate::{nodes::Place, random::Random, schedule::Planned};

/// How many hundredths of its newest file a Raft log loses, from and to.
const LOST_PERCENT: (u64, u64) = (10, 50);

impl NodeLane<'_> {
    /// Kills all nodes, cuts the ends off the Raft logs of `targets`, and starts those: each must stop, because it lacks what it
    /// acknowledged. Whoever stopped has promised nothing since, and gets its disk back as it was. The others come last, so that
    /// nodes that serve all the same serve with what they have.
    pub(super) async fn lose_tails(&mut self, planned: &Planned, targets: &[Place]) -> Result<Seen> {
        let mut random = Random::of(planned.lot, "lost tails");
        let running: Vec<Place> = self.fleet.places().into_iter().filter(|place| self.fleet.runs(*place)).collect();
        for place in &running {
            self.fleet.kill(*place).await?;
        }
        let Some(tails) = self.tails(targets)? else {
            self.serve_again(&running).await?;
            return Ok(Seen::skipped("a Raft log was just begun anew, and has no end to lose"));
        };
        let mut bytes = 0;
        for (place, tail) in targets.iter().zip(tails) {
            self.fleet.at(*place)?.expected.extend(NOTICED);
            self.keep_copy(*place)?;
            bytes += cut(&tail, &mut random)?;
        }
        let served: Vec<usize> = targets.iter().map(|place| self.fleet.times_served(*place)).collect();
        for place in targets {
            self.fleet.start(*place).await?;
        }
        self.fleet.hold(planned.duration).await?;
        let stopped = self.restore_stopped(targets, &served).await?;
        self.serve_again(&running).await?;
        let story = format!("{} of {} nodes stopped", stopped.len(), targets.len());
        Ok(Seen::counted([("bytes_lost", bytes), ("stopped", stopped.len() as u64)], story))
    }

    /// Returns the newest records of each target; none when one of them has none, right after a flush.
    fn tails(&mut self, targets: &[Place]) -> Result<Option<Vec<PathBuf>>> {
        let roots = targets.iter().map(|place| Ok(self.fleet.at(*place)?.disk.path().to_owned())).collect::<Result<Vec<_>>>()?;
        Ok(roots.iter().map(|root| FileClass::JournalLog.find(root)).collect())
    }

    /// Starts those that do not run, and waits until all serve.
    async fn serve_again(&mut self, places: &[Place]) -> Result<()> {
        for place in places {
            if !self.fleet.runs(*place) {
                self.fleet.start(*place).await?;
            }
        }
        for place in places {
            self.fleet.ready(*place).await?;
        }
        Ok(())
    }
}

/// Cuts off the end of a file of records, and returns how many bytes went.
fn cut(path: &Path, random: &mut Random) -> Result<u64> {
    let file = File::options().write(true).open(path)?;
    let length = file.metadata()?.len();
    let lost = (length * random.between(LOST_PERCENT.0, LOST_PERCENT.1) / 100).max(1);
    file.set_len(length - lost)?;
    file.sync_all()?;
    Ok(lost)
}
