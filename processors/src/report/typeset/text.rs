//! Texts to lines of glyphs: shaping, direction, choice of fonts and line breaks are
//! parley's.
//!
//! Invariants: no line is wider than its column; no glyph is `.notdef`, and no character is
//! one that PDF/A refuses: what cannot be printed is spelled out, as in `[U+E000]`.

use std::{collections::BTreeSet, fmt::Write, ops::Range, rc::Rc};

use krilla::text::{GlyphId, KrillaGlyph};
use parley::{
    Alignment, AlignmentOptions, FontContext, FontData, FontWeight, Language, Layout,
    LayoutContext, LineHeight, OverflowWrap, Run, StyleProperty,
};

use super::fonts::{ALL_FONTS, has_glyph};

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Points.
    pub(super) size: f32,
    pub(super) bold: bool,
    /// Line height, in sizes.
    pub(super) leading: f32,
}

#[derive(Debug, Clone)]
pub(super) struct TextLine {
    /// From the left edge of its column to the right end of what is printed.
    pub(super) right: f32,
    pub(super) height: f32,
    /// From the top of the line.
    pub(super) baseline: f32,
    pub(super) text: Rc<str>,
    pub(super) runs: Vec<GlyphRun>,
}

/// Glyphs of one font.
#[derive(Debug, Clone)]
pub(super) struct GlyphRun {
    /// From the left edge of the column.
    pub(super) x: f32,
    pub(super) font: FontData,
    /// The location on the axes of a variable font.
    pub(super) axes: Vec<([u8; 4], f32)>,
    pub(super) size: f32,
    /// The font has no bold: make its outlines thicker.
    pub(super) embolden: bool,
    pub(super) glyphs: Vec<KrillaGlyph>,
}

/// A text with its glyphs, not broken into lines yet.
pub(super) struct Shaped {
    text: Rc<str>,
    style: Style,
    layout: Layout<()>,
    natural_width: f32,
}

impl Shaped {
    /// The width that it needs without line breaks of its own.
    pub(super) fn natural_width(&self) -> f32 {
        self.natural_width
    }
}

/// Sets texts.
pub(super) struct Setter {
    fonts: FontContext,
    context: LayoutContext<()>,
    language: Option<Language>,
    /// Characters that are spelled out although there are glyphs for them.
    refused: Refused,
    /// Whether anything was spelled out so far.
    pub(super) has_spelled: bool,
}

/// Which characters are spelled out whatever the fonts have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    These(BTreeSet<char>),
    AllButAscii,
}

impl Setter {
    pub(super) fn new(fonts: FontContext, language: &str, refused: Refused) -> Self {
        Self {
            fonts,
            context: LayoutContext::new(),
            language: Language::parse(language).ok(),
            refused,
            has_spelled: false,
        }
    }

    /// The lines of a text in a column of this width.
    pub(super) fn lines(
        &mut self,
        text: &str,
        style: Style,
        width: f32,
        align: Alignment,
    ) -> Vec<TextLine> {
        let shaped = self.shape(text, style);
        self.break_lines(shaped, width, align)
    }

    /// A text on one line, cut if it is wider.
    pub(super) fn one_line(
        &mut self,
        text: &str,
        style: Style,
        width: f32,
        align: Alignment,
    ) -> Option<TextLine> {
        let text = self.fitting(text, style, width);
        self.lines(&text, style, width, align).into_iter().next()
    }

    /// As much of a text as fits on one line, with an ellipsis where it was cut.
    pub(super) fn fitting(&mut self, text: &str, style: Style, width: f32) -> String {
        let mut shaped = self.shape(text, style);
        shaped.layout.break_all_lines(Some(width));
        if shaped.layout.len() <= 1 {
            return shaped.text.to_string();
        }
        let end = shaped.layout.get(0).map_or(0, |line| line.text_range().end);
        let kept = shaped.text[..end].trim_end();
        // Room for the ellipsis.
        let cut = kept.char_indices().nth_back(2).map_or(0, |(at, _)| at);
        format!("{}…", kept[..cut].trim_end())
    }

