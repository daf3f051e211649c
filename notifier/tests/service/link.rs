//! Links: one scenario over both kinds, and what breaks a link.

use std::sync::Arc;

use belfry::v1::{
    self, AttachRequest, AttachResponse, EdgeMessage, Hello, OpenSession,
    edge_gateway_client::EdgeGatewayClient, edge_message, hub_message,
};
use delivery::{
    Position,
    link::{Interest, ToEdge, ToHub},
};
use notifier::{Channels, Store};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::world::{SOON, World, bearer, config, status, user_token};

/// What both kinds of link can do, as the contract names it.
#[allow(clippy::large_enum_variant)] // One of each test.
enum Link {
    Local(Channels, Vec<ToEdge>),
    Grpc(
        mpsc::Sender<AttachRequest>,
        Streaming<AttachResponse>,
        Vec<v1::HubMessage>,
    ),
}

impl Link {
    fn local(world: &World) -> Self {
        Link::Local(
            world.gateway.attach("edge-1", 64, 1 << 20).unwrap(),
            Vec::new(),
        )
    }

    async fn grpc(world: &World) -> Self {
        let (requests, responses) = attach(world, hello(2)).await.unwrap();
        Link::Grpc(requests, responses, Vec::new())
    }

    async fn open(&self, session: u64, from: Option<Position>) {
        match self {
            Link::Local((to_hub, _), _) => {
                let interests = vec![Interest {
                    stream: "user:u1".into(),
                    from,
                }];
                let public_id: Arc<str> = "s-1".into();
                let open = ToHub::Open {
                    session,
                    token: user_token("u1"),
                    device: Arc::clone(&public_id),
                    public_id,
                    interests,
                };
                to_hub.send(vec![open]).await.unwrap();
            }
            Link::Grpc(requests, ..) => {
                let from = from.map(|p| v1::Position {
                    epoch: p.epoch,
                    offset: p.offset,
                    check: p.check,
                });
                let interests = vec![v1::Interest {
                    stream: "user:u1".into(),
                    from,
                }];
                let open = OpenSession {
                    session,
                    token: user_token("u1").to_string(),
                    interests,
                    session_id: "s-1".into(),
                    device: String::new(),
                };
                requests
                    .send(batch(edge_message::Body::Open(open)))
                    .await
                    .unwrap();
            }
        }
    }

    async fn fetch(&self, session: u64, after: Position) {
        let stream = "user:u1";
        match self {
            Link::Local((to_hub, _), _) => {
                let fetch = ToHub::Fetch {
                    session,
                    stream: stream.into(),
                    after,
                };
                to_hub.send(vec![fetch]).await.unwrap();
            }
            Link::Grpc(requests, ..) => {
                let Position {
                    epoch,
                    offset,
                    check,
                } = after;
                let after = Some(v1::Position {
                    epoch,
                    offset,
                    check,
                });
                let fetch = v1::Fetch {
                    session,
                    stream: stream.into(),
                    after,
                };
                requests
                    .send(batch(edge_message::Body::Fetch(fetch)))
                    .await
                    .unwrap();
            }
        }
    }

    /// The next message, as a short summary.
    async fn next(&mut self) -> String {
        let next = async {
            match self {
                Link::Local((_, from_hub), ready) => {
                    while ready.is_empty() {
                        *ready = from_hub.recv().await.expect("the link is up");
                    }
                    local_summary(&ready.remove(0))
                }
                Link::Grpc(_, responses, ready) => {
                    while ready.is_empty() {
                        *ready = responses
                            .message()
                            .await
                            .unwrap()
                            .expect("the link is up")
                            .messages;
                    }
                    grpc_summary(&ready.remove(0))
                }
            }
        };
        timeout(SOON, next).await.expect("a message in time")
    }
}

