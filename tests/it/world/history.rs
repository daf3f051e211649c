//! What a client saw, compared with what was acked: the oracle of every test that
//! injects faults.
//!
//! It shares no code with the product: offsets of a stream count 1, 2, 3 …; what was
//! acked is there with the id and the body it was acked with; nothing else is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
};

use belfry::publisher::Published;
use serde_json::Value;

/// One acked publish: the shadow of what the log has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) stream: String,
    pub(crate) offset: u64,
    pub(crate) id: String,
    pub(crate) body: String,
}

/// What is wrong with what a client saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An event other than the expected one: one is missing, duplicated or misplaced.
    Order {
        stream: String,
        expected: u64,
        received: u64,
    },
    /// Acked, and never seen.
    Lost { stream: String, offset: u64 },
    /// Seen with another id or body than it was acked with.
    Altered { stream: String, offset: u64 },
    /// One event at two offsets.
    Twice { id: String },
    /// Seen, although it was never acked.
    Unknown { stream: String, offset: u64 },
    /// A notice that events are missing, where none may be.
    Gap(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Order {
                stream,
                expected,
                received,
            } => {
                write!(
                    f,
                    "offset {received} of `{stream}` where {expected} was expected"
                )
            }
            Fault::Lost { stream, offset } => {
                write!(f, "offset {offset} of `{stream}` was acked and not seen")
            }
            Fault::Altered { stream, offset } => write!(
                f,
                "offset {offset} of `{stream}` differs from what was acked"
            ),
            Fault::Twice { id } => write!(f, "event {id} has two offsets"),
            Fault::Unknown { stream, offset } => {
                write!(f, "offset {offset} of `{stream}` was never acked")
            }
            Fault::Gap(gap) => write!(f, "a gap was sent: {gap}"),
        }
    }
}

/// Everything that one client saw, in order, over all of its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) seen: Vec<Acked>,
    pub(crate) gaps: Vec<String>,
}

impl History {
    /// Notes a frame if it is a stored event or a gap; says whether it was an event.
    pub(crate) fn note(&mut self, frame: &Value) -> bool {
        if frame["type"] == "gap" {
            self.gaps.push(frame.to_string());
            return false;
        }
        let Some(offset) = frame["offset"].as_u64() else {
            return false;
        };
        self.seen.push(Acked {
            stream: stream_of(frame),
            offset,
            id: frame["id"].as_str().expect("an id").to_owned(),
            body: format!(
                "{} {}",
                frame["status"].as_str().unwrap_or_default(),
                frame["data"]["padding"].as_str().unwrap_or_default()
            ),
        });
        true
    }

    /// The newest offset of a stream.
    pub(crate) fn head(&self, stream: &str) -> u64 {
        let seen = self.seen.iter().rev();
        seen.filter(|event| event.stream == stream)
            .map(|event| event.offset)
            .next()
            .unwrap_or(0)
    }
}

/// What the product has acked, kept out of its reach.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shadow(Arc<Mutex<Vec<Acked>>>);

