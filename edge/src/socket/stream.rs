//! The connection under a socket: in clear text, or in TLS.
//!
//! What always holds: nothing here waits but [`Stream::readable`] and
//! [`Stream::writable`]. In clear text a write is the one system call that it is
//! without TLS. In TLS reader and shard share the state of the session, which one
//! stream of records for each direction needs: its lock is held for a call that does
//! not block, and no more than [`UNSENT_BYTES`] of records wait in it.

use std::{
    io::{self, IoSlice, Read, Write},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, Shutdown},
};
use rustls::ServerConnection;
use tokio::{io::Interest, net::TcpStream};
use tokio_rustls::server::TlsStream;

/// Bytes that are encrypted ahead of what the kernel takes; a frame that is larger is
/// encrypted piece by piece.
const UNSENT_BYTES: usize = 64 << 10;

/// A connection that is read and written without waiting.
#[derive(Debug)]
pub(crate) enum Stream {
    /// In clear text.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<Secured>),
}

/// A connection in TLS.
#[derive(Debug)]
pub(crate) struct Secured {
    tcp: TcpStream,
    session: Mutex<ServerConnection>,
    /// Whether the session may hold bytes that nobody has read yet.
    has_more: AtomicBool,
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(tcp)
    }
}

impl From<TlsStream<TcpStream>> for Stream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        let (tcp, mut session) = stream.into_inner();
        session.set_buffer_limit(Some(UNSENT_BYTES));
        Self::Tls(Box::new(Secured {
            tcp,
            session: Mutex::new(session),
            has_more: AtomicBool::new(true),
        }))
    }
}

impl Stream {
    /// The connection under an upgraded one of the listener, and what was read past
    /// the request.
    pub(crate) fn of(upgraded: Upgraded) -> Option<(Self, Bytes)> {
        match upgraded.downcast::<listener::Io>() {
            Ok(plain) => Some((plain.io.into_inner().into(), plain.read_buf)),
            Err(upgraded) => {
                let tls = upgraded.downcast::<listener::TlsIo>().ok()?;
                Some((tls.io.into_inner().into(), tls.read_buf))
            }
        }
    }

    /// The socket itself.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(secured) => &secured.tcp,
        }
    }

    /// Waits until [`Stream::try_read`] can have something to give.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tls(secured) if secured.has_more.load(Ordering::Acquire) => Ok(()),
            _ => self.tcp().readable().await,
        }
    }

    /// Waits until the kernel takes data.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// Reads what has arrived; 0 is the end.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read(into),
            Self::Tls(secured) => secured.try_read(into),
        }
    }

    /// Takes of these bytes as many as go without waiting; of none, in TLS, those that
    /// were taken before.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match self {
            Self::Plain(tcp) => send(tcp, slices),
            Self::Tls(secured) => secured.write(slices),
        }
    }

    /// Whether bytes that were taken have not left.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(secured) => secured.session().wants_write(),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish(&self) -> Result<(), Errno> {
        if let Self::Tls(secured) = self {
            let mut session = secured.session();
            session.send_close_notify();
            // What does not leave now was not promised to arrive.
            let _ = secured.send_records(&mut session);
        }
        rustix::net::shutdown(self.tcp(), Shutdown::Write)
    }

    /// Ends the connection at once; the kernel forgets what it holds for it.
    pub(crate) fn abort(&self) {
        let tcp = self.tcp();
        let _ = rustix::net::sockopt::set_socket_linger(tcp, Some(Duration::ZERO));
        let _ = rustix::net::shutdown(tcp, Shutdown::Both);
    }
}

impl Secured {
    fn session(&self) -> MutexGuard<'_, ServerConnection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.has_more.store(false, Ordering::Release);
        let mut session = self.session();
        loop {
            match session.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(length) if length == into.len() => {
                    self.has_more.store(true, Ordering::Release);
                    return Ok(length);
                }
                other => return other,
            }
            session.read_tls(&mut Unwaiting(&self.tcp))?;
            let processed = session.process_new_packets();
            // Answers of TLS itself: an alert, a new key. The shard sends what is left.
            let _ = self.send_records(&mut session);
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let mut session = self.session();
        self.send_records(&mut session)?;
        let taken = session.writer().write_vectored(slices);
        let taken = taken.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        match self.send_records(&mut session) {
            Ok(()) | Err(Errno::AGAIN) => Ok(taken),
            Err(error) => Err(error),
        }
    }

    /// Sends every record that waits, or says that the kernel takes no more.
    fn send_records(&self, session: &mut ServerConnection) -> Result<(), Errno> {
        while session.wants_write() {
            match session.write_tls(&mut Unwaiting(&self.tcp)) {
                Ok(_) => {}
                Err(error) => match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
                    Errno::INTR => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }
}

/// A socket as rustls reads and writes it.
struct Unwaiting<'a>(&'a TcpStream);

impl Read for Unwaiting<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Unwaiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, &[IoSlice::new(bytes)])?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(send(self.0, slices)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send(tcp: &TcpStream, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    // Straight to the kernel: the runtime knows that a socket is writable
    // only after its first readiness event, which a fresh one has not had.
    match send_once(tcp, slices) {
        Err(Errno::AGAIN) => {
            // Once more under the runtime's eyes: if it still blocks, the
            // runtime notes that, and `writable()` waits for a change.
            let again = tcp.try_io(Interest::WRITABLE, || {
                send_once(tcp, slices).map_err(io::Error::from)
            });
            again.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => Errno::AGAIN,
                _ => Errno::from_io_error(&error).unwrap_or(Errno::IO),
            })
        }
        other => other,
    }
}

fn send_once(tcp: &TcpStream, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if let [only] = slices {
        return rustix::net::send(tcp, only, flags);
    }
    let mut control = SendAncillaryBuffer::default();
    rustix::net::sendmsg(tcp, slices, &mut control, flags)
}
