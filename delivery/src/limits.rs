//! Every bound of the system in one checked place, each with unit, default and the
//! range in which it works.

use alloc::{format, string::String, vec::Vec};

/// The largest envelope of an event, in bytes, as the contract says. Whatever holds
/// events holds at least some of this size.
pub const MAX_EVENT_BYTES: usize = 64 << 10;

/// The longest time that a bound may name: a year. Sums of times stay far from the
/// end of [`Millis`](crate::Millis).
const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// The most memory that one bound may grant: 1 GiB.
const MAX_BYTES: usize = 1 << 30;

/// A bound as a number, whatever its type.
trait Bound: Copy {
    fn to_u64(self) -> u64;
}

impl Bound for bool {
    fn to_u64(self) -> u64 {
        u64::from(self)
    }
}

impl Bound for u32 {
    fn to_u64(self) -> u64 {
        u64::from(self)
    }
}

impl Bound for u64 {
    fn to_u64(self) -> u64 {
        self
    }
}

impl Bound for usize {
    fn to_u64(self) -> u64 {
        self as u64
    }
}

/// Defines the struct, its defaults and its check from one line for each bound.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $range:expr;)+) => {
        /// The bounds that the rules keep. Channels around the machines take their
        /// capacities from here: what a credit allows always fits, so a full channel
        /// is a bug and never a reason to wait.
        ///
        /// Servers set what their settings name (`edge::Config`, `notifier::Config`);
        /// the rest keeps its default.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault `", stringify!($default), "`, from `", stringify!($range), "`.")]
                pub $name: $type,
            )+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// Bounds outside of their range, in the order of the fields.
            fn outside(&self) -> Vec<InvalidLimit> {
                let all = [$({
                    let range: core::ops::RangeInclusive<$type> = $range;
                    InvalidLimit {
                        field: stringify!($name),
                        value: self.$name.to_u64(),
                        min: range.start().to_u64(),
                        max: range.end().to_u64(),
                    }
                }),+];
                let outside = all.into_iter().filter(|limit| !limit.holds());
                outside.collect()
            }
        }
    };
}

