//! Reads the engine's log: finds where it and the copy agree, then entry by entry.
//!
//! The search begins where the newest entry of the copy was, and if that is not there it
//! goes back from the end until an entry of the engine has number and CRC of
//! one of the copy; the chain makes everything before it equal. From there on every
//! entry is accepted, or void for all readers. An accepted entry that is not the copy's
//! is a fork: the copy is cut only once an owner has begun a term behind it, or once the
//! key says that entries are lost, so that whoever owns the shard begins a new epoch.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{Call, Member, Millis, Output, Replica, Role, Seq, SizeResult};
use crate::chain::{Header, Kind, Tip};

/// Between two attempts to reach the engine.
const RETRY_MS: Millis = 200;

/// What is known of the engine's log.
#[derive(Debug, Default)]
pub(super) struct LogView {
    /// The chain at `seq`.
    pub(super) base: Tip,
    /// The last entry that was looked at.
    pub(super) seq: Seq,
    /// Where it ended when that was read last; `None`: to be read.
    end: Option<Seq>,
    first: Seq,
    /// Up to there the engine's log was searched as it is now.
    searched: Seq,
    search: Search,
    /// Where the newest entry of the copy was last; 0: not known.
    tip_seq: Seq,
    size: Option<Call>,
    follow: Option<Call>,
    /// It did not move since the last look, though the end did.
    stalled_at: Option<Seq>,
    /// An accepted entry is not the copy's.
    pub(super) forked: bool,
    /// The copy may be cut where it differs.
    may_cut: bool,
    retry_at: Millis,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// To be begun at the end.
    #[default]
    Due,
    /// The entry at this place is awaited.
    At(Seq),
    /// `base` and `seq` hold.
    Done,
}

impl LogView {
    /// Whether everything up to the known end was looked at.
    pub(super) fn is_at_end(&self) -> bool {
        self.search == Search::Done && self.end == Some(self.seq)
    }

    /// Whether `base` and `seq` hold.
    pub(super) fn is_aligned(&self) -> bool {
        self.search == Search::Done
    }

    /// The end has to be read again before anything is decided.
    pub(super) fn forget_end(&mut self) {
        (self.end, self.size) = (None, None);
        self.retry_at = 0;
    }

    /// The newest entry of the copy is at this place.
    pub(super) fn tip_is_at(&mut self, seq: Seq) {
        self.tip_seq = seq;
    }

    /// What is being read of the end is outdated once this append is stored.
    pub(super) fn append_begins(&mut self) {
        self.size = None;
    }

    /// The copy and the log are one from here on.
    pub(super) fn term_begins(&mut self) {
        self.may_cut = false;
    }

    /// When something that was not answered is requested again.
    pub(super) fn retry_at(&self) -> Millis {
        self.retry_at
    }

    /// An entry was appended here, behind all others.
    pub(super) fn appended(&mut self, tip: Tip) {
        self.base = tip;
        self.seq += 1;
        self.end = Some(self.seq);
    }
}

impl Member {
    /// The log is searched again from its end.
    pub(super) fn look_again(&mut self) {
        self.log.search = Search::Due;
        self.log.follow = None;
        self.log.forget_end();
    }

    /// What a fork leaves may be set aside: a new epoch is certain.
    pub(super) fn allow_cut(&mut self) {
        self.log.may_cut = true;
        self.look_again();
    }

    /// Requests what is due: size and key now and then.
    pub(super) fn look_at_engine(&mut self, out: &mut Vec<Output>) {
        if self.now >= self.next_check {
            self.next_check = self.now + self.config.check_ms;
            out.push(Output::ReadKey);
            if self.append.is_none() && self.log.size.is_none() {
                self.read_size(out);
            }
        }
        let due = self.log.end.is_none() && self.now >= self.log.retry_at;
        if due && self.log.size.is_none() && self.append.is_none() {
            self.read_size(out);
        }
    }

