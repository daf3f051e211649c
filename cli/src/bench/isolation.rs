//! How stuck peers affect the others: clients that stop reading, and an edge that is
//! stopped. These are the only wall times of the bench, and therefore reported as a
//! ratio to the same measurement a moment before.

use std::{
    io,
    time::{Duration, Instant},
};

use belfry::publisher::{Credential, Publish, Publisher, PublisherConfig, event};
use tokio::runtime::Runtime;

use super::{
    feed::{Feed, PublishMethod, sample},
    report::{Figure, progress},
    servers::Servers,
    sockets::{self, Sockets},
};

const QUEUE: &str = "isolation";
/// Bytes of an event: buffers and queues of who does not read are full in a
/// quarter of the time that they have.
const EVENT_BYTES: usize = 2 << 10;
/// One client in so many stops reading.
const ONE_IN: usize = 20;
/// How long the others are watched before; and with them, so that everything
/// happens: buffers fill, queues fill and overflow, and at 15 s they are closed.
const BEFORE: Duration = Duration::from_secs(10);
const WITH: Duration = Duration::from_secs(20);
/// Kernel memory of a client that does not read.
const SMALL: usize = 4 << 10;
/// Clients of the edge that is stopped.
const BEHIND: usize = 100;

/// Every latency of a stretch of time, in microseconds.
struct Latencies(Vec<u32>);

impl Latencies {
    fn at(&mut self, percent: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let rank = (last as f64 * percent / 100.0).round() as usize;
        match self.0.as_mut_slice() {
            [] => 0.0,
            all => f64::from(*all.select_nth_unstable(rank).1),
        }
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// The other clients' p99 with 5 % that stop reading, against that without.
pub(super) fn clients(
    servers: &Servers,
    runtime: &Runtime,
    (clients, repeat): (usize, usize),
) -> io::Result<Figure> {
    let follow = format!("\"{QUEUE}\"");
    let stuck = (clients / ONE_IN).max(1);
    let tokens = servers.user_tokens("r", clients - stuck)?;
    let mut others = Sockets::new(sockets::connect(servers.ws, &tokens, &follow)?)?;
    let token = servers.publisher_token()?;
    let feed = Feed::start(runtime, &servers.grpc, token, PublishMethod::Stream)?;
    let bar = progress("others beside clients that stop", repeat as u64);
    deliver(&mut others, &feed, BEFORE / 10)?;
    let (mut ratios, mut notes) = (Vec::new(), Vec::new());
    let mut units = 0;
    for round in 0..repeat {
        let mut without = deliver(&mut others, &feed, BEFORE)?;
        let tokens = servers.user_tokens(&format!("s{round}-"), stuck)?;
        let silent = sockets::connect(servers.ws, &tokens, &follow)?;
        for socket in &silent {
            rustix::net::sockopt::set_socket_recv_buffer_size(socket, SMALL)?;
        }
        let mut with = deliver(&mut others, &feed, WITH)?;
        drop(silent);
        units += with.0.len() as u64;
        let (before, beside) = (without.at(99.0), with.at(99.0));
        ratios.push(beside / before.max(1.0));
        notes.push(format!("{before:.0} → {beside:.0} µs"));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let closed = servers.edge_metric("connections_closed_total{reason=\"SLOW_CONSUMER\"}")?;
    ratios.sort_by(f64::total_cmp);
    let name = format!("others' p99, {stuck} of {clients} stop reading");
    let unit = ("×", "with them of without them");
    let ratio = ratios[ratios.len() / 2];
    let mut figure = Figure::new(name, unit, (0.0, ratio), (1.5, "1.5 ×"));
    figure.units = units;
    figure.note = format!("{}; {closed} were closed", notes.join(", "));
    Ok(figure)
}

/// Publishes one event after the other, each once the one before is everywhere.
fn deliver(sockets: &mut Sockets, feed: &Feed, time: Duration) -> io::Result<Latencies> {
    let data = format!("{{\"padding\":\"{}\"}}", "x".repeat(EVENT_BYTES));
    let fire = || {
        let event = event::custom("bench.sample", data.clone());
        feed.order(Publish::to_queue(QUEUE, event))
    };
    let ends = Instant::now() + time;
    let (mut fired, mut missing) = (Instant::now(), sockets.len() as u64);
    let mut latencies = Vec::new();
    let all = missing;
    fire()?;
    sockets.read_until(|_, frames| {
        latencies.push(micros(fired));
        missing = missing.saturating_sub(frames);
        if missing > 0 {
            return Ok(false);
        }
        if Instant::now() >= ends {
            return Ok(true);
        }
        (fired, missing) = (Instant::now(), all);
        fire()?;
        Ok(false)
    })?;
    Ok(Latencies(latencies))
}

/// A publish's median latency while one of two edges is stopped for 20 s, against
/// that before.
pub(super) fn edges(servers: &Servers, runtime: &Runtime) -> io::Result<Figure> {
    let follow = format!("\"{QUEUE}\"");
    let second = servers.second_edge()?;
    let here = sockets::connect(servers.ws, &servers.user_tokens("h", BEHIND)?, &follow)?;
    let there = sockets::connect(second.ws, &servers.user_tokens("t", BEHIND)?, &follow)?;
    for streams in [here, there] {
        // They read until nothing comes for a while, or the servers are gone.
        std::thread::spawn(move || Sockets::new(streams)?.read_until(|_, _| Ok(false)));
    }
    let _inside = runtime.enter();
    let token = Credential::token(servers.publisher_token()?);
    let publisher = Publisher::connect(PublisherConfig::new(&servers.grpc, token));
    let publisher = publisher.map_err(io::Error::other)?;
    let bar = progress("publishing beside a stopped edge", 2);
    let publish = |time: Duration| {
        let ends = Instant::now() + time;
        let mut latencies = Vec::new();
        while Instant::now() < ends {
            let began = Instant::now();
            let publish = publisher.publish(Publish::to_queue(QUEUE, sample()));
            runtime.block_on(publish).map_err(io::Error::other)?;
            latencies.push(micros(began));
        }
        io::Result::Ok(Latencies(latencies))
    };
    publish(BEFORE / 10)?;
    let mut before = publish(BEFORE)?;
    bar.inc(1);
    second.stop()?;
    let during = publish(WITH);
    second.go_on()?;
    let mut during = during?;
    bar.finish_and_clear();
    let (median, beside) = (before.at(50.0), during.at(50.0));
    let unit = ("×", "median publish, while it is stopped of before");
    let name = "publish, one of two edges stopped for 20 s";
    let ratio = beside / median.max(1.0);
    let mut figure = Figure::new(name, unit, (ratio, 0.0), (1.1, "nothing is added: 1.1 ×"));
    figure.units = during.0.len() as u64;
    figure.note = format!(
        "median {median:.0} → {beside:.0} µs, p99 {:.0} → {:.0} µs",
        before.at(99.0),
        during.at(99.0)
    );
    Ok(figure)
}
