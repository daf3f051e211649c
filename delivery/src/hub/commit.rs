//! What the log says: records became durable, were refused, or it failed.

use super::{
    JobEnd, Output, Phase, Reply, State, Turn, Unsynced, leases::Opening, receipts::Track, route,
};
use crate::{JobChange, JobMark, Lsn, Millis, Record, StoredEvent, StreamName, shares::ServiceId};

impl State {
    pub(super) fn synced(&mut self, upto: Lsn, trimmed: &[(StreamName, u64)], turn: &mut Turn<'_>) {
        while self.synced < upto
            && let Some(unsynced) = self.unsynced.pop_front()
        {
            self.synced = unsynced.record.lsn;
            self.commit(unsynced, turn);
        }
        for (name, first) in trimmed {
            if let Some(stream) = self.streams.get_mut(name) {
                stream.trim(*first);
            }
        }
        while self.recent_bytes > turn.limits.recent_bytes
            && let Some((name, offset)) = self.recent.pop_front()
        {
            if let Some(stream) = self.streams.get_mut(&name) {
                self.recent_bytes -= stream.forget_recent(offset);
            }
        }
    }

    /// Answers the publisher and routes: only now, as the record is durable.
    fn commit(&mut self, unsynced: Unsynced, turn: &mut Turn<'_>) {
        let Unsynced {
            record,
            ticket,
            coalesced,
            publisher,
            service,
            job,
            ends_job,
            expires,
        } = unsynced;
        self.waiting.give_back(service, 1 + coalesced.len());
        self.waiting_bytes.give_back(service, record.envelope.len());
        self.stats.stored += 1;
        self.stats.duplicates += coalesced.len() as u64;
        let first = core::iter::once((ticket, false));
        for (ticket, duplicate) in first.chain(coalesced.into_iter().map(|ticket| (ticket, true))) {
            let reply = Reply::Accepted {
                id: record.id,
                placements: record.placements.clone(),
                check: record.check,
                duplicate,
            };
            turn.push(Output::Reply { ticket, reply });
        }
        let ended = job.as_ref().zip(ends_job);
        for placement in record.placements.iter() {
            let event = StoredEvent {
                offset: placement.offset,
                check: record.check,
                payload: record.envelope.clone(),
            };
            if let Some((job, _)) = ended {
                for last in self.latest.end_job(&placement.stream, job) {
                    self.route_ephemeral(&placement.stream, &last, turn);
                }
            }
            self.commit_placement(&placement.stream, event, turn);
        }
        if let Some((job, JobEnd::Published)) = ended {
            self.latest.remember_ended(service, job, turn);
        }
        self.commit_lease(service, &record, turn.now);
        let track = Track {
            id: record.id,
            publisher,
            service,
            job,
            placements: record.placements,
            expires,
        };
        self.receipts.track(track, turn);
    }

    fn commit_lease(&mut self, service: ServiceId, record: &Record, now: Millis) {
        let Some(JobMark { job, change }) = &record.job else {
            return;
        };
        self.leases.arrived(service, job, *change);
        match change {
            JobChange::Leased { lease_ms } => {
                let streams = record.placements.iter().map(|p| p.stream.clone());
                let opening = Opening {
                    service,
                    lasts_ms: *lease_ms,
                    streams: streams.collect(),
                    envelope: record.envelope.clone(),
                };
                self.leases.open(job, opening, now);
            }
            JobChange::Ended => self.leases.end(job),
        }
    }

    fn commit_placement(&mut self, name: &StreamName, event: StoredEvent, turn: &mut Turn<'_>) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let routed = route::route(
            &mut self.links,
            &stream.links,
            name,
            route::Event::Stored(&event),
            turn,
        );
        self.recent.push_back((name.clone(), event.offset));
        self.recent_bytes += event.payload.len();
        stream.commit(event);
        // Trimmed some at a time, so that a busy stream does not ask for each.
        let keep = turn.limits.retained_per_stream;
        if stream.retained() > keep + keep / 64 {
            let first = stream.head() + 1 - keep;
            stream.trim(first);
            turn.push(Output::Trim {
                stream: name.clone(),
                first,
            });
        }
        self.count(routed);
    }

    /// Gives up all that is not durable, newest first, as if it never came.
    pub(super) fn refused(&mut self, turn: &mut Turn<'_>) {
        self.give_up(&Reply::Full, turn);
    }

    pub(super) fn failed(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Failed;
        self.give_up(&Reply::Failed, turn);
    }

    fn give_up(&mut self, reply: &Reply, turn: &mut Turn<'_>) {
        while let Some(unsynced) = self.unsynced.pop_back() {
            let Unsynced {
                record,
                ticket,
                coalesced,
                service,
                ..
            } = unsynced;
            self.waiting.give_back(service, 1 + coalesced.len());
            self.waiting_bytes.give_back(service, record.envelope.len());
            if let Some(dedupe) = record.dedupe {
                self.dedupe.forget_newest(service, dedupe.key);
            }
            if let Some(mark) = &record.job {
                self.leases.arrived(service, &mark.job, mark.change);
            }
            for placement in record.placements.iter() {
                if let Some(stream) = self.streams.get_mut(&placement.stream) {
                    stream.assigned -= 1;
                    debug_assert_eq!(stream.assigned + 1, placement.offset, "newest first");
                    if stream.assigned == 0 {
                        self.stored_streams.give_back(service, 1);
                    }
                }
                self.forget_if_idle(&placement.stream);
            }
            self.stats.refused += 1 + coalesced.len() as u64;
            for ticket in core::iter::once(ticket).chain(coalesced) {
                turn.push(Output::Reply {
                    ticket,
                    reply: reply.clone(),
                });
            }
        }
    }
}
