//! The link across processes: the same events, by way of `EdgeGateway.Attach`.

use std::{net::SocketAddr, pin::Pin};

use belfry::publisher::Credential;
use belfry::v1::{
    self, AttachRequest, AttachResponse, EdgeMessage, HubMessage, edge_gateway_server as gateway,
    edge_message, hub_message,
};
use edge::NotifierLink;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

use crate::world::{EPOCH, World, connect, soon, status, token};

type Answers = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

/// A gateway that passes every link to the test.
struct Gateway {
    links: mpsc::Sender<Attached>,
}

struct Attached {
    authorization: Option<String>,
    from_edge: Streaming<AttachRequest>,
    to_edge: mpsc::Sender<Result<AttachResponse, Status>>,
    batch: std::vec::IntoIter<EdgeMessage>,
}

#[tonic::async_trait]
impl gateway::EdgeGateway for Gateway {
    type AttachStream = Answers;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let (to_edge, answers) = mpsc::channel(16);
        let from_edge = request.into_inner();
        let batch = Vec::new().into_iter();
        let attached = Attached {
            authorization,
            from_edge,
            to_edge,
            batch,
        };
        let refused = |_| Status::unavailable("not now");
        self.links.try_send(attached).map_err(refused)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

impl Attached {
    async fn next(&mut self) -> edge_message::Body {
        loop {
            if let Some(message) = self.batch.next() {
                return message.body.unwrap();
            }
            let batch = soon("a request", self.from_edge.next())
                .await
                .unwrap()
                .unwrap();
            self.batch = batch.messages.into_iter();
        }
    }

    async fn send(&self, bodies: Vec<hub_message::Body>) {
        let messages = bodies
            .into_iter()
            .map(|body| HubMessage { body: Some(body) })
            .collect();
        self.to_edge
            .send(Ok(AttachResponse { messages }))
            .await
            .unwrap();
    }

    /// Checks the greeting and answers it.
    async fn welcome(&mut self) {
        assert_eq!(self.authorization.as_deref(), Some("Bearer service-token"));
        self.greet().await;
    }

    async fn greet(&mut self) {
        let edge_message::Body::Hello(hello) = self.next().await else {
            panic!("no hello")
        };
        assert_eq!((&*hello.edge, hello.protocol_version), ("edge-1", 2));
        assert!(hello.credit.unwrap().bytes > 0);
        let welcome = v1::Welcome {
            protocol_version: 2,
            epoch: EPOCH,
            request_window: 16,
        };
        self.send(vec![hub_message::Body::Welcome(welcome)]).await;
    }

    /// Answers an open: everything is at its head.
    async fn open(&mut self) {
        let edge_message::Body::Open(open) = self.next().await else {
            panic!("no open")
        };
        let joined = open.interests.into_iter().map(|interest| {
            let at = interest.from.unwrap_or(v1::Position {
                epoch: EPOCH,
                offset: 0,
                check: 0,
            });
            v1::StreamJoined {
                session: open.session,
                stream: interest.stream,
                requested_from: interest.from,
                head: at.offset,
                at: Some(at),
                ..Default::default()
            }
        });
        let rights = v1::SessionRights {
            user_id: "u1".into(),
            streams: vec!["user:u1".into(), "everyone".into()],
            ends_in_ms: 3_600_000,
            ..Default::default()
        };
        let opened = v1::SessionOpened {
            rights: Some(rights),
            session: open.session,
            joined: joined.collect(),
        };
        self.send(vec![hub_message::Body::Opened(opened)]).await;
    }

