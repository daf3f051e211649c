//! An envelope of the internal contract becomes an event of the public one.
//!
//! Whatever an envelope holds, a frame comes out: what this edge does not know
//! (a newer contract) becomes an event of type `unknown` with its place, for an
//! offset that vanished would be a hole.

use belfry::{event::EventKind, v1};
use bytes::Bytes;
use delivery::Position;
use prost::Message as _;
use serde::Serialize;
use uuid::Uuid;

use super::{body::Body, text_of};
use crate::{
    clock,
    protocol::{PublicStream, position_text},
};

/// Stream and position of an event.
#[derive(Debug, Clone, Copy)]
pub struct EventPosition<'a> {
    /// Its stream, by its internal name.
    pub stream: &'a str,
    /// Its position; `None` for an ephemeral event.
    pub position: Option<Position>,
}

/// Makes frames and counts what it met.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Frames made.
    pub encoded: u64,
    /// Envelopes that held nothing this edge knows.
    pub unknown: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventFrame<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    stream: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    job_id: &'a str,
    /// Its time to live is over: deliver, but do not make a fuss.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    expired: bool,
    #[serde(flatten)]
    body: Option<Body<'a>>,
}

/// An event was acknowledged (read or dismissed) on another device.
#[derive(Serialize)]
struct RetractFrame {
    r#type: &'static str,
    id: Option<Uuid>,
    reason: &'static str,
}

impl Encoder {
    /// The frame of one event, as it is delivered at `now_unix_ms`: expired links
    /// are left out.
    pub fn event(&mut self, envelope: &[u8], place: EventPosition<'_>, now_unix_ms: i64) -> Bytes {
        self.encoded += 1;
        let decoded = v1::Envelope::decode(envelope).ok();
        if let Some(retract) = decoded
            .as_ref()
            .and_then(|decoded| decoded.retract.as_ref())
        {
            let frame = RetractFrame {
                r#type: "retract",
                id: Uuid::from_slice(&retract.event_id).ok(),
                reason: if retract.read { "read" } else { "dismissed" },
            };
            return text_of(&frame, 100);
        }
        let known = decoded
            .as_ref()
            .and_then(|envelope| envelope.event.as_ref()?.body.as_ref())
            .and_then(|body| Some((EventKind::of(body), Body::of(body, now_unix_ms)?)));
        if known.is_none() {
            self.unknown += 1;
        }
        let PublicStream { stream, queue } = PublicStream::of(place.stream);
        let (kind, body) = known.unzip();
        let header = decoded.as_ref();
        let frame = EventFrame {
            r#type: kind.map_or("unknown", EventKind::name),
            id: header.and_then(|envelope| Uuid::from_slice(&envelope.id).ok()),
            stream,
            queue,
            offset: place.position.map(|position| position.offset),
            position: place.position.map(position_text),
            timestamp: header.and_then(|envelope| clock::rfc3339(envelope.published_at_unix_ms)),
            job_id: header.map_or("", |envelope| &envelope.job_id),
            expired: header
                .is_some_and(|envelope| (1..=now_unix_ms).contains(&envelope.expires_at_unix_ms)),
            body,
        };
        // The names and the place take about 400 bytes.
        text_of(&frame, envelope.len() + envelope.len() / 4 + 400)
    }
}
