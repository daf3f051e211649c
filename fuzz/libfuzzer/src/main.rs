//! One target of `fuzz`, named by `BELFRY_FUZZ_TARGET`, driven by libFuzzer.
#![no_main]

use std::{env, sync::LazyLock};

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<String> =
    LazyLock::new(|| env::var("BELFRY_FUZZ_TARGET").expect("the name of a target"));

fuzz_target!(|bytes: &[u8]| fuzz::run(&TARGET, bytes));
