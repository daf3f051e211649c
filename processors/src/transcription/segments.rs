//! Where a recording is cut: in its silences, so that no word is. Pure.
//!
//! What always holds: a segment is no longer than [`LONGEST`]; put one after the
//! other, segments and the silence between them are the recording; a stretch that
//! is quiet throughout is no segment.

use std::time::Duration;

/// A segment at most.
const LONGEST: Duration = Duration::from_secs(25);
/// What a segment has before a silence cuts it.
const ENOUGH: Duration = Duration::from_secs(5);
/// A silence at least.
const SILENCE_STEPS: usize = 20;
/// A silence that cuts however short the segment before it is.
const LONG_SILENCE_STEPS: usize = 100;
/// Where the quietest place is looked for when there was no silence.
const LOOK_BACK_STEPS: usize = 400;
/// Loudness is looked at in steps of this many milliseconds.
const STEP_MS: u32 = 20;
/// How far below its loud passages a recording is taken for quiet, in decibels.
const QUIET_BELOW_DB: f32 = 30.0;
/// Quieter than this is quiet in any recording, in decibels of full scale.
const QUIET_DB: f32 = -60.0;
/// Louder than this is not.
const LOUD_DB: f32 = -35.0;

/// How loud a recording is: how many steps there are of each decibel.
#[derive(Debug, Clone)]
pub(crate) struct Loudness {
    steps: Steps,
    /// From -99 dB up.
    of_db: [u64; 100],
}

impl Loudness {
    /// Of a recording with so many samples a second.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            steps: Steps::new(rate),
            of_db: [0; 100],
        }
    }

    /// The next samples.
    pub(crate) fn hear(&mut self, samples: &[f32]) {
        for &sample in samples {
            if let Some(db) = self.steps.add(sample) {
                let place = (db + 99.0).clamp(0.0, 99.0);
                self.of_db[place as usize] += 1;
            }
        }
    }

    /// Below how many decibels it is quiet: by the loudest twentieth of it.
    pub(crate) fn quiet_db(&self) -> f32 {
        let all: u64 = self.of_db.iter().sum();
        let mut above = 0;
        for (place, count) in self.of_db.iter().enumerate().rev() {
            above += count;
            if above * 20 > all {
                let loud = place as f32 - 99.0;
                return (loud - QUIET_BELOW_DB).clamp(QUIET_DB, LOUD_DB);
            }
        }
        QUIET_DB
    }
}

/// Samples by steps of [`STEP_MS`].
#[derive(Debug, Clone)]
struct Steps {
    samples: usize,
    heard: usize,
    energy: f64,
}

impl Steps {
    fn new(rate: u32) -> Self {
        Self {
            samples: (rate * STEP_MS / 1000).max(1) as usize,
            heard: 0,
            energy: 0.0,
        }
    }

    /// The loudness of a step that this sample ends, in decibels of full scale.
    fn add(&mut self, sample: f32) -> Option<f32> {
        // What is not a number is not heard.
        let sample = if sample.is_finite() {
            f64::from(sample)
        } else {
            0.0
        };
        self.energy += sample * sample;
        self.heard += 1;
        if self.heard < self.samples {
            return None;
        }
        let mean = self.energy / self.samples as f64;
        (self.heard, self.energy) = (0, 0.0);
        Some((10.0 * mean.max(1e-10).log10()) as f32)
    }
}

/// A stretch of a recording in which something is to be heard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Segment {
    /// Where it begins, in samples.
    pub(crate) start: u64,
    /// One channel.
    pub(crate) samples: Vec<f32>,
}

/// Cuts what it hears.
#[derive(Debug)]
pub(crate) struct Cutter {
    quiet_db: f32,
    steps: Steps,
    /// Of the segment at hand.
    samples: Vec<f32>,
    db: Vec<f32>,
    start: u64,
}

impl Cutter {
    /// For a recording with so many samples a second.
    pub(crate) fn new(rate: u32, quiet_db: f32) -> Self {
        Self {
            quiet_db,
            steps: Steps::new(rate),
            samples: Vec::new(),
            db: Vec::new(),
            start: 0,
        }
    }

    /// The next samples; gives the segments that they end.
    pub(crate) fn hear(&mut self, samples: &[f32]) -> Vec<Segment> {
        let mut segments = Vec::new();
        for &sample in samples {
            self.samples
                .push(if sample.is_finite() { sample } else { 0.0 });
            if let Some(db) = self.steps.add(sample) {
                self.db.push(db);
                if let Some(at) = self.cut_at() {
                    segments.extend(self.cut(at));
                }
            }
        }
        segments
    }

    /// What is left at the end.
    pub(crate) fn end(mut self) -> Option<Segment> {
        let all = self.db.len();
        // What is less than a step is too short to say anything.
        self.cut(all)
    }

    /// At which step the segment at hand ends, if it does.
    fn cut_at(&self) -> Option<usize> {
        let steps = self.db.len();
        let quiet = |db: &&f32| **db < self.quiet_db;
        let silence = self.db.iter().rev().take_while(quiet).count();
        let enough = steps - silence >= in_steps(ENOUGH) && silence >= SILENCE_STEPS;
        let long = silence >= LONG_SILENCE_STEPS && silence < steps;
        if enough || long {
            return Some(steps - silence / 2);
        }
        // Nothing but silence so far: its last part may be the beginning of a word.
        if silence == steps && steps >= in_steps(ENOUGH) {
            return Some(steps - SILENCE_STEPS / 2);
        }
        if steps < in_steps(LONGEST) {
            return None;
        }
        let back = steps - LOOK_BACK_STEPS;
        let places = (back + 5..steps - 5).map(|at| {
            let around: f32 = self.db[at - 5..at + 5].iter().sum();
            (at, around)
        });
        let quietest = places.min_by(|a, b| a.1.total_cmp(&b.1));
        Some(quietest.map_or(steps, |(at, _)| at))
    }

