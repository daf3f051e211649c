//! `belfry presence`: prints who is there and who comes and leaves, as an operator
//! sees it.

use std::io::{self, Write};

use belfry::{
    backoff::Backoff,
    limits::USERS_PER_CHUNK,
    v1::{PresenceChange, WatchPresenceRequest, WatchPresenceResponse, admin_client::AdminClient},
};
use clap::Args;
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Request, Status, Streaming};

use crate::{config::process::Data, exit::Failure, publish::At};

const EXAMPLES: &str = "\
Examples:
  belfry presence
      Everybody who is there, and then who comes and leaves; ctrl-C ends it
  belfry presence --user u1 --user u2 --json
      Two users, as JSON, one object a line
  belfry presence --once
      Who is there now, and no more

A user comes with the first session and leaves when no session came back within
15 s after the last one. `generation` rises with every change, so that the higher
one is newer; it starts again after a restart of the notifier. After a lost
connection everybody who is there is printed again.";

/// Prints who is there, and who comes and leaves.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Presence {
    /// Only this user; several times: only these, 100 at most [default: everybody]
    #[arg(long)]
    user: Vec<String>,
    /// End once everybody who is there is printed
    #[arg(long)]
    once: bool,
    /// End after so many lines
    #[arg(long)]
    count: Option<u64>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// The notifier.
    #[command(flatten)]
    at: At,
    /// Where the secret is.
    #[command(flatten)]
    secrets: Data,
}

/// Runs the command.
pub(crate) async fn run(options: Presence) -> Result<(), Failure> {
    let mut printer = Printer {
        json: options.json,
        once: options.once,
        left: options.count.unwrap_or(u64::MAX),
        there: 0,
    };
    let mut backoff = Backoff::CLIENT;
    // It has to be there at first; later it may restart.
    let first = timeout(options.at.within, async {
        loop {
            match connect(&options).await {
                Err(Lost::Passing(_)) => tokio::time::sleep(backoff.next_pause()).await,
                other => return other,
            }
        }
    });
    let mut connected = first.await.map_err(|_| options.at.nobody())?;
    loop {
        let lost = match connected {
            Ok(responses) => {
                backoff.reset();
                match printer.read(responses).await? {
                    None => return Ok(()),
                    Some(lost) => lost,
                }
            }
            Err(lost) => lost,
        };
        match lost {
            Lost::ForGood(failure) => return Err(failure),
            Lost::Passing(why) => eprintln!("belfry: {why}; trying again"),
        }
        tokio::time::sleep(backoff.next_pause()).await;
        connected = connect(&options).await;
    }
}

/// Why there is no watch.
enum Lost {
    Passing(String),
    ForGood(Failure),
}

impl From<Status> for Lost {
    fn from(status: Status) -> Self {
        // A status with a source was made on this side: a proxy or the network ended
        // the call, whatever code that is turned into.
        let broken = std::error::Error::source(&status).is_some();
        let passing = broken
            || matches!(
                status.code(),
                Code::Unavailable
                    | Code::ResourceExhausted
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::Unknown
                    | Code::Cancelled
            );
        let expired = status.message().contains("expired");
        if passing || expired {
            Lost::Passing(status.message().to_owned())
        } else {
            Lost::ForGood(Failure::failed(status.message()))
        }
    }
}

async fn connect(options: &Presence) -> Result<Streaming<WatchPresenceResponse>, Lost> {
    let bearer = options.at.operator(&options.secrets);
    let bearer = bearer.map_err(Lost::ForGood)?;
    let channel = options.at.channel().await.map_err(Lost::ForGood)?;
    let channel = channel.ok_or_else(|| {
        let url = &options.at.notifier.notifier_url;
        Lost::Passing(format!("the notifier at `{url}` cannot be reached"))
    })?;
    let mut request = Request::new(WatchPresenceRequest {
        user_ids: options.user.clone(),
    });
    if let Some(bearer) = bearer {
        request.metadata_mut().insert("authorization", bearer);
    }
    let watch = AdminClient::new(channel).watch_presence(request).await;
    Ok(watch?.into_inner())
}

struct Printer {
    json: bool,
    once: bool,
    left: u64,
    /// Users of the snapshot so far.
    there: usize,
}

impl Printer {
    /// Prints to the end of one connection; none if everything requested is
    /// printed.
    async fn read(
        &mut self,
        mut responses: Streaming<WatchPresenceResponse>,
    ) -> Result<Option<Lost>, Failure> {
        self.there = 0;
        loop {
            let response = match responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(Some(Lost::Passing("the notifier ended the watch".into()))),
                Err(status) => return Ok(Some(status.into())),
            };
            let done = self.print(&response).map_err(Failure::failed)?;
            if done {
                return Ok(None);
            }
        }
    }

    /// Prints a response; says whether everything requested is printed.
    fn print(&mut self, response: &WatchPresenceResponse) -> io::Result<bool> {
        let mut out = io::stdout().lock();
        for change in &response.users {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            let line = if self.json {
                json_line(change, response.snapshot)
            } else {
                pretty_line(change, response.snapshot)
            };
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        if !response.snapshot {
            return Ok(self.left == 0);
        }
        self.there += response.users.len();
        let last = response.users.len() < USERS_PER_CHUNK;
        if last && !self.json {
            let more = if response.settling {
                ", and edges may still be coming back"
            } else {
                ""
            };
            eprintln!("belfry: {} are there{more}", self.there);
        }
        Ok(self.left == 0 || (last && self.once))
    }
}

fn json_line(change: &PresenceChange, snapshot: bool) -> String {
    let PresenceChange {
        user_id,
        online,
        generation,
    } = change;
    let line = json!({
        "user": user_id, "online": online, "generation": generation, "snapshot": snapshot,
    });
    line.to_string()
}

fn pretty_line(change: &PresenceChange, snapshot: bool) -> String {
    let change_name = match (snapshot, change.online) {
        (true, _) => "is there",
        (false, true) => "came",
        (false, false) => "left",
    };
    let user = change.user_id.escape_debug();
    format!("`{user}` {change_name} (generation {})", change.generation)
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use super::*;

    #[test]
    fn only_the_notifiers_own_refusal_ends_the_watch_for_good() {
        let mut reset = Status::internal("h2 protocol error: stream was reset");
        reset.set_source(Arc::new(io::Error::other("reset by a proxy")));
        let passing = [
            reset,
            Status::unavailable("drains"),
            Status::deadline_exceeded("a proxy's timeout"),
            Status::aborted("a proxy's restart"),
            Status::unauthenticated("the token has expired"),
        ];
        for status in passing {
            let text = status.to_string();
            assert!(matches!(Lost::from(status), Lost::Passing(_)), "{text}");
        }
        for status in [
            Status::permission_denied("no operator"),
            Status::invalid_argument("`user_ids` has more than 100"),
            Status::unauthenticated("the token is not accepted"),
            Status::internal("said by the notifier"),
        ] {
            let text = status.to_string();
            assert!(matches!(Lost::from(status), Lost::ForGood(_)), "{text}");
        }
    }
}
