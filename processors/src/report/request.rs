//! The request for a report and its limits. Pure.
//!
//! Invariant: a report that passed [`ReportRequest::check`] can be typeset in bounded
//! time and space, and no string of it is longer than PDF allows.

use icu_properties::{
    CodePointMapData,
    props::{GeneralCategory, GeneralCategoryGroup},
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Bytes of the JSON of a report at most.
pub(crate) const MAX_JSON_BYTES: usize = 256 << 10;
/// Rows of the table at most.
pub(crate) const MAX_ROWS: usize = 500;
/// Pictures at most.
pub(crate) const MAX_IMAGES: usize = 20;

const MAX_TITLE_CHARS: usize = 200;
const MAX_LINE_CHARS: usize = 200;
const MAX_CELL_CHARS: usize = 2_000;
const MAX_TEXT_CHARS: usize = 20_000;
/// Combining marks on one character at most: writing systems need about ten. All of
/// them are one string in the PDF.
const MAX_MARKS: usize = 64;

/// An incident report, as it is requested and as its record keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReportRequest {
    /// Also the title of the document. 1 to 200 characters.
    pub(crate) title: String,
    /// The incident's name elsewhere, such as a ticket. At most 200 characters.
    #[serde(default)]
    pub(crate) reference: String,
    /// Who reports. At most 200 characters.
    #[serde(default)]
    pub(crate) reporter: String,
    /// RFC 3339, with its zone.
    pub(crate) occurred_at: String,
    /// At most 200 characters.
    #[serde(default)]
    pub(crate) location: String,
    pub(crate) severity: Severity,
    /// What happened, in paragraphs. 1 to 20,000 characters.
    pub(crate) summary: String,
    /// What happened when, in the order given. At most 500.
    #[serde(default)]
    pub(crate) rows: Vec<Row>,
    /// Pictures of the same user. At most 20.
    #[serde(default)]
    pub(crate) images: Vec<Image>,
    /// What follows from it, in paragraphs. At most 20,000 characters.
    #[serde(default)]
    pub(crate) closing: String,
    /// ISO 639 code of the language that it is written in, for screen readers. Default
    /// `en`. A language written from right to left mirrors the columns.
    #[serde(default = "english")]
    pub(crate) language: String,
}

/// How severe an incident was.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// A timestamp of RFC 3339, or any text. At most 64 characters.
    #[serde(default)]
    pub(crate) time: String,
    /// What happened. 1 to 2,000 characters.
    pub(crate) what: String,
    /// By whom. At most 200 characters.
    #[serde(default)]
    pub(crate) who: String,
}

/// A picture of the image store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// The document's id.
    pub(crate) id: String,
    /// What it shows; also its alternative text. At most 200 characters.
    #[serde(default)]
    pub(crate) caption: String,
}

fn english() -> String {
    "en".to_owned()
}

impl ReportRequest {
    /// The first field that exceeds a limit or cannot be printed, and what is allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        text("title", &self.title, 1, MAX_TITLE_CHARS)?;
        text("summary", &self.summary, 1, MAX_TEXT_CHARS)?;
        text("closing", &self.closing, 0, MAX_TEXT_CHARS)?;
        for (field, line) in [
            ("reference", &self.reference),
            ("reporter", &self.reporter),
            ("location", &self.location),
        ] {
            text(field, line, 0, MAX_LINE_CHARS)?;
        }
        if readable_time(&self.occurred_at).is_none() {
            let at: String = self.occurred_at.chars().take(40).collect();
            return Err(format!(
                "`occurredAt` is `{at}`, write date, time and zone as in `2026-11-23T14:05:00Z`"
            ));
        }
        let letters = self.language.bytes().all(|b| b.is_ascii_lowercase());
        if !(2..=3).contains(&self.language.len()) || !letters {
            return Err("`language` has to be an ISO 639 code, such as `en`".to_owned());
        }
        count("rows", self.rows.len(), MAX_ROWS)?;
        for (number, row) in self.rows.iter().enumerate() {
            text(&format!("rows[{number}].time"), &row.time, 0, 64)?;
            text(
                &format!("rows[{number}].what"),
                &row.what,
                1,
                MAX_CELL_CHARS,
            )?;
            text(&format!("rows[{number}].who"), &row.who, 0, MAX_LINE_CHARS)?;
        }
        count("images", self.images.len(), MAX_IMAGES)?;
        for (number, image) in self.images.iter().enumerate() {
            let field = format!("images[{number}].caption");
            text(&field, &image.caption, 0, MAX_LINE_CHARS)?;
        }
        Ok(())
    }
}

/// Date, time and zone of an RFC 3339 timestamp as people read them; `None` for other
/// text.
pub(crate) fn readable_time(text: &str) -> Option<String> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(readable)
}

