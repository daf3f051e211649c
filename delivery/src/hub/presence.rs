//! Presence: who is there.
//!
//! A user is there from the first session until the grace after the last one has
//! passed: a page that reloads, or an edge that dies and whose clients come back
//! at another, is no leave. Every change has a generation, higher than all
//! before, so that who watches can order what it sees.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use crate::{Millis, link::Member};

#[derive(Debug, Clone, Copy)]
struct PresenceEntry {
    sessions: usize,
    generation: u64,
    /// When the grace ends, once the last session has gone.
    leaves: Option<Millis>,
}

/// The users of one scope: of the whole notifier, or of one stream.
#[derive(Debug, Default)]
pub(super) struct Members {
    users: BTreeMap<Arc<str>, PresenceEntry>,
    leaving: BTreeSet<(Millis, Arc<str>)>,
}

impl Members {
    /// One more session of a user; says so if the user came with it.
    pub(super) fn add(&mut self, user: &Arc<str>, generation: &mut u64) -> Option<Member> {
        if let Some(here) = self.users.get_mut(user) {
            here.sessions += 1;
            if let Some(leaves) = here.leaves.take() {
                self.leaving.remove(&(leaves, user.clone()));
            }
            return None;
        }
        *generation += 1;
        let here = PresenceEntry {
            sessions: 1,
            generation: *generation,
            leaves: None,
        };
        self.users.insert(user.clone(), here);
        Some(member(user, here, true))
    }

    /// One session of a user less.
    pub(super) fn remove(&mut self, user: &Arc<str>, leaves: Millis) {
        if let Some(here) = self.users.get_mut(user) {
            here.sessions = here.sessions.saturating_sub(1);
            if here.sessions == 0 && here.leaves.is_none() {
                here.leaves = Some(leaves);
                self.leaving.insert((leaves, user.clone()));
            }
        }
    }

    /// Who has left: the grace has passed.
    pub(super) fn expire(&mut self, now: Millis, generation: &mut u64) -> Vec<Member> {
        let mut left = Vec::new();
        while self.leaving.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, user)) = self.leaving.pop_first()
        {
            if let Some(mut here) = self.users.remove(&user) {
                *generation += 1;
                here.generation = *generation;
                left.push(member(&user, here, false));
            }
        }
        left
    }

    /// Who is there now, the first `max` of them.
    pub(super) fn here(&self, max: usize) -> Vec<Member> {
        let users = self.users.iter().take(max);
        users
            .map(|(user, here)| member(user, *here, true))
            .collect()
    }

    /// Whether a user is there.
    pub(super) fn of(&self, user: &str) -> Option<Member> {
        let (user, here) = self.users.get_key_value(user)?;
        Some(member(user, *here, true))
    }

    /// How many sessions a user has.
    pub(super) fn sessions(&self, user: &str) -> usize {
        self.users.get(user).map_or(0, |here| here.sessions)
    }

    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.leaving.first().map(|(at, _)| *at)
    }
}

fn member(user: &Arc<str>, here: PresenceEntry, online: bool) -> Member {
    Member {
        user: user.clone(),
        online,
        generation: here.generation,
    }
}
