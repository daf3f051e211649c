//! When the progress of a job is told: the latest word, at most ten a second, and
//! again when the job has been silent for long, so that its lease lives.
//!
//! What always holds: nothing is told of a job before its beginning was, or after it
//! has ended; of each job only the latest word is kept. Pure: `now` is an argument.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Between two words of one job.
pub(super) const EVERY: Duration = Duration::from_millis(100);

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// 0 to 100.
    pub(crate) percent: u32,
    /// The step at work, for people.
    pub(crate) stage: String,
    /// What exists of the result so far.
    pub(crate) partial: String,
}

/// Whose progress it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) user: String,
    pub(super) resource: String,
}

#[derive(Debug)]
struct Entry {
    whose: Whose,
    word: Word,
    /// The word has not been told.
    news: bool,
    told_at: Instant,
    /// The notifier has the event of its beginning.
    open: bool,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Pace {
    jobs: BTreeMap<String, Entry>,
    /// The longest silence.
    heartbeat: Duration,
}

impl Pace {
    pub(super) fn new(heartbeat: Duration) -> Self {
        Self {
            jobs: BTreeMap::new(),
            heartbeat,
        }
    }

    /// The job is accepted, which is told by an event of its own: what follows
    /// waits until [`open`](Self::open).
    pub(super) fn begin(&mut self, job: &str, whose: Whose, now: Instant) {
        let entry = Entry {
            whose,
            word: Word {
                stage: "waiting for its turn".to_owned(),
                ..Word::default()
            },
            news: false,
            // The first word goes out at once.
            told_at: now.checked_sub(EVERY).unwrap_or(now),
            open: false,
        };
        self.jobs.insert(job.to_owned(), entry);
    }

    /// The notifier has the event of the job's beginning.
    pub(super) fn open(&mut self, job: &str) {
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.open = true;
        }
    }

    /// A word of a job. Percents of one job never fall.
    pub(super) fn word(&mut self, job: &str, word: Word) {
        if let Some(entry) = self.jobs.get_mut(job) {
            let percent = word.percent.min(100).max(entry.word.percent);
            entry.word = Word { percent, ..word };
            entry.news = true;
        }
    }

    /// The job has ended, which is told by an event of its own.
    pub(super) fn end(&mut self, job: &str) {
        self.jobs.remove(job);
    }

    /// What is to be told now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(String, Whose, Word)> {
        let heartbeat = self.heartbeat;
        let open = self.jobs.iter_mut().filter(|(_, entry)| entry.open);
        let due = open.filter(|(_, entry)| entry.at(heartbeat) <= now);
        due.map(|(job, entry)| {
            (entry.news, entry.told_at) = (false, now);
            (job.clone(), entry.whose.clone(), entry.word.clone())
        })
        .collect()
    }

    /// When [`due`](Self::due) has something next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let open = self.jobs.values().filter(|entry| entry.open);
        open.map(|entry| entry.at(self.heartbeat)).min()
    }
}

impl Entry {
    fn at(&self, heartbeat: Duration) -> Instant {
        self.told_at + if self.news { EVERY } else { heartbeat }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(20);

    fn word(percent: u32) -> Word {
        Word {
            percent,
            ..Word::default()
        }
    }

    fn pace(now: Instant) -> Pace {
        let mut pace = Pace::new(HEARTBEAT);
        let whose = Whose {
            user: "u".into(),
            resource: "r".into(),
        };
        pace.begin("j", whose, now);
        pace.open("j");
        pace
    }

    fn percents(pace: &mut Pace, now: Instant) -> Vec<u32> {
        pace.due(now)
            .into_iter()
            .map(|(_, _, w)| w.percent)
            .collect()
    }

    #[test]
    fn of_many_words_the_latest_is_told_ten_times_a_second_and_percents_never_fall() {
        let start = Instant::now();
        let mut pace = pace(start);
        let mut told = Vec::new();
        for ms in 0..1_000_u32 {
            pace.word("j", word(if ms == 500 { 1 } else { ms / 10 }));
            told.extend(percents(
                &mut pace,
                start + Duration::from_millis(ms.into()),
            ));
        }
        assert_eq!(told, [0, 10, 20, 30, 40, 49, 60, 70, 80, 90]);
    }

    #[test]
    fn a_silent_job_repeats_its_last_word_and_an_ended_one_says_nothing() {
        let start = Instant::now();
        let mut pace = pace(start);
        pace.word("j", word(7));
        assert_eq!(percents(&mut pace, start), [7]);
        let beat = pace.next_deadline().unwrap();
        assert_eq!(beat, start + HEARTBEAT);
        assert_eq!(percents(&mut pace, beat - EVERY), [0_u32; 0]);
        assert_eq!(percents(&mut pace, beat), [7]);
        pace.end("j");
        pace.word("j", word(8));
        assert_eq!(
            (pace.next_deadline(), pace.due(beat + HEARTBEAT)),
            (None, Vec::new())
        );
    }

    #[test]
    fn nothing_is_told_of_a_job_whose_beginning_the_notifier_does_not_have() {
        let start = Instant::now();
        let mut pace = Pace::new(HEARTBEAT);
        let whose = Whose {
            user: "u".into(),
            resource: "r".into(),
        };
        pace.begin("j", whose, start);
        pace.word("j", word(3));
        pace.word("j", word(4));
        let late = start + HEARTBEAT;
        assert_eq!(percents(&mut pace, late), [0_u32; 0]);
        assert_eq!(pace.next_deadline(), None);
        pace.open("j");
        assert_eq!(percents(&mut pace, late), [4]);
    }
}
