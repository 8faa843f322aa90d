//! libFuzzer's entry to [`anyrelay_fuzz::capture`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz::capture::run(input));
