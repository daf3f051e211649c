//! The flow of lines, rows and pictures down the pages.
//!
//! Invariants: nothing is placed below the body of a page; every step makes progress,
//! because a line is lower than a page; a table's header is at the top of each page
//! that the table continues on.

use super::{
    page::{
        BODY_HEIGHT, Bookmark, Ink, Item, MARGIN, Meaning, NodeId, PAGE_WIDTH, Pages, Shape,
        Structure, TOP, WIDTH,
    },
    text::TextLine,
};

/// A row that fits on the next page moves there if it is not higher than this.
const ROW_KEPT_TOGETHER: f32 = BODY_HEIGHT / 3.0;

/// A column: `x` from the start edge of the body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) x: f32,
    pub(super) width: f32,
}

/// The whole width of the body.
pub(super) const BODY: Column = Column {
    x: 0.0,
    width: WIDTH,
};

#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) column: Column,
    pub(super) lines: Vec<CellLine>,
}

#[derive(Debug, Clone)]
pub(super) struct CellLine {
    pub(super) line: TextLine,
    pub(super) ink: Ink,
    pub(super) meaning: Meaning,
}

/// What is behind and below the cells of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowLook {
    pub(super) background: Option<Ink>,
    /// Above and below the lines, points.
    pub(super) padding: f32,
    /// The line below.
    pub(super) rule: Option<Rule>,
}

/// A horizontal line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) thickness: f32,
    pub(super) ink: Ink,
}

/// The pages so far, and where the next thing goes.
pub(super) struct Flow {
    pub(super) pages: Pages,
    /// From the top of the body.
    y: f32,
    /// Columns begin at the right.
    mirrored: bool,
    /// Repeated at the top of each new page.
    table_header: Option<(Vec<Cell>, RowLook)>,
}

impl Flow {
    pub(super) fn new(mirrored: bool) -> Self {
        let mut flow = Self {
            pages: Pages::default(),
            y: 0.0,
            mirrored,
            table_header: None,
        };
        flow.pages.sheets.push(Vec::new());
        flow
    }

    pub(super) fn structure(&mut self) -> &mut Structure {
        &mut self.pages.structure
    }

    /// Leaves space, unless at the top of a page.
    pub(super) fn space(&mut self, height: f32) {
        if self.y > 0.0 {
            self.y += height;
        }
    }

    /// Moves down, or up if negative, on this page.
    pub(super) fn skip(&mut self, height: f32) {
        self.y += height;
    }

    /// Goes to the next page if less than `height` is left on this one.
    pub(super) fn need(&mut self, height: f32) {
        if self.room() < height && self.y > 0.0 {
            self.new_page();
        }
    }

    /// Places lines below each other.
    pub(super) fn lines(&mut self, lines: Vec<TextLine>, ink: Ink, node: NodeId) {
        for line in lines {
            self.need(line.height);
            let height = line.height;
            self.text(BODY, line, ink, Meaning::Content(node));
            self.y += height;
        }
    }

    /// Places a heading together with `next` points of what follows, and adds it to the
    /// outline.
    pub(super) fn heading(&mut self, line: TextLine, ink: Ink, node: NodeId, next: f32) {
        self.need(line.height + next);
        self.pages.outline.push(Bookmark {
            text: line.text.to_string(),
            page: self.pages.sheets.len() - 1,
            y: TOP + self.y,
        });
        self.lines(vec![line], ink, node);
    }

    /// Paints a filled box at the current height without moving on.
    pub(super) fn decoration(&mut self, column: Column, height: f32, radius: f32, ink: Ink) {
        let item = Shape::Box {
            width: column.width,
            height,
            radius,
            ink,
        };
        self.paint(column, 0.0, item, Meaning::Artifact);
    }

    /// Paints a line of text at the current height without moving on.
    pub(super) fn text(&mut self, column: Column, line: TextLine, ink: Ink, meaning: Meaning) {
        let baseline = line.baseline;
        self.paint(column, baseline, Shape::Text { line, ink }, meaning);
    }