impl Shadow {
    /// Notes an ack for a publish with this body.
    pub(crate) fn note(&self, published: &Published, body: &str) {
        let mut acked = self.0.lock().expect("nobody panicked");
        for placement in &published.placements {
            acked.push(Acked {
                stream: placement.stream.clone(),
                offset: placement.position.expect("a position").offset,
                id: published.event_id.clone(),
                body: body.to_owned(),
            });
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().expect("nobody panicked").len()
    }

    /// What a user who follows these queues has to see, with streams named as in frames.
    pub(crate) fn of(&self, user: &str, queues: &[String]) -> Vec<Acked> {
        let acked = self.0.lock().expect("nobody panicked").clone();
        let theirs = acked.into_iter().filter_map(|event| {
            let stream = match event.stream.split_once(':') {
                Some(("user", other)) if other == user => "user".to_owned(),
                Some(("queue", queue)) if queues.iter().any(|other| other == queue) => event.stream,
                None => event.stream,
                Some(_) => return None,
            };
            Some(Acked { stream, ..event })
        });
        theirs.collect()
    }
}

/// The stream of an event, as positions name it.
pub(crate) fn stream_of(frame: &Value) -> String {
    match frame["queue"].as_str() {
        Some(queue) => format!("queue:{queue}"),
        None => frame["stream"].as_str().expect("a stream").to_owned(),
    }
}

/// Every fault in the history of a client that was there from the first event on,
/// against everything that was acked in the streams it follows.
pub(crate) fn faults_in(history: &History, acked: &[Acked]) -> Vec<Fault> {
    let mut faults: Vec<Fault> = history.gaps.iter().cloned().map(Fault::Gap).collect();
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ids: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for event in &history.seen {
        let last = newest.entry(&event.stream).or_default();
        if event.offset != *last + 1 {
            faults.push(Fault::Order {
                stream: event.stream.clone(),
                expected: *last + 1,
                received: event.offset,
            });
        }
        *last = event.offset;
        let place = (event.stream.as_str(), event.offset);
        if ids
            .insert(&event.id, place)
            .is_some_and(|other| other != place)
        {
            faults.push(Fault::Twice {
                id: event.id.clone(),
            });
        }
    }
    let at = |event: &&Acked| (event.stream.clone(), event.offset);
    let shadow: BTreeMap<_, _> = acked.iter().map(|event| (at(&event), event)).collect();
    let mut seen = BTreeSet::new();
    for event in &history.seen {
        let place = at(&event);
        let (stream, offset) = place.clone();
        match shadow.get(&place) {
            Some(acked) if *acked == event => {}
            Some(_) => faults.push(Fault::Altered { stream, offset }),
            None => faults.push(Fault::Unknown { stream, offset }),
        }
        seen.insert(place);
    }
    let lost = shadow.into_keys().filter(|place| !seen.contains(place));
    faults.extend(lost.map(|(stream, offset)| Fault::Lost { stream, offset }));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stream: &str, offset: u64) -> Acked {
        Acked {
            stream: stream.to_owned(),
            offset,
            id: format!("{stream}/{offset}"),
            body: format!("body {offset}"),
        }
    }

    fn acked() -> Vec<Acked> {
        (1..=6)
            .flat_map(|offset| [event("user", offset), event("queue:q", offset)])
            .collect()
    }

    fn doctored(doctor: impl FnOnce(&mut History)) -> Vec<Fault> {
        let mut history = History {
            seen: acked(),
            gaps: Vec::new(),
        };
        doctor(&mut history);
        faults_in(&history, &acked())
    }

    #[test]
    fn a_complete_history_has_no_fault() {
        assert_eq!(doctored(|_| ()), []);
    }

    #[test]
    fn doctored_histories_have_faults() {
        let stream = || "user".to_owned();
        let order = |expected, received| Fault::Order {
            stream: stream(),
            expected,
            received,
        };
        // Events of `user` are at 0, 2, 4 …
        let lost = doctored(|history| drop(history.seen.remove(4)));
        let offset = 3;
        let stream = || "user".to_owned();
        assert_eq!(
            lost,
            [
                order(3, 4),
                Fault::Lost {
                    stream: stream(),
                    offset
                }
            ]
        );
        let duplicated = doctored(|history| history.seen.insert(5, history.seen[4].clone()));
        assert_eq!(duplicated, [order(4, 3)]);
        let swapped = doctored(|history| history.seen.swap(2, 4));
        assert_eq!(swapped, [order(2, 3), order(4, 2), order(3, 4)]);
        let truncated = doctored(|history| history.seen.truncate(10));
        assert!(truncated.contains(&Fault::Lost {
            stream: stream(),
            offset: 6
        }));
        let altered = doctored(|history| history.seen[4].body.push('!'));
        assert_eq!(
            altered,
            [Fault::Altered {
                stream: stream(),
                offset
            }]
        );
        let invented = doctored(|history| history.seen.push(event("user", 7)));
        assert_eq!(
            invented,
            [Fault::Unknown {
                stream: stream(),
                offset: 7
            }]
        );
        let again = doctored(|history| history.seen[4].id = history.seen[2].id.clone());
        assert!(matches!(again[0], Fault::Twice { .. }), "{again:?}");
        let gap = doctored(|history| history.gaps.push("{}".to_owned()));
        assert_eq!(gap, [Fault::Gap("{}".to_owned())]);
    }
}
