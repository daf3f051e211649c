//! The messages of a link, between `belfry.v1` (what crosses gRPC) and the types of
//! `delivery` (what the rules read). Notifier and edge both use this crate, so that
//! each message has one encoder and one decoder.
//!
//! What always holds: `decode(encode(message))` is the message. Nothing is decided
//! here. What the contract does not allow is a [`DecodeError`] that names its field;
//! the caller ends the link with it.

use std::sync::Arc;

use belfry::{
    limits::MAX_MESSAGES_PER_REQUEST,
    name::{self, NameError},
    v1,
};
use delivery::{EventId, Position, StreamName, link::ReceiptState};

mod rights;
mod to_edge;
mod to_hub;

pub use rights::rights;
pub use to_edge::{decode_to_edge, encode_to_edge};
pub use to_hub::{decode_to_hub, encode_to_hub};

/// The version of the link that this crate writes and reads.
pub const VERSION: u32 = 2;

/// Why a message was not decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message is invalid whenever it comes: `INVALID_ARGUMENT`.
    #[error("field `{field}` {problem}")]
    Malformed {
        /// The field, by its name in `belfry.v1`: `open.device`.
        field: &'static str,
        /// What is wrong and what is allowed: `is missing`.
        problem: String,
    },
    /// The message is valid, but not at this place: `FAILED_PRECONDITION`.
    #[error("message `{message}` is out of turn: {rule}")]
    OutOfTurn {
        /// The message, by its name in `belfry.v1`: `hello`.
        message: &'static str,
        /// When it is allowed.
        rule: &'static str,
    },
}

/// Checks the number of messages in a batch from an edge.
pub fn check_request(request: &v1::AttachRequest) -> Result<(), DecodeError> {
    match request.messages.len() {
        1..=MAX_MESSAGES_PER_REQUEST => Ok(()),
        count => Err(malformed(
            "messages",
            format!("has {count} messages, it must have 1 to {MAX_MESSAGES_PER_REQUEST}"),
        )),
    }
}

/// Checks the first message of a link.
pub fn check_hello(hello: &v1::Hello) -> Result<(), DecodeError> {
    check_name("hello.edge", &hello.edge)
}

fn malformed(field: &'static str, problem: impl Into<String>) -> DecodeError {
    DecodeError::Malformed {
        field,
        problem: problem.into(),
    }
}

fn missing(field: &'static str) -> DecodeError {
    malformed(field, "is missing")
}

fn check_name(field: &'static str, name: &str) -> Result<(), DecodeError> {
    name::check(name).map_err(|error| malformed(field, error.to_string()))
}

fn decode_name(field: &'static str, name: &str) -> Result<Arc<str>, DecodeError> {
    check_name(field, name)?;
    Ok(name.into())
}

/// A stream's name: `user:<id>`, `queue:<id>` or `everyone`. Whether a session may
/// follow it is the hub's question.
fn decode_stream(field: &'static str, name: &str) -> Result<StreamName, DecodeError> {
    match name::StreamName::parse(name) {
        Ok(stream) => Ok(stream.to_arc()),
        Err(NameError::NotAStream) => Err(malformed(
            field,
            format!("is `{name:.140}`, it must be `user:<id>`, `queue:<id>` or `everyone`"),
        )),
        Err(error) => Err(malformed(field, error.to_string())),
    }
}

fn encode_position(position: Position) -> v1::Position {
    v1::Position {
        epoch: position.epoch,
        offset: position.offset,
        check: position.check,
    }
}

fn decode_position(position: v1::Position) -> Position {
    Position {
        epoch: position.epoch,
        offset: position.offset,
        check: position.check,
    }
}

fn required_position(
    field: &'static str,
    position: Option<v1::Position>,
) -> Result<Position, DecodeError> {
    position.map(decode_position).ok_or_else(|| missing(field))
}

fn encode_event_id(id: EventId) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn decode_event_id(field: &'static str, id: &[u8]) -> Result<EventId, DecodeError> {
    let id = <[u8; 16]>::try_from(id)
        .map_err(|_| malformed(field, format!("has {} bytes, it must have 16", id.len())))?;
    Ok(EventId::from_be_bytes(id))
}

fn encode_receipt_state(state: ReceiptState) -> v1::ReceiptState {
    match state {
        ReceiptState::Delivered => v1::ReceiptState::Delivered,
        ReceiptState::Displayed => v1::ReceiptState::Displayed,
        ReceiptState::Dismissed => v1::ReceiptState::Dismissed,
        ReceiptState::Read => v1::ReceiptState::Read,
    }
}

fn decode_receipt_state(field: &'static str, number: i32) -> Result<ReceiptState, DecodeError> {
    match v1::ReceiptState::try_from(number) {
        Ok(v1::ReceiptState::Delivered) => Ok(ReceiptState::Delivered),
        Ok(v1::ReceiptState::Displayed) => Ok(ReceiptState::Displayed),
        Ok(v1::ReceiptState::Dismissed) => Ok(ReceiptState::Dismissed),
        Ok(v1::ReceiptState::Read) => Ok(ReceiptState::Read),
        Ok(v1::ReceiptState::Unspecified | v1::ReceiptState::Expired) | Err(_) => Err(malformed(
            field,
            format!("is {number}, which is no state that an edge reports"),
        )),
    }
}
