//! What is stored: one record for each event, whatever the number of streams.

use alloc::{sync::Arc, vec::Vec};

use bytes::Bytes;

use crate::StreamName;

/// Log sequence number: counts the records of a whole log, 1, 2, 3 … without
/// holes.
pub type Lsn = u64;

/// `UUIDv7` of an event, as a number.
pub type EventId = u128;

/// One event in one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The stream.
    pub stream: StreamName,
    /// The event's offset in it, from 1.
    pub offset: u64,
}

/// What a publisher said to make its retries safe, as digests: the driver makes
/// them, the rules only compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupeKey {
    /// Digest of publisher and key.
    pub key: u128,
    /// Digest of the request without its key.
    pub body: u64,
}

/// What a stored event does to the lease of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMark {
    /// The job, by publisher and id: opaque in here.
    pub job: Arc<str>,
    /// What happens to its lease.
    pub change: JobChange,
}

/// What happens to the lease of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobChange {
    /// It runs from now on for so many milliseconds, unless it is renewed.
    Leased {
        /// How long.
        lease_ms: u64,
    },
    /// The job is over, and so is its lease.
    Ended,
}

/// One stored event. It is written as one unit, so that it is wholly there or
/// wholly absent in all of its streams (guarantee G2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log.
    pub lsn: Lsn,
    /// The event's id.
    pub id: EventId,
    /// Its places in streams; at least one, and no stream twice.
    pub placements: Arc<[Placement]>,
    /// CRC-32 of id and envelope: the check of every position of this record.
    pub check: u32,
    /// Set if a retry of its publish must find it again.
    pub dedupe: Option<DedupeKey>,
    /// Set if it opens, renews or ends the lease of a job.
    pub job: Option<JobMark>,
    /// Encoded `belfry.v1.Envelope`.
    pub envelope: Bytes,
}

/// One event of a stream, as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its offset in the stream.
    pub offset: u64,
    /// Its check.
    pub check: u32,
    /// What readers receive, opaque here: an encoded `belfry.v1.Envelope` on a link, a
    /// frame in a session.
    pub payload: Bytes,
}

/// What a log knows of a stream when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredStream {
    /// The stream.
    pub stream: StreamName,
    /// The service of its oldest event that is still stored; empty if none is.
    pub publisher: Arc<str>,
    /// The oldest offset that can still be read; `head + 1` if none can.
    pub first: u64,
    /// The newest offset; 0 if there never was one.
    pub head: u64,
    /// The check of the record at `head`.
    pub head_check: u32,
}

/// An idempotency key that a log holds when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredKey {
    /// The key.
    pub dedupe: DedupeKey,
    /// The event that was stored under it.
    pub id: EventId,
    /// The service that used it.
    pub publisher: Arc<str>,
    /// Where it was placed.
    pub placements: Arc<[Placement]>,
    /// The check of its positions.
    pub check: u32,
    /// How long ago it was stored, in milliseconds, counted from the newest
    /// record of the log and never negative (guarantee G21).
    pub age_ms: u64,
}

/// A lease that nothing in the log has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredLease {
    /// The job.
    pub job: Arc<str>,
    /// The service that opened it.
    pub publisher: Arc<str>,
    /// How long the lease runs unless it is renewed, in milliseconds.
    pub lease_ms: u64,
    /// Where the newest event with a lease was placed.
    pub streams: Arc<[StreamName]>,
    /// That event: encoded `belfry.v1.Envelope`.
    pub envelope: Bytes,
}

/// All that a hub needs to go on from a log. The keys of each service are in order of storing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Random id of this unbroken log.
    pub epoch: u64,
    /// The newest record; 0 if there is none.
    pub last_lsn: Lsn,
    /// Every stream that ever had a record.
    pub streams: Vec<RecoveredStream>,
    /// Every key that is still within the window.
    pub keys: Vec<RecoveredKey>,
    /// Every lease that is still open, one for each job.
    pub leases: Vec<RecoveredLease>,
}
