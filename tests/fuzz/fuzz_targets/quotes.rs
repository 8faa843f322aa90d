//! libFuzzer's entry to [`anyrelay_fuzz_cases::quotes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz_cases::quotes::run(input));
