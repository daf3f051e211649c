//! The edge's side of the link: requests in turn, answers, credit.

use super::{Output, State, Turn};
use crate::{
    link::{ToEdge, ToHub},
    session::{PendingRequest, Session},
};

impl State {
    pub(super) fn on_hub_message(&mut self, message: ToEdge, charged: u64, turn: &mut Turn<'_>) {
        match message {
            ToEdge::Welcome { request_window, .. } => self.link_up(request_window, turn),
            ToEdge::Opened {
                session,
                rights,
                joined,
            } => {
                self.answered();
                self.opened(session, &rights, joined, turn);
            }
            ToEdge::Refreshed { session, rights } => {
                self.answered();
                self.refreshed(session, &rights, turn);
            }
            ToEdge::Refused { session, reason } => {
                self.answered();
                self.ended(session, reason, turn);
            }
            ToEdge::Ended { session, reason } => self.ended(session, reason, turn),
            ToEdge::Denied { .. } => {
                self.answered();
                self.stats.denied += 1;
            }
            ToEdge::Joined { session, joined } => {
                self.answered();
                self.with(session, turn, |s, context| s.joined(joined, context));
            }
            ToEdge::Page(page) => {
                self.answered();
                self.stats.pages += 1;
                self.with(page.session, turn, |s, context| s.page(page, context));
            }
            ToEdge::Done { .. } => self.answered(),
            ToEdge::ReceiptsAcked { session } => {
                self.answered();
                self.with(session, turn, Session::receipts_acked);
            }
            ToEdge::Live { stream, event } => {
                self.with_followers(&stream, turn, |s, context| {
                    s.live(&stream, &event, context);
                });
                self.charge(charged, turn);
            }
            ToEdge::Ephemeral { stream, event } => {
                self.with_followers(&stream, turn, |s, context| {
                    s.ephemeral(&stream, event.clone(), context);
                });
                self.charge(charged, turn);
            }
            ToEdge::Behind { stream, head } => {
                self.with_followers(&stream, turn, |s, context| {
                    s.behind(&stream, head, context);
                });
                self.charge(0, turn);
            }
            ToEdge::PresenceSnapshot { session, presence } => {
                self.answered();
                self.with(session, turn, |s, context| s.presence(&presence, context));
            }
            ToEdge::Presence(presence) => {
                self.with_watchers(&presence.stream, turn, |s, context| {
                    s.presence(&presence, context);
                });
                self.charge(charged, turn);
            }
            // The link closes next; the sockets stay (guarantee G13).
            ToEdge::Drain => {}
        }
    }

    fn answered(&mut self) {
        debug_assert!(self.unanswered > 0, "an answer without a request");
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Gives credit back, some at a time.
    fn charge(&mut self, bytes: u64, turn: &mut Turn<'_>) {
        self.stats.live += 1;
        self.credit_deliveries += 1;
        self.credit_bytes += bytes;
        if self.credit_deliveries >= turn.limits.edge_deliveries / 4
            || self.credit_bytes >= turn.limits.edge_bytes / 4
        {
            let deliveries = core::mem::take(&mut self.credit_deliveries);
            let bytes = core::mem::take(&mut self.credit_bytes);
            turn.push(Output::ToHub(ToHub::Credit { deliveries, bytes }));
        }
    }

    /// Sends the requests that the window allows.
    pub(super) fn send_requests(&mut self, turn: &mut Turn<'_>) {
        while self.is_up()
            && self.unanswered < self.request_window
            && let Some(want) = self.pending.pop_front()
        {
            if let Some(request) = self.request(want) {
                self.unanswered += 1;
                turn.push(Output::ToHub(request));
            }
        }
    }

    /// Makes a request of a want, if it still stands.
    fn request(&mut self, want: PendingRequest) -> Option<ToHub> {
        match want {
            PendingRequest::Open(id) => {
                let session = self
                    .sessions
                    .get_mut(&id)
                    .filter(|session| !session.announced)?;
                session.announced = true;
                session.settle_refreshes();
                Some(ToHub::Open {
                    session: id,
                    token: session.owner.token.clone(),
                    public_id: session.owner.public_id.clone(),
                    device: session.owner.device.clone(),
                    interests: session.interests(),
                })
            }
            PendingRequest::Refresh(id) => {
                let session = self.sessions.get(&id).filter(|session| session.announced)?;
                let token = session.refreshes.first()?.clone();
                Some(ToHub::Refresh { session: id, token })
            }
            PendingRequest::Close(id) => Some(ToHub::Close { session: id }),
            PendingRequest::Join(id, stream) => {
                let session = self.sessions.get(&id).filter(|session| session.announced)?;
                let interest = session.interest(&stream)?;
                Some(ToHub::Join {
                    session: id,
                    interest,
                })
            }
            PendingRequest::Leave(id, stream) => {
                let announced = self
                    .sessions
                    .get(&id)
                    .is_some_and(|session| session.announced);
                announced.then_some(ToHub::Leave {
                    session: id,
                    stream,
                })
            }
            PendingRequest::Receipts(id) => {
                let session = self.sessions.get_mut(&id)?;
                let receipts = session.take_receipts()?;
                Some(ToHub::Receipts {
                    session: id,
                    receipts,
                })
            }
            PendingRequest::WatchPresence(id, stream) => {
                let session = self.sessions.get(&id)?;
                session.watches(&stream).then_some(ToHub::WatchPresence {
                    session: id,
                    stream,
                })
            }
            PendingRequest::UnwatchPresence(id, stream) => {
                let session = self.sessions.get(&id).filter(|session| session.announced)?;
                let unwatched = !session.watches(&stream);
                unwatched.then_some(ToHub::UnwatchPresence {
                    session: id,
                    stream,
                })
            }
            PendingRequest::Fetch(id, stream) => {
                let after = self.sessions.get(&id)?.fetching(&stream)?;
                Some(ToHub::Fetch {
                    session: id,
                    stream,
                    after,
                })
            }
        }
    }
}
