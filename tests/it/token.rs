//! `belfry token` as its users run it: keys are made, tokens signed and explained.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256,
    },
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};

use crate::world::now_s;

/// A data directory with secrets that `belfry token key` made.
struct Keys(tempfile::TempDir);

/// How a command ended, and what it printed.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Keys {
    fn new() -> Self {
        let keys = Self(tempfile::tempdir().expect("a directory"));
        for name in ["users.key", "services.key"] {
            let file = keys.secret(name).display().to_string();
            let made = keys.token(&["key", "secret", &file], "");
            assert_eq!(made.code, Some(0), "{made:?}");
        }
        keys
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.path().join("secrets").join(name)
    }

    /// `belfry token`, in this data directory.
    fn token(&self, arguments: &[&str], stdin: &str) -> Ended {
        let mut child = Command::new(env!("CARGO_BIN_EXE_belfry"))
            .arg("token")
            .args(arguments)
            .env("BELFRY_DATA_DIR", self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut input = child.stdin.take().expect("piped");
        // A command that reads nothing may have ended before.
        let _ = input.write_all(stdin.as_bytes());
        drop(input);
        let output = child.wait_with_output().expect("ended");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn signed(&self, arguments: &[&str]) -> String {
        let signed = self.token(arguments, "");
        assert_eq!(signed.code, Some(0), "{arguments:?}: {signed:?}");
        signed.stdout.trim().to_owned()
    }

    /// `belfry token show`, which has to end with this code.
    fn shown(&self, token: &str, options: &[&str], code: i32) -> Ended {
        let shown = self.token(&[&["show"], options].concat(), token);
        assert_eq!(shown.code, Some(code), "{shown:?}");
        let (_, signature) = token.trim().rsplit_once('.').unwrap_or_default();
        if let Some(start) = signature.get(..8) {
            let printed = shown.stdout.contains(start) || shown.stderr.contains(start);
            assert!(!printed, "the signature is printed: {shown:?}");
        }
        shown
    }
}

const PUBLISHER: [&str; 8] = [
    "service",
    "reports",
    "--role",
    "publisher",
    "--events",
    "status_update",
    "--targets",
    "user:,everyone",
];

#[test]
fn a_token_is_explained_and_verified_with_the_keys_of_the_data_directory() {
    let keys = Keys::new();
    let user = keys.signed(&["user", "u1", "--queues", "support,a*,*"]);
    let shown = keys.shown(&user, &[], 0).stdout;
    for part in [
        r#"alg: "HS256""#,
        r#"sub: "u1""#,
        "exp: ",
        "Z, in ",
        "the queue `support`",
        "every queue that begins as `a*`",
        "every queue\n",
        "accepted: as user `u1`, by ",
        "users.key, HS256",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let service = keys.signed(&PUBLISHER);
    // From a file and as an argument too, and as it stands in a header.
    let file = keys.path().join("reports.token");
    fs::write(&file, format!("Bearer {service}\n")).expect("written");
    let file = file.display().to_string();
    for options in [&["--file", &file][..], &[&service]] {
        let shown = keys.token(&[&["show"], options].concat(), "");
        assert_eq!(shown.code, Some(0), "{shown:?}");
        for part in [
            "jti: ",
            "to publish events: `status_update`",
            "to publish to: `user:`, `everyone`",
            "accepted: as service `reports`, by ",
        ] {
            assert!(shown.stdout.contains(part), "{part}: {shown:?}");
        }
    }
}

#[test]
fn a_refused_token_is_explained_with_the_reason_that_servers_only_log() {
    let keys = Keys::new();
    let others = Keys::new();
    let user = keys.signed(&["user", "u1"]);
    let service = keys.signed(&PUBLISHER);
    let (head, _) = user.rsplit_once('.').expect("a token");
    let (header, _) = user.split_once('.').expect("a token");
    let with_claims = |claims: String| {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
        format!("{header}.{claims}.AAAA")
    };
    let invisible = with_claims(format!(
        "{{\"sub\":\"u1\u{202e}\\u001b[31m\",\"aud\":\"belfry\",\"exp\":{}}}",
        now_s() + 60
    ));
    for (keys, token, label) in [
        (&others, user.as_str(), "(SIGNATURE)"),
        (&others, &service, "(SIGNATURE)"),
        (&keys, &format!("{head}.AAAA"), "(SIGNATURE)"),
        (&keys, &invisible, "(SIGNATURE)"),
        (&keys, "abc", "(MALFORMED)"),
        (&keys, "a.b.c", "(MALFORMED)"),
        (&keys, &"a".repeat(9_000), "(TOO_LONG)"),
    ] {
        let shown = keys.shown(token, &[], 1);
        assert!(shown.stderr.contains(label), "{label}: {shown:?}");
        assert!(!shown.stdout.contains(['\u{202e}', '\u{1b}']), "{shown:?}");
    }
    let longer = ["--max-user-token-lifetime", "1m"];
    let shown = keys.shown(&user, &longer, 1);
    assert!(shown.stderr.contains("(LIFETIME)"), "{shown:?}");
    let audience = ["--users-audience", "somebody-else"];
    let shown = keys.shown(&user, &audience, 1);
    assert!(shown.stderr.contains("(AUDIENCE)"), "{shown:?}");
    // Without verifying it is explained all the same; without a token it is not.
    let shown = others.shown(&user, &["--no-verify"], 0);
    assert!(shown.stdout.contains("not verified"), "{shown:?}");
    for (token, options) in [
        ("", &[][..]),
        (" \n", &[]),
        ("", &["--file", "/nowhere/t"]),
        (&user, &["--users-key-file", "/nowhere/k"]),
    ] {
        keys.shown(token, options, 2);
    }
    let nowhere = keys.path().join("empty").display().to_string();
    let shown = keys.shown(&user, &["--data-dir", &nowhere], 1);
    assert!(shown.stderr.contains("there is no key"), "{shown:?}");
}

#[test]
fn a_service_whose_name_or_grant_means_nothing_gets_no_token() {
    let keys = Keys::new();
    let policy = keys.path().join("policy.toml");
    let rules = "[services.reports]\nrole = \"publisher\"\nevents = [\"*\"]\ntargets = [\"*\"]\n";
    fs::write(&policy, rules).expect("written");
    let policy = policy.display().to_string();
    let grant = ["--events", "*", "--targets", "*"];
    let publisher = ["--role", "publisher"];
    for name in [
        "",
        " ",
        "\t",
        "a b",
        "ü",
        "a\u{200b}",
        "*",
        "reports*",
        "r?",
        "reports.>",
        "[a]",
        "(others)",
        "publisher",
        "EDGE",
        "operator",
        "everyone",
        "--",
        "...",
    ] {
        let named = [&["service", "--", name][..]].concat();
        let arguments = [&["service"], &publisher[..], &grant, &named[1..]].concat();
        let refused = keys.token(&arguments, "");
        assert_eq!(refused.code, Some(2), "{name:?}: {refused:?}");
        assert!(refused.stdout.is_empty(), "{refused:?}");
    }
    let edge = ["service", "edge-1", "--role", "edge"];
    for (arguments, why) in [
        (
            &["service", "reports", "--role", "publisher"][..],
            "may publish nothing",
        ),
        (
            &["service", "edge-1", "--role", "edge", "--events", "*"],
            "leave it out",
        ),
        (
            &[&PUBLISHER[..], &["--ttl", "400d"]].concat(),
            "would be refused",
        ),
        (
            &["service", "ops", "--role", "operator", "--ttl", "32d"],
            "would be refused",
        ),
        (&["user", "u1", "--ttl", "25h"], "would be refused"),
        (
            &[&edge[..], &["--policy", &policy]].concat(),
            "does not list `edge-1`",
        ),
        (
            &[
                "service",
                "reports",
                "--role",
                "edge",
                "--services-policy",
                &policy,
            ],
            "another role",
        ),
    ] {
        let refused = keys.token(arguments, "");
        assert_eq!(refused.code, Some(2), "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains(why), "{why}: {refused:?}");
    }
    let listed = keys.signed(&[&PUBLISHER[..], &["--policy", &policy]].concat());
    keys.shown(&listed, &["--policy", &policy], 0);
    let edge = keys.signed(&edge);
    let shown = keys.shown(&edge, &["--policy", &policy], 2);
    assert!(shown.stderr.contains("does not list"), "{shown:?}");
    let longer = ["--max-operator-token-lifetime", "60d", "--ttl", "32d"];
    keys.signed(&[&["service", "ops", "--role", "operator"], &longer[..]].concat());
}

fn mode(path: &Path) -> u32 {
    let about = fs::metadata(path).expect("it is there");
    about.permissions().mode() & 0o777
}

fn der(path: &Path) -> Vec<u8> {
    let pem = fs::read_to_string(path).expect("text");
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    BASE64_STANDARD
        .decode(lines.collect::<String>())
        .expect("base64")
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, private: &[u8], message: &[u8]) -> Vec<u8> {
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, private).expect("a pair");
    let signed = pair.sign(&SystemRandom::new(), message);
    signed.expect("signed").as_ref().to_vec()
}

fn signature(algorithm: &str, private: &[u8], message: &[u8]) -> Vec<u8> {
    match algorithm {
        "EdDSA" => {
            let pair = Ed25519KeyPair::from_pkcs8(private).expect("a pair");
            pair.sign(message).as_ref().to_vec()
        }
        "ES256" => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, private, message),
        "ES384" => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, private, message),
        _ => {
            let pair = rsa::KeyPair::from_pkcs8(private).expect("a pair");
            let mut signed = vec![0; pair.public_modulus_len()];
            let random = SystemRandom::new();
            let result = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signed);
            result.expect("signed");
            signed
        }
    }
}

