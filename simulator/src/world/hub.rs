//! The hub's driver: a process that dies, a disk that fails.

use std::{collections::BTreeMap, sync::Arc};

use delivery::{
    Credential, Record, Refusal, Rights, StreamName, StreamPattern, Verdict,
    edge::LinkEnd,
    hub::{Announcement, Hub, Input, Output, ReadId},
    link::{LinkFault, ToEdge, ToHub},
};

use super::{Due, HubProcess, World};

/// What the driver of a hub does with a token: here it holds the user and, in Unix
/// milliseconds, its end.
fn verify(token: &str, wall_ms: i64) -> Verdict {
    let (user, ends) = token.split_once(' ').expect("a token of a client");
    let ends_unix_ms: i64 = ends.parse().expect("a time");
    let ends_in_ms = match u64::try_from(ends_unix_ms - wall_ms) {
        Ok(0) | Err(_) => return Err(Refusal::Expired),
        Ok(left_ms) => left_ms,
    };
    let streams = [
        StreamPattern::Exact(format!("user:{user}").into()),
        StreamPattern::Exact("everyone".into()),
        StreamPattern::Prefix("queue:".into()),
    ];
    let rights = Rights {
        user: user.into(),
        streams: streams.into(),
        exp_unix_ms: ends_unix_ms,
        ends_in_ms,
    };
    Ok(Credential {
        rights,
        token_id: None,
        digest: 1,
        key: 1,
    })
}

impl World {
    pub(super) fn hub_start(&mut self) {
        let recovered = self.disk.recover(self.now);
        let hub = Hub::new(self.limits.clone(), recovered, self.now);
        self.hub_started = self.now;
        self.hub = Some(HubProcess {
            hub,
            gathered: Vec::new(),
            writing: Vec::new(),
        });
        self.jobs.restarted(self.now);
        self.receipts.restarted();
        self.watch_all();
        self.after(20, Due::HubTick(self.incarnation));
    }

    pub(super) fn hub_tick(&mut self, incarnation: u64) {
        if incarnation == self.incarnation && self.hub.is_some() {
            self.check_watches();
            self.hub(Input::Deadline);
            self.after(20, Due::HubTick(incarnation));
        }
    }

    pub(super) fn crash(&mut self) {
        let Some(process) = self.hub.take() else {
            return;
        };
        self.report.crashes += 1;
        // What was being written is there as a whole, or not at all.
        if self.random.chance(50) {
            self.make_durable(process.writing);
        }
        self.replace_disk();
        self.count_stats(&process.hub);
        self.incarnation += 1;
        self.announced.clear();
        let lost: Vec<u128> = std::mem::take(&mut self.tickets).into_values().collect();
        for key in lost {
            let pause = self.random.between(10, 200);
            self.after(pause, Due::Retry(key));
        }
        let links: Vec<u64> = self.links.keys().copied().collect();
        for link in links {
            if let Some(known) = self.links.get_mut(&link) {
                known.cut = true;
            }
            let pause = self.random.between(1, 100);
            self.after(pause, Due::LostAtEdge(link, LinkEnd::Lost));
        }
        let pause = self.random.between(20, 300);
        self.after(pause, Due::HubStart);
    }

    fn make_durable(&mut self, batch: Vec<Record>) {
        for record in &batch {
            self.jobs.durable(record.id, self.now);
        }
        self.disk.sync(batch, self.now);
    }

    /// Now and then an operator puts back an older copy, or starts again.
    fn replace_disk(&mut self) {
        let records = self.disk.records.len() as u64;
        match self.random.below(100) {
            0..=7 if records > 5 => {
                self.report.restored += 1;
                let lost = self.random.between(1, records.min(60)) as usize;
                self.disk.restore(lost);
                self.acks.restored(&self.disk);
            }
            8..=9 => {
                self.report.wiped += 1;
                let epoch = self.random.next();
                self.disk.wipe(epoch);
                self.acks.restored(&self.disk);
            }
            _ => {}
        }
    }

    pub(super) fn count_stats(&mut self, hub: &Hub) {
        let refused = hub.shares().map(|share| share.refused);
        self.report.shares_refused += refused.sum::<u64>();
        let stats = hub.stats();
        self.report.collapsed += stats.collapsed;
        self.report.late_progress += stats.late_progress;
        self.report.left_out += stats.left_out;
        self.report.reads += stats.reads;
    }

    pub(super) fn attach(&mut self, link: u64, edge: usize) {
        self.hub(Input::Attach {
            link,
            name: Arc::from(format!("edge-{edge}")),
            deliveries: self.limits.edge_deliveries,
            bytes: self.limits.edge_bytes,
        });
    }

    pub(super) fn deliver_to_hub(&mut self, link: u64, message: ToHub) {
        if !self.links[&link].cut {
            let wall_ms = self.wall_ms();
            let message = message.verified(|token| verify(&token, wall_ms));
            let opens = matches!(message, ToHub::Open { .. });
            self.hub(Input::FromEdge { link, message });
            if opens {
                self.check_sessions_of_users();
            }
        }
    }

    /// No user has more sessions than one user may have, over all edges.
    fn check_sessions_of_users(&self) {
        let Some(HubProcess { hub, .. }) = &self.hub else {
            return;
        };
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for session in hub.sessions() {
            *counts.entry(session.user).or_default() += 1;
        }
        for (user, count) in counts {
            let most = self.limits.user_sessions;
            assert!(
                count <= most,
                "{user} has {count} sessions, {most} are allowed"
            );
        }
    }

