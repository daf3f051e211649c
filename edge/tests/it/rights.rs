//! Rights that end while events are on their way: what a token does not grant any
//! more is not delivered any more, be it live, waiting or a page of a replay
//! (guarantee G16).

use delivery::link::{Page, ToEdge, ToHub};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::world::{
    Client, EPOCH, Link, World, joined, live, position, position_text, rights, stored, token,
    token_until,
};

const QUEUE: &str = "queue:eu-1";
/// So long that few of them fill a narrow client.
const LONG: usize = 20_000;

/// A client that follows the queue from its start, and takes little at once.
async fn follower(world: &World, token: &str) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(world.address).await.unwrap();
    let mut client = Client::over(stream, world.address).await;
    let start = position_text(delivery::Position::start(EPOCH));
    let connect = json!({"type": "connect", "token": token, "queues": ["eu-1"],
                         "positions": {QUEUE: start}});
    client.say(&connect.to_string()).await;
    client
}

fn page(session: u64, after: u64, last: u64, text: &str) -> ToEdge {
    ToEdge::Page(Page {
        session,
        stream: QUEUE.into(),
        requested_from: match after {
            0 => delivery::Position::start(EPOCH),
            after => position(after),
        },
        events: (after + 1..=last).map(|n| stored(n, text)).collect(),
        head: 100,
        gap: None,
        latest: vec![],
    })
}

/// Answers the open: the queue is at `head`, the rest at its start.
async fn open(link: &mut Link, head: u64) -> u64 {
    let ToHub::Open {
        session,
        interests,
        token,
        ..
    } = link.next().await
    else {
        panic!()
    };
    let joined = interests.iter().map(|interest| {
        let at = interest.from.unwrap_or(position(0));
        let head = if &*interest.stream == QUEUE { head } else { 0 };
        joined((&interest.stream, interest.from), at, head)
    });
    let joined = joined.collect();
    link.send(ToEdge::Opened {
        session,
        rights: rights(&token),
        joined,
    })
    .await;
    session
}

/// The next request that is neither credit nor a page request.
async fn next_change(link: &mut Link) -> ToHub {
    loop {
        match link.next().await {
            ToHub::Credit { .. } | ToHub::Fetch { .. } => {}
            other => return other,
        }
    }
}

async fn until_it_waits(world: &World) {
    let none = "belfry_edge_blocked_sockets 0\n";
    while world.get("/metrics").await.contains(none) {
        tokio::task::yield_now().await;
    }
}

/// Sends a marker to the user, and returns all frames before it.
async fn all_before_marker(client: &mut Client, link: &Link) -> Vec<Value> {
    link.send(live("user:u1", 1, "marker")).await;
    let mut frames = Vec::new();
    loop {
        let frame = client.receive().await;
        if frame["status"] == "marker" {
            return frames;
        }
        frames.push(frame);
    }
}

fn of_queue(frames: &[Value]) -> usize {
    let of_queue = |frame: &&Value| frame["queue"] == "eu-1" && frame.get("offset").is_some();
    frames.iter().filter(of_queue).count()
}

/// The frames after `refreshed` are `unsubscribed` alone.
fn assert_nothing_follows(frames: &[Value]) {
    let refreshed = frames.iter().position(|f| f["type"] == "refreshed");
    let after = &frames[refreshed.expect("a new token in force") + 1..];
    let kinds: Vec<&Value> = after.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(kinds, ["unsubscribed"], "after the new token");
}

async fn refresh(client: &mut Client, queues: &[&str]) {
    let refresh = json!({"type": "refresh", "token": token("u1", queues)});
    client.say(&refresh.to_string()).await;
}

#[tokio::test]
async fn a_narrower_token_ends_a_replay_in_its_middle() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = follower(&world, &token("u1", &["eu-*"])).await;
    let session = open(&mut link, 100).await;
    assert!(matches!(link.next().await, ToHub::Fetch { .. }));
    link.send(page(session, 0, 5, "old")).await;
    assert!(matches!(link.next().await, ToHub::Fetch { .. }));
    // The next page is requested, and on its way when the rights end.
    refresh(&mut client, &["us-*"]).await;
    link.refresh().await;
    assert!(matches!(link.next().await, ToHub::Leave { .. }));
    link.send_all(vec![
        page(session, 5, 10, "too late"),
        live(QUEUE, 101, "too late"),
        ToEdge::Done { session },
    ])
    .await;
    let frames = all_before_marker(&mut client, &link).await;
    assert_eq!(of_queue(&frames), 5);
    assert_nothing_follows(&frames);
}

#[tokio::test]
async fn a_narrower_token_takes_away_what_waits_for_a_slow_client() {
    let mut world = World::start(|config| config.send_buffer = Some(4_096)).await;
    let mut link = world.linked().await;
    let mut client = follower(&world, &token("u1", &["eu-*"])).await;
    let session = open(&mut link, 0).await;
    let text = "x".repeat(LONG);
    let mut sent = 0;
    for n in 1..=20 {
        link.send(live(QUEUE, n, &text)).await;
        sent = n;
        if n == 10 {
            until_it_waits(&world).await;
        }
    }
    refresh(&mut client, &[]).await;
    link.refresh().await;
    assert!(matches!(next_change(&mut link).await, ToHub::Leave { .. }));
    link.send_all(vec![live(QUEUE, 21, "too late"), ToEdge::Done { session }])
        .await;
    let frames = all_before_marker(&mut client, &link).await;
    // What the socket was given before cannot be taken back.
    assert!(of_queue(&frames) < sent as usize, "nothing had waited");
    assert_nothing_follows(&frames);
}

#[tokio::test]
async fn a_token_that_loses_every_queue_costs_one_message() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.client().await;
    let queues: Vec<String> = (0..128).map(|n| format!("q{n}")).collect();
    let connect = json!({"type": "connect", "token": token("u1", &["*"]), "queues": queues});
    client.say(&connect.to_string()).await;
    link.open(0).await;
    assert_eq!(client.receive().await["type"], "connected");
    refresh(&mut client, &[]).await;
    link.refresh().await;
    assert_eq!(client.receive().await["type"], "refreshed");
    for _ in 0..128 {
        assert_eq!(client.receive().await["type"], "unsubscribed");
    }
    client.say(r#"{"type":"ping"}"#).await;
    assert_eq!(client.receive().await["type"], "pong");
}

#[tokio::test]
async fn nothing_of_a_replay_follows_the_end_of_the_token() {
    let mut world = World::start(|config| config.send_buffer = Some(4_096)).await;
    let mut link = world.linked().await;
    // Within its leeway: it ends in a moment.
    let mut client = follower(&world, &token_until("u1", &["eu-*"], -3)).await;
    let session = open(&mut link, 100).await;
    assert!(matches!(link.next().await, ToHub::Fetch { .. }));
    let text = "x".repeat(LONG);
    link.send(page(session, 0, 50, &text)).await;
    until_it_waits(&world).await;
    link.send(live(QUEUE, 101, "too late")).await;
    assert!(matches!(next_change(&mut link).await, ToHub::Close { .. }));
    link.send_all(vec![
        page(session, 50, 60, "too late"),
        live(QUEUE, 102, "too late"),
    ])
    .await;
    let (frames, close) = client.end().await;
    assert_eq!(u16::from(close.expect("a close frame").code), 4002);
    assert_eq!(frames.last().unwrap()["reason"], "token_expired");
    assert!(of_queue(&frames) < 50, "the rest of the page did not wait");
    assert!(frames.iter().all(|frame| frame["status"] != "too late"));
}