#[test]
fn each_kind_of_key_is_private_and_verifies_what_it_signs() {
    let keys = Keys::new();
    for (kind, algorithm) in [
        ("ed25519", "EdDSA"),
        ("p256", "ES256"),
        ("p384", "ES384"),
        ("rsa", "RS256"),
    ] {
        let private = keys.path().join(kind);
        let file = private.display().to_string();
        let made = keys.token(&["key", kind, &file], "");
        assert_eq!(made.code, Some(0), "{made:?}");
        let public = keys.path().join(format!("{kind}.pub"));
        assert_eq!(mode(&private), 0o600);
        assert_eq!(mode(&public) & 0o600, 0o600);
        let segments = [
            format!(r#"{{"alg":"{algorithm}"}}"#),
            format!(r#"{{"sub":"u1","aud":"belfry","exp":{}}}"#, now_s() + 600),
        ];
        let segments = segments.map(|segment| BASE64_URL_SAFE_NO_PAD.encode(segment));
        let message = segments.join(".");
        let signed = signature(algorithm, &der(&private), message.as_bytes());
        let token = format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signed));
        let public = public.display().to_string();
        let shown = keys.shown(&token, &["--users-key-file", &public], 0);
        assert!(shown.stdout.contains("accepted: as user `u1`"), "{shown:?}");
        let shown = keys.shown(&token, &[], 1);
        assert!(shown.stderr.contains("(ALGORITHM)"), "{shown:?}");
        // A private key is none to verify with, and nothing is written over.
        let shown = keys.shown(&token, &["--users-key-file", &file], 2);
        assert!(!shown.stderr.contains("PRIVATE"), "{shown:?}");
        assert_eq!(keys.token(&["key", kind, &file], "").code, Some(2));
    }
}

#[test]
fn a_rotated_secret_signs_and_the_one_before_verifies_until_it_is_removed() {
    let keys = Keys::new();
    let path = keys.secret("users.key");
    let file = path.display().to_string();
    assert_eq!(
        (mode(&path), mode(path.parent().expect("above"))),
        (0o600, 0o700)
    );
    let old = keys.signed(&["user", "u1"]);
    assert_eq!(keys.token(&["key", "secret", &file], "").code, Some(2));
    let rotated = keys.token(&["key", "secret", "--rotate", &file], "");
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let previous = path.with_extension("key.previous");
    assert_eq!((mode(&path), mode(&previous)), (0o600, 0o600));
    let new = keys.signed(&["user", "u1"]);
    let by_previous = keys.shown(&old, &[], 0).stdout;
    assert!(
        by_previous.contains("users.key.previous, HS256\n"),
        "{by_previous}"
    );
    keys.shown(&new, &[], 0);
    let again = keys.token(&["key", "secret", "--rotate", &file], "");
    assert!(
        again.code == Some(2) && again.stderr.contains("still accepted"),
        "{again:?}"
    );
    fs::remove_file(previous).expect("removed");
    keys.shown(&old, &[], 1);
    keys.shown(&new, &[], 0);
}
