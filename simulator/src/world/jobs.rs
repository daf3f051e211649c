//! Workers: they start a job with a lease, report progress, and end it, or die.

use std::sync::Arc;

use delivery::hub::{Input, Kind};

use super::{Due, JobStep, Publishing, USERS, Worker, World};
use crate::model::JobEvent;

impl World {
    pub(super) fn start_job(&mut self) {
        if !self.chaos() || self.workers.len() >= 12 {
            return;
        }
        let job: Arc<str> = Arc::from(format!("publisher/job-{}", self.workers.len()));
        let lease_ms = self.random.between(200, 1_200);
        let user = self.random.below(USERS);
        self.report.jobs += 1;
        self.jobs.begin(&job, lease_ms);
        self.workers.push(Worker {
            job: job.clone(),
            user,
            lease_ms,
            steps: self.random.between(0, 30),
            progress: 0,
        });
        if self.hub.is_some() {
            self.watch(&job);
        }
        self.publish_step(self.workers.len() - 1, JobStep::Start(lease_ms));
        let pause = self.random.between(1, 100);
        self.after(pause, Due::Work(self.workers.len() - 1));
    }

    fn publish_step(&mut self, worker: usize, step: JobStep) {
        let key = u128::from(self.random.next());
        let Worker { job, user, .. } = &self.workers[worker];
        let publishing = Publishing {
            streams: vec![Arc::from(format!("user:{user}"))],
            acked: false,
            job: Some((job.clone(), step)),
            lives_ms: Some(self.random.between(50, 800)),
        };
        self.report.published += 1;
        self.publishing.insert(key, publishing);
        self.publish(key);
    }

    /// One step of a worker: progress, a new lease, the end, or nothing any more.
    pub(super) fn work(&mut self, worker: usize) {
        if self.workers[worker].steps == 0 {
            // Some end well, some die over it, some come back much later.
            match self.random.below(10) {
                0..=4 => {
                    self.publish_step(worker, JobStep::Done);
                    // Progress takes another way than the end, and may be overtaken.
                    if worker.is_multiple_of(2) {
                        self.after(40, Due::LateProgress(worker));
                    }
                }
                5 | 6 if self.chaos() => {
                    self.report.late += 1;
                    self.workers[worker].steps = 1;
                    let pause = self.random.between(1_000, 2_500);
                    self.after(pause, Due::Work(worker));
                }
                _ => {}
            }
            return;
        }
        self.workers[worker].steps -= 1;
        if self.random.chance(5) {
            let lease_ms = self.workers[worker].lease_ms;
            self.publish_step(worker, JobStep::Start(lease_ms));
        } else {
            self.progress(worker);
        }
        let pause = self.random.between(1, 150);
        self.after(pause, Due::Work(worker));
    }

    pub(super) fn progress(&mut self, worker: usize) {
        let known = &mut self.workers[worker];
        known.progress += 1;
        let (job, number, user) = (known.job.clone(), known.progress, known.user);
        let collapse_key = Some(job.clone());
        let kind = Kind::Ephemeral { collapse_key };
        let mut publish = self.event(vec![Arc::from(format!("user:{user}"))], None, kind);
        self.jobs
            .note(publish.id, JobEvent::Progress(job.clone(), number));
        publish.job = Some(job);
        // Ephemeral events are taken in whenever there is a notifier.
        if self.hub.is_some() {
            self.jobs.taken(publish.id, self.now);
        }
        let ticket = self.number();
        self.hub(Input::Publish { ticket, publish });
    }
}
