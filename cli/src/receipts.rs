//! `belfry receipts`: prints what became of events on people's devices, over the
//! same client that services use.

use std::io::{self, Write};

use belfry::{
    publisher::{ReceiptSubject, ReceiptUpdate},
    v1::{Receipt, ReceiptState},
};
use clap::Args;
use serde_json::json;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use crate::{
    config::process::Data,
    exit::Failure,
    publish::{At, BY_HAND},
};

const EXAMPLES: &str = "\
Examples:
  belfry receipts --job report-17
      Everything about a job that `belfry publish … --job report-17` began, and
      what still comes; ctrl-C ends it
  belfry receipts --event 0199f2c0-7f4e-7d2a-9a51-0a4be1b1c9d3 --once --json
      How far one event got until now, as JSON, one object a line
  belfry receipts --service images --job d1
      Of a job that the service `images` began: a service receives receipts of
      its own events only

`delivered`: the program on the device has it. `displayed`: it was shown.
`dismissed`: the person closed it. `read`: the person opened it. `expired`: its
time to live ended before anyone had it. After a lost connection everything known
is printed again.";

/// Prints what became of events on people's devices.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Receipts {
    /// Of all events of this job, also of those to come
    #[arg(long, required_unless_present = "event", conflicts_with = "event")]
    job: Option<String>,
    /// Of this event; several times: of all of them, 100 at most
    #[arg(long, value_name = "ID")]
    event: Vec<String>,
    /// The service that published them, if the token is signed here
    #[arg(long, value_name = "NAME", default_value = BY_HAND)]
    service: String,
    /// End once everything known is printed
    #[arg(long)]
    once: bool,
    /// End after so many receipts
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
pub(crate) async fn run(options: Receipts) -> Result<(), Failure> {
    let publisher = options
        .at
        .publisher_as(&options.secrets, &options.service)?;
    let of = match &options.job {
        Some(job) => ReceiptSubject::job(job),
        None => ReceiptSubject::events(&options.event),
    };
    let mut updates = publisher.watch_receipts(of);
    // Silence later means no update; silence at first, no notifier.
    let first = timeout(options.at.within, updates.next()).await;
    let mut next = first.map_err(|_| options.at.nobody())?;
    let mut left = options.count.unwrap_or(u64::MAX);
    while let Some(some) = next {
        let some = some.map_err(Failure::failed)?;
        print(&some, options.json, &mut left).map_err(Failure::failed)?;
        if left == 0 || (options.once && some.ends_snapshot()) {
            return Ok(());
        }
        next = updates.next().await;
    }
    Ok(())
}

fn print(update: &ReceiptUpdate, as_json: bool, left: &mut u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for id in &update.unknown_event_ids {
        if as_json {
            writeln!(out, "{}", json!({ "unknown": id }))?;
        } else {
            eprintln!("belfry: {id} is too old, of another service, or was never published");
        }
    }
    for receipt in &update.receipts {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let line = if as_json {
            json_line(receipt)
        } else {
            pretty_line(receipt)
        };
        writeln!(out, "{line}")?;
    }
    out.flush()
}

fn state_name(receipt: &Receipt) -> &'static str {
    match receipt.state() {
        ReceiptState::Unspecified => "unknown",
        ReceiptState::Delivered => "delivered",
        ReceiptState::Displayed => "displayed",
        ReceiptState::Dismissed => "dismissed",
        ReceiptState::Read => "read",
        ReceiptState::Expired => "expired",
    }
}

fn at(receipt: &Receipt) -> String {
    receipt.at.map(|at| at.to_string()).unwrap_or_default()
}

fn json_line(receipt: &Receipt) -> String {
    let Receipt {
        event_id,
        user_id,
        device,
        stream,
        ..
    } = receipt;
    let (state, at) = (state_name(receipt), at(receipt));
    let line = if receipt.state() == ReceiptState::Expired {
        json!({"at": at, "event": event_id, "state": state, "stream": stream})
    } else {
        json!({"at": at, "event": event_id, "state": state, "user": user_id, "device": device})
    };
    line.to_string()
}

fn pretty_line(receipt: &Receipt) -> String {
    let Receipt {
        event_id,
        user_id,
        device,
        stream,
        ..
    } = receipt;
    let (state, at) = (state_name(receipt), at(receipt));
    if receipt.state() == ReceiptState::Expired {
        return format!("{at}  {event_id}  {state:9}  nobody of `{stream}` had it in time");
    }
    let (user, device) = (user_id.escape_debug(), device.escape_debug());
    format!("{at}  {event_id}  {state:9}  `{user}` on `{device}`")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_receipt_says_who_where_and_how_far() {
        let receipt = Receipt {
            event_id: "0199".into(),
            state: ReceiptState::Displayed.into(),
            user_id: "u1".into(),
            device: "phone\u{1b}[2J".into(),
            at: Some((UNIX_EPOCH + Duration::from_millis(1_761_652_800_005)).into()),
            ..Receipt::default()
        };
        assert_eq!(
            pretty_line(&receipt),
            "2025-10-28T12:00:00.005Z  0199  displayed  `u1` on `phone\\u{1b}[2J`"
        );
        let expired = Receipt {
            state: ReceiptState::Expired.into(),
            stream: "user:u1".into(),
            ..receipt
        };
        assert_eq!(
            json_line(&expired),
            r#"{"at":"2025-10-28T12:00:00.005Z","event":"0199","state":"expired","stream":"user:u1"}"#
        );
    }
}
