//! Fuzzer: sizes and times on the command line. What is done with an input is `rumpvm_tests::inputs::values`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rumpvm_tests::inputs::values(bytes));
