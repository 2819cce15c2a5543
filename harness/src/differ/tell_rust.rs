//! A program as Rust.
use super::{Difference, Program};
/// x
pub fn tell_rust(program: &Program, _difference: &Difference) -> String { program.to_string() }
