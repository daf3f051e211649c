//! What is encoded is decoded again, over real protobuf bytes; what the contract
//! does not allow is refused by the name of its field.

use std::sync::Arc;

use belfry::{
    limits::{MAX_MESSAGES_PER_REQUEST, MAX_NAME_BYTES, MAX_RECEIPTS_PER_MESSAGE, MAX_TOKEN_BYTES},
    v1::{self, EdgeMessage, HubMessage, edge_message, hub_message},
};
use bytes::Bytes;
use delivery::{
    Position, Refusal, Rights, StoredEvent, StreamPattern,
    link::{
        Ephemeral, Gap, GapReason, Interest, Joined, Member, Page, Presence, ReceiptState, ToEdge,
        ToHub,
    },
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;
use wire::{
    DecodeError, check_hello, check_request, decode_to_edge, decode_to_hub, encode_to_edge,
    encode_to_hub,
};

// === any message ===

fn name() -> impl Strategy<Value = Arc<str>> {
    "[a-zé日 :/*]{1,40}".prop_map(|name| name.as_str().into())
}

fn stream() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![
        Just(Arc::from("everyone")),
        name().prop_map(|id| format!("user:{id}").into()),
        name().prop_map(|id| format!("queue:{}", id.replace('*', "+")).into()),
    ]
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(epoch, offset, check)| Position {
        epoch,
        offset,
        check,
    })
}

fn interest() -> impl Strategy<Value = Interest> {
    (stream(), option::of(position())).prop_map(|(stream, from)| Interest { stream, from })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..50).prop_map(Bytes::from)
}

fn stored() -> impl Strategy<Value = StoredEvent> {
    (any::<u64>(), any::<u32>(), bytes()).prop_map(|(offset, check, payload)| StoredEvent {
        offset,
        check,
        payload,
    })
}

fn ephemeral() -> impl Strategy<Value = Ephemeral> {
    (option::of(name()), bytes()).prop_map(|(collapse_key, payload)| Ephemeral {
        collapse_key,
        payload,
    })
}

fn gap() -> impl Strategy<Value = Gap> {
    let reason = prop_oneof![
        Just(GapReason::Trimmed),
        Just(GapReason::EpochChanged),
        Just(GapReason::Ahead),
        Just(GapReason::Forked),
    ];
    (reason, any::<u64>(), position()).prop_map(|(reason, from, to)| Gap { reason, from, to })
}

fn joined() -> impl Strategy<Value = Joined> {
    let positions = (option::of(position()), position(), any::<u64>());
    let rest = (option::of(gap()), vec(ephemeral(), 0..3));
    (stream(), positions, rest).prop_map(|(stream, (requested_from, at, head), (gap, latest))| {
        Joined {
            stream,
            requested_from,
            at,
            head,
            gap,
            latest,
        }
    })
}

fn page() -> impl Strategy<Value = Page> {
    let events = (vec(stored(), 0..3), vec(ephemeral(), 0..3));
    let place = (stream(), position(), any::<u64>(), option::of(gap()));
    (any::<u64>(), place, events).prop_map(
        |(session, (stream, requested_from, head, gap), (events, latest))| Page {
            session,
            stream,
            requested_from,
            events,
            head,
            gap,
            latest,
        },
    )
}

fn presence() -> impl Strategy<Value = Presence> {
    let member =
        (name(), any::<bool>(), any::<u64>()).prop_map(|(user, online, generation)| Member {
            user,
            online,
            generation,
        });
    let members = vec(member, 0..4).prop_map(Arc::from);
    (stream(), option::of(any::<u32>()), members).prop_map(|(stream, total, members)| Presence {
        stream,
        total,
        members,
    })
}

fn receipt_state() -> impl Strategy<Value = ReceiptState> {
    prop_oneof![
        Just(ReceiptState::Delivered),
        Just(ReceiptState::Displayed),
        Just(ReceiptState::Dismissed),
        Just(ReceiptState::Read),
    ]
}

