//! Appends to the engine: the hub's batches, entries that are put back, and the entry
//! that begins a term. One at a time, and only behind the end that was read.

use alloc::{format, vec::Vec};

use super::{AppendResult, Call, Mark, Member, Millis, Output, Replica, Reply, Role, Seq};
use crate::chain::{EncodedEntry, Header, Kind};

/// Between two attempts of an append that the engine did not take.
const RETRY_MS: Millis = 100;

/// An append that is not answered.
#[derive(Debug)]
pub(super) struct Append {
    call: Call,
    purpose: Purpose,
    after: Seq,
    entry: EncodedEntry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Batch,
    PutBack,
    Term,
}

impl Member {
    /// [`super::Input::Batch`].
    pub(super) fn on_batch(&mut self, count: u32, body: &[u8], out: &mut Vec<Output>) {
        if !self.is_owner() || self.releasing {
            out.push(Output::Reply(Reply::Moved));
            return;
        }
        debug_assert!(self.batch.is_none(), "one batch at a time");
        self.batch_unknown = false;
        self.batch = Some(self.tip.batch(count, body));
    }

    fn append(&mut self, purpose: Purpose, entry: EncodedEntry, out: &mut Vec<Output>) {
        let (call, after) = (self.call(), self.log.seq);
        self.log.append_begins();
        out.push(Output::Append {
            call,
            after,
            entry: entry.bytes.clone(),
        });
        self.append = Some(Append {
            call,
            purpose,
            after,
            entry,
        });
    }

    fn may_append(&self) -> bool {
        self.append.is_none()
            && self.log.is_at_end()
            && !self.log.forked
            && self.now >= self.retry_at
    }

    /// Appends the hub's batch if nothing is in its way.
    pub(super) fn append_batch(&mut self, out: &mut Vec<Output>) {
        if !self.may_append() || self.log.base != self.tip {
            return;
        }
        if let Some(batch) = self.batch.clone() {
            self.append(Purpose::Batch, batch, out);
        }
    }

    /// Puts back the next entry that the copy has and the engine does not. Whether
    /// there is any.
    pub(super) fn put_back(&mut self, copy: &impl Replica, out: &mut Vec<Output>) -> bool {
        let lacks = self.lacks_entries();
        // First in the key: a new owner that finds the log half put back must know.
        let is_noted = self.key().is_some_and(|state| state.lost);
        if !lacks || !is_noted || !self.may_append() {
            return lacks;
        }
        let number = self.log.base.number + 1;
        let header = copy.header(number);
        if let (Some(bytes), Some(header)) = (copy.entry(number), header) {
            let tip = header.tip();
            self.append(Purpose::PutBack, EncodedEntry { bytes, tip }, out);
        }
        true
    }

    /// Whether the engine lacks entries that the copy has.
    pub(super) fn lacks_entries(&self) -> bool {
        self.log.is_at_end() && !self.log.forked && self.log.base.number < self.tip.number
    }

    /// At the end of the log, after a claim: was anything lost? Then begins the term.
    pub(super) fn take_over(&mut self, term: u64, copy: &impl Replica, out: &mut Vec<Output>) {
        if self.append.is_some() || !self.log.is_at_end() || self.now < self.retry_at {
            return;
        }
        let tip = self.tip;
        let is_last_owner = self.owned_term > 0 && self.owned_term == tip.term;
        let was_released_here = self.released_end == Some(Mark::from(tip));
        let has_all = is_last_owner || was_released_here;
        let lacks = self.log.base.number < tip.number;
        let end = self.written_end();
        let end_is_gone = end.number > 0
            && copy
                .header(end.number)
                .is_none_or(|header| header.crc != end.crc);
        self.lost |= self.log.forked || end_is_gone || (lacks && !has_all);
        if self.lost && !self.key().is_some_and(|state| state.lost) {
            // First in the key: whoever takes over from here must know.
            return;
        }
        if self.log.forked {
            self.allow_cut();
            return;
        }
        if self.lost && self.waits_for_last_owner() {
            return;
        }
        if self.put_back(copy, out) {
            return;
        }
        let epoch = if self.lost || tip.epoch == 0 {
            new_epoch(self.config.seed, term)
        } else {
            tip.epoch
        };
        let body = format!("{}\n{}", self.config.owner, self.config.address);
        let entry = tip.begin_term(term, epoch, body.as_bytes());
        self.append(Purpose::Term, entry, out);
    }

