//! The load's own sockets: many connections, one thread, one epoll, no copies.
//!
//! It shares the machine with what is measured, so it does the least it can: it
//! reads and counts frames.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
};

use super::frames::{Frames, masked_text};

/// Threads that connect.
const CONNECTING: usize = 8;
/// How long nothing may come while something is due.
const STALL: Duration = Duration::from_secs(20);
/// How long one handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(20);
const EMPTY_PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// Open connections.
pub(super) struct Sockets {
    epoll: OwnedFd,
    open: Vec<(TcpStream, Frames)>,
    buffer: Vec<u8>,
    /// Bytes read so far, headers and all.
    pub(super) bytes: u64,
    /// Text frames counted so far.
    pub(super) frames: u64,
}

impl Sockets {
    /// Takes connections over.
    pub(super) fn new(streams: Vec<TcpStream>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut open = Vec::with_capacity(streams.len());
        for (number, stream) in streams.into_iter().enumerate() {
            stream.set_nonblocking(true)?;
            epoll::add(
                &epoll,
                &stream,
                EventData::new_u64(number as u64),
                EventFlags::IN,
            )?;
            open.push((stream, Frames::default()));
        }
        Ok(Self {
            epoll,
            open,
            buffer: vec![0; 64 << 10],
            bytes: 0,
            frames: 0,
        })
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Reads until `on_frames(socket, text frames)` says that all is there.
    pub(super) fn read_until(
        &mut self,
        mut on_frames: impl FnMut(usize, u64) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut events = Vec::with_capacity(1_024);
        let mut last_read = Instant::now();
        loop {
            events.clear();
            let wait = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait))?;
            for event in &events {
                let number = event.data.u64() as usize;
                let texts = self.read(number)?;
                last_read = Instant::now();
                if texts > 0 && on_frames(number, texts)? {
                    return Ok(());
                }
            }
            if last_read.elapsed() > STALL {
                return Err(io::Error::other(format!(
                    "nothing came for {} s while frames were due ({} came before)",
                    STALL.as_secs(),
                    self.frames
                )));
            }
        }
    }

    fn read(&mut self, number: usize) -> io::Result<u64> {
        let (stream, frames) = &mut self.open[number];
        let read = match stream.read(&mut self.buffer) {
            Ok(0) => return Err(io::Error::other("a server closed a connection")),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        let seen = frames.feed(&self.buffer[..read]);
        if seen.close {
            let said = String::from_utf8_lossy(&self.buffer[..read.min(300)]).into_owned();
            return Err(io::Error::other(format!("a server said goodbye: {said}")));
        }
        for _ in 0..seen.pings {
            stream.write_all(&EMPTY_PONG)?;
        }
        self.bytes += read as u64;
        self.frames += seen.texts;
        Ok(seen.texts)
    }
}

/// Connects once for each token, several at a time, up to `connected`.
pub(super) fn connect(
    edge: SocketAddr,
    tokens: &[String],
    queues: &str,
) -> io::Result<Vec<TcpStream>> {
    let part = tokens.len().div_ceil(CONNECTING).max(1);
    let handshake = |token: &String| handshake(edge, token, queues);
    thread::scope(|scope| {
        let threads: Vec<_> = tokens
            .chunks(part)
            .map(|part| scope.spawn(move || part.iter().map(handshake).collect::<Vec<_>>()))
            .collect();
        let joined = threads
            .into_iter()
            .flat_map(|t| t.join().expect("handshakes do not panic"));
        joined.collect()
    })
}

fn handshake(edge: SocketAddr, token: &str, queues: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(edge)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE))?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {edge}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut buffer = [0; 4 << 10];
    let mut have = 0;
    let head = loop {
        let end = buffer[..have]
            .windows(4)
            .position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
        have += some(stream.read(&mut buffer[have..])?)?;
    };
    if !buffer.starts_with(b"HTTP/1.1 101") {
        let answer = String::from_utf8_lossy(&buffer[..head]).into_owned();
        return Err(io::Error::other(format!(
            "the edge refused a handshake: {answer}"
        )));
    }
    let connect = format!(r#"{{"type":"connect","token":"{token}","queues":[{queues}]}}"#);
    stream.write_all(&masked_text(&connect))?;
    let mut frames = Frames::default();
    let mut first = buffer[head..have].to_vec();
    let mut seen = frames.feed(&first);
    while seen.texts == 0 {
        let read = some(stream.read(&mut buffer)?)?;
        first.extend(&buffer[..read]);
        seen = frames.feed(&buffer[..read]);
    }
    let text = String::from_utf8_lossy(&first);
    if seen.texts != 1 || !text.contains(r#""type":"connected""#) {
        return Err(io::Error::other(format!(
            "the edge did not say `connected`: {text}"
        )));
    }
    Ok(stream)
}

fn some(read: usize) -> io::Result<usize> {
    if read == 0 {
        Err(io::Error::other("the edge closed during a handshake"))
    } else {
        Ok(read)
    }
}
