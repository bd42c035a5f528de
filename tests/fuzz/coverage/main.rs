//! One target under libFuzzer, named by `FUZZ_TARGET`.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<&'static fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var_os("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let name = name.to_str().expect("targets' names are ASCII");
    fuzz::target(name).expect("FUZZ_TARGET names a target")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
