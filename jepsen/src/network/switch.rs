//! The switch: one thread that forwards packets between namespaces.
//!
//! ```text
//! TUN of a node --> conditions of its link --> heap by due time --> TUN of the other node
//! ```
//! Always true: packets of one link leave in the order in which they came, but for those that lots reorder; a change of
//! conditions is in force when the call returns; packets that were on their way under the old conditions still arrive.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io::{self, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tappers::linux::Tun;
use thiserror::Error;

use super::{
    Link, Port,
    conditions::{Conditions, LinkCounts},
    packet,
};
use crate::random::Random;

/// Packets that may be on their way at once.
const UNDER_WAY_MAX: usize = 100_000;
/// Packets that are taken from one device before the others get their turn.
const TURN_PACKETS: usize = 64;
/// Longest packet.
const PACKET_BYTES_MAX: usize = 65_536;
/// How long the switch sleeps at most.
const IDLE: Duration = Duration::from_secs(1);
/// Pause of the whole switch when the system refuses to wait for devices.
const REFUSED: Duration = Duration::from_millis(1);

/// Why the switch does not do what it is asked.
#[derive(Debug, Error)]
pub enum SwitchError {
    /// It cannot be started.
    #[error("the switch cannot be started: {0}")]
    Start(#[from] io::Error),
    /// Its thread is gone.
    #[error("the switch has ended")]
    Ended,
}

enum Request {
    Set(Vec<(Link, Conditions)>, mpsc::SyncSender<()>),
    Clear(mpsc::SyncSender<()>),
    Counts(mpsc::SyncSender<BTreeMap<Link, LinkCounts>>),
    Stop,
}

/// A running switch. It stops when this is dropped.
#[derive(Debug)]
pub struct Switch {
    control: SwitchControl,
    thread: Option<JoinHandle<()>>,
}

/// Changes the conditions of a running switch. Cheap to clone.
#[derive(Debug)]
pub struct SwitchControl {
    requests: mpsc::Sender<Request>,
    wake: UnixStream,
}

impl Switch {
    /// Starts forwarding between devices; their places are 0, 1, 2 and so on. `seed` decides all lots.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub fn start(seed: u64, devices: Vec<Tun>) -> Result<Self, SwitchError> {
        let (wake, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let (requests, asked) = mpsc::channel();
        let mut forwarding = Forwarding::new(seed, devices, asked, woken);
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(move || forwarding.run())?;
        Ok(Self { control: SwitchControl { requests, wake }, thread: Some(thread) })
    }

    /// Returns what changes its conditions.
    ///
    /// # Errors
    /// [`SwitchError`] when the system has no more descriptors.
    pub fn control(&self) -> Result<SwitchControl, SwitchError> {
        self.control.duplicate()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // A thread that is gone needs no stopping.
        let _ = self.control.requests.send(Request::Stop);
        let _ = self.control.wake.write_all(&[0]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl SwitchControl {
    /// Returns another handle to the same switch.
    ///
    /// # Errors
    /// [`SwitchError`] when the system has no more descriptors.
    pub fn duplicate(&self) -> Result<Self, SwitchError> {
        Ok(Self { requests: self.requests.clone(), wake: self.wake.try_clone()? })
    }

    /// Sets the conditions of some links; the others keep theirs. In force on return.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub fn set(&self, links: &[Link], conditions: Conditions) -> Result<(), SwitchError> {
        let changes = links.iter().map(|link| (*link, conditions)).collect();
        self.ask(|answer| Request::Set(changes, answer))
    }

    /// Lets every link forward everything at once. In force on return.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub fn clear(&self) -> Result<(), SwitchError> {
        self.ask(Request::Clear)
    }

    /// Returns what each link did since the start.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub fn counts(&self) -> Result<BTreeMap<Link, LinkCounts>, SwitchError> {
        self.ask(Request::Counts)
    }

    fn ask<T>(&self, request: impl FnOnce(mpsc::SyncSender<T>) -> Request) -> Result<T, SwitchError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.requests.send(request(answer)).map_err(|_| SwitchError::Ended)?;
        (&self.wake).write_all(&[0])?;
        answered.recv().map_err(|_| SwitchError::Ended)
    }
}

/// A packet on its way; the smallest is due first, and of two that are due together the one that came first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    due: Instant,
    number: u64,
    link: Link,
    packet: Vec<u8>,
}

/// One direction between two places.
struct LinkState {
    conditions: Conditions,
    counts: LinkCounts,
    random: Random,
    last_due: Option<Instant>,
}

struct Forwarding {
    devices: Vec<Tun>,
    links: BTreeMap<Link, LinkState>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    number: u64,
    asked: mpsc::Receiver<Request>,
    woken: UnixStream,
    buffer: Vec<u8>,
}

impl Forwarding {
    fn new(seed: u64, devices: Vec<Tun>, asked: mpsc::Receiver<Request>, woken: UnixStream) -> Self {
        let ports = || (0..devices.len()).map(Port);
        let pairs = ports().flat_map(|from| ports().map(move |to| Link { from, to })).filter(|link| link.from != link.to);
        let state = |link: Link| LinkState {
            conditions: Conditions::default(),
            counts: LinkCounts::default(),
            random: Random::of(seed, &format!("link {} to {}", link.from.0, link.to.0)),
            last_due: None,
        };
        let links = pairs.map(|link| (link, state(link))).collect();
        Self { devices, links, under_way: BinaryHeap::new(), number: 0, asked, woken, buffer: vec![0; PACKET_BYTES_MAX] }
    }

