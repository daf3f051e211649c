//! Decodes a recording to samples of one channel, and to the format that engines take.
//! Pure computation: call it on a thread that may block.
//!
//! What always holds: the format is detected from the content; one packet is decoded at
//! a time; declared lengths are checked against the data.

use std::{io::Cursor, time::Duration};

use bytes::Bytes;
use rubato::{Fft, FixedSync, Resampler, audioadapter_buffers::direct::SequentialSlice};
use symphonia::core::{
    codecs::audio::{AudioDecoder, AudioDecoderOptions},
    errors::Error,
    formats::{FormatOptions, FormatReader, TrackType, probe::Hint},
    io::{MediaSourceStream, MediaSourceStreamOptions},
    meta::MetadataOptions,
};

use super::segments::{Cutter, Loudness};
use crate::failure::Failure;

/// The sample rate of engines, in Hz.
pub(crate) const ENGINE_RATE: u32 = 16_000;
/// Supported sample rates, in Hz.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=192_000;
const MAX_CHANNELS: usize = 32;
/// Damaged packets at most.
const MAX_DAMAGED_PERCENT: u64 = 5;
/// Samples that must be present, of those declared.
const MIN_PRESENT_PERCENT: u64 = 98;

/// The properties of a whole recording.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Survey {
    pub(crate) length: Duration,
    /// Below this loudness it is silent, in decibels.
    pub(crate) quiet_db: f32,
    /// The sample rate in Hz.
    pub(crate) rate: u32,
}

/// A decoder at some position in a recording.
struct Decoder {
    format: Box<dyn FormatReader>,
    codec: Box<dyn AudioDecoder>,
    track: u32,
    declared: Option<u64>,
    /// The last packet, all channels.
    samples: Vec<f32>,
    /// The same mixed to one channel.
    mono: Vec<f32>,
    rate: u32,
    packets: u64,
    damaged: u64,
}

impl Decoder {
    fn open(file: Bytes) -> Result<Self, Failure> {
        if file.is_empty() {
            return Err(Failure::EmptyFile);
        }
        let source = MediaSourceStream::new(
            Box::new(Cursor::new(file)),
            MediaSourceStreamOptions::default(),
        );
        let (format_options, meta) = (FormatOptions::default(), MetadataOptions::default());
        let format = symphonia::default::get_probe()
            .probe(&Hint::new(), source, format_options, meta)
            .map_err(|error| match error {
                // No supported format begins like this.
                Error::Unsupported(_) | Error::LimitError(_) => Failure::UnsupportedAudio,
                Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    Failure::UnsupportedAudio
                }
                _ => Failure::DamagedAudio,
            })?;
        let track = format.default_track(TrackType::Audio);
        let track = track.ok_or(Failure::NoAudio)?;
        let parameters = track.codec_params.as_ref().and_then(|p| p.audio());
        let parameters = parameters.ok_or(Failure::UnsupportedAudio)?;
        let codec = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|_| Failure::UnsupportedAudio)?;
        let (id, declared) = (track.id, track.num_frames);
        Ok(Self {
            track: id,
            declared,
            format,
            codec,
            samples: Vec::new(),
            mono: Vec::new(),
            rate: 0,
            packets: 0,
            damaged: 0,
        })
    }

    /// The next samples of one channel with their rate in Hz; `None` at the end.
    fn next(&mut self) -> Result<Option<(&[f32], u32)>, Failure> {
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) | Err(Error::ResetRequired) => return Ok(None),
                // Truncated, or too damaged to find the next packet.
                Err(_) => return Err(Failure::DamagedAudio),
            };
            if packet.track_id != self.track {
                continue;
            }
            self.packets += 1;
            let decoded = match self.codec.decode(&packet) {
                Ok(decoded) => decoded,
                Err(Error::DecodeError(_) | Error::IoError(_)) => {
                    self.damaged += 1;
                    continue;
                }
                Err(_) => return Err(Failure::DamagedAudio),
            };
            let (rate, channels) = (decoded.spec().rate(), decoded.num_planes());
            // A rate that changes would make the times wrong.
            let same_rate = self.rate == 0 || self.rate == rate;
            if !same_rate || !RATES.contains(&rate) || !(1..=MAX_CHANNELS).contains(&channels) {
                return Err(Failure::UnsupportedAudio);
            }
            self.rate = rate;
            decoded.copy_to_vec_interleaved(&mut self.samples);
            self.mono.clear();
            let frames = self.samples.chunks_exact(channels);
            let mixed = frames.map(|frame| frame.iter().sum::<f32>() / channels as f32);
            self.mono.extend(mixed);
            if !self.mono.is_empty() {
                return Ok(Some((&self.mono, rate)));
            }
        }
    }

    /// Checks that the decoded samples are the whole recording.
    fn check_whole(&self, samples: u64) -> Result<(), Failure> {
        let declared = self.declared.unwrap_or(0);
        let short = samples.saturating_mul(100) < declared.saturating_mul(MIN_PRESENT_PERCENT);
        if short || self.damaged * 100 > self.packets * MAX_DAMAGED_PERCENT {
            return Err(Failure::DamagedAudio);
        }
        if samples == 0 {
            return Err(Failure::NoAudio);
        }
        Ok(())
    }
}