fn local_summary(message: &ToEdge) -> String {
    match message {
        ToEdge::Welcome { .. } => "welcome".into(),
        ToEdge::Opened {
            session, joined, ..
        } => {
            format!(
                "opened {session} at {} of {}",
                joined[0].at.offset, joined[0].head
            )
        }
        ToEdge::Live { stream, event } => format!("live {stream} {}", event.offset),
        ToEdge::Page(page) => {
            let offsets: Vec<_> = page.events.iter().map(|event| event.offset).collect();
            format!("page {offsets:?} of {}", page.head)
        }
        other => format!("{other:?}"),
    }
}

fn grpc_summary(message: &v1::HubMessage) -> String {
    match message.body.as_ref().expect("a body") {
        hub_message::Body::Welcome(_) => "welcome".into(),
        hub_message::Body::Opened(opened) => {
            let joined = &opened.joined[0];
            format!(
                "opened {} at {} of {}",
                opened.session,
                joined.at.unwrap().offset,
                joined.head
            )
        }
        hub_message::Body::Live(live) => match live.event.as_ref().expect("an event") {
            v1::live::Event::Stored(event) => format!("live {} {}", live.stream, event.offset),
            v1::live::Event::Ephemeral(_) => format!("live {} ephemeral", live.stream),
        },
        hub_message::Body::Page(page) => {
            let offsets: Vec<_> = page.events.iter().map(|event| event.offset).collect();
            format!("page {offsets:?} of {}", page.head)
        }
        other => format!("{other:?}"),
    }
}

fn batch(body: edge_message::Body) -> AttachRequest {
    AttachRequest {
        messages: vec![EdgeMessage { body: Some(body) }],
    }
}

fn hello(protocol_version: u32) -> AttachRequest {
    let credit = Some(v1::Credit {
        deliveries: 64,
        bytes: 1 << 20,
    });
    batch(edge_message::Body::Hello(Hello {
        edge: "edge-1".into(),
        protocol_version,
        credit,
    }))
}

/// A first batch under another name.
fn hello_as(edge: &str) -> AttachRequest {
    let mut first = hello(2);
    if let Some(edge_message::Body::Hello(hello)) = &mut first.messages[0].body {
        hello.edge = edge.into();
    }
    first
}

async fn attach(
    world: &World,
    first: AttachRequest,
) -> Result<(mpsc::Sender<AttachRequest>, Streaming<AttachResponse>), Status> {
    let (requests, open) = mpsc::channel(8);
    requests.send(first).await.unwrap();
    let token = bearer("edge-1", "edge");
    let mut client = EdgeGatewayClient::with_interceptor(world.channel().await, token);
    let responses = client.attach(ReceiverStream::new(open)).await?;
    Ok((requests, responses.into_inner()))
}

/// Replay and live, the same over every kind of link.
async fn scenario(world: &World, mut link: Link) {
    let mut publisher = world.publisher().await;
    let first = publisher
        .publish(status("u1", "a"))
        .await
        .unwrap()
        .into_inner();
    let epoch = first.placements[0].position.unwrap().epoch;
    publisher.publish(status("u1", "b")).await.unwrap();
    assert_eq!(link.next().await, "welcome");
    link.open(7, Some(Position::start(epoch))).await;
    assert_eq!(link.next().await, "opened 7 at 0 of 2");
    link.fetch(7, Position::start(epoch)).await;
    assert_eq!(link.next().await, "page [1, 2] of 2");
    publisher.publish(status("u1", "c")).await.unwrap();
    publisher.publish(status("u2", "not for u1")).await.unwrap();
    publisher.publish(status("u1", "d")).await.unwrap();
    assert_eq!(link.next().await, "live user:u1 3");
    assert_eq!(link.next().await, "live user:u1 4");
}

#[tokio::test]
async fn replay_and_live_meet_on_a_link_in_memory() {
    let world = World::start(config(Store::Memory)).await;
    let link = Link::local(&world);
    scenario(&world, link).await;
    world.end().await;
}

#[tokio::test]
async fn replay_and_live_meet_on_a_link_over_grpc() {
    let world = World::start(config(Store::Memory)).await;
    let link = Link::grpc(&world).await;
    scenario(&world, link).await;
    world.end().await;
}

