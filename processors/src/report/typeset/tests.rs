//! Reports on paper: standards, text of every kind, long tables, damaged pictures.

use serde_json::{Value, json};

use super::*;

const CREATED: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn request(change: impl FnOnce(&mut Value)) -> ReportRequest {
    let mut json = json!({
        "title": "Pump 3 stopped", "occurredAt": "2026-11-23T14:05:00Z",
        "severity": "high", "summary": "It stopped.\n\nIt was started again.",
    });
    change(&mut json);
    serde_json::from_value(json).expect("a report")
}

fn pdf(request: &ReportRequest) -> Pdf {
    typeset(request, &[], CREATED).expect("a PDF")
}

/// The pages as laid out, with the carried fonts.
fn pages(request: &ReportRequest) -> page::Pages {
    let fonts = fonts::load(Sources::Carried, "en");
    let mut setter = Setter::new(fonts, "en", Refused::These(BTreeSet::new()));
    body::compose(request, &[], &mut setter)
}

/// All text of the pages, and how far each line reaches to the right.
fn lines(pages: &page::Pages) -> Vec<(String, f32)> {
    let items = pages.sheets.iter().flatten();
    let lines = items.filter_map(|item| match &item.shape {
        page::Shape::Text { line, .. } => Some((line.text.to_string(), item.x + line.right)),
        _ => None,
    });
    lines.collect()
}

#[test]
fn the_same_report_gives_the_same_bytes_and_claims_its_standards() {
    let first = pdf(&request(|_| ()));
    assert_eq!(first.pages, 1);
    assert!(first.bytes.starts_with(b"%PDF-1.7"));
    let text = String::from_utf8_lossy(&first.bytes);
    for mark in ["pdfaid:part>2<", "pdfaid:conformance>A<", "pdfuaid:part>1<"] {
        assert!(text.contains(mark), "{mark}");
    }
    assert_eq!(pdf(&request(|_| ())).bytes, first.bytes);
}

#[test]
fn text_that_fonts_or_pdf_a_refuse_is_spelled_out() {
    for (text, expect) in [
        ("✨ new ✅", "✨ new ✅"),
        ("1\u{FE0F}\u{20E3} first", "1\u{FE0F}\u{20E3} first"),
        ("\u{FEFF}Hello", "Hello"),
        ("a \u{E000} sign", "a [U+E000] sign"),
        ("plane 16 \u{10FFFD}", "plane 16 [U+10FFFD]"),
        ("none \u{FFFE}", "none [U+FFFE]"),
        ("e\u{20DD}", "e[U+20DD]"),
        ("line\u{2028}line", "line\nline"),
    ] {
        let request = request(|report| report["summary"] = json!(text));
        let lines = lines(&pages(&request));
        let found = lines.iter().any(|(line, _)| line == expect);
        assert!(found, "{expect:?} in {lines:?}");
        pdf(&request);
    }
}

#[test]
fn text_of_every_kind_makes_a_pdf_at_the_first_attempt() {
    for text in [
        "בְּרֵאשִׁ֖ית בָּרָ֣א",
        "مرحبا بالعالم 123 abc",
        "👩‍👩‍👧 🇩🇪 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ☝🏽",
        "हैलो वर्ल्ड ภาษาไทย 水泵 ཀྵ",
        "\u{202E}abc\u{202C} \u{2066}x\u{2069} \u{200D}\u{200B}\u{AD}",
        "\u{FDFD} \u{12219} ﬁ ﬂ \u{1D11E}",
        "a\u{300}\u{301}\u{302} \u{301} \u{20E3} \u{FE0F} \u{E0041}",
        "$ # * \\ < > & % ( ) [ ] { } /",
    ] {
        let request = request(|report| {
            for field in ["title", "reference", "reporter", "location", "summary"] {
                report[field] = json!(text);
            }
            report["rows"] = json!([{"time": text, "what": text, "who": text}]);
        });
        let first = set(&request, &[], CREATED, (Sources::All, no_characters()));
        first.unwrap_or_else(|error| panic!("{text}: {}", describe(&error)));
    }
}

