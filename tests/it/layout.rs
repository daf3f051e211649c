//! The shape of the code: who may import whom, and how large things may get.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// House rule: longer than this and a file does more than one thing.
const MAX_FILE_LINES: usize = 500;
/// House rule: the hard stop for a function; 70 is where to think.
const MAX_FUNCTION_LINES: usize = 100;

/// Who may depend on which of ours. Imports run one way.
const MAY_IMPORT: [(&str, &[&str]); 8] = [
    ("belfry", &[]),
    ("delivery", &[]),
    ("simulator", &["delivery"]),
    ("notifier", &["belfry", "delivery"]),
    ("edge", &["belfry", "delivery"]),
    ("outbox", &["belfry"]),
    ("processors", &["belfry", "outbox"]),
    (
        "cli",
        &[
            "belfry",
            "delivery",
            "notifier",
            "edge",
            "outbox",
            "processors",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

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
    let manifest = fs::read_to_string(root().join("delivery/Cargo.toml")).expect("manifest");
    let dependencies = manifest.split("[dependencies]").nth(1).expect("a section");
    let dependencies = dependencies.split('[').next().expect("a section");
    let names: Vec<_> = dependencies
        .lines()
        .filter(|line| line.contains('='))
        .collect();
    assert_eq!(names, ["bytes.workspace = true"]);
    let library = fs::read_to_string(root().join("delivery/src/lib.rs")).expect("library");
    assert!(library.contains("#![no_std]"));
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir()
            && !matches!(
                name.to_str(),
                Some("target" | "node_modules" | ".git" | "data")
            )
        {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Functions by their length: from the line of `fn` to the closing brace in the
/// same column. rustfmt makes that exact.
fn functions(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_function = code.split("fn ").next().is_some_and(|before| {
            before.is_empty()
                || ["pub ", "pub(", "async ", "const "]
                    .iter()
                    .any(|word| before.starts_with(word))
        });
        if !is_function || !code.contains("fn ") || code.ends_with(';') {
            continue;
        }
        let indent = " ".repeat(line.len() - code.len());
        let close = format!("{indent}}}");
        let end = lines.iter().skip(start).position(|line| *line == close);
        if let Some(length) = end {
            let name = code.split("fn ").nth(1).unwrap_or(code);
            let name = name.split(['(', '<']).next().unwrap_or(name);
            found.push((length + 1, name.to_owned()));
        }
    }
    found
}

#[test]
fn files_and_functions_stay_small() {
    let mut paths = Vec::new();
    rust_files(&root(), &mut paths);
    let mut files = Vec::new();
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("readable");
        let shown = path
            .strip_prefix(root())
            .unwrap_or(&path)
            .display()
            .to_string();
        let documented = text.trim_start().starts_with("//!");
        assert!(documented, "{shown} does not open with what it is for");
        files.push((text.lines().count(), shown.clone()));
        all.extend(
            functions(&text)
                .into_iter()
                .map(|(len, name)| (len, format!("{shown}: {name}"))),
        );
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    all.sort_unstable_by(|a, b| b.cmp(a));
    println!("longest files: {:#?}", &files[..5]);
    println!("longest functions: {:#?}", &all[..5]);
    let long: Vec<_> = files
        .iter()
        .filter(|(lines, _)| *lines > MAX_FILE_LINES)
        .collect();
    assert!(
        long.is_empty(),
        "files over {MAX_FILE_LINES} lines: {long:#?}"
    );
    let long: Vec<_> = all
        .iter()
        .filter(|(lines, _)| *lines > MAX_FUNCTION_LINES)
        .collect();
    assert!(
        long.is_empty(),
        "functions over {MAX_FUNCTION_LINES} lines: {long:#?}"
    );
    assert!(all.len() > 100, "the counter counts");
}

#[test]
fn versions_stand_once() {
    for member in ["delivery", "notifier", "edge", "processors", "cli"] {
        let manifest =
            fs::read_to_string(root().join(member).join("Cargo.toml")).expect("manifest");
        let dependencies = manifest.split("dependencies]").skip(1);
        for line in dependencies
            .flat_map(str::lines)
            .filter(|line| line.contains(" = "))
        {
            assert!(
                !line.contains("version"),
                "{member}: `{line}` belongs to the workspace"
            );
        }
    }
}
