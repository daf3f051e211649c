//! Reports from the request to the page, read by the tools of poppler.

use std::{fs, path::Path, process::Command};

use belfry::v1::event::Body;
use image::ImageFormat;
use serde_json::{Value, json};

use crate::world::{World, body, picture};

type Change = fn(&mut Value);

fn report() -> Value {
    json!({
        "title": "Pump 3 stopped",
        "reference": "INC-7",
        "reporter": "R. Ahmed",
        "occurredAt": "2026-11-23T14:05:00+01:00",
        "location": "Hall 2",
        "severity": "high",
        "summary": "The pump stopped at 14:05.\n\nIt was started again by hand.",
        "rows": [{"time": "14:05", "what": "The pump stops", "who": "sensor"}],
        "closing": "The valve is replaced on Monday.",
    })
}

/// The output of a poppler tool for a file.
fn output_of(tool: &str, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(tool);
    command.args(arguments).arg(file);
    if tool == "pdftotext" {
        command.arg("-");
    }
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}; `tests/run` installs it"));
    assert!(output.status.success(), "{tool}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl World {
    async fn post_report(&self, user: &str, report: &Value) -> reqwest::Response {
        let post = self.http.post(self.url("/reports"));
        let post = post.bearer_auth(World::token(user)).json(report);
        post.send().await.unwrap()
    }

    /// The terminal event of a report that is accepted.
    async fn finished(&self, user: &str, report: &Value) -> (String, Body) {
        let answer = self.post_report(user, report).await;
        assert_eq!(answer.status(), 202);
        let answer: Value = answer.json().await.unwrap();
        let id = answer["reportId"].as_str().unwrap().to_owned();
        let events = self.notifier.events_of(&id).await;
        let Body::PdfGenerationStarted(started) = body(&events[0]) else {
            panic!("{events:?}");
        };
        assert_eq!(started.title, report["title"].as_str().unwrap());
        (id, body(events.last().unwrap()).clone())
    }

    /// The file of a finished report.
    async fn pdf(&self, user: &str, report: &Value) -> std::path::PathBuf {
        let (id, end) = self.finished(user, report).await;
        let Body::PdfGenerated(pdf) = end else {
            panic!("{end:?}");
        };
        let url = pdf.signed_url.unwrap().url;
        let answer = self.http.get(url).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/pdf");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let bytes = answer.bytes().await.unwrap();
        assert_eq!(bytes.len() as u64, pdf.size_bytes);
        let file = self.data.path().join(format!("{id}.pdf"));
        fs::write(&file, bytes).unwrap();
        let pages = format!("Pages:           {}\n", pdf.pages);
        assert!(output_of("pdfinfo", &[], &file).contains(&pages));
        file
    }
}

#[tokio::test]
async fn a_report_is_a_tagged_archival_pdf_with_all_of_its_text() {
    let world = World::started().await;
    let (image, _) = world.accepted("u1", &picture(ImageFormat::Jpeg)).await;
    world.notifier.events_of(&image).await;
    let mut request = report();
    request["images"] = json!([{"id": image, "caption": "The pump"}]);
    let file = world.pdf("u1", &request).await;
    let about = output_of("pdfinfo", &[], &file);
    for line in [
        "Title:           Pump 3 stopped",
        "Tagged:          yes",
        "Author:          R. Ahmed",
        "A4",
    ] {
        assert!(about.contains(line), "{line} in {about}");
    }
    let meta = output_of("pdfinfo", &["-meta"], &file);
    for mark in [
        "<pdfaid:part>2</pdfaid:part>",
        "<pdfaid:conformance>A<",
        "<pdfuaid:part>1<",
    ] {
        assert!(meta.contains(mark), "{mark} in {meta}");
    }
    let text = output_of("pdftotext", &["-layout"], &file);
    for expect in [
        "Pump 3 stopped",
        "INC-7",
        "R. Ahmed",
        "2026-11-23 14:05 UTC+01:00",
        "Hall 2",
        "HIGH",
        "It was started again by hand.",
        "The pump stops",
        "sensor",
        "Picture 1",
        "The pump",
        "The valve is replaced on Monday.",
        "Made 2",
    ] {
        assert!(text.contains(expect), "{expect} in {text}");
    }
    let structure = output_of("pdfinfo", &["-struct-text"], &file);
    for tag in ["H1", "Table", "TH", "TD", "Figure"] {
        assert!(structure.contains(tag), "{tag} in {structure}");
    }
    let fonts = output_of("pdffonts", &[], &file);
    let embedded = |line: &str| line.contains(" yes yes yes ");
    assert!(fonts.lines().skip(2).all(embedded), "{fonts}");
    let raw = fs::read(&file).unwrap();
    let raw = String::from_utf8_lossy(&raw);
    for entry in ["/Lang(en)", "/Outlines ", "/Title(What follows)"] {
        assert!(raw.contains(entry), "{entry}");
    }
    let images = output_of("pdfimages", &["-list"], &file);
    assert!(images.contains("400   100"), "{images}");
    let list = world.json("/reports", "u1").await;
    assert_eq!(list["reports"][0]["title"], "Pump 3 stopped");
    assert_eq!(list["reports"][0]["pages"], 1);
    assert_eq!(world.json("/reports", "u2").await, json!({"reports": []}));
}