#[tokio::test]
async fn a_link_that_breaks_the_protocol_ends_alone() {
    let world = World::start(config(Store::Memory)).await;
    let mut healthy = Link::local(&world);
    assert_eq!(healthy.next().await, "welcome");
    let close = edge_message::Body::Close(v1::CloseSession { session: 9 });
    for (first, code) in [
        (hello(1), Code::FailedPrecondition),
        (hello(3), Code::FailedPrecondition),
        (batch(close.clone()), Code::FailedPrecondition),
        (AttachRequest::default(), Code::InvalidArgument),
        (hello_as(""), Code::InvalidArgument),
        (hello_as(&"x".repeat(129)), Code::InvalidArgument),
    ] {
        let Err(refused) = attach(&world, first).await else {
            panic!("attached")
        };
        assert_eq!(refused.code(), code);
    }
    healthy.open(1, None).await;
    assert_eq!(healthy.next().await, "opened 1 at 0 of 0");
    // A session that was never opened ends the link that names it.
    let ended = refusal_after_hello(&world, batch(close)).await;
    assert_eq!(ended.code(), Code::FailedPrecondition);
    healthy.open(2, None).await;
    assert_eq!(healthy.next().await, "opened 2 at 0 of 0");
    world.end().await;
}

/// The status that ends a link whose second request is `second`.
async fn refusal_after_hello(world: &World, second: AttachRequest) -> Status {
    let (requests, mut responses) = attach(world, hello_as("edge-1/2")).await.unwrap();
    requests.send(second).await.unwrap();
    let ended = timeout(SOON, async {
        loop {
            if let Err(status) = responses.message().await {
                return status;
            }
        }
    });
    ended.await.expect("the link ends in time")
}

#[tokio::test]
async fn a_message_that_is_invalid_whenever_it_comes_is_an_invalid_argument() {
    use edge_message::Body;
    let world = World::start(config(Store::Memory)).await;
    let interest = |stream: &str| v1::Interest {
        stream: stream.into(),
        from: None,
    };
    let open = |change: &dyn Fn(&mut OpenSession)| {
        let mut open = OpenSession {
            session: 1,
            token: "a.b.c".into(),
            session_id: "s-1".into(),
            interests: vec![interest("user:u1")],
            device: String::new(),
        };
        change(&mut open);
        batch(Body::Open(open))
    };
    let receipts = |receipts| {
        batch(Body::Receipts(v1::Receipts {
            session: 1,
            receipts,
        }))
    };
    let receipt = |bytes: usize, state: i32| v1::EventReceipt {
        event_id: vec![0; bytes].into(),
        state,
    };
    let invalid = [
        ("messages", AttachRequest::default()),
        (
            "body",
            AttachRequest {
                messages: vec![EdgeMessage { body: None }],
            },
        ),
        ("open.token", open(&|open| open.token.clear())),
        ("open.token", open(&|open| open.token = "x".repeat(8_193))),
        ("open.session_id", open(&|open| open.session_id.clear())),
        ("open.device", open(&|open| open.device = "d".repeat(129))),
        (
            "open.interests.stream",
            open(&|open| open.interests.push(interest("x"))),
        ),
        (
            "join.interest",
            batch(Body::Join(v1::JoinStream {
                session: 1,
                interest: None,
            })),
        ),
        (
            "fetch.after",
            batch(Body::Fetch(v1::Fetch {
                session: 1,
                stream: "user:u1".into(),
                after: None,
            })),
        ),
        ("receipts.receipts", receipts(Vec::new())),
        ("receipts.receipts.event_id", receipts(vec![receipt(15, 1)])),
        ("receipts.receipts.state", receipts(vec![receipt(16, 0)])),
    ];
    for (field, request) in invalid {
        let refused = refusal_after_hello(&world, request).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}: {refused}");
        let details = refused.get_error_details();
        let named = details.bad_request().expect("fields");
        assert_eq!(named.field_violations[0].field, field);
    }
    let refused = refusal_after_hello(&world, hello(2)).await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
    world.end().await;
}

