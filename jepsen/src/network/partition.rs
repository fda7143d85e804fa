//! Which links are cut, by the shape of the partition.

use super::{Link, Port};

/// A shape of partition among three or more nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// One node hears nobody, and nobody hears it.
    Isolate(Port),
    /// One node hears nobody.
    Deaf(Port),
    /// Nobody hears one node.
    Mute(Port),
    /// All others hear each other only through this one.
    Bridge(Port),
    /// Each node is heard by the next one only, and hears the one before.
    Ring,
}

impl Partition {
    /// Returns the directed links among `nodes` that are cut.
    #[must_use]
    pub fn links(self, nodes: &[Port]) -> Vec<Link> {
        let all = nodes.iter().flat_map(|from| nodes.iter().map(move |to| Link { from: *from, to: *to }));
        all.filter(|link| link.from != link.to && self.cuts(*link, nodes)).collect()
    }

    fn cuts(self, link: Link, nodes: &[Port]) -> bool {
        match self {
            Self::Isolate(node) => link.from == node || link.to == node,
            Self::Deaf(node) => link.to == node,
            Self::Mute(node) => link.from == node,
            Self::Bridge(middle) => link.from != middle && link.to != middle,
            Self::Ring => {
                let place = |port| nodes.iter().position(|node| *node == port).unwrap_or(0);
                (place(link.from) + 1) % nodes.len().max(1) != place(link.to)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(partition: Partition) -> Vec<(usize, usize)> {
        partition.links(&[Port(0), Port(1), Port(2)]).into_iter().map(|link| (link.from.0, link.to.0)).collect()
    }

    #[test]
    fn each_shape_cuts_its_links() {
        assert_eq!(cut(Partition::Isolate(Port(0))), [(0, 1), (0, 2), (1, 0), (2, 0)]);
        assert_eq!(cut(Partition::Deaf(Port(0))), [(1, 0), (2, 0)]);
        assert_eq!(cut(Partition::Mute(Port(0))), [(0, 1), (0, 2)]);
        assert_eq!(cut(Partition::Bridge(Port(1))), [(0, 2), (2, 0)]);
        assert_eq!(cut(Partition::Ring), [(0, 2), (1, 0), (2, 1)]);
    }
}
