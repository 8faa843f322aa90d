//! libFuzzer's entry to [`anyrelay_fuzz::fragments`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz::fragments::run(input));
