//! The audit log: who was refused what, what operators did, and with which settings a
//! process runs. One JSON object a line, in a file that is only appended to.
//!
//! What always holds: nobody waits for it. Entries go through a bounded queue to a
//! thread of its own; what does not fit, or cannot be written, is counted and said in
//! the file itself. No token and no payload is ever part of an entry: whoever writes
//! one (target [`TARGET`]) gives names and reasons only.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::{
    Layer,
    fmt::{format::Writer, time::FormatTime, time::SystemTime},
    layer::Context,
};

use super::{escape::escape_json, fields, limit::LineLimit};

/// The target of audit entries.
pub(super) const TARGET: &str = "audit";
/// Entries that wait for the disk.
const QUEUE: usize = 4_096;
/// Entries of one action in a minute.
const ENTRIES_OF_AN_ACTION: u32 = 600;
/// How long the end of the process waits for the last entries.
const LAST_ENTRIES: Duration = Duration::from_secs(2);

/// Whether an event is an entry of the audit log.
pub(super) fn is_audit(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET
}

enum Message {
    Line(String),
    Reopen,
    Sync(SyncSender<()>),
}

/// The file, written by a thread of its own. Clones write to the same file.
#[derive(Clone)]
pub(crate) struct AuditFile {
    role: &'static str,
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    limit: Arc<LineLimit<String>>,
}

impl AuditFile {
    /// Opens the file for appending, for its owner only.
    pub(crate) fn open(path: &Path, role: &'static str) -> io::Result<Self> {
        let file = open(path)?;
        let (queue, messages) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = FileWriter {
            role,
            file,
            path: path.to_owned(),
            dropped: dropped.clone(),
        };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&messages))?;
        Ok(Self {
            role,
            queue,
            dropped,
            limit: Arc::new(LineLimit::new(ENTRIES_OF_AN_ACTION)),
        })
    }

    /// Opens the file again: a tool moved it away.
    pub(crate) fn reopen(&self) {
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// Waits until everything so far is on disk, for a bounded time.
    pub(crate) fn finish(&self) {
        self.report_left_out();
        let (done, synced) = sync_channel(1);
        if self.queue.try_send(Message::Sync(done)).is_ok() {
            let _ = synced.recv_timeout(LAST_ENTRIES);
        }
    }

    /// Says how many entries were over the limit since the last time.
    pub(crate) fn report_left_out(&self) {
        for left_out in self.limit.take_left_out() {
            self.put(own_entry(
                self.role,
                "audit.limited",
                &[
                    ("of", left_out.example.into()),
                    ("entries", left_out.lines.into()),
                ],
            ));
        }
    }

    fn put(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<S: Subscriber> Layer<S> for AuditFile {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let fields = fields::as_json(event);
        let action = fields.get("action").and_then(Value::as_str);
        let action = action.unwrap_or_default().to_owned();
        let example = || action.clone();
        if self.limit.allows(action.clone(), Instant::now(), example) {
            self.put(entry(self.role, fields));
        }
    }
}

fn entry(role: &str, fields: Map<String, Value>) -> String {
    let mut time = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let mut entry = Map::new();
    entry.insert("time".to_owned(), time.into());
    entry.insert("process".to_owned(), role.into());
    entry.extend(fields);
    escape_json(&Value::Object(entry).to_string())
}

fn own_entry(role: &str, action: &str, fields: &[(&str, Value)]) -> String {
    let mut entry_fields = Map::new();
    entry_fields.insert("action".to_owned(), json!(action));
    for (name, value) in fields {
        entry_fields.insert((*name).to_owned(), value.clone());
    }
    entry(role, entry_fields)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}

struct FileWriter {
    role: &'static str,
    file: File,
    path: PathBuf,
    dropped: Arc<AtomicU64>,
}

impl FileWriter {
    fn run(mut self, messages: &Receiver<Message>) {
        for message in messages {
            match message {
                Message::Line(line) => self.write(line),
                Message::Reopen => match open(&self.path) {
                    Ok(file) => {
                        self.sync();
                        self.file = file;
                    }
                    Err(cause) => tracing::warn!(
                        path = %self.path.display(), %cause,
                        "the audit log cannot be opened again, the former file is written on"
                    ),
                },
                Message::Sync(done) => {
                    self.sync();
                    let _ = done.send(());
                }
            }
        }
    }

    /// One write for each line, so that a reader sees whole ones.
    fn write(&mut self, mut line: String) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let count = &[("entries", dropped.into())];
            let honest = own_entry(self.role, "audit.dropped", count);
            line = format!("{honest}\n{line}");
        }
        line.push('\n');
        if let Err(cause) = self.file.write_all(line.as_bytes()) {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
            tracing::error!(path = %self.path.display(), %cause, "an entry of the audit log cannot be written");
        }
    }

    fn sync(&self) {
        if let Err(cause) = self.file.sync_data() {
            tracing::warn!(path = %self.path.display(), %cause, "the audit log cannot be synced");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tracing_subscriber::{filter::filter_fn, layer::SubscriberExt};

    use super::*;

    fn entries(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn an_entry_is_one_line_of_json_with_its_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = AuditFile::open(&path, "notifier").unwrap();
        let layer = audit.clone().with_filter(filter_fn(is_audit));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let foreign = "eve\n{\"action\":\"forged\"}\u{202e}";
            tracing::info!(target: "audit", action = "attach.refused", actor = %foreign, attempts = 3_u64);
            tracing::info!("no entry");
        });
        audit.finish();
        let moved = dir.path().join("audit.jsonl.1");
        std::fs::rename(&path, &moved).unwrap();
        audit.reopen();
        audit.put(own_entry("notifier", "token.revoked", &[]));
        audit.finish();

        let entry = &entries(&moved)[0];
        assert_eq!(entries(&moved).len(), 1);
        assert_eq!(entry["process"], "notifier");
        assert_eq!(entry["action"], "attach.refused");
        assert_eq!(entry["actor"], "eve\n{\"action\":\"forged\"}\u{202e}");
        assert_eq!(entry["attempts"], 3);
        assert!(entry["time"].as_str().unwrap().ends_with('Z'), "{entry}");
        assert_eq!(entries(&path)[0]["action"], "token.revoked");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_too_much_is_counted_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = AuditFile::open(&path, "edge").unwrap();
        let layer = audit.clone();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for _ in 0..ENTRIES_OF_AN_ACTION + 5 {
                tracing::info!(target: "audit", action = "session.refused");
            }
            tracing::info!(target: "audit", action = "admin.called");
        });
        audit.dropped.fetch_add(2, Ordering::Relaxed);
        audit.finish();
        let entries = entries(&path);
        let of = |action: &str| {
            entries
                .iter()
                .filter(|entry| entry["action"] == action)
                .count()
        };
        assert_eq!(of("session.refused") as u32, ENTRIES_OF_AN_ACTION);
        assert_eq!(of("admin.called"), 1);
        let limited = entries
            .iter()
            .find(|entry| entry["action"] == "audit.limited");
        assert_eq!(limited.unwrap()["entries"], 5);
        let dropped = entries
            .iter()
            .find(|entry| entry["action"] == "audit.dropped");
        assert_eq!(dropped.unwrap()["entries"], 2);
    }
}
