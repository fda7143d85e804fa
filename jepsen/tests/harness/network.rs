//! What the switch does, seen by real sockets in real namespaces.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use proofline_jepsen::{
    leftovers::RunMark,
    network::{Conditions, Link, Namespace, Port, Switch, SwitchControl},
    random::PerMille,
};

/// Longer than any packet takes that is not lost.
const LOST: Duration = Duration::from_millis(300);

/// Dropped in this order: the switch, the namespaces, the mark.
struct Net {
    control: SwitchControl,
    _switch: Switch,
    namespaces: Vec<Namespace>,
    _mark: RunMark,
}

impl Net {
    fn of(places: usize) -> Self {
        let mark = RunMark::place(std::path::Path::new("/nonexistent")).unwrap();
        let namespaces: Vec<Namespace> = (0..places).map(|place| Namespace::create(&format!("{}-{place}", mark.name())).unwrap()).collect();
        let devices = namespaces.iter().enumerate().map(|(place, namespace)| namespace.open_device(Port(place)).unwrap()).collect();
        let switch = Switch::start(7, devices).unwrap();
        Self { control: switch.control().unwrap(), _switch: switch, namespaces, _mark: mark }
    }

    fn udp(&self, place: usize) -> UdpSocket {
        let socket = self.namespaces[place].inside(|| UdpSocket::bind(address(place)).unwrap()).unwrap();
        socket.set_read_timeout(Some(LOST)).unwrap();
        socket
    }

    fn set(&self, from: usize, to: usize, conditions: Conditions) {
        self.control.set(&[link(from, to)], conditions).unwrap();
    }

    fn count(&self, from: usize, to: usize) -> proofline_jepsen::network::LinkCounts {
        self.control.counts().unwrap()[&link(from, to)]
    }
}

fn link(from: usize, to: usize) -> Link {
    Link { from: Port(from), to: Port(to) }
}

fn address(place: usize) -> SocketAddr {
    (Port(place).address(), 9000).into()
}

fn arrives(from: &UdpSocket, to: &UdpSocket, place: usize) -> bool {
    from.send_to(b"ping", address(place)).unwrap();
    to.recv(&mut [0; 16]).is_ok()
}

#[test]
fn a_one_way_cut_stops_one_direction_only_and_heals() {
    let net = Net::of(3);
    let sockets: Vec<UdpSocket> = (0..3).map(|place| net.udp(place)).collect();
    net.set(0, 1, Conditions::cut());
    assert!(!arrives(&sockets[0], &sockets[1], 1));
    assert!(arrives(&sockets[1], &sockets[0], 0), "the other direction is open");
    assert!(arrives(&sockets[0], &sockets[2], 2) && arrives(&sockets[2], &sockets[1], 1), "the other links are open");
    assert_eq!((net.count(0, 1).cut, net.count(1, 0).cut), (1, 0));
    net.control.clear().unwrap();
    assert!(arrives(&sockets[0], &sockets[1], 1));
}

#[test]
fn a_round_trip_takes_what_both_directions_take() {
    let net = Net::of(2);
    let (near, far) = (net.udp(0), net.udp(1));
    net.set(0, 1, Conditions { delay: Duration::from_millis(50), ..Conditions::default() });
    net.set(1, 0, Conditions { delay: Duration::from_millis(30), ..Conditions::default() });
    let began = Instant::now();
    assert!(arrives(&near, &far, 1) && arrives(&far, &near, 0));
    let took = began.elapsed();
    assert!((80..200).contains(&took.as_millis()), "{took:?}");
    assert_eq!((net.count(0, 1).delayed, net.count(1, 0).delayed), (1, 1));
}

#[test]
fn as_many_packets_are_lost_as_the_link_says() {
    let net = Net::of(2);
    let (near, far) = (net.udp(0), net.udp(1));
    net.set(0, 1, Conditions { loss: PerMille(200), ..Conditions::default() });
    let mut arrived = 0;
    // No more at once than a socket keeps for its reader.
    for _ in 0..10 {
        (0..100).for_each(|_| assert_eq!(near.send_to(b"x", address(1)).unwrap(), 1));
        while far.recv(&mut [0; 16]).is_ok() {
            arrived += 1;
        }
    }
    assert!((730..870).contains(&arrived), "{arrived} of 1000 arrived");
    assert_eq!(net.count(0, 1).lost, 1_000 - arrived);
}

#[test]
fn packets_keep_their_order_until_lots_say_otherwise() {
    let net = Net::of(2);
    let (near, far) = (net.udp(0), net.udp(1));
    let order = |conditions| {
        net.set(0, 1, conditions);
        (0_u32..200).for_each(|number| assert_eq!(near.send_to(&number.to_be_bytes(), address(1)).unwrap(), 4));
        let mut bytes = [0; 4];
        let mut arrived = Vec::new();
        while far.recv(&mut bytes).is_ok() {
            arrived.push(u32::from_be_bytes(bytes));
        }
        arrived
    };
    let jitter = Conditions { delay: Duration::from_millis(5), jitter: Duration::from_millis(20), ..Conditions::default() };
    assert_eq!(order(jitter), (0..200).collect::<Vec<_>>());
    let mut unordered = order(Conditions { reordering: PerMille(200), duplication: PerMille(100), ..jitter });
    assert!(unordered.windows(2).any(|pair| pair[0] > pair[1]), "some overtook others");
    assert!(unordered.len() > 200, "some came twice");
    unordered.sort_unstable();
    unordered.dedup();
    assert_eq!(unordered, (0..200).collect::<Vec<_>>(), "none was lost");
    let counts = net.count(0, 1);
    assert!(counts.reordered > 0 && counts.duplicated > 0);
}

#[test]
fn altered_bytes_reach_whoever_listens() {
    let net = Net::of(2);
    let listener = net.namespaces[1].inside(|| TcpListener::bind(address(1)).unwrap()).unwrap();
    let mut sender = net.namespaces[0].inside(|| TcpStream::connect(address(1)).unwrap()).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    net.set(0, 1, Conditions { alteration: PerMille(1_000), ..Conditions::default() });
    sender.write_all(&[0; 1_000]).unwrap();
    let mut received = [0; 1_000];
    receiver.read_exact(&mut received).unwrap();
    let flipped: u32 = received.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(u64::from(flipped), net.count(0, 1).altered, "TCP believed every altered segment");
}

#[test]
fn nothing_but_the_switch_leads_out_of_a_namespace() {
    let net = Net::of(2);
    let devices = net.namespaces[0].inside(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    let mut names: Vec<&str> = devices.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    names.sort_unstable();
    assert_eq!(names, ["lo", "pj0"]);
    let outside = net.namespaces[0].inside(|| UdpSocket::bind(address(0)).unwrap().send_to(b"x", "192.0.2.1:9")).unwrap();
    assert!(outside.is_err(), "there is no way out");
}
