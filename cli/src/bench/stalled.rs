//! Memory of an edge whose clients stop reading: it may fill their bounded
//! queues, and must not grow with what is published after that.

use std::io;

use belfry::publisher::Publish;
use tokio::runtime::Runtime;

use super::{
    feed::{Feed, PublishMethod, sample},
    report::{Figure, progress},
    servers::Servers,
    sockets::{self, Sockets},
};

const QUEUE: &str = "stalled";
/// Events that fill every queue twice over.
const FILL: u64 = 6_000;
/// Events that come after that.
const MORE: u64 = 24_000;
/// Published ahead of the one client that reads, at most.
const AHEAD: u64 = 64;

/// `stalled` clients that never read, beside one that does and must get all.
pub(super) fn run(servers: &Servers, runtime: &Runtime, stalled: usize) -> io::Result<Figure> {
    let follow = format!("\"{QUEUE}\"");
    let silent = sockets::connect(servers.ws, &servers.user_tokens("z", stalled)?, &follow)?;
    let reader = sockets::connect(servers.ws, &servers.user_tokens("r", 1)?, &follow)?;
    let mut reader = Sockets::new(reader)?;
    let feed = Feed::start(
        runtime,
        &servers.grpc,
        servers.publisher_token()?,
        PublishMethod::Stream,
    )?;
    let bar = progress("clients that stop reading", FILL + MORE);
    let mut pass = |events: u64| {
        let (mut sent, mut got) = (0, 0);
        let mut order = |upto: u64| {
            (sent..upto).try_for_each(|_| feed.order(Publish::to_queue(QUEUE, sample())))?;
            sent = sent.max(upto);
            io::Result::Ok(())
        };
        order(AHEAD.min(events))?;
        reader.read_until(|_, frames| {
            got += frames;
            bar.inc(frames);
            order((got + AHEAD).min(events))?;
            Ok(got >= events)
        })
    };
    pass(FILL)?;
    let filled = servers.resident()?;
    pass(MORE)?;
    let after = servers.resident()?;
    bar.finish_and_clear();
    drop(silent);
    let growth = after.edge.saturating_sub(filled.edge) as f64 * 100.0 / filled.edge as f64;
    let name = format!("{stalled} clients that stop reading");
    let unit = ("%", "more resident after four times what fills the queues");
    let mut figure = Figure::new(name, unit, (0.0, growth), (5.0, "flat: 5 %"));
    figure.units = MORE;
    figure.note = format!(
        "edge {} KiB when full, {} KiB after",
        filled.edge, after.edge
    );
    Ok(figure)
}
