//! Calls of gRPC with bytes that no generated client sends, and with fields that no
//! publisher of ours fills so.

use belfry::v1;
use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::Channel,
};
use tonic_types::StatusExt;

use super::{Attacked, answer_to};
use crate::world::numbered;

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A publisher's connection that sends whatever it is given.
struct Caller {
    channel: Channel,
    token: String,
}

impl Caller {
    async fn connect(attacked: &Attacked, role: &str) -> Self {
        let url = format!("http://{}", attacked.up.address("grpc"));
        let channel = Channel::from_shared(url).expect("an address");
        Self {
            channel: channel.connect().await.expect("connected"),
            token: format!("Bearer {}", attacked.world.service_token(role)),
        }
    }

    async fn publish(
        &self,
        bytes: Vec<u8>,
        headers: &[(&'static str, &str)],
    ) -> Result<(), Status> {
        let mut request = Request::new(Bytes::from(bytes));
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.token.parse().expect("ASCII"));
        for (name, value) in headers {
            metadata.remove(*name);
            if !value.is_empty() {
                let value = MetadataValue::try_from(*value).expect("it can be sent");
                metadata.insert(*name, value);
            }
        }
        let mut client = Grpc::new(self.channel.clone());
        client
            .ready()
            .await
            .map_err(|_| Status::unavailable("no connection"))?;
        let path = PathAndQuery::from_static("/belfry.v1.Notifier/Publish");
        client.unary(request, path, Raw).await.map(drop)
    }
}

fn valid() -> v1::PublishRequest {
    numbered("u1", 1).request().clone()
}

fn with(change: impl FnOnce(&mut v1::PublishRequest)) -> Vec<u8> {
    let mut request = valid();
    change(&mut request);
    request.encode_to_vec()
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// A request that is refused, and the field that the answer names.
fn invalid_requests() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    use v1::publish_request::Target;

    let to = |user: &str| {
        let user = user.to_owned();
        with(|request| request.target = Some(Target::UserId(user)))
    };
    vec![
        ("no target", with(|request| request.target = None), "target"),
        ("an empty user", to(""), "user_id"),
        ("a user with NUL", to("a\0b"), "user_id"),
        ("a user written backwards", to("a\u{202e}b"), "user_id"),
        ("a user of 1 KiB", to(&"x".repeat(1_024)), "user_id"),
        (
            "nobody",
            with(|request| request.target = Some(Target::Users(v1::Users::default()))),
            "users.user_ids",
        ),
        (
            "no event",
            with(|request| request.event = None),
            "event.body",
        ),
        (
            "an event without a body",
            with(|request| request.event = Some(v1::Event::default())),
            "event.body",
        ),
        (
            "an unknown durability",
            with(|request| request.durability = 99),
            "durability",
        ),
        (
            "a time to live before now",
            with(|request| request.time_to_live = Some(seconds(-1))),
            "time_to_live",
        ),
        (
            "a key of 257 characters",
            with(|request| request.idempotency_key = "k".repeat(257)),
            "idempotency_key",
        ),
        (
            "a key with control bytes",
            with(|request| request.idempotency_key = "a\u{7}b".into()),
            "idempotency_key",
        ),
        (
            "a collapse key for a stored event",
            with(|request| request.collapse_key = "k".into()),
            "collapse_key",
        ),
        (
            "a job without a name",
            with(|request| request.job = Some(v1::Job::default())),
            "job.id",
        ),
        (
            "custom data that is no JSON",
            with(|request| {
                let custom = v1::Custom {
                    name: "n".into(),
                    data_json: "{".into(),
                };
                request.event = Some(v1::Event {
                    body: Some(v1::event::Body::Custom(custom)),
                });
            }),
            "event.custom.data_json",
        ),
        (
            "an event over 64 KiB",
            with(|request| {
                let update = v1::StatusUpdate {
                    update_type: "t".into(),
                    resource: "r".into(),
                    status: "x".repeat(64 << 10),
                    ..v1::StatusUpdate::default()
                };
                request.event = Some(v1::Event {
                    body: Some(v1::event::Body::StatusUpdate(update)),
                });
            }),
            "event",
        ),
    ]
}

#[tokio::test]
async fn each_invalid_field_is_named_and_others_go_on() {
    let mut attacked = Attacked::start().await;
    let caller = Caller::connect(&attacked, "publisher").await;
    for (what, bytes, field) in invalid_requests() {
        let refused = caller.publish(bytes, &[]).await.expect_err(what);
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
        let details = refused.get_error_details();
        let named = details
            .bad_request()
            .unwrap_or_else(|| panic!("{what}: {refused}"));
        let fields: Vec<_> = named
            .field_violations
            .iter()
            .map(|v| v.field.as_str())
            .collect();
        assert!(
            fields.iter().any(|named| named.starts_with(field)),
            "{what}: {fields:?}"
        );
    }
    caller
        .publish(with(|_| ()), &[])
        .await
        .expect("a valid one is stored");
    attacked.serves().await;
}

/// What it is, the message, the headers beside the usual ones, and the codes that are
/// right.
type BadCall<'a> = (
    &'static str,
    Vec<u8>,
    Vec<(&'static str, &'a str)>,
    &'a [Code],
);

