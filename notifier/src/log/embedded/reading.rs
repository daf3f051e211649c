//! Reads a log segment by segment and says at the first thing that is not as it
//! was written why the log is not opened. Changes nothing: a start and the offline
//! check verify by the same code.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use delivery::{
    JobChange, Recovered, RecoveredKey, RecoveredLease, RecoveredStream, StreamName,
    shares::{Bucket, Queues, Services},
};
use prost::Message;

use super::{
    Options,
    error::OpenError,
    files,
    format::{RecordView, SegmentHeader},
    heads::Heads,
    index::{Index, OutOfOrder, Segment, Stream},
    mark::Mark,
    scan::{Batch, End, Scan, scan},
};

/// What was read so far.
pub(super) struct Reading<'a> {
    dir: &'a Path,
    options: &'a Options,
    pub(super) index: Index,
    /// Keys with the age clock at their storing, those of each service oldest first.
    keys: Queues<(u64, RecoveredKey)>,
    services: Services,
    /// Who published the oldest event of each stream.
    owners: HashMap<StreamName, Arc<str>>,
    /// Open leases, by job.
    leases: BTreeMap<Arc<str>, RecoveredLease>,
    epoch: Option<u64>,
    /// Of the segment read last.
    pub(super) last: Option<Scan>,
    pub(super) log_ms: u64,
}

impl<'a> Reading<'a> {
    pub(super) fn new(dir: &'a Path, options: &'a Options, heads: Option<Heads>) -> Self {
        let mut index = Index {
            beheaded: heads.is_some(),
            ..Index::default()
        };
        let epoch = heads.as_ref().map(|heads| heads.epoch);
        for (name, head, head_check) in heads.into_iter().flat_map(|heads| heads.streams) {
            let stream = Stream {
                first: head + 1,
                head_check,
                ..Stream::default()
            };
            index.streams.insert(name, stream);
        }
        Self {
            dir,
            options,
            index,
            keys: keys(options),
            services: Services::new(&options.shares()),
            owners: HashMap::new(),
            leases: BTreeMap::new(),
            epoch,
            last: None,
            log_ms: 0,
        }
    }

    /// Takes the bytes of segment `number`, which has to follow the one before.
    pub(super) fn segment(
        &mut self,
        number: u32,
        is_last: bool,
        bytes: &[u8],
    ) -> Result<(), OpenError> {
        let path = files::segment_path(self.dir, number);
        let header = SegmentHeader::decode(bytes)
            .map_err(|bad| OpenError::segment_header(path.clone(), bad))?;
        self.check_header(&path, number, &header)?;
        let len = bytes.len() as u64;
        self.index
            .add_segment(Segment::new(&header, self.log_ms, len));
        let mut bad = None;
        let found = scan(bytes, |batch| {
            if bad.is_none() {
                bad = self.batch(batch).err();
            }
        })
        .map_err(|bad| OpenError::segment_header(path.clone(), bad))?;
        if let Some(bad) = bad {
            let OutOfOrder {
                stream,
                offset,
                expected,
            } = bad;
            let why =
                format!("offset {expected} of stream `{stream}` is missing, {offset} is there");
            return Err(OpenError::File { path, why });
        }
        check_end(&path, &found, is_last)?;
        self.last = Some(found);
        Ok(())
    }

    fn check_header(
        &mut self,
        path: &Path,
        number: u32,
        header: &SegmentHeader,
    ) -> Result<(), OpenError> {
        let path = path.to_owned();
        let expected = *self.epoch.get_or_insert(header.epoch);
        if header.epoch != expected {
            return Err(OpenError::OtherEpoch {
                path,
                found: header.epoch,
                expected,
            });
        }
        if header.number != number {
            let why = format!("it is segment {} under another name", header.number);
            return Err(OpenError::File { path, why });
        }
        let Some(before) = &self.last else {
            if !self.index.beheaded && (header.first_batch, header.first_lsn) != (1, 1) {
                let why = format!(
                    "it begins with batch {} though it is the first segment of its log",
                    header.first_batch
                );
                return Err(OpenError::File { path, why });
            }
            return Ok(());
        };
        if header.first_batch != before.next_batch || header.first_lsn != before.next_lsn {
            return Err(OpenError::Damaged {
                path: files::segment_path(self.dir, number - 1),
                offset: before.valid_len as u64,
                evidence: format!(
                    "segment {number} goes on with batch {} where {} is due",
                    header.first_batch, before.next_batch
                ),
            });
        }
        Ok(())
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), OutOfOrder> {
        let log_ms = batch.header.log_ms;
        let mut keyed = false;
        for (at, record) in batch.records() {
            let oldest = self.index.push_view(&record, at)?;
            if oldest == 0 && record.dedupe.is_none() && record.job.is_none() {
                continue;
            }
            let publisher = self.publisher(&record);
            if oldest > 0 {
                self.own_streams(&record, &publisher);
            }
            self.lease(&record, &publisher);
            let Some(dedupe) = record.dedupe else {
                continue;
            };
            keyed = true;
            let key = RecoveredKey {
                dedupe,
                id: record.id,
                publisher: publisher.clone(),
                placements: record.to_placements(),
                check: record.check,
                age_ms: 0,
            };
            // What goes for it is the oldest of the same service (guarantee G33).
            let service = self.services.number(&publisher);
            self.keys.push(service, (log_ms, key));
        }
        self.index.note_batch(log_ms, keyed);
        self.log_ms = log_ms;
        Ok(())
    }

