//! What a session keeps for the link, and what it sends a client that does not
//! read.

use bytes::Bytes;
use delivery::{
    Limits, Position, StoredEvent,
    edge::{ClientMessage, Edge, Input, LinkEnd, Notice, Output},
    link::{
        Ephemeral, Gap, GapReason, Interest, Joined, Member, Page, Presence, ReceiptState, ToEdge,
        ToHub,
    },
    session::Session,
};

use crate::world::{queue, rights};

struct Driver {
    edge: Edge,
    to_hub: Vec<ToHub>,
    reported: Vec<Notice>,
    /// Offsets that the client was given, counted.
    written: Vec<u64>,
}

impl Driver {
    fn new(limits: Limits) -> Self {
        let mut driver = Self {
            edge: Edge::new(limits),
            to_hub: Vec::new(),
            reported: Vec::new(),
            written: Vec::new(),
        };
        driver.welcome();
        driver.feed(Input::Open {
            session: 1,
            user: "u1".into(),
            public_id: "s1".into(),
            device: "laptop".into(),
            interests: vec![Interest {
                stream: queue(),
                from: None,
            }],
            token: "t1".into(),
        });
        driver.opened(None);
        driver
    }

    fn lose_link(&mut self) {
        self.feed(Input::LinkDown {
            end: LinkEnd::Lost,
            pause_ms: 0,
        });
    }

    fn feed(&mut self, input: Input) {
        let mut out = Vec::new();
        self.edge.handle(input, 0, &mut out);
        for output in out {
            match output {
                Output::ToHub(message) => self.to_hub.push(message),
                Output::Notify { notice, .. } => self.reported.push(notice),
                Output::Write { .. } => self.written.push(self.written.len() as u64 + 1),
                other => panic!("{other:?}"),
            }
        }
    }

    fn receive(&mut self, message: ToEdge) {
        let charged = 0;
        self.feed(Input::FromHub {
            message,
            charged,
            wall_ms: 0,
        });
    }

    fn welcome(&mut self) {
        let request_window = 16;
        self.receive(ToEdge::Welcome {
            epoch: 1,
            request_window,
        });
    }

    fn opened(&mut self, requested_from: Option<Position>) {
        let joined = Joined {
            stream: queue(),
            requested_from,
            at: Position::start(1),
            head: 0,
            gap: None,
            latest: Vec::new(),
        };
        self.receive(ToEdge::Opened {
            session: 1,
            rights: rights("u1"),
            joined: vec![joined],
        });
    }

    fn report(&mut self, event: u128, state: ReceiptState) {
        self.feed(Input::Receipts {
            session: 1,
            receipts: vec![(event, state)],
        });
    }

    /// Receipts that the hub was sent, by message.
    fn reported(&mut self) -> Vec<Vec<(u128, ReceiptState)>> {
        let sent = self.to_hub.drain(..).filter_map(|message| match message {
            ToHub::Receipts { receipts, .. } => Some(receipts),
            _ => None,
        });
        sent.collect()
    }

    fn watches(&mut self) -> usize {
        let watch = |message: &ToHub| matches!(message, ToHub::WatchPresence { .. });
        self.to_hub.drain(..).filter(watch).count()
    }

    fn presence(&mut self) -> Vec<Presence> {
        let reported = self.reported.drain(..).filter_map(|notice| match notice {
            Notice::Presence(presence) => Some(presence),
            _ => None,
        });
        reported.collect()
    }
}

fn presence(total: Option<u32>) -> Presence {
    let members = [Member {
        user: "u2".into(),
        online: true,
        generation: 3,
    }];
    Presence {
        stream: queue(),
        total,
        members: members.into(),
    }
}

#[test]
fn receipts_wait_for_the_answer_before_and_only_the_highest_state_goes_out() {
    let mut driver = Driver::new(Limits::default());
    driver.report(1, ReceiptState::Delivered);
    assert_eq!(driver.reported(), [[(1, ReceiptState::Delivered)]]);
    driver.report(1, ReceiptState::Read);
    driver.report(1, ReceiptState::Displayed);
    driver.report(2, ReceiptState::Delivered);
    assert!(driver.reported().is_empty());
    driver.receive(ToEdge::ReceiptsAcked { session: 1 });
    let both = [(1, ReceiptState::Read), (2, ReceiptState::Delivered)];
    assert_eq!(driver.reported(), [both]);
    driver.receive(ToEdge::ReceiptsAcked { session: 1 });
    assert!(driver.reported().is_empty());
}

