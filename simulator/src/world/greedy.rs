//! A second service that takes all it can get: it fills every pool that services
//! share, while the first one works. The first one is refused nothing within its
//! reserve (guarantee G33).

use std::sync::Arc;

use delivery::{
    JobChange, Record, StreamName,
    hub::{Announcement, Input, Kind, Publish, Subject},
    shares::{Bucket, Exhausted},
};

use super::World;

/// The first service, and the one whose tokens an attacker has.
pub(super) const PUBLISHER: &str = "publisher";
const GREEDY: &str = "greedy";
const GREEDY_JOBS: &str = "greedy/";
/// Where an envelope says whose it is, after the event's id.
const OWNER: usize = 16;
/// Accounts: the hub, others, both services, and the operator.
pub(super) const SERVICES: usize = 5;
/// Publishes of one service that may wait whatever the other does.
pub(super) const WAITING: usize = 6;

/// Who published a record, as the log would read it from the envelope.
pub(crate) fn publisher_of(record: &Record) -> Arc<str> {
    match record.envelope.get(OWNER) {
        Some(0) | None => Arc::from(PUBLISHER),
        Some(_) => Arc::from(GREEDY),
    }
}

/// Whether a job is the second service's.
pub(super) fn is_greedy(job: &str) -> bool {
    job.starts_with(GREEDY_JOBS)
}

impl World {
    fn greedy_event(&mut self, stream: StreamName, kind: Kind) -> Publish {
        let publish = self.event(vec![stream], None, kind);
        let mut envelope = publish.envelope.to_vec();
        envelope[OWNER] = 1;
        Publish {
            envelope: envelope.into(),
            publisher: Arc::from(GREEDY),
            ..publish
        }
    }

    /// More of everything than one service may have.
    pub(super) fn flood(&mut self) {
        if self.hub.is_none() {
            return;
        }
        self.report.floods += 1;
        for _ in 0..60 {
            let number = self.number();
            let stream: StreamName = Arc::from(format!("user:greedy-{number}"));
            let change = Some(JobChange::Leased { lease_ms: 1_000 });
            let mut leased = self.greedy_event(stream.clone(), Kind::Stored { change });
            leased.job = Some(Arc::from(format!("{GREEDY_JOBS}{number}")));
            self.publish_greedy(leased);
        }
        for _ in 0..80 {
            let number = self.number();
            let collapse_key = Some(Arc::from(format!("greedy-{number}")));
            let kind = Kind::Ephemeral { collapse_key };
            let latest = self.greedy_event(Arc::from("user:greedy"), kind);
            self.publish_greedy(latest);
        }
        for _ in 0..40 {
            let watch = self.number();
            self.hub(Input::WatchReceipts {
                watch,
                publisher: Arc::from(GREEDY),
                subject: Subject::Job(Arc::from(GREEDY_JOBS)),
            });
        }
    }

    fn publish_greedy(&mut self, publish: Publish) {
        let ticket = self.number();
        self.hub(Input::Publish { ticket, publish });
    }

    /// The second service's jobs fail too, and cost its share alone.
    pub(super) fn greedy_announcement(&mut self, announcement: &Announcement) -> bool {
        let Announcement::Stalled { job, streams, .. } = announcement else {
            return false;
        };
        if !is_greedy(job) {
            return false;
        }
        let change = Some(JobChange::Ended);
        let mut publish = self.greedy_event(streams[0].clone(), Kind::Stored { change });
        publish.job = Some(job.clone());
        self.publish_greedy(publish);
        true
    }

    /// The first service was refused: that is right only for what it holds itself.
    pub(super) fn refused_share(&mut self, exhausted: Exhausted) {
        self.report.over_share += 1;
        assert_eq!(
            exhausted.bucket,
            Bucket::UnsyncedRecords,
            "a service was refused for what another one holds"
        );
        let waiting = self.tickets.len() + self.announced.len();
        assert!(
            waiting >= WAITING,
            "a service with {waiting} publishes in flight was refused one more"
        );
    }
}
