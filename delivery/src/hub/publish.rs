//! Publishes: refused, answered from the idempotency window, handed on, or sent
//! to the log.

use alloc::{sync::Arc, vec::Vec};

use super::{
    JobEnd, Kind, Output, Phase, Publish, Reply, State, Ticket, Turn, Unsynced,
    dedupe::DedupeEntry, latest::Sender, route, shares::request, stream::Stream,
};
use crate::{
    JobChange, JobMark, Placement, Record, StreamName,
    link::Ephemeral,
    shares::{Bucket, Exhausted, ServiceId},
};

impl From<Exhausted> for Reply {
    fn from(exhausted: Exhausted) -> Self {
        Reply::Exhausted(exhausted)
    }
}

impl State {
    pub(super) fn publish(&mut self, ticket: Ticket, publish: Publish, turn: &mut Turn<'_>) {
        let refusal = match self.phase {
            Phase::Running => self.admit(ticket, publish, turn).err(),
            Phase::Draining => Some(Reply::Draining),
            Phase::Failed => Some(Reply::Failed),
        };
        if let Some(reply) = refusal {
            self.stats.refused += 1;
            turn.push(Output::Reply { ticket, reply });
        }
    }

    fn admit(
        &mut self,
        ticket: Ticket,
        publish: Publish,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reply> {
        let service = self.service(&publish.publisher);
        let bytes = publish.envelope.len();
        self.meter(service, (Bucket::PublishRate, 1), turn)?;
        self.meter(service, (Bucket::ByteRate, bytes as u64), turn)?;
        let change = match publish.kind {
            Kind::Ephemeral { ref collapse_key } => {
                let collapse_key = collapse_key.clone();
                self.forward_ephemeral(ticket, publish, (service, collapse_key), turn);
                return Ok(());
            }
            Kind::Stored { change } => change,
        };
        self.dedupe.expire(turn.now);
        let job = publish.job.as_deref();
        let own_failure = change == Some(JobChange::Ended)
            && job.is_some_and(|job| self.leases.take_announced(job));
        if let Some(dedupe) = publish.dedupe
            && let Some(known) = self.dedupe.find(dedupe.key)
        {
            if dedupe.body != known.body {
                return Err(Reply::KeyReused);
            }
            let known = known.clone();
            return self.duplicate(service, ticket, &known, turn);
        }
        request(&mut self.waiting, (service, 1), turn)?;
        request(&mut self.waiting_bytes, (service, bytes), turn)?;
        let placements = self.locate(service, &publish.streams, turn)?;
        if let Some(job) = publish.job.as_deref()
            && !own_failure
        {
            self.leases.renew(job, turn.now);
        }
        let mark = self.mark_job(service, (publish.job.as_ref(), change), turn)?;
        let record = Record {
            lsn: self.synced + self.unsynced.len() as u64 + 1,
            id: publish.id,
            placements,
            check: publish.check,
            dedupe: publish.dedupe,
            job: mark,
            envelope: publish.envelope,
        };
        let ends_job = (change == Some(JobChange::Ended)).then_some(if own_failure {
            JobEnd::Stalled
        } else {
            JobEnd::Published
        });
        let unsynced = Unsynced {
            record,
            ticket,
            coalesced: Vec::new(),
            publisher: publish.publisher,
            service,
            job: publish.job,
            ends_job,
            expires: publish.lives_ms.map(|lives| turn.now.saturating_add(lives)),
        };
        self.append(unsynced, turn);
        Ok(())
    }

    /// Only a change of a lease is recorded.
    fn mark_job(
        &mut self,
        service: ServiceId,
        (job, change): (Option<&Arc<str>>, Option<JobChange>),
        turn: &mut Turn<'_>,
    ) -> Result<Option<JobMark>, Reply> {
        let Some(job) = job else {
            return Ok(None);
        };
        if let Some(JobChange::Leased { .. }) = change {
            self.leases.request(service, job, turn)?;
        }
        let recorded = match change {
            Some(JobChange::Ended) if !self.leases.concerns(job) => None,
            change => change,
        };
        if change != Some(JobChange::Ended) {
            self.latest.revive(service, job);
        }
        Ok(recorded.map(|change| {
            self.leases.sent(service, job, change);
            JobMark {
                job: job.clone(),
                change,
            }
        }))
    }

    fn append(&mut self, unsynced: Unsynced, turn: &mut Turn<'_>) {
        let (record, service) = (&unsynced.record, unsynced.service);
        for placement in record.placements.iter() {
            let stream = self.streams.entry(placement.stream.clone());
            stream.or_insert_with(Stream::new).assigned = placement.offset;
            if placement.offset == 1 {
                self.stored_streams.take(service, 1);
            }
        }
        if let Some(dedupe) = record.dedupe {
            let known = DedupeEntry {
                body: dedupe.body,
                lsn: record.lsn,
                id: record.id,
                placements: record.placements.clone(),
                check: record.check,
            };
            self.dedupe.insert(service, (dedupe.key, known), turn);
        }
        self.waiting.take(service, 1);
        self.waiting_bytes.take(service, record.envelope.len());
        turn.push(Output::Append(record.clone()));
        self.unsynced.push_back(unsynced);
    }

    /// The next offset in each stream. Those that never had an event count.
    fn locate(
        &mut self,
        service: ServiceId,
        streams: &[StreamName],
        turn: &mut Turn<'_>,
    ) -> Result<Arc<[Placement]>, Reply> {
        let mut new = 0;
        let placements = streams.iter().map(|stream| {
            // The stream's own name is kept, so that equal names share memory.
            let (name, assigned) = match self.streams.get_key_value(stream) {
                Some((name, known)) => (name, known.assigned),
                None => (stream, 0),
            };
            new += usize::from(assigned == 0);
            Placement {
                stream: name.clone(),
                offset: assigned + 1,
            }
        });
        let placements = placements.collect();
        if new > 0 {
            request(&mut self.stored_streams, (service, new), turn)?;
            self.meter(service, (Bucket::StreamRate, new as u64), turn)?;
        }
        Ok(placements)
    }

    /// Answers with what the first publish of the key came to, once that is sure.
    fn duplicate(
        &mut self,
        service: ServiceId,
        ticket: Ticket,
        known: &DedupeEntry,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reply> {
        if known.lsn > self.synced {
            request(&mut self.waiting, (service, 1), turn)?;
            let index = (known.lsn - self.synced - 1) as usize;
            if let Some(first) = self.unsynced.get_mut(index) {
                first.coalesced.push(ticket);
                self.waiting.take(service, 1);
            }
            return Ok(());
        }
        self.stats.duplicates += 1;
        let reply = Reply::Accepted {
            id: known.id,
            placements: known.placements.clone(),
            check: known.check,
            duplicate: true,
        };
        turn.push(Output::Reply { ticket, reply });
        Ok(())
    }

    fn forward_ephemeral(
        &mut self,
        ticket: Ticket,
        publish: Publish,
        (service, collapse_key): (ServiceId, Option<Arc<str>>),
        turn: &mut Turn<'_>,
    ) {
        let event = Ephemeral {
            collapse_key,
            payload: publish.envelope,
        };
        if let Some(job) = &publish.job {
            self.leases.renew(job, turn.now);
        }
        let by = Sender {
            service,
            job: publish.job.as_ref(),
        };
        for stream in publish.streams.iter() {
            if self.latest.take(stream, &event, by, turn) {
                self.route_ephemeral(stream, &event, turn);
            }
        }
        self.stats.ephemeral += 1;
        let reply = Reply::Accepted {
            id: publish.id,
            placements: Arc::new([]),
            check: publish.check,
            duplicate: false,
        };
        turn.push(Output::Reply { ticket, reply });
    }

    pub(super) fn route_ephemeral(
        &mut self,
        stream: &StreamName,
        event: &Ephemeral,
        turn: &mut Turn<'_>,
    ) {
        if let Some((name, known)) = self.streams.get_key_value(stream) {
            let routed = route::route(
                &mut self.links,
                &known.links,
                name,
                route::Event::Ephemeral(event),
                turn,
            );
            self.count(routed);
        }
    }
}