    pub(super) fn picture(&mut self, number: usize, (width, height): (f32, f32), node: NodeId) {
        let column = Column { x: 0.0, width };
        let shape = Shape::Picture {
            number,
            width,
            height,
        };
        self.paint(column, 0.0, shape, Meaning::Content(node));
        self.y += height;
    }

    /// Places the header of a table and repeats it until [`Flow::end_table`].
    pub(super) fn begin_table(&mut self, header: Vec<Cell>, look: RowLook) {
        let mut repeated = header.clone();
        for line in repeated.iter_mut().flat_map(|cell| &mut cell.lines) {
            line.meaning = Meaning::Artifact;
        }
        self.row(header, look);
        self.table_header = Some((repeated, look));
    }

    pub(super) fn end_table(&mut self) {
        self.table_header = None;
    }

    /// Places a row. One that does not fit goes on at the top of the next page: whole if
    /// it is low, else broken between lines.
    pub(super) fn row(&mut self, mut cells: Vec<Cell>, look: RowLook) {
        loop {
            let height = cells.iter().map(Cell::height).fold(0.0, f32::max) + 2.0 * look.padding;
            if height > self.room() && height <= ROW_KEPT_TOGETHER {
                self.need(height);
            }
            let room = self.room() - 2.0 * look.padding;
            let first = cells.iter().filter_map(|cell| cell.lines.first());
            let first = first.map(|first| first.line.height).fold(0.0, f32::max);
            if first > room {
                self.need(BODY_HEIGHT);
                continue;
            }
            let fitting: Vec<Cell> = cells.iter_mut().map(|cell| cell.take(room)).collect();
            self.place_row(fitting, look);
            if cells.iter().all(|cell| cell.lines.is_empty()) {
                return;
            }
            self.new_page();
        }
    }

    fn place_row(&mut self, cells: Vec<Cell>, look: RowLook) {
        let height = cells.iter().map(Cell::height).fold(0.0, f32::max) + 2.0 * look.padding;
        if let Some(ink) = look.background {
            self.decoration(BODY, height, 0.0, ink);
        }
        let top = self.y;
        for cell in cells {
            self.y = top + look.padding;
            for CellLine { line, ink, meaning } in cell.lines {
                let height = line.height;
                self.text(cell.column, line, ink, meaning);
                self.y += height;
            }
        }
        self.y = top + height;
        if let Some(rule) = look.rule {
            self.decoration(BODY, rule.thickness, 0.0, rule.ink);
        }
    }

    fn room(&self) -> f32 {
        BODY_HEIGHT - self.y
    }

    fn new_page(&mut self) {
        self.pages.sheets.push(Vec::new());
        self.y = 0.0;
        if let Some((header, look)) = self.table_header.clone() {
            self.place_row(header, look);
        }
    }

    fn paint(&mut self, column: Column, down: f32, shape: Shape, meaning: Meaning) {
        let x = if self.mirrored {
            PAGE_WIDTH - MARGIN - column.x - column.width
        } else {
            MARGIN + column.x
        };
        let y = TOP + self.y + down;
        if let Some(page) = self.pages.sheets.last_mut() {
            page.push(Item {
                x,
                y,
                shape,
                meaning,
            });
        }
    }
}

impl Cell {
    fn height(&self) -> f32 {
        self.lines.iter().map(|line| line.line.height).sum()
    }

    /// Takes as many lines as fit into `room`.
    fn take(&mut self, room: f32) -> Self {
        let mut height = 0.0;
        let fits = self.lines.iter().take_while(|line| {
            height += line.line.height;
            height <= room
        });
        let count = fits.count();
        let rest = self.lines.split_off(count);
        Self {
            lines: std::mem::replace(&mut self.lines, rest),
            ..*self
        }
    }
}
