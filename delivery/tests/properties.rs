//! What holds for every input: positions, pages, queues.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use delivery::{
    Credential, DedupeKey, Limits, Position, Recovered, Rights, StoredEvent, StreamName,
    StreamPattern,
    edge::{self, Edge, Notice},
    hub::{self, Hub, Kind, Publish, Reply},
    link::{GapReason, Interest, Joined, Page, ToEdge, ToHub},
};
use proptest::prelude::*;

const EPOCH: u64 = 7;
const STREAM: &str = "user:u1";

proptest! {
    #[test]
    fn a_position_comes_back_from_its_packed_form(epoch: u64, offset in 1_u64.., check: u32) {
        let position = Position { epoch, offset, check };
        prop_assert_eq!(Position::unpack(&position.pack()), Some(position));
    }

    #[test]
    fn arbitrary_bytes_are_a_position_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Some(position) = Position::unpack(&bytes) {
            prop_assert_eq!(position.pack().to_vec(), bytes);
        }
    }
}

fn credential() -> Credential {
    let rights = Rights {
        user: "u1".into(),
        streams: [StreamPattern::Exact(STREAM.into())].into(),
        exp_unix_ms: 0,
        ends_in_ms: 3_600_000,
    };
    Credential {
        rights,
        token_id: None,
        digest: 1,
        key: 1,
    }
}

fn check_of(offset: u64) -> u32 {
    u32::try_from(offset * 31 + 1).expect("small")
}

/// A hub with one stream of `count` events, of which memory holds some, and the
/// log all.
fn hub_with(count: u64, limits: &Limits) -> Hub {
    let recovered = Recovered {
        epoch: EPOCH,
        ..Recovered::default()
    };
    let mut hub = Hub::new(limits.clone(), recovered, 0);
    let mut out = Vec::new();
    for offset in 1..=count {
        let publish = Publish {
            id: u128::from(offset),
            streams: Arc::new([StreamName::from(STREAM)]),
            check: check_of(offset),
            dedupe: None,
            envelope: Bytes::from(vec![0; 50]),
            publisher: "publisher".into(),
            job: None,
            lives_ms: None,
            kind: Kind::Stored { change: None },
        };
        hub.handle(
            hub::Input::Publish {
                ticket: offset,
                publish,
            },
            0,
            &mut out,
        );
        hub.handle(
            hub::Input::Synced {
                upto: offset,
                trimmed: Vec::new(),
            },
            0,
            &mut out,
        );
    }
    hub
}

fn stored(offset: u64) -> StoredEvent {
    StoredEvent {
        offset,
        check: check_of(offset),
        payload: Bytes::from(vec![0; 50]),
    }
}

/// Fetches until the head is reached, as a session would; the log answers reads.
fn read_all(hub: &mut Hub, limits: &Limits, head: u64, from: Position) -> (Vec<Page>, Vec<u64>) {
    let attach = hub::Input::Attach {
        link: 1,
        name: "e".into(),
        deliveries: 9,
        bytes: 1 << 20,
    };
    let interests = vec![Interest {
        stream: STREAM.into(),
        from: Some(from),
    }];
    let open = ToHub::Open {
        session: 1,
        token: Ok(credential()),
        public_id: "s".into(),
        device: "s".into(),
        interests,
    };
    let mut out = Vec::new();
    hub.handle(attach, 0, &mut out);
    hub.handle(
        hub::Input::FromEdge {
            link: 1,
            message: open,
        },
        0,
        &mut out,
    );
    let (mut pages, mut offsets, mut at) = (Vec::new(), Vec::new(), from);
    for _ in 0..=head + 2 {
        let mut out = Vec::new();
        let fetch = ToHub::Fetch {
            session: 1,
            stream: STREAM.into(),
            after: at,
        };
        hub.handle(
            hub::Input::FromEdge {
                link: 1,
                message: fetch,
            },
            0,
            &mut out,
        );
        let mut answers = Vec::new();
        while let Some(output) = out.pop() {
            match output {
                hub::Output::Read { read, first, .. } => {
                    let last = head.min(first + limits.page_events as u64 - 1);
                    let events = (first..=last).map(stored).collect();
                    hub.handle(hub::Input::Read { read, events }, 0, &mut out);
                }
                hub::Output::Send {
                    message: ToEdge::Page(page),
                    ..
                } => answers.push(page),
                other => panic!("{other:?}"),
            }
        }
        let page = answers.pop().expect("one answer");
        assert!(answers.is_empty(), "exactly one answer");
        if let Some(gap) = page.gap {
            at = gap.to;
        }
        for event in &page.events {
            offsets.push(event.offset);
            at = Position {
                epoch: EPOCH,
                offset: event.offset,
                check: event.check,
            };
        }
        pages.push(page);
        if at.offset == head {
            break;
        }
    }
    (pages, offsets)
}

