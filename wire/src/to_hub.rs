//! Messages from an edge to the hub.
//!
//! The hub does not trust an edge: names, streams and counts are checked here.

use std::sync::Arc;

use belfry::{
    limits::{MAX_RECEIPTS_PER_MESSAGE, MAX_TOKEN_BYTES},
    v1::{self, EdgeMessage, edge_message::Body},
};
use delivery::{
    EventId,
    link::{Interest, ReceiptState, ToHub},
};

use crate::{
    DecodeError, decode_event_id, decode_name, decode_position, decode_receipt_state,
    decode_stream, encode_event_id, encode_position, encode_receipt_state, malformed, missing,
    required_position,
};

/// One message to the hub, as it crosses the wire.
pub fn encode_to_hub(message: ToHub) -> EdgeMessage {
    let body = match message {
        ToHub::Open {
            session,
            token,
            public_id,
            device,
            interests,
        } => Body::Open(v1::OpenSession {
            session,
            token: token.to_string(),
            interests: interests.iter().map(encode_interest).collect(),
            // Absent is the public id.
            device: if device == public_id {
                String::new()
            } else {
                device.to_string()
            },
            session_id: public_id.to_string(),
        }),
        ToHub::Refresh { session, token } => Body::Refresh(v1::RefreshSession {
            session,
            token: token.to_string(),
        }),
        ToHub::Close { session } => Body::Close(v1::CloseSession { session }),
        ToHub::Join { session, interest } => Body::Join(v1::JoinStream {
            session,
            interest: Some(encode_interest(&interest)),
        }),
        ToHub::Leave { session, stream } => Body::Leave(v1::LeaveStream {
            session,
            stream: stream.to_string(),
        }),
        ToHub::Fetch {
            session,
            stream,
            after,
        } => Body::Fetch(v1::Fetch {
            session,
            stream: stream.to_string(),
            after: Some(encode_position(after)),
        }),
        ToHub::Receipts { session, receipts } => Body::Receipts(v1::Receipts {
            session,
            receipts: receipts
                .into_iter()
                .map(|(event, state)| v1::EventReceipt {
                    event_id: encode_event_id(event).into(),
                    state: encode_receipt_state(state).into(),
                })
                .collect(),
        }),
        ToHub::WatchPresence { session, stream } => Body::WatchPresence(v1::WatchStreamPresence {
            session,
            stream: stream.to_string(),
        }),
        ToHub::UnwatchPresence { session, stream } => {
            Body::UnwatchPresence(v1::UnwatchStreamPresence {
                session,
                stream: stream.to_string(),
            })
        }
        ToHub::Credit { deliveries, bytes } => Body::Credit(v1::Credit { deliveries, bytes }),
    };
    EdgeMessage { body: Some(body) }
}

/// One message from an edge, after its `Hello`; `None`: a heartbeat, skip it.
pub fn decode_to_hub(message: EdgeMessage) -> Result<Option<ToHub>, DecodeError> {
    Ok(Some(match message.body.ok_or_else(|| missing("body"))? {
        Body::Hello(_) => {
            return Err(DecodeError::OutOfTurn {
                message: "hello",
                rule: "send it first and once",
            });
        }
        Body::Open(open) => decode_open(&open)?,
        Body::Heartbeat(v1::Heartbeat {}) => return Ok(None),
        Body::Refresh(refresh) => ToHub::Refresh {
            session: refresh.session,
            token: decode_token("refresh.token", &refresh.token)?,
        },
        Body::Close(close) => ToHub::Close {
            session: close.session,
        },
        Body::Join(join) => ToHub::Join {
            session: join.session,
            interest: decode_interest(
                "join.interest.stream",
                join.interest
                    .as_ref()
                    .ok_or_else(|| missing("join.interest"))?,
            )?,
        },
        Body::Leave(leave) => ToHub::Leave {
            session: leave.session,
            stream: decode_stream("leave.stream", &leave.stream)?,
        },
        Body::Fetch(fetch) => ToHub::Fetch {
            session: fetch.session,
            stream: decode_stream("fetch.stream", &fetch.stream)?,
            after: required_position("fetch.after", fetch.after)?,
        },
        Body::Receipts(receipts) => ToHub::Receipts {
            session: receipts.session,
            receipts: decode_receipts(&receipts.receipts)?,
        },
        Body::WatchPresence(watch) => ToHub::WatchPresence {
            session: watch.session,
            stream: decode_stream("watch_presence.stream", &watch.stream)?,
        },
        Body::UnwatchPresence(watch) => ToHub::UnwatchPresence {
            session: watch.session,
            stream: decode_stream("unwatch_presence.stream", &watch.stream)?,
        },
        Body::Credit(credit) => ToHub::Credit {
            deliveries: credit.deliveries,
            bytes: credit.bytes,
        },
    }))
}

fn decode_open(open: &v1::OpenSession) -> Result<ToHub, DecodeError> {
    let public_id = decode_name("open.session_id", &open.session_id)?;
    let interests = open.interests.iter();
    Ok(ToHub::Open {
        session: open.session,
        token: decode_token("open.token", &open.token)?,
        device: match &*open.device {
            "" => Arc::clone(&public_id),
            device => decode_name("open.device", device)?,
        },
        public_id,
        interests: interests
            .map(|interest| decode_interest("open.interests.stream", interest))
            .collect::<Result<_, _>>()?,
    })
}

/// A token that may be one; the notifier verifies it.
fn decode_token(field: &'static str, token: &str) -> Result<Arc<str>, DecodeError> {
    match token.len() {
        0 => Err(missing(field)),
        1..=MAX_TOKEN_BYTES => Ok(token.into()),
        length => Err(malformed(
            field,
            format!("has {length} bytes, it must have {MAX_TOKEN_BYTES} at most"),
        )),
    }
}

fn encode_interest(interest: &Interest) -> v1::Interest {
    v1::Interest {
        stream: interest.stream.to_string(),
        from: interest.from.map(encode_position),
    }
}

fn decode_interest(field: &'static str, interest: &v1::Interest) -> Result<Interest, DecodeError> {
    Ok(Interest {
        stream: decode_stream(field, &interest.stream)?,
        from: interest.from.map(decode_position),
    })
}

fn decode_receipts(
    receipts: &[v1::EventReceipt],
) -> Result<Vec<(EventId, ReceiptState)>, DecodeError> {
    if !(1..=MAX_RECEIPTS_PER_MESSAGE).contains(&receipts.len()) {
        let count = receipts.len();
        return Err(malformed(
            "receipts.receipts",
            format!("has {count} receipts, it must have 1 to {MAX_RECEIPTS_PER_MESSAGE}"),
        ));
    }
    let receipts = receipts.iter().map(|receipt| {
        let event = decode_event_id("receipts.receipts.event_id", &receipt.event_id)?;
        let state = decode_receipt_state("receipts.receipts.state", receipt.state)?;
        Ok((event, state))
    });
    receipts.collect()
}
