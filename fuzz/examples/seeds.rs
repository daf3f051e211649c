//! Writes the seeds that only the encoders can make: segments, records, messages of the
//! link, positions, tokens. Those of text are written by hand.

use std::{error::Error, fs, path::Path, time::Duration};

use belfry::{
    identity::{UserKeys, Validity},
    v1::{self, EdgeMessage, HubMessage, edge_message, hub_message},
};
use bytes::Bytes;
use cluster::chain::Tip;
use delivery::{DedupeKey, Placement, Position, Record};
use notifier::log::{
    Log,
    embedded::{Embedded, Options, format::encode_record},
};
use prost::Message;

fn seed(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}

fn record(lsn: u64) -> Record {
    let placement = |stream: &str| Placement {
        stream: stream.into(),
        offset: lsn,
    };
    Record {
        lsn,
        id: u128::from(lsn) << 64 | 0xabc,
        placements: [placement("user:ada"), placement("queue:support")].into(),
        check: lsn as u32,
        job: None,
        dedupe: (lsn == 2).then_some(DedupeKey { key: 14, body: 6 }),
        envelope: Bytes::from(vec![lsn as u8; 40]),
    }
}

async fn log_seeds() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let options = Options {
        segment_bytes: 4 << 10,
        preallocate_bytes: 0,
        ..Options::default()
    };
    let log = Embedded::open(dir.path(), options)?;
    for batch in [vec![record(1)], vec![record(2), record(3)]] {
        log.append(batch).await?;
    }
    drop(log);
    let segment = fs::read(dir.path().join("00000001.segment"))?;
    seed("recovery", "three-records", &segment)?;
    seed("record", "segment", &segment)?;
    for lsn in [1, 2] {
        let mut bytes = Vec::new();
        encode_record(&record(lsn), &mut bytes);
        seed("record", &format!("record-{lsn}"), &bytes)?;
    }
    Ok(())
}

fn chain_seeds() -> std::io::Result<()> {
    let term = Tip::default().begin_term(1, 7, b"notifier-1\n10.0.0.1:7401");
    let mut body = Vec::new();
    for lsn in [1, 2] {
        encode_record(&record(lsn), &mut body);
    }
    let batch = term.tip.batch(2, &body);
    let head = batch.tip.head(b"everyone");
    for (name, entry) in [("term", term), ("batch", batch), ("head", head)] {
        seed("chain", name, &entry.bytes)?;
    }
    Ok(())
}

fn link_seeds() -> std::io::Result<()> {
    use edge_message::Body;

    let position = v1::Position {
        epoch: 7,
        offset: 41,
        check: 9,
    };
    let interest = v1::Interest {
        stream: "user:ada".into(),
        from: Some(position),
    };
    let open = v1::OpenSession {
        session: 1,
        session_id: "s-1".into(),
        interests: vec![interest.clone()],
        ..v1::OpenSession::default()
    };
    let join = v1::JoinStream {
        session: 1,
        interest: Some(interest),
    };
    let fetch = v1::Fetch {
        session: 1,
        stream: "user:ada".into(),
        after: Some(position),
    };
    let receipt = v1::EventReceipt {
        event_id: vec![1; 16].into(),
        state: 4,
    };
    let receipts = v1::Receipts {
        session: 1,
        receipts: vec![receipt],
    };
    for (name, body) in [
        (
            "hello",
            Body::Hello(v1::Hello {
                edge: "edge-1".into(),
                protocol_version: 2,
                ..v1::Hello::default()
            }),
        ),
        ("open", Body::Open(open)),
        ("join", Body::Join(join)),
        ("fetch", Body::Fetch(fetch)),
        ("receipts", Body::Receipts(receipts)),
        ("credit", Body::Credit(v1::Credit::default())),
        ("close", Body::Close(v1::CloseSession { session: 1 })),
    ] {
        let messages = vec![EdgeMessage { body: Some(body) }];
        seed(
            "link-message",
            name,
            &v1::AttachRequest { messages }.encode_to_vec(),
        )?;
    }
    let welcome = v1::Welcome {
        epoch: 7,
        request_window: 256,
        ..v1::Welcome::default()
    };
    let messages = vec![HubMessage {
        body: Some(hub_message::Body::Welcome(welcome)),
    }];
    seed(
        "link-message",
        "welcome",
        &v1::AttachResponse { messages }.encode_to_vec(),
    )
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    log_seeds().await?;
    chain_seeds()?;
    link_seeds()?;
    let position = Position {
        epoch: 7,
        offset: 41,
        check: 9,
    };
    seed("position", "packed", &position.pack())?;
    seed(
        "position",
        "text",
        edge::protocol::position_text(position).as_bytes(),
    )?;
    let validity = Validity {
        issued_at: 1_799_999_000,
        lifetime: Duration::from_hours(1),
    };
    let keys = UserKeys::new(b"0123456789abcdef0123456789abcdef", None)?;
    let token = keys.sign("ada", &["support".to_owned()], validity)?;
    seed("token", "user", token.as_bytes())?;
    Ok(())
}