    /// Chooses fonts and glyphs.
    pub(super) fn shape(&mut self, text: &str, style: Style) -> Shaped {
        let mut text = self.printable(text);
        let mut layout = self.layout(&text, style);
        let missing = missing(&layout);
        if !missing.is_empty() {
            text = self.spell_clusters(&text, &missing);
            layout = self.layout(&text, style);
        }
        layout.break_all_lines(None);
        Shaped {
            natural_width: widest(&layout),
            text: text.into(),
            style,
            layout,
        }
    }

    /// Breaks a text into lines.
    pub(super) fn break_lines(
        &mut self,
        mut shaped: Shaped,
        width: f32,
        align: Alignment,
    ) -> Vec<TextLine> {
        shaped.layout.break_all_lines(Some(width));
        let widest = widest(&shaped.layout);
        if widest > width + 0.01 {
            // A single cluster is wider than the column: all of the text gets smaller.
            let style = Style {
                size: shaped.style.size * (width / widest) * 0.99,
                ..shaped.style
            };
            shaped.layout = self.layout(&shaped.text, style);
            shaped.layout.break_all_lines(Some(width));
        }
        shaped.layout.align(align, AlignmentOptions::default());
        let lines = shaped.layout.lines();
        lines.map(|line| extract(&line, &shaped.text)).collect()
    }

    fn layout(&mut self, text: &str, style: Style) -> Layout<()> {
        let mut builder = self
            .context
            .ranged_builder(&mut self.fonts, text, 1.0, false);
        builder.push_default(ALL_FONTS);
        builder.push_default(StyleProperty::FontSize(style.size));
        builder.push_default(LineHeight::FontSizeRelative(style.leading));
        builder.push_default(OverflowWrap::Anywhere);
        builder.push_default(StyleProperty::Locale(self.language));
        if style.bold {
            builder.push_default(FontWeight::BOLD);
        }
        builder.build(text)
    }

    /// A text without what is never printed, and with what PDF/A refuses spelled out.
    fn printable(&mut self, text: &str) -> String {
        let mut printable = String::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\u{FEFF}' => {}
                '\r' if chars.peek() == Some(&'\n') => {}
                '\n' | '\r' | '\u{2028}' | '\u{2029}' => printable.push('\n'),
                '\t' => printable.push(' '),
                c if is_refused(c) || self.refused.contains(c) => self.spell(&mut printable, c),
                c => printable.push(c),
            }
        }
        printable
    }

    fn spell(&mut self, text: &mut String, c: char) {
        self.has_spelled = true;
        // Writing to a string does not fail.
        let _ = write!(text, "[U+{:04X}]", u32::from(c));
    }

    /// Spells out what kept each of these clusters from being printed: the characters
    /// without a glyph, or else those that no font has together with the first.
    fn spell_clusters(&mut self, text: &str, clusters: &[Range<usize>]) -> String {
        let mut spelled = String::with_capacity(text.len() + 16 * clusters.len());
        let mut copied = 0;
        for cluster in clusters {
            spelled.push_str(&text[copied..cluster.start]);
            copied = cluster.end;
            let chars = &text[cluster.clone()];
            let absent = chars.chars().filter(|c| !has_glyph(&mut self.fonts, *c));
            let absent: BTreeSet<char> = absent.collect();
            let keeps_first = absent.is_empty() && chars.chars().nth(1).is_some();
            for (number, c) in chars.chars().enumerate() {
                let is_kept = if absent.is_empty() {
                    keeps_first && number == 0
                } else {
                    !absent.contains(&c)
                };
                if is_kept {
                    spelled.push(c);
                } else if !is_ignorable(c) {
                    self.spell(&mut spelled, c);
                }
            }
        }
        spelled.push_str(&text[copied..]);
        spelled
    }
}

