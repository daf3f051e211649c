//! `belfry store dump`: which events are stored, without what they say.

use std::io::{self, IsTerminal, Write};

use belfry::v1::Envelope;
use clap::Args;
use delivery::JobChange;
use notifier::log::embedded::offline::{Content, Stored, Visit};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{At, describe, print, shown};
use crate::exit::Failure;

/// Prints the events that are stored.
#[derive(Args, Debug)]
pub(crate) struct Dump {
    #[command(flatten)]
    at: At,
    /// Only events of this stream: `user:<id>`, `queue:<name>` or `everyone`
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// Begin with this record of the log; with --stream, with this offset of the stream
    #[arg(long, value_name = "N", default_value_t = 1)]
    from: u64,
    /// Print so many events at most
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Print JSON, one object a line [default: unless stdout is a terminal]
    #[arg(long)]
    json: bool,
}

pub(super) fn run(dump: &Dump) -> Result<(), Failure> {
    let (_, log) = dump.at.open()?;
    let as_json = dump.json || !io::stdout().is_terminal();
    let from = dump.stream.as_ref().map_or(dump.from, |_| 1);
    let mut report = None;
    print(|out| {
        let (mut left, mut failed) = (dump.limit, None);
        let found = log.records(from, &mut |stored| {
            if left == 0 {
                return Visit::Enough;
            }
            if !dump.wants(stored) {
                return Visit::Fine;
            }
            left -= 1;
            let content = Content::of(&stored.record);
            let line = if as_json {
                in_json(stored, content.as_ref().ok()).to_string()
            } else {
                in_text(stored, content.as_ref().ok())
            };
            if let Err(error) = writeln!(out, "{line}") {
                failed = Some(error);
                return Visit::Enough;
            }
            match content {
                Ok(_) => Visit::Fine,
                Err(why) => Visit::Bad(why),
            }
        });
        report = Some(found);
        failed.map_or(Ok(()), Err)
    })?;
    let Some(report) = report else {
        return Ok(());
    };
    let damages: Vec<_> = report
        .findings
        .iter()
        .filter(|found| found.is_damage())
        .collect();
    for damage in &damages {
        eprintln!("belfry: {}", describe(damage).replace('\n', "\nbelfry: "));
    }
    match report.damages {
        0 => Ok(()),
        count => Err(Failure::storage(format!(
            "some of the log cannot be read ({count} places), the rest is printed; \
             `belfry store verify` says what a notifier does about it"
        ))),
    }
}

impl Dump {
    fn wants(&self, stored: &Stored<'_>) -> bool {
        let Some(stream) = &self.stream else {
            return true;
        };
        let mut placements = stored.record.placements();
        placements.any(|(offset, name)| name == stream && offset >= self.from)
    }
}

/// A time of the wall clock as RFC 3339.
pub(super) fn time(unix_ms: i64) -> String {
    let timestamp = prost_types::Timestamp {
        seconds: unix_ms.div_euclid(1_000),
        nanos: unix_ms.rem_euclid(1_000) as i32 * 1_000_000,
    };
    timestamp.to_string()
}

fn in_json(stored: &Stored<'_>, content: Option<&Content>) -> Value {
    let record = &stored.record;
    let streams: Vec<_> = record
        .placements()
        .map(|(offset, name)| json!({"stream": name, "offset": offset}))
        .collect();
    let mark = record.job.map(|(key, change)| {
        let (publisher, job) = key.split_once('\0').unwrap_or(("", key));
        match change {
            JobChange::Leased { lease_ms } => {
                json!({"publisher": publisher, "job": job, "change": "leased", "leaseMs": lease_ms})
            }
            JobChange::Ended => json!({"publisher": publisher, "job": job, "change": "ended"}),
        }
    });
    let dedupe = record.dedupe.map(|dedupe| {
        json!({"key": format!("{:032x}", dedupe.key), "body": format!("{:016x}", dedupe.body)})
    });
    let envelope = content.map(|content| &content.envelope);
    let text = |of: fn(&Envelope) -> &String| envelope.map(of).filter(|text| !text.is_empty());
    let at = |of: fn(&Envelope) -> i64| envelope.map(of).filter(|at| *at != 0).map(time);
    json!({
        "lsn": stored.lsn,
        "id": Uuid::from_u128(record.id).to_string(),
        "streams": streams,
        "publisher": text(|envelope| &envelope.publisher),
        "type": content.map(|content| content.kind),
        "job": text(|envelope| &envelope.job_id),
        "publishedAt": at(|envelope| envelope.published_at_unix_ms),
        "expiresAt": at(|envelope| envelope.expires_at_unix_ms),
        "bytes": record.envelope.len(),
        "dedupe": dedupe,
        "lease": mark,
        "segment": stored.path.file_name().map(|name| name.to_string_lossy()),
        "at": stored.offset,
    })
}

fn in_text(stored: &Stored<'_>, content: Option<&Content>) -> String {
    let record = &stored.record;
    let streams: Vec<_> = record
        .placements()
        .map(|(offset, name)| format!("{name}@{offset}"))
        .collect();
    let (mut who, mut kind, mut when) = (String::new(), "undecodable", "-".to_owned());
    if let Some(Content { envelope, kind: of }) = content {
        (who, kind) = (envelope.publisher.clone(), of);
        when = time(envelope.published_at_unix_ms);
        if !envelope.job_id.is_empty() {
            who = format!("{who} job {}", envelope.job_id);
        }
    }
    let key = record.dedupe.map_or("", |_| "  key");
    let lease = match record.job {
        Some((_, JobChange::Leased { lease_ms })) => {
            let lease = std::time::Duration::from_millis(lease_ms);
            format!("  lease {}", settings::show_duration(lease))
        }
        Some((_, JobChange::Ended)) => "  ends job".to_owned(),
        None => String::new(),
    };
    let line = format!(
        "{:>9}  {when:<24}  {}  {kind:<26}  {}  {who}  {} B{key}{lease}",
        stored.lsn,
        Uuid::from_u128(record.id),
        streams.join(" "),
        record.envelope.len(),
    );
    shown(&line)
}
