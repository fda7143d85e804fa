//! Files that hold something else than the node wrote.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

use super::{NodeLane, Seen};
use crate::{
    history::Mark,
    nodes::Place,
    program,
    random::Random,
    schedule::{Fault, Planned},
};

/// Exit codes by which a node says that its disk is not what it left: docs/OPERATIONS.md.
pub(super) const NOTICED: [i32; 3] = [10, 11, 12];
/// How long a node may take to verify its disk.
const VERIFIED_WITHIN: Duration = Duration::from_secs(30);
/// How long a node that serves on a damaged disk may take until it is seen with the same state as another one.
const SAME_WITHIN: Duration = Duration::from_secs(30);

/// A part of a data directory, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileClass {
    /// Write-ahead log of the Raft log: the newest records.
    JournalLog,
    /// Table of the Raft log: older records.
    JournalTable,
    /// List of the tables of the Raft log.
    JournalManifest,
    /// Which list is in use.
    JournalCurrent,
    /// What the Raft log must at least hold.
    HighWater,
    /// What this node has cosigned.
    SignedTree,
    /// Whose directory it is.
    Identity,
    /// Which state and snapshot are in use.
    StatePointer,
    /// Table of the replicated state.
    StateTable,
    /// List of the tables of the state.
    StateManifest,
    /// Which list is in use.
    StateCurrent,
    /// Table of a snapshot.
    SnapshotTable,
}

impl FileClass {
    /// Every class.
    pub const ALL: [Self; 12] = [
        Self::JournalLog,
        Self::JournalTable,
        Self::JournalManifest,
        Self::JournalCurrent,
        Self::HighWater,
        Self::SignedTree,
        Self::Identity,
        Self::StatePointer,
        Self::StateTable,
        Self::StateManifest,
        Self::StateCurrent,
        Self::SnapshotTable,
    ];

    /// Finds the largest file of the class that holds anything.
    #[must_use]
    pub fn find(self, root: &Path) -> Option<PathBuf> {
        let (directory, beginning, ending) = match self {
            Self::JournalLog => (root.join("journal"), "", ".log"),
            Self::JournalTable => (root.join("journal"), "", ".sst"),
            Self::JournalManifest => (root.join("journal"), "MANIFEST-", ""),
            Self::JournalCurrent => (root.join("journal"), "CURRENT", "CURRENT"),
            Self::HighWater => (root.to_owned(), "high-water", "high-water"),
            Self::SignedTree => (root.to_owned(), "signed-tree", "signed-tree"),
            Self::Identity => (root.to_owned(), "identity", "identity"),
            Self::StatePointer => (root.join("state"), "CURRENT", "CURRENT"),
            Self::StateTable => (newest(root, "db-")?, "", ".sst"),
            Self::StateManifest => (newest(root, "db-")?, "MANIFEST-", ""),
            Self::StateCurrent => (newest(root, "db-")?, "CURRENT", "CURRENT"),
            Self::SnapshotTable => (newest(root, "snapshot-")?, "", ".sst"),
        };
        let files = fs::read_dir(directory).ok()?.filter_map(Result::ok);
        let of_class = files.filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(beginning) && name.ends_with(ending)
        });
        let with_length = of_class.filter_map(|entry| Some((entry.metadata().ok()?.len(), entry.path())));
        with_length.filter(|(length, _)| *length > 0).max().map(|(_, path)| path)
    }
}

fn newest(root: &Path, beginning: &str) -> Option<PathBuf> {
    let directories = fs::read_dir(root.join("state")).ok()?.filter_map(Result::ok);
    let numbered = directories.filter_map(|entry| {
        let number = entry.file_name().to_str()?.strip_prefix(beginning)?.parse::<u64>().ok()?;
        Some((number, entry.path()))
    });
    numbered.max().map(|(_, path)| path)
}

/// A way to damage a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Flip one bit.
    BitFlip,
    /// Cut off the end.
    Truncate,
    /// Put back what the file held before.
    OldCopy(Vec<u8>),
    /// Remove it.
    Delete,
}

impl Damage {
    /// Damages a file, and returns how many of its bytes are others than before.
    ///
    /// # Errors
    /// When the file cannot be changed.
    pub fn apply(&self, path: &Path, random: &mut Random) -> std::io::Result<u64> {
        let length = fs::metadata(path)?.len();
        match self {
            Self::BitFlip => {
                let at = random.below(length);
                let file = File::options().read(true).write(true).open(path)?;
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                file.write_all_at(&byte.map(|byte| byte ^ (1 << random.below(8))), at)?;
                file.sync_all()?;
                Ok(1)
            }
            Self::Truncate => {
                let kept = random.below(length);
                let file = File::options().write(true).open(path)?;
                file.set_len(kept)?;
                file.sync_all()?;
                Ok(length - kept)
            }
            Self::OldCopy(old) => {
                let now = fs::read(path)?;
                let differing = old.iter().zip(&now).filter(|(old, now)| old != now).count() + old.len().abs_diff(now.len());
                fs::write(path, old)?;
                Ok(differing as u64)
            }
            Self::Delete => fs::remove_file(path).map(|()| length),
        }
    }
}

