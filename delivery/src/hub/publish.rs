//! Publishes: refused, answered from the idempotency window, handed on, or sent
//! to the log.

use alloc::{sync::Arc, vec::Vec};

use super::{
    Kind, Output, Phase, Publish, Reply, State, Ticket, Turn, Unsynced, dedupe::DedupeEntry, route,
    stream::Stream,
};
use crate::{JobChange, JobMark, Lsn, Placement, Record, StreamName, link::Ephemeral};

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
        let change = match publish.kind {
            Kind::Ephemeral { ref collapse_key } => {
                let collapse_key = collapse_key.clone();
                self.forward_ephemeral(ticket, publish, collapse_key, turn);
                return Ok(());
            }
            Kind::Stored { change } => change,
        };
        self.dedupe.expire(turn.now);
        let job = publish.job.as_deref();
        let own_failure = change == Some(JobChange::Ended)
            && job.is_some_and(|job| self.leases.take_announced(job));
        let overloaded = self.waiting >= turn.limits.unsynced_records
            || self.unsynced_bytes + publish.envelope.len() > turn.limits.unsynced_bytes;
        if let Some(dedupe) = publish.dedupe
            && let Some(known) = self.dedupe.find(dedupe.key)
        {
            if dedupe.body != known.body {
                return Err(Reply::KeyReused);
            }
            let known = known.clone();
            return self.duplicate(ticket, &known, overloaded, turn);
        }
        if overloaded {
            return Err(Reply::Overloaded);
        }
        if let Some(job) = publish.job.as_deref()
            && !own_failure
        {
            self.leases.renew(job, turn.now);
        }
        let mark = self.mark_job(publish.job.as_ref(), change, turn)?;
        self.append(ticket, publish, mark, turn);
        Ok(())
    }

    /// Only a change of a lease is recorded.
    fn mark_job(
        &mut self,
        job: Option<&Arc<str>>,
        change: Option<JobChange>,
        turn: &mut Turn<'_>,
    ) -> Result<Option<JobMark>, Reply> {
        let Some(job) = job else {
            return Ok(None);
        };
        let recorded = match change {
            Some(JobChange::Leased { .. }) if !self.leases.has_room(job, turn.limits.leases) => {
                return Err(Reply::TooManyLeases);
            }
            Some(JobChange::Ended) if !self.leases.concerns(job) => None,
            change => change,
        };
        if change != Some(JobChange::Ended) {
            self.latest.revive(job);
        }
        Ok(recorded.map(|change| {
            self.leases.sent(job, change);
            JobMark {
                job: job.clone(),
                change,
            }
        }))
    }

    fn append(
        &mut self,
        ticket: Ticket,
        publish: Publish,
        mark: Option<JobMark>,
        turn: &mut Turn<'_>,
    ) {
        let lsn = self.synced + self.unsynced.len() as u64 + 1;
        let (publisher, job) = (publish.publisher.clone(), publish.job.clone());
        let ends_job = matches!(
            publish.kind,
            Kind::Stored {
                change: Some(JobChange::Ended)
            }
        );
        let expires = publish.lives_ms.map(|lives| turn.now.saturating_add(lives));
        let record = self.place(lsn, publish, mark);
        if let Some(dedupe) = record.dedupe {
            let known = DedupeEntry {
                body: dedupe.body,
                lsn,
                id: record.id,
                placements: record.placements.clone(),
                check: record.check,
            };
            self.dedupe.insert(dedupe, known, turn);
        }
        self.waiting += 1;
        self.unsynced_bytes += record.envelope.len();
        turn.push(Output::Append(record.clone()));
        self.unsynced.push_back(Unsynced {
            record,
            ticket,
            coalesced: Vec::new(),
            publisher,
            job,
            ends_job,
            expires,
        });
    }

    /// Gives the next offset in each stream.
    fn place(&mut self, lsn: Lsn, publish: Publish, job: Option<JobMark>) -> Record {
        let placements = publish.streams.iter().map(|stream| {
            // The stream's own name is kept, so that equal names share memory.
            let name = match self.streams.get_key_value(stream) {
                Some((name, _)) => name.clone(),
                None => stream.clone(),
            };
            let known = self.streams.entry(name.clone()).or_insert_with(Stream::new);
            known.assigned += 1;
            Placement {
                stream: name,
                offset: known.assigned,
            }
        });
        Record {
            lsn,
            id: publish.id,
            placements: placements.collect(),
            check: publish.check,
            dedupe: publish.dedupe,
            job,
            envelope: publish.envelope,
        }
    }

    /// Answers with what the first publish of the key came to, once that is sure.
    fn duplicate(
        &mut self,
        ticket: Ticket,
        known: &DedupeEntry,
        overloaded: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reply> {
        if known.lsn > self.synced {
            if overloaded {
                return Err(Reply::Overloaded);
            }
            let index = (known.lsn - self.synced - 1) as usize;
            if let Some(first) = self.unsynced.get_mut(index) {
                first.coalesced.push(ticket);
                self.waiting += 1;
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
        collapse_key: Option<Arc<str>>,
        turn: &mut Turn<'_>,
    ) {
        let event = Ephemeral {
            collapse_key,
            payload: publish.envelope,
        };
        if let Some(job) = &publish.job {
            self.leases.renew(job, turn.now);
        }
        for stream in publish.streams.iter() {
            if self.latest.take(stream, &event, publish.job.as_ref(), turn) {
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
