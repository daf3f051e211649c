//! Why a job failed: the one list of error codes, each with the message for its user
//! and whether another attempt can help.

use std::fmt;

/// Whether another attempt of the same job can end differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The cause may be temporary.
    Later,
    /// It would fail again.
    Never,
}

macro_rules! failures {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $retry:ident, $message:literal;)+) => {
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

            /// The one with this code.
            pub(crate) fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|failure| failure.code() == code)
            }

            /// One sentence for the job's user.
            pub const fn message(self) -> &'static str {
                match self { $(Failure::$variant => $message),+ }
            }

            /// Whether another attempt can help.
            pub(crate) const fn retry(self) -> Retry {
                match self { $(Failure::$variant => Retry::$retry),+ }
            }
        }
    };
}

failures! {
    /// Not a supported picture format.
    UnsupportedFormat = "unsupported_format", Never, "This file is not a JPEG, PNG, GIF or WebP picture.";
    /// A supported picture format that cannot be decoded to its end.
    DamagedFile = "damaged_file", Never, "The picture is damaged or incomplete. Please try the original file again.";
    /// More bytes than the limit.
    TooLarge = "too_large", Never, "The file is larger than allowed. Please use a smaller one.";
    /// More pixels, or more memory to decode them, than the limit.
    TooManyPixels = "too_many_pixels", Never, "The picture has more pixels than allowed. Please use a smaller one.";
    /// No bytes at all.
    EmptyFile = "empty_file", Never, "The file is empty.";
    /// Not a supported audio format.
    UnsupportedAudio = "unsupported_audio", Never, "This file is not a WAV, MP3, FLAC, OGG or M4A recording that can be read.";
    /// A supported audio format that cannot be decoded to its end.
    DamagedAudio = "damaged_audio", Never, "The recording is damaged or incomplete. Please try the original file again.";
    /// A file without sound.
    NoAudio = "no_audio", Never, "There is no sound in this file.";
    /// A longer recording than the limit.
    TooLong = "too_long", Never, "The recording is longer than allowed. Please send it as several files.";
    /// No transcriber is configured.
    NotConfigured = "not_configured", Never, "Transcriptions are not set up here: the operator has to set `transcription-url` or `transcription-command`.";
    /// The transcriber does not answer, or its answer is invalid.
    EngineFailed = "engine_failed", Later, "The speech recognition did not work. Please try again later.";
    /// The transcriber refuses the request.
    EngineRefused = "engine_refused", Never, "The speech recognition refused the recording.";
    /// The transcriber took too long for a segment.
    EngineTimeout = "engine_timeout", Later, "The speech recognition took too long. Please try again later.";
    /// The URL could not be downloaded.
    FetchFailed = "fetch_failed", Later, "The picture could not be downloaded from its address.";
    /// The URL leads to an address that is not public.
    FetchRefused = "fetch_refused", Never, "Pictures cannot be downloaded from this address.";
    /// A picture of the report does not exist.
    ImageNotFound = "image_not_found", Never, "A picture of the report is not there any more.";
    /// Typesetting it takes more memory than the limit.
    ReportTooLarge = "report_too_large", Never, "The report is too large. Please use fewer rows or pictures.";
    /// The job exceeded its time limit.
    Timeout = "timeout", Never, "The work took too long. Please try again.";
    /// The server stopped too often while the job ran, or before it had the file.
    Interrupted = "interrupted", Never, "The work was interrupted. Please try again.";
    /// The user cancelled the job.
    Cancelled = "cancelled", Never, "You cancelled this.";
    /// The store of files or the database failed.
    Unavailable = "unavailable", Later, "A part of our service is not available. Please try again later.";
    /// A bug.
    Internal = "internal", Never, "Something went wrong on our side. Please try again.";
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_names_and_each_has_a_sentence() {
        let codes: BTreeSet<_> = Failure::ALL.iter().map(|f| f.code()).collect();
        assert_eq!(codes.len(), Failure::ALL.len());
        for failure in Failure::ALL {
            let name = failure
                .code()
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(name && failure.message().ends_with('.'), "{failure:?}");
        }
    }
}
