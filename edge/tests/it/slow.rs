//! A client that does not read: it delays nobody, it costs a bounded amount, and
//! it is not cut off from the truth when it reads again.

use std::time::Duration;

use delivery::link::{Page, ToEdge, ToHub};
use tokio::net::TcpSocket;

use crate::world::{Client, Link, World, connect, joined, live, position, stored, token};

/// A client with a receive buffer that is soon full.
async fn narrow(world: &World, link: &mut Link, user: &str) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(world.address).await.unwrap();
    let mut client = Client::over(stream, world.address).await;
    client.say(&connect(&token(user, &[]))).await;
    link.open(0).await;
    assert_eq!(client.receive().await["type"], "connected");
    client
}

async fn stalls(world: &World) -> bool {
    !world
        .get("/metrics")
        .await
        .contains("belfry_edge_blocked_sockets 0\n")
}

#[tokio::test]
async fn a_slow_client_misses_nothing_and_delays_nobody() {
    let mut world = World::start(|config| config.send_buffer = Some(4_096)).await;
    let mut link = world.linked().await;
    let mut quick = world.connected(&mut link, "quick").await;
    let mut slow = narrow(&world, &mut link, "slow").await;
    let text = "x".repeat(10_000);
    let last = 300;
    for n in 1..=last {
        link.send(live("everyone", n, &text)).await;
        assert_eq!(quick.receive().await["offset"], n);
    }
    assert!(stalls(&world).await);

    // It reads again: what did not fit is fetched and follows in order.
    let serve = async {
        loop {
            let (session, after) = loop {
                match link.next().await {
                    ToHub::Fetch { session, after, .. } => break (session, after),
                    ToHub::Credit { .. } => {}
                    other => panic!("{other:?}"),
                }
            };
            let end = (after.offset + 5).min(last);
            let events = (after.offset + 1..=end).map(|n| stored(n, &text)).collect();
            let stream = "everyone".into();
            let page = Page {
                session,
                stream,
                requested_from: after,
                events,
                head: last,
                gap: None,
                latest: vec![],
            };
            link.send(ToEdge::Page(page)).await;
        }
    };
    let read = async {
        for n in 1..=last {
            let event = slow.receive().await;
            assert_eq!(
                (event["offset"].as_u64(), event["status"].as_str()),
                (Some(n), Some(&*text))
            );
        }
    };
    tokio::select! {
        () = serve => {}
        () = read => {}
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_closed() {
    let mut world = World::start(|config| {
        config.send_buffer = Some(4_096);
        config.write_stall = Duration::from_millis(100);
    })
    .await;
    let mut link = world.linked().await;
    let mut stopped = narrow(&world, &mut link, "u1").await;
    let text = "x".repeat(50_000);
    for n in 1..=40 {
        link.send(live("everyone", n, &text)).await;
    }
    loop {
        match link.next().await {
            ToHub::Close { .. } => break,
            ToHub::Credit { .. } | ToHub::Fetch { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // It is sent the reason, if it reads within the time that it has for that.
    let (received, close) = stopped.end().await;
    assert_eq!(u16::from(close.unwrap().code), 4008);
    assert_eq!(received.last().unwrap()["reason"], "slow_consumer");
}

#[tokio::test]
async fn pings_of_a_client_that_does_not_read_cost_nothing() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    let mut world = World::start(|config| config.send_buffer = Some(4_096)).await;
    let mut link = world.linked().await;
    let mut client = narrow(&world, &mut link, "u1").await;
    let text = "x".repeat(50_000);
    for n in 1..=20 {
        link.send(live("everyone", n, &text)).await;
    }
    while !stalls(&world).await {
        tokio::task::yield_now().await;
    }
    for _ in 0..2_000 {
        client
            .socket
            .feed(Message::Ping("0123456789".into()))
            .await
            .unwrap();
    }
    client.socket.flush().await.unwrap();
    let mut pongs = 0;
    let mut events = 0;
    while events < 20 {
        tokio::select! {
            message = client.socket.next() => match message.unwrap().unwrap() {
                Message::Pong(_) => pongs += 1,
                Message::Text(_) => events += 1,
                other => panic!("{other:?}"),
            },
            request = link.next() => if let ToHub::Fetch { session, after, .. } = request {
                let events = (after.offset + 1..=20).map(|n| stored(n, &text)).collect();
                let page = Page { session, stream: "everyone".into(), requested_from: after, events, head: 20, gap: None, latest: vec![] };
                link.send(ToEdge::Page(page)).await;
            }
        }
    }
    assert!(
        pongs < 1_000,
        "{pongs} pongs were kept for a client that did not read"
    );
    // And the session is whole.
    let joined = joined(("everyone", None), position(20), 20);
    assert_eq!(joined.at.offset, events);
}
