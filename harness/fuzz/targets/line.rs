//! Fuzzer: one line of a recording of strace. What is done with an input is `rumpvm_tests::inputs::line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rumpvm_tests::inputs::line(bytes));
