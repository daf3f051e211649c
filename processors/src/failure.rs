//! Why a job failed: the one list of codes that dashboards know, each with the
//! sentence that its person reads.

use std::fmt;

macro_rules! failures {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $sentence:literal;)+) => {
        /// Why a job failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failure {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Failure {
            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Failure::$variant => $code),+ }
            }

            /// One sentence for the person who asked.
            pub const fn sentence(self) -> &'static str {
                match self { $(Failure::$variant => $sentence),+ }
            }
        }
    };
}

failures! {
    /// Not a kind of picture that is read here.
    UnsupportedFormat = "unsupported_format", "This file is not a JPEG, PNG, GIF or WebP picture.";
    /// It begins like a picture and cannot be read to its end.
    DamagedFile = "damaged_file", "The picture is damaged or incomplete. Please try the original file again.";
    /// More bytes than the limit.
    TooLarge = "too_large", "The file is larger than allowed. Please use a smaller one.";
    /// More pixels, or more memory to decode them, than the limit.
    TooManyPixels = "too_many_pixels", "The picture has more pixels than allowed. Please use a smaller one.";
    /// No bytes at all.
    EmptyFile = "empty_file", "The file is empty.";
    /// The URL did not deliver.
    FetchFailed = "fetch_failed", "The picture could not be downloaded from its address.";
    /// The URL leads where we do not go.
    FetchRefused = "fetch_refused", "Pictures cannot be downloaded from this address.";
    /// It took too long.
    Timeout = "timeout", "Processing the picture took too long. Please try again.";
    /// The server stopped before the file was stored.
    Interrupted = "interrupted", "Processing was interrupted. Please send the picture again.";
    /// Our fault.
    Internal = "internal", "Something went wrong on our side. Please try again.";
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}