limits! {
    /// Services that have a share of their own of every pool. Half of a pool is
    /// reserved for them, the same part for each; the services beyond them share one
    /// part. The hub itself counts as one.
    services: usize = 64, 2..=4_096;
    /// The most that one service holds of a pool, in hundredths of it.
    service_share_percent: u64 = 25, 1..=100;
    /// Whether shares and rates of services are counted and reported only. What a pool
    /// holds is bounded all the same, by its size and the reserves, half of it more.
    observe_shares: bool = false, false..=true;
    /// Publishes of one service in a second. Over it: `RESOURCE_EXHAUSTED`.
    service_publishes_per_s: u64 = 200_000, 1..=1_000_000_000;
    /// Bytes of envelopes that one service publishes in a second.
    service_bytes_per_s: u64 = 256 << 20, 1..=1 << 40;
    /// Streams that one service writes to as the first ever, in a second.
    service_streams_per_s: u64 = 50_000, 1..=1_000_000_000;
    /// Streams that have, or had, stored events. They stay known when all of their
    /// events are gone. One more is refused: `RESOURCE_EXHAUSTED`.
    streams: usize = 4_000_000, 1..=1_000_000_000;
    /// Publishes that wait for the log, in number. Over it: `RESOURCE_EXHAUSTED`.
    unsynced_records: usize = 8_192, 1..=1_000_000;
    /// Publishes that wait for the log, in bytes of envelopes.
    unsynced_bytes: usize = 64 << 20, 2 * MAX_EVENT_BYTES..=MAX_BYTES;
    /// Records kept in memory to serve the newest pages without a read, in bytes
    /// over all streams. More memory, fewer reads after short absences.
    recent_bytes: usize = 64 << 20, 0..=MAX_BYTES;
    /// Records kept in one stream; older ones are trimmed.
    retained_per_stream: u64 = 10_000, 1..=1_000_000_000;
    /// Idempotency keys kept, in number; the oldest go first.
    dedupe_keys: usize = 1_000_000, 1..=100_000_000;
    /// How long an idempotency key is kept, in milliseconds.
    dedupe_window_ms: u64 = 24 * 3_600_000, 1..=YEAR_MS;
    /// How much later than due idempotency keys are forgotten, so that they go
    /// together, in milliseconds.
    dedupe_expire_together_ms: u64 = 1_000, 0..=YEAR_MS;
    /// Ephemeral events kept for those who join later, over all streams.
    latest_events: usize = 10_000, 1..=10_000_000;
    /// How long one of those is kept after its last update, in milliseconds.
    latest_ms: u64 = 600_000, 1..=YEAR_MS;
    /// Between two ephemeral events of one collapse key, in milliseconds.
    collapse_window_ms: u64 = 100, 1..=YEAR_MS;
    /// Leases of jobs that are open. Over it: `RESOURCE_EXHAUSTED`.
    leases: usize = 100_000, 1..=10_000_000;
    /// How long a user stays present after the last session has gone, in
    /// milliseconds.
    presence_grace_ms: u64 = 15_000, 0..=YEAR_MS;
    /// Users in one snapshot of a stream's presence.
    presence_members: usize = 1_000, 1..=1_000;
    /// Events whose receipts are kept, the newest.
    tracked_events: usize = 65_536, 1..=10_000_000;
    /// Devices whose receipts are kept, over all events.
    receipts: usize = 500_000, 1..=100_000_000;
    /// Devices whose receipts are kept of one event. Receipts of further devices
    /// are ignored, but for one thing: what their users dismissed or read is
    /// retracted once, for as many users again.
    receipt_devices: usize = 1_000, 1..=1_000_000;
    /// Watches of receipts, and as many of presence, in number.
    watches: usize = 10_000, 1..=1_000_000;
    /// Receipts, or users who came or left, that wait for one watch. With so many
    /// waiting the next change ends it.
    watch_backlog: usize = 16_384, 1..=1_000_000;
    /// Receipts of one session that wait for the link. The oldest go first.
    session_receipts: usize = 256, 1..=256;
    /// Requests of one edge that are unanswered at a time.
    request_window: u32 = 256, 4..=1_000_000;
    /// Live deliveries on the way to one edge, in number.
    edge_deliveries: u32 = 8_192, 2..=1_000_000;
    /// Live deliveries on the way to one edge, in bytes of envelopes.
    edge_bytes: u64 = 32 << 20, 4 * MAX_EVENT_BYTES as u64..=MAX_BYTES as u64;
    /// Sessions of one hub or edge.
    sessions: usize = 200_000, 1..=100_000_000;
    /// Sessions of one user, over all edges. With one more the oldest ends (4009).
    user_sessions: usize = 20, 1..=1_000_000;
    /// Streams one session follows.
    session_streams: usize = 130, 2..=10_000;
    /// How long a new session waits for the notifier to verify its token before it is
    /// closed (1013), in milliseconds.
    verify_ms: u64 = 10_000, 1..=YEAR_MS;
    /// New tokens of one session that wait for the notifier. With so many waiting the
    /// next one closes it (4029).
    waiting_refreshes: usize = 2, 1..=100;
    /// Stored events in one page of a replay, in bytes of envelopes (one event at
    /// least).
    page_bytes: usize = 64 << 10, 1..=MAX_BYTES;
    /// Stored events in one page of a replay, in number.
    page_events: usize = 256, 1..=1_000_000;
    /// Frames that wait for one socket, in number.
    queue_events: usize = 1_000, 1..=1_000_000;
    /// Frames that wait for one socket, in bytes.
    queue_bytes: usize = 1 << 20, 2 * MAX_EVENT_BYTES..=MAX_BYTES;
    /// Bytes handed to a socket at once while it catches up.
    write_bytes: usize = 128 << 10, 1..=MAX_BYTES;
    /// How long a socket may take nothing before it is closed (4008), in
    /// milliseconds.
    write_stall_ms: u64 = 15_000, 1..=YEAR_MS;
    /// Between two pings to a client, in milliseconds.
    ping_every_ms: u64 = 30_000, 1..=YEAR_MS;
    /// Silence of a client after which it is closed (4008), in milliseconds.
    stale_after_ms: u64 = 60_000, 1..=YEAR_MS;
    /// Messages of a client in one window.
    client_messages: u32 = 100, 1..=1_000_000;
    /// The window in which `client_messages` are allowed again, in milliseconds.
    client_window_ms: u64 = 60_000, 1..=YEAR_MS;
    /// Frames of receipts of a client in one window. They are not among its messages.
    receipt_frames: u32 = 100, 1..=1_000_000;
    /// The window in which `receipt_frames` are allowed again, in milliseconds.
    receipt_window_ms: u64 = 10_000, 1..=YEAR_MS;
    /// Invalid messages of a client in one window before it is closed (4000).
    client_errors: u32 = 10, 1..=1_000_000;
    /// The window in which `client_errors` are too many, in milliseconds.
    client_errors_window_ms: u64 = 10_000, 1..=YEAR_MS;
    /// The failure of a job that could not be stored is announced again after
    /// this, in milliseconds.
    lease_retry_ms: u64 = 1_000, 1..=YEAR_MS;
    /// Clients that a drain moves off reconnect within this time, spread evenly,
    /// in milliseconds.
    drain_spread_ms: u64 = 5_000, 1..=YEAR_MS;
    /// How long a client may take to answer a close before its socket is cut, in
    /// milliseconds.
    close_delay_ms: u64 = 5_000, 1..=YEAR_MS;
    /// A drain closes a share of the sessions at each of these steps, in
    /// milliseconds.
    drain_step_ms: u64 = 50, 1..=YEAR_MS;
    /// How long an edge waits before its next link after another one of its name
    /// took it, in milliseconds.
    link_hold_off_ms: u64 = 30_000, 0..=YEAR_MS;
    /// Between two looks at the wall clock, in milliseconds.
    wall_check_ms: u64 = 5_000, 1..=YEAR_MS;
    /// How far the wall clock may run ahead of the monotonic one before that is a
    /// step and no drift, in milliseconds.
    wall_step_ms: u64 = 500, 1..=YEAR_MS;
    /// Batches of publishes that a hub takes in before it looks at anything else.
    batches_per_turn: usize = 64, 1..=65_536;
    /// Commands that a hub takes in before it looks at anything else.
    commands_per_turn: usize = 64, 1..=65_536;
    /// Publishes that wait for the hub, in number. Over its share of them a service's
    /// calls are refused, and its streams are held back.
    inbox_publishes: usize = 16_384, 1..=1_000_000;
    /// Publishes that wait for the hub, in bytes of envelopes.
    inbox_bytes: usize = 64 << 20, 2 * MAX_EVENT_BYTES..=MAX_BYTES;
    /// Commands that wait for the hub, in number, beside one of each call in progress.
    /// Over it, callers wait.
    waiting_commands: usize = 1_024, 1..=65_536;
    /// Batches on their way between hub and edge in each direction, in number,
    /// beside those that the transport holds.
    link_batches: usize = 64, 1..=65_536;
    /// Batches of the link that an edge takes in before it looks at anything else.
    /// Frames of one turn leave together.
    link_batches_per_turn: usize = 16, 1..=65_536;
    /// Messages of sockets that wait for their edge, in number. Over it, readers
    /// wait and clients feel it through TCP.
    socket_messages: usize = 4_096, 1..=1_000_000;
    /// Messages of sockets that an edge takes in before it looks at anything else.
    socket_messages_per_turn: usize = 512, 1..=65_536;
    /// Bytes of notices that may wait for a blocked socket, beyond its events.
    /// More is a client that sends and never reads.
    notice_bytes: usize = 64 << 10, 4_096..=MAX_BYTES;
}