#[tokio::test]
async fn reports_of_many_kinds_contain_their_text() {
    let world = World::started().await;
    let cases: [(&str, Change, &str); 10] = [
        (
            "the least",
            |r| *r = json!({"title": "t", "summary": "s", "severity": "low", "occurredAt": "2026-01-01T00:00:00Z"}),
            "not given",
        ),
        (
            "Hebrew",
            |r| r["summary"] = json!("המשאבה נעצרה בשעה 14:05."),
            "המשאבה",
        ),
        (
            "Arabic",
            |r| r["title"] = json!("توقفت المضخة"),
            "ﻣﻀﺨﺔ|مضخة|المضخة",
        ),
        (
            "Chinese",
            |r| r["summary"] = json!("水泵在十四点零五分停止。"),
            "水泵",
        ),
        (
            "Cyrillic and Greek",
            |r| r["summary"] = json!("Насос остановился. Η αντλία σταμάτησε."),
            "остановился",
        ),
        (
            "a character without a font",
            |r| r["summary"] = json!("A \u{10FFFD} sign"),
            "[U+10FFFD]",
        ),
        (
            "markup",
            |r| r["summary"] = json!("#panic() *not bold* $x$"),
            "#panic() *not bold* $x$",
        ),
        (
            "many rows",
            |r| r["rows"] = json!(vec![json!({"what": "again and again"}); 120]),
            "again and again",
        ),
        (
            "long text without a space",
            |r| r["closing"] = json!("x".repeat(3000)),
            "What follows",
        ),
        (
            "critical, in German",
            |r| {
                r["severity"] = json!("critical");
                r["language"] = json!("de");
                r["summary"] = json!("Größe: äöü ß – „Zitat“ €");
            },
            "Größe: äöü ß – „Zitat“ €",
        ),
    ];
    for (what, change, expect) in cases {
        let mut request = report();
        change(&mut request);
        let file = world.pdf("u1", &request).await;
        let text = output_of("pdftotext", &[], &file);
        let found = expect.split('|').any(|part| text.contains(part));
        assert!(found, "{what}: {expect} in {text}");
    }
    world.settled().await;
}

#[tokio::test]
async fn a_header_repeats_on_each_page_of_a_long_table() {
    let world = World::started().await;
    let mut request = report();
    request["rows"] = json!(vec![json!({"time": "14:05", "what": "again"}); 200]);
    let file = world.pdf("u1", &request).await;
    let text = output_of("pdftotext", &["-layout"], &file);
    let pages: Vec<&str> = text
        .split('\u{c}')
        .filter(|p| !p.trim().is_empty())
        .collect();
    assert!(pages.len() > 3);
    let count = pages.len();
    for (number, page) in pages.iter().enumerate() {
        let page = page.replace(' ', "");
        assert!(
            page.ends_with(&format!("UTC{}/{count}\n", number + 1)),
            "{page}"
        );
        assert!(
            page.contains("\nTimeWhathappenedWho\n"),
            "no header in {page}"
        );
    }
}

