//! Fuzzer: a whole recording of strace. What is done with an input is `rumpvm_tests::inputs::trace`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rumpvm_tests::inputs::trace(bytes));