impl Refused {
    fn contains(&self, c: char) -> bool {
        match self {
            Self::These(chars) => chars.contains(&c),
            Self::AllButAscii => !c.is_ascii(),
        }
    }
}

/// Private use and noncharacters: PDF/A forbids text that means something else, or
/// nothing, on the next machine.
fn is_refused(c: char) -> bool {
    let code = u32::from(c);
    matches!(code, 0xE000..=0xF8FF | 0xF_0000.. | 0xFDD0..=0xFDEF | 0xFFFC)
        || code & 0xFFFE == 0xFFFE
        || c.is_control() && c != '\n'
}

/// What only steers other characters: left out where its cluster is spelled.
fn is_ignorable(c: char) -> bool {
    matches!(u32::from(c), 0xAD | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F
        | 0xFE00..=0xFE0F | 0xE_0000..=0xE_0FFF)
}

/// The clusters that the fonts cannot print, in the order of the text.
fn missing(layout: &Layout<()>) -> Vec<Range<usize>> {
    // Glyphs exist before lines do, but are reached through them.
    let mut layout = layout.clone();
    layout.break_all_lines(None);
    let mut missing = Vec::new();
    for run in layout
        .lines()
        .flat_map(|line| line.runs().collect::<Vec<_>>())
    {
        for (range, glyphs) in clusters(&run) {
            if glyphs.iter().any(|glyph| glyph.id == 0) {
                missing.push(range);
            }
        }
    }
    missing.sort_by_key(|range| range.start);
    missing
}

/// The clusters of a run from left to right, each with its glyphs; those of a ligature
/// as one. Line ends are not printed.
fn clusters(run: &Run<'_, ()>) -> Vec<(Range<usize>, Vec<parley::Glyph>)> {
    let mut clusters: Vec<(Range<usize>, Vec<parley::Glyph>)> = Vec::with_capacity(run.len());
    for cluster in run.clusters() {
        let range = cluster.text_range();
        if cluster.is_hard_line_break() {
            continue;
        }
        match clusters.last_mut() {
            Some((whole, _)) if cluster.is_ligature_continuation() => {
                whole.start = whole.start.min(range.start);
                whole.end = whole.end.max(range.end);
            }
            _ => clusters.push((range, cluster.glyphs().collect())),
        }
    }
    if run.is_rtl() {
        clusters.reverse();
    }
    clusters
}

fn widest(layout: &Layout<()>) -> f32 {
    let widths = layout.lines().map(|line| {
        let metrics = line.metrics();
        metrics.advance - metrics.hanging_advance
    });
    widths.fold(0.0, f32::max)
}

fn extract(line: &parley::Line<'_, ()>, text: &Rc<str>) -> TextLine {
    let metrics = line.metrics();
    let mut x = metrics.offset;
    let mut runs = Vec::new();
    let mut right = 0.0_f32;
    for run in line.runs() {
        let (start, size) = (x, run.font_size());
        let mut glyphs = Vec::new();
        for (range, cluster) in clusters(&run) {
            let is_space = text[range.clone()].trim().is_empty();
            for glyph in cluster.iter().filter(|glyph| glyph.id != 0) {
                x += glyph.advance;
                glyphs.push(KrillaGlyph::new(
                    GlyphId::new(glyph.id),
                    glyph.advance / size,
                    glyph.x / size,
                    glyph.y / size,
                    0.0,
                    range.clone(),
                    None,
                ));
            }
            if !is_space {
                right = right.max(x);
            }
        }
        let synthesis = run.synthesis();
        let axes = synthesis.variation_settings().iter();
        runs.push(GlyphRun {
            x: start,
            font: run.font().clone(),
            axes: axes
                .map(|(tag, value)| (tag.into_bytes(), *value))
                .collect(),
            size,
            embolden: synthesis.embolden(),
            glyphs,
        });
    }
    TextLine {
        right,
        height: metrics.line_height,
        baseline: metrics.baseline - metrics.block_min_coord,
        text: Rc::clone(text),
        runs,
    }
}
