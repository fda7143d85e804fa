use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio_util::sync::CancellationToken;

/// The part of the room that the connections of one identity may take.
const SHARE: usize = 4;

/// The connections that one listener holds, and how many they may be.
///
/// Always true: nobody waits for room. Whoever comes when it is full takes the place of another: of a caller that has not
/// shown a certificate yet, first, else of the one that was silent for the longest. So callers that say nothing push out each
/// other, and a connection that is used stays. One identity holds a quarter of the room at most.
#[derive(Debug)]
pub struct Room {
    places: usize,
    since: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, Arc<Seat>>,
}

/// What is known of one connection.
#[derive(Debug)]
struct Seat {
    number: u64,
    /// When something came from it last, in milliseconds since the room was opened.
    heard: AtomicU64,
    standing: Mutex<Standing>,
    away: CancellationToken,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It has not shown who it is.
    Stranger,
    /// Its handshake is done; with its identity, if it has one.
    Admitted(Option<Arc<str>>),
}

/// A place in the room; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    seat: Arc<Seat>,
}

impl Room {
    /// Opens a room.
    #[must_use]
    pub fn of(places: usize) -> Arc<Self> {
        Arc::new(Self { places: places.max(1), since: Instant::now(), taken: Mutex::default() })
    }

    /// Returns how many connections it holds.
    #[must_use]
    pub fn places(&self) -> usize {
        self.places
    }

    /// Takes a place for a connection that was just accepted.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.seats.len() >= self.places {
            taken.send_away(|_| true);
        }
        let number = taken.next;
        taken.next += 1;
        let seat = Arc::new(Seat {
            number,
            heard: AtomicU64::new(self.now()),
            standing: Mutex::new(Standing::Stranger),
            away: CancellationToken::new(),
        });
        taken.seats.insert(number, Arc::clone(&seat));
        Place { room: Arc::clone(self), seat }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Taken {
    /// Sends one of those away that `may_go`: strangers first, then who was silent for the longest.
    fn send_away(&mut self, may_go: impl Fn(&Standing) -> bool) {
        let candidates = self.seats.values().map(|seat| (seat.standing(), seat)).filter(|(standing, _)| may_go(standing));
        let order =
            |(standing, seat): &(Standing, &Arc<Seat>)| (*standing != Standing::Stranger, seat.heard.load(Ordering::Relaxed), seat.number);
        if let Some((_, seat)) = candidates.min_by_key(order) {
            seat.away.cancel();
            let number = seat.number;
            self.seats.remove(&number);
        }
    }
}

impl Seat {
    fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Place {
    /// Says whose connection it is, now that its handshake is done. Sends another connection of the same identity away when
    /// that holds its share of the room.
    pub(super) fn admit(&self, identity: Option<&str>) {
        let identity: Option<Arc<str>> = identity.map(Arc::from);
        let standing = Standing::Admitted(identity.clone());
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if identity.is_some() {
            let held = taken.seats.values().filter(|seat| seat.standing() == standing).count();
            if held >= (self.room.places / SHARE).max(1) {
                taken.send_away(|of| *of == standing);
            }
        }
        *self.seat.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// Takes note that something came from the other end.
    pub(super) fn heard(&self) {
        self.seat.heard.store(self.room.now(), Ordering::Relaxed);
    }

    /// Is cancelled when the place was given to another connection.
    pub(super) fn away(&self) -> CancellationToken {
        self.seat.away.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.taken.lock().unwrap_or_else(PoisonError::into_inner).seats.remove(&self.seat.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_away(place: &Place) -> bool {
        place.away().is_cancelled()
    }

    #[test]
    fn strangers_give_way_before_anybody_who_showed_a_certificate() {
        let room = Room::of(8);
        let known = room.enter();
        known.admit(Some("spiffe://a"));
        let strangers: Vec<Place> = (0..100).map(|_| room.enter()).collect();
        assert!(!is_away(&known), "whoever showed a certificate stays");
        assert_eq!(strangers.iter().filter(|place| !is_away(place)).count(), 7);
        assert!(strangers.iter().rev().take(7).all(|place| !is_away(place)), "the newest stay");
    }

    #[test]
    fn one_identity_takes_a_quarter_of_the_room_and_pushes_out_itself() {
        let room = Room::of(8);
        let other = room.enter();
        other.admit(Some("spiffe://b"));
        let many: Vec<Place> = (0..20)
            .map(|_| {
                let place = room.enter();
                place.admit(Some("spiffe://a"));
                place
            })
            .collect();
        assert_eq!(many.iter().filter(|place| !is_away(place)).count(), 2);
        assert!(!is_away(&other) && !is_away(many.last().unwrap()));
    }

    #[test]
    fn among_equals_the_one_that_was_silent_for_the_longest_goes() {
        let room = Room::of(3);
        let places: Vec<Place> = (0..3).map(|_| room.enter()).collect();
        places.iter().for_each(|place| place.admit(None));
        places[0].seat.heard.store(30, Ordering::Relaxed);
        places[1].seat.heard.store(10, Ordering::Relaxed);
        places[2].seat.heard.store(20, Ordering::Relaxed);
        let _fourth = room.enter();
        assert_eq!(places.iter().map(is_away).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn a_place_is_given_back() {
        let room = Room::of(2);
        drop((room.enter(), room.enter()));
        let (one, other) = (room.enter(), room.enter());
        assert!(!is_away(&one) && !is_away(&other));
        assert_eq!(room.places(), 2);
    }
}
