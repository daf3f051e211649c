//! Hub, edges and clients joined by pretend links, a pretend disk and one seed.
//!
//! What runs here is what ships; only the drivers are pretend. Each seed first
//! does its worst (crashes, full disks, failed syncs, cut links, clients that
//! read slowly or not at all, retries after lost answers) while safety is
//! checked at every step, then heals everything and checks that all arrives.
//!
//! `BELFRY_SIM_SEED=17 cargo test -p delivery --test sim` replays one seed;
//! `BELFRY_SIM_SEEDS=100000` runs more.

mod disk;
mod model;
mod random;
mod world;

use std::panic;

use world::World;

const SEEDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = number("BELFRY_SIM_SEED") {
        println!("seed {seed}: {:?}", World::new(seed).run());
        return;
    }
    let mut sum = model::Report::default();
    for seed in 1..=number("BELFRY_SIM_SEEDS").unwrap_or(SEEDS) {
        match panic::catch_unwind(|| World::new(seed).run()) {
            Ok(report) => sum.add(&report),
            Err(cause) => {
                eprintln!(
                    "seed {seed} failed; replay: BELFRY_SIM_SEED={seed} cargo test -p delivery --test sim"
                );
                panic::resume_unwind(cause);
            }
        }
    }
    println!("{sum:?}");
    // A simulation that never meets its dangers proves nothing.
    assert!(
        sum.crashes > 0 && sum.cuts > 0 && sum.full > 0 && sum.failed_syncs > 0,
        "{sum:?}"
    );
    assert!(
        sum.duplicates > 0 && sum.gaps > 0 && sum.blocked > 0 && sum.dropped > 0,
        "{sum:?}"
    );
    assert!(
        sum.replayed > 0 && sum.left_out > 0 && sum.reads > 0,
        "{sum:?}"
    );
}

#[test]
fn the_same_seed_does_the_same_thing() {
    for seed in [3, 14, 159] {
        assert_eq!(World::new(seed).run(), World::new(seed).run());
    }
}
