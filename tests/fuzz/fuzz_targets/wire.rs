//! libFuzzer's entry to [`anyrelay_fuzz::wire`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz::wire::run(input));
