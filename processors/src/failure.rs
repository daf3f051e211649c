//! Why a job failed: the one list of codes that dashboards know, each with the
//! sentence that its person reads and whether another attempt can help.

use std::fmt;

/// Whether another attempt of the same job can end differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The cause may pass.
    Later,
    /// It will fail again.
    Never,
}

macro_rules! failures {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $retry:ident, $sentence:literal;)+) => {
        /// Why a job failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failure {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Failure {
            /// Every failure.
            pub const ALL: &[Failure] = &[$(Failure::$variant),+];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Failure::$variant => $code),+ }
            }

            /// One sentence for the person who asked.
            pub const fn sentence(self) -> &'static str {
                match self { $(Failure::$variant => $sentence),+ }
            }

            /// Whether another attempt can help.
            pub(crate) const fn retry(self) -> Retry {
                match self { $(Failure::$variant => Retry::$retry),+ }
            }
        }
    };
}

failures! {
    /// Not a kind of picture that is read here.
    UnsupportedFormat = "unsupported_format", Never, "This file is not a JPEG, PNG, GIF or WebP picture.";
    /// It begins like a picture and cannot be read to its end.
    DamagedFile = "damaged_file", Never, "The picture is damaged or incomplete. Please try the original file again.";
    /// More bytes than the limit.
    TooLarge = "too_large", Never, "The file is larger than allowed. Please use a smaller one.";
    /// More pixels, or more memory to decode them, than the limit.
    TooManyPixels = "too_many_pixels", Never, "The picture has more pixels than allowed. Please use a smaller one.";
    /// No bytes at all.
    EmptyFile = "empty_file", Never, "The file is empty.";
    /// Not a kind of recording that is read here.
    UnsupportedAudio = "unsupported_audio", Never, "This file is not a WAV, MP3, FLAC, OGG or M4A recording that can be read.";
    /// It begins like a recording and cannot be read to its end.
    DamagedAudio = "damaged_audio", Never, "The recording is damaged or incomplete. Please try the original file again.";
    /// A file without sound.
    NoAudio = "no_audio", Never, "There is no sound in this file.";
    /// A longer recording than the limit.
    TooLong = "too_long", Never, "The recording is longer than allowed. Please send it in parts.";
    /// Nobody said by what recordings are to be transcribed.
    NotConfigured = "not_configured", Never, "Transcriptions are not set up here: the operator has to set `transcription-url` or `transcription-command`.";
    /// The engine is away, or did not do what it should.
    EngineFailed = "engine_failed", Later, "The speech recognition did not work. Please try again later.";
    /// The engine does not want this request.
    EngineRefused = "engine_refused", Never, "The speech recognition refused the recording.";
    /// The engine took too long for a segment.
    EngineTimeout = "engine_timeout", Later, "The speech recognition took too long. Please try again later.";
    /// The URL did not deliver.
    FetchFailed = "fetch_failed", Later, "The picture could not be downloaded from its address.";
    /// The URL leads where we do not go.
    FetchRefused = "fetch_refused", Never, "Pictures cannot be downloaded from this address.";
    /// A picture that a report is to show is not there.
    ImageNotFound = "image_not_found", Never, "A picture of the report is not there any more.";
    /// Typesetting it takes more memory than the limit.
    ReportTooLarge = "report_too_large", Never, "The report is too large. Please use fewer rows or pictures.";
    /// It took too long.
    Timeout = "timeout", Never, "The work took too long. Please try again.";
    /// The server stopped too often while it was at work, or before it had the file.
    Interrupted = "interrupted", Never, "The work was interrupted. Please try again.";
    /// The person who asked for it called it off.
    Cancelled = "cancelled", Never, "You cancelled this.";
    /// A store or a database did not do what it should.
    Unavailable = "unavailable", Later, "A part of our service is not available. Please try again later.";
    /// Our fault.
    Internal = "internal", Never, "Something went wrong on our side. Please try again.";
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_stable_names_and_each_has_a_sentence() {
        let codes: BTreeSet<_> = Failure::ALL.iter().map(|f| f.code()).collect();
        assert_eq!(codes.len(), Failure::ALL.len());
        for failure in Failure::ALL {
            let name = failure
                .code()
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(name && failure.sentence().ends_with('.'), "{failure:?}");
        }
    }
}
