//! Runs the body `policy` on what the fuzzer makes up.
#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code, unreachable_pub, reason = "each target runs one body")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::policy(data));