/// Date, time and zone as people read them. Seconds stand there unless they are 0.
pub(crate) fn readable(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (month, hour, minute) = (u8::from(month), at.hour(), at.minute());
    let seconds = match at.second() {
        0 => String::new(),
        second => format!(":{second:02}"),
    };
    let zone = match at.offset().as_hms() {
        (0, 0, _) => String::new(),
        (hours, minutes, _) => {
            let sign = if hours < 0 || minutes < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", hours.abs(), minutes.abs())
        }
    };
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}{seconds} UTC{zone}")
}

fn text(field: &str, text: &str, min: usize, max: usize) -> Result<(), String> {
    let chars = text.chars().count();
    if chars < min || text.trim().len() < min {
        return Err(format!(
            "`{field}` is empty, write at least {min} character"
        ));
    }
    if chars > max {
        return Err(format!(
            "`{field}` has {chars} characters, at most {max} are allowed"
        ));
    }
    if longest_marks(text) > MAX_MARKS {
        return Err(format!(
            "`{field}` has a character with more than {MAX_MARKS} combining marks, leave some out"
        ));
    }
    let control = |c: &char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
    if let Some(control) = text.chars().find(control) {
        let code = u32::from(control);
        return Err(format!(
            "`{field}` holds the control character U+{code:04X}, leave it out"
        ));
    }
    Ok(())
}

/// The most combining marks that follow each other.
fn longest_marks(text: &str) -> usize {
    let categories = CodePointMapData::<GeneralCategory>::new();
    let (mut longest, mut current) = (0, 0);
    for c in text.chars() {
        current = if GeneralCategoryGroup::Mark.contains(categories.get(c)) {
            current + 1
        } else {
            0
        };
        longest = longest.max(current);
    }
    longest
}

fn count(field: &str, count: usize, max: usize) -> Result<(), String> {
    if count > max {
        return Err(format!(
            "`{field}` has {count} entries, at most {max} are allowed"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    type Change = fn(&mut Value);

    fn check(change: impl FnOnce(&mut Value)) -> Result<(), String> {
        let mut json = json!({
            "title": "t", "occurredAt": "2026-11-23T14:05:00Z", "severity": "low", "summary": "s",
        });
        change(&mut json);
        let request: ReportRequest =
            serde_json::from_value(json).map_err(|error| error.to_string())?;
        request.check()
    }

    #[test]
    fn a_report_needs_few_fields_and_each_violation_names_its_field() {
        assert_eq!(check(|_| ()), Ok(()));
        let cases: [(Change, &str); 10] = [
            (|r| r["title"] = json!("  "), "`title` is empty"),
            (|r| r["title"] = json!("x".repeat(201)), "`title` has 201"),
            (|r| r["summary"] = json!("a\u{7}"), "U+0007"),
            (
                |r| r["closing"] = json!(format!("e{}", "\u{301}".repeat(65))),
                "`closing` has a character with more than 64 combining marks",
            ),
            (|r| r["severity"] = json!("bad"), "unknown variant `bad`"),
            (
                |r| r["occurredAt"] = json!("yesterday"),
                "`occurredAt` is `yesterday`",
            ),
            (|r| r["language"] = json!("english"), "`language`"),
            (
                |r| r["rows"] = json!(vec![json!({"what": "x"}); 501]),
                "`rows` has 501",
            ),
            (
                |r| r["rows"] = json!([{"what": "x"}, {"what": ""}]),
                "`rows[1].what` is empty",
            ),
            (
                |r| r["images"] = json!(vec![json!({"id": "x"}); 21]),
                "`images` has 21",
            ),
        ];
        for (change, expect) in cases {
            let error = check(change).unwrap_err();
            assert!(error.contains(expect), "{error} for {expect}");
        }
    }

    #[test]
    fn a_timestamp_needs_its_date_its_hour_and_its_zone() {
        let cases = [
            (
                "2026-11-23T14:05:09.250+01:00",
                "2026-11-23 14:05:09 UTC+01:00",
            ),
            ("2026-11-23T14:05:00Z", "2026-11-23 14:05 UTC"),
            ("2026-11-23T14:05:00-09:30", "2026-11-23 14:05 UTC-09:30"),
        ];
        for (text, readable) in cases {
            assert_eq!(readable_time(text).as_deref(), Some(readable), "{text}");
        }
        for text in [
            "2026-11-23",
            "2026-11-23T14:05:09",
            "2026-13-23T14:05:09Z",
            "2026-02-30T14:05:09Z",
            "",
        ] {
            assert_eq!(readable_time(text), None, "{text}");
        }
    }
}