proptest! {
    #[test]
    fn replay_from_any_position_is_whole_or_says_what_is_missing(
        head in 0_u64..60,
        from in 0_u64..80,
        epoch in prop_oneof![4 => Just(EPOCH), 1 => any::<u64>()],
        right_check: bool,
        recent_bytes in 0_usize..4_000,
        page_events in 1_usize..9,
        retained in prop_oneof![Just(10_000_u64), 1_u64..40],
    ) {
        let limits = Limits { recent_bytes, page_events, retained_per_stream: retained, ..Limits::default() };
        let mut hub = hub_with(head, &limits);
        let check = match (from, right_check) {
            (0, _) => 0,
            (_, true) => check_of(from),
            (_, false) => check_of(from) ^ 1,
        };
        let position = Position { epoch, offset: from, check };
        let (pages, offsets) = read_all(&mut hub, &limits, head, position);

        let gaps: Vec<_> = pages.iter().filter_map(|page| page.gap).collect();
        prop_assert!(gaps.len() <= 1, "one gap at most: {gaps:?}");
        let kept_from = head.saturating_sub(retained) + 1;
        let expected = match gaps.first() {
            _ if epoch != EPOCH => Some((GapReason::EpochChanged, kept_from)),
            _ if from > head => Some((GapReason::Ahead, head + 1)),
            _ if from + 1 < kept_from => Some((GapReason::Trimmed, kept_from)),
            // The record that would prove it is gone, or is another.
            Some(gap) if from + 1 == kept_from && from > 0 => {
                Some((gap.reason, gap.to.offset + 1))
            }
            _ if !right_check && from > 0 => Some((GapReason::Forked, head + 1)),
            _ => None,
        };
        prop_assert_eq!(gaps.first().map(|gap| (gap.reason, gap.to.offset + 1)), expected);
        let first = expected.map_or(from + 1, |(_, first)| first);
        prop_assert_eq!(offsets, (first..=head).collect::<Vec<_>>());
    }

    #[test]
    fn a_key_makes_one_event_whatever_comes_between(
        keys in proptest::collection::vec(0_u128..6, 1..60),
        synced_every in 1_u64..5,
    ) {
        let limits = Limits::default();
        let mut hub = Hub::new(limits, Recovered { epoch: EPOCH, ..Recovered::default() }, 0);
        let (mut out, mut appended) = (Vec::new(), 0);
        for (ticket, key) in (1..).zip(&keys) {
            let publish = Publish {
                id: u128::from(ticket),
                streams: Arc::new([StreamName::from(STREAM)]),
                check: 1,
                dedupe: Some(DedupeKey { key: *key, body: 1 }),
                envelope: Bytes::from_static(b"x"),
                publisher: "publisher".into(),
            job: None,
            lives_ms: None,
            kind: Kind::Stored { change: None },
            };
            hub.handle(hub::Input::Publish { ticket, publish }, 0, &mut out);
            let records = out.iter().filter(|o| matches!(o, hub::Output::Append(_)));
            appended = records.count() as u64;
            if ticket % synced_every == 0 {
                hub.handle(hub::Input::Synced { upto: appended, trimmed: Vec::new() }, 0, &mut out);
            }
        }
        hub.handle(hub::Input::Synced { upto: appended, trimmed: Vec::new() }, 0, &mut out);
        let distinct: BTreeSet<_> = keys.iter().collect();
        prop_assert_eq!(appended, distinct.len() as u64);
        let replies = out.iter().filter_map(|output| match output {
            hub::Output::Reply { ticket, reply: Reply::Accepted { id, duplicate, .. } } => {
                Some((*ticket, *id, *duplicate))
            }
            _ => None,
        });
        let replies: Vec<_> = replies.collect();
        prop_assert_eq!(replies.len(), keys.len(), "each ticket gets one reply");
        for (ticket, id, duplicate) in replies {
            let key = keys[usize::try_from(ticket).unwrap() - 1];
            let first = keys.iter().position(|other| *other == key).unwrap() as u64 + 1;
            prop_assert_eq!((id, duplicate), (u128::from(first), ticket != first));
        }
    }
}