/// Returns which file of a killed node is damaged, and how: the first of the classes that has one. An old copy must be another.
fn choose(fault: Fault, classes: &[FileClass], earlier: Vec<(PathBuf, Vec<u8>)>, root: &Path) -> Option<(PathBuf, Damage)> {
    let damage = match fault {
        Fault::Truncate => Damage::Truncate,
        Fault::Delete => Damage::Delete,
        Fault::OldCopy => {
            let differs = |path: &Path, bytes: &[u8]| fs::read(path).is_ok_and(|now| now != bytes);
            let (path, bytes) = earlier.into_iter().find(|(path, bytes)| differs(path, bytes))?;
            return Some((path, Damage::OldCopy(bytes)));
        }
        _ => Damage::BitFlip,
    };
    classes.iter().find_map(|class| class.find(root)).map(|path| (path, damage))
}

impl NodeLane<'_> {
    pub(super) async fn damage(&mut self, planned: &Planned, place: Place) -> Result<Seen> {
        let mut random = Random::of(planned.lot, "damage");
        let root = self.fleet.at(place)?.disk.path().to_owned();
        let mut classes = FileClass::ALL.to_vec();
        random.shuffle(&mut classes);
        let held = |class: &FileClass| class.find(&root).and_then(|path| Some((path.clone(), fs::read(path).ok()?)));
        let earlier: Vec<(PathBuf, Vec<u8>)> = classes.iter().filter_map(held).collect();
        if planned.fault == Fault::OldCopy {
            self.fleet.hold(planned.duration).await?;
        }
        self.fleet.at(place)?.expected.extend(NOTICED);
        self.fleet.kill(place).await?;
        let chosen = choose(planned.fault, &classes, earlier, &root);
        let Some((path, damage)) = chosen else {
            self.fleet.start(place).await?;
            return Ok(Seen::skipped("no file holds anything else than before"));
        };
        self.fleet.give_up(place)?;
        let bytes = damage.apply(&path, &mut random).with_context(|| format!("{} cannot be damaged", path.display()))?;
        self.fleet.start(place).await?;
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        let verdict = self.verdict(place, planned.duration).await?;
        let story = format!("{name}: {verdict}");
        if self.fleet.runs(place) {
            let node = self.fleet.node_at(place)?;
            // One other: under faults of the network all of them rarely have the same at one time.
            if self.observer.is_shared_by(node, SAME_WITHIN).await {
                self.fleet.recorder().mark(Mark::DamageHarmless { node }).await;
            }
            // Whatever is damaged and was not read yet stays on the disk: the node is replaced all the same.
            self.fleet.kill(place).await?;
        }
        self.fleet.replace(place, &self.observer).await?;
        Ok(Seen::counted([("bytes_damaged", bytes), ("stopped", u64::from(verdict.is_stop()))], story))
    }

    /// Waits until a node that was started on a damaged disk ends, or has served for a while.
    async fn verdict(&mut self, place: Place, serving: Duration) -> Result<Verdict> {
        let node = self.fleet.node_at(place)?;
        let until = Instant::now() + VERIFIED_WITHIN;
        while self.fleet.runs(place) && Instant::now() < until {
            if self.fleet.is_ready(place).await? {
                self.fleet.hold(serving).await?;
                break;
            }
            self.fleet.hold(Duration::from_millis(50)).await?;
        }
        if self.fleet.runs(place) {
            return Ok(Verdict::Served);
        }
        let code = self.fleet.at(place)?.last_code;
        let how = format!("exit code {}", code.unwrap_or(-1));
        self.fleet.recorder().mark(Mark::DamageNoticed { node, how }).await;
        Ok(Verdict::Ended(code))
    }

    /// Damages the Raft log of one node, the state of the next and the high-water file of the third, by lot who is which. Each
    /// must stop or serve truly. Whoever stopped at once has promised nothing since: it gets its whole disk back as it was.
    pub(super) async fn damage_each_elsewhere(&mut self, planned: &Planned) -> Result<Seen> {
        let mut random = Random::of(planned.lot, "helix");
        let mut places = self.fleet.places();
        random.shuffle(&mut places);
        let regions = [FileClass::JournalLog, FileClass::StateManifest, FileClass::HighWater];
        for place in &places {
            self.fleet.at(*place)?.expected.extend(NOTICED);
            self.fleet.kill(*place).await?;
        }
        let mut bytes = 0;
        for (place, class) in places.iter().zip(regions) {
            self.keep_copy(*place)?;
            let root = self.fleet.at(*place)?.disk.path().to_owned();
            let path = class.find(&root).with_context(|| format!("no file of the class {class:?}"))?;
            bytes += Damage::BitFlip.apply(&path, &mut random)?;
        }
        let served: Vec<usize> = places.iter().map(|place| self.fleet.times_served(*place)).collect();
        for place in &places {
            self.fleet.start(*place).await?;
        }
        self.fleet.hold(planned.duration).await?;
        let stopped = self.restore_stopped(&places, &served).await?;
        for place in &stopped {
            self.fleet.start(*place).await?;
        }
        for place in &places {
            self.fleet.ready(*place).await?;
        }
        Ok(Seen::counted([("bytes_damaged", bytes), ("stopped", stopped.len() as u64)], ""))
    }

    /// Copies the disk of a node that does not run.
    pub(super) fn keep_copy(&mut self, place: Place) -> Result<()> {
        let disk = &mut self.fleet.at(place)?.disk;
        disk.unmount()?;
        let (image, kept) = (disk.image().to_string_lossy().into_owned(), kept(disk.image()));
        program::run("cp", &["--sparse=always", &image, &kept])?;
        Ok(disk.mount()?)
    }

    /// Gives every node that stopped on its damaged disk the copy back, and returns them; `served` is how often each of `places`
    /// had served before. The other copies go.
    pub(super) async fn restore_stopped(&mut self, places: &[Place], served: &[usize]) -> Result<Vec<Place>> {
        let stopped: Vec<Place> = places.iter().copied().filter(|place| !self.fleet.runs(*place)).collect();
        let late = places.iter().zip(served).find(|(place, before)| stopped.contains(place) && self.fleet.times_served(**place) > **before);
        if let Some((place, _)) = late {
            bail!("the node at place {} served before it stopped: nobody may take its promises back", place.0);
        }
        for place in places {
            let node = self.fleet.node_at(*place)?;
            let station = self.fleet.at(*place)?;
            let (image, kept) = (station.disk.image().to_string_lossy().into_owned(), kept(station.disk.image()));
            if stopped.contains(place) {
                let how = format!("exit code {}", station.last_code.unwrap_or(-1));
                station.disk.unmount()?;
                program::run("cp", &["--sparse=always", &kept, &image])?;
                station.disk.mount()?;
                self.fleet.recorder().mark(Mark::DamageNoticed { node, how }).await;
            }
            fs::remove_file(kept)?;
        }
        Ok(stopped)
    }
}

