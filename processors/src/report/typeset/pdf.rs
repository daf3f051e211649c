//! Pages to a PDF that claims PDF/A-2a (ISO 19005-2, with structure) and PDF/UA-1
//! (ISO 14289-1): krilla writes it, and refuses to where it does not conform.
//!
//! Invariant: the same pages give the same bytes.

use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroU16,
};

use krilla::{
    Document, SerializeSettings,
    color::rgb,
    configure::{Accessibility, Archival, ConfigurationBuilder},
    destination::XyzDestination,
    error::KrillaError,
    geom::{Path, PathBuilder, Point, Rect, Size, Transform},
    image::Image,
    metadata::{DateTime, Metadata, TextDirection},
    num::NormalizedF32,
    outline::{Outline, OutlineNode},
    page::PageSettings,
    paint::{Fill, Stroke},
    surface::Surface,
    tagging::{
        Artifact, ArtifactType, ContentTag, Identifier, Node, SpanTag, TableHeaderScope, Tag,
        TagGroup, TagKind, TagTree,
    },
    text::{Font, Tag as AxisTag},
};
use time::OffsetDateTime;

use super::{
    body::is_right_to_left,
    page::{Ink, Item, Meaning, NodeId, PAGE_HEIGHT, PAGE_WIDTH, Pages, Role, Shape, Structure},
    text::{GlyphRun, TextLine},
};

/// Control points of a quarter circle, in radii from the corner.
const CIRCLE: f32 = 0.447_715;

/// What a reader shows about the document.
pub(super) struct About<'a> {
    pub(super) title: String,
    pub(super) author: &'a str,
    pub(super) language: &'a str,
    pub(super) created: OffsetDateTime,
}

/// Why there is no PDF.
#[derive(Debug, thiserror::Error)]
pub(super) enum PdfError {
    /// krilla refused it.
    #[error("the PDF does not conform: {0}")]
    Krilla(KrillaError),
    /// A font of the system cannot be embedded.
    #[error("a font cannot be read")]
    Font,
    /// A colour or size that PDF cannot express: a bug of the layout.
    #[error("page {0} has a shape that PDF cannot express")]
    Shape(usize),
}

/// Writes the pages. `pictures` are those that the shapes number.
pub(super) fn write(
    pages: &Pages,
    pictures: &[Image],
    about: &About<'_>,
) -> Result<Vec<u8>, PdfError> {
    let configuration = ConfigurationBuilder::new()
        .with_archival_validator(Archival::A2_A)
        .with_accessibility_validator(Accessibility::UA1)
        .finish()
        .map_err(|_| PdfError::Shape(0))?;
    let mut document = Document::new_with(SerializeSettings {
        configuration,
        ..SerializeSettings::default()
    });
    let mut painter = Painter {
        fonts: HashMap::new(),
        pictures,
        leaves: pages.structure.nodes.iter().map(|_| Vec::new()).collect(),
    };
    for (number, items) in pages.sheets.iter().enumerate() {
        let size = PageSettings::from_wh(PAGE_WIDTH, PAGE_HEIGHT);
        let mut page = document.start_page_with(size.ok_or(PdfError::Shape(number))?);
        let mut surface = page.surface();
        for item in items {
            painter
                .item(&mut surface, item)
                .ok_or(PdfError::Shape(number))??;
        }
        surface.finish();
        page.finish();
    }
    document.set_tag_tree(painter.tag_tree(&pages.structure, about.language));
    document.set_outline(outline(pages));
    document.set_metadata(metadata(about));
    document.finish().map_err(PdfError::Krilla)
}

struct Painter<'a> {
    /// By the font's data, its index in it, and its axes.
    fonts: HashMap<FontKey, Font>,
    pictures: &'a [Image],
    /// What was painted for each node.
    leaves: Vec<Vec<Identifier>>,
}

#[derive(PartialEq, Eq, Hash)]
struct FontKey {
    data: u64,
    index: u32,
    axes: Vec<([u8; 4], u32)>,
}

