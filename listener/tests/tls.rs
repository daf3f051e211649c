//! TLS as clients see it, with certificates that the tests make.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, routing::get};
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use listener::{Certificates, ClientCertificate, Config, Http2, Metrics, Protocol, Reason, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::PrivateKeyDer, sign::CertifiedKey,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_mins(1);

/// An authority of the tests' own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

type Signed = (
    Vec<rustls::pki_types::CertificateDer<'static>>,
    PrivateKeyDer<'static>,
);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            roots,
        }
    }

    fn sign(&self, name: SanType) -> Signed {
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = vec![name];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![signed.der().clone()], key)
    }

    fn server(&self, clients: Option<RootCertStore>) -> Certificates {
        let (chain, key) = self.sign(SanType::DnsName("localhost".try_into().unwrap()));
        let own = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap();
        Certificates::new(own, clients).unwrap()
    }

    fn client(&self, protocol: &str, own: Option<Signed>) -> TlsConnector {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match own {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

struct World {
    address: SocketAddr,
    metrics: Metrics,
}

async fn uris(request: Request) -> String {
    let certificate = request.extensions().get::<ClientCertificate>();
    certificate.map_or_else(|| "none".into(), |shown| shown.uris.join(","))
}

impl World {
    async fn start(tls: Tls, protocol: Protocol) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let config = Config {
            max_connections: 4,
            head_timeout: Duration::from_secs(1),
            protocol,
            tls: Some(tls),
            ..Config::default()
        };
        let metrics = config.metrics.clone();
        let router = Router::new().route("/", get(uris));
        let never = CancellationToken::new();
        tokio::spawn(listener::serve(tcp, router, config, never));
        Self { address, metrics }
    }

    async fn connect(&self, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        client.connect("localhost".try_into().unwrap(), tcp).await
    }

    async fn http1(&self, client: &TlsConnector) -> http1::SendRequest<Body> {
        let io = TokioIo::new(self.connect(client).await.unwrap());
        let (client, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn http2(&self, client: &TlsConnector) -> http2::SendRequest<Body> {
        let io = TokioIo::new(self.connect(client).await.unwrap());
        let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

fn request() -> Request {
    let request = Request::get("/").header("host", "localhost");
    request.body(Body::empty()).unwrap()
}

async fn text(answer: hyper::Response<hyper::body::Incoming>) -> String {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_ends_no_old_one() {
    let (before, after) = (Authority::new(), Authority::new());
    let (sender, tls) = watch::channel(before.server(None));
    let world = World::start(tls, Protocol::Http1).await;
    let (old, new) = (
        before.client("http/1.1", None),
        after.client("http/1.1", None),
    );
    let mut open = world.http1(&old).await;
    assert_eq!(
        text(open.send_request(request()).await.unwrap()).await,
        "none"
    );
    assert!(world.connect(&new).await.is_err());

    sender.send(after.server(None)).unwrap();
    let mut fresh = world.http1(&new).await;
    assert_eq!(
        text(fresh.send_request(request()).await.unwrap()).await,
        "none"
    );
    assert_eq!(
        text(open.send_request(request()).await.unwrap()).await,
        "none"
    );
    assert!(world.connect(&old).await.is_err());
    assert!(world.metrics.tls_failures() >= 1);
}

#[tokio::test]
async fn a_client_of_http2_may_show_a_certificate_and_only_one_of_the_authority() {
    let (server, clients) = (Authority::new(), Authority::new());
    let (_sender, tls) = watch::channel(server.server(Some(clients.roots.clone())));
    let world = World::start(tls, Protocol::Http2(Http2::default())).await;

    let uri = "belfry://edge/edge-1";
    let name = || SanType::URI(uri.try_into().unwrap());
    let shown = server.client("h2", Some(clients.sign(name())));
    let mut shown = world.http2(&shown).await;
    assert_eq!(
        text(shown.send_request(request()).await.unwrap()).await,
        uri
    );

    let mut none = world.http2(&server.client("h2", None)).await;
    assert_eq!(
        text(none.send_request(request()).await.unwrap()).await,
        "none"
    );

    let stranger = server.client("h2", Some(Authority::new().sign(name())));
    let refused = async {
        let mut stream = world.connect(&stranger).await?;
        stream.read_exact(&mut [0; 9]).await
    };
    assert!(refused.await.is_err());
}

#[tokio::test]
async fn a_client_of_another_protocol_is_refused_in_the_handshake() {
    let authority = Authority::new();
    let (_sender, tls) = watch::channel(authority.server(None));
    let world = World::start(tls, Protocol::Http1).await;
    let refused = world.connect(&authority.client("h2", None)).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_shuts_nobody_out_and_is_dropped_in_time() {
    let authority = Authority::new();
    let (_sender, tls) = watch::channel(authority.server(None));
    let world = World::start(tls, Protocol::Http1).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut silent = TcpStream::connect(world.address).await.unwrap();
        // The head of a record that does not come.
        tokio::io::AsyncWriteExt::write_all(&mut silent, &[22, 3, 1, 2, 0])
            .await
            .unwrap();
        held.push(silent);
    }
    let mut clean = world.http1(&authority.client("http/1.1", None)).await;
    let answer = clean.send_request(request()).await.unwrap();
    assert_eq!(text(answer).await, "none");
    assert!(world.metrics.count(Reason::Replaced) >= 4);
    for mut silent in held {
        let end = timeout(SOON, silent.read(&mut [0; 64])).await;
        assert!(matches!(
            end.expect("the connection ends"),
            Ok(0 | 7) | Err(_)
        ));
    }
    assert!(world.metrics.count(Reason::NoRequest) >= 1);
}

#[tokio::test]
async fn clear_text_on_a_listener_with_tls_is_counted_and_closed() {
    let authority = Authority::new();
    let (_sender, tls) = watch::channel(authority.server(None));
    let world = World::start(tls, Protocol::Http1).await;
    let mut plain = TcpStream::connect(world.address).await.unwrap();
    let get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut plain, get)
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(world.metrics.tls_failures(), 1);
}
