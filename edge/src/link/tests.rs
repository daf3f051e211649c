//! How a linker reacts to the end of a link.

use std::pin::Pin;

use belfry::{
    reason::MOVED_TO,
    v1::{
        AttachResponse,
        edge_gateway_server::{EdgeGateway, EdgeGatewayServer},
    },
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Response, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;

/// A notifier that ends every link with a status, before it is made or after.
struct Ends {
    status: Status,
    refuses: bool,
}

#[tonic::async_trait]
impl EdgeGateway for Ends {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

    async fn attach(
        &self,
        _: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if self.refuses {
            return Err(self.status.clone());
        }
        let ended = Err(self.status.clone());
        Ok(Response::new(Box::pin(tokio_stream::iter([ended]))))
    }
}

/// Starts one that ends with its runtime; its address.
async fn ends(status: Status, refuses: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let service = EdgeGatewayServer::new(Ends { status, refuses });
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn linker(notifiers: String) -> Linker {
    let link = NotifierLink::Grpc {
        endpoint: notifiers,
        tls: belfry::tls::ClientTls::default(),
        token: Credential::token("t0ken"),
        keepalive: Duration::from_secs(10),
    };
    Linker::new(&link, "edge-1".into(), &Limits::default()).unwrap()
}

/// Makes a link, and waits until it ends.
async fn end_of(linker: &Linker) -> LinkEnd {
    let mut channels = linker.attach().await.unwrap();
    assert!(channels.from_hub.recv().await.is_none());
    linker.end()
}

fn current(linker: &Linker) -> String {
    let Transport::Grpc { notifiers, .. } = &linker.transport else {
        panic!("not by gRPC");
    };
    notifiers.current().address().to_owned()
}

fn moved(to: &str) -> Status {
    let hint = [(MOVED_TO.to_owned(), to.to_owned())];
    let details = ErrorDetails::with_error_info("MOVED", "belfry", hint);
    Status::with_error_details(Code::Unavailable, "moved", details)
}

#[tokio::test]
async fn a_link_that_another_edge_of_the_name_took_was_replaced_and_any_other_is_lost() {
    let replaced = linker(ends(Status::aborted("ended"), false).await);
    assert_eq!(end_of(&replaced).await, LinkEnd::Replaced);
    let lost = linker(ends(Status::unavailable("ended"), false).await);
    assert_eq!(end_of(&lost).await, LinkEnd::Lost);
    assert!(!lost.is_moved());
}

#[tokio::test]
async fn a_link_goes_to_the_notifier_that_it_is_sent_to_at_once() {
    let owner = ends(Status::aborted("ended"), false).await;
    let refuses = linker(ends(moved(&owner), true).await);
    assert_eq!(end_of(&refuses).await, LinkEnd::Replaced);
    assert_eq!(current(&refuses), owner);

    let steps_down = linker(ends(moved(&owner), false).await);
    assert_eq!(end_of(&steps_down).await, LinkEnd::Lost);
    assert!(steps_down.is_moved(), "no pause before the next one");
    assert_eq!(end_of(&steps_down).await, LinkEnd::Replaced);
    assert!(!steps_down.is_moved());
}

#[tokio::test]
async fn a_link_goes_on_at_the_next_notifier_of_the_list() {
    let (drains, owner) = (
        ends(Status::unavailable("draining"), true).await,
        ends(Status::aborted("ended"), false).await,
    );
    let linker = linker(format!("{drains},{owner}"));
    let refused = linker.attach().await.unwrap_err();
    assert!(matches!(refused, LinkError::Refused(_)), "{refused}");
    assert_eq!(end_of(&linker).await, LinkEnd::Replaced);
}
