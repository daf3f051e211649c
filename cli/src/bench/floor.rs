//! The floor: the least that any server has to do on this kernel.
//!
//! A bare epoll loop, in a process of its own, that writes a ready-made frame to
//! each of its sockets on command: one byte on stdin is how many frames to write
//! at once. No protocol, no memory beside the frame, one system call for
//! each socket.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdin, Command, Stdio},
};

use clap::Args;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
};

use super::frames::ready_made;

/// Most frames that one command can ask for.
const MAX_FRAMES: usize = 64;
/// The mark of stdin among the sockets' numbers.
const STDIN: u64 = u64::MAX;

/// The floor's server; `bench` starts it.
#[derive(Args)]
pub(crate) struct FloorServer {
    /// Sockets to accept before serving
    #[arg(long)]
    sockets: usize,
    /// Bytes of the ready-made frame
    #[arg(long)]
    frame_bytes: usize,
}

/// Accepts, then writes frames on command until stdin ends.
pub(super) fn serve(floor: &FloorServer) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut sockets = Vec::with_capacity(floor.sockets);
    for number in 0..floor.sockets {
        let (socket, _) = listener.accept()?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let when = EventFlags::OUT | EventFlags::ET;
        epoll::add(&epoll, &socket, EventData::new_u64(number as u64), when)?;
        sockets.push((socket, 0_usize));
    }
    epoll::add(
        &epoll,
        io::stdin(),
        EventData::new_u64(STDIN),
        EventFlags::IN,
    )?;
    println!("ready");
    let frames = ready_made(floor.frame_bytes).repeat(MAX_FRAMES);
    let mut events = Vec::with_capacity(1_024);
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let number = event.data.u64();
            if number != STDIN {
                let (socket, left) = &mut sockets[number as usize];
                write(socket, left, &frames)?;
                continue;
            }
            let mut command = [0];
            if io::stdin().lock().read(&mut command)? == 0 {
                return Ok(());
            }
            let bytes = floor.frame_bytes * usize::from(command[0]).min(MAX_FRAMES);
            for (socket, left) in &mut sockets {
                *left += bytes;
                write(socket, left, &frames)?;
            }
        }
    }
}

/// Writes what is left for a socket, as far as it takes it.
fn write(socket: &mut TcpStream, left: &mut usize, frames: &[u8]) -> io::Result<()> {
    while *left > 0 {
        // All frames are alike: the tail of so many bytes ends in whole frames.
        let take = (*left).min(frames.len());
        match socket.write(&frames[frames.len() - take..]) {
            Ok(written) => *left -= written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A running floor.
pub(super) struct Floor {
    child: Child,
    commands: ChildStdin,
    /// Its connected clients' ends.
    pub(super) sockets: Vec<TcpStream>,
}

impl Floor {
    /// Starts it in a process of its own and connects every socket.
    pub(super) fn start(sockets: usize, frame_bytes: usize) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "floor-server"])
            .args(["--sockets", &sockets.to_string()])
            .args(["--frame-bytes", &frame_bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ended = || io::Error::other("the floor's server ended early");
        let commands = child.stdin.take().ok_or_else(ended)?;
        let mut lines = BufReader::new(child.stdout.take().ok_or_else(ended)?).lines();
        let address: SocketAddr = lines
            .next()
            .ok_or_else(ended)??
            .parse()
            .map_err(io::Error::other)?;
        let connected: io::Result<_> = (0..sockets).map(|_| TcpStream::connect(address)).collect();
        lines.next().ok_or_else(ended)??;
        Ok(Self {
            child,
            commands,
            sockets: connected?,
        })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A hand on its commands: so many frames to every socket, at once.
    pub(super) fn fire(&mut self, frames: u8) -> io::Result<()> {
        self.commands.write_all(&[frames])
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
