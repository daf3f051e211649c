//! What clients and publishers have seen, and what must therefore hold.

use std::collections::BTreeMap;

use super::node::Node;

#[derive(Default)]
pub(super) struct Oracle {
    /// What every position ever showed.
    shown: BTreeMap<(u64, u64), u64>,
    /// Where each acked event was acked.
    acked: BTreeMap<u64, (u64, u64)>,
    /// Nothing new is published.
    pub(super) closed: bool,
}

impl Oracle {
    /// A client was shown an event.
    pub(super) fn served(&mut self, epoch: u64, lsn: u64, event: u64) {
        let known = *self.shown.entry((epoch, lsn)).or_insert(event);
        assert_eq!(
            known, event,
            "G22: position {lsn} of epoch {epoch} shows two events"
        );
    }

    /// A publisher was answered.
    pub(super) fn ack(&mut self, epoch: u64, lsn: u64, event: u64) {
        self.served(epoch, lsn, event);
        self.acked.insert(event, (epoch, lsn));
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked.len() as u64
    }

    /// Every acked event is where it was acked, or the epoch is another, for a reason.
    pub(super) fn check_acked(&self, node: &Node, lost_for_good: bool) {
        let now = node.epoch();
        for (event, (epoch, lsn)) in &self.acked {
            if *epoch == now {
                assert_eq!(
                    node.copy.event_at(*lsn),
                    Some(*event),
                    "G22: acked event {event} is gone without a gap"
                );
            } else {
                assert!(
                    lost_for_good,
                    "G27: a new epoch although nothing was lost for good"
                );
            }
        }
    }
}
