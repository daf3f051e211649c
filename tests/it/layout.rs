//! The shape of the code: who may import whom, how large things may get, and what
//! they may be called. `cargo test -p cli --test it layout -- --nocapture` prints the
//! worst of each.

#[path = "layout/contract.rs"]
mod contract;
#[path = "layout/names.rs"]
mod names;
#[path = "layout/source.rs"]
pub(crate) mod source;
#[path = "layout/vocabulary.rs"]
mod vocabulary;

use std::{collections::BTreeMap, fs};

use cargo_metadata::{DependencyKind, MetadataCommand};
use source::{functions, is_named, root, sources, tuple_width};

/// House rule: longer than this and a file does more than one thing.
const MAX_FILE_LINES: usize = 500;
/// House rule: the hard stop for a function; 70 is where to think.
const MAX_FUNCTION_LINES: usize = 100;
/// House rule: a function with more parameters takes a struct; `self` is not counted.
const MAX_PARAMETERS: usize = 5;
/// House rule: more values than this have names, in a struct.
const MAX_TUPLE: usize = 2;

/// Who may depend on which of ours. Imports run one way.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("belfry", &[]),
    ("delivery", &[]),
    ("cluster", &[]),
    ("simulator", &["cluster", "delivery"]),
    ("listener", &[]),
    ("settings", &[]),
    ("wire", &["belfry", "delivery"]),
    (
        "notifier",
        &["belfry", "delivery", "listener", "settings", "wire"],
    ),
    (
        "edge",
        &["belfry", "delivery", "listener", "settings", "wire"],
    ),
    (
        "fuzz",
        &[
            "belfry", "cluster", "delivery", "edge", "notifier", "settings", "wire",
        ],
    ),
    ("outbox", &["belfry"]),
    ("processors", &["belfry", "listener", "outbox", "settings"]),
    (
        "cli",
        &[
            "belfry",
            "delivery",
            "notifier",
            "edge",
            "listener",
            "outbox",
            "processors",
            "settings",
        ],
    ),
];

#[test]
fn imports_run_one_way() {
    let metadata = MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .exec()
        .expect("metadata");
    let may: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let allowed = may
            .get(name)
            .unwrap_or_else(|| panic!("`{name}` has no rule"));
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            let ours = may.contains_key(other) && dependency.kind == DependencyKind::Normal;
            assert!(
                !ours || allowed.contains(&other),
                "`{name}` must not import `{other}`"
            );
        }
    }
}

#[test]
fn the_rules_have_no_io_and_next_to_no_dependencies() {
    let bytes = "bytes.workspace = true";
    let rules = [
        ("delivery", vec![bytes]),
        ("cluster", vec![bytes, "crc32fast.workspace = true"]),
    ];
    for (member, expected) in rules {
        let folder = root().join(member);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("manifest");
        let dependencies = manifest.split("[dependencies]").nth(1).expect("a section");
        let dependencies = dependencies.split('[').next().expect("a section");
        let lines = dependencies.lines();
        let names: Vec<_> = lines.filter(|line| line.contains('=')).collect();
        assert_eq!(names, expected, "{member}");
        let library = fs::read_to_string(folder.join("src/lib.rs")).expect("library");
        assert!(library.contains("#![no_std]"), "{member}");
    }
}

#[test]
fn files_and_functions_stay_small() {
    let mut files = Vec::new();
    let (mut lines, mut parameters) = (Vec::new(), Vec::new());
    for source in sources(&["rs", "js", "mjs"]) {
        let opening = if source.is_rust() { "//!" } else { "/" };
        let documented = source.text.trim_start().starts_with(opening);
        assert!(documented, "{} does not open with its purpose", source.path);
        files.push((source.text.lines().count(), source.path.clone()));
        let functions = if source.is_rust() {
            functions(&source.text)
        } else {
            Vec::new()
        };
        for function in functions {
            let place = format!("{}: {}", source.path, function.name);
            let named = function.parameters.iter();
            let named = named.filter(|parameter| is_named(parameter));
            parameters.push((named.count(), place.clone()));
            lines.push((function.lines, place));
        }
    }
    assert!(lines.len() > 100, "the counter counts");
    refuse_over(MAX_FILE_LINES, "lines of a file", files);
    refuse_over(MAX_FUNCTION_LINES, "lines of a function", lines);
    refuse_over(MAX_PARAMETERS, "parameters of a function", parameters);
}

/// Prints the five largest, and fails for those over the limit.
fn refuse_over(max: usize, what: &str, mut measured: Vec<(usize, String)>) {
    measured.sort_unstable_by(|a, b| b.cmp(a));
    println!("most {what}: {:#?}", &measured[..5]);
    measured.retain(|(count, _)| *count > max);
    assert!(measured.is_empty(), "over {max} {what}: {measured:#?}");
}

#[test]
fn no_parameter_is_a_tuple_of_more_than_two_values() {
    let mut wide = Vec::new();
    for source in sources(&["rs"]) {
        for function in functions(&source.text) {
            let parameters = function.parameters.iter();
            let tuples = parameters.filter(|parameter| tuple_width(parameter) > MAX_TUPLE);
            wide.extend(tuples.map(|tuple| format!("{}: {}: {tuple}", source.path, function.name)));
        }
    }
    assert!(
        wide.is_empty(),
        "tuple parameters of more than {MAX_TUPLE} values, name them in a struct: {wide:#?}"
    );
}

#[test]
fn versions_are_in_the_workspace_table() {
    for (member, _) in MAY_IMPORT {
        // The contract crate is the workspace's root.
        let folder = if member == "belfry" { "." } else { member };
        let manifest =
            fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("manifest");
        let table = manifest.lines().scan("", |table, line| {
            if line.starts_with('[') {
                *table = line;
            }
            Some((*table, line))
        });
        for (table, line) in table {
            let is_dependency = table.ends_with("dependencies]") && line.contains(" = ");
            assert!(
                !is_dependency || table == "[workspace.dependencies]" || !line.contains("version"),
                "{member}: `{line}` belongs to the workspace"
            );
        }
    }
}
