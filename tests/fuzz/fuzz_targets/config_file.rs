//! libFuzzer's entry to [`anyrelay_fuzz_cases::config_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz_cases::config_file::run(input));
