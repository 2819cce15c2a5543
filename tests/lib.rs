//! What several tests and the fuzzers share.

pub mod inputs;
pub mod model;
#[path = "random/world.rs"]
pub mod random;

/// A tenth of the work of the long tests, and an end at the first failure: for `cargo xtask mutants --ordinary`, which
/// runs them thousands of times.
pub fn is_short() -> bool {
    std::env::var_os("RUMPVM_SHORT").is_some()
}
