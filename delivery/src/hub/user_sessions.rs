//! The sessions of each user in the order in which they opened, whatever their edge.
//!
//! What always holds: it has each open session once, and a user never has more than
//! [`Limits::user_sessions`](crate::Limits::user_sessions): the one that opened first
//! makes room for the newest.

use alloc::{collections::BTreeSet, sync::Arc};

use super::{LinkId, Output, State, Turn, route::Session};
use crate::{Refusal, link::SessionId, link::ToEdge};

/// All open sessions by user and age.
#[derive(Debug, Default)]
pub(super) struct UserSessions {
    sessions: BTreeSet<(Arc<str>, u64, LinkId, SessionId)>,
    /// Sessions that were opened so far.
    opened: u64,
}

impl UserSessions {
    /// The place of the next session among those of its user.
    pub(super) fn next(&mut self) -> u64 {
        self.opened += 1;
        self.opened
    }

    pub(super) fn add(&mut self, link: LinkId, number: SessionId, session: &Session) {
        let user = session.user().clone();
        self.sessions.insert((user, session.place, link, number));
    }

    pub(super) fn remove(&mut self, link: LinkId, number: SessionId, session: &Session) {
        let user = session.user().clone();
        self.sessions.remove(&(user, session.place, link, number));
    }

    fn oldest(&self, user: &Arc<str>) -> Option<(LinkId, SessionId)> {
        let first = self.sessions.range((user.clone(), 0, 0, 0)..).next();
        let (owner, _, link, number) = first?;
        (owner == user).then_some((*link, *number))
    }
}

impl State {
    /// A user opened one more session: the oldest ends if there are too many now.
    pub(super) fn limit_sessions_of(&mut self, user: &Arc<str>, turn: &mut Turn<'_>) {
        if self.users.sessions(user) <= turn.limits.user_sessions {
            return;
        }
        let Some((link, session)) = self.user_sessions.oldest(user) else {
            return;
        };
        let reason = Refusal::TooManySessions;
        self.stats.sessions_replaced += 1;
        if let Some(state) = self.links.get(&link)
            && let Some(oldest) = state.sessions.get(&session)
        {
            turn.push(Output::SessionReplaced {
                edge: state.name.clone(),
                user: user.clone(),
                public_id: oldest.public_id.clone(),
            });
        }
        self.end_session(link, session, reason, turn);
        let message = ToEdge::Ended { session, reason };
        turn.push(Output::Send { link, message });
    }
}
