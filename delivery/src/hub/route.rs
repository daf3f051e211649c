//! The links to edges: credit, sessions, and what an edge was not told.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use super::{EdgeId, Output, stream::Stream};
use crate::{
    StreamName,
    link::{Ephemeral, SessionId, ToEdge},
    record::StoredEvent,
};

/// A session as the hub knows it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) user: Arc<str>,
    pub(super) public_id: Arc<str>,
    pub(super) streams: Vec<StreamName>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: Arc<str>,
    pub(super) deliveries: u32,
    pub(super) bytes: u64,
    /// Streams of which live events were left out for want of credit.
    pub(super) behind: BTreeSet<StreamName>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Fetches that wait for the log.
    pub(super) reading: u32,
}

impl Link {
    fn spend(&mut self, bytes: usize) -> bool {
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
        edge: EdgeId,
        streams: &BTreeMap<StreamName, Stream>,
        out: &mut Vec<Output>,
    ) {
        while !self.behind.is_empty() && self.spend(0) {
            if let Some(stream) = self.behind.pop_first() {
                let head = streams.get(&stream).map_or(0, Stream::head);
                out.push(Output::Send {
                    edge,
                    message: ToEdge::Behind { stream, head },
                });
            }
        }
    }
}

/// What routing one event came to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Routed {
    pub(super) sent: u64,
    pub(super) left_out: u64,
}

/// One copy of a durable event for each edge that follows. An edge without
/// credit is told later that it is behind; it delays nobody (guarantee G11).
pub(super) fn stored(
    links: &mut BTreeMap<EdgeId, Link>,
    edges: &BTreeMap<EdgeId, u32>,
    (stream, event): (&StreamName, &StoredEvent),
    out: &mut Vec<Output>,
) -> Routed {
    let mut routed = Routed::default();
    for edge in edges.keys() {
        let Some(link) = links.get_mut(edge) else {
            continue;
        };
        if link.spend(event.envelope.len()) {
            // The hole before this event, if there is one, speaks for itself.
            link.behind.remove(stream);
            let message = ToEdge::Live {
                stream: stream.clone(),
                event: event.clone(),
            };
            out.push(Output::Send {
                edge: *edge,
                message,
            });
            routed.sent += 1;
        } else {
            link.behind.insert(stream.clone());
            routed.left_out += 1;
        }
    }
    routed
}

/// One copy of an ephemeral event for each edge that follows and has credit.
pub(super) fn ephemeral(
    links: &mut BTreeMap<EdgeId, Link>,
    edges: &BTreeMap<EdgeId, u32>,
    (stream, event): (&StreamName, &Ephemeral),
    out: &mut Vec<Output>,
) -> Routed {
    let mut routed = Routed::default();
    for edge in edges.keys() {
        let Some(link) = links.get_mut(edge) else {
            continue;
        };
        if link.spend(event.envelope.len()) {
            let message = ToEdge::Ephemeral {
                stream: stream.clone(),
                event: event.clone(),
            };
            out.push(Output::Send {
                edge: *edge,
                message,
            });
            routed.sent += 1;
        } else {
            routed.left_out += 1;
        }
    }
    routed
}
