//! Requests to the hub's task: what calls, links and operators want of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use delivery::{
    Verdict,
    hub::{Input, LinkId, Publish, Reply, Stats, Subject, WatchId},
    link::{LinkFault, ToEdge, ToHub},
    shares::{Bucket, Rates},
};
use tokio::sync::{mpsc, oneshot};

use super::{HubTask, take_back::TakeBack};
use crate::{
    log::Log,
    watch::{PresenceUpdate, ReceiptUpdate, Watch},
};

/// One publish and where its reply goes.
#[derive(Debug)]
pub(crate) struct PublishCall {
    pub(crate) publish: Publish,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// What operators see of a hub.
#[derive(Debug, Default)]
pub(crate) struct HubStats {
    pub(crate) stats: Stats,
    pub(crate) shares: Vec<Share>,
}

/// What one service holds of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) service: Arc<str>,
    pub(crate) bucket: Bucket,
    /// `None` for a rate.
    pub(crate) used: Option<u64>,
    pub(crate) refused: u64,
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
    FromEdge(LinkId, Vec<ToHub<Verdict>>),
    Detach(LinkId),
    Sessions {
        user: String,
        after: Option<(String, u64)>,
        count: usize,
        reply: oneshot::Sender<Vec<ListedSession>>,
    },
    TakeBack(TakeBack),
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
        service: Arc<str>,
        /// None: everybody.
        users: BTreeSet<Arc<str>>,
        watch: Watch<PresenceUpdate>,
    },
    /// The caller of a watch took its last update.
    WatchTaken(WatchId),
    /// The caller of a watch has gone, or was notified that it is over.
    Unwatch(WatchId),
    Stats(oneshot::Sender<HubStats>),
    /// What services may send from now on.
    Rates(BTreeMap<Arc<str>, Rates>),
    /// Answered when nothing is in flight any more.
    Drain(oneshot::Sender<()>),
}

impl<L: Log> HubTask<L> {
    /// Carries a request out. The caller may have gone, so nobody checks that a reply arrives.
    pub(super) fn on_command(&mut self, command: Command) {
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
                self.outboxes.add(link, to_edge, ended);
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
                self.outboxes.remove(link);
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
            Command::TakeBack(request) => self.take_back(request),
            Command::Presence { users, reply } => {
                let counts = users.iter().map(|user| self.hub.user_sessions(user));
                let _ = reply.send(counts.collect());
            }
            Command::WatchReceipts {
                publisher,
                subject,
                watch: channel,
            } => {
                let watch = self.number();
                self.receipt_watches.add(watch, channel);
                self.feed(Input::WatchReceipts {
                    watch,
                    publisher,
                    subject,
                });
            }
            Command::WatchPresence {
                service,
                users,
                watch: channel,
            } => {
                let watch = self.number();
                self.presence_watches.add(watch, channel);
                self.feed(Input::WatchPresence {
                    watch,
                    service,
                    users,
                });
            }
            Command::WatchTaken(watch) => self.feed(Input::WatchTaken { watch }),
            Command::Unwatch(watch) => {
                self.receipt_watches.remove(watch);
                self.presence_watches.remove(watch);
                self.feed(Input::Unwatch { watch });
            }
            Command::Stats(reply) => {
                let _ = reply.send(HubStats {
                    stats: self.hub.stats(),
                    shares: self.shares(),
                });
            }
            Command::Rates(rates) => self.set_rates(rates),
            Command::Drain(done) => {
                self.drained = Some(done);
                self.feed(Input::Drain);
            }
        }
    }

    fn shares(&self) -> Vec<Share> {
        let shares = self.hub.shares().map(|share| Share {
            service: share.service.into(),
            bucket: share.bucket,
            used: share.used,
            refused: share.refused,
        });
        shares.collect()
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
}
