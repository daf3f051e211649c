//! Publishers: they retry with one key until they are answered, and sometimes after.

use std::sync::Arc;

use bytes::Bytes;
use delivery::{
    DedupeKey, EventId, JobChange, StreamName,
    hub::{Announcement, Input, Kind, Publish, Reply},
};

use super::{Due, JobStep, Publishing, USERS, World, greedy::PUBLISHER};
use crate::model::JobEvent;

/// An envelope begins with the event's id.
pub(super) fn id_of(envelope: &[u8]) -> EventId {
    let id = envelope.first_chunk().expect("an envelope has an id");
    EventId::from_be_bytes(*id)
}

impl World {
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
            8 => vec![Arc::from("queue:q")],
            _ => vec![Arc::from("queue:r")],
        };
        self.report.published += 1;
        self.publishing.insert(
            key,
            Publishing {
                streams,
                acked: false,
                job: None,
                lives_ms: None,
            },
        );
        self.publish(key);
        if self.random.chance(5) {
            // A duplicate, in flight at the same time.
            self.publish(key);
        }
        if self.random.chance(30) {
            self.publish_ephemeral(user);
        }
        if self.random.chance(8) {
            self.start_job();
        }
        if self.random.chance(2) {
            self.flood();
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
        let publishing = &self.publishing[&key];
        let (streams, lives_ms) = (publishing.streams.clone(), publishing.lives_ms);
        let job = publishing.job.clone();
        let change = job.as_ref().map(|(_, step)| match step {
            JobStep::Start(lease_ms) => JobChange::Leased {
                lease_ms: *lease_ms,
            },
            JobStep::Done => JobChange::Ended,
        });
        let mut publish = self.event(streams, dedupe, Kind::Stored { change });
        if let Some((job, step)) = job {
            let what = match step {
                JobStep::Start(_) => JobEvent::Leased(job.clone()),
                JobStep::Done => JobEvent::Done(job.clone()),
            };
            self.jobs.note(publish.id, what);
            publish.job = Some(job);
        }
        publish.lives_ms = lives_ms;
        let ticket = self.number();
        self.tickets.insert(ticket, key);
        self.hub(Input::Publish { ticket, publish });
    }

    /// A publisher uses its key again for something else.
    fn publish_other_body(&mut self, key: u128) {
        let dedupe = Some(DedupeKey { key, body: 1 });
        let streams = self.publishing[&key].streams.clone();
        let publish = self.event(streams, dedupe, Kind::Stored { change: None });
        let ticket = self.number();
        self.other_bodies.insert(ticket);
        self.hub(Input::Publish { ticket, publish });
    }

    fn publish_ephemeral(&mut self, user: u64) {
        let collapse_key = Some(Arc::from(format!("job-{}", self.random.below(3))));
        let kind = Kind::Ephemeral { collapse_key };
        let publish = self.event(vec![Arc::from(format!("user:{user}"))], None, kind);
        let ticket = self.number();
        self.hub(Input::Publish { ticket, publish });
    }

    pub(super) fn publish_announcement(&mut self, announcement: Announcement) {
        let stored = matches!(announcement, Announcement::Stalled { .. });
        let publish = match announcement {
            Announcement::Stalled { job, streams, .. } => {
                let change = Some(JobChange::Ended);
                let mut publish = self.event(streams.to_vec(), None, Kind::Stored { change });
                self.jobs.note(publish.id, JobEvent::Stalled(job.clone()));
                publish.job = Some(job);
                publish
            }
            Announcement::Retract { user, event, .. } => {
                let collapse_key = Some(Arc::from(format!("retract/{event}")));
                let stream = Arc::from(format!("user:{user}"));
                let publisher = Arc::from("");
                Publish {
                    publisher,
                    ..self.event(vec![stream], None, Kind::Ephemeral { collapse_key })
                }
            }
        };
        let ticket = self.number();
        if stored {
            self.announced.insert(ticket);
        }
        self.hub(Input::Publish { ticket, publish });
    }

    pub(super) fn event(
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
            publisher: Arc::from(PUBLISHER),
            job: None,
            lives_ms: None,
            kind,
        }
    }

    pub(super) fn reply(&mut self, ticket: u64, reply: Reply) {
        self.announced.remove(&ticket);
        if self.other_bodies.remove(&ticket) {
            assert!(
                !matches!(reply, Reply::Accepted { .. }),
                "a key of one body was taken for another"
            );
            self.report.reused_keys += u64::from(reply == Reply::KeyReused);
            return;
        }
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
                if self.chaos() && self.disk.histories == 0 && self.random.chance(3) {
                    self.publish_other_body(key);
                }
                if self.chaos() && self.random.chance(5) {
                    let pause = self.random.between(1, 400);
                    self.after(pause, Due::Retry(key));
                }
            }
            Reply::KeyReused => panic!("the same key was sent with the same body"),
            Reply::Exhausted(_) | Reply::Full | Reply::Failed | Reply::Draining => {
                if let Reply::Exhausted(exhausted) = reply {
                    self.refused_share(exhausted);
                }
                let pause = self.random.between(5, 100);
                self.after(pause, Due::Retry(key));
            }
        }
    }
}
