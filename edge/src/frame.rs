//! WebSocket frames, ready to be written: made once, then shared by every socket
//! that they go to.

use bytes::Bytes;
use serde::Serialize;

mod body;
mod event;

pub use event::{Encoder, EventPosition};

/// Header of a server's frame at most: two bytes and a 64-bit length.
const MAX_HEADER: usize = 10;

/// A WebSocket ping without a payload.
pub const PING: Bytes = Bytes::from_static(&[0x89, 0]);

/// One text frame with `value` as JSON.
///
/// # Panics
/// If `value` cannot be JSON: a map with keys that are not strings.
pub fn text(value: &impl Serialize) -> Bytes {
    text_of(value, 256)
}

/// The same, for a payload of about `hint` bytes.
fn text_of(value: &impl Serialize, hint: usize) -> Bytes {
    let mut frame = Vec::with_capacity(MAX_HEADER + hint);
    frame.resize(MAX_HEADER, 0);
    serde_json::to_writer(&mut frame, value).expect("our frames have string keys and go to memory");
    let start = put_header(&mut frame);
    Bytes::from(frame).slice(start..)
}

/// Writes the header of a final text frame right before the payload, which
/// starts at `MAX_HEADER`; returns where the frame begins.
fn put_header(frame: &mut [u8]) -> usize {
    const TEXT: u8 = 0x81;
    let length = frame.len() - MAX_HEADER;
    match length {
        0..=125 => {
            frame[8..10].copy_from_slice(&[TEXT, length as u8]);
            8
        }
        126..=0xffff => {
            frame[6..8].copy_from_slice(&[TEXT, 126]);
            frame[8..10].copy_from_slice(&(length as u16).to_be_bytes());
            6
        }
        _ => {
            frame[0..2].copy_from_slice(&[TEXT, 127]);
            frame[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            0
        }
    }
}

/// A close frame. The reason is cut to what a control frame holds (123 bytes).
pub fn close(code: u16, reason: &str) -> Bytes {
    let mut length = reason.len().min(123);
    while !reason.is_char_boundary(length) {
        length -= 1;
    }
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&[0x88, 2 + length as u8]);
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(&reason.as_bytes()[..length]);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_states_the_length_in_its_shortest_form() {
        for (length, header) in [
            (2, &[0x81, 2][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (0xffff, &[0x81, 126, 0xff, 0xff]),
            (0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = text(&"x".repeat(length - 2));
            assert_eq!(&frame[..header.len()], header);
            assert_eq!(frame.len(), header.len() + length);
            assert_eq!(frame[header.len()], b'"');
        }
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        let frame = close(4000, &"é".repeat(100));
        assert_eq!(frame[..4], [0x88, 124, 0x0f, 0xa0]);
        assert_eq!(
            std::str::from_utf8(&frame[4..]).unwrap().chars().count(),
            61
        );
    }
}
