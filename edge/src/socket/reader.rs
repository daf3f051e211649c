//! Bytes in, messages out: RFC 6455 by tungstenite, over memory instead of a
//! socket.
//!
//! The socket is read into a buffer on the stack, so an idle connection holds
//! none; replies that the protocol asks for (pongs, the answer to a close) are
//! collected for whoever owns the write side.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
};

use belfry::reason::Reason;
use delivery::edge::Frames;
use tokio_tungstenite::tungstenite::{
    Error, Message,
    handshake::derive_accept_key,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::{Stream, frames::FrameScanner};
use crate::protocol::MAX_MESSAGE_BYTES;

/// Bytes read at once. On the stack of a worker thread, not of a connection.
const SCRATCH_BYTES: usize = 4 << 10;

/// What tungstenite keeps for each connection to put frames together. It grows to
/// the size of a message while one is incomplete.
const KEPT_BYTES: usize = 128;

/// Replies that one read can provoke at most: each is at most as long as what
/// provoked it.
const MAX_REPLIES_BYTES: usize = 2 * SCRATCH_BYTES + MAX_MESSAGE_BYTES;

/// The answer to a `Sec-WebSocket-Key`.
pub(crate) fn accept_key(key: &[u8]) -> String {
    derive_accept_key(key)
}

/// Why reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The client closed, properly.
    Peer,
    /// The connection broke or just ended.
    Io,
    /// The client broke the protocol: it is sent the reason.
    Fault(Reason),
}

/// Messages and replies of one read.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Text messages, in order.
    pub texts: VecDeque<String>,
    /// Bytes to write: pongs, or the answer to a close.
    pub replies: Vec<u8>,
    /// Set if there is no more to come.
    pub end: Option<ReadEnd>,
    /// Frames that are no message, if there were any.
    pub frames: Option<Frames>,
}

/// The protocol's state of one connection.
pub(super) struct Reader {
    context: WebSocketContext,
    scanner: FrameScanner,
}

