//! Bodies that arrive in pieces, late or not at all.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{FutureExt, future::poll_fn};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tonic::Code;

use super::*;
use crate::config::Config;

/// A body of the chunks that a test sends.
struct Chunks(mpsc::UnboundedReceiver<Bytes>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.0.poll_recv(cx);
        chunk.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

struct World {
    shares: Shares,
    late: Counter,
    send: mpsc::UnboundedSender<Bytes>,
    body: BoundedBody<Chunks>,
}

impl World {
    fn start(streamed: bool) -> Self {
        let shares = Shares::new(&Config {
            grpc_body_memory: 128 << 10,
            ..Config::default()
        });
        let late = Counter::default();
        let limits = BodyLimits {
            shares: shares.clone(),
            service: "a".into(),
            max_message: 64 << 10,
            timeout: Duration::from_secs(10),
            streamed,
            late: late.clone(),
        };
        let (send, chunks) = mpsc::unbounded_channel();
        Self {
            shares,
            late,
            send,
            body: BoundedBody::new(Chunks(chunks), limits),
        }
    }

    fn used(&self) -> u64 {
        let list = self.shares.list();
        let mut shares = list.iter();
        let share = shares.find(|s| s.bucket == Bucket::BodyBytes && &*s.service == "a");
        share.and_then(|share| share.used).unwrap_or(0)
    }

    async fn next(&mut self) -> Option<Result<(), Status>> {
        let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await?;
        Some(frame.map(drop).map_err(Status::from_error))
    }

    async fn receives(&mut self, bytes: &[u8]) {
        self.send.send(Bytes::copy_from_slice(bytes)).unwrap();
        self.next().await.unwrap().unwrap();
    }
}

fn prefix(length: u32) -> Vec<u8> {
    [&[0], &length.to_be_bytes()[..]].concat()
}

#[tokio::test(start_paused = true)]
async fn a_message_takes_its_length_until_it_is_whole() {
    let mut world = World::start(true);
    world.receives(&[prefix(3), vec![1, 2, 3]].concat()).await;
    assert_eq!(world.used(), 0, "one that came whole took nothing");
    world.receives(&prefix(1_000)[..2]).await;
    assert_eq!(world.used(), 0, "its length is not known");
    world.receives(&prefix(1_000)[2..]).await;
    assert_eq!(world.used(), 1_000);
    world.receives(&[1; 999]).await;
    assert_eq!(world.used(), 1_000);
    world.receives(&[vec![1], prefix(500)].concat()).await;
    assert_eq!(world.used(), 500);
    drop(world.body);
    assert_eq!(
        world
            .shares
            .list()
            .iter()
            .filter_map(|s| s.used)
            .sum::<u64>(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn more_than_the_share_ends_the_call_and_says_which_bucket() {
    let mut world = World::start(true);
    let all = only(Bucket::BodyBytes, 20 << 10);
    let held = world.shares.take(&"a".into(), all).unwrap();
    world.send.send(prefix(20 << 10).into()).unwrap();
    let refused = world.next().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("`body_bytes`"), "{refused}");
    assert!(world.next().await.is_none());
    drop(held);
    assert_eq!(world.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_too_long_is_left_to_who_decodes_it() {
    let mut world = World::start(true);
    world.receives(&prefix(u32::MAX)).await;
    world.receives(&[0; 100]).await;
    assert_eq!(world.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_trickles_ends_in_time_and_a_stream_may_be_silent_between_messages() {
    let mut unary = World::start(false);
    for _ in 0..9 {
        unary.receives(&prefix(100)[..1]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let late = unary.next().await.unwrap().unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(late.message().contains("`--grpc-body-timeout`"), "{late}");
    assert_eq!(unary.late.get(), 1);

    let mut stream = World::start(true);
    let silence = tokio::time::timeout(Duration::from_hours(1), stream.next());
    assert!(silence.await.is_err());
    stream.receives(&prefix(100)).await;
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.receives(&[0]).await;
    }
    // Whole in time: the next one has a time of its own.
    stream.receives(&[vec![0; 91], prefix(100)].concat()).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(stream.next().now_or_never().is_none());
    let late = stream.next().await.unwrap().unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
}

proptest! {
    #[test]
    fn however_messages_are_cut_the_reader_finds_their_ends(
        lengths in proptest::collection::vec(0_u32..50, 0..20),
        cuts in proptest::collection::vec(1_usize..30, 1..50),
    ) {
        let mut bytes = Vec::new();
        for length in &lengths {
            bytes.extend(prefix(*length));
            bytes.extend(vec![7; *length as usize]);
        }
        let mut progress = Progress::default();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (mut chunk, later) = rest.split_at((*cut).min(rest.len()));
            let length = progress.read(&mut chunk, 50);
            prop_assert!(length.is_none_or(|length| lengths.contains(&(length as u32))));
            rest = later;
        }
        prop_assert!(progress.is_between_messages());
    }
}
