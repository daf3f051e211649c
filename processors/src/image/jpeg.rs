//! Walks the segments of a JPEG file (ITU T.81, annex B), those between the scans of a
//! progressive picture too.
//!
//! What always holds: the end marker that is found is that of the picture, never that
//! of an embedded preview.

pub(super) struct Segment<'a> {
    /// The second byte of its marker.
    pub(super) marker: u8,
    /// What follows marker and length.
    pub(super) contents: &'a [u8],
    /// The whole segment; that of a scan with its data.
    pub(super) bytes: &'a [u8],
}

/// The next step of a walk.
pub(super) enum Step<'a> {
    Segment(Segment<'a>),
    End,
}

/// A walk over a file.
pub(super) struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    /// Begins after the start marker.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 2 }
    }

    /// The next step, or `None` if the file breaks off.
    pub(super) fn next(&mut self) -> Option<Step<'a>> {
        let bytes = self.bytes;
        loop {
            let at = self.at;
            let (0xFF, marker) = (*bytes.get(at)?, *bytes.get(at + 1)?) else {
                // Some cameras pad their segments.
                self.at += 1;
                continue;
            };
            if marker == 0xD9 {
                return Some(Step::End);
            }
            // Fill bytes, and markers without a length.
            if matches!(marker, 0xFF | 0x01 | 0xD0..=0xD8) {
                self.at += 1 + usize::from(marker != 0xFF);
                continue;
            }
            let length = bytes.get(at + 2..at + 4)?;
            let mut end = at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            let contents = bytes.get(at + 4..end)?;
            if marker == 0xDA {
                end = scan_end(bytes, end)?;
            }
            self.at = end;
            let bytes = bytes.get(at..end)?;
            return Some(Step::Segment(Segment {
                marker,
                contents,
                bytes,
            }));
        }
    }
}

/// Whether the picture reaches its end marker.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut segments = Segments::new(bytes);
    loop {
        match segments.next() {
            Some(Step::Segment(_)) => {}
            Some(Step::End) => return true,
            None => return false,
        }
    }
}

/// Where the data of a scan ends: at a marker that is not part of it.
fn scan_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match (*bytes.get(at)?, *bytes.get(at + 1)?) {
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD7) => at += 2,
            (0xFF, 0xFF) => at += 1,
            (0xFF, _) => return Some(at),
            _ => at += 1,
        }
    }
}
