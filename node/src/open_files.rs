//! How many files this process may have open, and how many of them are left for connections.
//!
//! A process that runs out of them can neither accept a connection nor open a table of its databases, and a node that cannot
//! write must end. So connections get less than all, whatever the configuration says.

/// What the system allows a process when nobody can tell.
const USUAL: usize = 1_024;

/// Returns the soft limit of open files of this process.
fn limit() -> usize {
    std::fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(parse).unwrap_or(USUAL)
}

fn parse(limits: &str) -> Option<usize> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(usize::MAX) } else { soft.parse().ok() }
}

/// Returns how many connections a listener may hold: as many as wished, and at most a part of the files of this process.
pub(crate) fn connections(wanted: usize, part_of_files: usize) -> usize {
    within(limit(), wanted, part_of_files)
}

fn within(limit: usize, wanted: usize, part_of_files: usize) -> usize {
    let places = wanted.min(limit / part_of_files.max(1)).max(1);
    if places < wanted {
        tracing::warn!(limit, wanted, places, "the limit of open files leaves room for fewer connections; raise it (LimitNOFILE)");
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax processes             7 8 processes\nMax open files            1024                 524288               files     \n";
        assert_eq!(parse(limits), Some(1_024));
        assert_eq!(parse("Max open files            unlimited            unlimited            files"), Some(usize::MAX));
        assert_eq!((parse(""), parse("Max open files   many")), (None, None));
        assert!(limit() > 0);
    }

    #[test]
    fn connections_leave_files_for_the_databases() {
        assert_eq!([within(1_024, 2_048, 2), within(1_024, 1_024, 8), within(1_024, 256, 16)].iter().sum::<usize>(), 512 + 128 + 64);
        assert_eq!(within(20_000, 2_048, 2), 2_048);
        assert_eq!(within(usize::MAX, 16, 2), 16);
    }
}
