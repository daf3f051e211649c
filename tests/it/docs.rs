//! What the documentation names exists: the tests and mutants of the guarantees, and
//! every file.

use std::{collections::BTreeSet, fs};

use crate::layout::source::{root, sources};

/// Text inside of back ticks. Fenced blocks are skipped: what they show belongs to the
/// reader's project.
fn code_spans(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose
        .flat_map(|prose| prose.split('`').skip(1).step_by(2))
        .collect()
}

/// `module::test` for every test function in the repository.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources(&["rs"]) {
        let file = source.path.rsplit('/').next().unwrap_or_default();
        let module = file.trim_end_matches(".rs");
        let mut lines = source.text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if !(line == "#[test]" || line.starts_with("#[tokio::test")) {
                continue;
            }
            let function = lines.find_map(|line| {
                let line = line.strip_prefix("async ").unwrap_or(line);
                line.strip_prefix("fn ")
            });
            let name = function.and_then(|line| line.split('(').next());
            found.extend(name.map(|name| format!("{module}::{name}")));
        }
    }
    found
}

fn guarantees() -> String {
    std::fs::read_to_string(root().join("docs/guarantees.md")).expect("the page")
}

#[test]
fn every_test_that_a_guarantee_or_a_line_of_bad_input_names_exists() {
    let known = tests();
    let security = fs::read_to_string(root().join("docs/security.md")).expect("the page");
    for text in [guarantees(), security] {
        let named = code_spans(&text).into_iter();
        let named: Vec<&str> = named
            .filter(|span| span.contains("::") && !span.ends_with("::run"))
            .collect();
        assert!(named.len() > 40, "the page names its tests");
        let missing: Vec<_> = named
            .iter()
            .filter(|name| !known.contains(**name))
            .collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }
}

/// The numbers after each `mutant` or `mutants`: `04, 05` and `14 to 17`.
fn mutants_named_in(text: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for after in text.split("mutant").skip(1) {
        let numbers = after.trim_start_matches('s').trim_start();
        let end = numbers.find(|c: char| !(c.is_ascii_digit() || " ,to".contains(c)));
        for range in numbers[..end.unwrap_or(numbers.len())].split(',') {
            let mut ends = range.split(" to ").map(|end| end.trim().parse::<u32>());
            let (Some(Ok(first)), last) = (ends.next(), ends.next()) else {
                continue;
            };
            found.extend(first..=last.and_then(Result::ok).unwrap_or(first));
        }
    }
    found
}

#[test]
fn every_mutant_that_a_guarantee_names_exists() {
    assert_eq!(
        mutants_named_in("mutants 14 to 16, 24 | mutant 01 |")
            .into_iter()
            .collect::<Vec<_>>(),
        [1, 14, 15, 16, 24]
    );
    let patches = std::fs::read_dir(root().join("tests/mutants")).expect("mutants");
    let known: BTreeSet<u32> = patches
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.split('-').next()?.parse().ok())
        .collect();
    let named = mutants_named_in(&guarantees());
    assert!(named.len() > 20, "the page names its mutants");
    let missing: Vec<_> = named.difference(&known).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Pages with paths of another project: the reader's, or one of the past.
const OF_OTHERS: &[&str] = &["docs/guide/add-a-service.md", "CHANGELOG.md"];
/// Extensions that make a code span the name of a file of this repository.
const SOURCES: &[&str] = &["rs", "js", "mjs", "md", "proto", "html", "css"];

/// `src/{a,b}.rs` as `src/a.rs` and `src/b.rs`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let Some((names, after)) = rest.split_once('}') else {
        return vec![path.to_owned()];
    };
    let names = names.split(',');
    names
        .flat_map(|name| expanded(&format!("{before}{name}{after}")))
        .collect()
}

/// Whether a path, or the end of a path, names one of the files; one `*` stands for any
/// text.
fn names_one_of(files: &[String], path: &str) -> bool {
    let (start, end) = path.split_once('*').unwrap_or((path, ""));
    let start = format!("/{start}");
    files.iter().any(|file| {
        let from_root = format!("/{file}");
        let mut starts = from_root.match_indices(&start);
        starts.any(|(at, _)| {
            let rest = &from_root[at + start.len()..];
            rest.is_empty() || (path.contains('*') && rest.ends_with(end))
        })
    })
}

#[test]
fn every_file_that_a_page_names_exists() {
    let files: Vec<String> = sources(SOURCES).into_iter().map(|file| file.path).collect();
    let folders = std::fs::read_dir(root()).expect("the root").flatten();
    let folders: BTreeSet<String> = folders
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let mut missing = Vec::new();
    for page in sources(&["md"]) {
        if OF_OTHERS.contains(&page.path.as_str()) {
            continue;
        }
        for span in code_spans(&page.text) {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "_-./{},*".contains(c);
            let first = span.split('/').next().unwrap_or_default();
            let is_source = SOURCES
                .iter()
                .any(|known| span.ends_with(&format!(".{known}")) && !span.starts_with('.'));
            let is_folder = span.ends_with('/') && folders.contains(first);
            if span.chars().all(is_path) && (is_source || is_folder) {
                let paths = expanded(span).into_iter();
                let wrong =
                    paths.filter(|path| !root().join(path).exists() && !names_one_of(&files, path));
                missing.extend(wrong.map(|path| format!("{}: `{path}`", page.path)));
            }
        }
        let folder = root().join(&page.path);
        let folder = folder.parent().expect("a folder");
        for link in page.text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                missing.push(format!("{}: ({target})", page.path));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_file_is_found_by_the_end_of_its_path() {
    let files = [
        "edge/web/dashboard-row.js".to_owned(),
        "src/name.rs".to_owned(),
    ];
    for path in ["name.rs", "src/name.rs", "edge/web/dashboard-*.js"] {
        assert!(names_one_of(&files, path), "{path}");
    }
    for path in [
        "ame.rs",
        "src/nam",
        "edge/web/toast-*.js",
        "web/dashboard-*.rs",
    ] {
        assert!(!names_one_of(&files, path), "{path}");
    }
    assert_eq!(expanded("src/{a,b}.rs"), ["src/a.rs", "src/b.rs"]);
}
