//! (under construction)
pub mod trace;