    fn run(&mut self) {
        loop {
            let ready = self.wait();
            for place in ready {
                self.take_turn(Port(place));
            }
            self.deliver(Instant::now());
            // Whoever holds the control is gone: so is the switch.
            if self.answer().is_none() {
                return;
            }
        }
    }

    /// Waits until a device has packets, somebody asks, or a packet is due, and returns the devices that have packets.
    fn wait(&mut self) -> Vec<usize> {
        let until = self.under_way.peek().map_or(IDLE, |Reverse(first)| first.due.saturating_duration_since(Instant::now()).min(IDLE));
        let timeout = Timespec { tv_sec: i64::try_from(until.as_secs()).unwrap_or(1), tv_nsec: until.subsec_nanos().into() };
        let mut waiting: Vec<PollFd<'_>> = self.devices.iter().map(|device| PollFd::new(device, PollFlags::IN)).collect();
        waiting.push(PollFd::new(&self.woken, PollFlags::IN));
        if poll(&mut waiting, Some(&timeout)).is_err() {
            std::thread::sleep(REFUSED);
            return Vec::new();
        }
        let ready = waiting.iter().take(self.devices.len()).enumerate();
        ready.filter(|(_, fd)| fd.revents().contains(PollFlags::IN)).map(|(place, _)| place).collect()
    }

    fn take_turn(&mut self, from: Port) {
        for _ in 0..TURN_PACKETS {
            let Some(device) = self.devices.get(from.0) else { return };
            let Ok(length) = device.recv(&mut self.buffer) else { return };
            let packet = self.buffer.get(..length).unwrap_or_default().to_vec();
            if let Some(to) = packet::destination(&packet).and_then(|address| self.port_of(address)) {
                self.accept(Link { from, to }, packet);
            }
        }
    }

    fn port_of(&self, address: Ipv4Addr) -> Option<Port> {
        (0..self.devices.len()).map(Port).find(|port| port.address() == address)
    }

    /// Decides what becomes of a packet. The order of the lots is fixed, so that a seed gives the same lots for the same packets.
    fn accept(&mut self, link: Link, mut packet: Vec<u8>) {
        let now = Instant::now();
        let Some(state) = self.links.get_mut(&link) else { return };
        let Conditions { cut, delay, jitter, loss, duplication, reordering, alteration } = state.conditions;
        if cut {
            state.counts.cut += 1;
            return;
        }
        if state.random.happens(loss) {
            state.counts.lost += 1;
            return;
        }
        if self.under_way.len() >= UNDER_WAY_MAX {
            state.counts.overflowed += 1;
            return;
        }
        if state.random.happens(alteration) && packet::alter(&mut packet, &mut state.random) {
            state.counts.altered += 1;
        }
        let copies = if state.random.happens(duplication) { 2 } else { 1 };
        state.counts.duplicated += copies - 1;
        let extra = state.random.below(u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX));
        let due = now + delay + Duration::from_nanos(extra);
        let overtakes = state.random.happens(reordering) && state.last_due.is_some_and(|last| last > now);
        let due = if overtakes {
            state.counts.reordered += 1;
            now
        } else {
            state.last_due.map_or(due, |last| due.max(last))
        };
        state.counts.delayed += u64::from(due > now);
        state.last_due = state.last_due.max(Some(due));
        for _ in 0..copies {
            self.number += 1;
            self.under_way.push(Reverse(UnderWay { due, number: self.number, link, packet: packet.clone() }));
        }
    }

    fn deliver(&mut self, now: Instant) {
        while self.under_way.peek().is_some_and(|Reverse(first)| first.due <= now) {
            let Some(Reverse(UnderWay { link, packet, .. })) = self.under_way.pop() else { return };
            let (Some(device), Some(state)) = (self.devices.get(link.to.0), self.links.get_mut(&link)) else { continue };
            match device.send(&packet) {
                Ok(_) => state.counts.delivered += 1,
                Err(_) => state.counts.overflowed += 1,
            }
        }
    }

    /// Answers whoever asks; `None` when the switch is to stop.
    fn answer(&mut self) -> Option<()> {
        let mut wakes = [0; 64];
        while self.woken.read(&mut wakes).is_ok_and(|read| read > 0) {}
        loop {
            let request = match self.asked.try_recv() {
                Ok(request) => request,
                Err(mpsc::TryRecvError::Empty) => return Some(()),
                Err(mpsc::TryRecvError::Disconnected) => return None,
            };
            // An asker that went away needs no answer.
            match request {
                Request::Set(changes, done) => {
                    for (link, conditions) in changes {
                        self.set(link, conditions);
                    }
                    let _ = done.send(());
                }
                Request::Clear(done) => {
                    let links: Vec<Link> = self.links.keys().copied().collect();
                    links.into_iter().for_each(|link| self.set(link, Conditions::default()));
                    let _ = done.send(());
                }
                Request::Counts(answer) => {
                    let _ = answer.send(self.links.iter().map(|(link, state)| (*link, state.counts)).collect());
                }
                Request::Stop => return None,
            }
        }
    }

    fn set(&mut self, link: Link, conditions: Conditions) {
        if let Some(state) = self.links.get_mut(&link) {
            state.conditions = conditions;
        }
    }
}