impl Painter<'_> {
    /// `None` for a shape that PDF cannot express.
    fn item(&mut self, surface: &mut Surface<'_>, item: &Item) -> Option<Result<(), PdfError>> {
        let artifact = |kind| ContentTag::Artifact(Artifact::with_kind(kind));
        let tag = match (item.meaning, &item.shape) {
            (Meaning::Content(_), Shape::Text { .. }) => ContentTag::Span(SpanTag::empty()),
            (Meaning::Content(_), _) => ContentTag::Other,
            (Meaning::Artifact, _) => artifact(ArtifactType::Layout),
            (Meaning::Header, _) => artifact(ArtifactType::Header),
            (Meaning::Footer, _) => artifact(ArtifactType::Footer),
        };
        let identifier = surface.start_tagged(tag);
        let painted = self.shape(surface, item);
        surface.end_tagged();
        if let Meaning::Content(node) = item.meaning {
            self.leaves[node.0].push(identifier);
        }
        painted
    }

    fn shape(&mut self, surface: &mut Surface<'_>, item: &Item) -> Option<Result<(), PdfError>> {
        let (x, y) = (item.x, item.y);
        match &item.shape {
            Shape::Text { line, ink } => return Some(self.text(surface, (x, y), line, *ink)),
            Shape::Box {
                width,
                height,
                radius,
                ink,
            } => {
                surface.set_stroke(None);
                surface.set_fill(Some(fill(*ink)));
                let bounds = Rect::from_xywh(x, y, *width, *height)?;
                surface.draw_path(&rounded(bounds, *radius)?);
            }
            Shape::Picture {
                number,
                width,
                height,
            } => {
                let picture = self.pictures.get(*number)?.clone();
                surface.push_transform(&Transform::from_translate(x, y));
                surface.draw_image(picture, Size::from_wh(*width, *height)?);
                surface.pop();
                surface.set_fill(None);
                surface.set_stroke(Some(stroke(Ink::RULE, 0.5)));
                let bounds = Rect::from_xywh(x, y, *width, *height)?;
                surface.draw_path(&rounded(bounds, 0.0)?);
            }
        }
        Some(Ok(()))
    }

    fn text(
        &mut self,
        surface: &mut Surface<'_>,
        (x, y): (f32, f32),
        line: &TextLine,
        ink: Ink,
    ) -> Result<(), PdfError> {
        surface.set_fill(Some(fill(ink)));
        for run in line.runs.iter().filter(|run| !run.glyphs.is_empty()) {
            let thickness = run.size / 36.0;
            surface.set_stroke(run.embolden.then(|| stroke(ink, thickness)));
            let font = self.font(run)?;
            let start = Point::from_xy(x + run.x, y);
            surface.draw_glyphs(start, &run.glyphs, font, &line.text, run.size, false);
        }
        Ok(())
    }

    fn font(&mut self, run: &GlyphRun) -> Result<Font, PdfError> {
        let axes = run.axes.iter();
        let key = FontKey {
            data: run.font.data.id(),
            index: run.font.index,
            axes: axes.map(|(tag, value)| (*tag, value.to_bits())).collect(),
        };
        match self.fonts.entry(key) {
            Entry::Occupied(font) => Ok(font.get().clone()),
            Entry::Vacant(place) => {
                let (data, _) = run.font.data.clone().into_raw_parts();
                let axes = run.axes.iter();
                let axes: Vec<_> = axes.map(|(tag, at)| (AxisTag::new(tag), *at)).collect();
                let font = Font::new_variable(data.into(), run.font.index, &axes);
                Ok(place.insert(font.ok_or(PdfError::Font)?).clone())
            }
        }
    }

    fn tag_tree(&mut self, structure: &Structure, language: &str) -> TagTree {
        let mut tree = TagTree::new().with_lang(Some(language.to_owned()));
        tree.push(self.group(structure, Structure::DOCUMENT));
        tree
    }

    fn group(&mut self, structure: &Structure, id: NodeId) -> TagGroup {
        let mut group = TagGroup::new(tag(&structure.nodes[id.0].role));
        for leaf in std::mem::take(&mut self.leaves[id.0]) {
            group.push(leaf);
        }
        for child in &structure.nodes[id.0].children {
            let child = self.group(structure, *child);
            group.push(Node::Group(child));
        }
        group
    }
}

