//! The first message of a connection, read while nobody has proved who they are.
//!
//! What always holds: a connection that is not authenticated holds at most
//! [`FREE_BYTES`] of a first message, unless the budget that all of them share has
//! room for the whole of it. Room is taken when a frame announces its length,
//! before memory is allocated for it, and given back when the message has been
//! handled or the connection ends.

use std::{io::IoSlice, sync::Arc};

use belfry::reason::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

use super::{
    Stream,
    frames::FrameScanner,
    reader::{self, ReadEnd, Reader, Received},
};
use crate::protocol::{MAX_FIRST_MESSAGE_BYTES, MAX_MESSAGE_BYTES};

/// Bytes of a first message that need no room in the budget.
pub(super) const FREE_BYTES: usize = 4 << 10;

/// Payload of a control frame at most (RFC 6455 §5.5).
const MAX_CONTROL_BYTES: u64 = 125;

/// Reads with pings, pongs or short fragments before the first message; as many as
/// there are messages in a window afterwards. More is closed with 4029.
const MAX_COUNTED_READS: u32 = 100;

/// A first message that has not arrived as a whole yet.
pub(super) struct FirstMessage {
    reader: Reader,
    budget: Arc<Semaphore>,
    reserved: Option<OwnedSemaphorePermit>,
    /// Payload bytes that the message's frames have announced so far.
    announced: usize,
    scanner: FrameScanner,
    /// Whether the message ends with the current frame.
    final_frame: bool,
    /// Reads so far that brought pings, pongs or short fragments and no message.
    counted_reads: u32,
}

/// A first message, complete.
pub(super) struct First {
    pub text: String,
    /// What came after it in the same read.
    pub rest: Received,
    /// Reads what comes next, with the usual limits and a fresh buffer.
    pub reader: Reader,
    /// Its room in the budget: keep this as long as the message.
    pub reserved: Option<OwnedSemaphorePermit>,
}

impl FirstMessage {
    /// For a connection that nothing was read from. A permit of `budget` is a byte.
    pub(super) fn new(budget: &Arc<Semaphore>) -> Self {
        Self {
            reader: Reader::new(MAX_FIRST_MESSAGE_BYTES),
            budget: Arc::clone(budget),
            reserved: None,
            announced: 0,
            scanner: FrameScanner::default(),
            final_frame: false,
            counted_reads: 0,
        }
    }

    /// Waits for the whole message. `leftover` was read already.
    pub(super) async fn read(mut self, leftover: &[u8], stream: &Stream) -> Result<First, ReadEnd> {
        if let Some(first) = self.feed(leftover, stream)? {
            return Ok(first);
        }
        loop {
            stream.readable().await.map_err(|_| ReadEnd::Io)?;
            if let Some(chunk) = reader::read_chunk(stream, |chunk| self.feed(chunk, stream))
                && let Some(first) = chunk??
            {
                return Ok(first);
            }
        }
    }

    fn feed(&mut self, input: &[u8], stream: &Stream) -> Result<Option<First>, ReadEnd> {
        let end = self.measure(input).map_err(ReadEnd::Fault)?;
        let (message, rest) = input.split_at(end.unwrap_or(input.len()));
        let mut received = self.reader.feed(message);
        if !received.replies.is_empty() {
            // Nothing else was written yet: a pong fits, or the client does not read.
            let _ = stream.write(&[IoSlice::new(&received.replies)]);
        }
        if let Some(text) = received.texts.pop_front() {
            let mut reader = Reader::new(MAX_MESSAGE_BYTES);
            return Ok(Some(First {
                text,
                rest: reader.feed(rest),
                reader,
                reserved: self.reserved.take(),
            }));
        }
        if received.frames.is_some() {
            self.counted_reads += 1;
            if self.counted_reads > MAX_COUNTED_READS {
                return Err(ReadEnd::Fault(Reason::RateLimited));
            }
        }
        received.end.map_or(Ok(None), Err)
    }

