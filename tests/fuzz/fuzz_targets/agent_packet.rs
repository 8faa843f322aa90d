//! libFuzzer's entry to [`anyrelay_fuzz_cases::agent_packet`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz_cases::agent_packet::run(input));
