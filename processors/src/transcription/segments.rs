//! Cuts a recording into segments at its silences, never within speech. Pure.
//!
//! What always holds: a segment is at most [`MAX_LENGTH`] long; segments and the silence
//! between them add up to the recording; silence alone is not a segment.

use std::time::Duration;

/// The length of a segment at most.
const MAX_LENGTH: Duration = Duration::from_secs(25);
/// The length of a segment that a short silence may end.
const MIN_LENGTH: Duration = Duration::from_secs(5);
/// The length of a silence at least.
const SILENCE_STEPS: usize = 20;
/// The length of a silence that ends a segment of any length.
const LONG_SILENCE_STEPS: usize = 100;
/// The range in which the quietest point is searched when there was no silence.
const LOOK_BACK_STEPS: usize = 400;
/// Loudness is measured in steps of this many milliseconds.
const STEP_MS: u32 = 20;
/// Silence is so many decibels below the loud passages of a recording.
const QUIET_BELOW_DB: f32 = 30.0;
/// The lowest threshold of silence, in decibels of full scale.
const MIN_QUIET_DB: f32 = -60.0;
/// The highest one.
const MAX_QUIET_DB: f32 = -35.0;

/// A histogram of loudness: the number of steps of each decibel.
#[derive(Debug, Clone)]
pub(crate) struct Loudness {
    steps: Steps,
    /// From -99 dB up.
    of_db: [u64; 100],
}

impl Loudness {
    /// For a sample rate in Hz.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            steps: Steps::new(rate),
            of_db: [0; 100],
        }
    }

    /// Adds the next samples.
    pub(crate) fn push(&mut self, samples: &[f32]) {
        for &sample in samples {
            if let Some(db) = self.steps.add(sample) {
                let place = (db + 99.0).clamp(0.0, 99.0);
                self.of_db[place as usize] += 1;
            }
        }
    }

    /// The threshold of silence, by the loudest twentieth of the recording.
    pub(crate) fn quiet_db(&self) -> f32 {
        let all: u64 = self.of_db.iter().sum();
        let mut above = 0;
        for (place, count) in self.of_db.iter().enumerate().rev() {
            above += count;
            if above * 20 > all {
                let loud = place as f32 - 99.0;
                return (loud - QUIET_BELOW_DB).clamp(MIN_QUIET_DB, MAX_QUIET_DB);
            }
        }
        MIN_QUIET_DB
    }
}

/// Samples by steps of [`STEP_MS`].
#[derive(Debug, Clone)]
struct Steps {
    samples: usize,
    filled: usize,
    energy: f64,
}

impl Steps {
    fn new(rate: u32) -> Self {
        Self {
            samples: (rate * STEP_MS / 1000).max(1) as usize,
            filled: 0,
            energy: 0.0,
        }
    }

    /// The loudness of a step that this sample ends, in decibels of full scale.
    fn add(&mut self, sample: f32) -> Option<f32> {
        // What is not a number counts as silence.
        let sample = if sample.is_finite() {
            f64::from(sample)
        } else {
            0.0
        };
        self.energy += sample * sample;
        self.filled += 1;
        if self.filled < self.samples {
            return None;
        }
        let mean = self.energy / self.samples as f64;
        (self.filled, self.energy) = (0, 0.0);
        Some((10.0 * mean.max(1e-10).log10()) as f32)
    }
}

/// A part of a recording that is not silent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Segment {
    /// Its start in samples.
    pub(crate) start: u64,
    /// One channel.
    pub(crate) samples: Vec<f32>,
}

/// Cuts samples into segments.
#[derive(Debug)]
pub(crate) struct Cutter {
    quiet_db: f32,
    steps: Steps,
    /// The current segment.
    samples: Vec<f32>,
    db: Vec<f32>,
    start: u64,
}

impl Cutter {
    /// For a sample rate in Hz and a threshold of silence.
    pub(crate) fn new(rate: u32, quiet_db: f32) -> Self {
        Self {
            quiet_db,
            steps: Steps::new(rate),
            samples: Vec::new(),
            db: Vec::new(),
            start: 0,
        }
    }

