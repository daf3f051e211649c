//! The write side of a socket: shared frames, written straight to the kernel.
//!
//! Nothing is copied and no task is woken: a delivery is one system call, and all
//! frames that wait leave in one. What the kernel does not take stays here, cut
//! where it stopped, and goes first next time.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, Shutdown},
};
use tokio::{io::Interest, net::TcpStream};

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
    stream: Arc<TcpStream>,
    queue: Vec<Bytes>,
    bytes: usize,
    /// Whether the first frame has begun to leave.
    cut: bool,
}

impl Writer {
    /// For a socket that nothing waits for.
    pub(crate) fn new(stream: Arc<TcpStream>) -> Self {
        Self {
            stream,
            queue: Vec::new(),
            bytes: 0,
            cut: false,
        }
    }

    pub(crate) fn stream(&self) -> &Arc<TcpStream> {
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
        while !self.queue.is_empty() {
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
        // Straight to the kernel: the runtime knows that a socket is writable
        // only after its first readiness event, which a fresh one has not had.
        match self.write_once() {
            Err(Errno::AGAIN) => {
                // Once more under the runtime's eyes: if it still blocks, the
                // runtime notes that, and `writable()` waits for a change.
                let again = self.stream.try_io(Interest::WRITABLE, || {
                    self.write_once().map_err(io::Error::from)
                });
                again.map_err(|error| match error.kind() {
                    io::ErrorKind::WouldBlock => Errno::AGAIN,
                    _ => Errno::from_io_error(&error).unwrap_or(Errno::IO),
                })
            }
            other => other,
        }
    }

    fn write_once(&self) -> Result<usize, Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let [only] = &self.queue[..] {
            return rustix::net::send(&self.stream, only, flags);
        }
        let mut slices = [IoSlice::new(&[]); FRAMES_PER_CALL];
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(frame);
            count += 1;
        }
        let mut control = SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.stream, &slices[..count], &mut control, flags)
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
        let _ = rustix::net::shutdown(&self.stream, Shutdown::Write);
    }

    /// Ends the connection at once; the kernel forgets what it holds for it.
    pub(crate) fn abort(&self) {
        let _ =
            rustix::net::sockopt::set_socket_linger(&self.stream, Some(std::time::Duration::ZERO));
        let _ = rustix::net::shutdown(&self.stream, Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    async fn pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (server, _) = server.unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&server, 4_096).unwrap();
        (Arc::new(server), client.unwrap())
    }

    #[tokio::test]
    async fn a_frame_that_was_cut_goes_on_where_it_stopped() {
        let (server, mut client) = pair().await;
        let mut writer = Writer::new(Arc::clone(&server));
        let mut spare = Vec::new();
        let mut expected = Vec::new();
        for n in 0..60_u8 {
            let frame = Bytes::from(vec![n; 40_000]);
            expected.extend_from_slice(&frame);
            writer.push(frame, &mut spare);
        }
        assert_eq!(writer.flush(&mut spare), Flush::Blocked);
        let reading = tokio::spawn(async move {
            let mut got = vec![0; 60 * 40_000];
            client.read_exact(&mut got).await.unwrap();
            got
        });
        let mut stalls = 0;
        while writer.flush(&mut spare) == Flush::Blocked {
            stalls += 1;
            server.writable().await.unwrap();
        }
        assert!(stalls > 0 && writer.is_empty() && writer.bytes() == 0);
        assert!(
            reading.await.unwrap() == expected,
            "bytes were lost, doubled or mixed up"
        );
    }

    #[tokio::test]
    async fn what_has_not_begun_to_leave_can_be_dropped() {
        let (server, mut client) = pair().await;
        let mut writer = Writer::new(Arc::clone(&server));
        let mut spare = Vec::new();
        writer.push(vec![1; 1 << 20].into(), &mut spare);
        writer.push(vec![2; 10].into(), &mut spare);
        assert_eq!(writer.flush(&mut spare), Flush::Blocked);
        writer.drop_waiting();
        writer.push(vec![3; 10].into(), &mut spare);
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        });
        while writer.flush(&mut spare) == Flush::Blocked {
            server.writable().await.unwrap();
        }
        writer.finish();
        let got = reading.await.unwrap();
        assert_eq!(got.len(), (1 << 20) + 10);
        assert!(got.ends_with(&[1, 3, 3]) || got.ends_with(&[3; 10]));
        assert!(!got.contains(&2));
    }

    #[tokio::test]
    async fn all_that_waits_leaves_together_and_an_idle_socket_holds_nothing() {
        let (server, mut client) = pair().await;
        let mut writer = Writer::new(server);
        let mut spare = Vec::new();
        let shared = Bytes::from_static(b"frame");
        for _ in 0..8 {
            writer.push(shared.clone(), &mut spare);
        }
        assert_eq!(writer.flush(&mut spare), Flush::Done);
        assert_eq!(writer.queue.capacity(), 0);
        let mut got = [0; 64];
        let length = client.read(&mut got).await.unwrap();
        assert_eq!(&got[..length], b"frame".repeat(8));
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_noticed() {
        let (server, client) = pair().await;
        let mut writer = Writer::new(server);
        let mut spare = Vec::new();
        drop(client);
        let mut outcome = Flush::Done;
        for _ in 0..1_000 {
            writer.push(Bytes::from_static(&[0; 4_096]), &mut spare);
            outcome = writer.flush(&mut spare);
            if outcome != Flush::Done {
                break;
            }
        }
        assert_eq!(outcome, Flush::Dead);
    }
}
