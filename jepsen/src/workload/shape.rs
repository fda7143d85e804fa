/// How much of what is asked of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Collectors that send each batch by a call of its own, often to several nodes at once.
    pub collectors: usize,
    /// Collectors that stream.
    pub streams: usize,
    /// Events in a batch, at most.
    pub batch_events_max: u64,
    /// Bytes that an event has beside its names, at most.
    pub payload_bytes_max: u64,
    /// How long a collector rests between two batches, at most, in milliseconds.
    pub rest_ms_max: u64,
    /// How long one try may take, in milliseconds.
    pub attempt_ms: u64,
    /// How long between two revocations, about, in milliseconds; 0: nobody revokes.
    pub revokes_every_ms: u64,
    /// How many read.
    pub readers: usize,
    /// Whether each node has a witness.
    pub witnesses: bool,
    /// Whether each node is followed.
    pub watchers: bool,
}

impl Shape {
    /// Everything at once, as much as three nodes on two cores carry beside faults.
    pub const USUAL: Self = Self {
        collectors: 6,
        streams: 2,
        batch_events_max: 6,
        payload_bytes_max: 300,
        rest_ms_max: 60,
        attempt_ms: 3_000,
        revokes_every_ms: 1_500,
        readers: 3,
        witnesses: true,
        watchers: true,
    };

    /// More than the cluster can take, and nothing else: beside the usual shape.
    pub const FLOOD: Self = Self {
        collectors: 0,
        streams: 16,
        batch_events_max: 512,
        payload_bytes_max: 600,
        rest_ms_max: 0,
        attempt_ms: 10_000,
        revokes_every_ms: 0,
        readers: 0,
        witnesses: false,
        watchers: false,
    };
}