#[test]
fn receipts_that_the_hub_may_not_have_received_are_sent_again_on_the_next_link() {
    let mut driver = Driver::new(Limits::default());
    driver.report(1, ReceiptState::Delivered);
    driver.reported();
    driver.report(2, ReceiptState::Delivered);
    driver.lose_link();
    driver.report(1, ReceiptState::Read);
    assert!(driver.reported().is_empty());
    driver.welcome();
    driver.opened(Some(Position::start(1)));
    let all = [(1, ReceiptState::Read), (2, ReceiptState::Delivered)];
    assert_eq!(driver.reported(), [all]);
}

#[test]
fn receipts_that_wait_are_bounded_and_the_oldest_go_first() {
    let mut driver = Driver::new(Limits {
        session_receipts: 2,
        ..Limits::default()
    });
    driver.lose_link();
    for event in 1..=5 {
        driver.report(event, ReceiptState::Delivered);
    }
    driver.welcome();
    driver.opened(Some(Position::start(1)));
    let newest = [(4, ReceiptState::Delivered), (5, ReceiptState::Delivered)];
    assert_eq!(driver.reported(), [newest]);
    assert_eq!(driver.edge.stats().receipts_dropped, 3);
}

#[test]
fn presence_is_watched_again_on_the_next_link() {
    let mut driver = Driver::new(Limits::default());
    let stream = queue();
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::WatchPresence { stream },
    });
    assert_eq!(driver.watches(), 1);
    driver.lose_link();
    driver.welcome();
    driver.opened(Some(Position::start(1)));
    assert_eq!(driver.watches(), 1);
}

#[test]
fn a_client_that_does_not_read_gets_a_new_snapshot_of_presence_once_it_does() {
    let mut driver = Driver::new(Limits::default());
    let stream = queue();
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::WatchPresence { stream },
    });
    driver.watches();
    let now = ToEdge::PresenceSnapshot {
        session: 1,
        presence: presence(Some(1)),
    };
    driver.receive(now.clone());
    driver.receive(ToEdge::Presence(presence(None)));
    assert_eq!(driver.presence().len(), 2);
    driver.feed(Input::Blocked { session: 1 });
    for _ in 0..1_000 {
        driver.receive(ToEdge::Presence(presence(None)));
    }
    driver.feed(Input::Writable { session: 1 });
    assert!(driver.presence().is_empty(), "nothing was queued");
    assert_eq!(driver.watches(), 1);
    // Changes that come before the snapshot do not make a whole.
    driver.receive(ToEdge::Presence(presence(None)));
    assert!(driver.presence().is_empty());
    driver.feed(Input::Blocked { session: 1 });
    driver.feed(Input::Writable { session: 1 });
    assert_eq!(driver.watches(), 0, "it was requested already");
    driver.receive(now);
    assert_eq!(driver.presence(), [presence(Some(1))]);
}

#[test]
fn presence_of_a_queue_that_is_not_followed_is_refused_and_unwatched_is_unwatched() {
    let mut driver = Driver::new(Limits::default());
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::WatchPresence {
            stream: "queue:other".into(),
        },
    });
    assert!(matches!(
        driver.reported.pop(),
        Some(Notice::NotFollowed { .. })
    ));
    let stream = queue();
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::WatchPresence { stream },
    });
    let stream = queue();
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::UnwatchPresence { stream },
    });
    driver.receive(ToEdge::Presence(presence(None)));
    assert!(driver.presence().is_empty());
}

fn stored(offset: u64) -> StoredEvent {
    StoredEvent {
        offset,
        check: 1,
        payload: Bytes::from_static(b"frame"),
    }
}

fn page(requested_from: u64, offset: u64) -> ToEdge {
    ToEdge::Page(Page {
        session: 1,
        stream: queue(),
        requested_from: Position {
            epoch: 1,
            offset: requested_from,
            check: u32::from(requested_from > 0),
        },
        events: vec![stored(offset)],
        head: 9,
        gap: None,
        latest: Vec::new(),
    })
}