/// Decodes a whole recording once and measures it. `keep_going` is called before each
/// packet; false cancels.
pub(crate) fn survey(
    file: Bytes,
    longest: Duration,
    keep_going: impl Fn() -> bool,
) -> Result<Survey, Failure> {
    let mut decoder = Decoder::open(file)?;
    let (mut total, mut loudness) = (0, None);
    loop {
        if !keep_going() {
            return Err(Failure::Cancelled);
        }
        let Some((samples, rate)) = decoder.next()? else {
            break;
        };
        total += samples.len() as u64;
        // A small file may decode to days of silence.
        if Cutter::time(rate, total) > longest {
            return Err(Failure::TooLong);
        }
        loudness
            .get_or_insert_with(|| Loudness::new(rate))
            .push(samples);
    }
    decoder.check_whole(total)?;
    let loudness = loudness.ok_or(Failure::NoAudio)?;
    Ok(Survey {
        length: Cutter::time(decoder.rate, total),
        quiet_db: loudness.quiet_db(),
        rate: decoder.rate,
    })
}

/// A segment in the format that engines take.
#[derive(Debug)]
pub(crate) struct AudioSegment {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
    /// A WAV file of one channel with [`ENGINE_RATE`].
    pub(crate) wav: Vec<u8>,
}

/// Decodes a surveyed recording and passes its segments to `send`, until that returns
/// false.
pub(crate) fn segments(
    file: Bytes,
    survey: Survey,
    mut send: impl FnMut(AudioSegment) -> bool,
) -> Result<(), Failure> {
    let mut decoder = Decoder::open(file)?;
    let mut cutter = Cutter::new(survey.rate, survey.quiet_db);
    while let Some((samples, _)) = decoder.next()? {
        for segment in cutter.push(samples) {
            if !send(encode(survey.rate, segment.start, &segment.samples)?) {
                return Ok(());
            }
        }
    }
    if let Some(last) = cutter.finish() {
        send(encode(survey.rate, last.start, &last.samples)?);
    }
    Ok(())
}

fn encode(rate: u32, start: u64, samples: &[f32]) -> Result<AudioSegment, Failure> {
    let end = start + samples.len() as u64;
    Ok(AudioSegment {
        start: Cutter::time(rate, start),
        end: Cutter::time(rate, end),
        wav: wav(&resampled(samples, rate)?)?,
    })
}

fn resampled(samples: &[f32], rate: u32) -> Result<Vec<f32>, Failure> {
    if rate == ENGINE_RATE {
        return Ok(samples.to_vec());
    }
    let (from, to) = (rate as usize, ENGINE_RATE as usize);
    let mut resampler = Fft::<f32>::new(from, to, 1024, 1, FixedSync::Input).map_err(broken)?;
    let input = SequentialSlice::new(samples, 1, samples.len()).map_err(broken)?;
    let output = resampler.process_all(&input, samples.len(), None);
    Ok(output.map_err(broken)?.take_data())
}

fn wav(samples: &[f32]) -> Result<Vec<u8>, Failure> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: ENGINE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::with_capacity(44 + samples.len() * 2));
    let mut writer = hound::WavWriter::new(&mut file, spec).map_err(broken)?;
    for sample in samples {
        let sample = (sample * 32_767.0).clamp(-32_768.0, 32_767.0) as i16;
        writer.write_sample(sample).map_err(broken)?;
    }
    writer.finalize().map_err(broken)?;
    Ok(file.into_inner())
}

fn broken(error: impl std::fmt::Display) -> Failure {
    tracing::error!(%error, "a recording could not be prepared for the engine");
    Failure::Internal
}
