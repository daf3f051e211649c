//! What time does to an edge: deadlines of its sessions, the wall clock that their
//! tokens are dated by, and a drain.
//!
//! What always holds: a session ends when its token does, by the monotonic clock
//! or by the wall clock, whichever comes first. A wall clock that is set forward
//! ends sessions sooner; one that is set back ends none later (guarantee G15).

use alloc::vec::Vec;

use super::{CloseReason, Output, State, Turn};
use crate::{Limits, Millis, link::SessionId};

/// The end of a token, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenEnd {
    /// On the monotonic clock, if the wall clock is not set meanwhile.
    pub at: Millis,
    /// On the wall clock, in Unix milliseconds.
    pub unix_ms: i64,
}

impl TokenEnd {
    /// A token that never ends.
    pub const NEVER: Self = Self {
        at: Millis::MAX,
        unix_ms: i64::MAX,
    };

    /// A session whose token is not verified yet: when that has to be done.
    pub(super) fn unverified(now: Millis, limits: &Limits) -> Self {
        Self {
            at: now.saturating_add(limits.verify_ms),
            unix_ms: i64::MAX,
        }
    }

    /// A token that ends so much later.
    pub(super) fn after(ends_in_ms: Millis, now: Millis, wall_ms: i64) -> Self {
        Self {
            at: now.saturating_add(ends_in_ms),
            unix_ms: wall_ms.saturating_add_unsigned(ends_in_ms),
        }
    }

    /// The earlier of both, on each clock.
    pub(super) fn min(self, other: Self) -> Self {
        Self {
            at: self.at.min(other.at),
            unix_ms: self.unix_ms.min(other.unix_ms),
        }
    }

    /// A token that ends at `unix_ms`, as the wall clock shows `wall_ms` now.
    pub fn new(unix_ms: i64, now: Millis, wall_ms: i64) -> Self {
        let left_ms = u64::try_from(unix_ms.saturating_sub(wall_ms)).unwrap_or(0);
        Self {
            at: now.saturating_add(left_ms),
            unix_ms,
        }
    }

    /// The same token, with the wall clock set to `wall_ms`: never later.
    fn revised(self, now: Millis, wall_ms: i64) -> Self {
        let revised = Self::new(self.unix_ms, now, wall_ms);
        Self {
            at: revised.at.min(self.at),
            ..self
        }
    }

    /// Wall clock less monotonic clock when this was made.
    fn offset(self) -> i64 {
        self.unix_ms
            .saturating_sub(i64::try_from(self.at).unwrap_or(i64::MAX))
    }
}

/// The wall clock as the edge saw it last.
#[derive(Debug)]
pub(super) struct WallClock {
    /// The lowest difference to the monotonic clock under which the end of a
    /// session was calculated.
    offset: i64,
    check_at: Millis,
}

impl Default for WallClock {
    fn default() -> Self {
        Self {
            offset: i64::MAX,
            check_at: 0,
        }
    }
}

impl WallClock {
    /// A session's end was calculated.
    pub(super) fn note(&mut self, ends: TokenEnd) {
        self.offset = self.offset.min(ends.offset());
    }

    /// When it is to be looked at again.
    pub(super) fn check_at(&self) -> Millis {
        self.check_at
    }

    /// Looks at the clock; says whether it was set forward. Less than
    /// [`Limits::wall_step_ms`] is drift.
    fn check(&mut self, wall_ms: i64, turn: &Turn<'_>) -> bool {
        self.check_at = turn.now.saturating_add(turn.limits.wall_check_ms);
        let offset = wall_ms.saturating_sub(i64::try_from(turn.now).unwrap_or(i64::MAX));
        let step_ms = i64::try_from(turn.limits.wall_step_ms).unwrap_or(i64::MAX);
        let stepped = offset > self.offset.saturating_add(step_ms);
        self.offset = if stepped {
            offset
        } else {
            offset.min(self.offset)
        };
        stepped
    }
}

/// Everybody is moved off, some at a time.
#[derive(Debug)]
pub(super) struct Drain {
    ends: Millis,
    pub(super) next: Millis,
}

impl Drain {
    pub(super) fn new(over_ms: Millis, now: Millis) -> Self {
        Self {
            ends: now.saturating_add(over_ms),
            next: now,
        }
    }
}

impl State {
    pub(super) fn note_deadline(&mut self, id: SessionId, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let deadline = session.deadline(turn.limits);
        if session.noted != Some(deadline) {
            if let Some(noted) = session.noted.replace(deadline) {
                self.deadlines.remove(&(noted, id));
            }
            self.deadlines.insert((deadline, id));
        }
    }

    pub(super) fn deadline(&mut self, wall_ms: i64, turn: &mut Turn<'_>) {
        self.connect_if_due(turn);
        self.check_wall(wall_ms, turn);
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= turn.now
        {
            let Some(session) = self.sessions.get_mut(&id) else {
                self.deadlines.pop_first();
                continue;
            };
            if let Some(reason) = session.overdue(turn.limits, turn.now) {
                let retry_after_ms = match reason {
                    CloseReason::Unverified => Some(reconnect_after(id, turn.limits)),
                    _ => None,
                };
                self.close(id, reason, retry_after_ms, turn);
                continue;
            }
            if session.ping_due(turn.limits, turn.now) {
                turn.push(Output::Ping { session: id });
            }
            self.note_deadline(id, turn);
        }
        self.drain_some(turn);
    }

    /// Revises the end of every session, if the wall clock was set forward.
    fn check_wall(&mut self, wall_ms: i64, turn: &Turn<'_>) {
        if self.wall.check_at > turn.now || !self.wall.check(wall_ms, turn) {
            return;
        }
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.ends = session.ends.revised(turn.now, wall_ms);
                self.note_deadline(id, turn);
            }
        }
    }

    /// Closes as many sessions as this step's share, so that clients do not come
    /// back all at once (guarantee G20).
    fn drain_some(&mut self, turn: &mut Turn<'_>) {
        let step_ms = turn.limits.drain_step_ms;
        let Some(drain) = self.drain.as_mut().filter(|drain| drain.next <= turn.now) else {
            return;
        };
        let left_ms = drain.ends.saturating_sub(turn.now);
        drain.next = turn.now + step_ms;
        let steps = usize::try_from(left_ms / step_ms)
            .unwrap_or(usize::MAX)
            .max(1);
        let share = self.sessions.len().div_ceil(steps);
        let ids: Vec<SessionId> = self.sessions.keys().copied().take(share).collect();
        for id in ids {
            let retry_after_ms = Some(reconnect_after(id, turn.limits));
            self.close(id, CloseReason::Restart, retry_after_ms, turn);
        }
    }
}

/// When a client that is moved off reconnects: session numbers in a row are far
/// apart.
pub(super) fn reconnect_after(id: SessionId, limits: &Limits) -> Millis {
    500 + id.wrapping_mul(2_654_435_761) % limits.drain_spread_ms.max(1)
}
