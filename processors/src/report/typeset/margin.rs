//! Running header and footer: title and reference from the second page on, when the
//! report was made, and page numbers.

use parley::Alignment;
use time::OffsetDateTime;

use super::{
    body::{one_line, start_of, style},
    page::{Ink, Item, MARGIN, Meaning, PAGE_HEIGHT, Pages, Shape, WIDTH},
    text::{Setter, Style, TextLine},
};
use crate::report::request::{ReportRequest, readable};

const SMALL: Style = style(8.5, false, 1.3);
/// The top of the header's line of text.
const HEADER_Y: f32 = 34.0;
/// The top of the footer's line of text.
const FOOTER_Y: f32 = PAGE_HEIGHT - 42.0;
/// The widest reference in the header; the title gets the rest.
const REFERENCE_WIDTH: f32 = 150.0;

/// Adds them to all pages.
pub(super) fn add(
    pages: &mut Pages,
    request: &ReportRequest,
    created: OffsetDateTime,
    setter: &mut Setter,
) {
    let start = start_of(&request.language);
    let end = match start {
        Alignment::Right => Alignment::Left,
        _ => Alignment::Right,
    };
    let made = format!(
        "Made {}",
        readable(created.replace_second(0).unwrap_or(created))
    );
    let made = setter.one_line(&made, SMALL, WIDTH, start);
    let count = pages.sheets.len();
    let header = header(request, (start, end), setter);
    for (number, page) in pages.sheets.iter_mut().enumerate() {
        if number > 0 {
            for line in header.clone() {
                page.push(text(line, HEADER_Y, Meaning::Header));
            }
            page.push(Item {
                x: MARGIN,
                y: HEADER_Y + 15.0,
                shape: Shape::Box {
                    width: WIDTH,
                    height: 0.5,
                    radius: 0.0,
                    ink: Ink::RULE,
                },
                meaning: Meaning::Header,
            });
        }
        let numbered = format!("{} / {count}", number + 1);
        let numbered = setter.one_line(&numbered, SMALL, WIDTH, end);
        for line in made.clone().into_iter().chain(numbered) {
            page.push(text(line, FOOTER_Y, Meaning::Footer));
        }
    }
}

fn header(
    request: &ReportRequest,
    (start, end): (Alignment, Alignment),
    setter: &mut Setter,
) -> Vec<TextLine> {
    let reference = one_line(&request.reference);
    let reference_width = setter.shape(&reference, SMALL).natural_width();
    let reference_width = reference_width.min(REFERENCE_WIDTH) + 1.0;
    let title_width = WIDTH - reference_width - 20.0;
    let mut lines = Vec::new();
    // Both are aligned in the whole width, and short enough not to meet.
    for (text, width, align) in [
        (one_line(&request.title), title_width, start),
        (reference, reference_width, end),
    ] {
        let text = setter.fitting(&text, SMALL, width);
        lines.extend(setter.one_line(&text, SMALL, WIDTH, align));
    }
    lines
}

fn text(line: TextLine, y: f32, meaning: Meaning) -> Item {
    Item {
        x: MARGIN,
        y: y + line.baseline,
        shape: Shape::Text {
            line,
            ink: Ink::MUTED,
        },
        meaning,
    }
}
