//! The programs' code, as bytes, and where each begins.

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("programs.s"), options(att_syntax));

/// A program; the order is that of the table in `programs.s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    Touch,
    Registers,
    Load,
    Store,
    Jump,
    Halt,
    Port,
    Root,
    Swap,
    Interrupt,
    Divide,
    Break,
    Undefined,
    Odd,
    Step,
}

#[cfg(target_os = "none")]
mod symbols {
    unsafe extern "C" {
        pub(super) static probe_begin: u8;
        pub(super) static probe_end: u8;
        pub(super) static probe_table: [u64; 15];
    }
}

/// All code.
#[cfg(target_os = "none")]
pub(super) fn bytes() -> &'static [u8] {
    let (begin, end) = (&raw const symbols::probe_begin, &raw const symbols::probe_end);
    // SAFETY: both are labels of one constant section, the first before the second.
    unsafe { core::slice::from_raw_parts(begin, end.offset_from_unsigned(begin)) }
}

impl Code {
    /// Where it begins in [`bytes`].
    #[cfg(target_os = "none")]
    pub(super) fn offset(self) -> u64 {
        // SAFETY: a constant table with a place for each variant.
        unsafe { symbols::probe_table[self as usize] }
    }

    /// On other targets there is no code.
    #[cfg(not(target_os = "none"))]
    pub(super) fn offset(self) -> u64 {
        self as u64
    }
}

/// On other targets there is no code.
#[cfg(not(target_os = "none"))]
pub(super) fn bytes() -> &'static [u8] {
    &[]
}
