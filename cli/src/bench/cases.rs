//! The measurements: each returns its figures, in CPU and memory of the servers
//! for one unit of work, never in time on the wall.

use std::{collections::VecDeque, io, time::Instant};

use belfry::publisher::Publish;
use indicatif::ProgressBar;
use tokio::runtime::Runtime;

use super::{
    feed::{Feed, PublishMethod, sample},
    floor::Floor,
    report::{Figure, progress},
    servers::{PerServer, Servers},
    sockets::{self, Sockets},
    usage::Cpu,
};

const QUEUE: &str = "bench";
const MICROS: (&str, &str) = ("µs", "of CPU per delivery");

/// How large a measurement is.
pub(super) struct Size {
    /// Connections.
    pub(super) sockets: usize,
    /// Published events of one window (connections for `connect`).
    pub(super) rounds: u64,
    /// Unanswered at a time.
    pub(super) in_flight: u64,
    /// Windows; their median counts.
    pub(super) repeat: usize,
}

/// Counts for each event how many sockets have it.
struct Rounds {
    seen: Vec<u64>,
    /// How many have event `done + n`, by `n`.
    open: VecDeque<usize>,
    done: u64,
}

impl Rounds {
    fn new(sockets: usize) -> Self {
        Self {
            seen: vec![0; sockets],
            open: VecDeque::new(),
            done: 0,
        }
    }

    /// `socket` has `frames` more; how many events are now everywhere.
    fn count(&mut self, socket: usize, frames: u64) -> u64 {
        for _ in 0..frames {
            let at = (self.seen[socket] - self.done) as usize;
            self.seen[socket] += 1;
            if at == self.open.len() {
                self.open.push_back(0);
            }
            self.open[at] += 1;
        }
        let before = self.done;
        while self.open.front() == Some(&self.seen.len()) {
            self.open.pop_front();
            self.done += 1;
        }
        self.done - before
    }
}

/// Sends `rounds` events to every socket, `in_flight` at a time.
fn fan_out(
    sockets: &mut Sockets,
    size: &Size,
    bar: &ProgressBar,
    mut fire: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut rounds = Rounds::new(sockets.len());
    let mut sent = size.in_flight.min(size.rounds);
    fire(sent)?;
    sockets.read_until(|socket, frames| {
        let done = rounds.count(socket, frames);
        if done > 0 {
            bar.inc(done);
            let more = done.min(size.rounds - sent);
            sent += more;
            if more > 0 {
                fire(more)?;
            }
        }
        Ok(rounds.done == size.rounds)
    })
}

