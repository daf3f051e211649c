//! Runs every target on its seeds, on nothing, and on seeds changed at random, for a few
//! seconds each.
//!
//! `BELFRY_FUZZ_SECONDS` sets the time, `BELFRY_FUZZ_SEED` repeats a run; both are printed
//! by a failure, with the input.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;

/// For each target, if nothing else is set: all of them take half a minute.
const SECONDS: u64 = 3;
/// The largest input.
const MAX_BYTES: usize = 64 << 10;
/// Numbers at which readers go wrong.
const INTERESTING: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

fn number_from(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no seeds", folder.display());
    paths
        .iter()
        .map(|path| fs::read(path).expect("a seed"))
        .collect()
}

/// A number between 0 and `end`, `end` included.
fn up_to(rng: &mut Rng, end: usize) -> usize {
    rng.usize(..=end)
}

/// One change, in place.
fn change(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = up_to(rng, input.len().saturating_sub(1));
    match rng.u8(..8) {
        _ if input.is_empty() => input.push(rng.u8(..)),
        0 => input[at] ^= 1 << rng.u8(..8),
        1 => input[at] = rng.u8(..),
        2 => input.truncate(at),
        3 => input.insert(at, rng.u8(..)),
        4 => drop(input.remove(at)),
        // A number of one to eight bytes, in either order.
        5 => {
            let bytes = INTERESTING[rng.usize(..INTERESTING.len())].to_le_bytes();
            let width = 1 << rng.u8(..4);
            let mut bytes = bytes[..width].to_vec();
            if rng.bool() {
                bytes.reverse();
            }
            let end = (at + width).min(input.len());
            input.splice(at..end, bytes);
        }
        // A piece of another seed.
        6 if !other.is_empty() => {
            let start = up_to(rng, other.len() - 1);
            let end = start + up_to(rng, other.len() - start);
            let until = at + up_to(rng, input.len() - at);
            input.splice(at..until, other[start..end].iter().copied());
        }
        // A piece of itself, again.
        _ => {
            let end = at + up_to(rng, input.len() - at);
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
    }
    input.truncate(MAX_BYTES);
}

/// Whether the target bears this input.
fn bears(target: fn(&[u8]), input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| target(input))).is_ok()
}

#[test]
fn no_target_panics_on_its_seeds_or_on_changed_ones() {
    let seed = number_from("BELFRY_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let time = Duration::from_secs(number_from("BELFRY_FUZZ_SECONDS").unwrap_or(SECONDS));
    println!("BELFRY_FUZZ_SEED={seed}");
    for (name, target) in fuzz::TARGETS {
        let mut rng = Rng::with_seed(seed);
        let seeds = seeds(name);
        for seed in seeds.iter().chain([&Vec::new()]) {
            target(seed);
        }
        let (began, mut runs) = (Instant::now(), 0_u64);
        while began.elapsed() < time {
            let mut input = seeds[rng.usize(..seeds.len())].clone();
            let other = &seeds[rng.usize(..seeds.len())];
            for _ in 0..=up_to(&mut rng, 4) {
                change(&mut input, other, &mut rng);
            }
            runs += 1;
            assert!(
                bears(target, &input),
                "`{name}` does not bear {input:02x?}, found with BELFRY_FUZZ_SEED={seed}"
            );
        }
        println!("{name}: {runs} runs");
    }
}

#[test]
fn a_target_that_panics_is_noticed() {
    assert!(bears(|_| (), b"x"));
    assert!(!bears(
        |bytes| assert!(bytes.is_empty(), "for the test"),
        b"x"
    ));
}