/// Invalid requests, each with the expected status, code and a part of the detail.
fn invalid_requests(image: &str, failed: &str) -> Vec<(Value, u16, &'static str, &'static str)> {
    let with = |field: &str, value: Value| {
        let mut request = report();
        request[field] = value;
        request
    };
    vec![
        (json!(5), 400, "bad_request", "invalid type"),
        (json!({"title": "t"}), 400, "bad_request", "missing field"),
        (
            with("colour", json!("red")),
            400,
            "bad_request",
            "unknown field `colour`",
        ),
        (
            with("severity", json!("bad")),
            400,
            "bad_request",
            "unknown variant",
        ),
        (
            with("rows", json!({"a": 1})),
            400,
            "bad_request",
            "expected a sequence",
        ),
        (
            with("title", json!(" \n ")),
            422,
            "invalid_report",
            "`title` is empty",
        ),
        (
            with("title", json!("x".repeat(201))),
            422,
            "invalid_report",
            "`title` has 201 characters",
        ),
        (
            with("summary", json!("bell \u{7}")),
            422,
            "invalid_report",
            "U+0007",
        ),
        (
            with("occurredAt", json!("2026-02-30T00:00:00Z")),
            422,
            "invalid_report",
            "`occurredAt`",
        ),
        (
            with("rows", json!(vec![json!({"what": "x"}); 501])),
            422,
            "invalid_report",
            "`rows` has 501",
        ),
        (
            with("images", json!(vec![json!({"id": image}); 21])),
            422,
            "invalid_report",
            "`images` has 21",
        ),
        (
            with("images", json!([{"id": "nowhere"}])),
            422,
            "image_not_found",
            "`images[0].id`",
        ),
        (
            with("images", json!([{"id": failed}])),
            422,
            "image_not_found",
            "`images[0].id`",
        ),
        (
            with("summary", json!("x".repeat(300_000))),
            413,
            "too_large",
            "262144 bytes",
        ),
    ]
}

#[tokio::test]
async fn invalid_reports_are_refused_with_their_field_and_leave_nothing() {
    let world = World::started().await;
    let (image, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    world.notifier.events_of(&image).await;
    let (failed, _) = world.accepted("u1", b"<svg/>").await;
    world.notifier.events_of(&failed).await;
    let before = world.notifier.count();
    for (request, status, code, detail) in invalid_requests(&image, &failed) {
        let answer = world.post_report("u1", &request).await;
        let got = answer.status().as_u16();
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(
            (got, &problem["errorCode"]),
            (status, &json!(code)),
            "{problem}"
        );
        let text = problem["detail"].as_str().unwrap();
        assert!(text.contains(detail), "{detail} in {problem}");
    }
    assert_eq!(world.notifier.count(), before);
    assert_eq!(world.stored("reports"), 0);
}

#[tokio::test]
async fn malformed_requests_and_pictures_of_others_are_refused_and_leave_nothing() {
    let world = World::started().await;
    let (image, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    world.notifier.events_of(&image).await;
    let before = world.notifier.count();
    // Somebody else's picture is as unknown as none.
    let mut request = report();
    request["images"] = json!([{"id": image}]);
    let answer = world.post_report("u2", &request).await;
    assert_eq!(answer.status(), 422);
    let post = world
        .http
        .post(world.url("/reports"))
        .bearer_auth(World::token("u1"));
    let deep = format!("{{\"title\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let answer = post.body(deep).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let post = world.http.post(world.url("/reports"));
    assert_eq!(post.json(&report()).send().await.unwrap().status(), 401);
    assert_eq!(world.notifier.count(), before);
    assert_eq!(world.json("/reports", "u1").await, json!({"reports": []}));
    assert_eq!(world.stored("reports"), 0);
}

#[tokio::test]
async fn a_report_without_its_picture_fails_with_its_code_and_leaves_no_file() {
    let world = World::started().await;
    let (image, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    world.notifier.events_of(&image).await;
    fs::remove_file(world.data.path().join("files/originals").join(&image)).unwrap();
    let mut request = report();
    request["images"] = json!([{"id": image}]);
    let (id, end) = world.finished("u1", &request).await;
    let Body::PdfGenerationFailed(failed) = end else {
        panic!("{end:?}");
    };
    assert_eq!(failed.failure.unwrap().code, "image_not_found");
    let shown = world.json(&format!("/reports/{id}"), "u1").await;
    assert_eq!(shown["errorCode"], "image_not_found");
    assert_eq!(world.stored("reports"), 0);
    world.settled().await;
}
