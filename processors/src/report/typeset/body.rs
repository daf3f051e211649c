//! What stands on the pages of an incident report, from top to bottom.
//!
//! Invariant: the text of a request is set as it is, never read as markup. The texts
//! that the report adds (`Summary`, `Pictures`) are English in every report.

use parley::Alignment;

use super::{
    flow::{BODY, Cell, CellLine, Column, Flow, RowLook, Rule},
    page::{BODY_HEIGHT, Ink, Meaning, NodeId, Pages, Role, Structure, WIDTH},
    text::{Setter, Style, TextLine},
};
use crate::report::request::{ReportRequest, Row, Severity, readable_time};

const TITLE: Style = style(21.0, true, 1.25);
const HEADING: Style = style(13.0, true, 1.3);
const TEXT: Style = style(10.0, false, 1.45);
const CELL: Style = style(9.5, false, 1.4);
const LABEL: Style = style(8.5, false, 1.4);
const BADGE: Style = style(8.5, true, 1.2);

/// Points between two columns.
const GAP: f32 = 12.0;
/// Least and largest width of the table's first and last column; what is longer breaks
/// into lines.
const NARROW: (f32, f32) = (34.0, 112.0);
/// Dots of a picture per inch of paper, unless the page is too small for it.
const PICTURE_DPI: f32 = 110.0;
/// Points of a section that stay on the page of its heading.
const AFTER_HEADING: f32 = 40.0;

pub(super) const fn style(size: f32, bold: bool, leading: f32) -> Style {
    Style {
        size,
        bold,
        leading,
    }
}

/// Composes one report.
struct Composer<'a> {
    setter: &'a mut Setter,
    flow: Flow,
    tone: Ink,
    /// How texts of our own are aligned.
    start: Alignment,
}

/// The body of a report. `sizes` are the pixels of its pictures.
pub(super) fn compose(request: &ReportRequest, sizes: &[(u32, u32)], setter: &mut Setter) -> Pages {
    let mirrored = is_right_to_left(&request.language);
    let mut composer = Composer {
        setter,
        flow: Flow::new(mirrored),
        tone: tone(request.severity),
        start: start_of(&request.language),
    };
    composer.head(request);
    composer.fields(request);
    composer.section("Summary", &request.summary);
    composer.table(&request.rows);
    composer.pictures(request, sizes);
    composer.section("What follows", &request.closing);
    composer.note();
    composer.flow.pages
}