    fn read_size(&mut self, out: &mut Vec<Output>) {
        let call = self.call();
        self.log.size = Some(call);
        out.push(Output::ReadSize { call });
    }

    fn follow(&mut self, from: Seq, out: &mut Vec<Output>) {
        let call = self.call();
        self.log.follow = Some(call);
        out.push(Output::Follow { call, from });
    }

    /// [`super::Input::Size`].
    pub(super) fn on_size(&mut self, call: Call, size: SizeResult, out: &mut Vec<Output>) {
        if self.log.size != Some(call) {
            return;
        }
        self.log.size = None;
        let (first, end) = match size {
            SizeResult::Holds { first, end } => (first, end),
            SizeResult::Missing if self.term() > 0 => {
                let call = self.call();
                self.log.size = Some(call);
                out.push(Output::CreateLog { call });
                return;
            }
            SizeResult::Missing => (1, 0),
            SizeResult::Unavailable => {
                self.log.retry_at = self.now + RETRY_MS;
                return;
            }
        };
        self.log.first = first;
        let regressed = self.log.search == Search::Done && end < self.log.seq;
        self.counters.regressed += u64::from(regressed);
        self.log.end = Some(end);
        let awaited = match self.log.search {
            Search::At(at) => Some(at),
            Search::Due | Search::Done => None,
        };
        let is_stuck = awaited.is_some() && self.log.stalled_at == awaited;
        if regressed || is_stuck || self.log.search == Search::Due {
            self.begin_search(end, out);
        } else if awaited.is_some() {
            self.log.stalled_at = awaited;
        } else if self.log.search == Search::Done && end > self.log.seq {
            // A stream that yields nothing although the log has grown is dead.
            let stalled = self.log.stalled_at == Some(self.log.seq);
            if stalled || self.log.follow.is_none() {
                self.follow(self.log.seq + 1, out);
            }
            self.log.stalled_at = Some(self.log.seq);
        }
    }

    fn begin_search(&mut self, end: Seq, out: &mut Vec<Output>) {
        self.log.searched = end;
        self.log.forked = false;
        // What a standby saw is seen again, if it is still so; an owner to be remembers.
        self.lost &= self.term() > 0;
        // Where the newest entry was it is, unless something was lost. An older one may
        // be at the very end, written again by an owner whose answer came late.
        let known = (self.log.first.max(1)..=end).contains(&self.log.tip_seq);
        let from = if known { self.log.tip_seq } else { end };
        self.search_at(from, out);
    }

    fn search_at(&mut self, at: Seq, out: &mut Vec<Output>) {
        if at == 0 || at < self.log.first {
            self.log.base = Tip::default();
            self.begin_walk(self.log.first.saturating_sub(1), out);
            return;
        }
        self.log.search = Search::At(at);
        self.follow(at, out);
    }

    fn begin_walk(&mut self, seq: Seq, out: &mut Vec<Output>) {
        self.log.seq = seq;
        self.log.search = Search::Done;
        self.log.stalled_at = None;
        if self.log.end != Some(seq) || self.term() == 0 {
            self.follow(seq + 1, out);
        }
    }

    /// [`super::Input::FollowEnded`].
    pub(super) fn on_follow_ended(&mut self, call: Call) {
        if self.log.follow == Some(call) {
            self.look_again();
            self.log.retry_at = self.now + RETRY_MS;
        }
    }

    /// [`super::Input::Entry`].
    pub(super) fn on_entry(
        &mut self,
        call: Call,
        seq: Seq,
        bytes: Bytes,
        copy: &impl Replica,
        out: &mut Vec<Output>,
    ) {
        if self.log.follow != Some(call) {
            return;
        }
        match self.log.search {
            Search::At(at) if at == seq => self.compare(seq, &bytes, copy, out),
            Search::Done if seq == self.log.seq + 1 => self.walk(seq, bytes, copy, out),
            // Appended here, and known since its answer.
            Search::Done if seq <= self.log.seq => {}
            // A hole, or an order of its own: nothing of it can be believed.
            _ => self.look_again(),
        }
    }

