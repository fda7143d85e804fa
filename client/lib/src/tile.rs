//! The log as C2SP tlog-tiles: names of tiles, and the tiles that entries make.

use proofline_verifier::{Frontier, LogHash, TreeHash as _, TreeSize};

/// Hashes in a full tile, entries in a full bundle.
pub(crate) const WIDTH: u64 = 256;

/// Returns the path of a hash tile, relative to the archive.
pub(crate) fn tile_path(level: usize, number: u64, width: u64) -> String {
    format!("tile/{level}/{}", number_path(number, width))
}

/// Returns the path of an entry bundle, relative to the archive.
pub(crate) fn bundle_path(number: u64, width: u64) -> String {
    format!("tile/entries/{}", number_path(number, width))
}

/// Writes a number in groups of three digits, all but the last behind an `x`: `x001/x234/067`, or `067.p/112` when partial.
fn number_path(number: u64, width: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width == WIDTH { path } else { format!("{path}.p/{width}") }
}

/// One file of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TileFile {
    /// Where, relative to the archive.
    pub(crate) path: String,
    /// What.
    pub(crate) bytes: Vec<u8>,
}

/// A tile that is not full yet, at one level.
#[derive(Debug, Default)]
struct Edge {
    number: u64,
    hashes: Vec<LogHash>,
}

impl Edge {
    fn file(&self, level: usize) -> TileFile {
        let bytes = self.hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        TileFile { path: tile_path(level, self.number, self.hashes.len() as u64), bytes }
    }
}

/// Makes tiles of entries, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct TileTree {
    frontier: Frontier<LogHash>,
    levels: Vec<Edge>,
}

impl TileTree {
    /// Adds an entry, and returns the tiles that it fills, lowest level first.
    pub(crate) fn push(&mut self, entry: &[u8]) -> Vec<TileFile> {
        let leaf = LogHash::leaf(entry);
        self.frontier.push(leaf);
        let (mut full, mut hash) = (Vec::new(), leaf);
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Edge::default());
            }
            let Some(edge) = self.levels.get_mut(level) else { break };
            edge.hashes.push(hash);
            if (edge.hashes.len() as u64) < WIDTH {
                break;
            }
            full.push(edge.file(level));
            hash = root_of(&edge.hashes);
            *edge = Edge { number: edge.number + 1, hashes: Vec::new() };
        }
        full
    }

    /// Returns the tiles that are not full, lowest level first.
    pub(crate) fn partial(&self) -> Vec<TileFile> {
        self.levels.iter().enumerate().filter(|(_, edge)| !edge.hashes.is_empty()).map(|(level, edge)| edge.file(level)).collect()
    }

    pub(crate) fn size(&self) -> TreeSize {
        self.frontier.size()
    }

    pub(crate) fn root(&self) -> LogHash {
        self.frontier.root()
    }
}

fn root_of(hashes: &[LogHash]) -> LogHash {
    let mut tree = Frontier::default();
    hashes.iter().for_each(|hash| tree.push(*hash));
    tree.root()
}

/// Puts entries into a bundle; `None` when one is longer than a bundle can say.
pub(crate) fn bundle(entries: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend(u16::try_from(entry.as_ref().len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(entry.as_ref());
    }
    Some(bytes)
}

/// Takes exactly `width` entries out of a bundle; `None` when it holds anything else.
pub(crate) fn unbundle(bytes: &[u8], width: u64) -> Option<Vec<&[u8]>> {
    let (mut rest, mut entries) = (bytes, Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (entry, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        rest = behind;
    }
    (rest.is_empty() && entries.len() as u64 == width).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_tlog_tiles() {
        assert_eq!(tile_path(0, 0, WIDTH), "tile/0/000");
        assert_eq!(tile_path(3, 1_234_067, WIDTH), "tile/3/x001/x234/067");
        assert_eq!(bundle_path(67, 112), "tile/entries/067.p/112");
    }

    #[test]
    fn seventy_thousand_entries_make_the_tiles_of_the_specification() {
        let mut tree = TileTree::default();
        let full: Vec<String> = (0..70_000_u32).flat_map(|n| tree.push(&n.to_be_bytes())).map(|file| file.path).collect();
        let at = |level: &str| full.iter().filter(|path| path.starts_with(level)).count();
        assert_eq!((at("tile/0/"), at("tile/1/"), at("tile/2/")), (273, 1, 0));
        let partial: Vec<String> = tree.partial().into_iter().map(|file| file.path).collect();
        assert_eq!(partial, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    }

    #[test]
    fn a_bundle_comes_back_and_nothing_else_does() {
        let entries = [b"one".to_vec(), Vec::new(), vec![7; 65_535]];
        let bytes = bundle(&entries).unwrap();
        assert_eq!(unbundle(&bytes, 3).unwrap(), entries);
        assert_eq!(unbundle(&bytes, 2), None);
        assert_eq!(unbundle(&bytes[..bytes.len() - 1], 3), None);
        assert_eq!(unbundle(&[bytes, vec![0]].concat(), 3), None);
        assert_eq!(bundle(&[vec![0; 65_536]]), None);
    }
}