fn kept(image: &Path) -> String {
    image.with_extension("kept").to_string_lossy().into_owned()
}

/// What a node did on a damaged disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Served,
    Ended(Option<i32>),
}

impl Verdict {
    fn is_stop(self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Served => out.write_str("the node served"),
            Self::Ended(Some(code)) => write!(out, "the node ended with exit code {code}"),
            Self::Ended(None) => out.write_str("a signal ended the node"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, content).unwrap();
        (directory, path)
    }

    #[test]
    fn each_damage_says_how_many_bytes_it_changed() {
        let mut random = Random::of(1, "test");
        let (_kept, path) = file(&[7; 100]);
        assert_eq!(Damage::BitFlip.apply(&path, &mut random).unwrap(), 1);
        assert_eq!(fs::read(&path).unwrap().iter().filter(|byte| **byte != 7).count(), 1);
        let (_kept, path) = file(&[7; 100]);
        assert_eq!(Damage::OldCopy(vec![7; 100]).apply(&path, &mut random).unwrap(), 0);
        assert_eq!(Damage::OldCopy(vec![8; 90]).apply(&path, &mut random).unwrap(), 100);
        let (_kept, path) = file(&[7; 100]);
        let lost = Damage::Truncate.apply(&path, &mut random).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len() + lost, 100);
        let left = fs::metadata(&path).unwrap().len();
        assert_eq!(Damage::Delete.apply(&path, &mut random).unwrap(), left);
        assert!(!path.exists());
    }

    #[test]
    fn classes_find_the_largest_file_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        for (path, length) in
            [("journal/4.log", 10), ("journal/9.log", 90), ("journal/CURRENT", 5), ("state/CURRENT", 6), ("state/db-2/7.sst", 8)]
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![1; length]).unwrap();
        }
        let found = |class: FileClass| class.find(root.path()).map(|path| path.strip_prefix(root.path()).unwrap().display().to_string());
        assert_eq!(found(FileClass::JournalLog).as_deref(), Some("journal/9.log"));
        assert_eq!(found(FileClass::JournalCurrent).as_deref(), Some("journal/CURRENT"));
        assert_eq!(found(FileClass::StatePointer).as_deref(), Some("state/CURRENT"));
        assert_eq!(found(FileClass::StateTable).as_deref(), Some("state/db-2/7.sst"));
        assert_eq!((found(FileClass::HighWater), found(FileClass::SnapshotTable)), (None, None));
    }
}
