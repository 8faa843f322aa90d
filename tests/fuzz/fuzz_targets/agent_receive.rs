//! libFuzzer's entry to [`anyrelay_fuzz_cases::agent_receive`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anyrelay_fuzz_cases::agent_receive::run(input));
