//! What is read back from the disk: single records, and a whole directory.

use std::{fs, path::Path};

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
