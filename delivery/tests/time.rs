//! What time does to a session: pings, silence, stalls, tokens, a drain.

use delivery::{
    Limits, Millis, Rights,
    edge::{ClientMessage, CloseReason, Edge, Frames, Input, LinkEnd, Notice, Output},
    link::{ToEdge, ToHub},
};

const LIMITS_PING_MS: Millis = 30_000;

/// What the wall clock shows at the start.
const WALL_MS: i64 = 1_700_000_000_000;

/// An edge with sessions that all have a token that ends after `lasts_ms`.
fn edge_with(sessions: u64, lasts_ms: Millis) -> Edge {
    let mut edge = Edge::new(Limits::default());
    let mut out = Vec::new();
    let message = ToEdge::Welcome {
        epoch: 1,
        request_window: 256,
    };
    edge.handle(from_hub(message), 0, &mut out);
    for session in 1..=sessions {
        let (user, interests) = ("u".into(), Vec::new());
        let open = Input::Open {
            session,
            user,
            device: "d".into(),
            public_id: "s".into(),
            interests,
            token: "t".into(),
        };
        edge.handle(open, 0, &mut out);
        let opened = ToEdge::Opened {
            session,
            rights: rights(lasts_ms),
            joined: Vec::new(),
        };
        edge.handle(from_hub(opened), 0, &mut out);
    }
    edge
}

fn from_hub(message: ToEdge) -> Input {
    Input::FromHub {
        message,
        charged: 0,
        wall_ms: WALL_MS,
    }
}

fn rights(ends_in_ms: Millis) -> Rights {
    Rights {
        user: "u".into(),
        streams: [].into(),
        exp_unix_ms: 0,
        ends_in_ms,
    }
}

/// Lets time pass as a driver would, until `until`; gives what happened to clients,
/// and when.
fn pass(edge: &mut Edge, until: Millis) -> Vec<(Millis, Output)> {
    let mut happened = Vec::new();
    while let Some(deadline) = edge.next_deadline().filter(|deadline| *deadline <= until) {
        let mut out = Vec::new();
        let wall_ms = WALL_MS + deadline.cast_signed();
        edge.handle(Input::Deadline { wall_ms }, deadline, &mut out);
        out.retain(|output| !matches!(output, Output::ToHub(_)));
        happened.extend(out.into_iter().map(|output| (deadline, output)));
        assert!(
            edge.next_deadline().is_none_or(|next| next > deadline),
            "time moves on"
        );
    }
    happened
}

fn closed(session: u64, reason: CloseReason) -> Output {
    Output::Close {
        session,
        reason,
        retry_after_ms: None,
    }
}

#[test]
fn a_silent_client_is_pinged_at_30_s_and_closed_at_60_s() {
    let mut edge = edge_with(1, Millis::MAX);
    let happened = pass(&mut edge, 100_000);
    let expected = [
        (30_000, Output::Ping { session: 1 }),
        (60_000, closed(1, CloseReason::Timeout)),
    ];
    assert_eq!(happened, expected);
}

#[test]
fn a_client_that_answers_pings_stays() {
    let mut edge = edge_with(1, Millis::MAX);
    for round in 1..100 {
        let happened = pass(&mut edge, round * LIMITS_PING_MS);
        assert_eq!(
            happened,
            [(round * LIMITS_PING_MS, Output::Ping { session: 1 })]
        );
        edge.handle(
            Input::Received {
                session: 1,
                frames: Frames::Pongs,
            },
            round * LIMITS_PING_MS + 50,
            &mut Vec::new(),
        );
    }
}

/// Says that frames without a message came, once; the closes that follow.
fn receive(edge: &mut Edge, frames: Frames, now: Millis) -> Vec<Output> {
    let mut out = Vec::new();
    let received = Input::Received { session: 1, frames };
    edge.handle(received, now, &mut out);
    out.retain(|output| matches!(output, Output::Close { .. }));
    out
}

#[test]
fn pings_take_from_the_messages_of_a_client_and_answers_to_the_edge_do_not() {
    for (frames, before) in [(Frames::Counted, 0), (Frames::Pongs, 1)] {
        let mut edge = edge_with(1, Millis::MAX);
        pass(&mut edge, LIMITS_PING_MS);
        // Of pongs, one answers the ping.
        for _ in 0..before + 100 {
            assert_eq!(receive(&mut edge, frames, LIMITS_PING_MS), []);
        }
        let limited = Output::Close {
            session: 1,
            reason: CloseReason::RateLimited,
            retry_after_ms: Some(600),
        };
        assert_eq!(receive(&mut edge, frames, LIMITS_PING_MS), [limited]);
    }
}

#[test]
fn a_session_ends_with_its_token_unless_it_is_refreshed() {
    let mut edge = edge_with(2, 10_000);
    let mut out = Vec::new();
    let message = ClientMessage::Refresh { token: "t2".into() };
    let refresh = Input::Client {
        session: 2,
        message,
    };
    edge.handle(refresh, 9_000, &mut out);
    let requested = ToHub::Refresh {
        session: 2,
        token: "t2".into(),
    };
    assert_eq!(out, [Output::ToHub(requested)]);
    let refreshed = ToEdge::Refreshed {
        session: 2,
        rights: rights(16_000),
    };
    out.clear();
    let refreshed = Input::FromHub {
        message: refreshed,
        charged: 0,
        wall_ms: WALL_MS + 9_000,
    };
    edge.handle(refreshed, 9_000, &mut out);
    let notice = Notice::Refreshed {
        exp_unix_ms: 0,
        expires_in_ms: 16_000,
    };
    assert_eq!(out, [Output::Notify { session: 2, notice }]);
    let happened = pass(&mut edge, 29_000);
    let expected = [
        (10_000, closed(1, CloseReason::TokenExpired)),
        (25_000, closed(2, CloseReason::TokenExpired)),
    ];
    assert_eq!(happened, expected);
}

