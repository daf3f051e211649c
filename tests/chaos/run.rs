//! One run: the processes and clients, the faults, the calm, the verification.

use std::{sync::Arc, time::Duration};

use belfry::publisher::Publish;
use fastrand::Rng;
use tokio::time::Instant;

use crate::{
    agents::{self, Agent, FaultLog},
    world::{Aim, History, Load, Process, Proxy, Shadow, Watcher, World, faults_in, list},
};

const USERS: usize = 20;
const DEVICES: usize = 2;
const QUEUES: [&str; 4] = ["support", "sales", "night", "watch"];
const PUBLISHERS: usize = 3;
/// 100 a second for each publisher.
const PUBLISH_EVERY: Duration = Duration::from_millis(10);
/// Bytes that each event carries beside its number.
const PADDING: usize = 200;
/// In a run this long every agent has injected each of its faults.
const LONG: Duration = Duration::from_mins(1);

fn user(number: usize) -> String {
    format!("u{number}")
}

/// The queues that a user's devices follow.
fn queues(number: usize) -> [&'static str; 2] {
    [QUEUES[number % 4], QUEUES[(number + 1) % 4]]
}

/// Seven of ten for users, two for queues, one for everybody.
fn aim(offset: usize) -> Aim {
    Arc::new(move |number, event| {
        let number = number as usize + offset;
        match number % 10 {
            7 | 8 => Publish::to_queue(QUEUES[number / 10 % 4], event),
            9 => Publish::to_everyone(event),
            _ => Publish::to_user(user(number / 3 % USERS), event),
        }
    })
}

/// An edge, the cable to its notifier, and the cable of its clients.
struct Post {
    name: String,
    edge: Process,
    listen: String,
    link: Proxy,
    front: Proxy,
}

impl Post {
    async fn start(world: &World, grpc: &str, name: &str) -> Self {
        let link = Proxy::to(grpc).await;
        let edge = agents::edge(world, "127.0.0.1:0", &link.address.to_string(), name);
        let listen = edge.host();
        let front = Proxy::to(&listen).await;
        Self {
            name: name.to_owned(),
            edge,
            listen,
            link,
            front,
        }
    }
}

pub(crate) async fn run(mut rng: Rng, time: Duration) {
    let world = World::new();
    world.make_secrets();
    let notifier = agents::notifier(&world, "127.0.0.1:0");
    let grpc = notifier.address("grpc");
    let posts = [
        Post::start(&world, &grpc, "edge-1").await,
        Post::start(&world, &grpc, "edge-2").await,
    ];
    let clients = clients(&world, &posts).await;
    let shadow = Shadow::default();
    let loads: Vec<Load> = (0..PUBLISHERS)
        .map(|number| {
            let publisher = world.publisher(&grpc);
            Load::start(&publisher, &shadow, aim(number), (PUBLISH_EVERY, PADDING))
        })
        .collect();

    let fault_log = FaultLog::new();
    let printed = PrintOnPanic(fault_log.clone());
    let ends = Instant::now() + time;
    let mut agent = || Agent {
        rng: rng.fork(),
        fault_log: fault_log.clone(),
        ends,
    };
    let [first, second] = posts;
    let on_notifier = agent().on_process("notifier", notifier, || agents::notifier(&world, &grpc));
    let on_posts = [agent(), agent(), agent(), agent(), agent(), agent()];
    let [edge_1, edge_2, link_1, link_2, front_1, front_2] = on_posts;
    let on_clients = agent().on_clients(&clients);
    let restart = |post: &(String, String, String)| {
        let (listen, link, name) = post;
        agents::edge(&world, listen, link, name)
    };
    let place = |post: &Post| {
        let link = post.link.address.to_string();
        (post.listen.clone(), link, post.name.clone())
    };
    let (place_1, place_2) = (place(&first), place(&second));
    let (notifier, edge_1, edge_2, ..) = tokio::join!(
        on_notifier,
        edge_1.on_process("edge-1", first.edge, || restart(&place_1)),
        edge_2.on_process("edge-2", second.edge, || restart(&place_2)),
        link_1.on_cable("link-1", &first.link),
        link_2.on_cable("link-2", &second.link),
        front_1.on_cable("front-1", &first.front),
        front_2.on_cable("front-2", &second.front),
        on_clients,
    );

    // Calm: everything runs, and every publish is acked.
    let mut published = 0;
    for load in loads {
        published += load.stop().await;
    }
    for edge in [&edge_1, &edge_2] {
        edge.becomes_ready().await;
    }
    let connections: u64 = clients.iter().map(|c| c.state().connections).sum();
    let histories = finish(clients, &shadow).await;
    let seen: usize = histories
        .iter()
        .map(|(_, _, history)| history.seen.len())
        .sum();
    let counts = fault_log.counts();
    println!(
        "{published} acked, {seen} seen by {} clients",
        histories.len()
    );
    println!("{connections} connections; {counts:#?}");
    for (user, queues, history) in &histories {
        let acked = shadow.of(user, queues);
        let faults = faults_in(history, &acked);
        assert!(faults.is_empty(), "{user} saw {}", list(&faults));
        doctored_histories_are_rejected(history, &acked);
    }
    assert!(
        time < LONG || counts.len() >= 22,
        "too few kinds of faults: {counts:?}"
    );
    drop((printed, notifier));
}

async fn clients(world: &World, posts: &[Post; 2]) -> Vec<Watcher> {
    let urls = [posts[0].front.ws(), posts[1].front.ws()];
    let swapped = [posts[1].front.ws(), posts[0].front.ws()];
    let mut clients = Vec::new();
    for number in 0..USERS * DEVICES {
        let owner = number % USERS;
        let first = if number < USERS { &urls } else { &swapped };
        let (user, queues) = (user(owner), queues(owner));
        clients.push(world.watcher(first, (&user, &queues)).await);
    }
    clients
}

async fn finish(clients: Vec<Watcher>, shadow: &Shadow) -> Vec<(String, Vec<String>, History)> {
    let mut tasks = Vec::new();
    for client in clients {
        let (user, queues) = (client.user.clone(), client.queues.clone());
        let acked = shadow.of(&user, &queues);
        tasks.push(tokio::spawn(async move {
            (user, queues, client.finish(&acked).await)
        }));
    }
    let mut histories = Vec::new();
    for task in tasks {
        histories.push(task.await.expect("the client ended"));
    }
    histories
}

/// A history with one event lost, duplicated or swapped does not pass.
fn doctored_histories_are_rejected(history: &History, acked: &[crate::world::Acked]) {
    let doctors: [fn(&mut Vec<crate::world::Acked>, usize); 3] = [
        |seen, at| drop(seen.remove(at)),
        |seen, at| seen.insert(at, seen[at].clone()),
        |seen, at| {
            let stream = seen[at].stream.clone();
            let earlier = seen[..at].iter().rposition(|event| event.stream == stream);
            seen.swap(earlier.expect("two events of a stream"), at);
        },
    ];
    for doctor in doctors {
        let mut doctored = history.clone();
        let last = doctored.seen.len() - 1;
        doctor(&mut doctored.seen, last);
        assert!(!faults_in(&doctored, acked).is_empty());
    }
}

/// Prints the faults that were injected if the run fails.
struct PrintOnPanic(FaultLog);

impl Drop for PrintOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.print();
        }
    }
}
