//! Work on all processors: what each item comes to does not depend on the others.

use std::{num::NonZeroUsize, thread};

/// Items that are not worth a thread.
const ALONE_MAX: usize = 64;

/// Returns what every item comes to, in their order.
pub(super) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if threads == 1 || items.len() <= ALONE_MAX {
        return items.iter().map(work).collect();
    }
    let work = &work;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(threads));
        let workers: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<R>>())).collect();
        let done = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_order_is_that_of_the_items() {
        for count in [0, 1, 64, 65, 1_000, 1_001] {
            let items: Vec<u64> = (0..count).collect();
            assert_eq!(super::map(&items, |it| it * 3), items.iter().map(|it| it * 3).collect::<Vec<_>>());
        }
    }
}
