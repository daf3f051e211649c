//! From the bytes of a recording to samples of one channel, and to the form that
//! engines take. Pure computation: call it on a thread that may block.
//!
//! What always holds: what kind of recording it is, its own bytes say; no more of it
//! is decoded at a time than one packet; what it declares is not believed.

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

/// Samples a second that engines take.
pub(crate) const ENGINE_RATE: u32 = 16_000;
/// Samples a second of a recording.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=192_000;
const MAX_CHANNELS: usize = 32;
/// Of a hundred packets, so many may be damaged.
const DAMAGED_OF_100: u64 = 5;
/// Of a hundred declared samples, so many have to be there.
const THERE_OF_100: u64 = 98;

/// What the whole of a recording is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Survey {
    /// How long it is.
    pub(crate) length: Duration,
    /// Below how many decibels it is quiet.
    pub(crate) quiet_db: f32,
    /// Samples a second.
    pub(crate) rate: u32,
}

/// A recording that is being decoded.
struct Sound {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    declared: Option<u64>,
    /// Of the last packet, all channels.
    samples: Vec<f32>,
    /// Mixed into one.
    mono: Vec<f32>,
    rate: u32,
    packets: u64,
    damaged: u64,
}

impl Sound {
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
                // Nothing that is known begins like this.
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
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|_| Failure::UnsupportedAudio)?;
        let (id, declared) = (track.id, track.num_frames);
        Ok(Self {
            track: id,
            declared,
            format,
            decoder,
            samples: Vec::new(),
            mono: Vec::new(),
            rate: 0,
            packets: 0,
            damaged: 0,
        })
    }

    /// The next samples of the mix, and how many a second has; `None` at the end.
    fn next(&mut self) -> Result<Option<(&[f32], u32)>, Failure> {
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) | Err(Error::ResetRequired) => return Ok(None),
                // Cut off, or so damaged that it cannot be found where it goes on.
                Err(_) => return Err(Failure::DamagedAudio),
            };
            if packet.track_id != self.track {
                continue;
            }
            self.packets += 1;
            let decoded = match self.decoder.decode(&packet) {
                Ok(decoded) => decoded,
                Err(Error::DecodeError(_) | Error::IoError(_)) => {
                    self.damaged += 1;
                    continue;
                }
                Err(_) => return Err(Failure::DamagedAudio),
            };
            let (rate, channels) = (decoded.spec().rate(), decoded.num_planes());
            // It may not change on its way: times would be wrong.
            let known = self.rate == 0 || self.rate == rate;
            if !known || !RATES.contains(&rate) || !(1..=MAX_CHANNELS).contains(&channels) {
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

    /// Whether what was decoded may be taken for the whole.
    fn check_whole(&self, samples: u64) -> Result<(), Failure> {
        let declared = self.declared.unwrap_or(0);
        let short = samples.saturating_mul(100) < declared.saturating_mul(THERE_OF_100);
        if short || self.damaged * 100 > self.packets * DAMAGED_OF_100 {
            return Err(Failure::DamagedAudio);
        }
        if samples == 0 {
            return Err(Failure::NoAudio);
        }
        Ok(())
    }
}

/// Decodes the whole of a recording once, to know it. `go_on` is asked at each
/// packet.
pub(crate) fn survey(
    file: Bytes,
    longest: Duration,
    go_on: impl Fn() -> bool,
) -> Result<Survey, Failure> {
    let mut sound = Sound::open(file)?;
    let (mut heard, mut loudness) = (0, None);
    loop {
        if !go_on() {
            return Err(Failure::Cancelled);
        }
        let Some((samples, rate)) = sound.next()? else {
            break;
        };
        heard += samples.len() as u64;
        // A small file may unpack to days of silence.
        if Cutter::time(rate, heard) > longest {
            return Err(Failure::TooLong);
        }
        loudness
            .get_or_insert_with(|| Loudness::new(rate))
            .hear(samples);
    }
    sound.check_whole(heard)?;
    let loudness = loudness.ok_or(Failure::NoAudio)?;
    Ok(Survey {
        length: Cutter::time(sound.rate, heard),
        quiet_db: loudness.quiet_db(),
        rate: sound.rate,
    })
}

/// A segment as an engine takes it.
#[derive(Debug)]
pub(crate) struct Spoken {
    /// Where it begins in the recording.
    pub(crate) start: Duration,
    /// Where it ends.
    pub(crate) end: Duration,
    /// A WAV file of one channel with [`ENGINE_RATE`].
    pub(crate) wav: Vec<u8>,
}

/// Decodes a recording that is known and hands out its segments, for as long as
/// `take` says so.
pub(crate) fn segments(
    file: Bytes,
    known: Survey,
    mut take: impl FnMut(Spoken) -> bool,
) -> Result<(), Failure> {
    let mut sound = Sound::open(file)?;
    let mut cutter = Cutter::new(known.rate, known.quiet_db);
    while let Some((samples, _)) = sound.next()? {
        for segment in cutter.hear(samples) {
            if !take(spoken(known.rate, segment.start, &segment.samples)?) {
                return Ok(());
            }
        }
    }
    if let Some(last) = cutter.end() {
        take(spoken(known.rate, last.start, &last.samples)?);
    }
    Ok(())
}

fn spoken(rate: u32, start: u64, samples: &[f32]) -> Result<Spoken, Failure> {
    let end = start + samples.len() as u64;
    Ok(Spoken {
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
