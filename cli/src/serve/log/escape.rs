//! Foreign text in logs: shown, never obeyed.
//!
//! What a peer sent may hold line breaks (a forged line), terminal sequences, or marks
//! that reorder text. Each such character is written as its escape, in every log.

use std::{
    fmt::{self, Write as _},
    io,
};

use tracing_subscriber::fmt::MakeWriter;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Whether a character is never written as it is: controls, line and paragraph
/// separators, and what is invisible or reorders the text around it.
fn is_escaped(character: char) -> bool {
    matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// Writes text on with escapes as in Rust: `\n`, `\u{1b}`.
pub(super) struct Escaping<'a, W>(pub(super) &'a mut W);

impl<W: fmt::Write> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, character)) = rest.char_indices().find(|(_, c)| is_escaped(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", character.escape_default())?;
            rest = &rest[at + character.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// A line of JSON, whose strings hold those characters as they are, with JSON's escapes.
pub(super) fn escape_json(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        if is_escaped(character) && character != '\n' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Standard error for lines of JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonLines;

impl MakeWriter<'_> for JsonLines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl io::Write for JsonLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let escaped = escape_json(&String::from_utf8_lossy(line));
        io::stderr().write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A forged line, a terminal's title, a reordering, an invisible mark.
    const FOREIGN: &str =
        "a\r\nINFO root logged in\x1b]0;x\x07\u{9b}31m \u{202e}txt\u{200b}\u{2028}";

    #[test]
    fn no_character_of_a_peer_is_obeyed() {
        let mut text = String::new();
        write!(Escaping(&mut text), "user={FOREIGN} é 漢").unwrap();
        assert!(!text.chars().any(is_escaped), "{text:?}");
        assert!(text.starts_with(r"user=a\r\nINFO root"), "{text}");
        assert!(
            text.contains(r"\u{1b}]0;x\u{7}\u{9b}31m \u{202e}txt"),
            "{text}"
        );
        assert!(text.ends_with("é 漢"), "other scripts stay: {text}");
    }

    #[test]
    fn json_stays_json_and_says_the_same() {
        let line = serde_json::json!({ "user": FOREIGN, "tag": "\u{e0001}" }).to_string() + "\n";
        let escaped = escape_json(&line);
        let (text, end) = escaped.split_at(escaped.len() - 1);
        assert!(!text.chars().any(is_escaped), "{text:?}");
        assert_eq!(end, "\n");
        let read: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(read["user"], FOREIGN);
        assert_eq!(read["tag"], "\u{e0001}");
    }
}
