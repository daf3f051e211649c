//! Every bound of the system in one checked place.

/// The bounds that the rules keep. Channels around the machines take their
/// capacities from here: what a credit allows always fits, so a full channel is a
/// bug and never a reason to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Publishes that wait for the log, in number. Over it: `RESOURCE_EXHAUSTED`.
    pub unsynced_records: usize,
    /// Publishes that wait for the log, in bytes of envelopes.
    pub unsynced_bytes: usize,
    /// Records kept in memory to serve the newest pages without a read, in bytes
    /// over all streams. More memory, fewer reads after short absences.
    pub recent_bytes: usize,
    /// Records kept in one stream; older ones are trimmed.
    pub retained_per_stream: u64,
    /// Idempotency keys kept at most; the oldest go first.
    pub dedupe_keys: usize,
    /// How long an idempotency key is kept, in milliseconds.
    pub dedupe_window_ms: u64,
    /// Ephemeral events kept for those who join later, over all streams.
    pub latest_events: usize,
    /// How long one of those is kept without news, in milliseconds.
    pub latest_ms: u64,
    /// Between two ephemeral events of one collapse key, in milliseconds.
    pub collapse_window_ms: u64,
    /// Leases of jobs that are open. Over it: `RESOURCE_EXHAUSTED`.
    pub leases: usize,
    /// How long after its last session a user is still there, in milliseconds.
    pub presence_grace_ms: u64,
    /// Users in one snapshot of a stream's presence.
    pub presence_members: usize,
    /// Events whose receipts are kept, the newest.
    pub tracked_events: usize,
    /// Devices whose receipts are kept, over all events.
    pub receipts: usize,
    /// Devices whose receipts are kept of one event. Receipts of further devices
    /// are ignored, but for one thing: what their users dismissed or read is
    /// retracted once, for as many users again.
    pub receipt_devices: usize,
    /// Watches of receipts, and of presence.
    pub watches: usize,
    /// Receipts of one session that wait for the link. The oldest go first.
    pub session_receipts: usize,
    /// Requests of one edge that are unanswered at a time.
    pub request_window: u32,
    /// Live deliveries on the way to one edge, in number.
    pub edge_deliveries: u32,
    /// Live deliveries on the way to one edge, in bytes of envelopes.
    pub edge_bytes: u64,
    /// Sessions of one hub or edge.
    pub sessions: usize,
    /// Streams one session follows.
    pub session_streams: usize,
    /// Stored events in one page of a replay, in bytes of envelopes (one event at
    /// least).
    pub page_bytes: usize,
    /// Stored events in one page of a replay, in number.
    pub page_events: usize,
    /// Frames that wait for one socket, in number.
    pub queue_events: usize,
    /// Frames that wait for one socket, in bytes.
    pub queue_bytes: usize,
    /// Bytes handed to a socket at once while it catches up.
    pub write_bytes: usize,
    /// How long a socket may take nothing before it is closed (4008), in
    /// milliseconds.
    pub write_stall_ms: u64,
    /// Between two pings to a client, in milliseconds.
    pub ping_every_ms: u64,
    /// Silence of a client after which it is closed (4008), in milliseconds.
    pub stale_after_ms: u64,
    /// Messages of a client in one window.
    pub client_messages: u32,
    /// The window in which `client_messages` are allowed again, in milliseconds.
    pub client_window_ms: u64,
    /// Bad messages of a client in ten seconds before it is closed (4000).
    pub client_errors: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unsynced_records: 8_192,
            unsynced_bytes: 64 << 20,
            recent_bytes: 64 << 20,
            retained_per_stream: 10_000,
            dedupe_keys: 1_000_000,
            dedupe_window_ms: 24 * 3_600_000,
            latest_events: 10_000,
            latest_ms: 600_000,
            collapse_window_ms: 100,
            leases: 100_000,
            presence_grace_ms: 15_000,
            presence_members: 1_000,
            tracked_events: 65_536,
            receipts: 500_000,
            receipt_devices: 1_000,
            watches: 10_000,
            session_receipts: 256,
            request_window: 256,
            edge_deliveries: 8_192,
            edge_bytes: 32 << 20,
            sessions: 200_000,
            session_streams: 130,
            page_bytes: 64 << 10,
            page_events: 256,
            queue_events: 1_000,
            queue_bytes: 1 << 20,
            write_bytes: 128 << 10,
            write_stall_ms: 15_000,
            ping_every_ms: 30_000,
            stale_after_ms: 60_000,
            client_messages: 100,
            client_window_ms: 60_000,
            client_errors: 10,
        }
    }
}

/// A bound that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLimit {
    /// Name of the field in [`Limits`].
    pub field: &'static str,
    /// What it has to be.
    pub rule: &'static str,
}

impl core::fmt::Display for InvalidLimit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "limit `{}` must be {}", self.field, self.rule)
    }
}

impl core::error::Error for InvalidLimit {}

impl Limits {
    /// Says which bound cannot work, if one cannot.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        const MAX_EVENT: usize = 64 << 10;
        let rules: [(bool, &'static str, &'static str); 16] = [
            (self.unsynced_records > 0, "unsynced_records", "at least 1"),
            (
                self.unsynced_bytes >= 2 * MAX_EVENT,
                "unsynced_bytes",
                "at least 128 KiB",
            ),
            (
                self.retained_per_stream > 0,
                "retained_per_stream",
                "at least 1",
            ),
            (self.dedupe_keys > 0, "dedupe_keys", "at least 1"),
            (self.request_window >= 4, "request_window", "at least 4"),
            (
                (1..=256).contains(&self.session_receipts),
                "session_receipts",
                "1 to 256",
            ),
            (
                (1..=1_000).contains(&self.presence_members),
                "presence_members",
                "1 to 1,000",
            ),
            (self.edge_deliveries >= 2, "edge_deliveries", "at least 2"),
            (
                self.edge_bytes >= 4 * MAX_EVENT as u64,
                "edge_bytes",
                "at least 256 KiB",
            ),
            (self.session_streams >= 2, "session_streams", "at least 2"),
            (self.page_events > 0, "page_events", "at least 1"),
            (self.queue_events > 0, "queue_events", "at least 1"),
            (
                self.queue_bytes >= 2 * MAX_EVENT,
                "queue_bytes",
                "at least 128 KiB",
            ),
            (self.ping_every_ms > 0, "ping_every_ms", "at least 1"),
            (
                self.stale_after_ms > self.ping_every_ms,
                "stale_after_ms",
                "more than ping_every_ms",
            ),
            (self.client_messages > 0, "client_messages", "at least 1"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(InvalidLimit { field, rule }),
            None => Ok(()),
        }
    }
}
