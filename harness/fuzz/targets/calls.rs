//! Fuzzer: sequences of calls, against the model of memory. What is done with an input is
//! `rumpvm_tests::inputs::calls`.
#![no_main]

use std::panic;
use std::sync::Once;

/// libFuzzer's hook ends the process where a panic begins, which is on a CPU's thread. Without it the panic comes
/// out of the machine first, and the last calls are printed.
static USUAL_HOOK: Once = Once::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    USUAL_HOOK.call_once(|| drop(panic::take_hook()));
    rumpvm_tests::inputs::calls(bytes);
});