#[tokio::test]
async fn a_second_link_of_the_same_name_replaces_the_first() {
    let world = World::start(config(Store::Memory)).await;
    let (_to_hub, mut from_hub) = world.gateway.attach("edge-1", 8, 1 << 20).unwrap();
    assert!(matches!(
        from_hub.recv().await.unwrap()[0],
        ToEdge::Welcome { .. }
    ));
    let mut second = Link::local(&world);
    assert_eq!(second.next().await, "welcome");
    assert_eq!(timeout(SOON, from_hub.recv()).await.unwrap(), None);
    world.end().await;
}

#[tokio::test]
async fn a_replaced_link_over_grpc_is_notified_why_it_ended() {
    let world = World::start(config(Store::Memory)).await;
    let (_requests, mut responses) = attach(&world, hello(2)).await.unwrap();
    assert!(responses.message().await.unwrap().is_some());
    let mut second = Link::local(&world);
    assert_eq!(second.next().await, "welcome");
    let ended = timeout(SOON, responses.message()).await.unwrap();
    let ended = ended.expect_err("a reason");
    let details = ended.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "LINK_REPLACED");
    world.end().await;
}

#[tokio::test]
async fn a_link_takes_no_name_but_that_of_its_token() {
    let world = World::start(config(Store::Memory)).await;
    let mut healthy = Link::local(&world);
    assert_eq!(healthy.next().await, "welcome");
    for name in ["edge-2", "edge-10", "edge-1x/1", "edge-", "/edge-1"] {
        let Err(refused) = attach(&world, hello_as(name)).await else {
            panic!("attached as {name}")
        };
        assert_eq!(refused.code(), Code::PermissionDenied, "{name}");
        assert!(refused.message().contains(name), "{refused}");
    }
    let (_requests, mut responses) = attach(&world, hello_as("edge-1/0")).await.unwrap();
    assert!(responses.message().await.unwrap().is_some());
    // Nobody was replaced.
    healthy.open(1, None).await;
    assert_eq!(healthy.next().await, "opened 1 at 0 of 0");
    world.end().await;
}

#[tokio::test]
async fn what_comes_with_hello_is_no_longer_than_any_other_batch() {
    let world = World::start(config(Store::Memory)).await;
    let credit = EdgeMessage {
        body: Some(edge_message::Body::Credit(v1::Credit::default())),
    };
    let with = |count| {
        let mut first = hello(2);
        first.messages.extend(vec![credit.clone(); count]);
        first
    };
    let Err(refused) = attach(&world, with(257)).await else {
        panic!("attached")
    };
    assert_eq!(refused.code(), Code::InvalidArgument);
    let (_requests, mut responses) = attach(&world, with(255)).await.unwrap();
    assert!(responses.message().await.unwrap().is_some());
    world.end().await;
}

#[tokio::test]
async fn an_idle_link_carries_data_so_that_no_proxy_cuts_it() {
    let world = World::start(notifier::Config {
        keepalive: std::time::Duration::from_millis(100),
        ..config(Store::Memory)
    })
    .await;
    let (requests, mut responses) = attach(&world, hello(2)).await.unwrap();
    let welcome = responses.message().await.unwrap().expect("the link is up");
    assert_eq!(grpc_summary(&welcome.messages[0]), "welcome");
    for _ in 0..3 {
        let next = timeout(SOON, responses.message()).await.expect("a message");
        let messages = next.unwrap().expect("the link is up").messages;
        let body = messages[0].body.as_ref().expect("a body");
        assert!(matches!(body, hub_message::Body::Heartbeat(_)), "{body:?}");
        // One from the edge is no message to the hub.
        let heartbeat = edge_message::Body::Heartbeat(v1::Heartbeat {});
        requests.send(batch(heartbeat)).await.unwrap();
    }
    drop((requests, responses));
    world.end().await;
}