    /// Takes the first `steps` off as a segment, unless they are quiet.
    fn cut(&mut self, steps: usize) -> Option<Segment> {
        let samples = (steps * self.steps.samples).min(self.samples.len());
        let rest = self.samples.split_off(samples);
        let taken = std::mem::replace(&mut self.samples, rest);
        let db: Vec<f32> = self.db.drain(..steps).collect();
        let start = self.start;
        self.start += samples as u64;
        let audible = |db: &f32| *db >= self.quiet_db;
        let first = db.iter().position(audible)?;
        let last = db.iter().rposition(audible)?;
        // A little silence around words helps to tell where they begin.
        let (first, last) = (first.saturating_sub(10), (last + 11).min(steps));
        let (first, last) = (first * self.steps.samples, last * self.steps.samples);
        Some(Segment {
            start: start + first as u64,
            samples: taken[first..last.min(taken.len())].to_vec(),
        })
    }

    /// A number of samples as time.
    pub(crate) fn time(rate: u32, samples: u64) -> Duration {
        Duration::from_micros(samples.saturating_mul(1_000_000) / u64::from(rate.max(1)))
    }
}

fn in_steps(time: Duration) -> usize {
    time.as_millis() as usize / STEP_MS as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 8_000;

    fn tone(seconds: f32, loud: f32) -> Vec<f32> {
        let count = (seconds * RATE as f32) as usize;
        (0..count).map(|n| loud * (n as f32 * 0.3).sin()).collect()
    }

    fn cut(parts: &[Vec<f32>]) -> Vec<(f32, f32)> {
        let all = parts.concat();
        let mut loudness = Loudness::new(RATE);
        loudness.hear(&all);
        let mut cutter = Cutter::new(RATE, loudness.quiet_db());
        let mut segments = Vec::new();
        for chunk in all.chunks(777) {
            segments.extend(cutter.hear(chunk));
        }
        segments.extend(cutter.end());
        let seconds = |samples: usize| samples as f32 / RATE as f32;
        let times = segments.iter();
        times
            .map(|s| {
                (
                    seconds(s.start as usize),
                    seconds(s.start as usize + s.samples.len()),
                )
            })
            .collect()
    }

    fn near(got: &[(f32, f32)], expect: &[(f32, f32)]) {
        let close = |a: f32, b: f32| (a - b).abs() < 0.25;
        let same = got.len() == expect.len()
            && got
                .iter()
                .zip(expect)
                .all(|(g, e)| close(g.0, e.0) && close(g.1, e.1));
        assert!(same, "{got:?} instead of {expect:?}");
    }

    #[test]
    fn silences_cut_and_are_left_out() {
        let parts = [
            tone(6.0, 0.5),
            tone(1.0, 0.0),
            tone(7.0, 0.3),
            tone(12.0, 0.0),
            tone(1.0, 0.5),
        ];
        near(&cut(&parts), &[(0.0, 6.2), (6.8, 14.2), (25.8, 27.0)]);
    }

    #[test]
    fn a_pause_between_words_does_not_cut_and_a_quiet_recording_is_heard_too() {
        let words = [tone(2.0, 0.004), tone(0.2, 0.0), tone(2.0, 0.004)];
        near(&cut(&words), &[(0.0, 4.2)]);
    }

    #[test]
    fn speech_without_end_is_cut_where_it_is_quietest() {
        let parts = [tone(22.0, 0.5), tone(0.2, 0.05), tone(20.0, 0.5)];
        near(&cut(&parts), &[(0.0, 22.1), (22.1, 42.2)]);
    }

    #[test]
    fn silence_and_what_is_no_number_are_no_segments() {
        assert_eq!(cut(&[tone(60.0, 0.0)]), []);
        assert_eq!(
            cut(&[vec![f32::NAN; 80_000], vec![f32::INFINITY; 80_000]]),
            []
        );
        assert_eq!(cut(&[]), []);
    }

    #[test]
    fn nothing_that_is_heard_is_lost_or_longer_than_allowed() {
        let mut seed = 7_u32;
        for _ in 0..20 {
            let mut parts = Vec::new();
            let mut loud = 0.0;
            for _ in 0..12 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let seconds = (seed >> 16) as f32 / 65_536.0 * 9.0;
                let volume = if seed.is_multiple_of(3) { 0.0 } else { 0.4 };
                loud += if volume > 0.0 { seconds } else { 0.0 };
                parts.push(tone(seconds, volume));
            }
            let segments = cut(&parts);
            let heard: f32 = segments.iter().map(|(start, end)| end - start).sum();
            assert!(heard >= loud - 0.5, "{heard} of {loud}");
            assert!(segments.iter().all(|(start, end)| end - start <= 25.1));
            assert!(segments.windows(2).all(|two| two[0].1 <= two[1].0 + 0.001));
        }
    }
}
