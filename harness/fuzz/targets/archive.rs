//! Fuzzer: initial ramdisks. What is done with an input is `rumpvm_tests::inputs::archive`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rumpvm_tests::inputs::archive(bytes));