impl Composer<'_> {
    fn add(&mut self, parent: NodeId, role: Role) -> NodeId {
        self.flow.structure().add(parent, role)
    }

    fn own(&mut self, text: &str, style: Style) -> Option<TextLine> {
        self.setter.one_line(text, style, WIDTH, self.start)
    }

    fn head(&mut self, request: &ReportRequest) {
        self.flow.decoration(BODY, 3.0, 0.0, self.tone);
        self.flow.skip(15.0);
        let node = self.add(Structure::DOCUMENT, Role::Paragraph);
        if let Some(kind) = self.own("INCIDENT REPORT", LABEL) {
            self.flow
                .text(BODY, kind, Ink::MUTED, Meaning::Content(node));
        }
        let severity = format!("{:?}", request.severity).to_uppercase();
        let badge = self
            .setter
            .one_line(&severity, BADGE, WIDTH, Alignment::Left);
        if let Some(badge) = badge {
            let node = self.add(Structure::DOCUMENT, Role::Paragraph);
            let (width, height) = (badge.right, badge.height);
            let pill = Column {
                x: WIDTH - width - 14.0,
                width: width + 14.0,
            };
            let inside = Column {
                x: pill.x + 7.0,
                width,
            };
            self.flow.skip(-4.0);
            self.flow.decoration(pill, height + 8.0, 2.5, self.tone);
            self.flow.skip(4.0);
            self.flow
                .text(inside, badge, Ink::WHITE, Meaning::Content(node));
        }
        self.flow.skip(26.0);
        let node = self.add(Structure::DOCUMENT, Role::Title);
        let title = one_line(&request.title);
        let title = self.setter.lines(&title, TITLE, WIDTH, Alignment::Start);
        self.flow.lines(title, Ink::TEXT, node);
        self.flow.skip(12.0);
    }

    fn fields(&mut self, request: &ReportRequest) {
        let occurred = readable_time(&request.occurred_at);
        let occurred = occurred.as_deref().unwrap_or(&request.occurred_at);
        let rows = [
            [("Reference", &*request.reference), ("Occurred", occurred)],
            [
                ("Reported by", &*request.reporter),
                ("Location", &*request.location),
            ],
        ];
        let table = self.add(Structure::DOCUMENT, Role::Table);
        let width = (WIDTH - 3.0 * GAP) / 2.0;
        let look = RowLook {
            background: Some(Ink::PANEL),
            padding: 7.0,
            rule: None,
        };
        for row in rows {
            let node = self.add(table, Role::Row);
            let mut cells = Vec::new();
            for (number, (label, value)) in row.into_iter().enumerate() {
                let column = Column {
                    x: GAP + (width + GAP) * number as f32,
                    width,
                };
                let header = self.add(node, Role::RowHeader);
                let label = self.setter.lines(label, LABEL, width, self.start);
                let mut lines = cell_lines(label, Ink::MUTED, header);
                let cell = self.add(node, Role::Cell);
                let align = self.start;
                lines.extend(self.value((value, "not given"), column, align, cell));
                cells.push(Cell { column, lines });
            }
            self.flow.row(cells, look);
        }
    }

    /// The lines of a field or cell: its text, or the other one if it is empty.
    fn value(
        &mut self,
        (text, empty): (&str, &str),
        column: Column,
        align: Alignment,
        node: NodeId,
    ) -> Vec<CellLine> {
        let text = text.trim();
        let (text, align, ink) = if text.is_empty() {
            (empty, self.start, Ink::MUTED)
        } else {
            (text, align, Ink::TEXT)
        };
        let lines = self.setter.lines(text, CELL, column.width, align);
        cell_lines(lines, ink, node)
    }

    fn heading(&mut self, text: &str, next: f32) {
        let node = self.add(Structure::DOCUMENT, Role::Heading(text.to_owned()));
        if let Some(line) = self.own(text, HEADING) {
            self.flow.space(20.0);
            self.flow.heading(line, self.tone, node, next);
            self.flow.skip(5.0);
        }
    }

    fn section(&mut self, heading: &str, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        self.heading(heading, AFTER_HEADING);
        for (number, paragraph) in paragraphs(text).enumerate() {
            if number > 0 {
                self.flow.space(7.0);
            }
            let node = self.add(Structure::DOCUMENT, Role::Paragraph);
            let lines = self.setter.lines(&paragraph, TEXT, WIDTH, Alignment::Start);
            self.flow.lines(lines, Ink::TEXT, node);
        }
    }

    fn table(&mut self, rows: &[Row]) {
        if rows.is_empty() {
            return;
        }
        self.heading("What happened when", AFTER_HEADING);
        let times: Vec<String> = rows.iter().map(|row| time_of(&row.time)).collect();
        let columns = self.columns(rows, &times);
        let table = self.add(Structure::DOCUMENT, Role::Table);
        self.table_header(&columns, table);
        let body = self.add(table, Role::TableBody);
        let look = RowLook {
            background: None,
            padding: 4.5,
            rule: Some(Rule {
                thickness: 0.5,
                ink: Ink::RULE,
            }),
        };
        for (row, time) in rows.iter().zip(&times) {
            let node = self.add(body, Role::Row);
            let who = one_line(&row.who);
            let mut cells = Vec::new();
            let narrow = self.start;
            let texts = [
                (time, narrow),
                (&row.what, Alignment::Start),
                (&who, narrow),
            ];
            for ((text, align), column) in texts.into_iter().zip(columns) {
                let cell = self.add(node, Role::Cell);
                let lines = self.value((text, "–"), column, align, cell);
                cells.push(Cell { column, lines });
            }
            self.flow.row(cells, look);
        }
        self.flow.end_table();
    }

    fn table_header(&mut self, columns: &[Column; 3], table: NodeId) {
        let head = self.add(table, Role::TableHead);
        let row = self.add(head, Role::Row);
        let mut cells = Vec::new();
        for (label, column) in ["Time", "What happened", "Who"].into_iter().zip(*columns) {
            let node = self.add(row, Role::ColumnHeader);
            let lines = self.setter.lines(label, LABEL, column.width, self.start);
            let lines = cell_lines(lines, Ink::MUTED, node);
            cells.push(Cell { column, lines });
        }
        let look = RowLook {
            background: None,
            padding: 4.0,
            rule: Some(Rule {
                thickness: 1.0,
                ink: self.tone,
            }),
        };
        self.flow.begin_table(cells, look);
    }

    /// The narrow columns are as wide as their longest text; the middle one gets the
    /// rest.
    fn columns(&mut self, rows: &[Row], times: &[String]) -> [Column; 3] {
        let mut widest = |texts: &mut dyn Iterator<Item = &str>| {
            let widths = texts.map(|text| self.setter.shape(text.trim(), CELL).natural_width());
            // One more point, for what rounding takes.
            widths.fold(NARROW.0, f32::max).min(NARROW.1) + 1.0
        };
        let time = widest(&mut times.iter().map(String::as_str));
        let who = widest(&mut rows.iter().map(|row| &*row.who));
        let what = WIDTH - time - who - 2.0 * GAP;
        let mut x = 0.0;
        [time, what, who].map(|width| {
            let column = Column { x, width };
            x += width + GAP;
            column
        })
    }

    fn pictures(&mut self, request: &ReportRequest, sizes: &[(u32, u32)]) {
        let heading_height = HEADING.size * HEADING.leading + 5.0;
        for (number, (image, size)) in request.images.iter().zip(sizes).enumerate() {
            let text = one_line(&image.caption);
            let name = format!("Picture {}", number + 1);
            let (alternative, caption) = if text.is_empty() {
                (name.clone(), name)
            } else {
                (text.clone(), format!("{name}: {text}"))
            };
            let caption = self.setter.lines(&caption, LABEL, WIDTH, Alignment::Start);
            let below: f32 = 6.0 + caption.iter().map(|line| line.height).sum::<f32>();
            let above = if number == 0 { heading_height } else { 0.0 };
            // At least a third of a page, however long the caption is.
            let room = (BODY_HEIGHT - above - below).max(BODY_HEIGHT / 3.0);
            let size = on_paper(*size, room);
            if number == 0 {
                self.heading("Pictures", size.1 + below + 5.0);
            } else {
                self.flow.space(16.0);
                self.flow.need(size.1 + below);
            }
            let figure = self.add(Structure::DOCUMENT, Role::Figure(alternative));
            self.flow.picture(number, size, figure);
            self.flow.skip(6.0);
            let node = self.add(figure, Role::Caption);
            self.flow.lines(caption, Ink::MUTED, node);
        }
    }

    /// Explains the notation of characters without a glyph.
    fn note(&mut self) {
        if !self.setter.has_spelled {
            return;
        }
        let text = "Characters that cannot be printed are written as their Unicode numbers, \
                    as in [U+0041].";
        self.flow.space(14.0);
        let node = self.add(Structure::DOCUMENT, Role::Paragraph);
        let lines = self.setter.lines(text, LABEL, WIDTH, self.start);
        self.flow.lines(lines, Ink::MUTED, node);
    }
}

