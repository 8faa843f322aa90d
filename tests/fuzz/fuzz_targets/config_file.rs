//! libFuzzer's entry to [`anyrelay_fuzz::config_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz::config_file::run(input));
