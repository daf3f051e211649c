//! The sync setting of NATS servers, as their monitoring ports show it.
//!
//! An ordinary client cannot read it. One server without `sync_interval: always` is
//! enough for an ack that is not synced.

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

use super::{ANSWER_TIMEOUT, EngineError, unavailable};

/// The most bytes of an answer.
const MAX_ANSWER_BYTES: u64 = 256 << 10;

#[derive(Deserialize)]
struct Varz {
    #[serde(default)]
    jetstream: JetStream,
}

#[derive(Default, Deserialize)]
struct JetStream {
    #[serde(default)]
    config: JetStreamConfig,
}

#[derive(Default, Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
}

/// Whether every one of these servers syncs before it acknowledges.
pub(super) async fn is_always(monitors: &[String]) -> Result<bool, EngineError> {
    for monitor in monitors {
        let answer = time::timeout(ANSWER_TIMEOUT, read(monitor)).await;
        let body = answer.map_err(|_| unavailable(format!("no answer from {monitor}")))?;
        let body = body.map_err(|error| unavailable(format!("{monitor}: {error}")))?;
        let varz: Varz = serde_json::from_slice(&body)
            .map_err(|error| unavailable(format!("http://{monitor}/varz: {error}")))?;
        if !varz.jetstream.config.sync_always {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The body of `GET /varz`.
async fn read(monitor: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(monitor).await?;
    let request = format!("GET /varz HTTP/1.0\r\nHost: {monitor}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut stream = stream.take(MAX_ANSWER_BYTES);
    stream.read_to_end(&mut answer).await?;
    let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    Ok(answer.split_off(body.map_or(answer.len(), |start| start + 4)))
}
