//! A client in a process of its own, `belfry listen`: it can be stopped as a whole,
//! like a laptop that goes to sleep.

use std::{
    fs::File,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{Acked, History, process::ChildGuard, wait_for};

pub(crate) struct Listener {
    running: ChildGuard,
    pub(crate) user: String,
    printed: PathBuf,
}

impl Deref for Listener {
    type Target = ChildGuard;

    fn deref(&self) -> &ChildGuard {
        &self.running
    }
}

impl Listener {
    pub(crate) fn start(dir: &Path, (url, user): (&str, &str), more: &[&str]) -> Self {
        let printed = dir.join(format!("printed-{user}"));
        let out = File::create(&printed).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_belfry"));
        command
            .args(["listen", "--format", "json", "--url", url, "--user", user])
            .arg("--data-dir")
            .arg(dir)
            .args(more)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::null());
        Self {
            running: ChildGuard::of(&mut command),
            user: user.to_owned(),
            printed,
        }
    }

    /// Bytes printed so far.
    pub(crate) fn printed_bytes(&self) -> u64 {
        std::fs::metadata(&self.printed).expect("a file").len()
    }

    /// The events printed so far.
    pub(crate) fn history(&self) -> History {
        let text = std::fs::read_to_string(&self.printed).expect("text");
        let mut history = History::default();
        // The last line may be half written.
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let frame: Value = serde_json::from_str(line).expect("JSON");
            history.note(&frame);
        }
        history
    }

    /// Waits until it has printed all that was acked for its user, or more.
    pub(crate) async fn caught_up(&self, acked: &[Acked]) -> History {
        let heads = acked.iter().filter(|event| event.stream == "user");
        let head = heads.map(|event| event.offset).max().unwrap_or(0);
        let printed = wait_for(
            "the listener to print everything",
            async || self.history(),
            |history| history.head("user") >= head,
        );
        printed.await
    }
}
