//! Where a listener stands: one position for each stream, moved only by what was
//! handed on, and kept in a file that is whole at any instant.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::client::Frame;

/// Streams kept at most: what one session may follow.
const MAX_STREAMS: usize = 130;

/// Why positions cannot be kept.
#[derive(Debug, Error)]
pub(crate) enum ResumeError {
    #[error("the resume file `{}` cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("the resume file `{}` is not one of ours ({cause}), remove it to start afresh", path.display())]
    Foreign {
        path: PathBuf,
        cause: serde_json::Error,
    },
    #[error("the resume file `{}` cannot be written: {cause}", path.display())]
    Unwritable { path: PathBuf, cause: io::Error },
}

/// What a frame is to a listener.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A new event.
    Event,
    /// An event that was handed on before.
    Duplicate,
    /// Events are missing before this one.
    Hole {
        /// The offset that was due.
        expected: u64,
    },
    /// Not an event: a gap, `subscribed`, `degraded` and so on.
    Other,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    position: String,
    /// Absent after `connected` and `gap`: the next event may have any offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

/// Where a listener stands.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Positions {
    streams: BTreeMap<String, Place>,
}

impl Positions {
    /// Reads the file; none is an empty one.
    pub(crate) fn load(path: &Path) -> Result<Self, ResumeError> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|cause| ResumeError::Foreign {
                path: path.to_owned(),
                cause,
            }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(cause) => Err(ResumeError::Unreadable {
                path: path.to_owned(),
                cause,
            }),
        }
    }

    /// Replaces the file in one step. Not synced: it is to outlive this process,
    /// and after a power cut an older one only brings events twice.
    pub(crate) fn save(&self, path: &Path) -> Result<(), ResumeError> {
        let aside = path.with_extension("new");
        let write = || {
            let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
            File::create(&aside)?.write_all(&bytes)?;
            fs::rename(&aside, path)
        };
        write().map_err(|cause| ResumeError::Unwritable {
            path: path.to_owned(),
            cause,
        })
    }

    /// For the `connect` frame.
    pub(crate) fn by_stream(&self) -> BTreeMap<&str, &str> {
        let pairs = self.streams.iter();
        pairs
            .map(|(stream, place)| (stream.as_str(), place.position.as_str()))
            .collect()
    }

    /// Takes over where the edge says that the streams stand.
    pub(crate) fn connected(&mut self, streams: &BTreeMap<String, String>) {
        for (stream, position) in streams {
            self.set_position(stream, position);
        }
    }

    /// Decides what a frame is, and moves the position.
    pub(crate) fn take(&mut self, frame: &Frame) -> Verdict {
        let stream = frame.stream_name();
        match frame.kind.as_str() {
            "gap" | "subscribed" => {
                if let Some(position) = &frame.position {
                    self.set_position(&stream, position);
                }
                return Verdict::Other;
            }
            "connected" | "pong" | "refreshed" | "error" | "bye" | "degraded" | "recovered"
            | "unsubscribed" => return Verdict::Other,
            _ => {}
        }
        let (Some(offset), Some(position)) = (frame.offset, &frame.position) else {
            // Ephemeral: no place, never again.
            return Verdict::Event;
        };
        let known = self.streams.get(&stream).and_then(|place| place.offset);
        match known {
            Some(last) if offset <= last => return Verdict::Duplicate,
            Some(last) if offset != last + 1 => return Verdict::Hole { expected: last + 1 },
            _ => {}
        }
        if self.streams.len() < MAX_STREAMS || self.streams.contains_key(&stream) {
            let place = Place {
                position: position.clone(),
                offset: Some(offset),
            };
            self.streams.insert(stream, place);
        }
        Verdict::Event
    }

    /// Stands at a position; keeps the offset only if nothing changed.
    fn set_position(&mut self, stream: &str, position: &str) {
        if self
            .streams
            .get(stream)
            .is_some_and(|place| place.position == position)
        {
            return;
        }
        if self.streams.len() < MAX_STREAMS || self.streams.contains_key(stream) {
            let place = Place {
                position: position.to_owned(),
                offset: None,
            };
            self.streams.insert(stream.to_owned(), place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(offset: u64) -> Frame {
        Frame::parse(&format!(
            r#"{{"type":"custom","stream":"user","offset":{offset},"position":"p{offset}"}}"#
        ))
        .unwrap()
    }

    #[test]
    fn an_event_counts_once_and_in_order() {
        let mut positions = Positions::default();
        assert_eq!(positions.take(&event(7)), Verdict::Event);
        assert_eq!(positions.take(&event(7)), Verdict::Duplicate);
        assert_eq!(positions.take(&event(8)), Verdict::Event);
        assert_eq!(positions.take(&event(10)), Verdict::Hole { expected: 9 });
        assert_eq!(positions.by_stream()["user"], "p8");
    }

    #[test]
    fn a_gap_moves_the_position_and_forgets_the_offset() {
        let mut positions = Positions::default();
        positions.take(&event(7));
        let gap = r#"{"type":"gap","stream":"user","from":7,"to":40,"position":"p40"}"#;
        assert_eq!(positions.take(&Frame::parse(gap).unwrap()), Verdict::Other);
        assert_eq!(positions.by_stream()["user"], "p40");
        assert_eq!(positions.take(&event(41)), Verdict::Event);
    }

    #[test]
    fn connected_at_the_same_position_keeps_watching_for_holes() {
        let mut positions = Positions::default();
        positions.take(&event(7));
        positions.connected(&BTreeMap::from([("user".to_owned(), "p7".to_owned())]));
        assert_eq!(positions.take(&event(9)), Verdict::Hole { expected: 8 });
        positions.connected(&BTreeMap::from([("user".to_owned(), "other".to_owned())]));
        assert_eq!(positions.take(&event(9)), Verdict::Event);
    }

    #[test]
    fn the_file_gives_back_what_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resume.json");
        assert_eq!(Positions::load(&path).unwrap(), Positions::default());
        let mut positions = Positions::default();
        positions.take(&event(7));
        positions.save(&path).unwrap();
        assert_eq!(Positions::load(&path).unwrap(), positions);
        fs::write(&path, "{\"a\":1}").unwrap();
        assert!(matches!(
            Positions::load(&path),
            Err(ResumeError::Foreign { .. })
        ));
    }
}
