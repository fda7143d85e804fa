//! The lineage as a picture: who acted, in which sessions, through which tools, on what.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1::Dimension;

use super::text::{safe, short};
use crate::completeness::{EntryKey, EntryKeys, dimension_name};

/// Nodes of one layer that are drawn by themselves; the others are counted.
const LAYER_NODES_MAX: usize = 15;
const LAYERS: usize = 4;
const WIDTH: usize = 210;
const HEIGHT: usize = 26;
const COLUMN: usize = 290;
const ROW: usize = 36;
const LABEL_CHARACTERS: usize = 30;

/// Keys and how they hang together, as entries showed it.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    /// Entries that carry each key.
    nodes: BTreeMap<EntryKey, u64>,
    edges: BTreeSet<(EntryKey, EntryKey)>,
}

/// Where a node is drawn; those beyond the limit of their layer share a place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    layer: usize,
    row: usize,
}

impl Picture {
    /// Takes what an entry shows.
    pub(super) fn add(&mut self, keys: &EntryKeys) {
        let Some(own) = &keys.own_session else { return };
        for key in keys.carried.iter().filter(|key| layer(key.dimension).is_some()) {
            *self.nodes.entry(key.clone()).or_default() += 1;
        }
        let above = keys.up.iter().map(|key| (key.clone(), own.clone()));
        let below = keys.down.iter().map(|key| (own.clone(), key.clone()));
        for (from, to) in above.chain(below).filter(|(from, to)| from != to) {
            if layer(from.dimension).is_some() && layer(to.dimension).is_some() {
                self.nodes.entry(from.clone()).or_default();
                self.nodes.entry(to.clone()).or_default();
                self.edges.insert((from, to));
            }
        }
    }

    /// Draws the picture; nothing without nodes.
    pub(super) fn draw(&self) -> String {
        let (places, left_out) = self.places();
        let rows = places.values().map(|place| place.row + 1).max().unwrap_or(0);
        if rows == 0 {
            return String::new();
        }
        let (width, height) = (COLUMN * (LAYERS - 1) + WIDTH + 20, rows * ROW + 20);
        let lines: BTreeSet<(Place, Place)> = self
            .edges
            .iter()
            .filter_map(|(from, to)| Some((*places.get(from)?, *places.get(to)?)))
            .filter(|(from, to)| from != to)
            .collect();
        let lines: String = lines.into_iter().map(|(from, to)| line(from, to)).collect();
        let boxes: String =
            places.iter().filter(|(_, place)| place.row < LAYER_NODES_MAX).map(|(key, place)| self.node(key, *place)).collect();
        let counted: String = left_out.iter().map(|(layer, count)| counted(*layer, *count)).collect();
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"Lineage\">{lines}{boxes}{counted}</svg>"
        )
    }

    /// Gives every node its place, the most frequent first; and tells how many of each layer share the last one.
    fn places(&self) -> (BTreeMap<EntryKey, Place>, BTreeMap<usize, usize>) {
        let (mut places, mut left_out) = (BTreeMap::new(), BTreeMap::new());
        for of in 0..LAYERS {
            let mut keys: Vec<_> = self.nodes.iter().filter(|(key, _)| layer(key.dimension) == Some(of)).collect();
            keys.sort_by(|(one, first), (other, second)| second.cmp(first).then(one.cmp(other)));
            if keys.len() > LAYER_NODES_MAX {
                left_out.insert(of, keys.len() - LAYER_NODES_MAX);
            }
            for (row, (key, _)) in keys.into_iter().enumerate() {
                places.insert(key.clone(), Place { layer: of, row: row.min(LAYER_NODES_MAX) });
            }
        }
        (places, left_out)
    }

    fn node(&self, key: &EntryKey, place: Place) -> String {
        let count = self.nodes.get(key).copied().unwrap_or(0);
        let title = format!("{} {}, in {count} entries", dimension_name(key.dimension), key.value);
        boxed(place, &safe(&title), &short(&key.value, LABEL_CHARACTERS))
    }
}

fn counted(layer: usize, count: usize) -> String {
    let label = format!("and {count} more");
    boxed(Place { layer, row: LAYER_NODES_MAX }, &label, &label)
}

/// A box with a title; both texts are safe already.
fn boxed(place: Place, title: &str, label: &str) -> String {
    let (x, y) = (10 + place.layer * COLUMN, 10 + place.row * ROW);
    format!(
        "<g class=\"l{}\"><title>{title}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"4\"/><text x=\"{}\" y=\"{}\">{label}</text></g>",
        place.layer,
        x + 8,
        y + 17
    )
}

fn line(from: Place, to: Place) -> String {
    let middle = |place: Place| 10 + place.row * ROW + HEIGHT / 2;
    let left = |place: Place| 10 + place.layer * COLUMN;
    let right = |place: Place| left(place) + WIDTH;
    let (y1, y2) = (middle(from), middle(to));
    // Sessions lead to sessions too: those lines leave and arrive on the right.
    let (x1, x2, bend1, bend2) = if from.layer == to.layer {
        (right(from), right(to), right(from) + 40, right(to) + 40)
    } else if from.layer < to.layer {
        (right(from), left(to), right(from) + 40, left(to).saturating_sub(40))
    } else {
        (left(from), right(to), left(from).saturating_sub(40), right(to) + 40)
    };
    format!("<path d=\"M{x1} {y1}C{bend1} {y1} {bend2} {y2} {x2} {y2}\"/>")
}

fn layer(of: Dimension) -> Option<usize> {
    match of {
        Dimension::Principal | Dimension::Agent => Some(0),
        Dimension::Session => Some(1),
        Dimension::Tool | Dimension::Credential => Some(2),
        Dimension::Resource | Dimension::System => Some(3),
        Dimension::Unspecified | Dimension::ParentSession | Dimension::Server | Dimension::Collector | Dimension::Rule => None,
    }
}
