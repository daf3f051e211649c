//! Reports on paper: standards, data that is never markup, long tables, calling off.

use serde_json::{Value, json};

use super::*;

const MADE: Made = Made {
    date: (2026, 11, 23),
    time: (14, 5, 9),
};

fn asked(change: impl FnOnce(&mut Value)) -> Asked {
    let mut json = json!({
        "title": "Pump 3 stopped", "occurredAt": "2026-11-23T14:05:00Z",
        "severity": "high", "summary": "It stopped.\n\nIt was started again.",
    });
    change(&mut json);
    serde_json::from_value(json).expect("a report")
}

fn set(asked: Asked, pictures: Vec<Vec<u8>>) -> Result<Pdf, TypesetError> {
    static FONTS: LazyLock<Fonts> = LazyLock::new(Fonts::find);
    typeset(&FONTS, asked, pictures, MADE, |_| true)
}

#[test]
fn the_same_report_gives_the_same_bytes_and_claims_its_standards() {
    let first = set(asked(|_| ()), vec![]).unwrap();
    assert_eq!(first.pages, 1);
    assert!(first.bytes.starts_with(b"%PDF-1.7"));
    let text = String::from_utf8_lossy(&first.bytes);
    for mark in ["pdfaid:part>2<", "pdfaid:conformance>A<", "pdfuaid:part>1<"] {
        assert!(text.contains(mark), "{mark}");
    }
    assert_eq!(set(asked(|_| ()), vec![]).unwrap().bytes, first.bytes);
}

#[test]
fn what_a_writer_says_is_never_markup() {
    let markup = "#panic(\"x\") $ x^2 *b* `raw` <label> @ref // c \\ = h #read(\"/report.typ\")";
    let of_markup = asked(|report| {
        for field in [
            "title",
            "summary",
            "closing",
            "reference",
            "reporter",
            "location",
        ] {
            report[field] = json!(markup);
        }
        report["rows"] = json!([{"time": "*", "what": markup, "who": "#"}]);
    });
    assert!(set(of_markup, vec![]).unwrap().pages >= 1);
}

#[test]
fn a_long_table_goes_on_over_pages_and_a_long_word_stays_on_its_page() {
    let long = asked(|report| {
        let row =
            json!({"time": "14:05", "what": "https://example.org/".to_owned() + &"a".repeat(900)});
        report["rows"] = json!(vec![row; 60]);
    });
    assert!(set(long, vec![]).unwrap().pages > 5);
}

#[test]
fn what_is_called_off_is_not_finished_and_a_damaged_picture_is_told() {
    static FONTS: LazyLock<Fonts> = LazyLock::new(Fonts::find);
    let mut steps = Vec::new();
    let off = typeset(&FONTS, asked(|_| ()), vec![], MADE, |step| {
        steps.push(step);
        steps.len() < 2
    });
    assert!(matches!(off, Err(TypesetError::Off)), "{off:?}");
    assert_eq!(steps, ["laying out the pages", "writing the PDF"]);
    let pictured = asked(|report| report["images"] = json!([{"id": "x", "caption": "c"}]));
    let error = set(pictured, vec![b"\x89PNG\r\n\x1a\nno".to_vec()]).unwrap_err();
    assert!(
        error.to_string().contains("could not be laid out"),
        "{error}"
    );
}