/// What can happen to one socket.
#[derive(Debug, Clone, Copy)]
enum Step {
    Live,
    Lost,
    Blocked,
    Writable,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Live),
        1 => Just(Step::Lost),
        2 => Just(Step::Blocked),
        3 => Just(Step::Writable),
    ]
}

fn open_session(edge: &mut Edge, out: &mut Vec<edge::Output>) {
    let welcome = ToEdge::Welcome {
        epoch: EPOCH,
        request_window: 8,
    };
    edge.handle(
        edge::Input::FromHub {
            message: welcome,
            charged: 0,
            wall_ms: 0,
        },
        0,
        out,
    );
    let interests = vec![Interest {
        stream: STREAM.into(),
        from: None,
    }];
    edge.handle(
        edge::Input::Open {
            session: 1,
            user: "u1".into(),
            public_id: "s".into(),
            device: "d".into(),
            interests,
            token: "t".into(),
        },
        0,
        out,
    );
    let at = Position::start(EPOCH);
    let joined = Joined {
        stream: STREAM.into(),
        requested_from: None,
        at,
        head: 0,
        gap: None,
        latest: Vec::new(),
    };
    let message = ToEdge::Opened {
        session: 1,
        rights: credential().rights,
        joined: vec![joined],
    };
    edge.handle(
        edge::Input::FromHub {
            message,
            charged: 0,
            wall_ms: 0,
        },
        0,
        out,
    );
    assert!(out.iter().any(|output| {
        matches!(
            output,
            edge::Output::Notify {
                notice: Notice::Connected { .. },
                ..
            }
        )
    }));
}

fn frame(offset: u64) -> StoredEvent {
    let payload = Bytes::from(offset.to_be_bytes().to_vec());
    StoredEvent {
        offset,
        check: check_of(offset),
        payload,
    }
}

/// Answers fetches from a log of `head` events, and takes what was written.
fn settle(edge: &mut Edge, out: &mut Vec<edge::Output>, head: u64, written: &mut Vec<u64>) {
    while !out.is_empty() {
        for output in std::mem::take(out) {
            match output {
                edge::Output::Write { frame, .. } => {
                    written.push(u64::from_be_bytes(
                        frame[..8].try_into().expect("eight bytes"),
                    ));
                }
                edge::Output::ToHub(ToHub::Fetch {
                    session,
                    stream,
                    after,
                }) => {
                    let events = (after.offset + 1..=head.min(after.offset + 3))
                        .map(frame)
                        .collect();
                    let latest = Vec::new();
                    let page = Page {
                        session,
                        stream,
                        requested_from: after,
                        events,
                        head,
                        gap: None,
                        latest,
                    };
                    let message = ToEdge::Page(page);
                    edge.handle(
                        edge::Input::FromHub {
                            message,
                            charged: 0,
                            wall_ms: 0,
                        },
                        0,
                        out,
                    );
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_a_socket_takes_it_gets_every_event_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..120),
        queue_events in 1_usize..6,
    ) {
        let limits = Limits { queue_events, queue_bytes: 40, ..Limits::default() };
        let mut edge = Edge::new(limits);
        let (mut out, mut written, mut head) = (Vec::new(), Vec::new(), 0);
        open_session(&mut edge, &mut out);
        for step in steps {
            match step {
                Step::Live | Step::Lost => {
                    head += 1;
                    if matches!(step, Step::Live) {
                        let message = ToEdge::Live { stream: STREAM.into(), event: frame(head) };
                        edge.handle(edge::Input::FromHub { message, charged: 8, wall_ms: 0 }, 0, &mut out);
                    }
                }
                Step::Blocked => edge.handle(edge::Input::Blocked { session: 1 }, 0, &mut out),
                Step::Writable => edge.handle(edge::Input::Writable { session: 1 }, 0, &mut out),
            }
            settle(&mut edge, &mut out, head, &mut written);
            let queued = edge.session(1).expect("open").queued_bytes();
            prop_assert!(queued <= 40, "{queued} bytes wait");
        }
        edge.handle(edge::Input::Writable { session: 1 }, 0, &mut out);
        settle(&mut edge, &mut out, head, &mut written);
        let message = ToEdge::Behind { stream: STREAM.into(), head };
        edge.handle(edge::Input::FromHub { message, charged: 0, wall_ms: 0 }, 0, &mut out);
        settle(&mut edge, &mut out, head, &mut written);
        prop_assert_eq!(written, (1..=head).collect::<Vec<_>>());
    }
}
