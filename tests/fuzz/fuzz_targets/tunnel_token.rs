//! libFuzzer's entry to [`anyrelay_fuzz::tunnel_token`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz::tunnel_token::run(input));