#[test]
fn a_socket_that_takes_nothing_for_15_s_is_closed_and_one_that_takes_some_is_not() {
    let mut edge = edge_with(2, Millis::MAX);
    let mut out = Vec::new();
    for session in [1, 2] {
        edge.handle(Input::Blocked { session }, 1_000, &mut out);
    }
    edge.handle(Input::Blocked { session: 2 }, 10_000, &mut out);
    assert_eq!(
        pass(&mut edge, 20_000),
        [(16_000, closed(1, CloseReason::SlowConsumer))]
    );
    edge.handle(Input::Writable { session: 2 }, 20_000, &mut out);
    assert_eq!(pass(&mut edge, 29_999), []);
}

#[test]
fn a_drain_closes_everybody_in_time_few_at_a_time_and_spreads_their_return() {
    let mut edge = edge_with(1_000, Millis::MAX);
    let mut out = Vec::new();
    edge.handle(Input::Drain { over_ms: 5_000 }, 0, &mut out);
    let happened = pass(&mut edge, 5_000);
    assert_eq!(happened.len(), 1_000);
    let mut returns = Vec::new();
    let mut by_step = std::collections::BTreeMap::new();
    for (at, output) in happened {
        let Output::Close {
            reason: CloseReason::Restart,
            retry_after_ms,
            ..
        } = output
        else {
            panic!("{output:?}")
        };
        *by_step.entry(at).or_insert(0) += 1;
        returns.push(at + retry_after_ms.expect("a hint"));
    }
    assert!(by_step.values().all(|count| *count <= 12), "{by_step:?}");
    let most = (0..11).map(|second| {
        returns
            .iter()
            .filter(|at| (second * 1_000..(second + 1) * 1_000).contains(*at))
            .count()
    });
    assert!(most.max().expect("seconds") <= 250, "no storm of returns");
}

#[test]
fn more_than_a_hundred_messages_in_a_minute_are_too_many() {
    let mut edge = edge_with(1, Millis::MAX);
    let mut out = Vec::new();
    for _ in 0..100 {
        edge.handle(
            Input::Client {
                session: 1,
                message: ClientMessage::Ping,
            },
            1_000,
            &mut out,
        );
    }
    assert!(
        !out.iter()
            .any(|output| matches!(output, Output::Close { .. }))
    );
    edge.handle(
        Input::Client {
            session: 1,
            message: ClientMessage::Ping,
        },
        1_000,
        &mut out,
    );
    let reason = CloseReason::RateLimited;
    let last = Output::Close {
        session: 1,
        reason,
        retry_after_ms: Some(600),
    };
    assert!(out.contains(&last), "{out:?}");
}

/// The deadline at which session 1 ends, with a wall clock that is set by
/// `set_ms` after the first look at it.
fn ends_at(lasts_ms: Millis, set_ms: i64) -> Millis {
    let mut edge = edge_with(1, lasts_ms);
    let mut out = Vec::new();
    let mut set_by = 0;
    loop {
        let deadline = edge.next_deadline().expect("a session is open");
        let wall_ms = WALL_MS + deadline.cast_signed() + set_by;
        edge.handle(Input::Deadline { wall_ms }, deadline, &mut out);
        edge.handle(
            Input::Received {
                session: 1,
                frames: Frames::Pongs,
            },
            deadline,
            &mut out,
        );
        if out.contains(&closed(1, CloseReason::TokenExpired)) {
            return deadline;
        }
        set_by = set_ms;
    }
}

#[test]
fn a_wall_clock_that_is_set_forward_ends_sessions_sooner() {
    assert_eq!(ends_at(100_000, 0), 100_000);
    assert_eq!(ends_at(100_000, 1_000_000), 5_000, "at the next look");
    assert_eq!(ends_at(100_000, 40_000), 60_000, "not before its time");
    assert_eq!(ends_at(100_000, 500), 100_000, "drift");
}

#[test]
fn a_wall_clock_that_is_set_back_ends_no_session_later() {
    assert_eq!(ends_at(100_000, -3_600_000), 100_000);
}

/// When the next link is made after `end`, with a pause of 70 ms.
fn connects_after(end: LinkEnd) -> Millis {
    let mut edge = edge_with(0, Millis::MAX);
    let mut out = Vec::new();
    edge.handle(Input::LinkDown { end, pause_ms: 70 }, 1_000, &mut out);
    let at = edge.next_deadline().expect("it makes another link");
    assert!(out.is_empty());
    let wall_ms = WALL_MS;
    edge.handle(Input::Deadline { wall_ms }, at, &mut out);
    assert_eq!(out, [Output::Connect]);
    assert_eq!(edge.next_deadline(), None, "one attempt at a time");
    at - 1_000
}

#[test]
fn a_lost_link_is_made_again_and_one_that_a_namesake_took_after_30_s_more() {
    assert_eq!(connects_after(LinkEnd::Lost), 70);
    assert_eq!(connects_after(LinkEnd::Replaced), 30_070);
}
