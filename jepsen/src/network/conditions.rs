//! What a link does to packets, and what it did.

use std::{ops::AddAssign, time::Duration};

use serde::Serialize;

use crate::random::PerMille;

/// What one directed link does to each packet. The default forwards everything at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Nothing passes.
    pub cut: bool,
    /// How long every packet takes.
    pub delay: Duration,
    /// How much longer a packet takes at most, by lot. Packets stay in order.
    pub jitter: Duration,
    /// Packets that are lost.
    pub loss: PerMille,
    /// Packets that come twice.
    pub duplication: PerMille,
    /// Packets that overtake those before them.
    pub reordering: PerMille,
    /// TCP segments of which one bit of the payload is flipped, under a checksum that is right.
    pub alteration: PerMille,
}

impl Conditions {
    /// Lets nothing pass.
    #[must_use]
    pub fn cut() -> Self {
        Self { cut: true, ..Self::default() }
    }
}

/// What a link did since the switch started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounts {
    /// Packets that arrived, copies included.
    pub delivered: u64,
    /// Packets that a cut stopped.
    pub cut: u64,
    /// Packets that were lost by lot.
    pub lost: u64,
    /// Packets that were held back.
    pub delayed: u64,
    /// Packets that came twice.
    pub duplicated: u64,
    /// Packets that overtook others.
    pub reordered: u64,
    /// Packets of which a bit was flipped.
    pub altered: u64,
    /// Packets for which there was no room, here or in the receiver's device.
    pub overflowed: u64,
}

impl LinkCounts {
    /// Returns what happened since an earlier count.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            delivered: self.delivered.saturating_sub(earlier.delivered),
            cut: self.cut.saturating_sub(earlier.cut),
            lost: self.lost.saturating_sub(earlier.lost),
            delayed: self.delayed.saturating_sub(earlier.delayed),
            duplicated: self.duplicated.saturating_sub(earlier.duplicated),
            reordered: self.reordered.saturating_sub(earlier.reordered),
            altered: self.altered.saturating_sub(earlier.altered),
            overflowed: self.overflowed.saturating_sub(earlier.overflowed),
        }
    }
}

impl AddAssign for LinkCounts {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.cut += other.cut;
        self.lost += other.lost;
        self.delayed += other.delayed;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.altered += other.altered;
        self.overflowed += other.overflowed;
    }
}
