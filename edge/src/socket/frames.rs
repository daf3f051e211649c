//! Where the frames in a stream of bytes begin: their headers, without the payloads.
//!
//! What always holds: of a connection nothing but one incomplete header is kept, and
//! a header is seen before memory is allocated for what it announces.

use std::io::Cursor;

use delivery::edge::Frames;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, OpCode},
};

/// The longest header of a frame (RFC 6455 §5.2).
const MAX_HEADER_BYTES: usize = 14;

/// A fragment that is not the last of its message and has fewer bytes is counted like
/// a ping: those of honest clients are kilobytes.
const SHORT_FRAGMENT_BYTES: u64 = 128;

/// Finds the headers of one connection.
#[derive(Debug, Default)]
pub(super) struct FrameScanner {
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: u8,
    /// Payload bytes of the current frame that are still to come.
    payload_left: u64,
}

impl FrameScanner {
    /// Moves `at` past the current frame's payload, as far as it has arrived; whether
    /// that was all of it.
    pub(super) fn skip_payload(&mut self, input: &[u8], at: &mut usize) -> bool {
        let left = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
        let taken = left.min(input.len() - *at);
        self.payload_left -= taken as u64;
        *at += taken;
        self.payload_left == 0
    }

    /// The next header with the length of its payload, and moves `at` past it. `None`
    /// if it has not arrived as a whole, or is none: whoever reads the frame names what
    /// is wrong.
    pub(super) fn next_header(
        &mut self,
        input: &[u8],
        at: &mut usize,
    ) -> Option<(FrameHeader, u64)> {
        if !self.skip_payload(input, at) {
            return None;
        }
        while *at < input.len() {
            let length = usize::from(self.header_bytes);
            *self.header.get_mut(length)? = input[*at];
            *at += 1;
            self.header_bytes += 1;
            match FrameHeader::parse(&mut Cursor::new(&self.header[..=length])) {
                Ok(Some((header, length))) => {
                    self.header_bytes = 0;
                    self.payload_left = length;
                    return Some((header, length));
                }
                Ok(None) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Which frames begin in `input` that are no message.
    pub(super) fn scan(&mut self, input: &[u8]) -> Option<Frames> {
        let mut at = 0;
        let mut found = None;
        while let Some((header, length)) = self.next_header(input, &mut at) {
            let short = !header.is_final && length < SHORT_FRAGMENT_BYTES;
            match header.opcode {
                OpCode::Control(Control::Pong) => found = found.or(Some(Frames::Pongs)),
                OpCode::Control(Control::Ping) => found = Some(Frames::Counted),
                OpCode::Data(_) if short => found = Some(Frames::Counted),
                OpCode::Control(_) | OpCode::Data(_) => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first_byte, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn pings_and_short_fragments_are_counted_wherever_they_are_cut() {
        let long = [&[0x01, 0xfe, 0x10, 0x00, 0, 0, 0, 0][..], &[b'x'; 4_096]].concat();
        for (what, bytes, expected) in [
            ("a message", frame(0x81, b"text"), None),
            ("a close", frame(0x88, b""), None),
            ("a long fragment", long, None),
            ("a pong", frame(0x8a, b"p"), Some(Frames::Pongs)),
            ("a ping", frame(0x89, b"p"), Some(Frames::Counted)),
            ("an empty fragment", frame(0x01, b""), Some(Frames::Counted)),
            ("another one", frame(0x00, b""), Some(Frames::Counted)),
            (
                "a pong and a ping",
                [frame(0x8a, b""), frame(0x89, b"")].concat(),
                Some(Frames::Counted),
            ),
        ] {
            assert_eq!(FrameScanner::default().scan(&bytes), expected, "{what}");
            for cut in 1..bytes.len() {
                let mut scanner = FrameScanner::default();
                let both = [scanner.scan(&bytes[..cut]), scanner.scan(&bytes[cut..])];
                assert!(both.contains(&expected), "{what}, cut at {cut}");
                assert_eq!(scanner.payload_left, 0, "{what}, cut at {cut}");
            }
        }
    }
}
