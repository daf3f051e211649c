//! The fonts of reports: those that this program carries, then the system's.
//!
//! What always holds: a character that no font has is not left out in silence.

use std::fmt::Write;

use typst::{
    text::{Font, FontBook},
    utils::LazyHash,
};
use typst_kit::fonts::{FontStore, embedded, system};

/// Code points of Unicode.
const CODE_POINTS: usize = 0x11_0000;

/// The fonts, and what can be written with them.
pub(crate) struct Fonts {
    store: FontStore,
    /// A bit for each code point.
    covered: Vec<u64>,
}

impl Fonts {
    /// Looks for them: reads the head of each font file of the system.
    pub(crate) fn find() -> Self {
        let mut store = FontStore::new();
        store.extend(embedded());
        store.extend(system());
        Self::of(store)
    }

    fn of(store: FontStore) -> Self {
        let mut covered = vec![0; CODE_POINTS.div_ceil(64)];
        let mut index = 0;
        while let Some(font) = store.book().info(index) {
            for point in font.coverage.iter() {
                covered[point as usize / 64] |= 1 << (point % 64);
            }
            index += 1;
        }
        Self { store, covered }
    }

    /// What the typesetter chooses from.
    pub(crate) fn book(&self) -> &LazyHash<FontBook> {
        self.store.book()
    }

    /// One of them.
    pub(crate) fn font(&self, index: usize) -> Option<Font> {
        self.store.font(index)
    }

    /// Writes what no font has as its number, as in `[U+1F600]`. Says whether there
    /// was any.
    pub(crate) fn spell_out(&self, text: &mut String) -> bool {
        if text.chars().all(|c| self.has(c)) {
            return false;
        }
        let mut spelled = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if self.has(c) {
                spelled.push(c);
            } else {
                // Writing to a string does not fail.
                let _ = write!(spelled, "[U+{:04X}]", u32::from(c));
            }
        }
        *text = spelled;
        true
    }

    fn has(&self, c: char) -> bool {
        let point = c as usize;
        is_invisible(c) || self.covered[point / 64] & (1 << (point % 64)) != 0
    }
}

/// White space and what steers other characters: nothing is printed for it.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || matches!(u32::from(c),
            0xAD | 0x61C | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x2064 | 0x2066..=0x2069
            | 0xFE00..=0xFE0F | 0xFEFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_font_has_is_written_as_its_number() {
        let mut store = FontStore::new();
        store.extend(embedded());
        let fonts = Fonts::of(store);
        let mut text = "Zoë, שלום\u{200F}, 😀, \u{10FFFD}!".to_owned();
        assert!(fonts.spell_out(&mut text));
        assert_eq!(text, "Zoë, שלום\u{200F}, [U+1F600], [U+10FFFD]!");
        assert!(!fonts.spell_out(&mut text));
    }
}
