//! One report to the bytes of a PDF. Pure computation that may take long: it runs in a
//! child process (see [`super::child`]).
//!
//! Invariants: no text makes it fail. What the fonts or PDF/A refuse is spelled out,
//! and if krilla refuses the whole all the same, the report is set again with fewer
//! fonts and then with nothing but ASCII. The same request on the same machine gives
//! the same bytes.

mod body;
mod flow;
mod fonts;
mod margin;
mod page;
mod pdf;
mod text;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use krilla::{configure::ValidationError, error::KrillaError, image::Image};
use time::OffsetDateTime;

use self::{
    fonts::Sources,
    pdf::{About, PdfError},
    text::{Refused, Setter},
};
use super::request::ReportRequest;

/// A finished report.
#[derive(Debug)]
pub(crate) struct Pdf {
    pub(crate) bytes: Vec<u8>,
    pub(crate) pages: u32,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TypesetError {
    /// A picture is no JPEG or PNG file that can be embedded.
    #[error("picture {number} cannot be embedded: {reason}")]
    Picture {
        /// From 1.
        number: usize,
        /// What the decoder says.
        reason: String,
    },
    /// A bug: every attempt failed. The last error.
    #[error("the report cannot be typeset: {0}")]
    Refused(String),
}

/// Sets a report. `pictures` are JPEG or PNG files, one for each image of the request.
pub(crate) fn typeset(
    request: &ReportRequest,
    pictures: &[Vec<u8>],
    created: OffsetDateTime,
) -> Result<Pdf, TypesetError> {
    let pictures = pictures.iter().enumerate();
    let pictures = pictures.map(|(index, bytes)| picture(index + 1, bytes));
    let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
    let mut refused = BTreeSet::new();
    let mut last = String::new();
    for attempt in 0..3 {
        let (sources, spelled) = match attempt {
            0 => (Sources::All, Refused::These(BTreeSet::new())),
            1 => (Sources::Carried, Refused::These(refused.clone())),
            _ => (Sources::Carried, Refused::AllButAscii),
        };
        // Libraries that read fonts of unknown origin may panic on them.
        let set = catch_unwind(AssertUnwindSafe(|| {
            set(request, &pictures, created, (sources, spelled))
        }));
        match set {
            Ok(Ok(pdf)) => return Ok(pdf),
            Ok(Err(error)) => {
                last = describe(&error);
                refused = characters(&error);
            }
            Err(_) => last = String::from("a panic"),
        }
        eprintln!("attempt {attempt} failed: {last}");
    }
    Err(TypesetError::Refused(last))
}

fn set(
    request: &ReportRequest,
    pictures: &[Image],
    created: OffsetDateTime,
    (sources, refused): (Sources, Refused),
) -> Result<Pdf, PdfError> {
    let fonts = fonts::load(sources, &request.language);
    let mut setter = Setter::new(fonts, &request.language, refused);
    let sizes: Vec<(u32, u32)> = pictures.iter().map(Image::size).collect();
    let mut pages = body::compose(request, &sizes, &mut setter);
    margin::add(&mut pages, request, created, &mut setter);
    let about = About {
        title: body::one_line(&request.title),
        author: &request.reporter,
        language: &request.language,
        created,
    };
    let bytes = pdf::write(&pages, pictures, &about)?;
    let pages = u32::try_from(pages.sheets.len()).unwrap_or(u32::MAX);
    Ok(Pdf { bytes, pages })
}

fn picture(number: usize, bytes: &[u8]) -> Result<Image, TypesetError> {
    let data = bytes.to_vec().into();
    let image = if bytes.starts_with(b"\x89PNG") {
        Image::from_png(data, false)
    } else {
        Image::from_jpeg(data, false)
    };
    image.map_err(|reason| TypesetError::Picture { number, reason })
}

/// The error with all that krilla found.
fn describe(error: &PdfError) -> String {
    match error {
        PdfError::Krilla(KrillaError::Validation(errors)) => {
            let mut found: Vec<String> = errors.iter().map(|(e, _)| format!("{e:?}")).collect();
            found.dedup();
            found.truncate(5);
            found.join("; ")
        }
        error => error.to_string(),
    }
}

/// The characters that an error names, ASCII aside.
fn characters(error: &PdfError) -> BTreeSet<char> {
    let mut named = BTreeSet::new();
    if let PdfError::Krilla(KrillaError::Validation(errors)) = error {
        for (error, _) in errors {
            match error {
                ValidationError::ContainsNotDefGlyph(_, _, text) => named.extend(text.chars()),
                ValidationError::InvalidCodepointMapping(_, _, c, _)
                | ValidationError::UnicodePrivateArea(_, _, c, _) => {
                    named.insert(*c);
                }
                _ => {}
            }
        }
    }
    named.retain(|c| !c.is_ascii());
    named
}

#[cfg(test)]
mod tests;
