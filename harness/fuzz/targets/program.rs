//! Fuzzer: ELF files. What is done with an input is `rumpvm_tests::inputs::program`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rumpvm_tests::inputs::program(bytes));