/// Fan-out to many sockets, beside the floor with frames of the same size.
pub(super) fn fanout(servers: &Servers, runtime: &Runtime, size: &Size) -> io::Result<Figure> {
    let tokens = servers.user_tokens("f", size.sockets)?;
    let queue = format!("{QUEUE}{}", size.in_flight);
    let opened = sockets::connect(servers.ws, &tokens, &format!("\"{queue}\""))?;
    let mut ours = Sockets::new(opened)?;
    let feed = Feed::start(
        runtime,
        &servers.grpc,
        servers.publisher_token()?,
        PublishMethod::Stream,
    )?;
    let publish =
        |count: u64| (0..count).try_for_each(|_| feed.order(Publish::to_queue(&queue, sample())));
    let warm = Size {
        rounds: 16,
        ..*size
    };
    fan_out(&mut ours, &warm, &ProgressBar::hidden(), publish)?;
    let frame_bytes = (ours.bytes / ours.frames) as usize;

    let mut floor = Floor::start(size.sockets, frame_bytes)?;
    let mut theirs = Sockets::new(std::mem::take(&mut floor.sockets))?;
    let pid = floor.pid();
    let mut command = |count: u64| floor.fire(count as u8);
    fan_out(&mut theirs, &warm, &ProgressBar::hidden(), &mut command)?;

    let name = format!(
        "fan-out to {} sockets, {} in flight",
        size.sockets, size.in_flight
    );
    let bar = progress(&name, 2 * size.rounds * size.repeat as u64);
    let deliveries = (size.rounds * size.sockets as u64) as f64;
    let (mut used_by_window, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..size.repeat {
        // In turn, so that both see the same moods of the machine.
        let before = Cpu::of(pid)?;
        fan_out(&mut theirs, size, &bar, &mut command)?;
        floors.push(Cpu::of(pid)?.since(before).as_secs_f64() * 1e6 / deliveries);
        let before = servers.cpu()?;
        fan_out(&mut ours, size, &bar, publish)?;
        used_by_window.push(used(servers, before, deliveries)?);
    }
    bar.finish_and_clear();
    let floor = median(floors);
    let (times, rule) = if size.in_flight == 1 {
        (1.15, "1.15 × the floor of this run")
    } else {
        (1.3, "1.3 × the coalescing floor of this run")
    };
    let mut figure = Figure::new(
        name,
        MICROS,
        median_used(&used_by_window),
        (times * floor, rule),
    );
    figure.floor = Some(floor);
    figure.units = deliveries as u64;
    figure.note = format!("frames of {frame_bytes} bytes, median of {}", size.repeat);
    Ok(figure)
}

/// One event for one user each time.
pub(super) fn unicast(
    servers: &Servers,
    runtime: &Runtime,
    size: &Size,
    method: PublishMethod,
) -> io::Result<Figure> {
    let prefix = if method == PublishMethod::Stream {
        "s"
    } else {
        "u"
    };
    let tokens = servers.user_tokens(prefix, size.sockets)?;
    let mut ours = Sockets::new(sockets::connect(servers.ws, &tokens, "")?)?;
    let feed = Feed::start(runtime, &servers.grpc, servers.publisher_token()?, method)?;
    let (how, budget) = match method {
        PublishMethod::Stream => (
            "by stream",
            (10.0, "10 µs stored and synced, both together"),
        ),
        PublishMethod::Unary => (
            "by unary calls",
            (18.0, "18 µs stored and synced, both together"),
        ),
    };
    let name = format!("unicast to {} users, {how}", size.sockets);
    let bar = progress(&name, size.rounds * (size.repeat as u64 + 1));
    let mut user = 0;
    let mut next = || {
        // A stride prime to the number of users visits each before any twice.
        user = (user + 1_009) % size.sockets;
        feed.order(Publish::to_user(format!("{prefix}{user}"), sample()))
    };
    let mut window = |rounds: u64, sockets: &mut Sockets| -> io::Result<()> {
        let (mut sent, mut done) = (size.in_flight.min(rounds), 0);
        (0..sent).try_for_each(|_| next())?;
        sockets.read_until(|_, frames| {
            done += frames;
            bar.inc(frames);
            let more = frames.min(rounds - sent);
            sent += more;
            (0..more).try_for_each(|_| next())?;
            Ok(done >= rounds)
        })
    };
    window(size.rounds.min(2_000), &mut ours)?;
    let mut used_by_window = Vec::new();
    for _ in 0..size.repeat {
        let before = servers.cpu()?;
        window(size.rounds, &mut ours)?;
        used_by_window.push(used(servers, before, size.rounds as f64)?);
    }
    bar.finish_and_clear();
    let unit = ("µs", "of CPU per publish and delivery");
    let mut figure = Figure::new(name, unit, median_used(&used_by_window), budget);
    figure.units = size.rounds;
    figure.note = format!("{} in flight, median of {}", size.in_flight, size.repeat);
    Ok(figure)
}

/// Resident memory of connections that say nothing.
pub(super) fn idle(servers: &Servers, size: &Size) -> io::Result<Vec<Figure>> {
    let warm = sockets::connect(servers.ws, &servers.user_tokens("w", 256)?, "")?;
    let before = servers.resident()?;
    let tokens = servers.user_tokens("i", size.sockets)?;
    let open = sockets::connect(servers.ws, &tokens, "")?;
    let after = servers.resident()?;
    drop((warm, open));
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / size.sockets as f64;
    let unit = ("KiB", "resident per idle connection");
    let edge = (0.0, each(after.edge, before.edge));
    let notifier = (each(after.notifier, before.notifier), 0.0);
    let mut figures = [
        Figure::new("idle connection, in the edge", unit, edge, (4.0, "4 KiB")),
        Figure::new(
            "idle connection, in the notifier",
            unit,
            notifier,
            (1.0, "1 KiB"),
        ),
    ];
    for figure in &mut figures {
        figure.units = size.sockets as u64;
    }
    Ok(figures.into())
}

/// Connecting, up to `connected`: handshake, token, session.
pub(super) fn connect(servers: &Servers, size: &Size) -> io::Result<Figure> {
    let bar = progress("connect", size.repeat as u64);
    drop(sockets::connect(
        servers.ws,
        &servers.user_tokens("w", 256)?,
        "",
    )?);
    let mut used_by_window = Vec::new();
    for repeat in 0..size.repeat {
        let tokens = servers.user_tokens(&format!("c{repeat}-"), size.rounds as usize)?;
        let before = servers.cpu()?;
        let open = sockets::connect(servers.ws, &tokens, "")?;
        used_by_window.push(used(servers, before, size.rounds as f64)?);
        bar.inc(1);
        drop(open);
    }
    bar.finish_and_clear();
    let unit = ("µs", "of CPU per connection");
    let budget = (80.0, "80 µs with JWT, session registered");
    let mut figure = Figure::new("connect", unit, median_used(&used_by_window), budget);
    figure.units = size.rounds;
    figure.note = format!("8 at a time, median of {}", size.repeat);
    Ok(figure)
}

/// Acked, synced publishes with nobody listening.
pub(super) fn durable(servers: &Servers, runtime: &Runtime, size: &Size) -> io::Result<Figure> {
    let feed = Feed::start(
        runtime,
        &servers.grpc,
        servers.publisher_token()?,
        PublishMethod::Stream,
    )?;
    let bar = progress("durable", size.rounds * size.repeat as u64);
    let (mut used_by_window, mut rates, mut due) = (Vec::new(), Vec::new(), 0);
    for _ in 0..size.repeat {
        let (before, began) = (servers.cpu()?, Instant::now());
        for number in 0..size.rounds {
            let user = number % size.sockets as u64;
            feed.order(Publish::to_user(format!("d{user}"), sample()))?;
        }
        due += size.rounds;
        while feed.acked() < due {
            if let Some(failure) = feed.failure() {
                return Err(failure);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        rates.push(size.rounds as f64 / began.elapsed().as_secs_f64());
        used_by_window.push(used(servers, before, size.rounds as f64)?);
        bar.inc(size.rounds);
    }
    bar.finish_and_clear();
    let unit = ("µs", "of CPU per acked, synced publish");
    let budget = (9.4, "9.4 µs, Redis with `appendfsync always`");
    let mut figure = Figure::new(
        "durable publish",
        unit,
        median_used(&used_by_window),
        budget,
    );
    figure.units = size.rounds;
    figure.note = format!("{:.0} a second here, load included", median(rates));
    Ok(figure)
}

/// CPU since `before`, in µs for each of `units`: notifier and edge.
fn used(servers: &Servers, before: PerServer<Cpu>, units: f64) -> io::Result<(f64, f64)> {
    let now = servers.cpu()?;
    let each = |now: Cpu, before: Cpu| now.since(before).as_secs_f64() * 1e6 / units;
    Ok((
        each(now.notifier, before.notifier),
        each(now.edge, before.edge),
    ))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The window whose sum is the median.
fn median_used(used_by_window: &[(f64, f64)]) -> (f64, f64) {
    let mut used_by_window = used_by_window.to_vec();
    used_by_window.sort_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)));
    used_by_window[used_by_window.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_done_when_every_socket_has_it() {
        let mut rounds = Rounds::new(2);
        assert_eq!(rounds.count(0, 3), 0);
        assert_eq!(rounds.count(1, 1), 1);
        assert_eq!(rounds.count(1, 2), 2);
        assert_eq!(rounds.done, 3);
    }

    #[test]
    fn the_floor_reaches_every_socket_with_frames_of_the_requested_size() {
        // The floor's loop runs in a thread here; `bench` gives it a process.
        let frame = super::super::frames::ready_made(300);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ends: Vec<_> = (0..4)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let mut servers: Vec<_> = (0..4).map(|_| listener.accept().unwrap().0).collect();
        let mut sockets = Sockets::new(ends).unwrap();
        let size = Size {
            sockets: 4,
            rounds: 20,
            in_flight: 8,
            repeat: 1,
        };
        let bar = ProgressBar::hidden();
        fan_out(&mut sockets, &size, &bar, |count| {
            servers
                .iter_mut()
                .try_for_each(|server| io::Write::write_all(server, &frame.repeat(count as usize)))
        })
        .unwrap();
        assert_eq!((sockets.frames, sockets.bytes), (80, 80 * 300));
    }
}
