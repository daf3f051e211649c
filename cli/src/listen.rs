//! `belfry listen`: connects as a user, prints every event once, in order, and
//! comes back by itself.
//!
//! With `--resume-file` the positions are on disk before the next event is
//! printed: after a kill at any instant at most the one event that was being
//! printed comes again, and none is left out.

mod resume;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use belfry::backoff::Backoff;
use clap::Args;
use resume::{Positions, ResumeError, Verdict};
use settings::any_duration;

use crate::{
    args::Format,
    client::{ClientError, Connection, Credential, EdgeAddress, Frame, Hello},
    config::{
        process::Data,
        transport::{Plaintext, Trust},
    },
    exit::Failure,
};

/// Between two heartbeats of ours.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How long an answer to one may take: a dead edge is noticed within 35 s.
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// A connection that lived this long works, even if nothing was received on it.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Connects as a user and prints every event.
#[derive(Args)]
pub(crate) struct Listen {
    /// The edge
    #[arg(long, default_value = "ws://127.0.0.1:8080/ws", env = "BELFRY_WS_URL")]
    pub(crate) url: String,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    plaintext: Plaintext,
    /// Whom to listen as.
    #[command(flatten)]
    pub(crate) who: Who,
    /// Queues to follow
    #[arg(long, value_delimiter = ',')]
    pub(crate) queues: Vec<String>,
    /// Keep positions here and go on from them
    #[arg(long, value_name = "FILE")]
    pub(crate) resume_file: Option<PathBuf>,
    /// End after so many events
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// End once nothing has come for `--quiet` after connecting
    #[arg(long)]
    pub(crate) until_caught_up: bool,
    /// How long nothing has to come to count as caught up
    #[arg(long, default_value = "1s", value_parser = any_duration)]
    pub(crate) quiet: Duration,
    /// End when the connection is lost, instead of coming back
    #[arg(long)]
    pub(crate) once: bool,
    /// How to print [default: pretty on a terminal, else json]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
}

/// Whose connection it is.
#[derive(Args, Clone)]
pub(crate) struct Who {
    /// File with a user token (or set `BELFRY_TOKEN`); read again on each reconnect
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Sign a token for this user with users.key of the secrets directory
    #[arg(long, default_value = "demo")]
    pub(crate) user: String,
    /// Where the secret is.
    #[command(flatten)]
    pub(crate) secrets: Data,
}

impl Who {
    /// Where tokens come from: the file, `BELFRY_TOKEN`, or signed here.
    pub(crate) fn credential(&self, queues: &[String]) -> Credential {
        match (&self.token_file, std::env::var("BELFRY_TOKEN")) {
            (Some(path), _) => Credential::File(path.clone()),
            (None, Ok(token)) if !token.is_empty() => Credential::Fixed(token),
            (None, _) => Credential::Signed {
                user: self.user.clone(),
                queues: queues.to_vec(),
                key: self.secrets.users_key(),
            },
        }
    }
}

/// How one connection ended.
enum End {
    /// Everything requested is printed.
    Done,
    /// It was lost; come back after at least this long.
    Lost { cause: String, at_least: Duration },
}

