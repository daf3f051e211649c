//! Connections of gRPC over TLS.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::{Service, http::Uri};

use super::Connector;

/// A connection in TLS.
pub type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TlsStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let tcp = TcpStream::connect((bare, uri.port_u16().unwrap_or(443))).await?;
            tcp.set_nodelay(true)?;
            connector.connect(host, tcp).await.map(TokioIo::new)
        })
    }
}