    /// Who published a record. Equal names share memory.
    fn publisher(&mut self, record: &RecordView<'_>) -> Arc<str> {
        let envelope = PublishedBy::decode(record.envelope).unwrap_or_default();
        let service = self.services.number(&envelope.publisher.as_str().into());
        match self.services.name(service) {
            name if **name == *envelope.publisher => name.clone(),
            _ => envelope.publisher.into(),
        }
    }

    /// Notes who published the oldest event of the streams that begin here.
    fn own_streams(&mut self, record: &RecordView<'_>, publisher: &Arc<str>) {
        for (_, name) in record.placements() {
            let known = self.index.streams.get_key_value(name);
            if let Some((name, stream)) = known
                && stream.locators.len() == 1
            {
                self.owners.insert(name.clone(), publisher.clone());
            }
        }
    }

    /// The newest record of a lease is the one that holds.
    fn lease(&mut self, record: &RecordView<'_>, publisher: &Arc<str>) {
        let Some((job, change)) = record.job else {
            return;
        };
        self.index.note_job(job, change);
        let JobChange::Leased { lease_ms } = change else {
            self.leases.remove(job);
            return;
        };
        let job: Arc<str> = job.into();
        let lease = RecoveredLease {
            job: job.clone(),
            publisher: publisher.clone(),
            lease_ms,
            streams: record.placements().map(|(_, name)| name.into()).collect(),
            envelope: Bytes::copy_from_slice(record.envelope),
        };
        self.leases.insert(job, lease);
    }

    /// Whether the log reaches as far as it is known to have been durable.
    pub(super) fn check_mark(&self, mark: Option<Mark>) -> Result<(), OpenError> {
        let last = self.last.as_ref().expect("a segment was read");
        let Some(mark) = mark else {
            return Ok(());
        };
        let epoch = last.header.epoch;
        if mark.epoch != epoch {
            return Err(OpenError::OtherEpoch {
                path: self.dir.join(files::MARK),
                found: mark.epoch,
                expected: epoch,
            });
        }
        if mark.batch >= last.next_batch {
            return Err(OpenError::Damaged {
                path: files::segment_path(self.dir, last.header.number),
                offset: last.valid_len as u64,
                evidence: format!(
                    "the log ends with batch {} though `{}` shows that batch {} was durable",
                    last.next_batch - 1,
                    files::MARK,
                    mark.batch
                ),
            });
        }
        Ok(())
    }

    /// What a hub goes on from.
    pub(super) fn recovered(&mut self, epoch: u64, last_lsn: u64) -> Recovered {
        let streams = self.index.streams.iter();
        let mut streams: Vec<_> = streams
            .map(|(name, stream)| RecoveredStream {
                stream: name.clone(),
                publisher: self.owners.get(name).cloned().unwrap_or_default(),
                first: stream.first,
                head: stream.head(),
                head_check: stream.head_check,
            })
            .collect();
        streams.sort_unstable_by(|a, b| a.stream.cmp(&b.stream));
        let keys = std::mem::replace(&mut self.keys, keys(self.options));
        let keys = keys
            .into_entries()
            .map(|(stored_ms, mut key)| {
                key.age_ms = self.log_ms.saturating_sub(stored_ms);
                key
            })
            .filter(|key| key.age_ms < self.options.dedupe_window_ms)
            .collect();
        Recovered {
            leases: std::mem::take(&mut self.leases).into_values().collect(),
            epoch,
            last_lsn,
            streams,
            keys,
        }
    }
}

/// The publisher of an `Envelope`; the rest is skipped.
#[derive(Clone, PartialEq, Message)]
struct PublishedBy {
    #[prost(string, tag = "6")]
    publisher: String,
}

fn keys(options: &Options) -> Queues<(u64, RecoveredKey)> {
    Queues::new(
        Bucket::IdempotencyKeys,
        options.dedupe_keys,
        &options.shares(),
    )
}

fn check_end(path: &Path, found: &Scan, is_last: bool) -> Result<(), OpenError> {
    let evidence = match (found.end, is_last) {
        (End::Damaged { later }, _) => format!("a later batch is at byte {later}"),
        (End::Torn { .. }, false) => "a later segment is there".to_owned(),
        (End::Torn { .. } | End::Clean, _) => return Ok(()),
    };
    Err(OpenError::Damaged {
        path: path.to_owned(),
        offset: found.valid_len as u64,
        evidence,
    })
}