fn token() -> impl Strategy<Value = Arc<str>> {
    "[A-Za-z0-9_.-]{1,60}".prop_map(Arc::from)
}

fn rights() -> impl Strategy<Value = Rights> {
    let exact = vec(stream().prop_map(StreamPattern::Exact), 0..3);
    let prefixes = vec(
        "queue:[a-z]{0,5}".prop_map(|p| StreamPattern::Prefix(p.into())),
        0..3,
    );
    (name(), exact, prefixes, any::<i64>(), any::<u64>()).prop_map(
        |(user, exact, prefixes, exp_unix_ms, ends_in_ms)| Rights {
            user,
            streams: exact.into_iter().chain(prefixes).collect(),
            exp_unix_ms,
            ends_in_ms,
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::NotAccepted),
        Just(Refusal::Expired),
        Just(Refusal::Revoked),
        Just(Refusal::Limit),
        Just(Refusal::Disconnected),
        Just(Refusal::TooManySessions),
    ]
}

fn to_hub() -> impl Strategy<Value = ToHub> {
    let session = any::<u64>;
    let open = (
        session(),
        token(),
        name(),
        option::of(name()),
        vec(interest(), 0..4),
    );
    prop_oneof![
        open.prop_map(
            |(session, token, public_id, device, interests)| ToHub::Open {
                session,
                token,
                device: device.unwrap_or_else(|| Arc::clone(&public_id)),
                public_id,
                interests,
            }
        ),
        (session(), token()).prop_map(|(session, token)| ToHub::Refresh { session, token }),
        session().prop_map(|session| ToHub::Close { session }),
        (session(), interest()).prop_map(|(session, interest)| ToHub::Join { session, interest }),
        (session(), stream()).prop_map(|(session, stream)| ToHub::Leave { session, stream }),
        (session(), stream(), position()).prop_map(|(session, stream, after)| ToHub::Fetch {
            session,
            stream,
            after
        }),
        (session(), vec((any::<u128>(), receipt_state()), 1..5))
            .prop_map(|(session, receipts)| ToHub::Receipts { session, receipts }),
        (session(), stream())
            .prop_map(|(session, stream)| ToHub::WatchPresence { session, stream }),
        (session(), stream())
            .prop_map(|(session, stream)| ToHub::UnwatchPresence { session, stream }),
        (any::<u32>(), any::<u64>())
            .prop_map(|(deliveries, bytes)| ToHub::Credit { deliveries, bytes }),
    ]
}

fn to_edge() -> impl Strategy<Value = ToEdge> {
    let session = any::<u64>;
    prop_oneof![
        (any::<u64>(), any::<u32>()).prop_map(|(epoch, request_window)| ToEdge::Welcome {
            epoch,
            request_window
        }),
        (session(), rights(), vec(joined(), 0..3)).prop_map(|(session, rights, joined)| {
            ToEdge::Opened {
                session,
                rights,
                joined,
            }
        }),
        (session(), rights()).prop_map(|(session, rights)| ToEdge::Refreshed { session, rights }),
        (session(), refusal()).prop_map(|(session, reason)| ToEdge::Refused { session, reason }),
        (session(), refusal()).prop_map(|(session, reason)| ToEdge::Ended { session, reason }),
        session().prop_map(|session| ToEdge::Denied { session }),
        session().prop_map(|session| ToEdge::Done { session }),
        session().prop_map(|session| ToEdge::ReceiptsAcked { session }),
        (session(), joined()).prop_map(|(session, joined)| ToEdge::Joined { session, joined }),
        page().prop_map(ToEdge::Page),
        (stream(), stored()).prop_map(|(stream, event)| ToEdge::Live { stream, event }),
        (stream(), ephemeral()).prop_map(|(stream, event)| ToEdge::Ephemeral { stream, event }),
        (stream(), any::<u64>()).prop_map(|(stream, head)| ToEdge::Behind { stream, head }),
        // Sessions are numbered from 1; 0 is the whole edge.
        (1..u64::MAX, presence())
            .prop_map(|(session, presence)| ToEdge::PresenceSnapshot { session, presence }),
        presence().prop_map(ToEdge::Presence),
        Just(ToEdge::Drain),
    ]
}

