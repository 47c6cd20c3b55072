//! `cargo fuzz run --fuzz-dir tests/fuzz policies`: see `tests::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::fuzz::policy(bytes);
});
