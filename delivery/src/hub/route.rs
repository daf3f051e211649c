//! The links to edges: credit, sessions, and what was not sent to an edge.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use super::{LinkId, Output, stream::Stream};
use crate::{
    StreamName,
    link::{Ephemeral, LinkFault, SessionId, ToEdge},
    record::StoredEvent,
};

/// A session as the hub knows it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) user: Arc<str>,
    pub(super) public_id: Arc<str>,
    pub(super) device: Arc<str>,
    pub(super) streams: Vec<StreamName>,
    /// Streams whose presence it watches.
    pub(super) watching: Vec<StreamName>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: Arc<str>,
    pub(super) deliveries: u32,
    pub(super) bytes: u64,
    /// Streams of which live events were left out for want of credit.
    pub(super) behind: BTreeSet<StreamName>,
    /// Streams of whose presence changes were left out for want of credit.
    pub(super) presence_behind: BTreeSet<StreamName>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Fetches that wait for the log.
    pub(super) reading: u32,
}

impl Link {
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let affordable = self.deliveries > 0 && self.bytes >= bytes;
        if affordable {
            self.deliveries -= 1;
            self.bytes -= bytes;
        }
        affordable
    }

    /// Says which streams were left behind, as far as credit goes.
    pub(super) fn catch_up(
        &mut self,
        link: LinkId,
        streams: &BTreeMap<StreamName, Stream>,
        out: &mut Vec<Output>,
    ) {
        while !self.behind.is_empty() && self.spend(0) {
            if let Some(stream) = self.behind.pop_first() {
                let head = streams.get(&stream).map_or(0, Stream::head);
                out.push(Output::Send {
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
            Event::Stored(event) => event.envelope.len(),
            Event::Ephemeral(event) => event.envelope.len(),
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
    (stream, event): (&StreamName, Event<'_>),
    out: &mut Vec<Output>,
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
            out.push(Output::Send {
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
