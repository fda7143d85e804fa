//! Families of sessions: one root and three generations below it, of which any may be revoked while events come.

use std::sync::Arc;
use tokio::sync::watch;

use crate::random::Random;

/// Children of every session but the youngest.
const CHILDREN: u64 = 3;
/// Generations below the root.
const GENERATIONS: u64 = 3;
/// Families that events are written to: the newest, and some that were revoked before.
const KEPT: u64 = 4;

/// A session that events can be of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// Empty for a root.
    pub(crate) parent: String,
    /// Sessions directly below it.
    pub(crate) spawns: Vec<String>,
}

/// Which family events are written to now.
#[derive(Clone, Debug)]
pub(crate) struct Families {
    prefix: String,
    newest: Arc<watch::Sender<u64>>,
}

impl Families {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), newest: Arc::new(watch::Sender::new(1)) }
    }

    /// Begins the next family.
    pub(crate) fn advance(&self) {
        self.newest.send_modify(|newest| *newest += 1);
    }

    /// Returns a session to write to: mostly of the newest family, sometimes of one that may be revoked already.
    pub(crate) fn session(&self, lot: &mut Random) -> Session {
        let newest = *self.newest.borrow();
        let family = if lot.below(4) > 0 { newest } else { newest.saturating_sub(lot.below(KEPT)).max(1) };
        let mut path = Vec::new();
        for _ in 0..lot.below(GENERATIONS + 1) {
            path.push(lot.below(CHILDREN));
        }
        self.named(family, &path)
    }

    /// Returns a session to revoke: of the newest family, the root as often as not.
    pub(crate) fn to_revoke(&self, lot: &mut Random) -> Session {
        let mut path = Vec::new();
        for _ in 0..lot.below(2) * lot.below(GENERATIONS) {
            path.push(lot.below(CHILDREN));
        }
        self.named(*self.newest.borrow(), &path)
    }

    fn named(&self, family: u64, path: &[u64]) -> Session {
        let id = |path: &[u64]| path.iter().fold(format!("{}f{family}", self.prefix), |id, child| format!("{id}.{child}"));
        let parent = path.split_last().map(|(_, above)| id(above)).unwrap_or_default();
        let own = id(path);
        let is_youngest = path.len() as u64 >= GENERATIONS;
        let spawns = if is_youngest { Vec::new() } else { (0..CHILDREN).map(|child| format!("{own}.{child}")).collect() };
        Session { id: own, parent, spawns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_but_the_root_names_the_one_that_spawns_it() {
        let families = Families::new("a-");
        let child = families.named(7, &[2, 0]);
        assert_eq!((child.id.as_str(), child.parent.as_str()), ("a-f7.2.0", "a-f7.2"));
        assert!(families.named(7, &[2]).spawns.contains(&child.id));
        assert!(families.named(7, &[0, 0, 0]).spawns.is_empty());
        assert!(families.named(7, &[]).parent.is_empty());
    }
}
