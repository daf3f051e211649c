//! The link itself: when to make it, and what happens when it comes and goes.
//!
//! What always holds: a lost link is made again after the driver's pause, one
//! attempt at a time; an edge that lost its link to another one of its name waits
//! [`Limits::link_hold_off_ms`](crate::Limits::link_hold_off_ms) on top. Two edges
//! of one name end each other's links for ever: slowly, so that each serves its
//! clients in between and somebody has time to read why.

use alloc::vec::Vec;

use super::{LinkEnd, Output, State, Turn};
use crate::{
    Millis,
    session::{PendingRequest, Session},
};

/// How the edge stands with its notifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// There is none; when to make one.
    Down { connect_at: Millis },
    /// The driver makes one.
    Connecting,
    /// The notifier has welcomed this edge.
    Up,
}

impl State {
    /// Makes a link, if it is time.
    pub(super) fn connect_if_due(&mut self, turn: &mut Turn<'_>) {
        if self.connect_at().is_some_and(|at| at <= turn.now) {
            self.link = Link::Connecting;
            turn.push(Output::Connect);
        }
    }

    /// When the next link is to be made.
    pub(super) fn connect_at(&self) -> Option<Millis> {
        match self.link {
            Link::Down { connect_at } => Some(connect_at),
            Link::Connecting | Link::Up => None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    pub(super) fn link_up(&mut self, request_window: u32, turn: &mut Turn<'_>) {
        self.link = Link::Up;
        self.request_window = request_window.min(turn.limits.request_window);
        self.forget_link();
        self.pending
            .extend(self.sessions.keys().map(|id| PendingRequest::Open(*id)));
    }

    pub(super) fn link_down(&mut self, end: LinkEnd, pause_ms: Millis, turn: &mut Turn<'_>) {
        let was_up = self.is_up();
        let hold_off_ms = match end {
            LinkEnd::Lost => 0,
            LinkEnd::Replaced => turn.limits.link_hold_off_ms,
        };
        let connect_at = turn.now.saturating_add(pause_ms + hold_off_ms);
        self.link = Link::Down { connect_at };
        if !was_up {
            return;
        }
        self.forget_link();
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.with(id, turn, Session::link_down);
        }
    }

    fn forget_link(&mut self) {
        self.pending.clear();
        self.unanswered = 0;
        self.credit_deliveries = 0;
        self.credit_bytes = 0;
    }
}
