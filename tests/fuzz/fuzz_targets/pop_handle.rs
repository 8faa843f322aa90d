//! libFuzzer's entry to [`anyrelay_fuzz_cases::pop_handle`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz_cases::pop_handle::run(input));
