//! The hub's driver and the publishers.

use std::sync::Arc;

use bytes::Bytes;
use delivery::{
    DedupeKey, StreamName,
    hub::{Hub, Input, Kind, Output, Publish, ReadId, Reply},
    link::ToHub,
};

use super::{Due, HubProcess, Publishing, USERS, World};

impl World {
    pub(super) fn hub_start(&mut self) {
        let recovered = self.disk.recover(self.now);
        let hub = Hub::new(self.limits.clone(), recovered, self.now);
        self.hub = Some(HubProcess {
            hub,
            gathered: Vec::new(),
            writing: Vec::new(),
        });
        self.after(100, Due::HubTick(self.incarnation));
    }

    pub(super) fn hub_tick(&mut self, incarnation: u64) {
        if incarnation == self.incarnation && self.hub.is_some() {
            self.hub(Input::Deadline);
            self.after(100, Due::HubTick(incarnation));
        }
    }

    pub(super) fn crash(&mut self) {
        let Some(process) = self.hub.take() else {
            return;
        };
        self.report.crashes += 1;
        // What was being written is there as a whole, or not at all.
        if self.random.chance(50) {
            self.disk.sync(process.writing, self.now);
        }
        self.count_stats(&process.hub);
        self.incarnation += 1;
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
            self.after(pause, Due::LostAtEdge(link));
        }
        let pause = self.random.between(20, 300);
        self.after(pause, Due::HubStart);
    }

    fn count_stats(&mut self, hub: &Hub) {
        let stats = hub.stats();
        self.report.left_out += stats.left_out;
        self.report.reads += stats.reads;
    }

    pub(super) fn attach(&mut self, link: u64, edge: usize) {
        self.hub(Input::Attach {
            edge: link,
            name: Arc::from(format!("edge-{edge}")),
            deliveries: self.limits.edge_deliveries,
            bytes: self.limits.edge_bytes,
        });
    }

    pub(super) fn deliver_to_hub(&mut self, link: u64, message: ToHub) {
        if !self.links[&link].cut {
            self.hub(Input::FromEdge {
                edge: link,
                message,
            });
        }
    }

    pub(super) fn lost_at_hub(&mut self, link: u64) {
        self.hub(Input::Detach { edge: link });
    }

    fn hub(&mut self, input: Input) {
        let Some(process) = &mut self.hub else { return };
        let mut out = Vec::new();
        process.hub.handle(input, self.now, &mut out);
        for output in out {
            self.hub_output(output);
        }
        self.write_batch();
    }

    fn write_batch(&mut self) {
        let pause = self.random.between(1, 20);
        let Some(process) = &mut self.hub else { return };
        if process.writing.is_empty() && !process.gathered.is_empty() {
            process.writing = std::mem::take(&mut process.gathered);
            self.after(pause, Due::LogDone(self.incarnation));
        }
    }

    fn hub_output(&mut self, output: Output) {
        match output {
            Output::Append(record) => {
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
                self.disk.first.insert(stream, first);
            }
            Output::Send { edge, message } => self.send_to_edge(edge, message),
            // Nobody reports, watches or has a lease here.
            Output::Announce(_)
            | Output::Receipts { .. }
            | Output::Presence { .. }
            | Output::EndWatch { .. } => unreachable!("{output:?}"),
            Output::End { edge, fault } => {
                // Only a second link of one edge may end the first.
                assert_eq!(fault, delivery::link::LinkFault::Replaced);
                if let Some(link) = self.links.get_mut(&edge) {
                    link.cut = true;
                }
                self.after(1, Due::LostAtEdge(edge));
            }
        }
    }

    pub(super) fn log_done(&mut self, incarnation: u64) {
        if incarnation != self.incarnation {
            return;
        }
        let Some(process) = &mut self.hub else { return };
        let batch = std::mem::take(&mut process.writing);
        let trouble = if self.now < super::CHAOS_MS {
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
                self.disk.sync(batch, self.now);
                self.hub(Input::Synced {
                    upto,
                    trimmed: Vec::new(),
                });
            }
        }
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

    // === publishers ===

    pub(super) fn publish_new(&mut self) {
        if !self.chaos() {
            return;
        }
        let key = u128::from(self.random.next());
        let user = self.random.below(USERS);
        let streams: Vec<StreamName> = match self.random.below(10) {
            0..=4 => vec![Arc::from(format!("user:{user}"))],
            5 | 6 => vec![Arc::from("everyone")],
            7 => vec![Arc::from("user:0"), Arc::from("user:1")],
            _ => vec![Arc::from("queue:q")],
        };
        self.report.published += 1;
        self.publishing.insert(
            key,
            Publishing {
                streams,
                acked: false,
            },
        );
        self.publish(key);
        if self.random.chance(5) {
            // A twin, in flight at the same time.
            self.publish(key);
        }
        if self.random.chance(30) {
            self.publish_ephemeral(user);
        }
        let pause = if self.random.chance(20) {
            0
        } else {
            self.random.between(1, 30)
        };
        self.after(pause, Due::Publish);
    }

    pub(super) fn publish(&mut self, key: u128) {
        if self.hub.is_none() {
            let pause = self.random.between(10, 100);
            self.after(pause, Due::Retry(key));
            return;
        }
        let dedupe = Some(DedupeKey {
            key,
            body: key as u64,
        });
        let streams = self.publishing[&key].streams.clone();
        let publish = self.event(streams, dedupe, Kind::Stored { change: None });
        let ticket = self.number();
        self.tickets.insert(ticket, key);
        self.hub(Input::Publish { ticket, publish });
    }

    fn publish_ephemeral(&mut self, user: u64) {
        let collapse_key = Some(Arc::from(format!("job-{}", self.random.below(3))));
        let kind = Kind::Ephemeral { collapse_key };
        let publish = self.event(vec![Arc::from(format!("user:{user}"))], None, kind);
        let ticket = self.number();
        self.hub(Input::Publish { ticket, publish });
    }

    fn event(
        &mut self,
        streams: Vec<StreamName>,
        dedupe: Option<DedupeKey>,
        kind: Kind,
    ) -> Publish {
        let id = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        let mut envelope = id.to_be_bytes().to_vec();
        envelope.resize(self.random.between(20, 200) as usize, 0);
        Publish {
            id,
            streams: streams.into(),
            check: (id as u32).max(1),
            dedupe,
            envelope: Bytes::from(envelope),
            publisher: Arc::from("publisher"),
            job: None,
            lives_ms: None,
            kind,
        }
    }

    fn reply(&mut self, ticket: u64, reply: Reply) {
        let Some(key) = self.tickets.remove(&ticket) else {
            return;
        };
        match reply {
            Reply::Accepted {
                id,
                placements,
                duplicate,
                ..
            } => {
                self.report.duplicates += u64::from(duplicate);
                self.acks.acked(key, id, &placements, &self.disk);
                if let Some(publishing) = self.publishing.get_mut(&key) {
                    publishing.acked = true;
                }
                // The answer is lost now and then, and the publisher asks again.
                if self.chaos() && self.random.chance(5) {
                    let pause = self.random.between(1, 400);
                    self.after(pause, Due::Retry(key));
                }
            }
            Reply::KeyReused => panic!("the same key was sent with the same body"),
            Reply::Overloaded
            | Reply::TooManyLeases
            | Reply::Full
            | Reply::Failed
            | Reply::Draining => {
                let pause = self.random.between(5, 100);
                self.after(pause, Due::Retry(key));
            }
        }
    }
}
