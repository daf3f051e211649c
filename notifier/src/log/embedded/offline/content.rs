//! What a record holds, beyond its bytes: the event, for those who read a
//! directory offline.

use belfry::{event::EventKind, v1::Envelope};
use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::super::format::RecordView;
use crate::publish;

/// What a record holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// The event and what was noted with it.
    pub envelope: Envelope,
    /// The event's kind, as the contract names it; `unknown` if this program does
    /// not know it.
    pub kind: &'static str,
}

impl Content {
    /// Reads what `record` holds.
    ///
    /// # Errors
    /// A sentence, if that makes no sense: its bytes are those that were written,
    /// so a program wrote it wrong.
    pub fn of(record: &RecordView<'_>) -> Result<Self, String> {
        let id = Uuid::from_u128(record.id);
        let envelope = Envelope::decode(Bytes::copy_from_slice(record.envelope))
            .map_err(|error| format!("event {id} cannot be decoded: {error}"))?;
        if *envelope.id != *id.as_bytes() {
            return Err(format!("event {id} has another id inside"));
        }
        let check = publish::check(id, record.envelope);
        if check != record.check {
            return Err(format!(
                "the check of event {id} is {:08x}, of what it holds {check:08x}",
                record.check
            ));
        }
        let body = envelope
            .event
            .as_ref()
            .and_then(|event| event.body.as_ref());
        let kind = body.map_or("unknown", |body| EventKind::of(body).name());
        Ok(Self { envelope, kind })
    }
}
