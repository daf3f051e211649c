//! The hub's task: the one owner of all delivery state.
//!
//! It receives, feeds the machine, and acts on what comes out. It never awaits an
//! output: replies go to oneshots, batches to edges fit because the machine sends
//! only against credit, and one append at a time runs beside the loop while the
//! next batch gathers.

mod announce;
mod outputs;
mod watchers;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use delivery::{
    Limits, Millis, Record, StoredEvent,
    hub::{
        Announcement, Hub, Input, LinkId, Output, Publish, ReadId, Reply, Stats, Subject, Ticket,
        WatchId,
    },
    link::{LinkFault, ToEdge, ToHub},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};

use self::watchers::Watchers;
use crate::{
    log::{Appended, Log, LogError},
    watch::{PresenceUpdate, ReceiptUpdate, Watch},
};

/// Batches of publishes taken in before the loop looks at anything else.
const BATCHES_A_TURN: usize = 64;
/// Commands taken in before the loop looks at anything else.
const COMMANDS_A_TURN: usize = 64;

/// One publish and where its reply goes.
#[derive(Debug)]
pub(crate) struct PublishCall {
    pub(crate) publish: Publish,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// A session, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedSession {
    pub(crate) edge: String,
    pub(crate) session: u64,
    pub(crate) user: String,
    pub(crate) public_id: String,
    pub(crate) streams: Vec<String>,
}

/// Every other request to the hub's task.
#[derive(Debug)]
pub(crate) enum Command {
    Attach {
        name: Arc<str>,
        deliveries: u32,
        bytes: u64,
        to_edge: mpsc::Sender<Vec<ToEdge>>,
        number: oneshot::Sender<LinkId>,
        /// Receives why the hub ended the link, if it did.
        ended: oneshot::Sender<LinkFault>,
    },
    FromEdge(LinkId, Vec<ToHub>),
    Detach(LinkId),
    Sessions {
        user: String,
        after: Option<(String, u64)>,
        count: usize,
        reply: oneshot::Sender<Vec<ListedSession>>,
    },
    Presence {
        users: Vec<String>,
        reply: oneshot::Sender<Vec<usize>>,
    },
    WatchReceipts {
        publisher: Arc<str>,
        subject: Subject,
        watch: Watch<ReceiptUpdate>,
    },
    WatchPresence {
        /// None: everybody.
        users: BTreeSet<Arc<str>>,
        watch: Watch<PresenceUpdate>,
    },
    /// The caller of a watch has gone, or was notified that it is over.
    Unwatch(WatchId),
    Stats(oneshot::Sender<Stats>),
    /// Answered when nothing is in flight any more.
    Drain(oneshot::Sender<()>),
}

type Append = Pin<Box<dyn Future<Output = (u64, Result<Appended, LogError>)> + Send>>;

struct Outbox {
    channel: mpsc::Sender<Vec<ToEdge>>,
    batch: Vec<ToEdge>,
    ended: oneshot::Sender<LinkFault>,
}

/// The driver of a [`Hub`].
pub(crate) struct HubTask<L> {
    hub: Hub,
    limits: Limits,
    log: Arc<L>,
    started: Instant,
    out: Vec<Output>,
    gathered: Vec<Record>,
    append: Option<Append>,
    reads: JoinSet<(ReadId, Result<Vec<StoredEvent>, LogError>)>,
    replies: BTreeMap<Ticket, oneshot::Sender<Reply>>,
    outboxes: BTreeMap<LinkId, Outbox>,
    drained: Option<oneshot::Sender<()>>,
    /// What is to be published on the hub's own behalf.
    announcements: Vec<Announcement>,
    watchers: Watchers,
    next_number: u64,
    failed: Option<LogError>,
}

