//! Addresses that must not be reached, by every road known to us.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::config::Ports;

fn check(ip: &str, expect: bool) {
    assert_eq!(is_public(ip.parse().unwrap()), expect, "{ip}");
}

#[test]
fn only_addresses_of_the_public_internet_are_public() {
    for ip in [
        "1.1.1.1",
        "8.8.8.8",
        "172.15.0.1",
        "172.32.0.1",
        "100.128.0.1",
        "198.20.0.1",
    ] {
        check(ip, true);
        check(&format!("::ffff:{ip}"), true);
    }
    check("2606:4700::1111", true);
    for ip in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        check(ip, false);
        check(&format!("::ffff:{ip}"), false);
        check(&format!("64:ff9b::{ip}"), false);
        check(&format!("::{ip}"), false);
    }
    for ip in [
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fdff::1",
        "ff02::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2001::1",
        "3fff::1",
        "fec0::1",
        "100::1",
    ] {
        check(ip, false);
    }
}

fn fetcher(ports: &[u16], allow_private_addresses: bool) -> Fetcher {
    let config = Config {
        fetch_timeout: Duration::from_millis(500),
        fetch_ports: Ports::new(ports),
        allow_private_addresses,
        ..Config::default()
    };
    Fetcher::new(&config).unwrap()
}

#[test]
fn urls_are_refused_before_anything_is_sent() {
    let fetcher = fetcher(&[80, 443], false);
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1:8080/x",
        "file:///etc/passwd",
        "ftp://example.com/x",
        "gopher://example.com/",
        "data:image/png;base64,AAAA",
        "http://user:pass@example.com/",
        "http://user@example.com/",
        "not a url",
        "",
        "//example.com/x",
        "http://example.com:22/",
        "https://example.com:8443/a.png",
        "http://example.com:0/",
    ] {
        assert_eq!(fetcher.check(url), Err(Failure::FetchRefused), "{url}");
    }
    assert!(fetcher.check("https://example.com/a.png").is_ok());
    assert!(fetcher.check("http://example.com:443/a.png").is_ok());
    let long = format!("https://example.com/{}", "a".repeat(MAX_URL_BYTES));
    assert_eq!(fetcher.check(&long), Err(Failure::FetchRefused));
}

#[tokio::test]
async fn a_name_that_leads_to_loopback_is_refused_when_it_is_resolved() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let fetcher = fetcher(&[], false);
    let url = fetcher.check(&format!("http://localhost:{port}/")).unwrap();
    let failure = fetcher.open(url, 100, UrlSource::User).await.unwrap_err();
    assert_eq!(failure, Failure::FetchRefused);
}

/// Answers each connection with one of these, by path, and returns its address.
async fn server(answer: impl Fn(&str) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = socket.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let _ = socket.write_all(answer(path).as_bytes()).await;
        }
    });
    address
}

fn redirect(to: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// A fetcher for which loopback is public, except by its literal: as if a public
/// host had answered.
async fn open(address: SocketAddr, path: &str, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut fetcher = fetcher(&[], true);
    fetcher.allow_private = false;
    let url = Url::parse(&format!("http://localhost:{}{path}", address.port())).unwrap();
    let mut body = fetcher.open(url, limit, UrlSource::User).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[tokio::test]
async fn every_redirect_is_checked_like_the_first_address() {
    let address = server(|path| match path {
        "/loopback" => redirect("http://127.0.0.1/secret"),
        "/mapped" => redirect("http://[::ffff:127.0.0.1]/secret"),
        "/metadata" => redirect("//169.254.169.254/"),
        "/file" => redirect("file:///etc/passwd"),
        "/again" => redirect("/loopback"),
        "/good" => redirect("/end"),
        "/loop" => redirect("/loop"),
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nend".into(),
    })
    .await;
    for path in ["/loopback", "/mapped", "/metadata", "/file", "/again"] {
        assert_eq!(
            open(address, path, 100).await,
            Err(Failure::FetchRefused),
            "{path}"
        );
    }
    assert_eq!(open(address, "/good", 100).await.unwrap(), b"end");
    assert_eq!(open(address, "/loop", 100).await, Err(Failure::FetchFailed));
}

#[tokio::test]
async fn raw_utf8_in_a_redirect_is_followed_and_a_part_is_not_taken_for_the_whole() {
    let address = server(|path| match path {
        "/raw" => redirect("/größe"),
        "/gr%C3%B6%C3%9Fe" => {
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nraw".into()
        }
        _ => "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\n\
              Content-Length: 3\r\nConnection: close\r\n\r\npar"
            .into(),
    })
    .await;
    assert_eq!(open(address, "/raw", 100).await.unwrap(), b"raw");
    assert_eq!(open(address, "/part", 100).await, Err(Failure::FetchFailed));
}

#[tokio::test]
async fn a_redirect_to_another_port_is_refused() {
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://localhost:{}/", inner.local_addr().unwrap().port());
    let address = server(move |_| redirect(&to)).await;
    let fetcher = fetcher(&[address.port()], true);
    let url = format!("http://localhost:{}/", address.port());
    let url = fetcher.check(&url).unwrap();
    let failure = fetcher.open(url, 100, UrlSource::User).await.unwrap_err();
    assert_eq!(failure, Failure::FetchRefused);
}

#[test]
fn what_began_encrypted_does_not_go_on_in_the_open() {
    let check = |from: &str, to: &str| {
        let from = Url::parse(from).unwrap();
        next_hop(&from, to.as_bytes()).map(|url| url.to_string())
    };
    let refused = Err(Failure::FetchRefused);
    assert_eq!(check("https://a.example/x", "http://a.example/y"), refused);
    assert_eq!(check("https://a.example/x", "http://b.example/"), refused);
    for (from, to, next) in [
        ("https://a.example/x", "/y", "https://a.example/y"),
        ("https://a.example/x", "//b.example/", "https://b.example/"),
        (
            "http://a.example/x",
            "https://a.example/",
            "https://a.example/",
        ),
        (
            "http://a.example/x",
            "http://b.example/",
            "http://b.example/",
        ),
    ] {
        assert_eq!(check(from, to).as_deref(), Ok(next));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_cut_slow_or_an_error_has_its_own_code() {
    let address = server(|path| match path {
        "/large" => "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n".into(),
        "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc".into(),
        "/missing" => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
        _ => String::new(),
    })
    .await;
    assert_eq!(open(address, "/large", 100).await, Err(Failure::TooLarge));
    assert_eq!(open(address, "/cut", 100).await, Err(Failure::FetchFailed));
    assert_eq!(
        open(address, "/missing", 100).await,
        Err(Failure::FetchFailed)
    );
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    assert_eq!(open(address, "/", 100).await, Err(Failure::Timeout));
}
