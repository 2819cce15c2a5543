//! Shared helpers of the tests.

pub mod model;

/// A tenth of the work of the long tests, and an end at the first failure: for `cargo xtask mutants --ordinary`, which
/// runs them thousands of times.
pub fn is_short() -> bool {
    std::env::var_os("RUMPVM_SHORT").is_some()
}
