//! What the crate that other teams depend on brings with it, and takes along.
//!
//! What always holds: a service that publishes builds the client and nothing of the
//! servers, and the packaged crate has all files that its build reads.

use std::{collections::BTreeSet, process::Command};

use super::source::root;

/// The crates of `belfry` with default features, itself among them. Raise it with a
/// reason in docs/decisions/011-features-of-the-contract-crate.md.
const MAX_CRATES: usize = 78;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_service_that_publishes_builds_no_server() {
    let tree = cargo(&[
        "tree",
        "--offline",
        "--package=belfry",
        "--edges=normal",
        "--prefix=none",
    ]);
    let crates: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    println!("crates of `belfry`: {}", crates.len());
    assert!(crates.contains("tonic"), "{tree}");
    for server in ["axum", "jsonwebtoken", "tower-http", "hyper-rustls"] {
        assert!(!crates.contains(server), "`belfry` brings `{server}`");
    }
    assert!(
        crates.len() <= MAX_CRATES,
        "`belfry` brings {} crates: {crates:?}",
        crates.len()
    );
}

#[test]
fn the_package_of_the_contract_has_what_its_build_reads_and_nothing_else() {
    let list = cargo(&[
        "package",
        "--offline",
        "--package=belfry",
        "--list",
        "--allow-dirty",
    ]);
    let files: BTreeSet<_> = list.lines().collect();
    for needed in [
        "LICENSE",
        "build.rs",
        "proto/belfry/v1/admin.proto",
        "proto/belfry/v1/edge.proto",
        "proto/belfry/v1/event.proto",
        "proto/belfry/v1/notifier.proto",
        "src/README.md",
        "src/publisher/pipeline.rs",
    ] {
        assert!(files.contains(needed), "`{needed}` is not packaged");
    }
    let top = ["src/", "proto/", "tests/vectors/"];
    let others: Vec<_> = files
        .iter()
        .filter(|file| file.contains('/') && !top.iter().any(|top| file.starts_with(top)))
        .collect();
    assert!(others.is_empty(), "packaged beside the crate: {others:?}");
}
