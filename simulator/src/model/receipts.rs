//! Receipts: true, rising, and no expiry after somebody had it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use delivery::{
    EventId,
    hub::{Receipt, WatchId},
    link::ReceiptState,
};

#[derive(Default)]
pub(crate) struct Receipts {
    reported: BTreeSet<(EventId, Arc<str>, ReceiptState)>,
    notified: BTreeMap<(WatchId, EventId, Arc<str>), ReceiptState>,
    expired: BTreeSet<(WatchId, EventId, Arc<str>)>,
    retracted: BTreeSet<(EventId, Arc<str>)>,
}

impl Receipts {
    /// A client reports.
    pub(crate) fn reports(&mut self, event: EventId, device: Arc<str>, state: ReceiptState) {
        self.reported.insert((event, device, state));
    }

    /// A publisher is notified.
    pub(crate) fn notified(&mut self, watch: WatchId, receipt: &Receipt) {
        match receipt {
            Receipt::Device {
                event,
                state,
                user,
                device,
                ..
            } => {
                assert!(
                    self.reported.contains(&(*event, device.clone(), *state)),
                    "{device} never said {state:?}"
                );
                let before = self
                    .notified
                    .insert((watch, *event, device.clone()), *state);
                assert!(before < Some(*state), "{before:?} then {state:?}");
                let stream = Arc::from(format!("user:{user}"));
                self.notified.insert((watch, *event, stream), *state);
            }
            Receipt::Expired { event, stream, .. } => {
                let delivered = self.notified.contains_key(&(watch, *event, stream.clone()));
                assert!(!delivered, "{stream} had it, and it expired");
                let new = self.expired.insert((watch, *event, stream.clone()));
                assert!(new, "{stream}: expired twice");
            }
        }
    }

    /// The hub takes an event from a user's other devices.
    pub(crate) fn retract(&mut self, event: EventId, user: &Arc<str>, state: ReceiptState) {
        let known = self.reported.iter();
        let said = known.filter(|(id, _, said)| *id == event && *said == state);
        assert!(said.count() > 0, "nobody said {state:?}");
        let new = self.retracted.insert((event, user.clone()));
        assert!(new, "taken from {user} twice");
    }

    /// The notifier forgot everything.
    pub(crate) fn restarted(&mut self) {
        self.retracted.clear();
    }
}
