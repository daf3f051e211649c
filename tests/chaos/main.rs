//! A minute (or any time) of random faults under load, then calm, then the
//! verification: what every client saw, compared with what was acked.
//!
//! See `README.md` beside this file.

mod agents;
mod run;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared by two test binaries, each of which uses a part"
)]
#[path = "../it/world.rs"]
mod world;

use std::{io::Write, time::Duration};

/// How long it runs in the test command.
const SECONDS: u64 = 60;

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("`{name}` is `{text}`, it must be a whole number")))
}

#[test]
fn through_random_faults_every_client_sees_everything_once_and_in_order() {
    let seed = from_env("BELFRY_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = from_env("BELFRY_CHAOS_SECONDS").unwrap_or(SECONDS);
    let header = format!(
        "chaos: seed {seed}, {seconds} s; again: BELFRY_CHAOS_SEED={seed} \
         BELFRY_CHAOS_SECONDS={seconds} cargo test -p cli --test chaos\n"
    );
    // Bypasses the capture of the test runner: a run that hangs shows its seed too.
    let _ = std::io::stderr().write_all(header.as_bytes());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let chaos = run::run(fastrand::Rng::with_seed(seed), Duration::from_secs(seconds));
    runtime.expect("a runtime").block_on(chaos);
}