proptest! {
    #[test]
    fn every_message_to_the_hub_arrives_as_it_was_sent(message in to_hub()) {
        let sent = encode_to_hub(message.clone()).encode_to_vec();
        let received = EdgeMessage::decode(&sent[..]).unwrap();
        prop_assert_eq!(decode_to_hub(received), Ok(Some(message)));
    }

    #[test]
    fn every_message_to_an_edge_arrives_as_it_was_sent(message in to_edge()) {
        let sent = encode_to_edge(message.clone()).encode_to_vec();
        let received = HubMessage::decode(&sent[..]).unwrap();
        prop_assert_eq!(decode_to_edge(received), Ok(Some(message)));
    }

    #[test]
    fn whatever_arrives_is_a_message_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = EdgeMessage::decode(&bytes[..]) {
            let _ = decode_to_hub(message);
        }
        if let Ok(message) = HubMessage::decode(&bytes[..]) {
            let _ = decode_to_edge(message);
        }
    }
}

// === what is refused ===

fn field(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::Malformed { field, .. } => field,
        DecodeError::OutOfTurn { message, .. } => panic!("{message} is out of turn"),
    }
}

fn refused(table: Vec<(&str, edge_message::Body)>) {
    for (expected, body) in table {
        let error = decode_to_hub(EdgeMessage { body: Some(body) }).expect_err(expected);
        assert_eq!(field(&error), expected);
    }
}

#[test]
fn a_heartbeat_is_no_message() {
    let to_hub = Some(edge_message::Body::Heartbeat(v1::Heartbeat {}));
    assert_eq!(decode_to_hub(EdgeMessage { body: to_hub }), Ok(None));
    let to_edge = Some(hub_message::Body::Heartbeat(v1::Heartbeat {}));
    assert_eq!(decode_to_edge(HubMessage { body: to_edge }), Ok(None));
}

#[test]
fn a_bad_open_is_refused_by_its_field() {
    let long = || "x".repeat(MAX_NAME_BYTES + 1);
    let open = |change: &dyn Fn(&mut v1::OpenSession)| {
        let mut open = v1::OpenSession {
            session: 1,
            token: "t".into(),
            session_id: "s".into(),
            ..Default::default()
        };
        change(&mut open);
        edge_message::Body::Open(open)
    };
    let interest = |stream: &str| v1::Interest {
        stream: stream.into(),
        from: None,
    };
    refused(vec![
        (
            "open.session_id",
            open(&|open| open.session_id = String::new()),
        ),
        ("open.token", open(&|open| open.token = String::new())),
        (
            "open.token",
            open(&|open| open.token = "x".repeat(MAX_TOKEN_BYTES + 1)),
        ),
        ("open.device", open(&|open| open.device = long())),
        (
            "open.device",
            open(&|open| open.device = "a\u{2028}b".into()),
        ),
        (
            "open.interests.stream",
            open(&|open| open.interests = vec![interest("queue:a*")]),
        ),
        (
            "open.interests.stream",
            open(&|open| open.interests = vec![interest("all")]),
        ),
        (
            "open.interests.stream",
            open(&|open| open.interests = vec![interest("user:")]),
        ),
    ]);
}

