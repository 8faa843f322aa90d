//! libFuzzer's entry to [`anyrelay_fuzz::quotes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz::quotes::run(input));