/// A bound that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLimit {
    /// Name of the field in [`Limits`].
    pub field: &'static str,
    /// What it is.
    pub value: u64,
    /// The least that it may be.
    pub min: u64,
    /// The most that it may be.
    pub max: u64,
}

impl InvalidLimit {
    /// What it has to be: `must be 1 to 1000`.
    pub fn rule(&self) -> String {
        format!("must be {} to {}", self.min, self.max)
    }

    fn holds(&self) -> bool {
        (self.min..=self.max).contains(&self.value)
    }
}

impl core::fmt::Display for InvalidLimit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "limit `{}` is {}, it {}",
            self.field,
            self.value,
            self.rule()
        )
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

impl Limits {
    /// Says which bounds cannot work: all of them, in the order of the fields.
    ///
    /// # Errors
    /// If there is one.
    pub fn check(&self) -> Result<(), InvalidLimits> {
        let mut faults = self.outside();
        // A client that answers pings must never be silent for too long.
        let silence = InvalidLimit {
            field: "stale_after_ms",
            value: self.stale_after_ms,
            min: self.ping_every_ms.saturating_add(1),
            max: YEAR_MS,
        };
        if !silence.holds() && faults.iter().all(|fault| fault.field != silence.field) {
            faults.push(silence);
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(InvalidLimits(faults))
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

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
        let faults = limits.check().expect_err("four cannot work");
        let fields: Vec<_> = faults.0.iter().map(|fault| fault.field).collect();
        assert_eq!(
            fields,
            [
                "unsynced_records",
                "queue_bytes",
                "write_stall_ms",
                "stale_after_ms"
            ]
        );
        let first = "limit `unsynced_records` is 0, it must be 1 to 1000000; ";
        assert!(faults.to_string().starts_with(first), "{faults}");
    }

    #[test]
    fn the_defaults_work() {
        assert_eq!(Limits::default().check(), Ok(()));
    }
}