#[tokio::test]
async fn bytes_and_headers_that_no_client_sends_end_one_call() {
    let mut attacked = Attacked::start().await;
    let caller = Caller::connect(&attacked, "publisher").await;
    // A string of bytes that are no UTF-8 in the field of the user; a length without end.
    let bad_utf8 = vec![0x0a, 2, 0xc3, 0x28];
    let endless = vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f];
    // Both targets: the last one counts (protobuf), and it names nobody.
    let both = [with(|_| ()), vec![0x1a, 0]].concat();
    let long = "x".repeat(20 << 10);
    let table: Vec<BadCall<'_>> = vec![
        (
            "no token",
            with(|_| ()),
            vec![("authorization", "")],
            &[Code::Unauthenticated],
        ),
        (
            "a bad token",
            with(|_| ()),
            vec![("authorization", "Bearer x.y.z")],
            &[Code::Unauthenticated],
        ),
        (
            "another scheme",
            with(|_| ()),
            vec![("authorization", "Basic eDp5")],
            &[Code::Unauthenticated],
        ),
        // Decided: tonic names every message that cannot be decoded so (decision 022).
        (
            "bad UTF-8",
            bad_utf8,
            vec![],
            &[Code::Internal, Code::InvalidArgument],
        ),
        ("a length without end", endless, vec![], &[Code::Internal]),
        ("two targets", both, vec![], &[Code::InvalidArgument]),
        ("200 KiB", vec![0; 200 << 10], vec![], &[Code::OutOfRange]),
        (
            "a deadline over the limit",
            with(|_| ()),
            vec![("grpc-timeout", "99999999999S")],
            &[Code::InvalidArgument],
        ),
        (
            "a deadline that is none",
            with(|_| ()),
            vec![("grpc-timeout", "soon")],
            &[Code::InvalidArgument],
        ),
        (
            "compressed",
            with(|_| ()),
            vec![("grpc-encoding", "gzip")],
            &[Code::Unimplemented, Code::Internal, Code::Ok],
        ),
        (
            "headers of 20 KiB",
            with(|_| ()),
            vec![("x-long", &long)],
            &[
                Code::Internal,
                Code::Unknown,
                Code::Unavailable,
                Code::ResourceExhausted,
                Code::Cancelled,
            ],
        ),
    ];
    for (what, bytes, headers, expected) in table {
        let answer = caller.publish(bytes, &headers).await;
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        assert!(expected.contains(&code), "{what}: {answer:?}");
    }
    let edge = Caller::connect(&attacked, "edge").await;
    let refused = edge.publish(with(|_| ()), &[]).await.expect_err("an edge");
    assert_eq!(refused.code(), Code::PermissionDenied);
    attacked.serves().await;
}

#[tokio::test]
async fn one_key_stands_for_one_body() {
    let mut attacked = Attacked::start().await;
    let caller = Caller::connect(&attacked, "publisher").await;
    let keyed = |number| {
        let mut request = numbered("u1", number).request().clone();
        request.idempotency_key = "k".into();
        request.encode_to_vec()
    };
    caller.publish(keyed(1), &[]).await.expect("stored");
    caller.publish(keyed(1), &[]).await.expect("answered again");
    let refused = caller
        .publish(keyed(2), &[])
        .await
        .expect_err("another body");
    assert_eq!(refused.code(), Code::AlreadyExists);
    let keyless = with(|request| request.idempotency_key.clear());
    for _ in 0..2 {
        caller
            .publish(keyless.clone(), &[])
            .await
            .expect("stored each time");
    }
    attacked.serves().await;
}

#[tokio::test]
async fn frames_of_http2_that_break_it_end_their_connection_alone() {
    let mut attacked = Attacked::start().await;
    let grpc = attacked.host("grpc");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for (what, frame) in [
        (
            "data without a stream",
            vec![0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'],
        ),
        (
            "a frame of 16 MiB",
            vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
        ),
        (
            "settings of a wrong length",
            vec![0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5],
        ),
        (
            "headers that no table can decode",
            vec![0, 0, 4, 1, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
        ),
        (
            "a promise of a client",
            vec![0, 0, 4, 5, 4, 0, 0, 0, 1, 0, 0, 0, 2],
        ),
    ] {
        let bytes = [&preface[..], &settings, &frame].concat();
        let answer = answer_to(&grpc, &bytes).await;
        // It hangs up; nothing is promised about the last bytes.
        assert!(!answer.starts_with("HTTP/1.1 200"), "{what}");
    }
    attacked.serves().await;
}
