//! Names of users, queues, jobs, services and streams.
//!
//! What always holds: there is one rule, [`check`], and each type here can only be
//! made by its parser. A name has 1 to 128 bytes, and every character of it is
//! visible: no control character (Unicode category Cc), no format character (Cf)
//! and no line or paragraph separator (Zl, Zp), because those make two different
//! names look alike. A name that one process accepts is accepted by all.

use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

use thiserror::Error;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::limits::MAX_NAME_BYTES;

/// What is wrong with a name. The sentences follow the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty or too long.
    #[error("has {0} bytes, but it has to have 1 to {MAX_NAME_BYTES}")]
    Length(usize),
    /// A character that nobody can see.
    #[error(
        "has the control or invisible character U+{:04X}, use printable ones",
        u32::from(*.0)
    )]
    Invisible(char),
    /// `*` in a queue: tokens grant prefixes of queues with it.
    #[error("has a `*`, which only a token's prefix of queues may have")]
    Wildcard,
    /// Other than printable ASCII in the name of a service.
    #[error("has the character U+{:04X}, use printable ASCII without spaces", u32::from(*.0))]
    NotAscii(char),
    /// Not one of the three kinds of stream.
    #[error("is not a stream, write `user:<id>`, `queue:<id>` or `everyone`")]
    NotAStream,
}

/// Whether a reader can see this character, or the space it takes.
pub fn is_visible(c: char) -> bool {
    // Most names are ASCII, and this runs for each event.
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    !matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// The rule for every name: 1 to 128 bytes of visible characters. Fields without
/// a type of their own (document ids, collapse keys, devices) are checked by it.
///
/// # Errors
/// What is wrong with it.
pub fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(NameError::Length(name.len()));
    }
    match name.chars().find(|c| !is_visible(*c)) {
        Some(c) => Err(NameError::Invisible(c)),
        None => Ok(()),
    }
}

fn check_queue(name: &str) -> Result<(), NameError> {
    check(name)?;
    if name.contains('*') {
        return Err(NameError::Wildcard);
    }
    Ok(())
}

fn check_service(name: &str) -> Result<(), NameError> {
    check(name)?;
    match name.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => Err(NameError::NotAscii(c)),
        None => Ok(()),
    }
}

macro_rules! names {
    ($($(#[doc = $doc:literal])+ $name:ident by $check:ident;)+) => {$(
        $(#[doc = $doc])+
        ///
        /// A clone shares the text.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// What is wrong with it.
            pub fn parse(name: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, NameError> {
                $check(name.as_ref())?;
                Ok(Self(name.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, shared.
            pub fn to_arc(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for Arc<str> {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::parse(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::parse(name)
            }
        }
    )+};
}

names! {
    /// A person: the `sub` of a user token.
    UserId by check;
    /// A queue that several people view. It has no `*`.
    QueueId by check_queue;
    /// A job of one publisher.
    JobId by check;
    /// A service: the `sub` of a service token. Printable ASCII without spaces, so
    /// that it fits into logs, metrics and headers as it is.
    ServiceName by check_service;
}

/// A stream: one user's events, one queue's, or everyone's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamName {
    /// `user:<id>`.
    User(UserId),
    /// `queue:<id>`.
    Queue(QueueId),
    /// `everyone`.
    Everyone,
}

impl StreamName {
    /// Parses the text form.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        match StreamRef::split(name).ok_or(NameError::NotAStream)? {
            StreamRef::User(id) => UserId::parse(id).map(Self::User),
            StreamRef::Queue(id) => QueueId::parse(id).map(Self::Queue),
            StreamRef::Everyone => Ok(Self::Everyone),
        }
    }

    /// The name without ownership.
    pub fn as_ref(&self) -> StreamRef<'_> {
        match self {
            Self::User(id) => StreamRef::User(id.as_str()),
            Self::Queue(id) => StreamRef::Queue(id.as_str()),
            Self::Everyone => StreamRef::Everyone,
        }
    }

    /// The text form as the rules of delivery take it: opaque and shared.
    pub fn to_arc(&self) -> Arc<str> {
        self.as_ref().to_string().into()
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), f)
    }
}

impl FromStr for StreamName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

/// A stream's name taken apart without a check of the id: for text that
/// [`StreamName::parse`] accepted before, such as a name that the log gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRef<'a> {
    /// The stream of this user.
    User(&'a str),
    /// The stream of this queue.
    Queue(&'a str),
    /// The stream of everyone.
    Everyone,
}

impl<'a> StreamRef<'a> {
    /// Takes the text form apart; `None` if it is none.
    pub fn split(name: &'a str) -> Option<Self> {
        match name.split_once(':') {
            Some(("user", id)) => Some(Self::User(id)),
            Some(("queue", id)) => Some(Self::Queue(id)),
            None if name == "everyone" => Some(Self::Everyone),
            _ => None,
        }
    }

    /// `user`, `queue` or `everyone`.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Queue(_) => "queue",
            Self::Everyone => "everyone",
        }
    }
}

impl fmt::Display for StreamRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) | Self::Queue(id) => write!(f, "{}:{id}", self.kind()),
            Self::Everyone => f.write_str("everyone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invisible_character_is_refused_and_every_other_accepted() {
        // The categories as the standard's `UnicodeData.txt` has them.
        let invisible = |c: char| {
            matches!(u32::from(c),
                0..=0x1F | 0x7F..=0x9F | 0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F
                | 0x890..=0x891 | 0x8E2 | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E
                | 0x2060..=0x2064 | 0x2066..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB | 0x110BD
                | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A
                | 0xE0001 | 0xE0020..=0xE007F)
        };
        for c in '\0'..=char::MAX {
            assert_eq!(is_visible(c), !invisible(c), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn a_stream_comes_back_from_its_text() {
        for text in [
            "user:u1",
            "user:queue:x",
            "queue:a:b",
            "queue:日本",
            "everyone",
        ] {
            let stream = StreamName::parse(text).unwrap();
            assert_eq!(stream.to_string(), text);
            assert_eq!(&*stream.to_arc(), text);
        }
    }

    #[test]
    fn the_length_counts_bytes() {
        assert!(UserId::parse("x".repeat(128)).is_ok());
        assert_eq!(UserId::parse("x".repeat(129)), Err(NameError::Length(129)));
        assert_eq!(UserId::parse("é".repeat(65)), Err(NameError::Length(130)));
    }

    #[test]
    fn the_shared_names_get_their_verdict() {
        let text = include_str!("../tests/vectors/names.json");
        let rows: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        for row in rows {
            let name = row["name"].as_str().unwrap();
            for (kind, accepted) in [
                ("user", UserId::parse(name).is_ok()),
                ("user", JobId::parse(name).is_ok()),
                ("queue", QueueId::parse(name).is_ok()),
                ("service", ServiceName::parse(name).is_ok()),
            ] {
                assert_eq!(row[kind], accepted, "{kind}: {name:?}");
            }
        }
    }
}