    /// The last owner may have more than this copy, and puts it back if it lives.
    fn waits_for_last_owner(&mut self) -> bool {
        let until = self.now + self.config.heal_wait_ms;
        match &mut self.role {
            Role::Taking { heal_at, .. } => self.now < *heal_at.get_or_insert(until),
            Role::Standby | Role::Owner { .. } => false,
        }
    }

    /// [`super::Input::Appended`].
    pub(super) fn on_appended(&mut self, call: Call, result: AppendResult, out: &mut Vec<Output>) {
        let Some(append) = self.append.take_if(|append| append.call == call) else {
            return;
        };
        let is_batch = append.purpose == Purpose::Batch;
        match result {
            AppendResult::At(seq) if seq == append.after + 1 && self.is_still_at(&append) => {
                self.log.appended(append.entry.tip);
                self.on_next_place(seq, append, out);
            }
            AppendResult::Full if is_batch && !self.batch_unknown => {
                self.batch = None;
                out.push(Output::Reply(Reply::Refused));
            }
            AppendResult::Full => self.retry_at = self.now + RETRY_MS,
            // Something lies between, or the log is shorter, or nobody knows: read on.
            AppendResult::At(_) | AppendResult::Unknown => {
                self.batch_unknown |= is_batch;
                self.log.forget_end();
            }
            AppendResult::Moved => self.log.forget_end(),
            AppendResult::Missing => {
                self.log.forget_end();
                self.retry_at = self.now + RETRY_MS;
            }
        }
    }

    /// Whether what is known of the log is as it was when this was sent.
    fn is_still_at(&self, append: &Append) -> bool {
        self.log.is_aligned() && self.log.seq == append.after
    }

    fn on_next_place(&mut self, seq: Seq, append: Append, out: &mut Vec<Output>) {
        if append.purpose == Purpose::PutBack {
            self.counters.healed += 1;
        } else {
            self.tip = append.entry.tip;
            let bytes = append.entry.bytes;
            out.push(Output::Store { seq, bytes });
        }
        if append.entry.tip == self.tip {
            self.log.tip_is_at(seq);
        }
        match append.purpose {
            Purpose::PutBack => {}
            Purpose::Batch => self.batch_is_stored(out),
            Purpose::Term => {
                self.lost = false;
                self.begin_term(out);
            }
        }
    }

    fn batch_is_stored(&mut self, out: &mut Vec<Output>) {
        self.batch = None;
        out.push(Output::Reply(Reply::Stored));
    }

    /// An entry was read and accepted: it may be the one that was appended here.
    pub(super) fn on_accepted(&mut self, header: &Header, out: &mut Vec<Output>) {
        let is_same = |entry: &EncodedEntry| entry.tip.crc == header.crc;
        let appended = self.append.take_if(|append| is_same(&append.entry));
        if appended.is_some_and(|append| append.purpose == Purpose::PutBack) {
            self.counters.healed += 1;
        }
        if self.batch.as_ref().is_some_and(is_same) {
            self.batch_is_stored(out);
        }
        let own = self.term();
        if header.kind != Kind::Term || own == 0 || header.term < own {
            return;
        }
        if header.term == own && !self.lost && !self.log.forked && !self.is_owner() {
            self.begin_term(out);
        } else if header.term > own || self.lost {
            self.step_down(out);
        }
    }

    /// The entry that begins the term counts: no older owner is accepted any more.
    fn begin_term(&mut self, out: &mut Vec<Output>) {
        let Role::Taking {
            term, lease_until, ..
        } = self.role
        else {
            return;
        };
        self.role = Role::Owner { term, lease_until };
        self.owned_term = term;
        self.log.term_begins();
        self.counters.taken += 1;
        // The mark of the end, and that nothing is lost any more.
        self.next_beat = self.now;
        let epoch = self.tip.epoch;
        out.push(Output::Serve { term, epoch });
    }
}

/// Another epoch than any before, never 0.
fn new_epoch(seed: u64, term: u64) -> u64 {
    let mut mixed = seed.wrapping_add(term.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).max(1)
}
