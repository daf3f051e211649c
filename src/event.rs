//! The one table of events: name and whether it ends its job.
//!
//! What always holds: there is one entry for each body of `belfry.v1.Event`, and
//! the match over the bodies has no `_`, so a new event does not compile until it
//! has its entry. Tokens, logs, metrics and browsers use these names; a test
//! compares the browser's list of events that complete a job.

use crate::v1::event::Body;

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal, $terminal:ident;)+) => {
        /// The kind of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl EventKind {
            /// Every kind, in the order of the contract.
            pub const ALL: &[EventKind] = &[$(EventKind::$kind),+];

            /// The kind of an event's body.
            pub const fn of(body: &Body) -> Self {
                match body { $(Body::$kind(_) => EventKind::$kind),+ }
            }

            /// The name in the contract, in tokens and for browsers: lower snake case.
            pub const fn name(self) -> &'static str {
                match self { $(EventKind::$kind => $name),+ }
            }

            /// Whether the event ends the job that it belongs to, even if its
            /// publisher does not set `job.ends`.
            pub const fn is_terminal(self) -> bool {
                match self { $(EventKind::$kind => events!(@$terminal)),+ }
            }
        }
    };
    (@terminal) => { true };
    (@open) => { false };
}

events! {
    /// A picture was accepted.
    ImageProcessingStarted = "image_processing_started", open;
    /// A picture is ready.
    ImageProcessed = "image_processed", terminal;
    /// A picture could not be processed.
    ImageProcessingFailed = "image_processing_failed", terminal;
    /// A report was requested.
    PdfGenerationStarted = "pdf_generation_started", open;
    /// A report is ready.
    PdfGenerated = "pdf_generated", terminal;
    /// A report could not be made.
    PdfGenerationFailed = "pdf_generation_failed", terminal;
    /// A recording was accepted.
    TranscriptionStarted = "transcription_started", open;
    /// The text of a recording is ready.
    TranscriptionComplete = "transcription_complete", terminal;
    /// A recording could not be transcribed.
    TranscriptionFailed = "transcription_failed", terminal;
    /// How far a job has come.
    JobProgress = "job_progress", open;
    /// Something changed that no other event describes. Its publisher says whether
    /// it ends the job.
    StatusUpdate = "status_update", open;
    /// An event outside the contract. Its publisher says whether it ends the job.
    Custom = "custom", open;
}

impl EventKind {
    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether it says that a job failed.
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::ImageProcessingFailed | Self::PdfGenerationFailed | Self::TranscriptionFailed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_snake_case_and_found_again() {
        for kind in EventKind::ALL {
            let name = kind.name();
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert_eq!(EventKind::from_name(name), Some(*kind));
            assert_eq!(kind.is_failure(), name.ends_with("_failed"));
            assert!(!kind.is_failure() || kind.is_terminal());
        }
        assert_eq!(EventKind::from_name("image_process"), None);
    }

    #[test]
    fn every_body_of_the_contract_is_in_the_table() {
        let proto = include_str!("../proto/belfry/v1/event.proto");
        let body = proto.split_once("oneof body {").unwrap().1;
        let names = body
            .split_once("  }")
            .unwrap()
            .0
            .lines()
            .filter_map(|line| {
                let (field, _) = line.trim().strip_suffix(';')?.split_once(" = ")?;
                Some(field.split_once(' ')?.1)
            });
        let table: Vec<_> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.collect::<Vec<_>>(), table);
    }
}
