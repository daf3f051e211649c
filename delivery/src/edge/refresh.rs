//! The token of a session: verified by the hub when it opens and when it is
//! refreshed.
//!
//! What always holds: a session lives as long as the hub says, and no longer for
//! being announced again on a new link; a stream that the token does not grant any
//! more is left before anything else of it is handed on (guarantee G16).

use alloc::{sync::Arc, vec::Vec};

use super::{CloseReason, Notice, State, TokenEnd, Turn};
use crate::{
    Refusal, Rights, StreamName,
    link::{Joined, SessionId},
    session::PendingRequest,
};

impl State {
    pub(super) fn opened(
        &mut self,
        id: SessionId,
        rights: &Rights,
        joined: Vec<Joined>,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if rights.user != session.owner.user {
            self.close(id, CloseReason::NotAccepted, None, turn);
            return;
        }
        let ends = TokenEnd::after(rights.ends_in_ms, turn.now, self.wall_ms);
        let refreshed = core::mem::take(&mut session.refreshes_settling);
        session.ends = if session.is_verified() && refreshed == 0 {
            ends.min(session.ends)
        } else {
            ends
        };
        self.wall.note(session.ends);
        self.note_deadline(id, turn);
        self.with(id, turn, |s, context| {
            s.opened(joined, context);
            for _ in 0..refreshed {
                s.notice(refreshed_notice(rights), context);
            }
        });
        self.leave_what_is_not_granted(id, rights, turn);
    }

    pub(super) fn refreshed(&mut self, id: SessionId, rights: &Rights, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if !session.refreshes.is_empty() {
            session.owner.token = session.refreshes.remove(0);
        }
        if !session.refreshes.is_empty() {
            self.pending.push_back(PendingRequest::Refresh(id));
        }
        session.ends = TokenEnd::after(rights.ends_in_ms, turn.now, self.wall_ms);
        self.wall.note(session.ends);
        self.note_deadline(id, turn);
        self.with(id, turn, |s, context| {
            s.notice(refreshed_notice(rights), context);
        });
        self.leave_what_is_not_granted(id, rights, turn);
    }

    /// The hub refused the session's token, or ended the session.
    pub(super) fn ended(&mut self, id: SessionId, reason: Refusal, turn: &mut Turn<'_>) {
        if self.sessions.contains_key(&id) {
            let retry_after_ms = match reason {
                Refusal::Limit | Refusal::Disconnected => {
                    Some(super::reconnect_after(id, turn.limits))
                }
                _ => None,
            };
            self.close(id, reason.into(), retry_after_ms, turn);
        }
    }

    /// The client has a new token: the hub verifies it.
    pub(super) fn request_refresh(&mut self, id: SessionId, token: Arc<str>, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if !session.announced
            && let Some(newest) = session.refreshes.last_mut()
        {
            *newest = token;
            session.refreshes_settling += 1;
            return;
        }
        if session.refreshes.len() >= turn.limits.waiting_refreshes {
            let retry_after_ms = Some(turn.limits.client_window_ms);
            self.close(id, CloseReason::RateLimited, retry_after_ms, turn);
            return;
        }
        session.refreshes.push(token);
        // Without a link the session is opened with it.
        if session.announced && session.refreshes.len() == 1 {
            self.pending.push_back(PendingRequest::Refresh(id));
        }
    }

    fn leave_what_is_not_granted(&mut self, id: SessionId, rights: &Rights, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let streams = session.streams().filter(|stream| !rights.allow(stream));
        let lost: Vec<StreamName> = streams.cloned().collect();
        for stream in &lost {
            self.unsubscribe(id, stream, turn);
        }
    }
}

fn refreshed_notice(rights: &Rights) -> Notice {
    Notice::Refreshed {
        exp_unix_ms: rights.exp_unix_ms,
        expires_in_ms: rights.ends_in_ms,
    }
}