#[test]
fn the_answer_to_a_subscription_that_ended_is_not_taken_for_the_newer_ones() {
    let mut driver = Driver::new(Limits::default());
    let (stream, head) = (queue(), 9);
    driver.receive(ToEdge::Behind { stream, head });
    let stream = queue();
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::Unsubscribe { stream },
    });
    let from = Some(Position::start(1));
    let stream = queue();
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::Subscribe { stream, from },
    });
    let joined = Joined {
        stream: queue(),
        requested_from: from,
        at: Position::start(1),
        head,
        gap: None,
        latest: Vec::new(),
    };
    let other = Joined {
        requested_from: None,
        at: Position {
            epoch: 1,
            offset: 9,
            check: 1,
        },
        ..joined.clone()
    };
    // The older of two answers says that it stands at the head: not what was requested.
    for joined in [other, joined] {
        driver.receive(ToEdge::Joined { session: 1, joined });
    }
    driver.to_hub.clear();
    driver.receive(page(0, 1));
    // Now the second page was requested; the first one's duplicate comes.
    driver.receive(page(0, 1));
    assert_eq!(driver.written, [1]);
    let stands = driver.edge.session(1).and_then(|s| s.position("queue:q"));
    assert_eq!(stands.map(|at| at.offset), Some(1));
    driver.receive(page(1, 2));
    assert_eq!(driver.written, [1, 2]);
}

fn live(offset: u64) -> ToEdge {
    ToEdge::Live {
        stream: queue(),
        event: stored(offset),
    }
}

#[test]
fn nothing_of_a_stream_that_was_left_follows_once_the_client_reads_again() {
    let mut driver = Driver::new(Limits::default());
    driver.feed(Input::Blocked { session: 1 });
    let (stream, key) = (queue(), "job-1");
    driver.receive(live(1));
    driver.receive(ToEdge::Ephemeral {
        stream: stream.clone(),
        event: Ephemeral {
            collapse_key: Some(key.into()),
            payload: Bytes::from_static(b"progress"),
        },
    });
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::Ping,
    });
    assert!(driver.edge.session(1).is_some_and(|s| s.queued_bytes() > 0));
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::Unsubscribe { stream },
    });
    driver.reported.clear();
    assert_eq!(driver.edge.session(1).map(Session::queued_bytes), Some(0));
    // Live events that were on the way come too late.
    driver.receive(live(2));
    driver.feed(Input::Writable { session: 1 });
    assert_eq!(driver.written, [0_u64; 0], "events of the stream were kept");
    assert!(
        matches!(
            &driver.reported[..],
            [Notice::Pong, Notice::Unsubscribed { .. }]
        ),
        "{:?}",
        driver.reported
    );
}

#[test]
fn what_waits_of_other_streams_stays_when_one_is_left() {
    let mut driver = Driver::new(Limits::default());
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::Subscribe {
            stream: "queue:other".into(),
            from: None,
        },
    });
    let at = Position::start(1);
    driver.receive(ToEdge::Joined {
        session: 1,
        joined: Joined {
            stream: "queue:other".into(),
            requested_from: None,
            at,
            head: 0,
            gap: None,
            latest: Vec::new(),
        },
    });
    driver.feed(Input::Blocked { session: 1 });
    driver.receive(live(1));
    let stream = "queue:other".into();
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::Unsubscribe { stream },
    });
    driver.feed(Input::Writable { session: 1 });
    assert_eq!(driver.written, [1]);
}

#[test]
fn a_gap_that_waits_goes_with_the_events_before_it_when_its_stream_is_left() {
    let mut driver = Driver::new(Limits::default());
    driver.feed(Input::Blocked { session: 1 });
    driver.receive(live(1));
    driver.lose_link();
    driver.welcome();
    let stands = Position {
        epoch: 1,
        offset: 1,
        check: 1,
    };
    let to = Position {
        offset: 9,
        ..stands
    };
    let gap = Gap {
        reason: GapReason::Trimmed,
        from: 1,
        to,
    };
    driver.receive(ToEdge::Opened {
        session: 1,
        rights: rights("u1"),
        joined: vec![Joined {
            stream: queue(),
            requested_from: Some(stands),
            at: to,
            head: 9,
            gap: Some(gap),
            latest: Vec::new(),
        }],
    });
    let stream = queue();
    driver.feed(Input::Client {
        session: 1,
        message: ClientMessage::Unsubscribe { stream },
    });
    driver.feed(Input::Writable { session: 1 });
    // The client never had event 1: a gap from there would hide it.
    assert_eq!(driver.written, [0_u64; 0]);
    let gaps = driver.reported.iter();
    assert_eq!(gaps.filter(|n| matches!(n, Notice::Gap { .. })).count(), 0);
}
