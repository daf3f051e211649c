//! What waits for a socket that takes no data: bounded, in order, with ephemeral
//! events collapsed.

use alloc::{collections::VecDeque, sync::Arc, vec::Vec};

use bytes::Bytes;

use crate::{
    Limits, StreamName,
    edge::{Notice, Output},
    link::SessionId,
};

#[derive(Debug)]
enum Item {
    Stored(StreamName, Bytes),
    Ephemeral(StreamName, Option<Arc<str>>, Bytes),
    Notice(Notice),
}

/// What became of an ephemeral event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collapsed {
    Replaced,
    Queued,
    NoRoom,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of frames that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn fits(&self, bytes: usize, limits: &Limits) -> bool {
        self.items.len() < limits.queue_events && self.bytes + bytes <= limits.queue_bytes
    }

    pub(super) fn push_stored(&mut self, stream: StreamName, frame: Bytes) {
        self.bytes += frame.len();
        self.items.push_back(Item::Stored(stream, frame));
    }

    /// Forgets the events of a stream that was left (guarantee G16).
    pub(super) fn drop_events(&mut self, stream: &StreamName) {
        self.items.retain(|item| match item {
            Item::Stored(of, frame) | Item::Ephemeral(of, _, frame) if of == stream => {
                self.bytes -= frame.len();
                false
            }
            // It begins where those events end, which the client never had.
            Item::Notice(Notice::Gap { stream: of, .. }) => of != stream,
            _ => true,
        });
    }

    pub(super) fn push_notice(&mut self, notice: Notice) {
        // Of a link that goes and comes only the last state matters.
        if matches!(notice, Notice::Degraded | Notice::Recovered) {
            self.items
                .retain(|item| !matches!(item, Item::Notice(Notice::Degraded | Notice::Recovered)));
        }
        self.items.push_back(Item::Notice(notice));
    }

    /// An ephemeral event takes the place of an older one of its key.
    pub(super) fn collapse(
        &mut self,
        stream: &StreamName,
        key: Option<Arc<str>>,
        frame: Bytes,
        limits: &Limits,
    ) -> Collapsed {
        let older = self.items.iter_mut().find_map(|item| match item {
            Item::Ephemeral(of, its, older) if key.is_some() && *its == key && of == stream => {
                Some(older)
            }
            _ => None,
        });
        if let Some(older) = older {
            self.bytes = self.bytes - older.len() + frame.len();
            *older = frame;
            return Collapsed::Replaced;
        }
        if !self.fits(frame.len(), limits) {
            return Collapsed::NoRoom;
        }
        self.bytes += frame.len();
        self.items
            .push_back(Item::Ephemeral(stream.clone(), key, frame));
        Collapsed::Queued
    }

    /// Forwards everything, in order.
    pub(super) fn drain(&mut self, session: SessionId, out: &mut Vec<Output>) {
        self.bytes = 0;
        for item in core::mem::take(&mut self.items) {
            out.push(match item {
                Item::Stored(_, frame) | Item::Ephemeral(_, _, frame) => {
                    Output::Write { session, frame }
                }
                Item::Notice(notice) => Output::Notify { session, notice },
            });
        }
    }
}
