//! The hub's side of a session: joining, live events, pages, catching up.

use alloc::vec::Vec;

use super::{PendingRequest, Session, SessionContext, State, queue::Collapsed};
use crate::{
    Position, StreamName,
    edge::{Notice, Output},
    link::{Ephemeral, Joined, Page},
    record::StoredEvent,
};

impl Session {
    /// The link is cut: every stream has to be joined again.
    pub(crate) fn link_down(&mut self, context: &mut SessionContext<'_>) {
        self.announced = false;
        for followed in &mut self.followed {
            followed.state = State::Joining;
        }
        self.receipts_unacked(context);
        self.notice(Notice::Degraded, context);
    }

    pub(crate) fn opened(&mut self, joined: Vec<Joined>, context: &mut SessionContext<'_>) {
        if self.welcomed {
            self.notice(Notice::Recovered, context);
        } else {
            self.welcomed = true;
            let positions = joined
                .iter()
                .filter_map(|j| Some((j.stream.clone(), self.reported_position(j)?)));
            let streams = positions.collect();
            self.notice(Notice::Connected { streams }, context);
        }
        for joined in joined {
            self.joined(joined, context);
        }
        self.report_again(context);
    }

    /// The position reported to the client. Before a gap it is the client's own, so that a cut in between does not hide the gap.
    fn reported_position(&self, joined: &Joined) -> Option<Position> {
        let followed = self.followed.iter().find(|f| f.stream == joined.stream)?;
        Some(match joined.gap {
            Some(_) => followed.at.unwrap_or(joined.at),
            None => joined.at,
        })
    }

    pub(crate) fn joined(&mut self, joined: Joined, context: &mut SessionContext<'_>) {
        let reported_position = self.reported_position(&joined);
        let Some(followed) = self.find(&joined.stream) else {
            return;
        };
        if followed.state == State::Joining && followed.at != joined.requested_from {
            // The stream was left and joined again: this is the older answer.
            return;
        }
        if core::mem::take(&mut followed.reply_pending)
            && let Some(at) = reported_position
        {
            self.notice(
                Notice::Subscribed {
                    stream: joined.stream.clone(),
                    at,
                },
                context,
            );
        }
        self.settle(joined, context);
    }

    fn settle(&mut self, joined: Joined, context: &mut SessionContext<'_>) {
        let Joined {
            stream,
            at,
            head,
            gap,
            latest,
            ..
        } = joined;
        let Some(followed) = self.find(&stream) else {
            return;
        };
        followed.goal = followed.goal.max(head);
        let stands = followed.at.map_or(0, |at| at.offset);
        if followed.state == State::Live && head > stands {
            // It was left and joined again: what came in between did not come here.
            followed.state = State::Behind;
        }
        if followed.state == State::Joining {
            // What was received before may be of another epoch.
            followed.goal = head;
            followed.at = Some(at);
            followed.state = if head > at.offset {
                State::Behind
            } else {
                State::Live
            };
            if let Some(gap) = gap {
                self.notice(
                    Notice::Gap {
                        stream: stream.clone(),
                        gap,
                    },
                    context,
                );
            }
        }
        for event in latest {
            self.ephemeral(&stream, event, context);
        }
        self.catch_up(context);
    }

    /// A live stored event of a stream that it may follow.
    pub(crate) fn live(
        &mut self,
        stream: &StreamName,
        event: &StoredEvent,
        context: &mut SessionContext<'_>,
    ) {
        let fits = self.fits(event.payload.len(), context.turn.limits);
        let Some(followed) = self.find(stream) else {
            return;
        };
        followed.goal = followed.goal.max(event.offset);
        let Some(at) = followed
            .at
            .as_mut()
            .filter(|_| followed.state == State::Live)
        else {
            return;
        };
        if event.offset <= at.offset {
            return;
        }
        if event.offset == at.offset + 1 && fits {
            (at.offset, at.check) = (event.offset, event.check);
            self.forward(stream, event.payload.clone(), context);
            return;
        }
        followed.state = State::Behind;
        if !fits {
            context.stats.dropped += 1;
        }
        self.catch_up(context);
    }

    /// A live ephemeral event, or one kept for those who join.
    pub(crate) fn ephemeral(
        &mut self,
        stream: &StreamName,
        event: Ephemeral,
        context: &mut SessionContext<'_>,
    ) {
        let Ephemeral {
            collapse_key,
            payload,
        } = event;
        if self
            .find(stream)
            .is_none_or(|followed| followed.state != State::Live)
        {
            return;
        }
        if self.blocked_since.is_none() {
            context.turn.push(Output::Write {
                session: self.id,
                frame: payload,
            });
            return;
        }
        match self
            .queue
            .collapse(stream, collapse_key, payload, context.turn.limits)
        {
            Collapsed::Replaced => context.stats.collapsed += 1,
            Collapsed::Queued => {}
            Collapsed::NoRoom => context.stats.dropped += 1,
        }
    }

    /// The page that a fetch requested.
    pub(crate) fn page(&mut self, page: Page, context: &mut SessionContext<'_>) {
        let Page {
            stream,
            requested_from,
            events,
            head,
            gap,
            latest,
            ..
        } = page;
        let Some(followed) = self.find(&stream) else {
            return;
        };
        // A page for another position is of a subscription that has ended.
        if followed.state != State::Fetching || followed.at != Some(requested_from) {
            return;
        }
        followed.goal = followed.goal.max(head);
        if let Some(gap) = gap {
            // Past a gap the log is the only truth: an older goal may be of
            // another history.
            followed.goal = head;
            followed.at = Some(gap.to);
            self.notice(
                Notice::Gap {
                    stream: stream.clone(),
                    gap,
                },
                context,
            );
        }
        for event in events {
            let fits = self.fits(event.payload.len(), context.turn.limits);
            let Some(at) = self.find(&stream).and_then(|f| f.at.as_mut()) else {
                return;
            };
            debug_assert!(event.offset <= at.offset + 1, "pages have no holes");
            if event.offset != at.offset + 1 {
                continue;
            }
            if !fits {
                context.stats.dropped += 1;
                break;
            }
            (at.offset, at.check) = (event.offset, event.check);
            self.forward(&stream, event.payload, context);
        }
        let Some(followed) = self.find(&stream) else {
            return;
        };
        let at = followed.at.map_or(0, |at| at.offset);
        followed.state = if at >= followed.goal {
            State::Live
        } else {
            State::Behind
        };
        for event in latest {
            self.ephemeral(&stream, event, context);
        }
        self.catch_up(context);
    }

    /// The edge was not given all live events of a stream.
    pub(crate) fn behind(
        &mut self,
        stream: &StreamName,
        head: u64,
        context: &mut SessionContext<'_>,
    ) {
        let Some(followed) = self.find(stream) else {
            return;
        };
        followed.goal = followed.goal.max(head);
        let at = followed.at.map_or(0, |at| at.offset);
        if followed.state == State::Live && head > at {
            followed.state = State::Behind;
            self.catch_up(context);
        }
    }

    /// Asks for what is missing, if the socket takes data and nothing waits.
    pub(super) fn catch_up(&mut self, context: &mut SessionContext<'_>) {
        if self.blocked_since.is_some() || !self.queue.is_empty() {
            return;
        }
        for followed in self
            .followed
            .iter_mut()
            .filter(|f| f.state == State::Behind)
        {
            followed.state = State::Fetching;
            context
                .pending
                .push_back(PendingRequest::Fetch(self.id, followed.stream.clone()));
        }
    }
}