    async fn live(&self, offset: u64, text: &str) {
        let event = v1::StoredEvent {
            offset,
            check: offset as u32,
            envelope: status(text),
        };
        let event = Some(v1::live::Event::Stored(event));
        self.send(vec![hub_message::Body::Live(v1::Live {
            stream: "user:u1".into(),
            event,
        })])
        .await;
    }
}

async fn gateway(
    address: &str,
) -> (
    SocketAddr,
    mpsc::Receiver<Attached>,
    tokio::task::JoinHandle<()>,
) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (links, attached) = mpsc::channel(4);
    let serving = tokio::spawn(async move {
        tonic::transport::Server::builder()
            .add_service(gateway::EdgeGatewayServer::new(Gateway { links }))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    (address, attached, serving)
}

async fn world(address: SocketAddr) -> World {
    World::linked_to(NotifierLink::Grpc {
        endpoint: format!("http://{address}"),
        tls: belfry::tls::ClientTls::default(),
        token: Credential::token("service-token"),
        keepalive: std::time::Duration::from_secs(10),
    })
    .await
}

#[tokio::test]
async fn events_cross_processes_and_links_that_were_cut() {
    let (address, mut links, _serving) = gateway("127.0.0.1:0").await;
    let world = world(address).await;
    let mut link = soon("a link", links.recv()).await.unwrap();
    link.welcome().await;
    while !world.get("/readyz").await.starts_with("HTTP/1.1 200") {}

    let mut client = world.client().await;
    client.say(&connect(&token("u1", &[]))).await;
    link.open().await;
    assert_eq!(client.receive().await["type"], "connected");
    link.live(1, "one").await;
    assert_eq!(client.receive().await["status"], "one");

    // The notifier ends the link; the edge makes another and sends its position.
    drop(link);
    assert_eq!(client.receive().await["type"], "degraded");
    let mut link = soon("another link", links.recv()).await.unwrap();
    link.welcome().await;
    link.open().await;
    assert_eq!(client.receive().await["type"], "recovered");
    link.live(2, "two").await;
    assert_eq!(client.receive().await["offset"], 2);
}

#[tokio::test]
async fn a_link_with_invalid_messages_is_replaced() {
    let (address, mut links, _serving) = gateway("127.0.0.1:0").await;
    let _world = world(address).await;
    let mut link = soon("a link", links.recv()).await.unwrap();
    link.welcome().await;
    link.send(vec![hub_message::Body::Live(v1::Live::default())])
        .await;
    let mut link = soon("another link", links.recv()).await.unwrap();
    link.welcome().await;
}

#[tokio::test]
async fn an_edge_waits_for_a_notifier_that_starts_later() {
    // A port that is free now, and most likely a moment later too.
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let world = world(address).await;
    let mut client = world.client().await;
    client.say(&connect(&token("u1", &[]))).await;
    assert_eq!(client.receive().await["type"], "degraded");
    let (_, mut links, _serving) = gateway(&address.to_string()).await;
    let mut link = soon("a link", links.recv()).await.unwrap();
    link.welcome().await;
    link.open().await;
    assert_eq!(client.receive().await["type"], "connected");
}

#[tokio::test]
async fn a_link_takes_the_token_that_is_in_the_file_now() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edge.token");
    std::fs::write(&file, "first\n").unwrap();
    let (address, mut links, _serving) = gateway("127.0.0.1:0").await;
    let _world = World::linked_to(NotifierLink::Grpc {
        endpoint: format!("http://{address}"),
        tls: belfry::tls::ClientTls::default(),
        token: Credential::file(&file),
        keepalive: std::time::Duration::from_secs(10),
    })
    .await;
    for token in ["first", "second"] {
        let mut link = soon("a link", links.recv()).await.unwrap();
        let bearer = format!("Bearer {token}");
        assert_eq!(link.authorization.as_deref(), Some(&*bearer));
        link.greet().await;
        std::fs::write(&file, "second\n").unwrap();
    }
}

#[tokio::test]
async fn an_idle_link_carries_data_so_that_no_proxy_cuts_it() {
    let (address, mut links, _serving) = gateway("127.0.0.1:0").await;
    let _world = World::linked_to(NotifierLink::Grpc {
        endpoint: format!("http://{address}"),
        tls: belfry::tls::ClientTls::default(),
        token: Credential::token("service-token"),
        keepalive: std::time::Duration::from_millis(100),
    })
    .await;
    let mut link = soon("a link", links.recv()).await.unwrap();
    link.welcome().await;
    for _ in 0..3 {
        let message = link.next().await;
        assert!(matches!(message, edge_message::Body::Heartbeat(_)));
        // One from the other side is no message to the edge.
        let heartbeat = hub_message::Body::Heartbeat(v1::Heartbeat {});
        link.send(vec![heartbeat]).await;
    }
}