fn tag(role: &Role) -> TagKind {
    match role {
        Role::Document => Tag::Section.into(),
        Role::Title => Tag::Title.into(),
        Role::Heading(text) => Tag::Hn(NonZeroU16::MIN, Some(text.clone())).into(),
        Role::Paragraph => Tag::P.into(),
        Role::Table => Tag::Table.into(),
        Role::TableHead => Tag::THead.into(),
        Role::TableBody => Tag::TBody.into(),
        Role::Row => Tag::TR.into(),
        Role::ColumnHeader => Tag::TH(TableHeaderScope::Column).into(),
        Role::RowHeader => Tag::TH(TableHeaderScope::Row).into(),
        Role::Cell => Tag::TD.into(),
        Role::Figure(alternative) => Tag::Figure(Some(alternative.clone())).into(),
        Role::Caption => Tag::Caption.into(),
    }
}

fn outline(pages: &Pages) -> Outline {
    let mut outline = Outline::new();
    for bookmark in &pages.outline {
        let at = XyzDestination::new(bookmark.page, Point::from_xy(0.0, bookmark.y));
        outline.push_child(OutlineNode::new(bookmark.text.clone(), at));
    }
    outline
}

fn metadata(about: &About<'_>) -> Metadata {
    let at = about.created;
    let created = DateTime::new(u16::try_from(at.year()).unwrap_or(1970))
        .month(at.month().into())
        .day(at.day())
        .hour(at.hour())
        .minute(at.minute())
        .second(at.second())
        .utc_offset_hour(0)
        .utc_offset_minute(0);
    let direction = if is_right_to_left(about.language) {
        TextDirection::RightToLeft
    } else {
        TextDirection::LeftToRight
    };
    let metadata = Metadata::new()
        .title(about.title.clone())
        .language(about.language.to_owned())
        .creator("Belfry".to_owned())
        .creation_date(created)
        .text_direction(direction);
    if about.author.is_empty() {
        metadata
    } else {
        metadata.authors(vec![about.author.to_owned()])
    }
}

fn colour(Ink([red, green, blue]): Ink) -> rgb::Color {
    rgb::Color::new(red, green, blue)
}

fn fill(ink: Ink) -> Fill {
    Fill {
        paint: colour(ink).into(),
        ..Fill::default()
    }
}

fn stroke(ink: Ink, width: f32) -> Stroke {
    Stroke {
        paint: colour(ink).into(),
        width,
        opacity: NormalizedF32::ONE,
        ..Stroke::default()
    }
}

fn rounded(bounds: Rect, radius: f32) -> Option<Path> {
    let mut path = PathBuilder::new();
    if radius <= 0.0 {
        path.push_rect(bounds);
        return path.finish();
    }
    let (left, top, right, bottom) = (bounds.left(), bounds.top(), bounds.right(), bounds.bottom());
    let (far, near) = (radius, radius * CIRCLE);
    path.move_to(left + far, top);
    path.line_to(right - far, top);
    path.cubic_to(right - near, top, right, top + near, right, top + far);
    path.line_to(right, bottom - far);
    path.cubic_to(
        right,
        bottom - near,
        right - near,
        bottom,
        right - far,
        bottom,
    );
    path.line_to(left + far, bottom);
    path.cubic_to(left + near, bottom, left, bottom - near, left, bottom - far);
    path.line_to(left, top + far);
    path.cubic_to(left, top + near, left + near, top, left + far, top);
    path.close();
    path.finish()
}
