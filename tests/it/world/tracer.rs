//! Faults of system calls: `strace` makes one slow, makes it fail, or kills the
//! process at it.
//!
//! Calls are counted for each thread. A notifier syncs twice in one thread while
//! it opens its log, and from then on once for each batch in another: so the
//! third call and later ones are syncs of batches. No `--seccomp-bpf`: strace 6.1
//! then injects at the first call only.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

/// One fault, and the trace that records it.
pub(crate) struct Tracer {
    /// What goes before the command.
    pub(crate) under: Vec<OsString>,
    trace: PathBuf,
}

impl Tracer {
    /// `fault` at the calls that `when` names, as strace writes both. `None`, with
    /// the reason printed, where processes may not be traced.
    pub(crate) fn new(dir: &Path, call: &str, fault: &str, when: &str) -> Option<Self> {
        let mut probe = Command::new("strace");
        let probe = probe.args(["-f", "-qq", "-e", "trace=fsync", "true"]);
        if !probe.output().is_ok_and(|output| output.status.success()) {
            println!("skipped: strace is not installed, or may not trace a process");
            return None;
        }
        let trace = dir.join("trace");
        let under = [
            "strace".into(),
            "-f".into(),
            "-qq".into(),
            "-o".into(),
            trace.clone().into_os_string(),
            "-e".into(),
            format!("trace={call}").into(),
            "-e".into(),
            format!("inject={call}:{fault}:when={when}").into(),
        ];
        let under = under.to_vec();
        Some(Self { under, trace })
    }

    /// How often the fault happened.
    pub(crate) fn happened(&self) -> usize {
        let trace = std::fs::read_to_string(&self.trace).unwrap_or_default();
        let injected = |line: &&str| {
            // A killed thread's call has no answer to mark.
            ["(INJECTED)", "(DELAYED)", "killed by SIGKILL"]
                .iter()
                .any(|mark| line.contains(mark))
        };
        trace.lines().filter(injected).count()
    }
}