impl<L: Log> HubTask<L> {
    pub(crate) fn new(limits: Limits, log: Arc<L>) -> Self {
        let recovered = log.take_recovered();
        Self {
            hub: Hub::new(limits.clone(), recovered, 0),
            limits,
            log,
            started: Instant::now(),
            out: Vec::new(),
            gathered: Vec::new(),
            append: None,
            reads: JoinSet::new(),
            replies: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            drained: None,
            announcements: Vec::new(),
            watchers: Watchers::default(),
            next_number: 1,
            failed: None,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.hub.epoch()
    }

    /// Runs until every handle is dropped, or the log fails.
    pub(crate) async fn run(
        mut self,
        mut publishes: mpsc::Receiver<Vec<PublishCall>>,
        mut commands: mpsc::Receiver<Command>,
    ) -> Result<(), LogError> {
        let mut calls = Vec::with_capacity(BATCHES_A_TURN);
        let mut requests = Vec::with_capacity(COMMANDS_A_TURN);
        loop {
            // Work that is always ready must not hold up what is due.
            let deadline = match self.hub.next_deadline() {
                Some(due) if due <= self.now() => {
                    self.feed(Input::Deadline);
                    self.hub.next_deadline()
                }
                deadline => deadline,
            };
            tokio::select! {
                biased;
                (upto, appended) = appended(&mut self.append) => self.appended(upto, appended),
                Some(read) = self.reads.join_next() => {
                    // A read that panicked is a bug of the log: end as for a failure.
                    let (read, events) = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                    self.read(read, events);
                }
                count = commands.recv_many(&mut requests, COMMANDS_A_TURN) => {
                    if count == 0 {
                        return Ok(());
                    }
                    for command in requests.drain(..) {
                        self.command(command);
                    }
                }
                count = publishes.recv_many(&mut calls, BATCHES_A_TURN), if !publishes.is_closed() => {
                    debug_assert!(count > 0 || publishes.is_closed());
                    for batch in calls.drain(..) {
                        self.publish(batch);
                    }
                }
                () = sleep_until(self.started, deadline) => self.feed(Input::Deadline),
            }
            if self.append.is_none() && !self.gathered.is_empty() {
                // Connections that have more ready get a turn first: it rides along
                // in the same sync.
                tokio::task::yield_now().await;
                for _ in 0..BATCHES_A_TURN {
                    let Ok(calls) = publishes.try_recv() else {
                        break;
                    };
                    self.publish(calls);
                }
            }
            self.start_append();
            self.flush();
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.notify_if_drained();
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn feed(&mut self, input: Input) {
        let now = self.now();
        let mut out = std::mem::take(&mut self.out);
        self.hub.handle(input, now, &mut out);
        for output in out.drain(..) {
            self.act(output);
        }
        self.out = out;
        for announcement in std::mem::take(&mut self.announcements) {
            let ticket = self.number();
            let publish = announce::publish(announcement);
            self.feed(Input::Publish { ticket, publish });
        }
    }

    fn publish(&mut self, calls: Vec<PublishCall>) {
        for PublishCall { publish, reply } in calls {
            let ticket = self.number();
            self.replies.insert(ticket, reply);
            self.feed(Input::Publish { ticket, publish });
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Attach {
                name,
                deliveries,
                bytes,
                to_edge,
                number,
                ended,
            } => {
                let link = self.number();
                if number.send(link).is_err() {
                    return;
                }
                self.outboxes.insert(
                    link,
                    Outbox {
                        channel: to_edge,
                        batch: Vec::new(),
                        ended,
                    },
                );
                self.feed(Input::Attach {
                    link,
                    name,
                    deliveries,
                    bytes,
                });
            }
            Command::FromEdge(link, messages) => {
                for message in messages {
                    self.feed(Input::FromEdge { link, message });
                }
            }
            Command::Detach(link) => {
                self.outboxes.remove(&link);
                self.feed(Input::Detach { link });
            }
            Command::Sessions {
                user,
                after,
                count,
                reply,
            } => {
                let _ = reply.send(self.list(&user, after.as_ref(), count));
            }
            Command::Presence { users, reply } => {
                let counts = users.iter().map(|user| self.hub.user_sessions(user));
                let _ = reply.send(counts.collect());
            }
            Command::WatchReceipts {
                publisher,
                subject,
                watch: to,
            } => {
                let watch = self.number();
                self.watchers.add_receipts(watch, to);
                self.feed(Input::WatchReceipts {
                    watch,
                    publisher,
                    subject,
                });
            }
            Command::WatchPresence { users, watch: to } => {
                let watch = self.number();
                self.watchers.add_presence(watch, to);
                self.feed(Input::WatchPresence { watch, users });
            }
            Command::Unwatch(watch) => {
                self.watchers.remove(watch);
                self.feed(Input::Unwatch { watch });
            }
            Command::Stats(reply) => {
                let _ = reply.send(self.hub.stats());
            }
            Command::Drain(done) => {
                self.drained = Some(done);
                self.feed(Input::Drain);
            }
        }
    }

    fn list(&self, user: &str, after: Option<&(String, u64)>, count: usize) -> Vec<ListedSession> {
        let mut sessions: Vec<_> = self
            .hub
            .sessions()
            .filter(|session| user.is_empty() || session.user == user)
            .filter(|session| {
                after.is_none_or(|(edge, number)| (session.edge, session.session) > (edge, *number))
            })
            .collect();
        sessions.sort_unstable_by_key(|session| (session.edge, session.session));
        let listed = sessions
            .into_iter()
            .take(count)
            .map(|session| ListedSession {
                edge: session.edge.to_owned(),
                session: session.session,
                user: session.user.to_owned(),
                public_id: session.public_id.to_owned(),
                streams: session.streams.iter().map(ToString::to_string).collect(),
            });
        listed.collect()
    }

    fn appended(&mut self, upto: u64, appended: Result<Appended, LogError>) {
        self.append = None;
        match appended {
            Ok(Appended { trimmed }) => self.feed(Input::Synced { upto, trimmed }),
            Err(error @ LogError::Full { .. }) => {
                tracing::error!(%error, "publishes are refused");
                self.gathered.clear();
                self.feed(Input::Refused);
            }
            Err(error) => self.fail(error),
        }
    }

    fn read(&mut self, read: ReadId, events: Result<Vec<StoredEvent>, LogError>) {
        match events {
            Ok(events) => self.feed(Input::Read { read, events }),
            Err(error) => self.fail(error),
        }
    }

    /// Fail-stop (guarantee G3): answer what waits, then end.
    fn fail(&mut self, error: LogError) {
        tracing::error!(%error, "the log failed");
        self.gathered.clear();
        self.feed(Input::Failed);
        self.failed = Some(error);
    }

    fn start_append(&mut self) {
        if self.append.is_some() || self.failed.is_some() {
            return;
        }
        let Some(upto) = self.gathered.last().map(|record| record.lsn) else {
            return;
        };
        let batch = std::mem::take(&mut self.gathered);
        let log = Arc::clone(&self.log);
        self.append = Some(Box::pin(async move { (upto, log.append(batch).await) }));
    }

    fn notify_if_drained(&mut self) {
        if self.append.is_none()
            && self.gathered.is_empty()
            && self.replies.is_empty()
            && let Some(drained) = self.drained.take()
        {
            // Links end now; their edges come back to the next notifier.
            self.outboxes.clear();
            self.watchers.clear();
            let _ = drained.send(());
        }
    }
}

async fn appended(append: &mut Option<Append>) -> (u64, Result<Appended, LogError>) {
    match append {
        Some(append) => append.await,
        None => pending().await,
    }
}

async fn sleep_until(started: Instant, deadline: Option<Millis>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(started + Duration::from_millis(deadline)).await,
        None => pending().await,
    }
}

#[cfg(test)]
pub(crate) mod tests;