/// How texts that have no direction of their own are aligned.
pub(super) fn start_of(language: &str) -> Alignment {
    if is_right_to_left(language) {
        Alignment::Right
    } else {
        Alignment::Left
    }
}

pub(super) fn is_right_to_left(language: &str) -> bool {
    const CODES: [&str; 14] = [
        "ar", "ara", "fa", "fas", "he", "heb", "ur", "urd", "yi", "yid", "ps", "pus", "ckb", "dv",
    ];
    CODES.contains(&language)
}

fn tone(severity: Severity) -> Ink {
    Ink(match severity {
        Severity::Low => [0x2d, 0x6a, 0x4f],
        Severity::Medium => [0x8a, 0x5a, 0x00],
        Severity::High => [0xb3, 0x40, 0x1a],
        Severity::Critical => [0x8c, 0x10, 0x34],
    })
}

/// A timestamp as people read it, other text as it is.
fn time_of(text: &str) -> String {
    readable_time(text.trim()).unwrap_or_else(|| one_line(text))
}

/// White space, line ends included, as single spaces.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Paragraphs are separated by empty lines; single line ends stay.
fn paragraphs(text: &str) -> impl Iterator<Item = String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut paragraphs = vec![String::new()];
    for line in text.trim().lines() {
        let last = paragraphs.len() - 1;
        if line.trim().is_empty() {
            if !paragraphs[last].is_empty() {
                paragraphs.push(String::new());
            }
            continue;
        }
        if !paragraphs[last].is_empty() {
            paragraphs[last].push('\n');
        }
        paragraphs[last].push_str(line);
    }
    paragraphs.into_iter()
}

fn cell_lines(lines: Vec<TextLine>, ink: Ink, node: NodeId) -> Vec<CellLine> {
    let meaning = Meaning::Content(node);
    let lines = lines.into_iter();
    lines.map(|line| CellLine { line, ink, meaning }).collect()
}

/// The size of a picture in points: its own at [`PICTURE_DPI`], or what fits.
fn on_paper(pixels: (u32, u32), room: f32) -> (f32, f32) {
    let natural = |pixels: u32| pixels.max(1) as f32 * 72.0 / PICTURE_DPI;
    let (width, height) = (natural(pixels.0), natural(pixels.1));
    let scale = (WIDTH / width).min(room / height).min(1.0);
    (width * scale, height * scale)
}
