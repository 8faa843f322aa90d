//! libFuzzer's entry to [`anyrelay_fuzz_cases::key_files`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz_cases::key_files::run(input));