    fn compare(&mut self, at: Seq, bytes: &[u8], copy: &impl Replica, out: &mut Vec<Output>) {
        let decoded = Header::decode(bytes);
        if at == self.log.tip_seq && decoded.is_ok_and(|(header, _)| header.crc != self.tip.crc) {
            self.log.tip_seq = 0;
            self.search_at(self.log.searched, out);
            return;
        }
        let Ok((header, _)) = decoded else {
            self.search_at(at - 1, out);
            return;
        };
        let known = copy.header(header.number);
        if known.is_some_and(|known| known.crc == header.crc) {
            self.log.base = header.tip();
            self.begin_walk(at, out);
            return;
        }
        // Numbers rise by one an entry at most.
        let ahead = header.number.saturating_sub(self.tip.number);
        self.search_at(at.saturating_sub(ahead.max(1)), out);
    }

    fn walk(&mut self, seq: Seq, bytes: Bytes, copy: &impl Replica, out: &mut Vec<Output>) {
        let before = self.log.base;
        let header = match before.accept(&bytes) {
            Ok(header) => header,
            Err(_) if self.begins_with_a_head(seq, &bytes) => match Header::decode(&bytes) {
                Ok((header, _)) => header,
                Err(_) => return,
            },
            Err(why) if seq <= self.log.searched => {
                self.counters.voids += 1;
                out.push(Output::VoidEntry { seq, why });
                self.passed(seq);
                return;
            }
            // Void, or what it follows is no longer there.
            Err(_) => {
                self.look_again();
                return;
            }
        };
        self.log.base = header.tip();
        self.passed(seq);
        let known = copy.header(header.number);
        let same = known.is_some_and(|known| known.crc == header.crc);
        // Whoever began a term has decided what counts.
        let is_decided = header.kind == Kind::Term && !same;
        let differs = self.log.forked || known.is_some_and(|known| known.crc != header.crc);
        if differs {
            self.on_fork(&header, before, is_decided, out);
        }
        if !self.log.forked && !same {
            self.tip = self.log.base;
            out.push(Output::Store { seq, bytes });
        }
        if self.log.base == self.tip {
            self.log.tip_seq = seq;
        }
        let is_own = header.term == self.term() && header.epoch == before.epoch;
        if is_decided && !is_own && !self.log.forked {
            self.lost = false;
        }
        self.on_accepted(&header, out);
    }

    fn begins_with_a_head(&self, seq: Seq, bytes: &[u8]) -> bool {
        let is_head = Header::decode(bytes).is_ok_and(|(header, _)| header.kind == Kind::Head);
        is_head && self.tip.number == 0 && self.log.base.number == 0 && seq == self.log.first
    }

    fn passed(&mut self, seq: Seq) {
        self.log.seq = seq;
        if self.log.end.is_some_and(|end| end < seq) {
            self.log.end = Some(seq);
        }
    }

    fn on_fork(&mut self, header: &Header, before: Tip, is_decided: bool, out: &mut Vec<Output>) {
        if !self.log.forked {
            self.counters.forks += 1;
            if self.log.may_cut || is_decided {
                self.log.may_cut = matches!(self.role, Role::Taking { .. });
                self.tip = before;
                out.push(Output::CutCopy {
                    after: header.number - 1,
                });
                return;
            }
        }
        (self.log.forked, self.lost) = (true, true);
        if is_decided {
            self.allow_cut();
        } else if self.is_owner() {
            self.step_down(out);
        }
    }

    /// An owner at the end has nothing to follow.
    pub(super) fn stop_following(&mut self, out: &mut Vec<Output>) {
        if self.log.is_at_end() && self.log.follow.take().is_some() {
            out.push(Output::StopFollowing);
        }
    }
}
