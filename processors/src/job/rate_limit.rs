//! When the progress of a job is published: the latest update, ten times a second at
//! most, and again after a long silence, so that the job's lease does not lapse.
//!
//! What always holds: no progress is published before the notifier has acknowledged
//! the job's started event, or after the job has ended; of each job only the latest
//! update is kept. Pure: `now` is an argument.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Between two updates of one job.
pub(super) const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProgressUpdate {
    /// 0 to 100.
    pub(crate) percent: u32,
    /// The current step, for people.
    pub(crate) stage: String,
    /// What exists of the result so far.
    pub(crate) partial: String,
}

/// Which job it is about, for its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) job: String,
    pub(super) user: String,
    pub(super) resource: String,
}

#[derive(Debug)]
struct Entry {
    subject: Subject,
    latest: ProgressUpdate,
    /// `latest` was not published yet.
    unsent: bool,
    sent_at: Instant,
    /// The notifier has acknowledged the started event.
    started: bool,
}

/// The latest progress of all jobs, and when each is due.
#[derive(Debug)]
pub(super) struct RateLimit {
    jobs: BTreeMap<String, Entry>,
    /// The longest silence.
    heartbeat: Duration,
}

impl RateLimit {
    pub(super) fn new(heartbeat: Duration) -> Self {
        Self {
            jobs: BTreeMap::new(),
            heartbeat,
        }
    }

    /// A job was accepted. Its started event goes through the outbox: progress waits
    /// until [`confirm_started`](Self::confirm_started).
    pub(super) fn begin(&mut self, subject: Subject, now: Instant) {
        let job = subject.job.clone();
        let entry = Entry {
            subject,
            latest: ProgressUpdate {
                stage: "waiting for its turn".to_owned(),
                ..ProgressUpdate::default()
            },
            unsent: false,
            // The first update is sent at once.
            sent_at: now.checked_sub(MIN_INTERVAL).unwrap_or(now),
            started: false,
        };
        self.jobs.insert(job, entry);
    }

    /// The notifier has acknowledged the job's started event.
    pub(super) fn confirm_started(&mut self, job: &str) {
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.started = true;
        }
    }

    /// A job has progressed. The percentage of a job never falls.
    pub(super) fn update(&mut self, job: &str, update: ProgressUpdate) {
        if let Some(entry) = self.jobs.get_mut(job) {
            let percent = update.percent.min(100).max(entry.latest.percent);
            entry.latest = ProgressUpdate { percent, ..update };
            entry.unsent = true;
        }
    }

    /// A job has ended; its terminal event goes through the outbox.
    pub(super) fn end(&mut self, job: &str) {
        self.jobs.remove(job);
    }

    /// What has to be published now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Subject, ProgressUpdate)> {
        let heartbeat = self.heartbeat;
        let started = self.jobs.values_mut().filter(|entry| entry.started);
        let due = started.filter(|entry| entry.due_at(heartbeat) <= now);
        due.map(|entry| {
            (entry.unsent, entry.sent_at) = (false, now);
            (entry.subject.clone(), entry.latest.clone())
        })
        .collect()
    }

    /// When [`due`](Self::due) has something next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let started = self.jobs.values().filter(|entry| entry.started);
        started.map(|entry| entry.due_at(self.heartbeat)).min()
    }
}

impl Entry {
    fn due_at(&self, heartbeat: Duration) -> Instant {
        let interval = if self.unsent { MIN_INTERVAL } else { heartbeat };
        self.sent_at + interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(20);

    fn percent(percent: u32) -> ProgressUpdate {
        ProgressUpdate {
            percent,
            ..ProgressUpdate::default()
        }
    }

    /// With one job `j` that has no acknowledged started event.
    fn unconfirmed(now: Instant) -> RateLimit {
        let mut limit = RateLimit::new(HEARTBEAT);
        let subject = Subject {
            job: "j".into(),
            user: "u".into(),
            resource: "r".into(),
        };
        limit.begin(subject, now);
        limit
    }

    fn confirmed(now: Instant) -> RateLimit {
        let mut limit = unconfirmed(now);
        limit.confirm_started("j");
        limit
    }

    fn percents(limit: &mut RateLimit, now: Instant) -> Vec<u32> {
        let due = limit.due(now).into_iter();
        due.map(|(_, update)| update.percent).collect()
    }

    #[test]
    fn the_latest_of_many_updates_is_sent_ten_times_a_second_and_percents_never_fall() {
        let start = Instant::now();
        let mut limit = confirmed(start);
        let mut sent = Vec::new();
        for ms in 0..1_000_u32 {
            limit.update("j", percent(if ms == 500 { 1 } else { ms / 10 }));
            let now = start + Duration::from_millis(ms.into());
            sent.extend(percents(&mut limit, now));
        }
        assert_eq!(sent, [0, 10, 20, 30, 40, 49, 60, 70, 80, 90]);
    }

    #[test]
    fn a_silent_job_repeats_its_latest_update_and_an_ended_one_sends_nothing() {
        let start = Instant::now();
        let mut limit = confirmed(start);
        limit.update("j", percent(7));
        assert_eq!(percents(&mut limit, start), [7]);
        let beat = limit.next_deadline().unwrap();
        assert_eq!(beat, start + HEARTBEAT);
        assert_eq!(percents(&mut limit, beat - MIN_INTERVAL), [0_u32; 0]);
        assert_eq!(percents(&mut limit, beat), [7]);
        limit.end("j");
        limit.update("j", percent(8));
        assert_eq!(
            (limit.next_deadline(), limit.due(beat + HEARTBEAT)),
            (None, Vec::new())
        );
    }

    #[test]
    fn no_progress_is_sent_before_the_started_event_is_acknowledged() {
        let start = Instant::now();
        let mut limit = unconfirmed(start);
        limit.update("j", percent(3));
        limit.update("j", percent(4));
        let late = start + HEARTBEAT;
        assert_eq!(percents(&mut limit, late), [0_u32; 0]);
        assert_eq!(limit.next_deadline(), None);
        limit.confirm_started("j");
        assert_eq!(percents(&mut limit, late), [4]);
    }
}
