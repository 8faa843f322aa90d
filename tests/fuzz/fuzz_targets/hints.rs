//! libFuzzer's entry to [`anyrelay_fuzz_cases::hints`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz_cases::hints::run(input));