    /// Adds the next samples; returns the segments that they end.
    pub(crate) fn push(&mut self, samples: &[f32]) -> Vec<Segment> {
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

    pub(crate) fn finish(mut self) -> Option<Segment> {
        let all = self.db.len();
        // Less than a step is too short to hold a sound.
        self.cut(all)
    }

    /// The step at which the current segment ends, if it does.
    fn cut_at(&self) -> Option<usize> {
        let steps = self.db.len();
        let quiet = |db: &&f32| **db < self.quiet_db;
        let silence = self.db.iter().rev().take_while(quiet).count();
        let long_enough = steps - silence >= in_steps(MIN_LENGTH) && silence >= SILENCE_STEPS;
        let long = silence >= LONG_SILENCE_STEPS && silence < steps;
        if long_enough || long {
            return Some(steps - silence / 2);
        }
        // Only silence so far: its last samples may be the start of speech.
        if silence == steps && steps >= in_steps(MIN_LENGTH) {
            return Some(steps - SILENCE_STEPS / 2);
        }
        if steps < in_steps(MAX_LENGTH) {
            return None;
        }
        let back = steps - LOOK_BACK_STEPS;
        let candidates = (back + 5..steps - 5).map(|at| {
            let around: f32 = self.db[at - 5..at + 5].iter().sum();
            (at, around)
        });
        let quietest = candidates.min_by(|a, b| a.1.total_cmp(&b.1));
        Some(quietest.map_or(steps, |(at, _)| at))
    }

    /// Splits the first `steps` off as a segment, unless they are silent.
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
        // A little silence around speech helps engines to find its start.
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

    fn cut(sounds: &[Vec<f32>]) -> Vec<(f32, f32)> {
        let all = sounds.concat();
        let mut loudness = Loudness::new(RATE);
        loudness.push(&all);
        let mut cutter = Cutter::new(RATE, loudness.quiet_db());
        let mut segments = Vec::new();
        for chunk in all.chunks(777) {
            segments.extend(cutter.push(chunk));
        }
        segments.extend(cutter.finish());
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
        let sounds = [
            tone(6.0, 0.5),
            tone(1.0, 0.0),
            tone(7.0, 0.3),
            tone(12.0, 0.0),
            tone(1.0, 0.5),
        ];
        near(&cut(&sounds), &[(0.0, 6.2), (6.8, 14.2), (25.8, 27.0)]);
    }

    #[test]
    fn a_pause_in_speech_does_not_cut_and_a_quiet_recording_has_segments() {
        let speech = [tone(2.0, 0.004), tone(0.2, 0.0), tone(2.0, 0.004)];
        near(&cut(&speech), &[(0.0, 4.2)]);
    }

    #[test]
    fn speech_without_end_is_cut_where_it_is_quietest() {
        let sounds = [tone(22.0, 0.5), tone(0.2, 0.05), tone(20.0, 0.5)];
        near(&cut(&sounds), &[(0.0, 22.1), (22.1, 42.2)]);
    }

    #[test]
    fn silence_and_invalid_samples_are_no_segments() {
        assert_eq!(cut(&[tone(60.0, 0.0)]), []);
        assert_eq!(
            cut(&[vec![f32::NAN; 80_000], vec![f32::INFINITY; 80_000]]),
            []
        );
        assert_eq!(cut(&[]), []);
    }

    #[test]
    fn no_sound_is_lost_and_no_segment_is_too_long() {
        let mut seed = 7_u32;
        for _ in 0..20 {
            let mut sounds = Vec::new();
            let mut loud = 0.0;
            for _ in 0..12 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let seconds = (seed >> 16) as f32 / 65_536.0 * 9.0;
                let volume = if seed.is_multiple_of(3) { 0.0 } else { 0.4 };
                loud += if volume > 0.0 { seconds } else { 0.0 };
                sounds.push(tone(seconds, volume));
            }
            let segments = cut(&sounds);
            let kept: f32 = segments.iter().map(|(start, end)| end - start).sum();
            assert!(kept >= loud - 0.5, "{kept} of {loud}");
            assert!(segments.iter().all(|(start, end)| end - start <= 25.1));
            assert!(segments.windows(2).all(|two| two[0].1 <= two[1].0 + 0.001));
        }
    }
}
