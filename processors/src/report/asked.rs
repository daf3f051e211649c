//! What a report is to say, and the limits of it. Pure.
//!
//! What always holds: what passed [`Asked::check`] can be set on paper in bounded
//! time and space.

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Bytes of the JSON of a report at most; all of it is on paper then.
pub(crate) const MAX_JSON_BYTES: usize = 256 << 10;
/// Rows of the table at most.
pub(crate) const MAX_ROWS: usize = 500;
/// Pictures at most.
pub(crate) const MAX_IMAGES: usize = 20;

const MAX_TITLE_CHARS: usize = 200;
const MAX_LINE_CHARS: usize = 200;
const MAX_CELL_CHARS: usize = 2_000;
const MAX_TEXT_CHARS: usize = 20_000;

/// An incident report, as it is asked for and as its record keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Asked {
    /// One line; the name of the document.
    pub(crate) title: String,
    /// The incident's name elsewhere, such as a ticket.
    #[serde(default)]
    pub(crate) reference: String,
    /// Who reports.
    #[serde(default)]
    pub(crate) reporter: String,
    /// RFC 3339, with its zone.
    pub(crate) occurred_at: String,
    /// Where it was.
    #[serde(default)]
    pub(crate) location: String,
    /// How bad it was.
    pub(crate) severity: Severity,
    /// What happened, in paragraphs.
    pub(crate) summary: String,
    /// What happened when, in the order that it is given.
    #[serde(default)]
    pub(crate) rows: Vec<Row>,
    /// Pictures of the same user.
    #[serde(default)]
    pub(crate) images: Vec<Image>,
    /// What follows from it, in paragraphs.
    #[serde(default)]
    pub(crate) closing: String,
    /// ISO 639 code of the language that it is written in, for screen readers.
    #[serde(default = "english")]
    pub(crate) language: String,
}

/// How bad it was.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Nobody noticed.
    Low,
    /// Some noticed.
    Medium,
    /// Many noticed.
    High,
    /// Nothing went.
    Critical,
}

/// A row of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// When, in any words.
    #[serde(default)]
    pub(crate) time: String,
    /// What happened.
    pub(crate) what: String,
    /// By whom.
    #[serde(default)]
    pub(crate) who: String,
}

/// A picture of the image store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// The document's id.
    pub(crate) id: String,
    /// What it shows; read to those who do not see it.
    #[serde(default)]
    pub(crate) caption: String,
}

fn english() -> String {
    "en".to_owned()
}

impl Asked {
    /// The first thing that is over a limit or cannot be printed: which, and what is
    /// allowed.
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
        if occurred(&self.occurred_at).is_none() {
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

    /// Every text in it that comes from its writer.
    pub(crate) fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let own = [
            &mut self.title,
            &mut self.reference,
            &mut self.reporter,
            &mut self.location,
            &mut self.summary,
            &mut self.closing,
        ];
        let rows = self.rows.iter_mut();
        let rows = rows.flat_map(|row| [&mut row.time, &mut row.what, &mut row.who]);
        let captions = self.images.iter_mut().map(|image| &mut image.caption);
        own.into_iter().chain(rows).chain(captions)
    }
}

/// Date, time and zone as people read them, of an RFC 3339 timestamp.
pub(crate) fn occurred(at: &str) -> Option<String> {
    let at = OffsetDateTime::parse(at, &Rfc3339).ok()?;
    let (year, month, day) = at.to_calendar_date();
    let (month, hour, minute) = (u8::from(month), at.hour(), at.minute());
    let zone = match at.offset().as_hms() {
        (0, 0, _) => String::new(),
        (hours, minutes, _) => {
            let sign = if hours < 0 || minutes < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", hours.abs(), minutes.abs())
        }
    };
    Some(format!(
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC{zone}"
    ))
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
    let control = |c: &char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
    if let Some(control) = text.chars().find(control) {
        let code = u32::from(control);
        return Err(format!(
            "`{field}` holds the control character U+{code:04X}, leave it out"
        ));
    }
    Ok(())
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

    fn asked(change: impl FnOnce(&mut Value)) -> Result<(), String> {
        let mut json = json!({
            "title": "t", "occurredAt": "2026-11-23T14:05:00Z", "severity": "low", "summary": "s",
        });
        change(&mut json);
        let asked: Asked = serde_json::from_value(json).map_err(|error| error.to_string())?;
        asked.check()
    }

    #[test]
    fn a_report_needs_little_and_each_limit_is_told_with_its_field() {
        assert_eq!(asked(|_| ()), Ok(()));
        let cases: [(Change, &str); 9] = [
            (|r| r["title"] = json!("  "), "`title` is empty"),
            (|r| r["title"] = json!("x".repeat(201)), "`title` has 201"),
            (|r| r["summary"] = json!("a\u{7}"), "U+0007"),
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
            let error = asked(change).unwrap_err();
            assert!(error.contains(expect), "{error} for {expect}");
        }
    }

    #[test]
    fn a_time_needs_its_date_its_hour_and_its_zone() {
        let read = |at| occurred(at);
        assert_eq!(
            read("2026-11-23T14:05:09.250+01:00").as_deref(),
            Some("2026-11-23 14:05 UTC+01:00")
        );
        assert_eq!(
            read("2026-11-23T14:05:09Z").as_deref(),
            Some("2026-11-23 14:05 UTC")
        );
        for no in [
            "2026-11-23",
            "2026-11-23T14:05:09",
            "2026-13-23T14:05:09Z",
            "2026-02-30T14:05:09Z",
            "",
        ] {
            assert_eq!(read(no), None, "{no}");
        }
    }
}
