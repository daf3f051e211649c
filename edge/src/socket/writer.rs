//! The write side of a socket: shared frames, written straight to the kernel.
//!
//! Nothing is copied and no task is woken: a delivery is one system call, and all
//! frames that wait leave in one. What the kernel does not take stays here, cut
//! where it stopped, and goes first next time.

use std::{io::IoSlice, sync::Arc};

use bytes::{Buf, Bytes};
use rustix::io::Errno;

use super::Stream;

/// Frames in one system call at most.
const FRAMES_PER_CALL: usize = 64;

/// How a flush went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Everything was taken.
    Done,
    /// The rest waits until the socket is writable.
    Blocked,
    /// The connection is gone.
    Dead,
}

/// What waits for one socket.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: Arc<Stream>,
    queue: Vec<Bytes>,
    bytes: usize,
    /// Whether the first frame has begun to leave.
    cut: bool,
}

impl Writer {
    /// For a socket that nothing waits for.
    pub(crate) fn new(stream: Arc<Stream>) -> Self {
        Self {
            stream,
            queue: Vec::new(),
            bytes: 0,
            cut: false,
        }
    }

    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a frame. `spare` gives and takes back the memory of queues, so that
    /// an idle socket holds none.
    pub(crate) fn push(&mut self, frame: Bytes, spare: &mut Vec<Vec<Bytes>>) {
        if self.queue.capacity() == 0 {
            self.queue = spare.pop().unwrap_or_default();
        }
        self.bytes += frame.len();
        self.queue.push(frame);
    }

    /// Forgets every frame that has not begun to leave.
    pub(crate) fn drop_waiting(&mut self) {
        self.queue.truncate(usize::from(self.cut));
        self.bytes = self.queue.iter().map(Bytes::len).sum();
    }

    /// Writes as much as the kernel takes.
    pub(crate) fn flush(&mut self, spare: &mut Vec<Vec<Bytes>>) -> Flush {
        const SPARE_QUEUES: usize = 1_024;
        const SPARE_FRAMES: usize = 64;
        while !self.queue.is_empty() || self.stream.has_unsent() {
            match self.write() {
                Ok(written) => self.advance(written),
                Err(Errno::AGAIN) => return Flush::Blocked,
                Err(Errno::INTR) => {}
                Err(_) => return Flush::Dead,
            }
        }
        let queue = std::mem::take(&mut self.queue);
        if spare.len() < SPARE_QUEUES && queue.capacity() <= SPARE_FRAMES {
            spare.push(queue);
        }
        Flush::Done
    }

    fn write(&self) -> Result<usize, Errno> {
        if let [only] = &self.queue[..] {
            return self.stream.write(&[IoSlice::new(only)]);
        }
        let mut slices = [IoSlice::new(&[]); FRAMES_PER_CALL];
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(frame);
            count += 1;
        }
        self.stream.write(&slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        let mut whole = 0;
        for frame in &mut self.queue {
            if frame.len() > written {
                frame.advance(written);
                break;
            }
            written -= frame.len();
            whole += 1;
        }
        self.cut = match whole {
            0 => true,
            _ => written > 0,
        };
        self.queue.drain(..whole);
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish(&self) {
        // An error means that the connection is gone, which is what it is for.
        let _ = self.stream.finish();
    }

    /// Ends the connection at once; the kernel forgets what it holds for it.
    pub(crate) fn abort(&self) {
        self.stream.abort();
    }
}

#[cfg(test)]
mod tests;
