//! What the documentation says of tests is true: each one it names exists.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `file::test` for every test function in the repository.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = matches!(
            name.to_str(),
            Some("target" | "node_modules" | ".git" | "data")
        );
        if path.is_dir() && !hidden {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&path).expect("a file");
            let mut lines = text.lines().map(str::trim);
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
    }
}

#[test]
fn every_test_that_a_guarantee_names_exists() {
    let mut known = BTreeSet::new();
    tests(&root(), &mut known);
    let text = fs::read_to_string(root().join("docs/guarantees.md")).expect("the page");
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains("::") && !word.ends_with("::run"))
        .collect();
    assert!(named.len() > 40, "the page names its tests");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !known.contains(**name))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_guarantee_that_names_a_mutant_has_one() {
    let text = fs::read_to_string(root().join("docs/guarantees.md")).expect("the page");
    let patches = fs::read_dir(root().join("tests/mutants")).expect("mutants");
    let patches = patches.flatten().filter(|entry| {
        let path = entry.path();
        path.extension()
            .is_some_and(|extension| extension == "patch")
    });
    assert!(patches.count() >= 22 && text.contains("mutant 22"));
}
