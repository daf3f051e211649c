//! The normal run: thousands of seeds, and every danger met.

use simulator::{Mode, Runs, run};

const SEEDS: u64 = 2_000;

#[test]
fn every_seed_keeps_every_promise() {
    let Runs { report, found } = Runs::of(1, SEEDS, None);
    if let Some(found) = found {
        panic!(
            "seed {}: {}\nagain: cargo run -p simulator -- simulate --seed {}",
            found.seed, found.what, found.seed
        );
    }
    println!("{report:#?}");
    // A simulation that never meets its dangers proves nothing.
    assert_eq!(report.dangers_not_met(), Vec::<&str>::new());
}

#[test]
fn the_same_seed_does_the_same_thing() {
    for seed in [3, 14, 159] {
        for mode in [Mode::Safety, Mode::Liveness] {
            assert_eq!(run(seed, mode), run(seed, mode));
        }
    }
}
