//! libFuzzer's entry to [`anyrelay_fuzz::agent_packet`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz::agent_packet::run(input));
