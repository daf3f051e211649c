//! TLS between real processes: certificates of the test's own, links, publishers and
//! browsers' clients over them, and what is refused.

use std::process::Command;

use tokio::{io::AsyncWriteExt, time::timeout};

use crate::attacks::{SILENT, connect_from};
use crate::world::{Authority, DEADLINE, Process, World, wait_for};

fn belfry(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(arguments)
        .output()
        .expect("ran");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

const STATUS: &[&str] = &[
    "publish",
    "status",
    "--update-type",
    "a",
    "--resource",
    "b",
    "--status",
    "c",
];

fn publish(up: &Process, world: &World, within: &str, more: &[&str]) -> (bool, String) {
    let url = format!("https://{}", up.address("grpc"));
    let data = world.dir().display().to_string();
    let own = [
        "--user",
        "u1",
        "--within",
        within,
        "--notifier-url",
        &url,
        "--data-dir",
        &data,
    ];
    belfry(&[STATUS, &own, more].concat())
}

/// The answer at a URL, by a client that trusts one authority.
async fn get(url: &str, ca: &str) -> reqwest::Response {
    let ca = std::fs::read(ca).expect("a file");
    let ca = reqwest::Certificate::from_pem(&ca).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([ca]);
    let client = client.build().expect("a client");
    client.get(url).send().await.expect("an answer")
}

#[tokio::test]
async fn everything_works_over_tls_and_follows_a_new_certificate() {
    let world = World::new();
    let authority = Authority::new(&world, "one");
    let up = world.up_with(&strs(&authority.sign_server()));
    let (ws, grpc) = (up.address("ws"), up.address("grpc"));
    assert!(ws.starts_with("wss://127.0.0.1:"), "{ws}");
    assert!(up.address("processors").starts_with("https://"));

    let data = world.dir().display().to_string();
    let url = format!("https://{grpc}");
    let check = |ca: &str| {
        let own = [
            "check",
            "--url",
            &ws,
            "--notifier-url",
            &url,
            "--data-dir",
            &data,
        ];
        belfry(&[&own[..], &["--tls-ca", ca]].concat())
    };
    let (works, said) = check(&authority.ca());
    assert!(works && said.contains("everything works"), "{said}");
    for listener in ["dashboard", "processors"] {
        let answer = get(&up.address(listener), &authority.ca()).await;
        let strict = &answer.headers()["strict-transport-security"];
        assert_eq!(strict, "max-age=31536000", "{listener}");
    }
    let (trusted, said) = publish(&up, &world, "3s", &[]);
    assert!(!trusted, "an unknown authority was trusted: {said}");

    // A new certificate of another authority, without a restart.
    let other = Authority::new(&world, "two");
    other.sign_server();
    for file in ["server.pem", "server.key"] {
        std::fs::rename(other.path(file), authority.path(file)).expect("renamed");
    }
    let ca = other.ca();
    let observe = async || publish(&up, &world, "3s", &["--tls-ca", &ca]).0;
    wait_for("the new certificate to be shown", observe, |shown| *shown).await;
    let (works, said) = check(&ca);
    assert!(works, "{said}");
    assert_eq!(up.terminate(), Some(0));
}

/// A notifier that accepts the certificates of an authority, with a policy.
fn notifier(world: &World, authority: &Authority) -> Process {
    world.make_secrets();
    let policy = world.dir().join("policy.toml");
    let rules = "[services.edge-1]\nrole = \"edge\"\n\
                 [services.tests]\nrole = \"operator\"\n\
                 [services.images]\nrole = \"publisher\"\n\
                 events = [\"status_update\"]\ntargets = [\"user:\"]\n";
    std::fs::write(&policy, rules).expect("written");
    let (server, ca, policy) = (
        authority.sign_server(),
        authority.ca(),
        policy.display().to_string(),
    );
    let more = ["--tls-client-ca", &ca, "--services-policy", &policy];
    world.notifier("127.0.0.1:0", &[&strs(&server)[..], &more].concat())
}

/// Runs a command of an operator or publisher that has a certificate and no key.
fn with_certificate(url: &str, certificate: &[String], command: &[&str]) -> (bool, String) {
    let own = ["--within", "20s", "--notifier-url", url];
    let nowhere = ["--secrets-dir", "/nowhere"];
    belfry(&[command, &own, &nowhere, &strs(certificate)].concat())
}

#[tokio::test]
async fn services_with_certificates_and_no_tokens_do_what_the_policy_allows() {
    let world = World::new();
    let authority = Authority::new(&world, "one");
    let notifier = notifier(&world, &authority);
    let url = format!("https://{}", notifier.address("grpc"));

    let edge = authority.sign_service("edge/edge-1");
    let serve = authority.sign_server();
    let own = ["--edge-listen", "127.0.0.1:0", "--notifier-url", &url];
    let no_key = ["--secrets-dir", "/nowhere"];
    let arguments = [&own[..], &no_key, &strs(&edge), &strs(&serve)].concat();
    let arguments = arguments.iter().map(ToString::to_string);
    let edge = Process::start("edge", &arguments.collect::<Vec<_>>());
    let ca = authority.ca();
    let listener = world.listener_with(&edge.address("ws"), "u1", &["--tls-ca", &ca]);

    let operator = authority.sign_service("operator/tests");
    let presence = ["presence", "--once", "--json", "--user", "u1"];
    let observe = async || with_certificate(&url, &operator, &presence);
    wait_for("u1 to be there", observe, |(works, said)| {
        assert!(works, "{said}");
        said.contains("\"u1\"")
    })
    .await;

    let images = authority.sign_service("publisher/images");
    let to_user = [STATUS, &["--user", "u1"]].concat();
    let (works, said) = with_certificate(&url, &images, &to_user);
    assert!(works, "{said}");
    let observe = async || listener.printed_bytes();
    let printed = wait_for("the event to be printed", observe, |bytes| *bytes > 0).await;
    assert!(printed > 0);

    // What its rule leaves out, who has no rule, and who has another role.
    let to_queue = [STATUS, &["--queue", "support"]].concat();
    let (works, said) = with_certificate(&url, &images, &to_queue);
    assert!(!works && said.contains("may not"), "{said}");
    let unlisted = authority.sign_service("publisher/unlisted");
    let (works, said) = with_certificate(&url, &unlisted, &to_user);
    assert!(!works && said.contains("does not list"), "{said}");
    let (works, said) = with_certificate(&url, &images, &presence);
    assert!(!works && said.contains("role"), "{said}");
}

#[tokio::test]
async fn a_token_beside_a_certificate_has_to_be_of_the_same_service() {
    let world = World::new();
    let authority = Authority::new(&world, "one");
    let notifier = notifier(&world, &authority);
    let url = format!("https://{}", notifier.address("grpc"));
    let token = world.dir().join("token");
    std::fs::write(&token, world.service_token("operator")).expect("written");
    let token = token.display().to_string();
    let presence = ["presence", "--once", "--service-token-file", &token];
    let other = authority.sign_service("edge/edge-1");
    let (works, said) = with_certificate(&url, &other, &presence);
    assert!(!works && said.contains("two services"), "{said}");
    let same = authority.sign_service("operator/tests");
    let (works, said) = with_certificate(&url, &same, &presence);
    assert!(works, "{said}");
    // A certificate of another authority ends in the handshake.
    let foreign = Authority::new(&world, "two").sign_service("operator/by-hand");
    let foreign = [&["--tls-ca".to_owned(), authority.ca()], &foreign[2..]].concat();
    let own = ["--within", "3s", "--notifier-url", &url];
    let (works, said) = belfry(&[&presence[..], &own, &strs(&foreign)].concat());
    assert!(!works, "{said}");
}

#[test]
fn what_cannot_be_served_is_refused_at_start_and_by_the_check_alike() {
    let world = World::new();
    let authority = Authority::new(&world, "one");
    authority.sign_server();
    authority.sign_service("edge/edge-1");
    let (cert, key) = (authority.path("server.pem"), authority.path("server.key"));
    let other = authority.path("edge-edge-1.key");
    let data = world.dir().display().to_string();
    for (arguments, says) in [
        (&["--tls-cert", &cert][..], "needs `--tls-key`"),
        (&["--tls-cert", &cert, "--tls-key", &other], "one pair"),
        (&["--tls-cert", &key, "--tls-key", &key], "no certificate"),
        (
            &["--tls-cert", "/nowhere.pem", "--tls-key", &key],
            "cannot be read",
        ),
        (&["--edge-listen", "0.0.0.0:0"], "--insecure-plaintext"),
        (&["--tls-client-ca", &cert], "set `--tls-cert`"),
    ] {
        let start = ["up", "--data-dir", &data, "--grpc-listen", "127.0.0.1:0"];
        let start = [
            &start[..],
            &["--notifier-http-listen", "127.0.0.1:0"],
            arguments,
        ]
        .concat();
        for check in [&["--check-config"][..], &[]] {
            let (started, said) = belfry(&[&start[..], check].concat());
            assert!(!started && said.contains(says), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn clear_text_to_another_machine_is_refused_before_anything_is_sent() {
    let world = World::new();
    world.make_secrets();
    let data = world.dir().display().to_string();
    // TEST-NET-1: nobody is there, and nobody is connected to.
    for arguments in [
        &["presence", "--notifier-url", "http://192.0.2.1:1"][..],
        &["listen", "--url", "ws://192.0.2.1:1/ws", "--once"],
    ] {
        let (sent, said) = belfry(&[arguments, &["--data-dir", &data]].concat());
        assert!(!sent && said.contains("--insecure-plaintext"), "{said}");
    }
}

/// The begin of a `ClientHello` of 512 bytes.
const HALF_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
/// How much a process may grow by all handshakes of one listener, in an unoptimized
/// build.
const HANDSHAKES_KIB: u64 = 128 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_half_handshakes_on_each_listener_shut_nobody_out() {
    let world = World::new();
    let authority = Authority::new(&world, "one");
    let up = world.up_with(&strs(&authority.sign_server()));
    let ca = authority.ca();
    for listener in ["ws", "grpc", "processors"] {
        let before = up.rss_kib();
        let address = up.address(listener);
        let host = address.split("://").last().expect("an address");
        let host = host.split('/').next().expect("a host");
        let mut silent = Vec::new();
        for number in 0..SILENT {
            // The kernel may refuse while the queue of the listener is full.
            if let Ok(Ok(mut stream)) = timeout(DEADLINE, connect_from(number, host)).await {
                let _ = stream.write_all(HALF_HELLO).await;
                silent.push(stream);
            }
        }
        let count = silent.len();
        assert!(count as u32 > SILENT / 2, "{listener}: {count}");
        if listener == "grpc" {
            let (works, said) = publish(&up, &world, "60s", &["--tls-ca", &ca]);
            assert!(works, "{said}");
        } else {
            let url = format!("https://{host}/livez");
            let answer = timeout(DEADLINE, get(&url, &ca)).await;
            let answer = answer.expect("an answer in time");
            assert!(answer.status().is_success(), "{listener}");
        }
        let grown = up.rss_kib().saturating_sub(before);
        assert!(grown < HANDSHAKES_KIB, "{listener}: grew by {grown} KiB");
    }
}
