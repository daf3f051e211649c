//! The hub's side of a session: joining, live events, pages, catching up.

use alloc::vec::Vec;

use super::{Around, Session, State, Want, queue::Collapsed};
use crate::{
    Position, StreamName,
    edge::{Notice, Output},
    link::{Ephemeral, Joined, Page},
    record::StoredEvent,
};

impl Session {
    /// The link is cut: every stream has to be joined again.
    pub(crate) fn link_down(&mut self, around: &mut Around<'_>) {
        self.announced = false;
        for followed in &mut self.followed {
            followed.state = State::Joining;
        }
        self.receipts_unheard(around);
        self.notice(Notice::Degraded, around);
    }

    pub(crate) fn opened(&mut self, joined: Vec<Joined>, around: &mut Around<'_>) {
        if self.welcomed {
            self.notice(Notice::Recovered, around);
        } else {
            self.welcomed = true;
            let told = joined
                .iter()
                .filter_map(|j| Some((j.stream.clone(), self.told_at(j)?)));
            let streams = told.collect();
            self.notice(Notice::Connected { streams }, around);
        }
        for joined in joined {
            self.joined(joined, around);
        }
        self.report_again(around);
    }

    /// Where the client is told that it stands. Before a gap is told it stands
    /// where it said, so that a cut in between does not hide the gap.
    fn told_at(&self, joined: &Joined) -> Option<Position> {
        let followed = self.followed.iter().find(|f| f.stream == joined.stream)?;
        Some(match joined.gap {
            Some(_) => followed.at.unwrap_or(joined.at),
            None => joined.at,
        })
    }

    pub(crate) fn joined(&mut self, joined: Joined, around: &mut Around<'_>) {
        let told_at = self.told_at(&joined);
        let Some(followed) = self.find(&joined.stream) else {
            return;
        };
        if followed.state == State::Joining && followed.at != joined.requested_from {
            // The stream was left and joined again: this is the older answer.
            return;
        }
        if core::mem::take(&mut followed.reply_pending)
            && let Some(at) = told_at
        {
            self.notice(
                Notice::Subscribed {
                    stream: joined.stream.clone(),
                    at,
                },
                around,
            );
        }
        self.settle(joined, around);
    }

    fn settle(&mut self, joined: Joined, around: &mut Around<'_>) {
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
            // What was heard before may be of another epoch.
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
                    around,
                );
            }
        }
        for event in latest {
            self.ephemeral(&stream, event, around);
        }
        self.catch_up(around);
    }

    /// A live stored event of a stream that it may follow.
    pub(crate) fn live(
        &mut self,
        stream: &StreamName,
        event: &StoredEvent,
        around: &mut Around<'_>,
    ) {
        let fits = self.fits(event.envelope.len(), around.limits);
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
            self.hand_on(stream, event.envelope.clone(), around);
            return;
        }
        followed.state = State::Behind;
        if !fits {
            *around.dropped += 1;
        }
        self.catch_up(around);
    }

    /// A live ephemeral event, or one kept for those who join.
    pub(crate) fn ephemeral(
        &mut self,
        stream: &StreamName,
        event: Ephemeral,
        around: &mut Around<'_>,
    ) {
        let Ephemeral {
            collapse_key,
            envelope,
        } = event;
        if self
            .find(stream)
            .is_none_or(|followed| followed.state != State::Live)
        {
            return;
        }
        if self.blocked_since.is_none() {
            around.out.push(Output::Write {
                session: self.id,
                frame: envelope,
            });
            return;
        }
        match self
            .queue
            .collapse(stream, collapse_key, envelope, around.limits)
        {
            Collapsed::Replaced => *around.collapsed += 1,
            Collapsed::Queued => {}
            Collapsed::NoRoom => *around.dropped += 1,
        }
    }

    /// The page that a fetch requested.
    pub(crate) fn page(&mut self, page: Page, around: &mut Around<'_>) {
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
                around,
            );
        }
        for event in events {
            let fits = self.fits(event.envelope.len(), around.limits);
            let Some(at) = self.find(&stream).and_then(|f| f.at.as_mut()) else {
                return;
            };
            debug_assert!(event.offset <= at.offset + 1, "pages have no holes");
            if event.offset != at.offset + 1 {
                continue;
            }
            if !fits {
                *around.dropped += 1;
                break;
            }
            (at.offset, at.check) = (event.offset, event.check);
            self.hand_on(&stream, event.envelope, around);
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
            self.ephemeral(&stream, event, around);
        }
        self.catch_up(around);
    }

    /// The edge was not given all live events of a stream.
    pub(crate) fn behind(&mut self, stream: &StreamName, head: u64, around: &mut Around<'_>) {
        let Some(followed) = self.find(stream) else {
            return;
        };
        followed.goal = followed.goal.max(head);
        let at = followed.at.map_or(0, |at| at.offset);
        if followed.state == State::Live && head > at {
            followed.state = State::Behind;
            self.catch_up(around);
        }
    }

    /// Asks for what is missing, if the socket takes data and nothing waits.
    pub(super) fn catch_up(&mut self, around: &mut Around<'_>) {
        if self.blocked_since.is_some() || !self.queue.is_empty() {
            return;
        }
        for followed in self
            .followed
            .iter_mut()
            .filter(|f| f.state == State::Behind)
        {
            followed.state = State::Fetching;
            around
                .wants
                .push_back(Want::Fetch(self.id, followed.stream.clone()));
        }
    }
}
