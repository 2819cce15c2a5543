//! The differential test: seeded random programs, carried out by the host's Linux and by rumpvm, compared after
//! every call.
//!
//! Flow:  seed -> `generate` -> [`Program`] -> two voices -> `compare` -> `shrink` -> `tell_c`, `tell_rust`.
//! Locks: none.
//! Owns:  nothing; [`hunt`] owns the voices.
//!
//! Y1. What a voice cannot do is [`Failed`], and never an answer: a difference is about memory.
//! Y2. A program follows from the seed and its number alone, on every host that has the same calls.

mod answer;
mod by_design;
mod compare;
mod generate;
mod ground;
mod hunt;
mod op;
mod ours;
mod program;
mod puppet;
mod shrink;
mod slots;
mod tell_c;
mod tell_rust;

use std::fmt;

pub use answer::{Answers, FLAG_NAMES, Look, Outcome, PageSeen, Present, Shown, errno_name, hash};
pub use by_design::{ByDesign, TABLE};
pub use compare::{Difference, compare};
pub use generate::generate;
pub use ground::Ground;
pub use hunt::{Found, Hunt, Settings, Voices, hunt, one};
pub use op::{
    AREAS, BYTES, Call, DONTNEED, FETCHED, FILE, FREE, HEAP, LIMIT_AREAS, LIMIT_DATA, LIMIT_MAPPED,
    MEMORY, NO_OBJECT, NOP, OBJECT_PAGES, Op, PAGE, RESIDENT, Role, SEEN, SEEN_BASE, SEEN_END,
    SEGMENTS, STORED, WINDOW, address, file_byte, segment_areas, segment_told,
};
pub use ours::{Ours, fallocate, page_told};
pub use program::{MOST_LOOKS, MOST_OPS, MOST_PROCESSES, Program};
pub use puppet::{Puppet, Stage};
pub use shrink::shrink;
pub use slots::Slots;
pub use tell_c::tell_c;
pub use tell_rust::tell_rust;

/// Why a voice could not answer: the tool's or the host's fault, not a difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed(pub String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// Somebody who carries programs out. Each program begins anew.
pub trait Voice {
    /// Who it is.
    fn name(&self) -> &'static str;

    /// Begins with `program`, without waiting for it if it can do that.
    fn start(&mut self, program: &Program) -> Result<(), Failed>;

    /// Ends with it. The program is the one that was started.
    fn finish(&mut self, program: &Program) -> Result<Answers, Failed>;
}

/// Both voices on one program; at the same time, as far as they can.
pub fn ask(
    linux: &mut dyn Voice,
    ours: &mut dyn Voice,
    program: &Program,
) -> Result<(Answers, Answers), Failed> {
    linux.start(program)?;
    let ours = ours.start(program).and_then(|()| ours.finish(program));
    // Both are brought to their end even if one of them failed.
    let linux = linux.finish(program)?;
    Ok((linux, ours?))
}
