use std::{
    num::NonZeroUsize,
    sync::{Arc, LazyLock},
    thread,
};

use tokio::task::{self, JoinHandle};

use super::Group;

/// Asked once: the answer takes a dozen reads of the process's control groups, and this is asked for every append.
static PROCESSORS: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, NonZeroUsize::get));

/// Begins to parse groups and to check their signatures, on as many threads as there are processors. Groups that are
/// prepared already cost nothing.
pub(crate) fn start_preparing(groups: impl Iterator<Item = Group>, origin: &Arc<str>) -> Vec<JoinHandle<()>> {
    let groups: Vec<Group> = groups.filter(|group| !group.is_prepared()).collect();
    let share = groups.len().div_ceil(*PROCESSORS).max(1);
    groups.chunks(share).map(|share| prepare(share.to_vec(), Arc::clone(origin))).collect()
}

fn prepare(groups: Vec<Group>, origin: Arc<str>) -> JoinHandle<()> {
    task::spawn_blocking(move || groups.iter().for_each(|group| drop(group.prepared(&origin))))
}
