//! What several tests and the fuzzers share.

pub mod inputs;
pub mod model;
#[path = "random/world.rs"]
pub mod random;
