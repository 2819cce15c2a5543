//! A program as C.
use super::{Difference, Program};
/// x
pub fn tell_c(program: &Program, _difference: &Difference) -> String { program.to_string() }
