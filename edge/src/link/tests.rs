//! How a linker reacts to the end of a link.

use std::pin::Pin;

use belfry::v1::{
    AttachResponse,
    edge_gateway_server::{EdgeGateway, EdgeGatewayServer},
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Response, transport::Server};

use super::*;

/// A notifier that ends every link at once.
struct Ends(Code);

#[tonic::async_trait]
impl EdgeGateway for Ends {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

    async fn attach(
        &self,
        _: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let ended = Err(Status::new(self.0, "ended"));
        Ok(Response::new(Box::pin(tokio_stream::iter([ended]))))
    }
}

async fn end_after(code: Code) -> LinkEnd {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(EdgeGatewayServer::new(Ends(code)));
    let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let link = NotifierLink::Grpc {
        endpoint,
        tls: belfry::tls::ClientTls::default(),
        token: Credential::token("t0ken"),
        keepalive: Duration::from_secs(10),
    };
    let linker = Linker::new(&link, "edge-1".into(), &Limits::default()).unwrap();
    let mut channels = linker.attach().await.unwrap();
    assert!(channels.from_hub.recv().await.is_none());
    let end = linker.end();
    server.abort();
    end
}

#[tokio::test]
async fn a_link_that_another_edge_of_the_name_took_was_replaced_and_any_other_is_lost() {
    assert_eq!(end_after(Code::Aborted).await, LinkEnd::Replaced);
    assert_eq!(end_after(Code::Unavailable).await, LinkEnd::Lost);
}