impl Reader {
    /// For a connection that nothing was read from, and messages of so many bytes
    /// at most.
    pub(super) fn new(max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(KEPT_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(1 << 10)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        Self {
            context: WebSocketContext::new(Role::Server, Some(config)),
            scanner: FrameScanner::default(),
        }
    }

    /// Messages in the bytes that have arrived; `None` if none have.
    pub(super) fn read_now(&mut self, stream: &Stream) -> Option<Received> {
        let read = read_chunk(stream, |chunk| self.feed(chunk))?;
        Some(read.unwrap_or_else(|end| Received {
            end: Some(end),
            ..Received::default()
        }))
    }

    /// What these bytes hold, with those that came before.
    pub(super) fn feed(&mut self, input: &[u8]) -> Received {
        let mut texts = VecDeque::new();
        let received = self.feed_with(input, |message| match message {
            Message::Text(text) => {
                texts.push_back(text.as_str().to_owned());
                Ok(())
            }
            Message::Binary(_) => Err(Reason::BinaryFrame),
            // After a close the next read writes the answer and reports the end.
            _ => Ok(()),
        });
        Received { texts, ..received }
    }

    /// The same, for whoever takes messages by itself; an error ends the connection.
    pub(super) fn feed_with(
        &mut self,
        input: &[u8],
        mut take: impl FnMut(Message) -> Result<(), Reason>,
    ) -> Received {
        let mut received = Received {
            frames: self.scanner.scan(input),
            ..Received::default()
        };
        let mut memory = Memory {
            input,
            replies: Vec::new(),
        };
        while received.end.is_none() {
            match self.context.read(&mut memory) {
                Ok(message) => {
                    received.end = take(message).err().map(ReadEnd::Fault);
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => received.end = Some(end_of(&error)),
            }
        }
        received.replies = memory.replies;
        received
    }
}

fn end_of(error: &Error) -> ReadEnd {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => ReadEnd::Peer,
        Error::Capacity(_) => ReadEnd::Fault(Reason::TooBig),
        Error::Utf8(_) => ReadEnd::Fault(Reason::BadUtf8),
        Error::Io(_) => ReadEnd::Io,
        _ => ReadEnd::Fault(Reason::ProtocolError),
    }
}

/// The text messages in what a client sent, in these reads, after its handshake; or why
/// the connection ends. For fuzzing.
///
/// # Errors
/// If the client broke the protocol.
pub fn read_frames(reads: &[&[u8]]) -> Result<Vec<String>, Reason> {
    let mut reader = Reader::new(MAX_MESSAGE_BYTES);
    let mut texts = Vec::new();
    for bytes in reads {
        let received = reader.feed(bytes);
        texts.extend(received.texts);
        match received.end {
            Some(ReadEnd::Fault(reason)) => return Err(reason),
            Some(_) => break,
            None => {}
        }
    }
    Ok(texts)
}

/// Passes on the bytes that have arrived; `None` if none have.
pub(super) fn read_chunk<T>(
    stream: &Stream,
    take: impl FnOnce(&[u8]) -> T,
) -> Option<Result<T, ReadEnd>> {
    let mut scratch = [0; SCRATCH_BYTES];
    match stream.try_read(&mut scratch) {
        Ok(0) => Some(Err(ReadEnd::Io)),
        Ok(length) => Some(Ok(take(&scratch[..length]))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(Err(ReadEnd::Io)),
    }
}

/// Reads and forgets until the connection ends.
pub(super) async fn discard(stream: &Stream) {
    loop {
        if stream.readable().await.is_err() || discard_now(stream) {
            return;
        }
    }
}

fn discard_now(stream: &Stream) -> bool {
    let mut scratch = [0; SCRATCH_BYTES];
    match stream.try_read(&mut scratch) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// A stream for tungstenite that never touches a socket.
struct Memory<'a> {
    input: &'a [u8],
    replies: Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            // An empty read would mean the end of the stream.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(into)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        debug_assert!(self.replies.len() + bytes.len() <= MAX_REPLIES_BYTES);
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame: masked with zeros, so that it can be read here.
    fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![head];
        match payload.len() {
            0..=125 => frame.push(0x80 | payload.len() as u8),
            length => {
                frame.push(0xfe);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        frame
    }

    fn feed(bytes: &[u8]) -> Received {
        Reader::new(MAX_MESSAGE_BYTES).feed(bytes)
    }

    #[test]
    fn breaking_the_protocol_has_the_code_it_should_have() {
        let fault = |bytes: &[u8]| feed(bytes).end;
        for (what, bytes, reason) in [
            ("unmasked", vec![0x81, 1, b'x'], Reason::ProtocolError),
            ("reserved bit", frame(0xc1, b"x"), Reason::ProtocolError),
            ("unknown opcode", frame(0x83, b"x"), Reason::ProtocolError),
            (
                "lonely continuation",
                frame(0x80, b"x"),
                Reason::ProtocolError,
            ),
            ("fragmented ping", frame(0x09, b"x"), Reason::ProtocolError),
            (
                "long ping",
                frame(0x89, &[b'x'; 126]),
                Reason::ProtocolError,
            ),
            (
                "close of one byte",
                frame(0x88, &[3]),
                Reason::ProtocolError,
            ),
            ("binary", frame(0x82, b"x"), Reason::BinaryFrame),
            ("bad UTF-8", frame(0x81, b"\xff"), Reason::BadUtf8),
            ("too big", frame(0x81, &vec![b'x'; 16_385]), Reason::TooBig),
            (
                "a tebibyte",
                [&[0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0][..], &[0; 4]].concat(),
                Reason::TooBig,
            ),
        ] {
            assert_eq!(fault(&bytes), Some(ReadEnd::Fault(reason)), "{what}");
        }
        let mut fragments = frame(0x01, &[b'x'; 9_000]);
        fragments.extend(frame(0x80, &[b'x'; 9_000]));
        assert_eq!(fault(&fragments), Some(ReadEnd::Fault(Reason::TooBig)));
    }

    #[test]
    fn messages_cut_anywhere_are_put_together() {
        let mut bytes = frame(0x01, "gr".as_bytes());
        bytes.extend(frame(0x89, b"p"));
        bytes.extend(frame(0x80, "ü\u{df}e".as_bytes()));
        bytes.extend(frame(0x81, b"two"));
        for cut in 0..bytes.len() {
            let mut reader = Reader::new(MAX_MESSAGE_BYTES);
            let mut received = reader.feed(&bytes[..cut]);
            let second = reader.feed(&bytes[cut..]);
            received.texts.extend(second.texts);
            received.replies.extend(second.replies);
            assert_eq!(received.texts, ["grüße", "two"], "cut at {cut}");
            assert_eq!(received.replies, [0x8a, 1, b'p'], "cut at {cut}");
        }
    }

    #[test]
    fn a_close_is_answered_with_its_code() {
        let received = feed(&frame(0x88, &[0x03, 0xe8, b'b']));
        assert_eq!(received.end, Some(ReadEnd::Peer));
        assert_eq!(received.replies, [0x88, 3, 0x03, 0xe8, b'b']);
    }

    #[test]
    fn many_pings_in_one_read_make_no_more_than_they_are() {
        let pings: Vec<u8> = frame(0x89, b"").repeat(300);
        let received = feed(&pings);
        assert_eq!(received.frames, Some(Frames::Counted));
        assert_eq!(received.end, None);
        assert!(received.replies.len() <= pings.len());
        assert_eq!(received.replies[..2], [0x8a, 0]);
    }
}
