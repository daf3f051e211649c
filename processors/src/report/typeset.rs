//! From what is asked to the bytes of a PDF. Pure computation: call it on a thread
//! that may block.
//!
//! What always holds: what a writer says is data of the page, never markup of it;
//! nothing is read but what is handed in; the same input gives the same bytes.

use std::sync::LazyLock;

use serde_json::json;
use typst::{
    Library, LibraryExt, World,
    diag::{FileError, FileResult, SourceDiagnostic},
    foundations::{Bytes, Datetime, Duration, Smart},
    syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot},
    text::{Font, FontBook},
    utils::LazyHash,
};
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards, Timestamp};

use super::{
    asked::{Asked, occurred},
    fonts::Fonts,
};

const PAGE: &str = include_str!("report.typ");
const DATA: &str = "report.json";
const PICTURES: &str = "pictures/";

static PAGE_ID: LazyLock<FileId> = LazyLock::new(|| {
    let path = VirtualPath::new("/report.typ").expect("a path of our own");
    RootedPath::new(VirtualRoot::Project, path).intern()
});
static LIBRARY: LazyLock<LazyHash<Library>> =
    LazyLock::new(|| LazyHash::new(<Library as LibraryExt>::default()));

/// A report on paper.
#[derive(Debug)]
pub(crate) struct Pdf {
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// How many pages it has.
    pub(crate) pages: u32,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TypesetError {
    /// Nobody waits for it any more.
    #[error("the report was called off")]
    Off,
    /// The template or the typesetter is at fault.
    #[error("the report could not be {step}: {said}")]
    Fault {
        /// What was being done.
        step: &'static str,
        /// The typesetter's words.
        said: String,
    },
}

/// When a report was asked for: civil time, UTC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    /// Year, month, day.
    pub(crate) date: (i32, u8, u8),
    /// Hour, minute, second.
    pub(crate) time: (u8, u8, u8),
}

/// Everything that the typesetter can see.
struct Paper<'a> {
    fonts: &'a Fonts,
    page: Source,
    data: Bytes,
    pictures: Vec<Bytes>,
}

impl World for Paper<'_> {
    fn library(&self) -> &LazyHash<Library> {
        &LIBRARY
    }

    fn book(&self) -> &LazyHash<FontBook> {
        self.fonts.book()
    }

    fn main(&self) -> FileId {
        *PAGE_ID
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == *PAGE_ID {
            return Ok(self.page.clone());
        }
        Err(FileError::AccessDenied)
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        let path = id.get().vpath().get_without_slash();
        if path == DATA {
            return Ok(self.data.clone());
        }
        let number = path.strip_prefix(PICTURES).and_then(|n| n.parse().ok());
        let picture = number.and_then(|n: usize| self.pictures.get(n));
        picture.cloned().ok_or(FileError::AccessDenied)
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.fonts.font(index)
    }

    /// The page does not ask for it.
    fn today(&self, _: Option<Duration>) -> Option<Datetime> {
        None
    }
}

/// Sets a report. `pictures` are JPEG or PNG files, one for each image of `asked`.
/// `next` is told each step and says whether to go on.
pub(crate) fn typeset(
    fonts: &Fonts,
    mut asked: Asked,
    pictures: Vec<Vec<u8>>,
    made: Made,
    mut next: impl FnMut(&'static str) -> bool,
) -> Result<Pdf, TypesetError> {
    let mut go_on = |step| next(step).then_some(()).ok_or(TypesetError::Off);
    let mut spelled = false;
    for text in asked.texts_mut() {
        spelled |= fonts.spell_out(text);
    }
    let paper = Paper {
        fonts,
        page: Source::new(*PAGE_ID, PAGE.to_owned()),
        data: Bytes::from_string(data(&asked, made, spelled)),
        pictures: pictures.into_iter().map(Bytes::new).collect(),
    };
    go_on("laying out the pages")?;
    let document = typst::compile::<PagedDocument>(&paper).output;
    let document = document.map_err(|errors| fault("laid out", &errors));
    let written = document.and_then(|document| {
        go_on("writing the PDF")?;
        let bytes = typst_pdf::pdf(&document, &options(made)?);
        let bytes = bytes.map_err(|errors| fault("written as PDF", &errors))?;
        let pages = u32::try_from(document.pages().len()).unwrap_or(u32::MAX);
        Ok(Pdf { bytes, pages })
    });
    // Otherwise the typesetter remembers every report for the next one.
    typst::comemo::evict(0);
    written
}

fn data(asked: &Asked, made: Made, spelled: bool) -> String {
    let images = asked.images.iter().enumerate();
    let images = images.map(
        |(number, image)| json!({"file": format!("/{PICTURES}{number}"), "caption": image.caption}),
    );
    let ((year, month, day), (hour, minute, _)) = (made.date, made.time);
    let data = json!({
        "title": asked.title,
        "reference": asked.reference,
        "reporter": asked.reporter,
        "occurred": occurred(&asked.occurred_at).unwrap_or_else(|| asked.occurred_at.clone()),
        "location": asked.location,
        "severity": asked.severity,
        "summary": asked.summary,
        "rows": asked.rows,
        "images": images.collect::<Vec<_>>(),
        "closing": asked.closing,
        "language": asked.language,
        "made": format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC"),
        "spelled": spelled,
    });
    data.to_string()
}

/// Archival (ISO 19005-2, with structure) and accessible (ISO 14289-1).
fn options(made: Made) -> Result<PdfOptions, TypesetError> {
    let standards = PdfStandards::new(&[PdfStandard::A_2a, PdfStandard::Ua_1]);
    let standards = standards.map_err(|error| TypesetError::Fault {
        step: "made to a standard",
        said: error.message().to_string(),
    })?;
    let ((year, month, day), (hour, minute, second)) = (made.date, made.time);
    let at = Datetime::from_ymd_hms(year, month, day, hour, minute, second);
    Ok(PdfOptions {
        creator: Smart::Custom(Some("Belfry".to_owned())),
        timestamp: at.map(Timestamp::new_utc),
        standards,
        ..PdfOptions::default()
    })
}

fn fault(step: &'static str, errors: &[SourceDiagnostic]) -> TypesetError {
    let said: Vec<&str> = errors.iter().map(|error| &*error.message).collect();
    TypesetError::Fault {
        step,
        said: said.join("; "),
    }
}

#[cfg(test)]
mod tests;
