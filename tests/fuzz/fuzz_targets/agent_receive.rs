//! libFuzzer's entry to [`anyrelay_fuzz::agent_receive`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz::agent_receive::run(input));
