//! The write side over real sockets, in clear text and in TLS.

use rcgen::KeyPair;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

type Client = Box<dyn AsyncRead + Unpin + Send>;

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (server.unwrap().0, client.unwrap())
}

async fn tls() -> (Stream, Client) {
    let (server, client) = tcp().await;
    let key = KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let own = params.self_signed(&key).unwrap().der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let for_server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own], key);
    let for_client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (server, client) = tokio::join!(
        TlsAcceptor::from(Arc::new(for_server.unwrap())).accept(server),
        TlsConnector::from(Arc::new(for_client)).connect("localhost".try_into().unwrap(), client),
    );
    (server.unwrap().into(), Box::new(client.unwrap()))
}

/// Both kinds of connection, with a small buffer in the kernel.
async fn pairs() -> [(Arc<Stream>, Client); 2] {
    let (server, client) = tcp().await;
    let pairs = [(server.into(), Box::new(client) as Client), tls().await];
    pairs.map(|(server, client): (Stream, Client)| {
        rustix::net::sockopt::set_socket_send_buffer_size(server.tcp(), 4_096).unwrap();
        (Arc::new(server), client)
    })
}

#[tokio::test]
async fn a_frame_that_was_cut_goes_on_where_it_stopped() {
    for (server, mut client) in pairs().await {
        let mut writer = Writer::new(Arc::clone(&server));
        let mut spare = Vec::new();
        let mut expected = Vec::new();
        for n in 0..60_u8 {
            let frame = Bytes::from(vec![n; 40_000]);
            expected.extend_from_slice(&frame);
            writer.push(frame, &mut spare);
        }
        assert_eq!(writer.flush(&mut spare), Flush::Blocked);
        let reading = tokio::spawn(async move {
            let mut got = vec![0; 60 * 40_000];
            client.read_exact(&mut got).await.unwrap();
            got
        });
        let mut stalls = 0;
        while writer.flush(&mut spare) == Flush::Blocked {
            stalls += 1;
            server.writable().await.unwrap();
        }
        assert!(stalls > 0 && writer.is_empty() && writer.bytes() == 0);
        assert!(
            reading.await.unwrap() == expected,
            "bytes were lost, doubled or mixed up"
        );
    }
}

#[tokio::test]
async fn what_has_not_begun_to_leave_can_be_dropped() {
    for (server, mut client) in pairs().await {
        let mut writer = Writer::new(Arc::clone(&server));
        let mut spare = Vec::new();
        writer.push(vec![1; 1 << 20].into(), &mut spare);
        writer.push(vec![2; 10].into(), &mut spare);
        assert_eq!(writer.flush(&mut spare), Flush::Blocked);
        writer.drop_waiting();
        writer.push(vec![3; 10].into(), &mut spare);
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        });
        while writer.flush(&mut spare) == Flush::Blocked {
            server.writable().await.unwrap();
        }
        writer.finish();
        let got = reading.await.unwrap();
        assert_eq!(got.len(), (1 << 20) + 10);
        assert!(got.ends_with(&[1, 3, 3]) || got.ends_with(&[3; 10]));
        assert!(!got.contains(&2));
    }
}

#[tokio::test]
async fn all_that_waits_leaves_together_and_an_idle_socket_holds_nothing() {
    for (server, mut client) in pairs().await {
        let mut writer = Writer::new(server);
        let mut spare = Vec::new();
        let shared = Bytes::from_static(b"frame");
        for _ in 0..8 {
            writer.push(shared.clone(), &mut spare);
        }
        assert_eq!(writer.flush(&mut spare), Flush::Done);
        assert_eq!(writer.queue.capacity(), 0);
        let mut got = [0; 64];
        let length = client.read(&mut got).await.unwrap();
        assert_eq!(&got[..length], b"frame".repeat(8));
    }
}

#[tokio::test]
async fn a_client_that_is_gone_is_noticed() {
    for (server, client) in pairs().await {
        let mut writer = Writer::new(server);
        let mut spare = Vec::new();
        drop(client);
        let mut outcome = Flush::Done;
        for _ in 0..1_000 {
            writer.push(Bytes::from_static(&[0; 4_096]), &mut spare);
            outcome = writer.flush(&mut spare);
            if outcome != Flush::Done {
                break;
            }
        }
        assert_eq!(outcome, Flush::Dead);
    }
}
