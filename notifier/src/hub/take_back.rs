//! Requests to the hub's task of operators and key changes: sessions and leases that
//! end before their time.

use std::{collections::BTreeSet, sync::Arc};

use belfry::identity::{KeyId, UserKeys};
use delivery::{
    Refusal,
    hub::{Input, SessionSelector},
};
use tokio::sync::oneshot;

use super::HubTask;
use crate::log::Log;

/// What is to end, or to be found for that.
#[derive(Debug)]
pub(crate) enum TakeBack {
    /// Answered with how many there were.
    Sessions {
        sessions: SessionSelector,
        reason: Refusal,
        reply: oneshot::Sender<u64>,
    },
    /// The sessions whose key is not accepted any more.
    LostKeys(UserKeys),
    /// Answered with how many were open.
    Leases {
        publisher: Arc<str>,
        reply: oneshot::Sender<usize>,
    },
    /// Ends nothing; answered with the digest of a session's token.
    Find {
        public_id: String,
        reply: oneshot::Sender<Option<u128>>,
    },
}

impl<L: Log> HubTask<L> {
    pub(super) fn take_back(&mut self, request: TakeBack) {
        match request {
            TakeBack::Sessions {
                sessions,
                reason,
                reply,
            } => {
                let before = self.hub.stats().sessions_ended;
                self.feed(Input::EndSessions { sessions, reason });
                let _ = reply.send(self.hub.stats().sessions_ended - before);
            }
            TakeBack::LostKeys(keys) => self.end_sessions_of_lost_keys(&keys),
            TakeBack::Leases { publisher, reply } => {
                let _ = reply.send(self.hub.open_leases(&publisher));
                self.feed(Input::EndLeases { publisher });
            }
            TakeBack::Find { public_id, reply } => {
                let mut sessions = self.hub.sessions();
                let session = sessions.find(|session| session.public_id == public_id);
                let _ = reply.send(session.map(|session| session.credential.digest));
            }
        }
    }

    fn end_sessions_of_lost_keys(&mut self, keys: &UserKeys) {
        let in_use: BTreeSet<u64> = self.hub.sessions().map(|s| s.credential.key).collect();
        for key in in_use {
            if !keys.accepts_key(KeyId::from_u64(key)) {
                let sessions = SessionSelector::Key(key);
                let reason = Refusal::NotAccepted;
                self.feed(Input::EndSessions { sessions, reason });
            }
        }
    }
}
