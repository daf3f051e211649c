//! `belfry store verify`: is everything that was acknowledged still there?

use std::io::{self, Write};

use clap::Args;
use notifier::log::embedded::offline::{Content, Finding, Report, Start, Visit};
use serde_json::{Value, json};

use super::{At, describe, print, progress, shown};
use crate::exit::Failure;

/// Streams that are shown to people; the JSON has all.
const SHOWN_STREAMS: usize = 10;

/// Reads everything and says what is damaged.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    at: At,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(verify: &Verify) -> Result<(), Failure> {
    let (dir, log) = verify.at.open()?;
    let bar = progress(log.bytes());
    let report = log.verify(
        &mut |bytes| bar.inc(bytes),
        &mut |stored| match Content::of(&stored.record) {
            Ok(_) => Visit::Fine,
            Err(why) => Visit::Bad(why),
        },
    );
    bar.finish_and_clear();
    let dir = dir.display().to_string();
    print(|out| {
        if verify.json {
            return writeln!(out, "{}", as_json(&dir, &report));
        }
        pretty(out, &dir, &report, log.is_locked())
    })?;
    if report.is_whole() {
        return Ok(());
    }
    Err(Failure::storage(match &report.start {
        Start::Refused(why) => {
            format!("the log is damaged; a notifier that starts here ends with: {why}")
        }
        _ => "the log is damaged, though a notifier starts on it".to_owned(),
    }))
}

fn pretty(out: &mut impl Write, dir: &str, report: &Report, locked: bool) -> io::Result<()> {
    writeln!(out, "the log in {dir}")?;
    let mut line = |what: &str, text: String| writeln!(out, "  {what:<10} {text}");
    if let Some(epoch) = report.epoch {
        line("epoch", format!("{epoch:016x}"))?;
    }
    match report.versions {
        Some((oldest, newest)) if oldest == newest => line("format", format!("version {newest}"))?,
        Some((oldest, newest)) => line("format", format!("versions {oldest} to {newest}"))?,
        None => {}
    }
    let sizes = format!(
        "{}, {} ({} reserved for what comes)",
        report.segments,
        indicatif::BinaryBytes(report.bytes),
        indicatif::BinaryBytes(report.reserved)
    );
    line("segments", sizes)?;
    let range = report.range.map_or_else(String::new, |(first, last)| {
        format!(": {first} to {last}, in {} batches", report.batches)
    });
    line("records", format!("{}{range}", report.records))?;
    if let Some((oldest, newest)) = report.wall_ms {
        line("stored", format!("{} to {}", time(oldest), time(newest)))?;
    }
    line(
        "keys",
        format!("{} records have an idempotency key", report.keys),
    )?;
    line(
        "leases",
        format!("{} jobs have an open lease", report.leases),
    )?;
    line(
        "mark",
        report.mark.map_or_else(
            || "there is none".to_owned(),
            |(batch, lsn)| format!("durable up to batch {batch}, record {lsn} at least"),
        ),
    )?;
    line("streams", report.streams.len().to_string())?;
    let mut streams: Vec<_> = report.streams.iter().collect();
    streams.sort_by_key(|(_, range)| std::cmp::Reverse(range.events));
    for (name, range) in streams.iter().take(SHOWN_STREAMS) {
        let held = match range.events {
            0 => format!("none of {}", range.head),
            events => format!("{} to {}, {events} events", range.first, range.head),
        };
        writeln!(out, "    {:<24} {held}", shown(name))?;
    }
    if streams.len() > SHOWN_STREAMS {
        writeln!(
            out,
            "    … and {} more (--json has all)",
            streams.len() - SHOWN_STREAMS
        )?;
    }
    for finding in &report.findings {
        writeln!(out, "\n{}", describe(finding))?;
    }
    if report.more_findings > 0 {
        writeln!(out, "\n… and {} findings more", report.more_findings)?;
    }
    if !locked {
        writeln!(
            out,
            "\nthere is no lock file: nothing kept a notifier from starting meanwhile"
        )?;
    }
    match (&report.start, report.is_whole()) {
        (Start::Refused(_), _) | (_, false) => Ok(()),
        (Start::Opens, _) => writeln!(out, "\nwhole: a notifier starts here"),
        (Start::CutsTail, _) => {
            writeln!(
                out,
                "\nwhole but for an unfinished write: a notifier starts here"
            )
        }
    }
}

fn time(unix_ms: u64) -> String {
    super::dump::time(i64::try_from(unix_ms).unwrap_or(i64::MAX))
}

fn as_json(dir: &str, report: &Report) -> Value {
    let streams: serde_json::Map<_, _> = report
        .streams
        .iter()
        .map(|(name, range)| {
            let range = json!({"first": range.first, "head": range.head, "events": range.events});
            (name.to_string(), range)
        })
        .collect();
    let (start, refusal) = match &report.start {
        Start::Opens => ("opens", None),
        Start::CutsTail => ("cuts_tail", None),
        Start::Refused(why) => ("refused", Some(why)),
    };
    json!({
        "dir": dir,
        "whole": report.is_whole(),
        "start": start,
        "refusal": refusal,
        "epoch": report.epoch.map(|epoch| format!("{epoch:016x}")),
        "versions": report.versions.map(|(oldest, newest)| [oldest, newest]),
        "segments": report.segments,
        "bytes": report.bytes,
        "reservedBytes": report.reserved,
        "batches": report.batches,
        "records": report.records,
        "firstLsn": report.range.map(|(first, _)| first),
        "lastLsn": report.range.map(|(_, last)| last),
        "storedFrom": report.wall_ms.map(|(oldest, _)| time(oldest)),
        "storedTo": report.wall_ms.map(|(_, newest)| time(newest)),
        "keys": report.keys,
        "leases": report.leases,
        "mark": report.mark.map(|(batch, lsn)| json!({"batch": batch, "lsn": lsn})),
        "streams": streams,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "moreFindings": report.more_findings,
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.name(),
        "file": finding.path.display().to_string(),
        "offset": finding.offset,
        "what": finding.what,
        "lost": finding.lost.as_ref().map(|lost| [*lost.start(), *lost.end()]),
        "atStart": finding.at_start.name(),
        "advice": finding.advice,
    })
}