/// Runs the command.
pub(crate) async fn run(listen: Listen) -> Result<(), Failure> {
    let positions = match &listen.resume_file {
        Some(path) => Positions::load(path).map_err(Failure::usage)?,
        None => Positions::default(),
    };
    let tty = io::stdout().is_terminal();
    let format = listen
        .format
        .unwrap_or(if tty { Format::Pretty } else { Format::Json });
    let mut listener = Listener {
        listen,
        positions,
        format,
        printed: 0,
        worked: false,
    };
    let mut backoff = Backoff::CLIENT;
    loop {
        let began = Instant::now();
        match listener.one_connection().await? {
            End::Done => return Ok(()),
            End::Lost { cause, .. } if listener.listen.once => return Err(Failure::failed(cause)),
            End::Lost { cause, at_least } => {
                // A connection that worked is a fresh start for the backoff.
                if listener.worked || began.elapsed() > STABLE_AFTER {
                    backoff.reset();
                }
                let pause = backoff.next_pause().max(at_least);
                eprintln!("belfry: {cause}; trying again in {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
            }
        }
    }
}

struct Listener {
    listen: Listen,
    positions: Positions,
    format: Format,
    printed: u64,
    /// An event or a pong was received on this connection.
    worked: bool,
}

impl Listener {
    async fn one_connection(&mut self) -> Result<End, Failure> {
        self.worked = false;
        let credential = self.listen.who.credential(&self.listen.queues);
        let token = credential.token().map_err(Failure::usage)?;
        let hello = Hello {
            token: &token,
            positions: self.positions.by_stream(),
            queues: &self.listen.queues,
        };
        let edge = EdgeAddress {
            url: self.listen.url.clone(),
            tls: self.listen.trust.tls(&self.listen.plaintext),
        };
        let mut connection = match Connection::open(&edge, &hello).await {
            Ok(connection) => connection,
            Err(error) => return lost(error),
        };
        self.positions.connected(&connection.connected);
        self.save()?;
        self.read(&mut connection).await
    }

    /// Reads until the end, with a heartbeat.
    async fn read(&mut self, connection: &mut Connection) -> Result<End, Failure> {
        let mut quiet_since = Instant::now();
        let mut beat_at = Instant::now() + HEARTBEAT;
        let mut pong_due: Option<Instant> = None;
        loop {
            if self.listen.count.is_some_and(|count| self.printed >= count) {
                connection.close().await;
                return Ok(End::Done);
            }
            let quiet_until = quiet_since + self.listen.quiet;
            let caught_up = async {
                if self.listen.until_caught_up {
                    tokio::time::sleep_until(quiet_until.into()).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            let frame = tokio::select! {
                biased;
                frame = connection.next() => frame,
                () = caught_up => {
                    connection.close().await;
                    return Ok(End::Done);
                }
                () = tokio::time::sleep_until(pong_due.unwrap_or(beat_at).into()) => {
                    if pong_due.is_some() {
                        return lost(ClientError::Silent(PONG_WITHIN));
                    }
                    pong_due = Some(Instant::now() + PONG_WITHIN);
                    beat_at = Instant::now() + HEARTBEAT;
                    if let Err(error) = connection.ping().await {
                        return lost(error);
                    }
                    continue;
                }
            };
            match frame {
                Ok(frame) if frame.kind == "pong" => {
                    pong_due = None;
                    self.worked = true;
                }
                Ok(frame) => {
                    quiet_since = Instant::now();
                    if let Some(end) = self.take(&frame)? {
                        return Ok(end);
                    }
                }
                Err(error) => return lost(error),
            }
        }
    }

    /// Prints what is new and keeps the position. `Some`: the connection cannot go on.
    fn take(&mut self, frame: &Frame) -> Result<Option<End>, Failure> {
        for event in frame.events() {
            if self.listen.count.is_some_and(|count| self.printed >= count) {
                return Ok(None);
            }
            match self.positions.take(&event) {
                Verdict::Duplicate => continue,
                Verdict::Hole { expected } => {
                    let cause = format!(
                        "the edge sent offset {} of `{}` where {expected} was due",
                        event.offset.unwrap_or_default(),
                        event.stream_name()
                    );
                    return Ok(Some(End::Lost {
                        cause,
                        at_least: Duration::ZERO,
                    }));
                }
                Verdict::Event => {
                    self.printed += 1;
                    self.worked = true;
                }
                Verdict::Other => {}
            }
            self.print(&event)?;
            self.save()?;
        }
        Ok(None)
    }

    fn print(&self, frame: &Frame) -> Result<(), Failure> {
        let line = match self.format {
            Format::Json => frame.raw.clone(),
            Format::Pretty => frame.pretty(),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(Failure::failed)
    }

    fn save(&self) -> Result<(), Failure> {
        let Some(path) = &self.listen.resume_file else {
            return Ok(());
        };
        self.positions
            .save(path)
            .map_err(|error: ResumeError| Failure::storage(error))
    }
}

fn lost(error: ClientError) -> Result<End, Failure> {
    match error.comes_back_after() {
        Some(at_least) => Ok(End::Lost {
            cause: error.to_string(),
            at_least,
        }),
        None => Err(Failure::failed(error)),
    }
}
