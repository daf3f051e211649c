//! Watches: one of each subject takes its updates at once, another one when it
//! gets to it.

use std::{collections::BTreeSet, sync::Arc};

use delivery::hub::{Input, Receipt, Subject, WatchEnd, WatchId};

use super::{Due, USERS, World};

impl World {
    /// Presence, and the jobs that are known, are watched again.
    pub(super) fn watch_all(&mut self) {
        self.receipt_watches.clear();
        self.presence_watches.clear();
        let (prompt, slow) = (self.number(), self.number());
        self.presence_watches
            .begin(&Arc::from("presence"), prompt, slow);
        self.presence_watch = prompt;
        for watch in [prompt, slow] {
            let users = BTreeSet::new();
            self.hub(Input::WatchPresence {
                watch,
                service: Arc::from("operator"),
                users,
            });
        }
        let jobs = self.workers.iter().map(|worker| worker.job.clone());
        for job in jobs.collect::<Vec<_>>() {
            self.watch(&job);
        }
    }

    pub(super) fn watch(&mut self, job: &Arc<str>) {
        let (prompt, slow) = (self.number(), self.number());
        self.receipt_watches.begin(job, prompt, slow);
        for watch in [prompt, slow] {
            self.hub(Input::WatchReceipts {
                watch,
                publisher: Arc::from("publisher"),
                subject: Subject::Job(job.clone()),
            });
        }
    }

    pub(super) fn receipts_for(&mut self, watch: WatchId, receipts: &[Receipt], snapshot: bool) {
        self.receipt_watches.update(watch, receipts, snapshot);
        for receipt in receipts {
            self.receipts.notified(watch, receipt);
            match receipt {
                Receipt::Device { .. } => self.report.receipts += 1,
                Receipt::Expired { .. } => self.report.expired += 1,
            }
        }
        let slow = self.receipt_watches.is_slow(watch);
        self.take_update(watch, slow);
    }

    pub(super) fn presence_for(
        &mut self,
        watch: WatchId,
        members: &[delivery::link::Member],
        snapshot: bool,
    ) {
        let slow = self.presence_watches.is_slow(watch);
        self.presence_watches.update(watch, members, snapshot);
        if watch == self.presence_watch {
            if snapshot {
                self.presence.snapshot(members);
            } else {
                self.report.left += self.presence.changes(members);
            }
        }
        self.take_update(watch, slow);
    }

    fn take_update(&mut self, watch: WatchId, slow: bool) {
        if !slow {
            self.hub(Input::WatchTaken { watch });
            return;
        }
        let most = if self.chaos() { 2_000 } else { 20 };
        let pause = self.random.between(1, most);
        self.after(pause, Due::WatchTaken(self.incarnation, watch));
    }

    pub(super) fn watch_taken(&mut self, incarnation: u64, watch: WatchId) {
        if incarnation == self.incarnation {
            self.receipt_watches.taken(watch);
            self.presence_watches.taken(watch);
            self.hub(Input::WatchTaken { watch });
        }
    }

    pub(super) fn watch_ended(&mut self, watch: WatchId, reason: WatchEnd) {
        if matches!(reason, WatchEnd::TooMany(_)) {
            // Never one of the first service.
            assert!(!self.receipt_watches.knows(watch) && !self.presence_watches.knows(watch));
            return;
        }
        let slow = self.receipt_watches.is_slow(watch) || self.presence_watches.is_slow(watch);
        let known =
            self.receipt_watches.end(watch, reason) || self.presence_watches.end(watch, reason);
        assert!(known, "watch {watch} ended: {reason:?}");
        self.report.watches_behind += u64::from(slow);
    }

    pub(super) fn check_watches(&self) {
        self.receipt_watches.check(1);
        self.presence_watches.check(USERS as usize);
    }
}