    pub(super) fn lost_at_hub(&mut self, link: u64) {
        self.hub(Input::Detach { link });
    }

    pub(super) fn hub(&mut self, input: Input) {
        let Some(process) = &mut self.hub else { return };
        let mut out = Vec::new();
        process.hub.handle(input, self.now, &mut out);
        for output in out {
            self.hub_output(output);
        }
        self.write_batch();
    }

    fn write_batch(&mut self) {
        let slow = self.chaos() && self.random.chance(1);
        let pause = if slow {
            self.random.between(500, 2_500)
        } else {
            self.random.between(1, 20)
        };
        let Some(process) = &mut self.hub else { return };
        if process.writing.is_empty() && !process.gathered.is_empty() {
            process.writing = std::mem::take(&mut process.gathered);
            self.report.slow_syncs += u64::from(slow);
            self.after(pause, Due::LogDone(self.incarnation));
        }
    }

    fn hub_output(&mut self, output: Output) {
        match output {
            Output::Append(record) => {
                self.jobs.taken(record.id, self.now);
                if let Some(process) = &mut self.hub {
                    process.gathered.push(record);
                }
            }
            Output::Reply { ticket, reply } => self.reply(ticket, reply),
            Output::Read {
                read,
                stream,
                first,
            } => {
                let pause = self.random.between(1, 30);
                self.after(pause, Due::ReadDone(self.incarnation, read, stream, first));
            }
            Output::Trim { stream, first } => {
                self.disk.trim(stream, first);
            }
            Output::Send { link, message } => {
                if let ToEdge::Ephemeral { event, .. } = &message {
                    let id = super::publishers::id_of(&event.payload);
                    self.jobs.goes_out(link, id, self.now);
                }
                self.send_to_edge(link, message);
            }
            Output::Announce(announcement) => self.announce(announcement),
            Output::Receipts {
                watch,
                receipts,
                snapshot,
                ..
            } => self.receipts_for(watch, &receipts, snapshot),
            Output::Presence {
                watch,
                members,
                snapshot,
                settling,
            } => {
                let young = self.now < self.hub_started + self.limits.presence_grace_ms;
                assert_eq!(
                    settling,
                    snapshot && young,
                    "a snapshot is whole, or says so"
                );
                self.presence_for(watch, &members, snapshot);
            }
            Output::EndWatch { watch, reason } => self.watch_ended(watch, reason),
            Output::Denied { user, stream, .. } => {
                panic!("an honest edge was denied {stream:?} for {user}")
            }
            Output::SessionReplaced { .. } => self.report.sessions_replaced += 1,
            Output::Exhausted(_) => {}
            Output::End { link, fault } => {
                // Only a second link of one name may end the first.
                assert_eq!(fault, LinkFault::Replaced);
                self.report.replaced += 1;
                if let Some(known) = self.links.get_mut(&link) {
                    known.cut = true;
                }
                self.after(1, Due::LostAtEdge(link, LinkEnd::Replaced));
            }
        }
    }

    pub(super) fn log_done(&mut self, incarnation: u64) {
        if incarnation != self.incarnation {
            return;
        }
        let Some(process) = &mut self.hub else { return };
        let batch = std::mem::take(&mut process.writing);
        let trouble = if self.now < self.calm_at {
            self.random.below(100)
        } else {
            99
        };
        match trouble {
            0..=3 => {
                self.report.full += 1;
                process.gathered.clear();
                self.hub(Input::Refused);
            }
            4 => {
                self.report.failed_syncs += 1;
                process.writing = batch;
                self.hub(Input::Failed);
                self.crash();
            }
            _ => {
                let upto = batch.last().map_or(0, |record| record.lsn);
                self.make_durable(batch);
                let trimmed = self.age();
                self.hub(Input::Synced { upto, trimmed });
            }
        }
    }

    /// Retention by age: now and then some of the oldest events of a stream go.
    fn age(&mut self) -> Vec<(StreamName, u64)> {
        if !self.chaos() || !self.random.chance(2) {
            return Vec::new();
        }
        let stream: StreamName = Arc::from("everyone");
        let first = self.disk.first.get(&stream).copied().unwrap_or(1);
        let first = (first + self.random.between(1, 5)).min(self.disk.head(&stream) + 1);
        self.report.aged += 1;
        self.disk.trim(stream.clone(), first);
        vec![(stream, first)]
    }

    fn announce(&mut self, announcement: Announcement) {
        if self.greedy_announcement(&announcement) {
            return;
        }
        match &announcement {
            Announcement::Stalled { job, .. } => {
                self.jobs.lapsed(job, self.now);
                self.report.stalled += 1;
            }
            Announcement::Retract { user, event, state } => {
                self.receipts.retract(*event, user, *state);
                self.report.retracted += 1;
            }
        }
        self.publish_announcement(announcement);
    }

    pub(super) fn read_done(
        &mut self,
        incarnation: u64,
        read: ReadId,
        stream: &StreamName,
        first: u64,
    ) {
        if incarnation == self.incarnation {
            let (events, bytes) = (self.limits.page_events, self.limits.page_bytes);
            let events = self.disk.read(stream, first, events, bytes);
            self.hub(Input::Read { read, events });
        }
    }
}
