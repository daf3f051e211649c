//! The recipes for keys in `docs/security.md` do what they say, as they stand.

use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

use crate::{
    layout::source::root,
    world::{Process, World},
};

/// The shell blocks below a heading, in order.
fn blocks(page: &str, heading: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).expect("the page");
    let (_, text) = text.split_once(heading).expect("the heading");
    let end = text.find("\n## ").unwrap_or(text.len());
    let blocks = text[..end].split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.map(str::to_owned).collect()
}

/// Runs a block in a folder whose `data` is the data directory.
fn run(folder: &Path, block: &str, up: Option<&Process>) -> String {
    let path = env::var("PATH").expect("a path");
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", block])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", folder.join("bin").display()));
    if let Some(up) = up {
        let url = format!("http://{}", up.address("grpc"));
        command.env("BELFRY_NOTIFIER_URL", url);
    }
    let output = command.output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{block}\n{stdout}{stderr}");
    stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recipes_for_keys_run_as_they_stand() {
    let world = World::new();
    let work = tempfile::tempdir().expect("a directory");
    symlink(world.dir(), work.path().join("data")).expect("linked");
    fs::create_dir(work.path().join("bin")).expect("made");
    let binary = work.path().join("bin/belfry");
    symlink(env!("CARGO_BIN_EXE_belfry"), binary).expect("linked");

    let recipes = blocks("docs/security.md", "\n### Recipes\n");
    let (make, rest) = recipes.split_first().expect("recipes");
    assert!(rest.len() >= 6, "{recipes:#?}");
    run(work.path(), make, None);
    let first = world.secret("users.key");
    let up = world.up();
    let mut printed = String::new();
    for block in rest {
        printed += &run(work.path(), block, Some(&up));
    }
    for part in [
        "is still accepted",
        "accepted: as service `reports`",
        r#""u1""#,
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert_ne!(world.secret("users.key"), first);
    let left = fs::read_dir(world.dir().join("secrets")).expect("secrets");
    assert_eq!(left.count(), 3, "the three keys and nothing else");
    assert_eq!(up.terminate(), Some(0));
}
