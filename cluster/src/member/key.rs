//! The key: who owns the shard, for how long, and how another claims it.
//!
//! A lease is "the key did not change for so long while this process watched", by the
//! clock of each process alone. The owner counts from before it sent the write, the
//! others from when they saw it: so the owner stops first.

use alloc::vec::Vec;

use super::{Call, KeyState, KeyView, Mark, Member, Millis, Output, PutResult, Role};

/// A write of the key that is not answered.
#[derive(Debug)]
pub(super) struct Put {
    call: Call,
    purpose: Purpose,
    sent: Millis,
    state: KeyState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Claim,
    Beat,
    Release,
}

/// Between two attempts to write the key, if the first came to nothing.
pub(super) const RETRY_MS: Millis = 300;

impl Member {
    /// [`Input::Key`].
    pub(super) fn on_key(&mut self, revision: u64, state: Option<KeyState>, out: &mut Vec<Output>) {
        let known = self.key.as_ref().map(|key| key.revision);
        if known.is_some_and(|known| revision <= known) {
            return;
        }
        let term = self.term();
        let is_mine = |state: &KeyState| state.owner == self.config.owner && state.term == term;
        let of_another = state.as_ref().is_some_and(|state| !is_mine(state));
        let since = self.now;
        self.key = Some(KeyView {
            revision,
            state,
            since,
        });
        if term > 0 && of_another {
            self.step_down(out);
        }
    }

    /// [`Input::Put`].
    pub(super) fn on_put(&mut self, call: Call, result: PutResult, out: &mut Vec<Output>) {
        let Some(put) = self.put.take_if(|put| put.call == call) else {
            return;
        };
        let PutResult::Written(revision) = result else {
            out.push(Output::ReadKey);
            self.next_beat = self.now + RETRY_MS;
            if put.purpose == Purpose::Claim {
                self.hold_off = self.now + RETRY_MS;
            }
            return;
        };
        let term = put.state.term;
        let lost = put.state.lost;
        let lease_until = put.sent + self.config.lease_ms;
        let known = self.key.as_ref().map_or(0, |key| key.revision);
        if revision > known {
            self.key = Some(KeyView {
                revision,
                state: Some(put.state),
                since: self.now,
            });
        } else if revision < known {
            // Written again since then, by another.
            self.step_down(out);
            return;
        }
        match (put.purpose, &mut self.role) {
            (Purpose::Claim, Role::Standby) => {
                if self.now >= lease_until {
                    return;
                }
                self.lost |= lost;
                self.role = Role::Taking {
                    term,
                    lease_until,
                    heal_at: None,
                };
                // The log as of now, after the claim.
                self.look_again();
            }
            (Purpose::Release, _) => {
                self.hold_off = self.now + self.config.lease_ms;
                self.step_down(out);
            }
            (
                _,
                Role::Owner {
                    lease_until: until, ..
                }
                | Role::Taking {
                    lease_until: until, ..
                },
            ) => *until = lease_until.max(*until),
            _ => {}
        }
    }

    fn write_key(&mut self, purpose: Purpose, state: KeyState, out: &mut Vec<Output>) {
        let call = self.call();
        let expected = self.key.as_ref().map_or(0, |key| key.revision);
        out.push(Output::Put {
            call,
            state: state.clone(),
            expected,
        });
        self.next_beat = self.now + self.config.beat_ms;
        self.put = Some(Put {
            call,
            purpose,
            sent: self.now,
            state,
        });
    }

    fn state(&self, term: u64, end: Mark) -> KeyState {
        KeyState {
            owner: self.config.owner.clone(),
            address: self.config.address.clone(),
            term,
            end,
            released: false,
            lost: self.lost,
        }
    }

    /// What the last owner wrote about the end of the log.
    pub(super) fn written_end(&self) -> Mark {
        self.key().map_or_else(Mark::default, |state| state.end)
    }

    /// Claims the shard if its key is free, lapsed or released.
    pub(super) fn claim_if_free(&mut self, out: &mut Vec<Output>) {
        let Some(key) = &self.key else {
            return;
        };
        if self.put.is_some() || self.now < self.hold_off {
            return;
        }
        let absent = key.revision == 0;
        let released = key.state.as_ref().is_some_and(|state| state.released);
        let lapsed = self.now >= key.since + self.config.lease_ms;
        if !(absent || released || lapsed) {
            return;
        }
        let written = key.state.as_ref().map_or(0, |state| state.term);
        let term = written.max(self.tip.term).max(self.log.base.term) + 1;
        let lost = key.state.as_ref().is_some_and(|state| state.lost);
        let released = key.state.as_ref().filter(|state| state.released);
        self.released_end = released.map(|state| state.end);
        let mut state = self.state(term, self.written_end());
        state.lost |= lost;
        self.write_key(Purpose::Claim, state, out);
    }

    /// Writes the key if that is due, or something else is to be in it.
    pub(super) fn beat(&mut self, out: &mut Vec<Output>) {
        if self.put.is_some() {
            return;
        }
        let term = self.term();
        let end = match self.role {
            Role::Owner { .. } => self.tip.into(),
            _ => self.written_end(),
        };
        let mut state = self.state(term, end);
        let is_quiet = self.batch.is_none() && self.append.is_none();
        if self.releasing && is_quiet && self.is_level() {
            state.released = true;
            self.write_key(Purpose::Release, state, out);
            return;
        }
        state.lost |= self.lacks_entries();
        let outdated = self.key().is_none_or(|written| written.lost != state.lost);
        let soon = self.next_beat.saturating_sub(self.config.beat_ms) + RETRY_MS;
        if self.now >= self.next_beat || (outdated && self.now >= soon) {
            self.write_key(Purpose::Beat, state, out);
        }
    }
}
