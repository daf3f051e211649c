//! Sends every message back: what Autobahn's cases run against, with the upgrade, the
//! codec and the closes of every other socket, at `/echo`.
//!
//! Only with the feature `echo`, and never in a release build. Two things differ from
//! `/ws`, because the cases need them: binary messages are taken, and a message may
//! have 16 MiB.

use std::io::IoSlice;

use belfry::reason::Reason;
use rustix::io::Errno;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use super::{
    CLOSE_TIMEOUT, Stream, Upgraded,
    reader::{self, ReadEnd, Reader},
};
use crate::{frame, protocol};

#[cfg(not(debug_assertions))]
compile_error!("the feature `echo` is for tests: build without it, or without `--release`");

/// Bytes of the largest message of Autobahn's cases.
const MAX_ECHO_BYTES: usize = 16 << 20;

/// Echoes until the connection ends.
pub(super) async fn serve(upgraded: Upgraded) {
    let Upgraded {
        stream,
        leftover,
        permit,
        ..
    } = upgraded;
    let mut reader = Reader::new(MAX_ECHO_BYTES);
    let (mut answer, mut end) = echo(&mut reader, &leftover);
    while write_all(&stream, &answer).await.is_ok() && end.is_none() {
        if stream.readable().await.is_err() {
            break;
        }
        let read = reader::read_chunk(&stream, |chunk| echo(&mut reader, chunk));
        (answer, end) = match read {
            None => (Vec::new(), None),
            Some(Ok(echoed)) => echoed,
            Some(Err(end)) => (Vec::new(), Some(end)),
        };
    }
    if let Some(ReadEnd::Fault(reason)) = end {
        permit.count_close(reason);
        refuse(&stream, reason).await;
    } else {
        let _ = stream.finish();
    }
}

async fn write_all(stream: &Stream, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        stream.writable().await.map_err(|_| Errno::PIPE)?;
        match stream.write(&[IoSlice::new(bytes)]) {
            Ok(taken) => bytes = &bytes[taken..],
            // Tokio learns of a full socket from its own calls alone.
            Err(Errno::AGAIN) => tokio::task::yield_now().await,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The answer to these bytes, and the end if they bring it.
fn echo(reader: &mut Reader, input: &[u8]) -> (Vec<u8>, Option<ReadEnd>) {
    let mut messages = Vec::new();
    let received = reader.feed_with(input, |message| {
        let (data, payload) = match message {
            Message::Text(text) => (Data::Text, text.into()),
            Message::Binary(payload) => (Data::Binary, payload),
            _ => return Ok(()),
        };
        let frame = Frame::message(payload, OpCode::Data(data), true);
        frame
            .format(&mut messages)
            .map_err(|_| Reason::ProtocolError)
    });
    ([received.replies, messages].concat(), received.end)
}

async fn refuse(stream: &Stream, reason: Reason) {
    let close = frame::close(reason.close_code(), &protocol::code(reason));
    if write_all(stream, &close).await.is_ok() && stream.finish().is_ok() {
        let _ = timeout(CLOSE_TIMEOUT, reader::discard(stream)).await;
    }
}
