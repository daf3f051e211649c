//! What a laid-out report consists of: pages with painted items, and the structure
//! that screen readers follow. Plain data; lengths are PDF points from the top left.
//!
//! Invariant: every item is either a leaf of the structure or an artifact.

use super::text::TextLine;

pub(super) const PAGE_WIDTH: f32 = 595.28;
pub(super) const PAGE_HEIGHT: f32 = 841.89;
/// 22 mm.
pub(super) const MARGIN: f32 = 62.36;
pub(super) const TOP: f32 = 68.0;
pub(super) const BOTTOM: f32 = 64.0;
pub(super) const WIDTH: f32 = PAGE_WIDTH - 2.0 * MARGIN;
pub(super) const BODY_HEIGHT: f32 = PAGE_HEIGHT - TOP - BOTTOM;

/// A colour, as sRGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ink(pub(super) [u8; 3]);

impl Ink {
    pub(super) const TEXT: Self = Self([0x1b, 0x24, 0x30]);
    pub(super) const MUTED: Self = Self([0x56, 0x61, 0x70]);
    pub(super) const RULE: Self = Self([0xd3, 0xd9, 0xe0]);
    pub(super) const PANEL: Self = Self([0xf4, 0xf6, 0xf8]);
    pub(super) const WHITE: Self = Self([0xff, 0xff, 0xff]);
}

/// A laid-out report.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// What is painted on each page.
    pub(super) sheets: Vec<Vec<Item>>,
    pub(super) structure: Structure,
    /// Entries of the outline.
    pub(super) outline: Vec<Bookmark>,
}

/// Something on a page.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) shape: Shape,
    pub(super) meaning: Meaning,
}

/// What is painted.
#[derive(Debug)]
pub(super) enum Shape {
    /// A line of text; `y` of its item is the baseline.
    Text { line: TextLine, ink: Ink },
    /// A filled rectangle.
    Box {
        width: f32,
        height: f32,
        radius: f32,
        ink: Ink,
    },
    /// The picture of this number, with a thin border.
    Picture {
        number: usize,
        width: f32,
        height: f32,
    },
}

/// What an item is to a screen reader.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning {
    Content(NodeId),
    /// Decoration, or a repetition.
    Artifact,
    /// Running header and footer.
    Header,
    Footer,
}

/// A heading in the outline.
#[derive(Debug)]
pub(super) struct Bookmark {
    pub(super) text: String,
    pub(super) page: usize,
    pub(super) y: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(pub(super) usize);

/// The role of a node, named as in PDF.
#[derive(Debug, Clone)]
pub(super) enum Role {
    Document,
    Title,
    Heading(String),
    Paragraph,
    Table,
    TableHead,
    TableBody,
    Row,
    ColumnHeader,
    RowHeader,
    Cell,
    /// With its alternative text.
    Figure(String),
    Caption,
}

/// The tree of nodes; node 0 is the document.
#[derive(Debug)]
pub(super) struct Structure {
    pub(super) nodes: Vec<Node>,
}

/// A node with its child nodes. Its leaves are the items that name it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) role: Role,
    pub(super) children: Vec<NodeId>,
}

impl Default for Structure {
    fn default() -> Self {
        let document = Node {
            role: Role::Document,
            children: Vec::new(),
        };
        Self {
            nodes: vec![document],
        }
    }
}

impl Structure {
    pub(super) const DOCUMENT: NodeId = NodeId(0);

    pub(super) fn add(&mut self, parent: NodeId, role: Role) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node {
            role,
            children: Vec::new(),
        });
        self.nodes[parent.0].children.push(id);
        id
    }
}
