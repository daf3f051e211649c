//! A log in a directory of its own, and what ought to be in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use delivery::{DedupeKey, Placement, Record, StoredEvent, StreamName};
use notifier::log::{
    Appended, Log, LogError,
    embedded::{Embedded, OpenError, Options},
};

/// Small segments, no room ahead: every test sees several files.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 4 << 10,
        preallocate_bytes: 0,
        ..Options::default()
    }
}

/// All records that were stored, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model {
    pub(crate) records: Vec<Record>,
    pub(crate) heads: BTreeMap<StreamName, u64>,
}

impl Model {
    /// The next record, in these streams, with a key and an envelope of `len` bytes.
    pub(crate) fn record(&mut self, streams: &[&str], len: usize) -> Record {
        let lsn = self.records.len() as u64 + 1;
        let placements = streams.iter().map(|stream| {
            let head = self.heads.entry((*stream).into()).or_default();
            *head += 1;
            Placement {
                stream: (*stream).into(),
                offset: *head,
            }
        });
        let record = Record {
            lsn,
            id: u128::from(lsn) << 64 | 0xabc,
            placements: placements.collect(),
            check: (lsn as u32).wrapping_mul(2_654_435_761),
            job: None,
            dedupe: lsn.is_multiple_of(2).then(|| DedupeKey {
                key: u128::from(lsn) * 7,
                body: lsn * 3,
            }),
            envelope: Bytes::from(vec![lsn as u8; len]),
        };
        self.records.push(record.clone());
        record
    }

    /// A batch of records over a few streams and sizes.
    pub(crate) fn batch(&mut self, count: usize) -> Vec<Record> {
        let batch = (0..count).map(|_| match self.records.len() % 4 {
            0 => self.record(&["user:ada", "user:bob", "user:eve"], 40),
            1 => self.record(&["everyone"], 300),
            2 => self.record(&["queue:support"], 0),
            _ => self.record(&["user:ada"], 3000),
        });
        batch.collect()
    }

    /// Forgets everything after record `lsn`.
    pub(crate) fn cut_to(&mut self, lsn: u64) {
        self.records.truncate(lsn as usize);
        self.heads.clear();
        for placement in self.records.iter().flat_map(|record| &*record.placements) {
            self.heads
                .insert(placement.stream.clone(), placement.offset);
        }
    }

    /// What `stream` ought to give from offset `first` on.
    pub(crate) fn events(&self, stream: &str, first: u64) -> Vec<StoredEvent> {
        let mut events = Vec::new();
        for record in &self.records {
            for placement in record.placements.iter() {
                if &*placement.stream == stream && placement.offset >= first {
                    events.push(StoredEvent {
                        offset: placement.offset,
                        check: record.check,
                        payload: record.envelope.clone(),
                    });
                }
            }
        }
        events
    }
}

/// A log, its directory and its model.
pub(crate) struct World {
    /// Before the directory, so that it is closed before that is removed.
    pub(crate) log: Option<Embedded>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) options: Options,
    pub(crate) model: Model,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open(dir.path(), options.clone()).unwrap();
        let (log, model) = (Some(log), Model::default());
        Self {
            log,
            dir,
            options,
            model,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn log(&self) -> &Embedded {
        self.log.as_ref().unwrap()
    }

    pub(crate) async fn append(&mut self, count: usize) -> Appended {
        let batch = self.model.batch(count);
        self.log().append(batch).await.unwrap()
    }

    /// Closes the log.
    pub(crate) fn close(&mut self) {
        self.log = None;
    }

    /// Closes the log and opens it again.
    pub(crate) fn reopen(&mut self) -> Result<(), OpenError> {
        self.log = None;
        self.log = Some(Embedded::open(self.dir.path(), self.options.clone())?);
        Ok(())
    }

    /// Everything that the model has can be read, and nothing else.
    pub(crate) async fn check(&self) {
        check(self.log(), &self.model).await.unwrap();
    }

    /// The files of the segments, in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        segments(self.path())
    }
}

/// The files of the segments in `dir`, in order.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap();
    let mut paths: Vec<_> = paths
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "segment"))
        .collect();
    paths.sort();
    paths
}

/// Reads every stream of `model` from its start, in pages.
pub(crate) async fn check(log: &impl Log, model: &Model) -> Result<(), LogError> {
    for (stream, &head) in &model.heads {
        let mut read = Vec::new();
        while (read.len() as u64) < head {
            let first = read.len() as u64 + 1;
            let page = log.read(stream.clone(), first, 7, 5000).await?;
            assert!(!page.is_empty(), "nothing at {first} of {stream}");
            read.extend(page);
        }
        assert_eq!(read, model.events(stream, 1), "{stream}");
        let past = log.read(stream.clone(), head + 1, 7, 5000).await?;
        assert_eq!(past, []);
    }
    Ok(())
}

/// Every file of a directory with its bytes.
pub(crate) fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

/// Writes a snapshot back, and removes what is not in it.
pub(crate) fn restore(dir: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in snapshot(dir).keys() {
        if !files.contains_key(path) {
            std::fs::remove_file(path).unwrap();
        }
    }
    for (path, bytes) in files {
        std::fs::write(path, bytes).unwrap();
    }
}
