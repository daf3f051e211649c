//! Every bound of the system in one checked place.

use alloc::vec::Vec;

/// The largest envelope of an event, in bytes, as the contract says. Whatever holds
/// events holds at least some of this size.
pub const MAX_EVENT_BYTES: usize = 64 << 10;

/// The bounds that the rules keep. Channels context the machines take their
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
    /// Frames of receipts of a client at once. They are not among its messages.
    pub receipt_frames: u32,
    /// The window in which `receipt_frames` are allowed again, in milliseconds.
    pub receipt_window_ms: u64,
    /// Invalid messages of a client in one window before it is closed (4000).
    pub client_errors: u32,
    /// The window in which `client_errors` are too many, in milliseconds.
    pub client_errors_window_ms: u64,
    /// The failure of a job that could not be stored is announced again after
    /// this, in milliseconds.
    pub lease_retry_ms: u64,
    /// Clients that a drain moves off reconnect within this time, spread evenly,
    /// in milliseconds.
    pub drain_spread_ms: u64,
    /// How long a client may take to answer a close before its socket is cut, in
    /// milliseconds.
    pub close_delay_ms: u64,
    /// Bytes of notices that may wait for a blocked socket, beyond its events.
    /// More is a client that sends and never reads.
    pub notice_bytes: usize,
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
            receipt_frames: 100,
            receipt_window_ms: 10_000,
            client_errors: 10,
            client_errors_window_ms: 10_000,
            lease_retry_ms: 1_000,
            drain_spread_ms: 5_000,
            close_delay_ms: 5_000,
            notice_bytes: 64 << 10,
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

/// All bounds that cannot work; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidLimits(pub Vec<InvalidLimit>);

impl core::fmt::Display for InvalidLimits {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, limit) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{limit}")?;
        }
        Ok(())
    }
}

impl core::error::Error for InvalidLimits {}

/// The longest time that a bound may name: a year. Sums of times stay far from the
/// end of [`Millis`](crate::Millis).
const MAX_MS: u64 = 365 * 24 * 3_600_000;

impl Limits {
    /// Says which bounds cannot work: all of them, in the order of the fields.
    ///
    /// # Errors
    /// If there is one.
    pub fn check(&self) -> Result<(), InvalidLimits> {
        let faults = self.counts().into_iter().chain(self.times());
        let faults: Vec<_> = faults.chain(self.sizes()).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(InvalidLimits(faults))
        }
    }

    /// Bounds in number; 0 would let nothing through.
    fn counts(&self) -> Vec<InvalidLimit> {
        let at_least_1 = [
            (self.unsynced_records, "unsynced_records"),
            (self.dedupe_keys, "dedupe_keys"),
            (self.latest_events, "latest_events"),
            (self.leases, "leases"),
            (self.tracked_events, "tracked_events"),
            (self.receipts, "receipts"),
            (self.receipt_devices, "receipt_devices"),
            (self.watches, "watches"),
            (self.sessions, "sessions"),
            (self.page_events, "page_events"),
            (self.queue_events, "queue_events"),
            (self.client_messages as usize, "client_messages"),
            (self.receipt_frames as usize, "receipt_frames"),
            (self.client_errors as usize, "client_errors"),
        ];
        let zero = at_least_1.into_iter().filter(|(limit, _)| *limit == 0);
        let rules = [
            (
                self.retained_per_stream > 0,
                "retained_per_stream",
                "at least 1",
            ),
            (
                (1..=1_000).contains(&self.presence_members),
                "presence_members",
                "1 to 1,000",
            ),
            (
                (1..=256).contains(&self.session_receipts),
                "session_receipts",
                "1 to 256",
            ),
            (self.request_window >= 4, "request_window", "at least 4"),
            (self.edge_deliveries >= 2, "edge_deliveries", "at least 2"),
            (self.session_streams >= 2, "session_streams", "at least 2"),
        ];
        zero.map(|(_, field)| InvalidLimit {
            field,
            rule: "at least 1",
        })
        .chain(broken(rules))
        .collect()
    }

    /// Bounds in milliseconds.
    fn times(&self) -> Vec<InvalidLimit> {
        let times = [
            (self.dedupe_window_ms, "dedupe_window_ms"),
            (self.latest_ms, "latest_ms"),
            (self.collapse_window_ms, "collapse_window_ms"),
            (self.write_stall_ms, "write_stall_ms"),
            (self.ping_every_ms, "ping_every_ms"),
            (self.client_window_ms, "client_window_ms"),
            (self.receipt_window_ms, "receipt_window_ms"),
            (self.client_errors_window_ms, "client_errors_window_ms"),
            (self.lease_retry_ms, "lease_retry_ms"),
            (self.drain_spread_ms, "drain_spread_ms"),
            (self.close_delay_ms, "close_delay_ms"),
        ];
        let outside = times
            .into_iter()
            .filter(|(limit, _)| !(1..=MAX_MS).contains(limit));
        let rules = [
            (
                self.presence_grace_ms <= MAX_MS,
                "presence_grace_ms",
                "at most a year",
            ),
            (
                (self.ping_every_ms.saturating_add(1)..=MAX_MS).contains(&self.stale_after_ms),
                "stale_after_ms",
                "more than ping_every_ms, and at most a year",
            ),
        ];
        outside
            .map(|(_, field)| InvalidLimit {
                field,
                rule: "1 ms to a year",
            })
            .chain(broken(rules))
            .collect()
    }

    /// Bounds in bytes. [`Limits::recent_bytes`] may be 0: nothing is kept then.
    fn sizes(&self) -> Vec<InvalidLimit> {
        let rules = [
            (
                self.unsynced_bytes >= 2 * MAX_EVENT_BYTES,
                "unsynced_bytes",
                "at least 128 KiB",
            ),
            (
                self.edge_bytes >= 4 * MAX_EVENT_BYTES as u64,
                "edge_bytes",
                "at least 256 KiB",
            ),
            (self.page_bytes > 0, "page_bytes", "at least 1"),
            (
                self.queue_bytes >= 2 * MAX_EVENT_BYTES,
                "queue_bytes",
                "at least 128 KiB",
            ),
            (self.write_bytes > 0, "write_bytes", "at least 1"),
            (self.notice_bytes >= 4_096, "notice_bytes", "at least 4 KiB"),
        ];
        broken(rules).collect()
    }
}

fn broken<const N: usize>(
    rules: [(bool, &'static str, &'static str); N],
) -> impl Iterator<Item = InvalidLimit> {
    let broken = rules.into_iter().filter(|(holds, ..)| !holds);
    broken.map(|(_, field, rule)| InvalidLimit { field, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bounds_that_cannot_work_are_reported_at_once() {
        let limits = Limits {
            unsynced_records: 0,
            write_stall_ms: 0,
            queue_bytes: 1,
            stale_after_ms: 1,
            ..Limits::default()
        };
        let InvalidLimits(faults) = limits.check().expect_err("four cannot work");
        let fields: Vec<_> = faults.iter().map(|fault| fault.field).collect();
        assert_eq!(
            fields,
            [
                "unsynced_records",
                "write_stall_ms",
                "stale_after_ms",
                "queue_bytes"
            ]
        );
        assert_eq!(Limits::default().check(), Ok(()));
    }
}