#[test]
fn a_stream_or_position_that_is_missing_or_bad_is_named() {
    use edge_message::Body;

    let queue = format!("queue:{}", "x".repeat(MAX_NAME_BYTES + 1));
    let join = |interest| {
        Body::Join(v1::JoinStream {
            session: 1,
            interest,
        })
    };
    let fetch = |stream: &str| v1::Fetch {
        stream: stream.into(),
        ..Default::default()
    };
    let leave = v1::LeaveStream {
        session: 1,
        stream: queue,
    };
    refused(vec![
        ("join.interest", join(None)),
        ("join.interest.stream", join(Some(v1::Interest::default()))),
        ("leave.stream", Body::Leave(leave)),
        ("fetch.stream", Body::Fetch(fetch("everybody"))),
        ("fetch.after", Body::Fetch(fetch("everyone"))),
        (
            "watch_presence.stream",
            Body::WatchPresence(v1::WatchStreamPresence::default()),
        ),
        (
            "unwatch_presence.stream",
            Body::UnwatchPresence(v1::UnwatchStreamPresence::default()),
        ),
    ]);
}

#[test]
fn bad_receipts_are_named() {
    let receipts = |id_bytes: usize, state: i32, count: usize| {
        let receipt = v1::EventReceipt {
            event_id: vec![1; id_bytes].into(),
            state,
        };
        edge_message::Body::Receipts(v1::Receipts {
            session: 1,
            receipts: vec![receipt; count],
        })
    };
    let expired = v1::ReceiptState::Expired.into();
    refused(vec![
        ("receipts.receipts", receipts(16, 1, 0)),
        (
            "receipts.receipts",
            receipts(16, 1, MAX_RECEIPTS_PER_MESSAGE + 1),
        ),
        ("receipts.receipts.event_id", receipts(15, 1, 1)),
        ("receipts.receipts.state", receipts(16, 0, 1)),
        ("receipts.receipts.state", receipts(16, expired, 1)),
        ("receipts.receipts.state", receipts(16, 99, 1)),
    ]);
}

#[test]
fn a_batch_has_1_to_256_messages_and_a_hello_has_a_name() {
    let count = |count| v1::AttachRequest {
        messages: vec![EdgeMessage { body: None }; count],
    };
    assert_eq!(check_request(&count(1)), Ok(()));
    for bad in [0, MAX_MESSAGES_PER_REQUEST + 1] {
        assert_eq!(field(&check_request(&count(bad)).unwrap_err()), "messages");
    }
    let nameless = check_hello(&v1::Hello::default()).unwrap_err();
    assert_eq!(field(&nameless), "hello.edge");
    let empty = decode_to_hub(EdgeMessage { body: None }).unwrap_err();
    assert_eq!(field(&empty), "body");
}

#[test]
fn a_second_hello_is_out_of_turn() {
    let body = Some(edge_message::Body::Hello(v1::Hello::default()));
    let error = decode_to_hub(EdgeMessage { body }).unwrap_err();
    assert!(matches!(
        error,
        DecodeError::OutOfTurn {
            message: "hello",
            ..
        }
    ));
}

#[test]
fn what_a_hub_may_not_send_is_named() {
    use hub_message::Body;

    let gap = |reason, to| v1::Page {
        requested_from: Some(v1::Position::default()),
        gap: Some(v1::Gap {
            reason,
            to,
            ..Default::default()
        }),
        ..Default::default()
    };
    let table = [
        ("joined.at", Body::Joined(v1::StreamJoined::default())),
        ("live.event", Body::Live(v1::Live::default())),
        ("page.requested_from", Body::Page(v1::Page::default())),
        (
            "gap.reason",
            Body::Page(gap(0, Some(v1::Position::default()))),
        ),
        (
            "gap.reason",
            Body::Page(gap(99, Some(v1::Position::default()))),
        ),
        ("gap.to", Body::Page(gap(1, None))),
    ];
    for (expected, body) in table {
        let error = decode_to_edge(HubMessage { body: Some(body) }).expect_err(expected);
        assert_eq!(field(&error), expected);
    }
    let newer = decode_to_edge(HubMessage { body: None });
    assert_eq!(newer, Ok(None), "a message of a newer contract is skipped");
}