    /// Follows the frames through `input`; says where the message ends, if it does.
    fn measure(&mut self, input: &[u8]) -> Result<Option<usize>, Reason> {
        let mut at = 0;
        while self.scanner.skip_payload(input, &mut at) {
            if self.final_frame {
                return Ok(Some(at));
            }
            match self.scanner.next_header(input, &mut at) {
                Some((header, length)) => self.start_frame(&header, length)?,
                None => break,
            }
        }
        Ok(None)
    }

    fn start_frame(&mut self, header: &FrameHeader, length: u64) -> Result<(), Reason> {
        if !matches!(header.opcode, OpCode::Data(_)) {
            return match length {
                0..=MAX_CONTROL_BYTES => Ok(()),
                _ => Err(Reason::ProtocolError),
            };
        }
        self.final_frame = header.is_final;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.announced = self.announced.saturating_add(length);
        if self.announced > MAX_FIRST_MESSAGE_BYTES {
            return Err(Reason::TooBig);
        }
        self.reserve()
    }

    /// Takes room for what is announced.
    fn reserve(&mut self) -> Result<(), Reason> {
        if self.announced <= FREE_BYTES {
            return Ok(());
        }
        let held = self
            .reserved
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = u32::try_from(self.announced.saturating_sub(held)).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.budget)
            .try_acquire_many_owned(missing)
            .map_err(|_| Reason::Overloaded)?;
        match &mut self.reserved {
            Some(reserved) => reserved.merge(more),
            None => self.reserved = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a client's frame.
    fn header(first_byte: u8, length: usize) -> Vec<u8> {
        let mut header = vec![first_byte, 0x80 | 127];
        header.extend_from_slice(&(length as u64).to_be_bytes());
        header.extend_from_slice(&[0; 4]);
        header
    }

    fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
        [header(first_byte, payload.len()), payload.to_vec()].concat()
    }

    fn budget(bytes: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(bytes))
    }

    #[test]
    fn silent_large_frames_stay_within_the_budget() {
        let budget = budget(1 << 20);
        let mut admitted = Vec::new();
        for _ in 0..100 {
            let mut message = FirstMessage::new(&budget);
            match message.measure(&header(0x81, 100 << 10)) {
                Ok(end) => {
                    assert_eq!(end, None);
                    admitted.push(message);
                }
                Err(reason) => assert_eq!(reason, Reason::Overloaded),
            }
        }
        assert_eq!(admitted.len(), 10);
        let mut small = FirstMessage::new(&budget);
        assert_eq!(small.measure(&header(0x81, FREE_BYTES)), Ok(None));
        drop(admitted);
        assert_eq!(budget.available_permits(), 1 << 20);
    }

    #[test]
    fn fragments_are_counted_together() {
        let budget = budget(10_000);
        let mut message = FirstMessage::new(&budget);
        let fragments = [frame(0x01, &[b'x'; 3_000]), header(0x00, 6_000)].concat();
        assert_eq!(message.measure(&fragments), Ok(None));
        assert_eq!(budget.available_permits(), 1_000);
        let more = [vec![b'x'; 6_000], header(0x80, 2_000)].concat();
        assert_eq!(message.measure(&more), Err(Reason::Overloaded));
        for length in [MAX_FIRST_MESSAGE_BYTES + 1, 1 << 62] {
            let mut message = FirstMessage::new(&budget);
            let large = header(0x81, length);
            assert_eq!(message.measure(&large), Err(Reason::TooBig));
        }
    }

    #[test]
    fn the_end_of_the_message_is_found_wherever_it_is_cut() {
        let bytes = [
            frame(0x01, b"gr"),
            frame(0x89, b"p"),
            frame(0x80, "ü\u{df}e".as_bytes()),
            frame(0x81, b"next"),
        ]
        .concat();
        let end = bytes.len() - frame(0x81, b"next").len();
        for cut in 1..end {
            let mut message = FirstMessage::new(&budget(0));
            assert_eq!(message.measure(&bytes[..cut]), Ok(None), "cut at {cut}");
            assert_eq!(message.measure(&bytes[cut..]), Ok(Some(end - cut)));
        }
    }

    #[test]
    fn a_long_control_frame_gets_no_memory() {
        let mut message = FirstMessage::new(&budget(1 << 20));
        let ping = message.measure(&header(0x89, 126));
        assert_eq!(ping, Err(Reason::ProtocolError));
    }
}
