//! libFuzzer's entry to [`anyrelay_fuzz::key_files`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz::key_files::run(input));
