//! What is read back from the disk: single records, and a whole directory.

use std::{fs, path::Path};

use cluster::chain::{Header, Kind, Tip};
use notifier::log::embedded::{
    format::{BatchHeader, RecordView, SegmentHeader},
    offline::{Offline, Visit},
};

/// One record, or a header before it.
pub(crate) fn record(bytes: &[u8]) {
    let _ = SegmentHeader::decode(bytes);
    let _ = BatchHeader::decode(bytes, 7);
    let length = RecordView::len_at(bytes);
    if let Some(record) = RecordView::decode(bytes) {
        assert!(length.is_some_and(|length| length <= bytes.len()));
        let placements = record.placements().count();
        assert_eq!(record.to_placements().len(), placements);
    }
}

/// A directory whose only segment has these bytes: what the check says of it, and what
/// can still be read, without writing anything.
pub(crate) fn recovery(bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory");
    let segment = dir.path().join("00000001.segment");
    fs::write(&segment, bytes).expect("written");
    let Ok(log) = Offline::open(dir.path()) else {
        return;
    };
    let mut visited = 0_u64;
    let _ = log.verify(&mut |_| {}, &mut |_| {
        visited += 1;
        Visit::Fine
    });
    assert_eq!(
        fs::read(&segment).expect("readable"),
        bytes,
        "nothing was written"
    );
    is_alone(dir.path(), &segment);
}

/// An entry of the log in an engine. One that is read is the only one that its fields
/// and its body make, and continues exactly the chain that it names.
pub(crate) fn chain(bytes: &[u8]) {
    let Ok((header, body)) = Header::decode(bytes) else {
        assert!(Tip::default().accept(bytes).is_err());
        return;
    };
    let before = Tip {
        number: header.number - 1,
        crc: header.previous_crc,
        term: header.term - u64::from(header.kind == Kind::Term && header.term > 0),
        epoch: header.epoch,
        next_lsn: header.first_lsn,
    };
    // A term that is no higher than 0 cannot begin.
    if header.kind == Kind::Term && header.term == 0 {
        assert!(before.accept(bytes).is_err());
        return;
    }
    assert_eq!(before.accept(bytes), Ok(header));
    let longest = u64::MAX - u64::from(header.count);
    if header.first_lsn <= longest {
        let again = match header.kind {
            Kind::Batch => before.batch(header.count, body),
            Kind::Term => before.begin_term(header.term, header.epoch, body),
            Kind::Head => before.head(body),
        };
        assert_eq!(&again.bytes[..], bytes);
        assert!(again.tip.accept(bytes).is_err(), "accepted again");
    }
}

fn is_alone(dir: &Path, segment: &Path) {
    let files = fs::read_dir(dir).expect("readable").flatten();
    let others: Vec<_> = files
        .map(|file| file.path())
        .filter(|path| path != segment)
        .collect();
    assert!(
        others.iter().all(|path| path.ends_with("lock")),
        "{others:?}"
    );
}
