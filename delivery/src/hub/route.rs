//! The links to edges: credit, sessions, and what was not sent to an edge.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use super::{LinkId, Output, Turn, stream::Stream};
use crate::{
    Credential, Limits, Millis, Refusal, StreamName, StreamPattern,
    link::{Ephemeral, LinkFault, SessionId, ToEdge},
    record::StoredEvent,
};

/// A session as the hub knows it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) credential: Credential,
    /// What its token before the last one allowed: a request that was on the way
    /// when it was refreshed is no attack.
    pub(super) allowed_before: Option<Arc<[StreamPattern]>>,
    /// When its token ends.
    pub(super) ends: Millis,
    /// Rises from one session of the hub to the next.
    pub(super) place: u64,
    pub(super) public_id: Arc<str>,
    pub(super) device: Arc<str>,
    pub(super) streams: Vec<StreamName>,
    /// Streams whose presence it watches.
    pub(super) watching: Vec<StreamName>,
}

impl Session {
    pub(super) fn user(&self) -> &Arc<str> {
        &self.credential.rights.user
    }
}

/// Live deliveries that may still be sent to an edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Credit {
    pub(super) deliveries: u32,
    /// Of envelopes.
    pub(super) bytes: u64,
}

impl Credit {
    /// The most that a link may hold.
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            deliveries: limits.edge_deliveries,
            bytes: limits.edge_bytes,
        }
    }

    pub(super) fn min(self, other: Self) -> Self {
        Self {
            deliveries: self.deliveries.min(other.deliveries),
            bytes: self.bytes.min(other.bytes),
        }
    }

    pub(super) fn checked_add(self, more: Self) -> Option<Self> {
        Some(Self {
            deliveries: self.deliveries.checked_add(more.deliveries)?,
            bytes: self.bytes.checked_add(more.bytes)?,
        })
    }

    pub(super) fn is_within(self, most: Self) -> bool {
        self.deliveries <= most.deliveries && self.bytes <= most.bytes
    }
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: Arc<str>,
    pub(super) credit: Credit,
    /// Streams of which live events were left out for want of credit.
    pub(super) behind: BTreeSet<StreamName>,
    /// Streams of whose presence changes were left out for want of credit.
    pub(super) presence_behind: BTreeSet<StreamName>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Sessions that were refused or ended here, and that the edge has not closed.
    pub(super) ended: BTreeMap<SessionId, Refusal>,
    /// Requests that were denied.
    pub(super) denied: u32,
    /// Fetches that wait for the log.
    pub(super) reading: u32,
}

impl Link {
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        let (credit, bytes) = (&mut self.credit, bytes as u64);
        let affordable = credit.deliveries > 0 && credit.bytes >= bytes;
        if affordable {
            credit.deliveries -= 1;
            credit.bytes -= bytes;
        }
        affordable
    }

    /// Says which streams were left behind, as far as credit goes.
    pub(super) fn catch_up(
        &mut self,
        link: LinkId,
        streams: &BTreeMap<StreamName, Stream>,
        turn: &mut Turn<'_>,
    ) {
        while !self.behind.is_empty() && self.spend(0) {
            if let Some(stream) = self.behind.pop_first() {
                let head = streams.get(&stream).map_or(0, Stream::head);
                turn.push(Output::Send {
                    link,
                    message: ToEdge::Behind { stream, head },
                });
            }
        }
    }
}

/// An open session of a link.
pub(super) fn session_of(
    links: &mut BTreeMap<LinkId, Link>,
    link: LinkId,
    number: SessionId,
) -> Result<&mut Session, LinkFault> {
    let state = links.get_mut(&link);
    let session = state.and_then(|state| state.sessions.get_mut(&number));
    session.ok_or(LinkFault::UnknownSession)
}

/// What routing one event came to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Routed {
    pub(super) sent: u64,
    pub(super) left_out: u64,
}

/// What is routed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event<'a> {
    Stored(&'a StoredEvent),
    Ephemeral(&'a Ephemeral),
}

impl Event<'_> {
    fn len(self) -> usize {
        match self {
            Event::Stored(event) => event.payload.len(),
            Event::Ephemeral(event) => event.payload.len(),
        }
    }

    fn message(self, stream: &StreamName) -> ToEdge {
        let stream = stream.clone();
        match self {
            Event::Stored(event) => ToEdge::Live {
                stream,
                event: event.clone(),
            },
            Event::Ephemeral(event) => ToEdge::Ephemeral {
                stream,
                event: event.clone(),
            },
        }
    }
}

/// One copy of an event for each edge that follows. An edge without credit
/// delays nobody (guarantee G11): for a stored event it is notified later that it is
/// behind, an ephemeral one is gone.
pub(super) fn route(
    links: &mut BTreeMap<LinkId, Link>,
    followers: &BTreeMap<LinkId, u32>,
    stream: &StreamName,
    event: Event<'_>,
    turn: &mut Turn<'_>,
) -> Routed {
    let mut routed = Routed::default();
    for link in followers.keys() {
        let Some(state) = links.get_mut(link) else {
            continue;
        };
        let affordable = state.spend(event.len());
        match event {
            // The hole before this event, if there is one, speaks for itself.
            Event::Stored(_) if affordable => {
                state.behind.remove(stream);
            }
            Event::Stored(_) => {
                state.behind.insert(stream.clone());
            }
            Event::Ephemeral(_) => {}
        }
        if affordable {
            turn.push(Output::Send {
                link: *link,
                message: event.message(stream),
            });
            routed.sent += 1;
        } else {
            routed.left_out += 1;
        }
    }
    routed
}