fn no_characters() -> Refused {
    Refused::These(BTreeSet::new())
}

#[test]
fn a_report_of_nothing_but_ascii_is_the_last_resort() {
    let request = request(|report| report["summary"] = json!("Größe"));
    let strict = Refused::AllButAscii;
    let set = set(&request, &[], CREATED, (Sources::Carried, strict)).expect("a PDF");
    assert_eq!(set.pages, 1);
}

#[test]
fn no_line_crosses_its_column_whatever_the_script() {
    let right = page::PAGE_WIDTH - page::MARGIN;
    for long in [
        "x".repeat(900),
        "e\u{301}".repeat(600),
        "ش".repeat(600),
        "水".repeat(600),
        "ก".repeat(600),
        "\u{FDFD}".repeat(20),
        "https://example.org/a/b/c?d=e".repeat(20),
    ] {
        let request = request(|report| {
            report["title"] = json!(long.chars().take(200).collect::<String>());
            report["summary"] = json!(long);
            report["location"] = report["title"].clone();
            report["rows"] = json!([{
                "time": long.chars().take(64).collect::<String>(),
                "what": long,
                "who": report["title"],
            }]);
        });
        for (line, reach) in lines(&pages(&request)) {
            assert!(reach <= right + 0.1, "{reach} in {line:?}");
        }
    }
}

#[test]
fn a_timestamp_in_a_row_is_shown_as_people_read_it() {
    let request = request(|report| {
        report["rows"] = json!([{"time": "2026-11-23T14:05:00Z", "what": "alarm"}]);
    });
    let lines = lines(&pages(&request));
    let shown = lines.iter().any(|(line, _)| line == "2026-11-23 14:05 UTC");
    assert!(shown, "{lines:?}");
}

#[test]
fn a_long_table_repeats_its_header_and_a_high_row_breaks() {
    let request = request(|report| {
        let mut rows = vec![json!({"time": "14:05", "what": "again"}); 80];
        rows.push(json!({"what": "line\n".repeat(300)}));
        report["rows"] = json!(rows);
    });
    let pages = pages(&request);
    assert!(pages.sheets.len() > 5);
    for items in &pages.sheets {
        let bottom = page::PAGE_HEIGHT - page::BOTTOM;
        assert!(items.iter().all(|item| item.y <= bottom + 0.1));
        let is_header = |item: &page::Item| matches!(&item.shape, page::Shape::Text { line, .. } if &*line.text == "What happened");
        assert_eq!(items.iter().filter(|item| is_header(item)).count(), 1);
    }
}

#[test]
fn a_heading_stays_with_its_picture_and_a_tall_picture_fits_its_page() {
    let request = request(|report| {
        report["images"] = json!([{"id": "a", "caption": "screen"}, {"id": "b"}]);
    });
    let fonts = fonts::load(Sources::Carried, "en");
    let mut setter = Setter::new(fonts, "en", no_characters());
    let pages = body::compose(&request, &[(1080, 2400), (400, 100)], &mut setter);
    assert_eq!(pages.sheets.len(), 3);
    assert_eq!(pages.outline.last().map(|entry| entry.page), Some(1));
    let texts = lines(&pages);
    assert!(texts.iter().any(|(line, _)| line == "Picture 1: screen"));
    assert!(texts.iter().any(|(line, _)| line == "Picture 2"));
}

#[test]
fn a_damaged_picture_is_an_error_that_names_it() {
    let request = request(|report| report["images"] = json!([{"id": "x", "caption": "c"}]));
    let damaged = b"\x89PNG\r\n\x1a\nno".to_vec();
    let error = typeset(&request, &[damaged], CREATED).unwrap_err();
    assert!(error.to_string().starts_with("picture 1 "), "{error}");
}
