//! `belfry check`: the connection test. Each step says what it proves; the first
//! one that fails says what to look at, and the exit code is 1.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use belfry::ack::AckLevel;
use belfry::publisher::{Publish, Publisher, event};
use clap::Args;
use settings::any_duration;
use uuid::Uuid;

use crate::{
    client::{ClientError, Connection, EdgeAddress, Frame, Hello},
    exit::Failure,
    listen::Who,
    publish::At,
    serve::colours,
};

/// Tests a connection step by step.
#[derive(Args)]
pub(crate) struct Check {
    /// The edge
    #[arg(long, default_value = "ws://127.0.0.1:8080/ws", env = "BELFRY_WS_URL")]
    url: String,
    /// Whom to connect as.
    #[command(flatten)]
    who: Who,
    /// Where to publish.
    #[command(flatten)]
    at: At,
    /// How long each step may take
    #[arg(long, default_value = "10s", value_parser = any_duration)]
    step: Duration,
}

/// Runs the command.
pub(crate) async fn run(check: Check) -> Result<(), Failure> {
    let user = check.who.user.clone();
    let publisher = check.at.publisher(&check.who.secrets);
    let credential = check.who.credential(&[]);
    let token = credential.token().map_err(Failure::usage)?;
    let mut steps = Steps::new();

    let edge = EdgeAddress {
        url: check.url.clone(),
        tls: check.at.tls(),
    };
    let (edge, hello) = (&edge, hello(&token, BTreeMap::new()));
    let mut connection = steps
        .step(
            "connect and authenticate",
            check.step,
            Connection::open(edge, &hello),
        )
        .await?;

    let mut positions = connection.connected.clone();
    let mut ack = AckLevel::Unspecified;
    if let Ok(publisher) = &publisher {
        let mark = Uuid::new_v4().to_string();
        let sent = publish(publisher, &user, &mark);
        ack = steps.step("publish to oneself", check.step, sent).await?;
        let seen = receive(&mut connection, &mark, &mut positions);
        steps.step("receive it", check.step, seen).await?;
    } else {
        steps.skip(
            "publish to oneself",
            "no service token: --service-token-file or --data-dir",
        );
    }

    steps
        .step("heartbeat", check.step, heartbeat(&mut connection))
        .await?;
    steps
        .step("end in order", check.step, goodbye(&mut connection))
        .await?;

    let away = Uuid::new_v4().to_string();
    if let Ok(publisher) = &publisher {
        let missed = publish(publisher, &user, &away);
        steps
            .step("publish while nobody is connected", check.step, missed)
            .await?;
    }
    let known = positions.clone();
    let from = known
        .iter()
        .map(|(stream, at)| (stream.as_str(), at.as_str()))
        .collect();
    let hello = self::hello(&token, from);
    let opened = Connection::open(edge, &hello);
    let mut connection = steps
        .step("reconnect with positions", check.step, opened)
        .await?;
    if publisher.is_ok() {
        let replayed = receive(&mut connection, &away, &mut positions);
        steps
            .step("receive what was missed", check.step, replayed)
            .await?;
    }
    steps
        .step("end in order again", check.step, goodbye(&mut connection))
        .await?;
    if publisher.is_ok() {
        println!("\nack level `{ack}`: {}", ack.sentence());
    }
    println!("\neverything works");
    Ok(())
}

fn hello<'a>(token: &'a str, positions: BTreeMap<&'a str, &'a str>) -> Hello<'a> {
    Hello {
        token,
        positions,
        queues: &[],
    }
}

/// What the ack means.
async fn publish(publisher: &Publisher, user: &str, mark: &str) -> Result<AckLevel, Failure> {
    let event = event::custom("belfry.check", format!(r#"{{"mark":"{mark}"}}"#));
    let sent = publisher.publish(Publish::to_user(user, event)).await;
    sent.map(|published| published.durability)
        .map_err(Failure::failed)
}

/// Reads until the marked event, keeping positions on the way.
async fn receive(
    connection: &mut Connection,
    mark: &str,
    positions: &mut BTreeMap<String, String>,
) -> Result<(), Failure> {
    loop {
        let frame = connection.next().await.map_err(Failure::failed)?;
        for event in frame.events() {
            if event.kind == "gap" {
                return Err(Failure::failed("a gap came instead of the event"));
            }
            if let Some(position) = &event.position {
                positions.insert(event.stream_name(), position.clone());
            }
            if event.raw.contains(mark) {
                return Ok(());
            }
        }
    }
}

async fn heartbeat(connection: &mut Connection) -> Result<Frame, ClientError> {
    connection.ping().await?;
    loop {
        let frame = connection.next().await?;
        if frame.kind == "pong" {
            return Ok(frame);
        }
    }
}

async fn goodbye(connection: &mut Connection) -> Result<(), Failure> {
    if connection.close().await {
        Ok(())
    } else {
        Err(Failure::failed(
            "the edge did not answer the closing handshake",
        ))
    }
}

/// Prints steps as they go.
struct Steps {
    number: u32,
    green: &'static str,
    red: &'static str,
    dim: &'static str,
    end: &'static str,
}

impl Steps {
    fn new() -> Self {
        if colours(&io::stdout()) {
            let (green, red, dim, end) = ("\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m");
            Self {
                number: 0,
                green,
                red,
                dim,
                end,
            }
        } else {
            Self {
                number: 0,
                green: "",
                red: "",
                dim: "",
                end: "",
            }
        }
    }

    async fn step<T, E: std::fmt::Display>(
        &mut self,
        what: &str,
        within: Duration,
        doing: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        self.number += 1;
        let began = Instant::now();
        let outcome = tokio::time::timeout(within, doing).await;
        let Self {
            number,
            green,
            red,
            dim,
            end,
        } = self;
        let cause = match outcome {
            Ok(Ok(value)) => {
                let ms = began.elapsed().as_secs_f64() * 1e3;
                println!("{green}ok{end}    {number}  {what:<36} {dim}{ms:.1} ms{end}");
                return Ok(value);
            }
            Ok(Err(cause)) => cause.to_string(),
            Err(_) => format!("nothing within {} ms", within.as_millis()),
        };
        println!("{red}FAIL{end}  {number}  {what:<36} {cause}");
        Err(Failure::failed(cause).while_doing(&format!("step {number}, {what}")))
    }

    fn skip(&mut self, what: &str, why: &str) {
        self.number += 1;
        let Self {
            number, dim, end, ..
        } = self;
        println!("{dim}--    {number}  {what:<36} {why}{end}");
    }
}
